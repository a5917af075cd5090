// `reconnect()` of sockets whose connection nobody shares.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { FakeSocket } from './native.js';
import { SharedWebSocket } from '../../src/index.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import { event, failure, install, lastWorker, tidy, untilClosed } from './rig.js';

install();
afterEach(tidy);

/** Once promises and tasks that wait for nothing else are done. */
const turn = (): Promise<void> => new Promise((wake) => setImmediate(() => setImmediate(wake)));

let tokens = 0;
const url = (): string => `ws://host.test/?token=${(tokens += 1)}`;

/** An open socket in mode `exclusive`. */
async function exclusive() {
  // A worker of its own for each test.
  const script = `/worker${tokens}.js`;
  const socket = new SharedWebSocket(url, [], { mode: 'exclusive', worker: script });
  for (let turns = 0; turns < 5; turns += 1) await turn();
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(5n);
  const [, , number, path] = await worker.expect(PageKind.Open);
  worker.post(5n, HubKind.Joined, number, 0, '\n');
  await event(socket, 'open');
  return { socket, worker, number, path };
}

test('an exclusive socket stays open while its connection is dialled again', async () => {
  const { socket, worker, number, path } = await exclusive();
  socket.reconnect();
  // Once at a time.
  socket.reconnect();
  socket.send('later');
  await turn();
  const [, , next, nextPath] = await worker.expect(PageKind.Open);
  assert.notEqual(nextPath, path);
  assert.deepEqual((await worker.expect(PageKind.Close))[2], number);
  const types: string[] = [];
  socket.onclose = socket.onerror = ({ type }: Event) => types.push(type);
  // What the old connection still says is nothing to the socket.
  worker.post(5n, HubKind.Ended, number, 1000, 1, '');
  await worker.settled(5n);
  assert.deepEqual([socket.readyState, socket.bufferedAmount], [SharedWebSocket.OPEN, 5]);
  const again = event(socket, 'reconnect');
  worker.post(5n, HubKind.Joined, next, 0, '\n');
  await again;
  assert.deepEqual(await worker.expect(PageKind.Send), [PageKind.Send, 4, next, 'later']);
  assert.deepEqual(types, []);
  socket.close();
});

test('an exclusive socket whose next connection fails ends as one that breaks', async () => {
  const { socket, worker } = await exclusive();
  socket.reconnect();
  await turn();
  const [, , next] = await worker.expect(PageKind.Open);
  worker.post(5n, HubKind.Error, next, 'tabmux: no server');
  worker.post(5n, HubKind.Ended, next, 1006, 0, '');
  assert.equal(await failure(socket), 'tabmux: no server');
  // It has no connection any more.
  socket.reconnect();
});

test('a socket of the page itself stays open while it is dialled again', async () => {
  const socket = new SharedWebSocket(url, [], { shareBy: 'again' });
  lastWorker().failed('tabmux: no wasm');
  while (FakeSocket.all.length < 1) await turn();
  const [old] = FakeSocket.all as [FakeSocket];
  old.onopen?.();
  socket.reconnect();
  socket.send('later');
  await turn();
  const [, own] = FakeSocket.all as [FakeSocket, FakeSocket];
  assert.notEqual(own.url, old.url);
  assert.deepEqual(old.closed.length, 1);
  old.onclose?.({ code: 1000, reason: '', wasClean: true });
  old.onmessage?.({ data: 'late' });
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
  const again = event(socket, 'reconnect');
  own.onopen?.();
  await again;
  await turn();
  assert.deepEqual([old.said, own.said], [[], ['later']]);
  const ended = untilClosed(socket);
  own.onclose?.({ code: 1001, reason: '', wasClean: true });
  assert.deepEqual(await ended, ['close']);
});

test('a class with options has the name of the class', () => {
  assert.equal(SharedWebSocket.with({ mode: 'mux' }).name, 'SharedWebSocket');
});
