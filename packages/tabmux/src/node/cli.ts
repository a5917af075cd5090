#!/usr/bin/env node
// `npx tabmux copy DIR` copies the scripts, for a project without a bundler.

import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const USAGE = `usage: tabmux copy DIR

Copies the scripts of the page library to DIR/tabmux, where DIR is the folder that your server
serves at /. Pages then import '/tabmux/client.js'. The server itself is another program: see
https://github.com/tabmux/tabmux#readme`;

/**
 * The scripts that a page can load by their address. The others import packages, or are for tests.
 */
const NAMES = ['client', 'connect', 'debug', 'install', 'socket', 'tabmux.iife', 'tiers', 'worker']
  .flatMap((name) => [`${name}.js`, `${name}.js.map`]);

/**
 * Files whose name contains a hash of the build. Files of earlier builds are kept, because open
 * pages may still ask for them.
 */
const OF_BUILD = /^(worker\.[\da-f]{8}\.js|\w+\.[\da-f]{8}\.wasm)$/;

const scripts = fileURLToPath(new URL('..', import.meta.url));

const [command, folder, ...rest] = process.argv.slice(2);
if (command === '--help' || command === '-h') {
  console.log(USAGE);
} else if (command !== 'copy' || !folder || rest.length > 0) {
  fail(USAGE, 2);
} else {
  await copy(folder);
}

async function copy(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (!found?.isDirectory()) return fail(`tabmux: ${folder} is no folder`, 1);
  const out = join(folder, 'tabmux');
  try {
    await mkdir(out, { recursive: true });
    const names = [...NAMES, ...(await readdir(scripts)).filter((name) => OF_BUILD.test(name))];
    await Promise.all(names.map((name) => copyFile(join(scripts, name), join(out, name))));
    console.log(`copied ${names.length} files to ${out}`);
  } catch (error) {
    return fail(`tabmux: ${(error as Error).message}`, 1);
  }
}

function fail(text: string, status: number): void {
  console.error(text);
  process.exitCode = status;
}
