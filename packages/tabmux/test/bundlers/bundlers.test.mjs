// What bundlers make of the package as npm packs it: real builds, and a real development server.
// `cargo xtask dist` has to have run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { rollup } from 'rollup';
import * as vite from 'vite';

const tabmux = fileURLToPath(new URL('../..', import.meta.url));

/** The folder of an application that has the package among its dependencies. */
let root;
let installed;
let worker;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tabmux-bundlers-'));
  installed = join(root, 'node_modules/tabmux');
  await mkdir(installed, { recursive: true });
  const run = promisify(execFile);
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', root], {
    cwd: tabmux,
  });
  const tarball = join(root, JSON.parse(stdout)[0].filename);
  await run('tar', ['xzf', tarball, '-C', installed, '--strip-components', '1']);
  worker = await readFile(join(installed, 'dist/worker.js'), 'utf8');
  await writeFile(join(root, 'main.js'), `
    import { SharedWebSocket, connect } from 'tabmux';
    document.title = connect('/').status.state + SharedWebSocket.name;
  `);
  await writeFile(
    join(root, 'index.html'),
    '<!doctype html><title>app</title><script type="module" src="/main.js"></script>',
  );
});

after(() => rm(root, { recursive: true, force: true }));

/** Returns the chunk with the other tiers, and the chunks that import it. */
function tiersOf(output) {
  const tiers = output.find(({ code }) => code?.includes('tabmux: tiers.js is of another build'));
  assert.ok(tiers, 'the other tiers are missing');
  const importers = output.filter(({ dynamicImports }) => dynamicImports?.includes(tiers.fileName));
  return [tiers, importers];
}

test('rollup builds it, with the other tiers in a chunk of their own', async () => {
  const warnings = [];
  const build = await rollup({
    input: join(installed, 'dist/client.js'),
    onwarn: ({ message }) => warnings.push(message),
  });
  const { output } = await build.generate({ format: 'es' });
  await build.close();
  const [tiers, importers] = tiersOf(output);
  assert.deepEqual(importers.map(({ isEntry }) => isEntry), [true]);
  assert.equal(tiers.isEntry, false);
  assert.deepEqual(warnings, []);
});

test('vite builds it, with the other tiers in a chunk and the worker as a file', async () => {
  const { output } = await vite.build({
    root,
    configFile: false,
    logLevel: 'silent',
    build: { write: false },
  });
  const [, importers] = tiersOf(output);
  assert.deepEqual(importers.map(({ isEntry }) => isEntry), [true]);
  const file = output.find(({ type, fileName }) => type === 'asset' && /worker/.test(fileName));
  assert.equal(Buffer.from(file.source).toString(), worker);
  assert.match(importers[0].code, new RegExp(`new URL\\(.?/${file.fileName.replace('.', '\\.')}`));
});

test('the development server of vite answers, and serves all of its parts', async () => {
  const server = await vite.createServer({
    root,
    configFile: false,
    logLevel: 'silent',
    server: { host: '127.0.0.1', port: 0 },
  });
  try {
    await server.listen();
    const [base] = server.resolvedUrls.local;
    const get = async (path) => {
      const response = await fetch(new URL(path, base));
      assert.equal(response.status, 200, path);
      assert.match(response.headers.get('content-type'), /javascript/, path);
      return response.text();
    };
    const main = await get('/main.js');
    const [, address] = /from "(\/[^"]*tabmux[^"]*)"/.exec(main);
    const client = await get(address);
    const [, tiers] = /import\("(\/[^"]*)"\)/.exec(client);
    assert.match(await get(tiers), /tabmux: tiers\.js is of another build/);
    const [, script] = /new URL\("(\/[^"]*worker\.js[^"]*)"/.exec(client);
    assert.ok((await get(script)).startsWith(worker.trimEnd()), 'the worker is another script');
  } finally {
    await server.close();
  }
});
