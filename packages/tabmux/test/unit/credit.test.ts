// Credit: a page lets the server send more on a socket once it has heard what came, and what it
// sends itself waits until the server lets it.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { SharedWebSocket } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { event, failure, install, pair, tidy } from './rig.js';
import type { FakeWorker } from './rig.js';

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
  worker.post(hub, HubKind.State, LinkState.Connecting, 1, '');
  worker.post(hub, HubKind.Message, one, 3, HALF, 'on its way');
  await worker.settled(hub);
  worker.resume(hub, 2);
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 3, one, HALF]);
  assert.deepEqual(await worker.expect(PageKind.Credit), [PageKind.Credit, 4, one, HALF]);
  worker.resume(hub, 4);
  await worker.settled(hub);
});

/** The socket that is connecting is open, with so much credit. */
async function limited(credit: number) {
  const all = await pair();
  const { worker, hub, two, waiting } = all;
  worker.post(hub, HubKind.Opened, two, 2, credit, '\n');
  await event(waiting, 'open');
  return { ...all, socket: waiting, other: all.open };
}

/** What comes of the page until it has handled all: kinds and the last of each message. */
async function said(worker: FakeWorker, hub: bigint): Promise<unknown[]> {
  worker.post(hub, HubKind.Check, 0, 0);
  const all: unknown[] = [];
  for (;;) {
    const message = await worker.next();
    if (message[0] === PageKind.Got) return all;
    all.push(message[3]);
  }
}

test('what there is no credit for waits in order, and other sockets go on', async () => {
  const { worker, hub, two, socket, other } = await limited(100);
  // 69 and 71: the second begins with 31 left.
  ['first', 'seconds', 'third', 'fourth'].forEach((text) => socket.send(text));
  other.send('beside');
  assert.deepEqual(await said(worker, hub), ['first', 'seconds', 'beside']);
  assert.equal(socket.bufferedAmount, 5 + 7 + 5 + 6, 'what waits is among it');
  worker.post(hub, HubKind.Sent, 4);
  worker.post(hub, HubKind.Credit, two, 3, 40);
  assert.deepEqual(await said(worker, hub), [], 'it owed 40');
});

test('credit lets what waits go, message by message', async () => {
  const { worker, hub, two, socket } = await limited(1);
  ['a', 'b', 'c', 'd'].forEach((text) => socket.send(text));
  assert.deepEqual(await said(worker, hub), ['a']);
  worker.post(hub, HubKind.Credit, two, 3, 64);
  assert.deepEqual(await said(worker, hub), [], 'it owes 64: one is missing');
  worker.post(hub, HubKind.Credit, two, 3, 64);
  assert.deepEqual(await said(worker, hub), [], 'it came before');
  worker.post(hub, HubKind.Credit, two, 4, 66);
  assert.deepEqual(await said(worker, hub), ['b', 'c']);
  socket.send('e');
  worker.post(hub, HubKind.Credit, two, 5, 1000);
  assert.deepEqual(await said(worker, hub), ['d', 'e']);
  socket.send('f');
  assert.deepEqual(await said(worker, hub), ['f']);
});

test('a close waits for what waits before it, and for no credit of its own', async () => {
  const { worker, hub, two, socket } = await limited(1);
  socket.send('a');
  socket.send('b');
  socket.close(4001);
  assert.deepEqual(await said(worker, hub), ['a']);
  assert.equal(socket.readyState, SharedWebSocket.CLOSING);
  worker.post(hub, HubKind.Credit, two, 3, 65);
  assert.deepEqual(await said(worker, hub), ['b', 4001]);
});

test('a close without credit goes at once if nothing waits', async () => {
  const { worker, hub, socket } = await limited(1);
  socket.send('a');
  socket.close(4001);
  assert.deepEqual(await said(worker, hub), ['a', 4001]);
});

test('a message larger than all credit goes as one', async () => {
  const { worker, hub, socket } = await limited(1);
  socket.send(new Uint8Array(1 << 20));
  assert.equal((await said(worker, hub)).length, 1);
});

test('Blobs without credit keep their place', async () => {
  const { worker, hub, two, socket } = await limited(1);
  socket.send('a');
  socket.send(new Blob(['b']));
  socket.send('c');
  assert.deepEqual(await said(worker, hub), ['a']);
  worker.post(hub, HubKind.Credit, two, 3, 1000);
  await worker.expect(PageKind.Send);
  assert.deepEqual(await said(worker, hub), ['c']);
});

test('a socket whose server takes nothing may keep 16 MiB waiting', async () => {
  const { socket } = await limited(0);
  socket.send(new Uint8Array(16 << 20));
  assert.equal(socket.bufferedAmount, 16 << 20);
  const failed = failure(socket);
  socket.send('x');
  assert.equal(await failed, 'tabmux: over 16 MiB unsent');
});

test('what waits is forgotten with its socket', async () => {
  const { worker, hub, two, socket } = await limited(1);
  socket.send('a');
  socket.send('b');
  worker.post(hub, HubKind.Closed, two, 3, 4000, 1, '');
  await event(socket, 'close');
  worker.post(hub, HubKind.Credit, two, 4, 1000);
  assert.deepEqual(await said(worker, hub), ['a']);
  assert.equal(socket.bufferedAmount, 2, 'nobody knows what became of it');
});
