// What a port may say to the worker.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isPageMessage } from '../../src/check.js';
import { PageKind } from '../../src/protocol.js';
import type { PageMessage } from '../../src/protocol.js';

const config =
  { mode: 'mux', url: 'ws://x/', protocols: ['a'], lock: 'l', locks: true } as const;

const GOOD: PageMessage[] = [
  [PageKind.Attach, 2n ** 64n - 1n, { ...config, protocols: [] }],
  [PageKind.Park],
  [PageKind.Bye],
  [PageKind.Open, 1, '/path', ['a', 'b']],
  [PageKind.Send, 2 ** 32 - 1, 'text'],
  [PageKind.Send, 1, new Uint8Array(3)],
  [PageKind.Close, 1, 4999, 'why'],
  [PageKind.Subscribe, 1, 'prices', -1, 0],
  [PageKind.Unsubscribe, 1],
];

const BAD: unknown[] = [
  null, undefined, 1, 'text', {}, [], [99n], ['0'], [-1],
  [PageKind.Attach], [PageKind.Attach, 1, config], [PageKind.Attach, -1n, config],
  [PageKind.Attach, 2n ** 64n, config], [PageKind.Attach, 1n, null], [PageKind.Attach, 1n, {}],
  [PageKind.Attach, 1n, { ...config, mode: 'other' }],
  [PageKind.Attach, 1n, { ...config, locks: 1 }],
  [PageKind.Attach, 1n, { ...config, protocols: 'a' }],
  [PageKind.Attach, 1n, { ...config, protocols: [1] }],
  [PageKind.Open, 1, 5, []], [PageKind.Open, 1, '/', {}], [PageKind.Open, 1, '/', [{}]],
  [PageKind.Open, 2 ** 32, '/', []], [PageKind.Open, 1.5, '/', []],
  [PageKind.Send, 1], [PageKind.Send, 1, {}], [PageKind.Send, '1', 'text'],
  [PageKind.Attach, 1n, { ...config, protocols: ['a,b'] }],
  [PageKind.Open, 1, '/', ['']], [PageKind.Open, 1, '/', ['a b']],
  [PageKind.Open, 1, '/', ['a,b']],
  [PageKind.Open, 1, '/', ['ä']], [PageKind.Open, 1, '/', ['a\n']],
  [PageKind.Open, 1, '/', ['(a)']],
  [PageKind.Send, 1, new ArrayBuffer(3)], [PageKind.Send, NaN, 'text'],
  [PageKind.Close, 1, 65536, ''], [PageKind.Close, 1, 1000], [PageKind.Close, 1, '1000', ''],
];

test('what the page library posts passes', () => {
  GOOD.forEach((message) => assert.ok(isPageMessage(message), String(message[0])));
});

test('all else is held back', () => {
  BAD.forEach((message, index) => assert.ok(!isPageMessage(message), `number ${index}`));
});

test('a path begins with / in mux mode, and there is none in mirror mode', () => {
  const isOpen = (path: string, mode: 'mirror' | 'mux'): boolean =>
    isPageMessage([PageKind.Open, 1, path, []], mode);
  assert.deepEqual(['/', '/a?b', '', 'a'].map((path) => isOpen(path, 'mux')),
    [true, true, false, false]);
  assert.deepEqual(['', '/', 'a'].map((path) => isOpen(path, 'mirror')), [true, false, false]);
});
