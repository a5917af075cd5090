// What can be closed: by a signal, and at the end of a block with `using`.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { afterEach, test } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import { PageKind } from '../../src/protocol.js';
import { FakeWorker, install, pair, tidy, untilClosed } from './rig.js';

install();
afterEach(tidy);

const DISPOSE: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for('Symbol.dispose');

/** Listeners of a signal. */
const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

test('a socket is closed by its signal', async () => {
  const abort = new AbortController();
  const { signal } = abort;
  const socket = new SharedWebSocket('ws://host.test/', [], { key: 'signal', signal });
  const types = untilClosed(socket);
  abort.abort();
  assert.deepEqual(await types, ['error', 'close']);
});

test('a socket whose signal has aborted is closed', async () => {
  const signal = AbortSignal.abort();
  const socket = new SharedWebSocket('ws://host.test/', [], { key: 'aborted', signal });
  assert.equal(socket.readyState, socket.CLOSING);
  assert.deepEqual(await untilClosed(socket), ['error', 'close']);
});

test('a topic is closed by its signal, and by that of its client', async () => {
  const { client, worker } = await pair();
  const abort = new AbortController();
  client.topic('one', { signal: abort.signal });
  const [, number] = await worker.expect(PageKind.Subscribe);
  abort.abort();
  assert.deepEqual(await worker.expect(PageKind.Unsubscribe), [PageKind.Unsubscribe, number]);
  const two = client.topic('two');
  await worker.expect(PageKind.Subscribe);
  client.close();
  await worker.expect(PageKind.Unsubscribe);
  await assert.rejects(two.ready, /topic two is closed/);
});

test('what is closed leaves nothing at a signal', async () => {
  const { signal } = new AbortController();
  const { client, worker } = await pair();
  const topic = client.topic('news', { signal });
  const socket = new SharedWebSocket('ws://host.test/', [], { key: 'left', signal });
  await worker.expect(PageKind.Subscribe);
  assert.equal(listeners(signal), 2);
  topic.close();
  socket.close();
  await untilClosed(socket);
  assert.equal(listeners(signal), 0);
});

test('the end of a block closes sockets, clients and topics', async () => {
  const { open, client, worker, one } = await pair();
  const topic = client.topic('news');
  await worker.expect(PageKind.Subscribe);
  topic[DISPOSE]();
  await worker.expect(PageKind.Unsubscribe);
  open[DISPOSE]();
  const [, , socket] = await worker.expect(PageKind.Close);
  assert.equal(socket, one);
  client[DISPOSE]();
  assert.equal(client.status.state, 'closed');
});

test('a signal that is none is refused before anything is opened', async () => {
  const signal = new AbortController() as unknown as AbortSignal;
  const refused = { name: 'TypeError' };
  assert.throws(() => new SharedWebSocket('ws://host.test/', [], { key: 'none', signal }), refused);
  assert.throws(() => connect('/', { key: 'none', signal }), refused);
  assert.equal(FakeWorker.all.length, 0);
  const { client, worker } = await pair();
  assert.throws(() => client.topic('news', { signal }), refused);
  client.topic('others');
  assert.equal((await worker.expect(PageKind.Subscribe))[2], 'others');
});

test('a client whose signal has aborted opens nothing', () => {
  const client = connect('/', { key: 'aborted client', signal: AbortSignal.abort() });
  assert.equal(client.status.state, 'closed');
  assert.equal(FakeWorker.all.length, 0);
});
