// The tiers besides a SharedWorker, as far as a page without a browser can have them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openTiers } from '../../src/tiers.js';

test('a client.js of another build is told so', () => {
  const page = { _name: '', _script: '', _tab: 1n, _locks: false, _tried: {}, _lost: assert.fail };
  const open = (version: string): unknown =>
    openTiers(version, ['shared-worker'], true, page, assert.fail);
  assert.throws(() => open('of yesterday'), /tiers\.js is of another build/);
  // The own one is not refused; the only tier that is allowed was tried.
  assert.throws(() => open('unit-test'), /the worker .* did not start/);
});

test('what is no list of tiers is refused with their names', () => {
  const page = { _name: '', _script: '', _tab: 1n, _locks: false, _tried: {}, _lost: assert.fail };
  for (const tiers of [[], ['nonsense'], 'leader']) {
    assert.throws(() => openTiers('unit-test', tiers as never, false, page, assert.fail),
      /option tiers has .* not some of shared-worker,leader/);
  }
});

test('each tier that is skipped is named with its reason', () => {
  const tried = {};
  const page =
    { _name: '', _script: '', _tab: 1n, _locks: false, _tried: tried, _lost: assert.fail };
  assert.throws(() => openTiers('unit-test', ['leader', 'direct'], false, page, assert.fail));
  assert.deepEqual(Object.keys(tried), ['leader', 'direct']);
});
