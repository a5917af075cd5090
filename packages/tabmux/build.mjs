// Builds the package into dist. `cargo xtask dist` makes src/generated and then runs this.
//
//   client.js        the page library, from src/library.ts
//   tiers.js         what client.js loads where there is no SharedWorker, from src/tiers.ts
//   worker.js        the shell of the worker, from src/worker.ts; and the same as worker.BUILD.js
//   MODE.BUILD.wasm  the module that the worker loads for mode mux, and for mode mirror; and
//                    trace.BUILD.wasm for both, which records traces
//   tabmux.iife.js   the page library as a classic script, from src/entries/iife.ts
//   in-page.js       a classic script for tests, from src/entries/in-page.ts
//   NAME.js          every other entry in `exports` of package.json whose file is dist/NAME.js, from
//                    src/entries/NAME.ts. It imports client.js where its source imports index.ts or library.ts.
//   node/NAME.js     what runs in Node, plugins and the command, from src/node/NAME.ts
//
// Each has a source map, compressed copies (.br and .gz), and, if it is an entry, its types.
//
//   node build.mjs [--out DIR] [--wasm DIR]
//   node build.mjs --host [--out DIR] [--src DIR]
//
// --wasm DIR takes the modules (optimised ones) from there, and not from src/generated.
// --host makes client.js, tiers.js and worker.js for the simulator, in the folder host: in the place
// of the bindings of the wasm modules, worker.js takes what the global `tabmuxHost` gives. It needs
// no src/generated. --src DIR takes the sources from there.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { minify } from 'terser';
import { brotli, gzip } from './compress.mjs';
import { declarations } from './declarations.mjs';
import { pageLibrary } from './page-library.mjs';

/** Properties of our own objects, which nobody else reads, start so and get short names. */
const OWN = /^_[^_]/;

/** The state of a page is here: a second copy of it would be a second tab. */
const STATE = 'life.ts';

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
const { bin, exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));

/** One cache of short names for all of the page library, whose files hand objects to each other. */
const mangleCache = {};

if (!options.host && !existsSync(join(root, 'src/generated'))) {
  console.error('src/generated is missing: run `cargo xtask dist`, which makes it');
  process.exit(1);
}

// A failed build leaves the last good one in its place.
const [built, types] = await Promise.all([
  scripts(),
  options.host ? {} : declarations(root, entries()),
]);
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
for (const { name, bytes, map } of built) {
  const file = join(out, name);
  await mkdir(dirname(file), { recursive: true });
  // First the script: a server sends no copy that is older.
  await writeFile(file, bytes);
  if (options.host) continue;
  if (map) await writeFile(`${file}.map`, map);
  if (isOfNode(name)) continue;
  await writeFile(`${file}.br`, brotli(bytes));
  await writeFile(`${file}.gz`, gzip(bytes));
}
for (const [name, text] of Object.entries(types)) await writeFile(join(out, name), text);

/** The entries of the package besides the page library, by the names of their files. */
function entries() {
  const files = Object.values(exports).map((entry) => entry.types && entry.default);
  return files.filter((file) => file).map(nameOf).filter((name) => name !== 'client');
}

/** `socket` of `./dist/socket.js`. */
function nameOf(file) {
  return /dist\/(.*)\.js$/.exec(file)[1];
}

function isOfNode(name) {
  return name.startsWith('node/');
}

/**
 * Two passes: the build is named by the hash of what the first one makes, with an empty name. The
 * address of no script names it, since bundlers take a query for a part of the file's name.
 */
async function scripts() {
  const modules = options.host ? [] : await Promise.all(['mux', 'mirror', 'trace'].map(async (mode) =>
    ({ mode, bytes: await readFile(join(resolve(options.wasm ?? join(src, 'generated')), `${mode}.wasm`)) })));
  const unnamed = await pass('');
  const build = hash([...unnamed, ...modules].map(({ bytes }) => bytes));
  const named = await pass(build);
  if (options.host) return named;
  // Pages ask for the worker by this name where the usual one gave them that of another build.
  const [worker] = named;
  named.push({ name: `worker.${build}.js`, bytes: worker.bytes });
  named.push(...modules.map(({ mode, bytes }) => ({ name: `${mode}.${build}.wasm`, bytes })));
  const classic = await page('tabmux.iife.js', 'entries/iife.ts', build, {
    format: 'iife',
    globalName: 'tabmux',
    inject: [join(src, 'script_url.ts')],
    define: { 'import.meta.url': 'scriptUrl' },
  });
  const inPage = await bundle('in-page.js', {
    entryPoints: [join(src, 'entries/in-page.ts')],
    format: 'iife',
  });
  const others = [...entries(), ...Object.values(bin).map(nameOf)];
  const built = others.map((name) => isOfNode(name) ? ofNode(name) : entry(name, build));
  return [...named, classic, inPage, ...await Promise.all(built)];
}

