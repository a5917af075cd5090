// What fails says so in the console of its page.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { browser, event, install, lastWorker, tidy, untilClosed } from './rig.js';

install();
afterEach(tidy);

const URL_ = 'ws://host.test/console';
let keys = 0;

/** A socket that connects, its worker and its number. */
async function connecting() {
  const socket = new SharedWebSocket(URL_, [], { key: `console ${(keys += 1)}` });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, , number] = await worker.expect(PageKind.Open);
  return { socket, worker, number };
}

test('a socket that cannot connect prints why, once', async (context) => {
  const { mock } = context.mock.method(console, 'error', () => undefined);
  const { socket, worker, number } = await connecting();
  worker.post(1n, HubKind.Error, number, 'tabmux: nobody answers');
  worker.post(1n, HubKind.Ended, number, 1006, 0, '');
  await untilClosed(socket);
  assert.deepEqual(mock.calls.map((call) => call.arguments), [['tabmux: nobody answers']]);
});

// As `WebSocket` does in three engines (e2e: "parity: a connection's events").
test('an open socket whose connection breaks closes without an error event', async (context) => {
  const { mock } = context.mock.method(console, 'error', () => undefined);
  const { socket, worker, number } = await connecting();
  worker.post(1n, HubKind.Joined, number, 0, '\n');
  worker.post(1n, HubKind.Ended, number, 1006, 0, '');
  socket.onerror = () => assert.fail('an error event');
  await untilClosed(socket);
  assert.equal(mock.callCount(), 0);
});

test('a socket that the page or the server closes prints nothing', async (context) => {
  const { mock } = context.mock.method(console, 'error', () => undefined);
  const { socket, worker, number } = await connecting();
  worker.post(1n, HubKind.Joined, number, 0, '\n');
  worker.post(1n, HubKind.Ended, number, 1001, 1, 'bye');
  await untilClosed(socket);
  const other = new SharedWebSocket(URL_, [], { key: 'closed at once' });
  other.close();
  assert.deepEqual(await untilClosed(other), ['error', 'close']);
  assert.equal(mock.callCount(), 0);
});

test('a worker that does not start is told once for a socket', async (context) => {
  const { mock } = context.mock.method(console, 'error', () => undefined);
  browser.refuses = true;
  const socket = new SharedWebSocket(URL_, [], { key: 'refused' });
  const { message } = await event<ErrorEvent>(socket, 'error');
  assert.deepEqual(mock.calls.map((call) => call.arguments), [[message]]);
});

test('a client warns once of a reason for which its link is down', async (context) => {
  const { mock } = context.mock.method(console, 'warn', () => undefined);
  const client = connect('/', { key: 'warns' });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.attached();
  worker.resume(1n, 0, 0);
  for (const reason of ['tabmux: gone', 'tabmux: gone', 'tabmux: refused']) {
    worker.post(1n, HubKind.State, LinkState.Backoff, 1, reason);
  }
  while (client.status.reason !== 'tabmux: refused') {
    await new Promise((resolve) => client.on('status', resolve));
  }
  assert.deepEqual(mock.calls.map(({ arguments: [text] }) => text),
    ['tabmux: gone', 'tabmux: refused']);
  client.close();
});

test('null for options is no options, and a topic without a name is a TypeError', () => {
  assert.ok(new SharedWebSocket(URL_, [], null as never));
  const client = connect('/', { key: 'nameless' });
  assert.throws(() => client.topic(undefined as never), { name: 'TypeError' });
  client.close();
});
