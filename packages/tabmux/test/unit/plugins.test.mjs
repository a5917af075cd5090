// The plugins of Rollup and esbuild warn of a page library that they do not know. `cargo xtask dist`
// has to have run.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { rollup } from 'rollup';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const plugin = async (name) => (await import(join(dist, `node/${name}.js`))).default();

let root;
let known;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tabmux-plugins-'));
  known = await readFile(join(dist, 'client.js'), 'utf8');
});

after(() => rm(root, { recursive: true, force: true }));

async function file(path, text) {
  const whole = join(root, path);
  await mkdir(dirname(whole), { recursive: true });
  await writeFile(whole, text);
  for (const beside of (await readdir(dist)).filter((name) => /^worker\.js$|\.wasm$/.test(name))) {
    await writeFile(join(dirname(whole), beside), '');
  }
  return whole;
}

const bundlers = {
  async esbuild(input) {
    const { warnings } = await build({
      entryPoints: [input], bundle: true, write: false, format: 'esm', outdir: root,
      external: ['./tiers.js'], logLevel: 'silent', plugins: [await plugin('esbuild')],
    });
    return warnings.map(({ text }) => text);
  },
  async rollup(input) {
    const said = [];
    const bundle = await rollup({
      input, external: /tiers/, plugins: [await plugin('rollup')],
      onwarn: ({ message }) => said.push(message),
    });
    await bundle.close();
    return said;
  },
};

for (const [name, bundle] of Object.entries(bundlers)) {
  test(`${name}: a client.js of tabmux without the address of the worker is warned of`, async () => {
    const path = await file(`${name}/tabmux/dist/client.js`, 'export const other = 1;');
    const said = await bundle(path);
    assert.equal(said.length, 1, `${said}`);
    assert.ok(said[0].includes(`${path} has no address of worker.js`), said[0]);
  });

  test(`${name}: no other client.js is warned of`, async () => {
    assert.deepEqual(await bundle(await file(`${name}/app/client.js`, 'export const other = 1;')), []);
    assert.deepEqual(await bundle(await file(`${name}/known/tabmux/dist/client.js`, known)), []);
  });
}
