// The tiers besides a SharedWorker, as far as a page without a browser can have them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { listen } from '../../src/host.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import type { HubConfig } from '../../src/protocol.js';
import { openTiers } from '../../src/tiers.js';

/** What every page has. */
const HEARS = { _lost: assert.fail, _listen: listen };

test('a client.js of another build is told so', () => {
  const page = { _name: '', _script: '', _tab: 1n, _locks: false, _tried: {}, ...HEARS };
  const open = (version: string): unknown =>
    openTiers(version, ['shared-worker'], true, page, assert.fail);
  assert.throws(() => open('of yesterday'), /tiers\.js is of another build/);
  // The own one is not refused; the only tier that is allowed was tried.
  assert.throws(() => open('unit-test'), /the worker .* did not start/);
});

test('what is no list of tiers is refused with their names', () => {
  const page = { _name: '', _script: '', _tab: 1n, _locks: false, _tried: {}, ...HEARS };
  for (const tiers of [[], ['nonsense'], 'leader']) {
    assert.throws(() => openTiers('unit-test', tiers as never, false, page, assert.fail),
      /option tiers has .* not some of shared-worker,leader/);
  }
});

test('each tier that is skipped is named with its reason', () => {
  const tried = {};
  const page =
    { _name: '', _script: '', _tab: 1n, _locks: false, _tried: tried, ...HEARS };
  assert.throws(() => openTiers('unit-test', ['leader', 'direct'], false, page, assert.fail));
  assert.deepEqual(Object.keys(tried), ['leader', 'direct']);
});

/** A worker that a test plays. */
class FakeWorker {
  static last: FakeWorker;
  readonly posted: unknown[][] = [];
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor() {
    FakeWorker.last = this;
  }

  postMessage(message: unknown[]): void {
    this.posted.push(message);
  }

  terminate(): void {}
}

test('direct: the claim of a session of its own is shown to the next worker', () => {
  Object.assign(globalThis, {
    Worker: FakeWorker, document: { baseURI: 'https://host.test/' }, addEventListener: () => 0,
    removeEventListener: () => 0,
  });
  const attach = (name: string): unknown => {
    const page = {
      _name: name, _script: '/worker.js', _tab: 1n, _locks: false, _tried: {}, ...HEARS,
    };
    const port = openTiers('unit-test', ['direct'], false, page, assert.fail);
    port.postMessage([PageKind.Attach, 1n, {} as HubConfig, 'mine', 0, 0]);
    const worker = FakeWorker.last;
    const [[, , host] = [], ...rest] = worker.posted;
    worker.onmessage?.({ data: [[1n], [HubKind.Renew, 7n, 0, 0, 'mine'], host] });
    port.close();
    return (rest.at(-1)?.[1] as unknown[])[3];
  };
  // What others share is not taken over by a hub of one tab.
  assert.equal(attach('one'), '');
  assert.equal(attach('one'), 'mine');
  assert.equal(attach('two'), '');
});
