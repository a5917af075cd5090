// Bundles the package: src/index.ts to client.js, src/tiers.ts, which that loads where it is
// needed, to tiers.js, src/worker.ts with the wasm module inside to worker.js, src/debug.ts to
// debug.js, each with compressed copies beside it (.br and .gz), and the types. `cargo xtask dist`
// makes src/generated and then runs this.
//
//   node build.mjs [--out DIR] [--wasm FILE]
//   node build.mjs --host [--out DIR] [--src DIR]
//
// --wasm FILE inlines that module (an optimised one) in place of the one in src/generated.
// --host makes client.js, tiers.js and worker.js for the simulator, in the folder host: in the place
// of the wasm module and its bindings, worker.js takes what the global `tabmuxHost` gives. It needs
// no src/generated. --src DIR takes the sources from there.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { build } from 'esbuild';
import { brotli, gzip } from './compress.mjs';

/** Properties of our own objects, which nobody else reads, start so and get short names. */
const OWN = /^_[^_]/;

const root = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    out: { type: 'string' },
    wasm: { type: 'string' },
    host: { type: 'boolean' },
    src: { type: 'string' },
  },
});
const src = resolve(options.src ?? join(root, 'src'));
const out = resolve(options.out ?? join(root, options.host ? 'host' : 'dist'));
const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));

if (!options.host && !existsSync(join(root, 'src/generated'))) {
  console.error('src/generated is missing: run `cargo xtask dist`, which makes it');
  process.exit(1);
}

// A failed build leaves the last good one in its place.
const typesOut = join(root, 'node_modules/.tabmux-types');
const [built] = await Promise.all([scripts(), options.host ? undefined : types()]);
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
for (const [name, bytes] of Object.entries(built)) {
  const file = join(out, `${name}.js`);
  // First the script: a server sends no copy that is older.
  await writeFile(file, bytes);
  if (options.host) continue;
  await writeFile(`${file}.br`, brotli(bytes));
  await writeFile(`${file}.gz`, gzip(bytes));
}
if (!options.host) await cp(typesOut, out, { recursive: true });

/**
 * The client comes last: it asks for the worker by the hash of its bytes, and says to tiers.js
 * which one it wants. The import of tiers.js has no query, which several bundlers take for a part
 * of the file's name.
 */
async function scripts() {
  const worker = await bundle({
    entryPoints: [join(src, 'worker.ts')],
    format: 'iife',
    mangleProps: OWN,
    define: { __VERSION__: JSON.stringify(version) },
    plugins: [options.host ? open() : inline(options.wasm)],
  });
  const debug = await bundle({ entryPoints: [join(src, 'debug.ts')], format: 'esm' });
  // One cache of short names for all of the page library, whose files hand objects to each other.
  const mangleCache = {};
  const page = (file, tiersVersion) => bundle({
    entryPoints: [join(src, file)],
    format: 'esm',
    mangleProps: OWN,
    mangleCache,
    define: {
      __VERSION__: JSON.stringify(version),
      __WORKER_VERSION__: JSON.stringify(hash(worker)),
      __TIERS_VERSION__: JSON.stringify(tiersVersion),
    },
    external: ['./tiers.js'],
  });
  // Of the client, which every page loads, the names are the shortest.
  await page('index.ts', '');
  // A file cannot hold its own hash: it is that of the same file with an empty version. Nobody
  // but client.js compares it.
  const tiersVersion = hash(await page('tiers.ts', '')).slice(0, 8);
  const tiers = await page('tiers.ts', tiersVersion);
  const client = await page('index.ts', tiersVersion);
  return { worker, tiers, client, debug };
}

function hash(bytes) {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

/** The bindings left open: they are what the global of that name gives. */
function open() {
  return {
    name: 'open',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /generated\/tabmux_wasm/ }, ({ path }) => ({ path, namespace: 'open' }));
      onLoad({ filter: /\.wasm$/, namespace: 'open' }, () =>
        ({ contents: 'export default new Uint8Array();', loader: 'js' }));
      onLoad({ filter: /\.js$/, namespace: 'open' }, () => ({
        contents: 'export const { Hub, initSync, __wbg_reset_state } = globalThis.tabmuxHost;',
        loader: 'js',
      }));
    },
  };
}

async function bundle(settings) {
  const result = await build({
    absWorkingDir: root,
    bundle: true,
    minify: true,
    write: false,
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
    ...settings,
  }).catch(() => process.exit(1)); // It has said why.
  if (result.warnings.length > 0) process.exit(1);
  Object.assign(settings.mangleCache ?? {}, result.mangleCache);
  return result.outputFiles[0].contents;
}

/**
 * Importing a .wasm file gives its bytes, from a string in the script: the character of a byte is
 * 35 above it. So no byte becomes a control character or a quote, most are one byte of UTF-8, and
 * the repetitions that a compressor lives on stay whole: a quarter less to download than base64.
 */
function inline(wasm) {
  return {
    name: 'inline',
    setup({ onLoad }) {
      onLoad({ filter: /\.wasm$/ }, async ({ path }) => {
        const bytes = await readFile(wasm === undefined ? path : resolve(wasm));
        const text = Array.from(bytes, (byte) => String.fromCharCode(byte + 35)).join('');
        const literal = JSON.stringify(text);
        return {
          contents: `export default Uint8Array.from(${literal}, (c) => c.charCodeAt() - 35);`,
          loader: 'js',
        };
      });
    },
  };
}

async function types() {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const args = ['-p', root, '--noEmit', 'false', '--declaration', '--emitDeclarationOnly'];
  args.push('--rootDir', join(root, 'src'), '--outDir', typesOut);
  await rm(typesOut, { recursive: true, force: true });
  try {
    await promisify(execFile)(process.execPath, [tsc, ...args]);
  } catch (error) {
    console.error(error.stdout);
    process.exit(1);
  }
}
