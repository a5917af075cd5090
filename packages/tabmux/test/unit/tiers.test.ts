// The tiers besides a SharedWorker, as far as a page without a browser can have them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openTiers } from '../../src/tiers.js';

test('a client.js of another build is told so', () => {
  const page = { _name: '', _script: '', _tab: 1n, _locks: false, _lost: assert.fail };
  const open = (version: string): unknown => openTiers(version, [], false, page, assert.fail);
  assert.throws(() => open('of yesterday'), /tiers\.js is of another build/);
  // The own one is not refused; no tier was allowed.
  assert.throws(() => open('unit-test'), /the worker .* did not start/);
});
