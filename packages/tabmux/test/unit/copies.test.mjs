// The build puts compressed copies beside the scripts, which `tabmux serve` sends to browsers.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
let out;

before(async () => {
  out = await mkdtemp(join(tmpdir(), 'tabmux-dist-'));
  execFileSync(process.execPath, [join(root, 'build.mjs'), '--out', out], { stdio: 'inherit' });
});

after(() => rm(out, { recursive: true }));

for (const name of ['client.js', 'tiers.js', 'worker.js', 'tabmux.iife.js', 'debug.js']) {
  for (const [ending, unpack] of [['br', brotliDecompressSync], ['gz', gunzipSync]]) {
    test(`${name}.${ending} holds ${name}, is shorter and no older`, async () => {
      const [script, copy] = [join(out, name), join(out, `${name}.${ending}`)];
      const [bytes, packed] = await Promise.all([readFile(script), readFile(copy)]);
      assert.ok(unpack(packed).equals(bytes));
      assert.ok(packed.length < bytes.length, `${packed.length} of ${bytes.length} bytes`);
      const [made, copied] = await Promise.all([stat(script), stat(copy)]);
      assert.ok(copied.mtimeMs >= made.mtimeMs, 'the server would not send it');
    });
  }
}
