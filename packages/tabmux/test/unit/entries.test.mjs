// The entries for one door have all types of that door.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const src = join(dirname(fileURLToPath(import.meta.url)), '../../src');

/** What a file exports from each module that it names. */
async function exportsOf(file) {
  const text = await readFile(join(src, file), 'utf8');
  return [...text.matchAll(/^export (?:type )?\{([^}]*)\} from '([^']+)'/gm)].map(
    ([, names, from]) => [from, names.split(',').map((name) => name.trim()).filter(Boolean)]);
}

const DOORS = [['socket', './client.js'], ['connect', './socket.js']];

for (const [entry, otherDoor] of DOORS) {
  test(`${entry} exports what index.ts does, but for the other door`, async () => {
    const index = await exportsOf('index.ts');
    const wanted = index.flatMap(([from, names]) => from === otherDoor ? [] : names);
    const given = (await exportsOf(`entries/${entry}.ts`)).flatMap(([, names]) => names);
    assert.ok(wanted.length > 4, `${wanted}`);
    assert.deepEqual(given.sort(), wanted.sort());
  });
}
