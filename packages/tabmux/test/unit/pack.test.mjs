// What npm packs. `cargo xtask dist` has to have run.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the package has its scripts and types, a README and both licences, and nothing else', () => {
  assert.ok(existsSync(join(root, 'dist')), 'dist is missing: run `cargo xtask dist`');
  const listed = execFileSync('npm', ['pack', '--dry-run', '--json'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const files = JSON.parse(listed)[0].files.map(({ path }) => path);
  const types = files.filter((path) => /^dist\/[\w.]+\.d\.ts$/.test(path));
  assert.ok(types.includes('dist/index.d.ts') && types.includes('dist/debug.d.ts'), `${types}`);
  assert.deepEqual(files.filter((path) => !types.includes(path)).sort(), [
    'LICENSE-APACHE',
    'LICENSE-MIT',
    'README.md',
    'dist/client.js',
    'dist/debug.js',
    'dist/tiers.js',
    'dist/worker.js',
    'package.json',
  ]);
});

test('the licences of the package are those of the project', async () => {
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    const [own, whole] = await Promise.all(
      [root, join(root, '../..')].map((folder) => readFile(join(folder, name), 'utf8')),
    );
    assert.equal(own, whole, name);
  }
});
