// The worker's end of the bus: a dedicated worker that speaks through its page.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import type { Port } from '../../src/ports.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import type { HubConfig, HubMessage } from '../../src/protocol.js';

const config: HubConfig = {
  build: 'unit-test', mode: 'mux', module: '', url: 'ws://x/', protocols: [], lock: 'l', tag: '',
  locks: true, key: '', rules: {},
};
/** The name of the host, as its page gives it. */
const HOST = 77n;
const attach = (tab: bigint): unknown => [tab, [PageKind.Attach, tab, config, '', 0, 0]];
const hubSays = (text: string): HubMessage => [HubKind.Browser, 7n, 1, text];

/** What the worker is to the code under test. */
const scope = {
  onmessage: null as ((event: { data: unknown }) => void) | null,
  posted: [] as unknown[],
  closed: 0,
  name: '',
  location: { href: 'http://page.test/worker.js' },
  navigator: { locks: {} },
  postMessage: (frame: unknown) => scope.posted.push(structuredClone(frame)),
  close: () => (scope.closed += 1),
};
Object.defineProperty(globalThis, 'self', { value: scope, configurable: true });

beforeEach(() => mock.timers.enable({ apis: ['setInterval', 'setTimeout'] }));
afterEach(() => mock.timers.reset());

const say = (frame: unknown): void => scope.onmessage?.({ data: frame });
const turn = (): Promise<void> => new Promise((resolve) => queueMicrotask(resolve));

/** A worker that was started by its page; what it serves, and with what it was posted. */
async function start(order: unknown = ['', false, HOST]) {
  scope.posted = [];
  scope.closed = 0;
  const { openPorts } = await import('../../src/ports.js');
  const served: Port[] = [];
  const heard: unknown[] = [];
  let retired = 0;
  const ports = openPorts((port) => {
    served.push(port);
    port.onmessage = ({ data }) => heard.push(data);
  }, () => (retired += 1));
  say(order);
  return { ports, served, heard, retired: () => retired };
}

test('it says at once that it is there, by an id that no tab knows', async () => {
  await start();
  const [[to, [kind, id]]] = scope.posted as unknown as [[bigint[], HubMessage]];
  assert.deepEqual([to, kind], [[], HubKind.Resync]);
  assert.notEqual(id, 0n);
});

test('each tab is a port, and hears what is for it', async () => {
  const { served, heard } = await start();
  scope.posted = [];
  say(attach(1n));
  say(attach(2n));
  say([1n, [PageKind.Park]]);
  assert.equal(served.length, 2);
  assert.equal(heard.length, 3);
  served[1]?.postMessage(hubSays('one'));
  await turn();
  assert.deepEqual(scope.posted, [[[2n], hubSays('one'), HOST]]);
});

test('one message to many tabs is one frame, and order is kept', async () => {
  const { served } = await start();
  scope.posted = [];
  [1n, 2n, 3n].forEach((tab) => say(attach(tab)));
  const [all, some] = [hubSays('all'), hubSays('some')];
  served.forEach((port) => port.postMessage(all));
  served[0]?.postMessage(some);
  served.forEach((port) => port.postMessage(all));
  await turn();
  assert.deepEqual(scope.posted, [
    [[1n, 2n, 3n], all, HOST], [[1n], some, HOST], [[1n, 2n, 3n], all, HOST],
  ]);
});

test('who does not attach first is answered and not remembered', async () => {
  const { served } = await start();
  say([5n, [PageKind.Park]]);
  say([5n, [PageKind.Park]]);
  assert.equal(served.length, 2);
});

test('at the limit of tabs the oldest is forgotten, and may attach again', async () => {
  const { served } = await start();
  for (let tab = 1n; tab <= 256n; tab += 1n) say(attach(tab));
  say([1n, [PageKind.Park]]);
  assert.equal(served.length, 256);
  say(attach(257n));
  say([2n, [PageKind.Park]]);
  assert.equal(served.length, 257, 'the second is remembered');
  say([1n, [PageKind.Park]]);
  assert.equal(served.length, 258, 'the first is a stranger');
});

test('a question is answered', async () => {
  const { served } = await start();
  scope.posted = [];
  say([9n]);
  assert.deepEqual(scope.posted, [[[9n], 'here', HOST]]);
  assert.equal(served.length, 0);
});

test('garbage is counted, and told at each power of ten', async (context) => {
  const warn = context.mock.method(console, 'warn', () => undefined);
  const { heard } = await start();
  const garbage = [
    {}, 5, [], [1], [null, []], [-1n, []], [2n ** 64n, []], [1n, [], 3], [[1n], 'x'], true, 0n,
  ];
  garbage.forEach(say);
  assert.equal(heard.length, 0);
  const told = warn.mock.calls.map(({ arguments: [text] }) => String(text));
  assert.deepEqual(told.map((text) => /\d+/.exec(text)?.[0]), ['1', '10']);
  // What another hub says is no garbage.
  say([[1n], hubSays('x'), 5n]);
  assert.equal(warn.mock.callCount(), 2);
});

test('a page that asked for it hears a tick each second', async () => {
  await start(['', true, HOST]);
  scope.posted = [];
  mock.timers.tick(3000);
  assert.equal(scope.posted.filter((frame) => frame === null).length, 3);
});

test('what is said to another host is not heard', async () => {
  const { served } = await start();
  say([...(attach(1n) as unknown[]), HOST + 1n]);
  assert.equal(served.length, 0);
  say([...(attach(1n) as unknown[]), HOST]);
  assert.equal(served.length, 1);
});

test('a younger host hears at once that there is an older one', async () => {
  await start();
  scope.posted = [];
  const resync = [HubKind.Resync, 9n];
  say([[], resync, HOST - 1n]);
  assert.deepEqual(scope.posted, [], 'the other one is older');
  say([[], resync, HOST + 1n]);
  assert.deepEqual(scope.posted, [[[], 'here', HOST]]);
});

test('a host that stood still says nothing of itself for a while', async () => {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  let now = 0;
  mock.method(performance, 'now', () => now);
  await start();
  scope.posted = [];
  mock.timers.tick(2500);
  assert.equal(scope.posted.length, 1);
  now = 60_000;
  mock.timers.tick(2500);
  assert.equal(scope.posted.length, 1, 'another may have its place');
  now += 2500;
  mock.timers.tick(2500);
  assert.equal(scope.posted.length, 2);
  mock.restoreAll();
});

test('retire: the hub ends, then the worker', async () => {
  const { retired } = await start();
  scope.posted = [];
  say('retire');
  assert.deepEqual(scope.posted, [[[], 'gone', HOST]]);
  assert.deepEqual([retired(), scope.closed], [1, 0]);
  say([5n]);
  assert.equal(scope.posted.length, 1, 'who asks is to find no host');
  mock.timers.tick(1000);
  assert.equal(scope.closed, 1);
});
