// Which tab leads where there are no locks, and what tabs speak by where there is no channel.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import { contendByLease, contendByLock } from '../../src/leader.js';
import type { Leadership } from '../../src/leader.js';
import { HubKind } from '../../src/protocol.js';
import { openWire } from '../../src/wire.js';

const NAME = 'tabmux:leader:x';
const listeners = new EventTarget();
const store = new Map<string, string>();
let quota = Infinity;
let isRefused = false;

const allowed = (): void => {
  if (isRefused) throw new DOMException('refused', 'SecurityError');
};
const changed = (key: string, newValue: string | null): void => {
  listeners.dispatchEvent(Object.assign(new Event('storage'), { key, newValue }));
};
Object.assign(globalThis, {
  addEventListener: listeners.addEventListener.bind(listeners),
  removeEventListener: listeners.removeEventListener.bind(listeners),
  // Events reach the writer as well here: they must do no harm.
  localStorage: {
    getItem: (key: string) => (allowed(), store.get(key) ?? null),
    setItem(key: string, value: string) {
      allowed();
      if (value.length > quota) throw new DOMException('full', 'QuotaExceededError');
      store.set(key, value);
      changed(key, value);
    },
    removeItem(key: string) {
      allowed();
      store.delete(key);
      changed(key, null);
    },
  },
});

let open: Leadership[] = [];
beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  store.clear();
  quota = Infinity;
});
afterEach(() => {
  isRefused = false;
  open.splice(0).forEach((one) => one._release());
  mock.timers.reset();
});

/** A tab, and how often it began and ceased to lead, and was told that it may not. */
function contend() {
  const tab = { led: 0, resigned: 0, refused: 0, lease: undefined as unknown as Leadership };
  tab.lease = contendByLease(
    NAME, () => (tab.led += 1), () => (tab.resigned += 1), () => (tab.refused += 1),
    () => false,
  );
  open.push(tab.lease);
  return tab;
}

/** Time passes, and who leads renews the lease each second. */
function pass(ms: number, ...leading: { lease: Leadership }[]): void {
  for (let done = 0; done < ms; done += 1000) {
    mock.timers.tick(Math.min(1000, ms - done));
    leading.forEach(({ lease }) => lease._renew?.());
  }
}

test('a lease that nobody has is held after it was read again', () => {
  const tab = contend();
  assert.equal(tab.led, 0);
  mock.timers.tick(249);
  assert.equal(tab.led, 0);
  mock.timers.tick(1);
  assert.equal(tab.led, 1);
});

test('of tabs that take it at once the last to write has it', () => {
  const tabs = [contend(), contend(), contend()];
  // Each found a lease that is fresh, but the first: as if none had seen the other's.
  const [, fresh] = (store.get(NAME) ?? '').split(':');
  store.set(NAME, `${'0'.repeat(16)}:${fresh}`);
  pass(1000);
  assert.deepEqual(tabs.map(({ led }) => led), [0, 0, 0]);
  pass(10_000);
  assert.equal(tabs.reduce((sum, { led }) => sum + led, 0), 1);
});

test('nobody else leads while the lease is renewed, and one does when it is released', () => {
  const [first, second] = [contend(), contend()];
  pass(20_000, first);
  assert.deepEqual([first.led, second.led], [1, 0]);
  first.lease._release();
  mock.timers.tick(250);
  assert.deepEqual([first.led, second.led], [1, 1]);
  assert.equal(first.resigned, 0);
});

test('a lease that is not renewed is lost after five seconds', () => {
  const [first, second] = [contend(), contend()];
  pass(1000, first);
  assert.equal(first.led, 1);
  pass(8000);
  assert.deepEqual([first.led, second.led], [1, 1]);
  // It sees that at once, or, where no event comes, when it renews.
  first.lease._renew?.();
  assert.equal(first.resigned, 1);
});

