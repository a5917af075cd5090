// A page that may have no locks though the browser has them. In a file of its own: a page finds
// that out once.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { connect } from '../../src/index.js';
import { PageKind } from '../../src/protocol.js';
import { FakeWorker, browser, event, install, lastWorker, tidy } from './rig.js';

install();
afterEach(tidy);

test('a page whose locks are refused goes on without', async () => {
  browser.refusesLocks = true;
  const client = connect('/');
  assert.equal(FakeWorker.all.length, 1);
  while (FakeWorker.all.length < 2) await event(browser.listeners, 'worker');
  const worker = lastWorker();
  const [, , config] = await worker.expect(PageKind.Attach);
  assert.equal(config.locks, false);
  worker.attached();
  await new Promise((resolve) => client.on('status', resolve));
  assert.deepEqual([client.status.state, client.status.tier], ['connected', 'shared-worker']);
  client.close();
});
