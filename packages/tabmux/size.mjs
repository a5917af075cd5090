// Measures what a browser downloads. Prints one line a bundle: its bytes minified, as gzip and as
// brotli, and its name. `cargo xtask size` runs it and holds the result against the budgets.
//
//   node size.mjs DIST

import { readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { brotli, gzip } from './compress.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const dist = process.argv[2] ?? join(root, 'dist');

print('page library', await readFile(join(dist, 'client.js')));
print('`SharedWebSocket` alone', await dropIn());
for (const [name, of] of [['react', 'React'], ['vue', 'Vue'], ['svelte', 'Svelte']]) {
  print(`hooks for ${of}, besides`, await readFile(join(dist, `${name}.js`)));
}
print('`tabmux/install`, besides', await readFile(join(dist, 'install.js')));
print('other tiers, where needed', await readFile(join(dist, 'tiers.js')));
const shell = await readFile(join(dist, 'worker.js'));
print('worker (mode exclusive)', shell);
print('worker with its module, mode mirror', shell, await moduleOf('mirror'));
print('worker with its module, mode mux', shell, await moduleOf('mux'));

/** What is downloaded in several files is compressed in several. */
function print(name, ...files) {
  const sum = (size) => files.reduce((all, bytes) => all + size(bytes), 0);
  const sizes = [(bytes) => bytes, gzip, brotli].map((pack) => sum((bytes) => pack(bytes).length));
  console.log([...sizes, name].join('\t'));
}

async function moduleOf(mode) {
  const isIt = (name) => name.startsWith(`${mode}.`) && name.endsWith('.wasm');
  return readFile(join(dist, (await readdir(dist)).find(isIt)));
}

/** What a bundler keeps of the package for an application that imports nothing else. */
async function dropIn() {
  const entry = `export { SharedWebSocket } from ${JSON.stringify(join(dist, 'client.js'))}`;
  const result = await build({
    stdin: { contents: entry, resolveDir: root },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    external: ['./tiers.js'],
    target: 'es2022',
    legalComments: 'none',
    logLevel: 'warning',
  });
  return result.outputFiles[0].contents;
}
