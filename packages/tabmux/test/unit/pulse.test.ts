// What stands in for locks: the hub asks its tabs.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import type { Port } from '../../src/ports.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import type { HubConfig, HubMessage, PageMessage } from '../../src/protocol.js';

const PING = [HubKind.Ping];

Object.defineProperty(globalThis, 'self', { value: globalThis, configurable: true });
Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true, writable: true });

beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }));
afterEach(() => mock.timers.reset());

const config: HubConfig = {
  build: 'unit-test', mode: 'mux', module: '', url: 'ws://x/', protocols: [], lock: 'l', tag: '',
  locks: true, key: '', rules: {},
};
const attach: PageMessage = [PageKind.Attach, 1n, config, '', 0, 0];

/** Makes a tab's port with its pulse. */
async function make(locks?: object, isAsked = true) {
  Object.assign(navigator, { locks });
  const { withPulse } = await import('../../src/pulse.js');
  const toTab: HubMessage[] = [];
  const toHub: unknown[] = [];
  let gone = 0;
  const inner: Port = { onmessage: null, postMessage: (message) => toTab.push(message) };
  const outer = withPulse(inner, isAsked, () => (gone += 1));
  outer.onmessage = ({ data }) => toHub.push((data as unknown[])[0]);
  const say = (message: unknown): unknown => inner.onmessage?.({ data: message } as MessageEvent);
  return { outer, toTab, toHub, say, gone: () => gone };
}

test('a tab that answers is asked again and again, and the hub hears nothing of it', async () => {
  const { toTab, toHub, say, gone } = await make();
  say(attach);
  for (let round = 1; round < 10; round += 1) {
    mock.timers.tick(5000);
    assert.deepEqual(toTab, Array(round).fill(PING));
    say([PageKind.Pong]);
  }
  assert.deepEqual(toHub, [PageKind.Attach]);
  assert.equal(gone(), 0);
  say([PageKind.Bye]);
});

test('three questions without an answer: the tab has said Bye', async () => {
  const { toTab, toHub, say, gone } = await make();
  say(attach);
  mock.timers.tick(15_000);
  assert.equal(toTab.length, 3);
  assert.deepEqual(toHub, [PageKind.Attach]);
  mock.timers.tick(5000);
  assert.deepEqual(toHub, [PageKind.Attach, PageKind.Bye]);
  assert.equal(gone(), 1);
  mock.timers.tick(60_000);
  assert.equal(toTab.length, 3);
});

test('whatever a tab says is an answer', async () => {
  const { toHub, say } = await make();
  say(attach);
  for (let round = 0; round < 6; round += 1) {
    mock.timers.tick(10_000);
    say([PageKind.Got, 0, 0]);
  }
  assert.ok(!toHub.includes(PageKind.Bye));
  say([PageKind.Bye]);
});

test('a parked tab is not asked, until it attaches again', async () => {
  const { toTab, toHub, say } = await make();
  say(attach);
  say([PageKind.Park]);
  mock.timers.tick(60_000);
  assert.deepEqual(toTab, []);
  say(attach);
  mock.timers.tick(5000);
  assert.deepEqual(toTab, [PING]);
  assert.deepEqual(toHub, [PageKind.Attach, PageKind.Park, PageKind.Attach]);
  say([PageKind.Bye]);
});

test('a tab that asks is answered', async () => {
  const { toTab, say } = await make();
  say(attach);
  say([PageKind.Pong]);
  assert.deepEqual(toTab, [PING]);
  say([PageKind.Pong]);
  assert.deepEqual(toTab, [PING], 'that was the answer');
  say([PageKind.Bye]);
});

test('a tab on a bus asks in another way, and its Pong may answer another hub', async () => {
  const { toTab, say } = await make(undefined, false);
  say(attach);
  say([PageKind.Pong]);
  assert.deepEqual(toTab, []);
  say([PageKind.Bye]);
});

test('who holds a lock is not asked; who might and does not is, each 20 seconds', async () => {
  const { toTab, say } = await make({});
  say(attach);
  mock.timers.tick(60_000);
  assert.deepEqual(toTab, []);
  say([PageKind.Attach, 1n, { ...config, locks: false }, '', 0, 0]);
  mock.timers.tick(19_999);
  assert.deepEqual(toTab, []);
  mock.timers.tick(1);
  assert.deepEqual(toTab, [PING]);
  say([PageKind.Bye]);
});

test('what has no meaning passes, for the hub to refuse', async () => {
  const { toHub, say, outer } = await make();
  outer.onmessage = ({ data }) => toHub.push(data);
  for (const message of [null, 1, {}, [], ['x'], [[]]]) say(message);
  assert.deepEqual(toHub, [null, 1, {}, [], ['x'], [[]]]);
});
