// Measures what a browser downloads. Prints one line a bundle: its bytes minified, as gzip and as
// brotli, and its name. `cargo xtask size` runs it and holds the result against the budgets.
//
//   node size.mjs DIST

import { readFile } from 'node:fs/promises';
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
print('worker with wasm', await readFile(join(dist, 'worker.js')));

function print(name, bytes) {
  console.log([bytes.length, gzip(bytes).length, brotli(bytes).length, name].join('\t'));
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
