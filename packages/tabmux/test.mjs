// Runs the unit tests: bundles test/unit/*.test.ts for Node, then `node --test` over them and over
// test/unit/*.test.mjs. Arguments go to `node --test`.

import { spawn } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { pageLibrary } from './page-library.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const unit = join(root, 'test/unit');
const out = join(root, 'node_modules/.tabmux-test');

const files = await readdir(unit);
const sources = files.filter((name) => name.endsWith('.test.ts'));
const scripts = files.filter((name) => name.endsWith('.test.mjs'));

await rm(out, { recursive: true, force: true });
const define = { __BUILD__: JSON.stringify('unit-test') };
await build({
  entryPoints: [...sources.map((name) => join(unit, name)),
    ...['shape', 'bindings'].map((name) => join(root, `src/${name}.ts`))],
  outbase: join(root),
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  format: 'esm',
  platform: 'node',
  packages: 'external',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
  define,
  plugins: [pageLibrary(join(root, 'src'), define)],
});

const tests = [
  ...sources.map((name) => join(out, 'test/unit', name.replace(/\.ts$/, '.mjs'))),
  ...scripts.map((name) => join(unit, name)),
];
const args = ['--enable-source-maps', '--test', '--test-reporter=spec', '--test-timeout=60000'];
args.push(...process.argv.slice(2), ...tests);
spawn(process.execPath, args, { stdio: 'inherit' }).on('exit', (code) => {
  process.exitCode = code ?? 1;
});
