// What npm packs. `cargo xtask dist` has to have run.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));

/** The files of the tarball. */
let files;

before(() => {
  assert.ok(existsSync(join(root, 'dist')), 'dist is missing: run `cargo xtask dist`');
  const listed = execFileSync('npm', ['pack', '--dry-run', '--json'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  files = JSON.parse(listed)[0].files.map(({ path }) => path);
});

/** What `exports` and `bin` name. */
function named() {
  const entries = [...Object.values(manifest.exports), ...Object.values(manifest.bin ?? {})];
  const paths = entries.flatMap((entry) => typeof entry === 'string' ? [entry]
    : [entry.types, entry.default]);
  return paths.map((path) => path.replace(/^\.\//, ''));
}

test('the package has what its entries name, a README and both licences', () => {
  for (const path of [...named(), 'LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist/tiers.js']) {
    assert.ok(files.includes(path), `${path} is missing`);
  }
});

test('no types are published but those of entries', () => {
  const types = files.filter((path) => path.endsWith('.d.ts'));
  assert.deepEqual(types.filter((path) => !named().includes(path)), []);
});

test('the types need no newer lib than an application has', async () => {
  const folder = join(root, 'node_modules/.tabmux-consumer');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const names = ['client', 'testing', 'debug', 'connect', 'socket'];
  await writeFile(join(folder, 'app.ts'),
    names.map((name) => `export * as ${name} from '../../dist/${name}.js';`).join('\n'));
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const args = ['--ignoreConfig', '--noEmit', '--strict', '--target', 'es2022',
    '--module', 'nodenext', '--types', '', '--lib', 'es2022,dom', join(folder, 'app.ts')];
  assert.equal(spawnSync(process.execPath, [tsc, ...args], { encoding: 'utf8' }).stdout, '');
});

test('each script has a source map, whose sources are readable', async () => {
  // worker.BUILD.js is worker.js, and names its map.
  const scripts = files.filter((path) =>
    /^dist\/.*\.js$/.test(path) && !/worker\.[\da-f]{8}\.js$/.test(path));
  assert.ok(scripts.length > 4, `${scripts}`);
  for (const script of scripts) {
    assert.ok(files.includes(`${script}.map`), `${script} has no map`);
    const text = await readFile(join(root, script), 'utf8');
    assert.ok(text.endsWith(`//# sourceMappingURL=${basename(script)}.map\n`), script);
    const map = JSON.parse(await readFile(join(root, `${script}.map`), 'utf8'));
    for (const [index, source] of map.sources.entries()) {
      if (/generated\/|tabmux:page/.test(source)) continue;
      const path = join(dirname(script), source);
      assert.ok(files.includes(path), `${path}, of ${script}, is missing`);
      assert.equal(map.sourcesContent[index], await readFile(join(root, path), 'utf8'), path);
    }
  }
});

test('no script names another by an address with a query', async () => {
  for (const script of files.filter((path) => /^dist\/[^/]*\.js$/.test(path))) {
    const text = await readFile(join(root, script), 'utf8');
    assert.doesNotMatch(text, /["'`][^"'`]*\.js\?/, script);
  }
});

test('there is nothing else in it', () => {
  const known = /^(dist\/|src\/(?!generated).*\.ts$|LICENSE-|README\.md$|package\.json$)/;
  assert.deepEqual(files.filter((path) => !known.test(path)), []);
});

test('who looks for it finds what it is and where it comes from', () => {
  const { description, keywords, homepage, repository, license } = manifest;
  assert.ok(description && keywords.length > 2 && homepage && repository.url && license);
});

test('the licences of the package are those of the project', async () => {
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    const [own, whole] = await Promise.all(
      [root, join(root, '../..')].map((folder) => readFile(join(folder, name), 'utf8')),
    );
    assert.equal(own, whole, name);
  }
});
