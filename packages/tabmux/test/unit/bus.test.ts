// The worker's end of the bus: a dedicated worker that speaks through its page.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import type { Port } from '../../src/ports.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import type { HubConfig, HubMessage } from '../../src/protocol.js';

const config: HubConfig = {
  build: 'unit-test', mode: 'mux', module: '', url: 'ws://x/', protocols: [], lock: 'l',
  locks: true, key: '', rules: {},
};
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
async function start(order: unknown = ['', false]) {
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
  assert.deepEqual(scope.posted, [[[2n], hubSays('one')]]);
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
    [[1n, 2n, 3n], all], [[1n], some], [[1n, 2n, 3n], all],
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
  assert.deepEqual(scope.posted, [[[9n]]]);
  assert.equal(served.length, 0);
});

test('garbage is counted, and told at each power of ten', async (context) => {
  const warn = context.mock.method(console, 'warn', () => undefined);
  const { heard } = await start();
  const garbage = [{}, 5, [], [1], [null, []], [-1n, []], [2n ** 64n, []], [1n, [], 3], true, 0n];
  garbage.forEach(say);
  assert.equal(heard.length, 0);
  const told = warn.mock.calls.map(({ arguments: [text] }) => String(text));
  assert.deepEqual(told.map((text) => /\d+/.exec(text)?.[0]), ['1', '10']);
  // What another hub says is no garbage.
  say([[1n], hubSays('x')]);
  assert.equal(warn.mock.callCount(), 2);
});

test('a page that asked for it hears a tick each second', async () => {
  const {} = await start(['', true]);
  scope.posted = [];
  mock.timers.tick(3000);
  assert.equal(scope.posted.filter((frame) => frame === null).length, 3);
});

test('retire: the hub ends, then the worker', async () => {
  const { retired } = await start();
  say('retire');
  assert.deepEqual([retired(), scope.closed], [1, 0]);
  mock.timers.tick(1000);
  assert.equal(scope.closed, 1);
});
