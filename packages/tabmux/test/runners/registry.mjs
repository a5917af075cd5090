// A registry that has the tarball of this package, as the next release puts it into the public one.
// All other packages come from the registry that npm is set to.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { here, pack } from './harness.mjs';

export async function registry(folder) {
  const upstream = execFileSync('npm', ['config', 'get', 'registry']).toString().trim();
  const tarball = await readFile(await pack(folder));
  const manifest = JSON.parse(await readFile(join(here, '../../package.json'), 'utf8'));
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;

  const server = createServer(async ({ url, headers }, response) => {
    if (url === '/tabmux.tgz') return response.end(tarball);
    if (url !== '/tabmux') return forward(url, headers, response);
    const dist = { tarball: `${address}tabmux.tgz`, integrity };
    const { version } = manifest;
    const versions = { [version]: { ...manifest, dist, devDependencies: {} } };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ name: 'tabmux', 'dist-tags': { latest: version }, versions }));
  }).listen(0, '127.0.0.1');

  async function forward(url, { accept }, response) {
    const answer = await fetch(new URL(url.slice(1), upstream), { headers: { accept } })
      .catch((error) => ({ status: 502, arrayBuffer: () => Buffer.from(`${error}`) }));
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(Buffer.from(await answer.arrayBuffer()));
  }

  await once(server, 'listening');
  const address = `http://127.0.0.1:${server.address().port}/`;
  return {
    url: address,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