test('who lost the lease never writes it', () => {
  const first = contend();
  pass(1000, first);
  store.set(NAME, `${'f'.repeat(16)}:${Date.now()}`);
  first.lease._renew?.();
  assert.equal(first.resigned, 1);
  first.lease._renew?.();
  first.lease._release();
  assert.match(store.get(NAME) ?? '', /^f{16}:/);
});

test('what has no meaning, and what is of the future, is no lease', () => {
  for (const value of ['', 'x', ':', 'abc:def', `${'a'.repeat(16)}:${Date.now() + 3_600_000}`]) {
    store.set(NAME, value);
    const tab = contend();
    pass(3000, tab);
    assert.equal(tab.led, 1, value);
    tab.lease._release();
  }
});

test('storage that is refused is told, and does not break what ends', () => {
  isRefused = true;
  const tab = contend();
  assert.deepEqual([tab.led, tab.refused], [0, 1]);
  tab.lease._release();
});

test('storage that is refused while the lease is held is told', () => {
  const tab = contend();
  pass(1000, tab);
  assert.deepEqual([tab.led, tab.refused], [1, 0]);
  isRefused = true;
  tab.lease._renew?.();
  assert.equal(tab.refused, 1);
  tab.lease._release();
});

test('storage that is full is told', () => {
  quota = 0;
  assert.equal(contend().refused, 1);
});

/** Locks of which none is granted: each request waits until the test rejects it. */
function installLocks(): ((error: Error) => void)[] {
  const rejects: ((error: Error) => void)[] = [];
  const request = (): Promise<unknown> => new Promise((_, reject) => rejects.push(reject));
  Object.defineProperty(globalThis, 'navigator', { value: { locks: { request } }, writable: true });
  return rejects;
}

test('a lock that is refused is told', async () => {
  const rejects = installLocks();
  const refused = new Promise<void>((resolve) => {
    open.push(contendByLock(NAME, assert.fail, assert.fail, resolve));
  });
  rejects[0]?.(new DOMException('refused', 'SecurityError'));
  await refused;
});

test('a lock that is given up is no refusal', async () => {
  const rejects = installLocks();
  const leadership = contendByLock(NAME, assert.fail, assert.fail, assert.fail);
  leadership._release();
  rejects[0]?.(new DOMException('aborted', 'AbortError'));
  await new Promise((resolve) => setImmediate(resolve));
});

test('without a channel: ids and bytes come as they went, and nothing stays behind', () => {
  const heard: unknown[] = [];
  const wire = openWire('tabmux:x', false, (frame) => heard.push(frame), assert.fail);
  const frames: [bigint, unknown][] = [
    [2n ** 64n - 1n, [4, 1, 2, new Uint8Array([0, 128, 255])]], [0n, ['ä€😀"\n']], [1n, []],
  ];
  frames.forEach((frame) => wire._post(frame));
  wire._post([[1n, 2n], [HubKind.Mirror, 3n, new Uint8Array(0)], 5n]);
  assert.deepEqual(heard, [...frames, [[1n, 2n], [HubKind.Mirror, 3n, new Uint8Array(0)], 5n]]);
  assert.equal(store.size, 0);
  wire._close();
  changed('tabmux:x:1', '[1]');
  assert.equal(heard.length, 4);
});

test('without a channel: garbage is nothing, other keys are none of ours', () => {
  const heard: unknown[] = [];
  const wire = openWire('tabmux:x', false, (frame) => heard.push(frame), assert.fail);
  ['{', '{"n":"xyz"}', '{"b":"*"}', ''].forEach((text) => changed('tabmux:x:1', text));
  changed('tabmux:other:1', '[]');
  assert.deepEqual(heard, [undefined, undefined, undefined, undefined]);
  wire._close();
});

test('without a channel: a message past the quota is the end of the tier', () => {
  let failed = 0;
  const wire = openWire('tabmux:x', false, () => undefined, () => (failed += 1));
  quota = 100;
  wire._post([1n, ['x'.repeat(1000)]]);
  assert.equal(failed, 1);
  wire._close();
});
