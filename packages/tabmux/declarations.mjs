// The types of the package: one file for each entry, and no file that no entry has.

import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { rollup } from 'rollup';
import { dts } from 'rollup-plugin-dts';

/** What TypeScript needs where an application's `lib` is older. */
const DISPOSABLE = '/// <reference lib="esnext.disposable" />';

/** Returns texts by the names of their files: `client.d.ts`, and one for each of these entries. */
export async function declarations(root, entries) {
  const emitted = join(root, 'node_modules/.tabmux-types');
  await rm(emitted, { recursive: true, force: true });
  await Promise.all(['tsconfig.json', 'tsconfig.node.json'].map((config) =>
    emit(root, config, emitted)));
  const index = join(emitted, 'index.d.ts');
  const files = [['client.d.ts', index, false]];
  for (const name of entries) {
    const source = name.startsWith('node/') ? name : `entries/${name}`;
    files.push([`${name}.d.ts`, join(emitted, `${source}.d.ts`), true]);
  }
  const texts = await Promise.all(files.map(([, input, isEntry]) => roll(input, isEntry)));
  return Object.fromEntries(files.map(([name], number) => [name, texts[number]]));
}

/**
 * Types import each other by the names of scripts. Of index.ts an entry imports by the name of
 * client.js, and `client.d.ts` has the types for that.
 */
function resolver(isEntry) {
  return {
    name: 'resolver',
    resolveId(id, importer) {
      if (isEntry && /^\.\.?\/index\.js$/.test(id)) return { id: './client.js', external: true };
      if (!importer || !id.startsWith('.')) return undefined;
      return join(dirname(importer), id.replace(/\.js$/, '.d.ts'));
    },
  };
}

async function roll(input, isEntry) {
  const bundle = await rollup({
    input,
    plugins: [resolver(isEntry), dts()],
    onwarn: ({ message }) => { throw new Error(message); },
  });
  const { output } = await bundle.generate({ format: 'es' });
  await bundle.close();
  const { code } = output[0];
  // Rollup drops the line that the sources have for it.
  return /\b(Async)?Disposable\b/.test(code) ? `${DISPOSABLE}\n${code}` : code;
}

async function emit(root, config, out) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const args = ['-p', join(root, config), '--noEmit', 'false', '--declaration', '--emitDeclarationOnly'];
  args.push('--rootDir', join(root, 'src'), '--outDir', out);
  try {
    await promisify(execFile)(process.execPath, [tsc, ...args]);
  } catch (error) {
    console.error(error.stdout);
    process.exit(1);
  }
}
