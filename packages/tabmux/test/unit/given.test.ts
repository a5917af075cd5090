// URLs and sub-protocols that are functions: who is asked, and what is written down.

import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';

import { FakeSocket } from './native.js';
import { SharedWebSocket, connect } from '../../src/index.js';
import type { Given, SharedWebSocketOptions } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { FakeWorker, event, failure, install, lastWorker, tidy } from './rig.js';

install();
afterEach(tidy);
// Nothing else keeps the process alive between a worker and the next one.
const alive = setInterval(() => undefined, 1000);
after(() => clearInterval(alive));

const TOKEN = 'ws://host.test/feed?token=secret';
let keys = 0;

/** A worker that has asked the page where its link goes. */
async function asked(url: Given<string>, protocols: Given<string[]> = []) {
  const key = `given ${(keys += 1)}`;
  const socket = new SharedWebSocket(url, protocols, { shareBy: 'feed', key });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(7n);
  const [, , number] = await worker.expect(PageKind.Open);
  worker.post(7n, HubKind.Ask, 3, 0);
  return { socket, worker, key, number, answer: await worker.expect(PageKind.Answer) };
}

test('a hub is told what functions return, also async ones', async () => {
  const { answer } = await asked(async () => Promise.resolve('/feed?token=1'), () => ['a', 'b']);
  const address = ['ws://page.test/feed?token=1', 'a', 'b'];
  assert.deepEqual(answer, [PageKind.Answer, 3, address, '', '']);
});

test('with `shareBy` the hub asks for what is no function, too', async () => {
  const { answer } = await asked(TOKEN, ['a']);
  assert.deepEqual(answer[2], [TOKEN, 'a']);
});

test('a hub is told why a function has no answer', async () => {
  const { answer } = await asked(() => Promise.reject(new Error('logged out')));
  assert.deepEqual(answer, [PageKind.Answer, 3, [], 'Error: logged out', '']);
});

test('a function is asked anew each time', async () => {
  let n = 0;
  const { worker } = await asked(() => `${TOKEN}${(n += 1)}`);
  worker.post(7n, HubKind.Ask, 4, 0);
  assert.deepEqual((await worker.expect(PageKind.Answer))[2], [`${TOKEN}2`]);
});

