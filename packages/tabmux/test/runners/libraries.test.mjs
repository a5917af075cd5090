// Other libraries take SharedWebSocket: README.md's table, against their own types.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { here, install, repo, run } from './harness.mjs';

let app;

before(async () => {
  app = await install();
});

after(() => app.remove());

test('each line of the table compiles', async () => {
  const source = await readFile(join(here, 'libraries.ts'), 'utf8');
  const readme = await readFile(join(repo, 'README.md'), 'utf8');
  const table = readme.split('## Inside other libraries')[1].split('\n## ')[0];
  const [, all] = source.split('export const all = [');
  const lines = [...all.matchAll(/^ {2}(.*),$/gm)].map(([, line]) => line);
  assert.ok(lines.length > 5, 'libraries.ts has lost its lines');
  for (const line of lines) assert.ok(table.includes(`| \`${line}\` |`), `README.md has not ${line}`);
  await app.write('libraries.ts', source);
  const tsc = join(here, 'node_modules/typescript/bin/tsc');
  const options = {
    module: 'esnext', moduleResolution: 'bundler', target: 'es2022', types: 'phoenix',
    lib: 'es2022,esnext.disposable,dom,dom.iterable',
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  args.push('--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', 'libraries.ts');
  await run(process.execPath, [tsc, ...args], { cwd: app.root })
    .catch(({ stdout }) => assert.fail(stdout));
});
