// Credit: a page lets the server send more on a socket once it has heard what came.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { install, pair, tidy } from './rig.js';

install();
afterEach(tidy);

/** A half of what a hub asks for first. */
const HALF = 64 << 10;

test('half of the first credit is given back once that much was heard', async () => {
  const { open, worker, hub, one } = await pair();
  let heard = 0;
  open.onmessage = () => (heard += 1);
  worker.post(hub, HubKind.Message, one, 2, HALF - 1, 'large');
  await worker.settled(hub);
  assert.equal(heard, 1);
  worker.post(hub, HubKind.Message, one, 3, 99, 'small');
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 3, one, HALF + 98]);
  assert.equal(heard, 2, 'its handlers have heard it before');
  worker.post(hub, HubKind.Message, one, 4, HALF - 1, 'large');
  await worker.settled(hub);
});

test('what comes again gives no credit again', async () => {
  const { worker, hub, one } = await pair();
  worker.post(hub, HubKind.Message, one, 2, HALF, 'x');
  await worker.expect(PageKind.Credit);
  worker.post(hub, HubKind.Message, one, 2, HALF, 'x');
  await worker.settled(hub);
});

test('each socket has its own', async () => {
  const { worker, hub, one, two } = await pair();
  worker.post(hub, HubKind.Opened, two, 2, 0, '\n');
  worker.post(hub, HubKind.Message, one, 3, HALF - 1, 'x');
  worker.post(hub, HubKind.Message, two, 4, HALF - 1, 'x');
  await worker.settled(hub);
  worker.post(hub, HubKind.Message, two, 5, 1, 'x');
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 3, two, HALF]);
});

test('credit is said again to a server that has not seen it', async () => {
  const { worker, hub, one } = await pair();
  worker.post(hub, HubKind.Message, one, 2, HALF, 'x');
  await worker.expect(PageKind.Credit);
  worker.post(hub, HubKind.State, 0, LinkState.Connecting, 1);
  worker.post(hub, HubKind.Message, one, 3, HALF, 'on its way');
  await worker.settled(hub);
  worker.resume(hub, 2);
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 3, one, HALF]);
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 4, one, HALF]);
  worker.resume(hub, 4);
  await worker.settled(hub);
});