test('what the server refused for good is told to no other hub', async () => {
  let token = 'one';
  const { worker } = await asked(() => `${TOKEN}${token}`);
  worker.post(7n, HubKind.Lost, 'tabmux: log in');
  worker.post(7n, HubKind.State, LinkState.Refused, 1, 'tabmux: log in');
  worker.post(8n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  worker.attached(8n, 1, LinkState.Refused);
  const answer = async (): Promise<unknown> => {
    worker.post(8n, HubKind.Ask, 4, 0);
    return (await worker.expect(PageKind.Answer))[3];
  };
  assert.equal(await answer(), 'tabmux: log in');
  token = 'two';
  assert.equal(await answer(), '');
});

test('what a function returned is in no name and in no error', async () => {
  const { worker, answer } = await asked(() => 'nothing://secret', () => ['se cret']);
  assert.ok(!worker.name.includes('secret'));
  assert.ok(!answer[3].includes('secret'), answer[3]);
  const { answer: other } = await asked(TOKEN, () => ['secret ']);
  assert.ok(!other[3].includes('secret'), other[3]);
});

test('tabs that give the same `shareBy` share a connection whose URLs differ', () => {
  const key = 'same name';
  for (const url of [TOKEN, () => TOKEN]) new SharedWebSocket(url, [], { shareBy: 'one', key });
  assert.equal(FakeWorker.all.length, 1);
  new SharedWebSocket(TOKEN, [], { shareBy: 'two', key });
  new SharedWebSocket(TOKEN, [], { shareBy: 'one', key: 'other user' });
  // What is called like a URL is not the connection to that URL.
  new SharedWebSocket(TOKEN, [], { shareBy: TOKEN, key });
  new SharedWebSocket(TOKEN, [], { key });
  assert.equal(FakeWorker.all.length, 5);
});

test('a function without `shareBy` is refused where its connection is shared', () => {
  const refused = { name: 'TypeError', message: /shareBy/ };
  const make = (url: Given<string>, protocols: Given<string[]>, options = {}) =>
    () => new SharedWebSocket(url, protocols, options as SharedWebSocketOptions);
  assert.throws(make(() => TOKEN, []), refused);
  assert.throws(make(TOKEN, () => []), refused);
  assert.throws(make(TOKEN, [], { mode: 'mux', endpoint: () => TOKEN }), refused);
  assert.throws(() => connect(() => TOKEN), refused);
  assert.throws(() => connect(TOKEN, { endpoint: () => TOKEN }), refused);
});

test('the URL is empty until this page is asked', async () => {
  const socket = new SharedWebSocket(() => TOKEN, [], { shareBy: 'late', key: 'late' });
  assert.equal(socket.url, '');
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(7n);
  await worker.expect(PageKind.Open);
  worker.post(7n, HubKind.Ask, 1, 0);
  await worker.expect(PageKind.Answer);
  assert.equal(socket.url, TOKEN);
});

test('an exclusive socket asks in its page, and shows no secret', async () => {
  const options = { mode: 'exclusive', key: 'exclusive' } as const;
  const socket = new SharedWebSocket(async () => Promise.resolve(TOKEN), () => ['a'], options);
  await new Promise((resolve) => setTimeout(resolve));
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(9n);
  const [, , number, path, protocols] = await worker.expect(PageKind.Open);
  assert.deepEqual([path, protocols], [TOKEN, ['a']]);
  worker.post(9n, HubKind.Error, number, `tabmux: ${TOKEN} could not be opened`);
  worker.post(9n, HubKind.Ended, number, 1006, 0, '');
  assert.equal(await failure(socket), 'tabmux: what the function returned could not be opened');
});

test('a function that fails ends an exclusive socket', async () => {
  const socket = new SharedWebSocket(() => Promise.reject(new Error('logged out')), [],
    { mode: 'exclusive' });
  assert.match(await failure(socket), /logged out/);
});

test('a virtual socket asks for its path, and the hub for the address of the link', async () => {
  const key = 'link';
  new SharedWebSocket(() => 'ws://host.test/room?token=1', [], {
    mode: 'mux', shareBy: 'link', key, endpoint: async () => Promise.resolve('ws://link.test/?x'),
  });
  await new Promise((resolve) => setTimeout(resolve));
  connect(() => 'ws://host.test/', { shareBy: 'link', key });
  assert.equal(FakeWorker.all.length, 1);
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(11n);
  assert.equal((await worker.expect(PageKind.Open))[3], '/room?token=1');
  worker.post(11n, HubKind.Ask, 1, 0);
  // The client was opened last.
  assert.deepEqual((await worker.expect(PageKind.Answer))[2], ['ws://host.test/tabmux/ws']);
});

test('without a hub the page asks, and its own socket has the answer', async () => {
  const { socket, worker } = await asked(() => TOKEN, () => ['a']);
  worker.failed('tabmux: no hub');
  await new Promise((resolve) => setTimeout(resolve));
  const [own] = FakeSocket.all;
  assert.deepEqual([own?.url, own?.protocols], [TOKEN, ['a']]);
  own?.onerror?.();
  const text = await failure(socket);
  assert.ok(!text.includes('secret') && text.includes('feed'), text);
});

test('a page asks for a new link', async () => {
  const { socket, worker, key } = await asked(() => TOKEN);
  socket.reconnect();
  await worker.expect(PageKind.Reconnect);
  socket.close();
  socket.reconnect();
  const client = connect('ws://host.test/', { key });
  const hub = lastWorker();
  // There is nobody to ask yet.
  client.reconnect();
  await hub.expect(PageKind.Attach);
  hub.welcome(13n);
  await hub.settled(13n);
  client.reconnect();
  await hub.expect(PageKind.Reconnect);
});

test('a socket that was closed meanwhile opens none', async () => {
  const { socket, worker } = await asked(() => TOKEN);
  worker.failed('tabmux: no hub');
  const ended = event(socket, 'close');
  socket.close();
  await ended;
  assert.equal(FakeSocket.all.length, 0);
});
