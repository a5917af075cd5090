// SharedWebSocket: what a page may say of the connection that it shares.

import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';

import { SharedWebSocket } from '../../src/index.js';
import type { SharedWebSocketOptions } from '../../src/index.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import { sendReset } from '../../src/resets.js';
import { warnOf } from '../../src/stateful.js';
import { FakeWorker, browser, event, failure, install, lastWorker, tidy } from './rig.js';

const { BroadcastChannel } = globalThis;
install();
afterEach(tidy);
// Nothing else keeps the process alive between a worker and the next one.
const alive = setInterval(() => undefined, 1000);
after(() => clearInterval(alive));

const URL_ = 'ws://host.test/feed';
let hubs = 0n;

async function opened(options: SharedWebSocketOptions) {
  const socket = new SharedWebSocket(URL_, [], { key: `rules ${hubs}`, ...options });
  if (!FakeWorker.all.length) await event(browser.listeners, 'worker');
  const worker = lastWorker();
  const [, , config] = await worker.expect(PageKind.Attach);
  const hub = (hubs += 1n);
  worker.welcome(hub);
  const [, , number] = await worker.expect(PageKind.Open);
  worker.post(hub, HubKind.Joined, number, 0, '\n');
  await event(socket, 'open');
  return { socket, worker, config, hub, number };
}

test('tabs that give other rules have another connection', () => {
  const names = [{}, { routeBy: 'from' }, { replayLast: 1 }, { linger: 1 }, { reconnect: {} }]
    .map((rules) => {
      new SharedWebSocket(URL_, [], { key: 'names', ...rules });
      return lastWorker().name;
    });
  assert.equal(new Set(names).size, names.length);
  new SharedWebSocket(URL_, [], { key: 'names', routeBy: 'from' });
  assert.equal(FakeWorker.all.length, names.length);
});

test('an open socket hears of a new connection, and not of a first one', async () => {
  const { socket, worker, hub, number } = await opened({ reconnect: {} });
  socket.onclose = () => assert.fail('closed');
  const again = event(socket, 'reconnect');
  worker.post(hub, HubKind.Joined, number, 0, '\n');
  assert.equal((await again).type, 'reconnect');
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
});

test('with `reconnect` a socket outlives its worker', async () => {
  const { socket, worker, hub } = await opened({ reconnect: {} });
  socket.onclose = () => assert.fail('closed');
  const next = event(browser.listeners, 'worker');
  browser.grant(`tabmux:hub:${hub.toString(16).padStart(16, '0')}`);
  await next;
  assert.notEqual(lastWorker(), worker);
  await lastWorker().expect(PageKind.Attach);
  lastWorker().welcome(0xaaaan);
  const [, , number] = await lastWorker().expect(PageKind.Open);
  const again = event(socket, 'reconnect');
  lastWorker().post(0xaaaan, HubKind.Joined, number, 0, '\n');
  await again;
});

test('a key may be a function, also an async one', async () => {
  const { config } = await opened({ key: async () => Promise.resolve('user 1') });
  assert.equal(config.key, 'user 1');
});

test('a key that is not known fails the socket', async () => {
  const socket = new SharedWebSocket(URL_, [], { key: () => Promise.reject(new Error('nobody')) });
  assert.equal(socket.bufferedAmount, 0);
  assert.equal(socket.shared.tabs, 0);
  assert.match(await failure(socket), /key.*nobody/);
  assert.equal(FakeWorker.all.length, 0);
});

test('a socket that is closed before its key is known opens nothing', async () => {
  const socket = new SharedWebSocket(URL_, [], { key: () => 'user' });
  socket.close();
  await failure(socket);
  assert.equal(FakeWorker.all.length, 0);
});

test('a page that comes back as another user loses its socket', async () => {
  let user = 'a';
  const { socket } = await opened({ key: () => user });
  browser.page('pagehide', true);
  browser.page('pageshow', true);
  user = 'b';
  browser.page('pagehide', true);
  const failed = failure(socket);
  browser.page('pageshow', true);
  assert.match(await failed, /the key is another one/);
});

test('a reset names the URL and the key on a channel', async () => {
  const heard = new BroadcastChannel('tabmux:reset');
  const message = new Promise((resolve) => (heard.onmessage = ({ data }) => resolve(data)));
  Object.assign(globalThis, { BroadcastChannel });
  sendReset(URL_, 'me');
  assert.deepEqual(await message, [URL_, 'me']);
  const next = new Promise((resolve) => (heard.onmessage = ({ data }) => resolve(data)));
  SharedWebSocket.reset({ url: '/feed' });
  assert.deepEqual(await next, ['ws://page.test/feed', '']);
  heard.close();
  Object.assign(globalThis, { BroadcastChannel: undefined });
});

test('a class with options takes the place of the constructor', async () => {
  const Mux = SharedWebSocket.with({ mode: 'mux', key: 'with' });
  const socket = new Mux(URL_, 'one');
  assert.ok(socket instanceof SharedWebSocket);
  assert.equal(Mux.OPEN, 1);
  const [, , config] = await lastWorker().expect(PageKind.Attach);
  assert.equal(config.mode, 'mux');
});

test('a class with options has the name, the prototype and the errors of the class', () => {
  const Mux = SharedWebSocket.with({ mode: 'mux' });
  assert.equal(Mux.name, 'SharedWebSocket');
  assert.equal(Mux.prototype, SharedWebSocket.prototype);
  assert.throws(() => Reflect.construct(Mux, []), TypeError);
});

test('a class with options gives its options to a class that is made of it', async () => {
  const Keyed = SharedWebSocket.with({ mode: 'mux' }).with({ key: 'twice' });
  class Mine extends Keyed {}
  assert.ok(new Mine(URL_) instanceof Mine);
  const [, , config] = await lastWorker().expect(PageKind.Attach);
  assert.equal(config.mode, 'mux');
});

test('a page is warned once of a sub-protocol with a state for each connection', () => {
  const lines: string[] = [];
  const { warn } = console;
  console.warn = (line: string) => lines.push(line);
  ['', 'chat', 'graphql-transport-ws', 'v12.stomp', 'mqtt'].forEach(warnOf);
  console.warn = warn;
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /graphql-transport-ws.*mux.*exclusive/);
});