async function pass(build) {
  const worker = bundle('worker.js', {
    entryPoints: [join(src, 'worker.ts')],
    format: 'iife',
    define: { __BUILD__: JSON.stringify(build) },
    plugins: options.host ? [open()] : [],
  });
  // Of the client, which every page loads, the names are the shortest: it is the first.
  const client = await page('client.js', 'library.ts', build);
  return [await worker, await page('tiers.js', 'tiers.ts', build), client];
}

function page(name, file, build, { define, ...settings } = {}) {
  return bundle(name, {
    entryPoints: [join(src, file)],
    format: 'esm',
    mangleCache,
    external: ['./tiers.js'],
    define: { __BUILD__: JSON.stringify(build), ...define },
    ...settings,
  });
}

/** An entry that shares the page library, and so its state, with all others. */
function entry(name, build) {
  return bundle(`${name}.js`, {
    entryPoints: [join(src, 'entries', `${name}.ts`)],
    format: 'esm',
    mangleCache,
    packages: 'external',
    plugins: [shared(), pageLibrary(src, { __BUILD__: JSON.stringify(build) })],
  });
}

/** A script for Node, where nobody counts bytes and somebody may look for a fault. */
function ofNode(name) {
  return bundle(`${name}.js`, {
    entryPoints: [join(src, `${name}.ts`)],
    format: 'esm',
    platform: 'node',
    target: 'node20',
    minify: false,
    mangleProps: undefined,
  });
}

function hash(files) {
  const hash = createHash('sha256');
  files.forEach((bytes) => hash.update(bytes));
  return hash.digest('hex').slice(0, 8);
}

/** What an entry imports of src/library.ts, it imports of client.js. */
function shared() {
  return {
    name: 'shared',
    setup({ onResolve, onEnd }) {
      const filter = /^\.\.?\/(index|library)\.js$/;
      onResolve({ filter }, () => ({ path: './client.js', external: true }));
      onEnd(({ metafile }) => {
        const isTwice = Object.keys(metafile?.inputs ?? {}).some((file) => file.endsWith(STATE));
        if (!isTwice) return undefined;
        return { errors: [{ text: `an entry has ${STATE} inside: import from ../index.js` }] };
      });
    },
  };
}

/** The bindings left open: they are what the global of that name gives. */
function open() {
  return {
    name: 'open',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /\/bindings\.js$/ }, ({ path }) => ({ path, namespace: 'open' }));
      onLoad({ filter: /\.js$/, namespace: 'open' }, () => ({
        contents: 'export const { makeHub, useModule } = globalThis.tabmuxHost;',
        loader: 'js',
      }));
    },
  };
}

async function bundle(name, settings) {
  const result = await build({
    absWorkingDir: root,
    outfile: join(out, name),
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    mangleProps: OWN,
    sourcemap: options.host ? false : 'linked',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
    ...settings,
  }).catch(() => process.exit(1)); // It has said why.
  if (result.warnings.length > 0) process.exit(1);
  Object.assign(settings.mangleCache ?? {}, result.mangleCache);
  const [script, map] = ['.js', '.map'].map((ending) =>
    result.outputFiles.find(({ path }) => path.endsWith(ending)));
  if (settings.minify !== false) return shrink(name, script.text, map?.text, settings.format);
  return { name, bytes: script.contents, map: map?.text };
}

/** Terser leaves 3 % less of what esbuild has minified. */
async function shrink(name, text, map, format) {
  const { code, map: shorter } = await minify(text, {
    module: format === 'esm',
    ecma: 2020,
    compress: { passes: 2, pure_getters: true, unsafe_arrows: true, hoist_funs: true, lhs_constants: false },
    sourceMap: map && { content: map, url: `${name}.map`, includeSources: true },
  });
  return { name, bytes: Buffer.from(`${code}\n`), map: shorter };
}
