// What a port may say to the worker.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isOtherBuild, isPageMessage } from '../../src/check.js';
import { PageKind } from '../../src/protocol.js';
import type { HubConfig, PageMessage } from '../../src/protocol.js';

const build = 'unit-test';
const config = {
  build, mode: 'mux', module: '', url: 'ws://x/', protocols: ['a'], lock: 'l', tag: '', locks: true,
  key: '', rules: {},
} as const;

const GOOD: PageMessage[] = [
  [PageKind.Attach, 2n ** 64n - 1n, { ...config, protocols: [] }, '', 0, 0],
  [PageKind.Park],
  [PageKind.Bye],
  [PageKind.Open, 1, 1, '/path', ['a', 'b']],
  [PageKind.Send, 2 ** 33, 2 ** 32 - 1, 'text'],
  [PageKind.Send, 3, 1, new Uint8Array(3)],
  [PageKind.Close, 4, 1, 4999, 'why'],
  [PageKind.Got, 2 ** 33, 5],
  [PageKind.Credit, 2 ** 33, 2 ** 32 - 1, 2 ** 40],
  [PageKind.Answer, 1, ['wss://x/?y', 'a', 'b'], '', ''],
  [PageKind.Answer, 1, [], 'why', ''],
  [PageKind.Answer, 1, [], '', 'token'],
  [PageKind.Renew],
  [PageKind.Subscribe, 1, 'prices', -1, 0],
  [PageKind.Unsubscribe, 1],
  [PageKind.Reconnect],
];

const attach = (tab: unknown, its: unknown = config): unknown =>
  [PageKind.Attach, tab, its, '', 0, 0];
const open = (n: unknown, socket: unknown = 1, path: unknown = '/', names: unknown = []): unknown =>
  [PageKind.Open, n, socket, path, names];

const BAD: unknown[] = [
  [PageKind.Answer, 1, [], ''], [PageKind.Answer, 1, ['x'], '', ''],
  [PageKind.Answer, -1, [], 'why', ''], [PageKind.Answer, 1, [], '', 7],
  [PageKind.Answer, 1, ['ws://x/', 'a b'], '', ''], [PageKind.Answer, 1, ['ws://x/']],
  null, undefined, 1, 'text', {}, [], [99n], ['0'], [-1],
  [PageKind.Attach], attach(1), attach(-1n), attach(2n ** 64n), attach(1n, null), attach(1n, {}),
  attach(1n, { ...config, mode: 'other' }),
  attach(1n, { ...config, build: 'other' }),
  ...[undefined, null, { routeBy: 1 }, { shareBy: 1 }, { replayLast: '1' }, { linger: {} },
    { reconnect: { minMs: 'x' } }].map((rules) => attach(1n, { ...config, rules })),
  attach(1n, { ...config, protocols: 'a' }),
  attach(1n, { ...config, protocols: [1] }),
  attach(1n, { ...config, protocols: ['a,b'] }),
  attach(1n, { ...config, locks: 1 }),
  [PageKind.Attach, 1n, config], [PageKind.Attach, 1n, config, 1, 0, 0],
  [PageKind.Attach, 1n, config, '', 0], [PageKind.Attach, 1n, config, '', NaN, 0],
  open('1'), open(NaN), open(1, 2 ** 32), open(1, 1.5), open(1, '1'), open(1, 1, 5),
  open(1, 1, '/', {}), open(1, 1, '/', [{}]), open(1, 1, '/', ['']), open(1, 1, '/', ['a b']),
  open(1, 1, '/', ['a,b']), open(1, 1, '/', ['ä']), open(1, 1, '/', ['a\n']),
  open(1, 1, '/', ['(a)']),
  [PageKind.Send, 1, 1], [PageKind.Send, 1, 1, {}], [PageKind.Send, 1, '1', 'text'],
  [PageKind.Send, 1, 1, new ArrayBuffer(3)], [PageKind.Send, 1, NaN, 'text'],
  [PageKind.Send, '1', 1, 'text'], [PageKind.Send, 1, 'text'],
  [PageKind.Close, 1, 1, 65536, ''], [PageKind.Close, 1, 1, 1000],
  [PageKind.Close, 1, 1, '1000', ''], [PageKind.Close, '1', 1, 1000, ''],
  [PageKind.Credit, 1, 1], [PageKind.Credit, '1', 1, 1], [PageKind.Credit, 1, 1, NaN],
  [PageKind.Credit, 1, 2 ** 32, 1], [PageKind.Credit, 1, 1, 1n],
  [PageKind.Got], [PageKind.Got, 1], [PageKind.Got, 1, 2n],
];

test('what the page library posts passes', () => {
  GOOD.forEach((message) => assert.ok(isPageMessage(message), String(message[0])));
});

test('all else is held back', () => {
  BAD.forEach((message, index) => assert.ok(!isPageMessage(message), `number ${index}`));
});

test('a path begins with / in mux mode, is a URL in exclusive mode, and else a name', () => {
  const isOpen = (path: string, mode: HubConfig['mode']): boolean =>
    isPageMessage([PageKind.Open, 1, 1, path, []], mode);
  assert.deepEqual(['/', '/a?b', '', 'a'].map((path) => isOpen(path, 'mux')),
    [true, true, false, false]);
  assert.deepEqual(['', '/', 'a'].map((path) => isOpen(path, 'mirror')), [true, false, true]);
  assert.deepEqual(['ws://x/', '/', ''].map((path) => isOpen(path, 'exclusive')),
    [true, false, false]);
});

test('a page of another build is known by its Attach, whatever else that says', () => {
  const others = [attach(1n, { ...config, build: '0' }), [PageKind.Attach, 1, { build: '' }]];
  others.forEach((message) => assert.ok(isOtherBuild(message)));
  [...GOOD, ...BAD.filter((message) => !String(message).includes('object'))]
    .forEach((message) => assert.ok(!isOtherBuild(message)));
  [attach(1n, {}), attach(1n, null), attach(1n, { build: 1 }), [PageKind.Open, 1, { build: '' }]]
    .forEach((message) => assert.ok(!isOtherBuild(message)));
});
