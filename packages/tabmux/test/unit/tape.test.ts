// What a worker keeps of what its hubs are told, and how a page asks for it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ignored, traces } from '../../src/entries/debug.js';
import { CHANNEL } from '../../src/questions.js';
import { ignore } from '../../src/garbage.js';
import { openTapes } from '../../src/tape.js';

// The worker never closes its channel; the process need not wait for it.
const opened: BroadcastChannel[] = [];
const Native = globalThis.BroadcastChannel;
globalThis.BroadcastChannel = class extends Native {
  constructor(name: string) {
    super(name);
    (this as unknown as { unref(): void }).unref();
    opened.push(this);
  }
};

/** What is kept after these entries of 4 bytes, as `[hub, bytes, full]`. */
async function kept(search: string, entries: [hub: bigint, length: number][] = []) {
  opened.splice(0).forEach((channel) => channel.close());
  const record = openTapes(search);
  entries.forEach(([hub, length], index) => record?.(hub, new Uint8Array(length).fill(index + 1)));
  const found = await traces(200);
  return found.map(({ hub, bytes, full }) => [Number(`0x${hub}`), [...bytes], full]);
}

test('nothing is kept where the address does not ask for it', () => {
  assert.equal(openTapes(''), undefined);
  assert.equal(openTapes('?v=0123456789abcdef'), undefined);
});

test('entries are kept in order, for each hub', async () => {
  assert.deepEqual(await kept('?trace', [[5n, 2], [6n, 1], [5n, 1]]), [
    [5, [1, 1, 3], false],
    [6, [2], false],
  ]);
});

test('more than the first room there is', async () => {
  const [[, bytes] = []] = await kept('?trace=1', [[5n, 60_000], [5n, 60_000], [5n, 300_000]]);
  const sum = (bytes as number[]).reduce((sum, byte) => sum + byte, 0);
  assert.deepEqual([(bytes as number[]).length, sum], [420_000, 60_000 * 3 + 300_000 * 3]);
});

test('at the limit it ends, without a hole, and says so', async () => {
  const kib = 1 / 1024;
  const full = await kept(`?trace=${kib}`, [[5n, 1023], [5n, 2], [5n, 1]]);
  assert.deepEqual(full.map(([, bytes, full]) => [(bytes as number[]).length, full]),
    [[1023, true]]);
  const exact = await kept(`?trace=${kib}`, [[5n, 1023], [5n, 1]]);
  assert.deepEqual(exact.map(([, bytes, full]) => [(bytes as number[]).length, full]),
    [[1024, false]]);
});

test('the last three hubs are kept', async () => {
  const hubs = await kept('?trace', [[1n, 1], [2n, 1], [3n, 1], [4n, 1]]);
  assert.deepEqual(hubs.map(([hub]) => hub), [2, 3, 4]);
});

test('each worker tells how much it ignored, whether it records or not', async (context) => {
  context.mock.method(console, 'warn', () => undefined);
  for (const [search, before] of [['', 0], ['?trace', 2]] as const) {
    await kept(search);
    assert.deepEqual(await ignored(200), [before]);
    ignore();
    ignore();
    // Who asks for the one is not told the other.
    const [counts, found] = await Promise.all([ignored(200), traces(200)]);
    assert.deepEqual([counts, found], [[before + 2], []]);
  }
});

test('where there is no channel, a worker records all the same', () => {
  const Channel = globalThis.BroadcastChannel;
  globalThis.BroadcastChannel = class {
    constructor() {
      throw new DOMException('The operation is insecure.', 'SecurityError');
    }
  } as unknown as typeof BroadcastChannel;
  assert.equal(openTapes(''), undefined);
  assert.ok(openTapes('?trace'));
  globalThis.BroadcastChannel = Channel;
});

test('what has no meaning is not answered', async () => {
  await kept('?trace', [[5n, 1]]);
  const channel = new Native(CHANNEL);
  ['read', null, 7, {}].forEach((question) => channel.postMessage(question));
  assert.equal((await traces(200)).length, 1);
  channel.close();
});
