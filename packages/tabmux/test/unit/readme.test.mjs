// The examples in README.md, and in that of the package, are type-checked against the sources.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const own = await readFile(join(root, 'README.md'), 'utf8');
const readme = await readFile(join(root, '../../README.md'), 'utf8') + own;
const examples = [
  // What names its file, as a server's does, is run as it stands: test/runners.
  ...readme.matchAll(/^```[jt]s\n(?!\/\/ [\w.]+$)(.*?)^```/gms),
  ...readme.matchAll(/<script type="module">\n(.*?)<\/script>/gs),
].map(([, code]) => code);

test('the examples of README have the types they use', async () => {
  assert.ok(examples.length >= 2, 'README has lost its examples');
  const folder = join(root, 'test/.readme');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  try {
    for (const [index, code] of examples.entries()) {
      const source = code.replaceAll(/'(\/tabmux\/client\.js|tabmux)'/g, "'../../src/index.js'")
        .replaceAll(/'tabmux\/(\w+)'/g, "'../../src/entries/$1.js'");
      await writeFile(join(folder, `example-${index}.ts`), source);
    }
    const config = { extends: '../tsconfig.json', include: ['*.ts', '../../env.d.ts', '../../page.d.ts'] };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    await promisify(execFile)(process.execPath, [tsc, '-p', folder]).catch(({ stdout }) => {
      assert.fail(stdout);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
