// SharedWebSocket against a worker that the tests play.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { SharedWebSocket } from '../../src/index.js';
import type { SharedWebSocketOptions } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { FakeWorker, browser, event, install, lastWorker, tidy, untilClosed } from './rig.js';

install();
afterEach(tidy);

const URL_ = 'ws://host.test/path?query';
let keys = 0;

/** A socket with a hub of its own, its worker, and its number. */
async function connecting(
  options: SharedWebSocketOptions = {},
  key = `key ${(keys += 1)}`,
  hub = 1n,
) {
  const socket = new SharedWebSocket(URL_, [], { key, ...options });
  const worker = lastWorker();
  const [, tab, config] = await worker.expect(PageKind.Attach);
  worker.welcome(hub);
  const [, , number, path, protocols] = await worker.expect(PageKind.Open);
  return { socket, worker, tab, config, number, path, protocols, key };
}

/** A socket of its own that never opens. */
const unopened = () => new SharedWebSocket(URL_, [], { key: `unopened ${(keys += 1)}` });

async function opened(options: SharedWebSocketOptions = {}, hub = 1n) {
  const it = await connecting(options, undefined, hub);
  if (options.mode === 'mux') {
    it.worker.post(hub, HubKind.Opened, it.number, 1, 0, 'chosen\nextended');
  } else {
    it.worker.post(hub, HubKind.Joined, it.number, 0, 'chosen\nextended');
  }
  await event(it.socket, 'open');
  return it;
}

const thrown = (name: string) => (error: unknown) =>
  error instanceof DOMException && error.name === name && error.message.startsWith('tabmux: ');

test('messages that come together are heard in order, and before those that follow', async () => {
  const { socket, worker } = await opened();
  const heard: unknown[] = [];
  socket.onmessage = ({ data }) => heard.push(data);
  worker.several(['one', 'two', 'three'].map((data) => [HubKind.Mirror, 1n, data]));
  worker.post(1n, HubKind.Mirror, 'four');
  await worker.settled();
  assert.deepEqual(heard, ['one', 'two', 'three', 'four']);
});

test('of messages that come together none is heard once the socket is gone', async () => {
  const { socket, worker, number } = await opened();
  const heard: unknown[] = [];
  socket.onmessage = ({ data }) => heard.push(data);
  worker.several([
    [HubKind.Mirror, 1n, 'last'],
    [HubKind.Ended, 1n, number, 1000, 1, ''],
    [HubKind.Mirror, 1n, 'late'],
  ]);
  await event(socket, 'close');
  assert.deepEqual(heard, ['last']);
});

test('a mirror: the worker, its name, and what it is told', async () => {
  const { worker, config, path, protocols, number } = await connecting({}, 'me');
  const id = 'mirror:unit-test:["ws://host.test/path?query",[],"me",{}]';
  assert.match(worker.url, /\/worker\.js$/);
  assert.match(config.module, /\/mirror\.unit-test\.wasm$/);
  assert.equal(worker.name, `tabmux:${id}`);
  assert.deepEqual(config, {
    build: 'unit-test',
    mode: 'mirror',
    module: config.module,
    url: URL_,
    protocols: [],
    lock: `tabmux:socket:${id}`,
    tag: '',
    locks: true,
    key: 'me',
    shows: false,
    rules: {
      shareBy: undefined, routeBy: undefined, replayLast: undefined, linger: undefined,
      reconnect: undefined,
    },
  });
  assert.match(path, /^\w{6,}$/);
  assert.deepEqual([number, protocols], [1, []]);
});

test('mux: the link is named by the host, path and protocols go with the socket', async () => {
  new SharedWebSocket(URL_, ['one', 'two'], { mode: 'mux' });
  const worker = lastWorker();
  assert.equal(worker.name, 'tabmux:mux:unit-test:["ws://host.test/tabmux/ws",""]');
  const [, , config] = await worker.expect(PageKind.Attach);
  assert.equal(config.url, 'ws://host.test/tabmux/ws');
  assert.deepEqual(config.protocols, []);
  worker.welcome();
  assert.deepEqual(
    await worker.expect(PageKind.Open),
    [PageKind.Open, 1, 1, '/path?query', ['one', 'two']],
  );
});

test('mux: an endpoint is relative to the page and may be http', async () => {
  const { config } = await connecting({ mode: 'mux', endpoint: '/link' });
  assert.equal(config.url, 'ws://page.test/link');
});

test('two sockets of one key share a worker', async () => {
  const { key, worker, path } = await connecting();
  new SharedWebSocket(URL_, [], { key });
  assert.equal(lastWorker(), worker);
  assert.deepEqual(await worker.expect(PageKind.Open), [PageKind.Open, 2, 2, path, []]);
});

test('exclusive sockets of a page share a worker, whatever the URL', async () => {
  const { socket, worker, config, path, protocols } = await connecting({ mode: 'exclusive' });
  assert.deepEqual([config.mode, config.url], ['exclusive', '']);
  assert.deepEqual([path, protocols], [URL_, []]);
  const other = new SharedWebSocket('ws://other.test/', 'one', { mode: 'exclusive' });
  assert.equal(lastWorker(), worker);
  const [, , , url, names] = await worker.expect(PageKind.Open);
  assert.deepEqual([url, names], ['ws://other.test/', ['one']]);
  const closed = Promise.all([event(socket, 'close'), event(other, 'close')]);
  socket.close();
  other.close();
  await closed;
});

test('exclusive: what one socket has handed over is no longer buffered', async () => {
  const { worker, socket, number } = await connecting({ mode: 'exclusive' });
  worker.post(1n, HubKind.Joined, number, 0, '\n');
  await event(socket, 'open');
  socket.send('four');
  const [, n] = await worker.expect(PageKind.Send);
  assert.equal(socket.bufferedAmount, 4);
  worker.post(1n, HubKind.Passed, number + 1, n);
  await worker.settled();
  assert.equal(socket.bufferedAmount, 4);
  worker.post(1n, HubKind.Passed, number, n);
  await worker.settled();
  assert.equal(socket.bufferedAmount, 0);
  worker.post(1n, HubKind.Ended, number, 1000, 1, '');
  await event(socket, 'close');
});

test('the tab lock is held before Attach', async () => {
  const { tab } = await connecting();
  assert(browser.held.has(`tabmux:tab:${tab.toString(16).padStart(16, '0')}`));
});

test('the lock of the hub is waited for, once its id is known', async () => {
  const { worker, number, socket } = await connecting({}, undefined, 0xabcn);
  worker.post(0xabcn, HubKind.Joined, number, 0, '\n');
  await event(socket, 'open');
  const request = browser.waiting.find(({ name }) => name === 'tabmux:hub:0000000000000abc');
  assert.equal(request?.mode, 'shared');
});

test('open: readyState, protocol, extensions, shared', async () => {
  const { socket, worker, path } = await opened();
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
  assert.equal(socket.protocol, 'chosen');
  assert.equal(socket.extensions, 'extended');
  assert.equal(socket.tier, 'shared-worker');
  const { tabId, ...shared } = socket.shared;
  assert.deepEqual(shared, { tabs: 1, hubId: '0000000000000001', reused: false, tried: [] });
  assert.equal(tabId, path);
  worker.post(1n, HubKind.State, LinkState.Connected, 15, '');
  worker.post(1n, HubKind.Mirror, '');
  await event(socket, 'message');
  assert.equal(socket.shared.tabs, 15);
});

test('a message: text, with the origin of the server', async () => {
  const { socket, worker, number } = await opened({ mode: 'mux' });
  worker.post(1n, HubKind.Message, number, 2, 69, 'hello');
  const message = await event<MessageEvent>(socket, 'message');
  assert(message instanceof MessageEvent);
  assert.equal(message.data, 'hello');
  assert.equal(message.origin, 'ws://host.test');
});

test('bytes come as a Blob', async () => {
  const { socket, worker } = await opened();
  worker.post(1n, HubKind.Mirror, new Uint8Array([1, 2]));
  const { data } = await event<MessageEvent<Blob>>(socket, 'message');
  assert.deepEqual(new Uint8Array(await data.arrayBuffer()), new Uint8Array([1, 2]));
});

test('bytes come as an ArrayBuffer when asked for', async () => {
  const { socket, worker } = await opened();
  socket.binaryType = 'arraybuffer';
  worker.post(1n, HubKind.Mirror, new Uint8Array([1, 2]));
  const { data } = await event<MessageEvent<ArrayBuffer>>(socket, 'message');
  assert.deepEqual(data, new Uint8Array([1, 2]).buffer);
});

test('a mirrored message comes to each view, in bytes of its own', async () => {
  const { socket, worker, key } = await opened();
  const other = new SharedWebSocket(URL_, [], { key });
  socket.binaryType = other.binaryType = 'arraybuffer';
  const [, , number] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, number, 1, '\n');
  await event(other, 'open');
  assert(other.shared.reused);
  worker.post(1n, HubKind.Mirror, new Uint8Array([7]));
  const both = [socket, other].map((one) => event<MessageEvent<ArrayBuffer>>(one, 'message'));
  const [first, second] = await Promise.all(both);
  assert.deepEqual(first?.data, second?.data);
  assert.notEqual(first?.data, second?.data);
});

test('a mirrored message does not come to a view that is not open', async () => {
  const { socket, worker, key } = await opened();
  const other = new SharedWebSocket(URL_, [], { key });
  other.onmessage = () => assert.fail('not open');
  worker.post(1n, HubKind.Mirror, 'early');
  await event(socket, 'message');
});

test('binaryType ignores what it does not know', async () => {
  const { socket } = await connecting();
  socket.binaryType = 'other' as BinaryType;
  assert.equal(socket.binaryType, 'blob');
});

test('send: text, bytes of a buffer, the bytes of a view', async () => {
  const { socket, worker, number } = await opened();
  const bytes = new Uint8Array([1, 2, 3, 4]);
  const shared = new Uint8Array(new SharedArrayBuffer(2));
  const view = new DataView(bytes.buffer, 3);
  const inputs = ['text', bytes.buffer, bytes.subarray(1, 3), view, shared];
  inputs.forEach((input) => socket.send(input as string));
  bytes.fill(9);
  const wanted = ['text', [1, 2, 3, 4], [2, 3], [4], [0, 0]];
  for (const [index, data] of wanted.entries()) {
    const body = typeof data === 'string' ? data : new Uint8Array(data);
    assert.deepEqual(await worker.next(), [PageKind.Send, index + 2, number, body]);
  }
});

test('send: anything else as text', async () => {
  const { socket, worker, number } = await opened();
  for (const [index, input] of [null, 42, {}, undefined].entries()) {
    socket.send(input as unknown as string);
    assert.deepEqual(await worker.next(), [PageKind.Send, index + 2, number, `${input}`]);
  }
});

test('send: a Blob keeps its place, also before a close', async () => {
  const { socket, worker, number } = await opened();
  socket.send('first');
  socket.send(new Blob(['second']));
  socket.send('third');
  socket.close(3000);
  assert.deepEqual(await worker.next(), [PageKind.Send, 2, number, 'first']);
  const second = new TextEncoder().encode('second');
  assert.deepEqual(await worker.next(), [PageKind.Send, 3, number, second]);
  assert.deepEqual(await worker.next(), [PageKind.Send, 4, number, 'third']);
  assert.deepEqual(await worker.next(), [PageKind.Close, 5, number, 3000, '']);
});

test('send: an unreadable Blob fails the socket', async () => {
  const { socket, worker, number } = await opened();
  const blob = new Blob(['x']);
  blob.arrayBuffer = () => Promise.reject(new Error('gone'));
  const types = untilClosed(socket);
  const error = event<ErrorEvent>(socket, 'error');
  socket.send(blob);
  assert.deepEqual(await types, ['error', 'close']);
  assert.match((await error).message, /Blob.*gone/);
  assert.deepEqual(await worker.next(), [PageKind.Close, 2, number, 0, '']);
});

test('send: a buffer that was transferred is an empty message', async () => {
  const { socket, worker, number } = await opened();
  const bytes = new Uint8Array(4);
  const views = [bytes.buffer, bytes, new DataView(bytes.buffer, 1, 2)];
  structuredClone(0, { transfer: [bytes.buffer] });
  views.forEach((view) => socket.send(view));
  for (const index of [0, 1, 2]) {
    assert.deepEqual(await worker.next(), [PageKind.Send, index + 2, number, new Uint8Array()]);
  }
});

test('mux: a socket that offered sub-protocols fails where the server takes none', async () => {
  const key = `key ${(keys += 1)}`;
  const socket = new SharedWebSocket(URL_, ['one'], { mode: 'mux', key });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, n, number] = await worker.expect(PageKind.Open);
  const types = untilClosed(socket);
  const error = event<ErrorEvent>(socket, 'error');
  worker.post(1n, HubKind.Opened, number, 1, 0, '\n');
  assert.deepEqual(await types, ['error', 'close']);
  assert.match((await error).message, /sub-protocols/);
  assert.deepEqual(await worker.next(), [PageKind.Close, n + 1, number, 0, '']);
});

test('a socket has no fields, and a frozen one works', async () => {
  const { socket, worker, number } = await opened();
  assert.equal(JSON.stringify(socket), '{}');
  assert.deepEqual(Reflect.ownKeys(socket).filter((key) => typeof key === 'string'), []);
  Object.freeze(socket);
  socket.close();
  assert.deepEqual(await worker.next(), [PageKind.Close, 2, number, 0, '']);
  assert.equal(socket.readyState, SharedWebSocket.CLOSING);
});

test('the members throw for what is no socket', () => {
  const { close, send } = SharedWebSocket.prototype;
  assert.throws(() => close.call({} as WebSocket), TypeError);
  assert.throws(() => send.call({} as WebSocket, 'x'), TypeError);
  assert.throws(() => SharedWebSocket.prototype.url, TypeError);
});

test('send before open throws InvalidStateError', async () => {
  const { socket } = await connecting();
  assert.throws(() => socket.send('x'), thrown('InvalidStateError'));
});

test('send after close only grows bufferedAmount', async () => {
  const { socket, worker } = await opened();
  socket.close();
  await worker.expect(PageKind.Close);
  socket.send('üx');
  assert.equal(socket.bufferedAmount, 3);
});

test('bufferedAmount falls by what the hub says it sent', async () => {
  const { socket, worker } = await opened();
  socket.send('ü');
  socket.send(new Uint8Array(5));
  socket.send(new Blob(['abc']));
  assert.equal(socket.bufferedAmount, 10);
  await worker.expect(PageKind.Send);
  await worker.expect(PageKind.Send);
  const [, n] = await worker.expect(PageKind.Send);
  worker.post(1n, HubKind.Sent, n - 1);
  worker.post(1n, HubKind.Mirror, '');
  await event(socket, 'message');
  assert.equal(socket.bufferedAmount, 3);
});

test('close: code and reason go out, and come back', async () => {
  const { socket, worker, number } = await opened();
  socket.close(3001, 'bye');
  assert.equal(socket.readyState, SharedWebSocket.CLOSING);
  assert.deepEqual(await worker.next(), [PageKind.Close, 2, number, 3001, 'bye']);
  worker.post(1n, HubKind.Ended, number, 3001, 1, 'bye');
  const { code, reason, wasClean } = await event<CloseEvent>(socket, 'close');
  assert.deepEqual([code, reason, wasClean], [3001, 'bye', true]);
  assert.equal(socket.readyState, SharedWebSocket.CLOSED);
});

test('close while connecting: error and 1006, and not before close() returns', async () => {
  const { socket, worker, number } = await connecting();
  const types = untilClosed(socket);
  const closed = event<CloseEvent>(socket, 'close');
  socket.close();
  assert.equal(socket.readyState, SharedWebSocket.CLOSING);
  assert.deepEqual(await types, ['error', 'close']);
  const { code, wasClean } = await closed;
  assert.deepEqual([code, wasClean], [1006, false]);
  assert.deepEqual(await worker.next(), [PageKind.Close, 2, number, 0, '']);
});

test('close while connecting: 1006, though the server has opened it and closed it', async () => {
  const { socket, worker, number } = await connecting();
  const types = untilClosed(socket);
  const closed = event<CloseEvent>(socket, 'close');
  worker.post(1n, HubKind.Joined, number, 0, '\n');
  worker.post(1n, HubKind.Ended, number, 4001, 1, 'enough');
  socket.close();
  assert.deepEqual(await types, ['error', 'close']);
  const { code, reason, wasClean } = await closed;
  assert.deepEqual([code, reason, wasClean], [1006, '', false]);
});

test('a mirror: a page says that it begins anew after it heard of another hub', async () => {
  const { socket, worker } = await opened();
  worker.post(2n, HubKind.Resync);
  assert.equal((await event<CloseEvent>(socket, 'close')).code, 1006);
  const { worker: next } = await connecting({}, 'begins anew');
  const again = new SharedWebSocket(URL_, [], { key: 'begins anew' });
  await next.expect(PageKind.Open);
  next.post(2n, HubKind.Resync);
  // It may not go on: what the hub has said to it may be lost.
  assert.deepEqual((await next.expect(PageKind.Attach)).slice(4), [0, 0]);
  next.welcome(2n);
  // So what it wants is asked for again, and counted from the beginning.
  assert.equal((await next.expect(PageKind.Open))[1], 1);
  assert.equal(again.readyState, SharedWebSocket.CONNECTING);
});

test('close while connecting: a handler that is set after an await hears it', async () => {
  const { socket } = await connecting();
  socket.close();
  for (let turn = 0; turn < 50; turn += 1) await undefined;
  assert.deepEqual(await untilClosed(socket), ['error', 'close']);
});

test('close: wrong codes and reasons', async () => {
  const { socket } = await opened();
  for (const code of [0, 999, 1001, 1005, 2999, 5000, NaN, -1, 66536]) {
    assert.throws(() => socket.close(code), thrown('InvalidAccessError'));
  }
  assert.throws(() => socket.close(3000, 'ü'.repeat(62)), thrown('SyntaxError'));
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
});

test('messages that come after close() are dropped', async () => {
  const { socket, worker, number } = await opened();
  const types = untilClosed(socket);
  socket.close();
  worker.post(1n, HubKind.Mirror, 'late');
  worker.post(1n, HubKind.Ended, number, 1005, 1, '');
  assert.deepEqual(await types, ['close']);
});

test('the last socket gone, the hub is left, and a new socket starts anew', async () => {
  const { worker, number, socket, key } = await opened({}, 0x1a57n);
  worker.post(0x1a57n, HubKind.Ended, number, 1006, 0, '');
  await event(socket, 'close');
  await worker.expect(PageKind.Bye);
  browser.grant('tabmux:hub:0000000000001a57');
  assert.equal(lastWorker(), worker);
  new SharedWebSocket(URL_, [], { key });
  assert.notEqual(lastWorker(), worker);
});

test('an error of the hub becomes an error event before close, in state CLOSED', async () => {
  const { socket, worker, number } = await connecting();
  const error = event<ErrorEvent>(socket, 'error');
  const types = untilClosed(socket);
  worker.post(1n, HubKind.Error, number, 'no such path');
  worker.post(1n, HubKind.Ended, number, 1006, 0, '');
  socket.onerror = () => assert.equal(socket.readyState, SharedWebSocket.CLOSED);
  assert.deepEqual(await types, ['error', 'close']);
  assert((await error) instanceof Event);
  assert.equal((await error).message, 'no such path');
});

test('URLs: relative ones and http', () => {
  const at = (url: string | URL) => new SharedWebSocket(url).url;
  assert.equal(at('other?x'), 'ws://page.test/folder/other?x');
  assert.equal(at('//other.test'), 'ws://other.test/');
  assert.equal(at('https://other.test:444/a b'), 'wss://other.test:444/a%20b');
  assert.equal(at('https://other.test:443/'), 'wss://other.test/');
  assert.equal(at(new URL('wss://other.test')), 'wss://other.test/');
});

test('URLs: wrong ones', () => {
  for (const url of ['ws://', 'ws://[', 'ftp://x/', 'about:blank', 'ws://x/#', 'ws://x/#y', '#']) {
    assert.throws(() => new SharedWebSocket(url), thrown('SyntaxError'), url);
  }
  assert.throws(() => new SharedWebSocket(Symbol('x') as unknown as string), TypeError);
  assert.throws(() => Reflect.construct(SharedWebSocket, []), TypeError);
  assert.equal(FakeWorker.all.length, 0);
});

test('sub-protocols: wrong ones', () => {
  for (const wrong of ['', 'a b', 'ü', ['one', 'one'], [''], 'a,b', 'a/b', {}, 'a\n']) {
    assert.throws(() => new SharedWebSocket(URL_, wrong as string), thrown('SyntaxError'));
  }
});

test('sub-protocols: any token, in any iterable', () => {
  new SharedWebSocket(URL_, new Set(['one', "!#$%&'*+-.^_`|~"]) as unknown as string[]);
  assert.match(lastWorker().name, /\["one","!#\$%&'\*\+-\.\^_`\|~"\]/);
});

test('sub-protocols: what is no text is made one', () => {
  new SharedWebSocket(URL_, [null, 5] as unknown as string[]);
  assert.match(lastWorker().name, /\["null","5"\]/);
  new SharedWebSocket(URL_, null as unknown as string);
  assert.match(lastWorker().name, /\["null"\]/);
});

test('an unknown mode is a TypeError that names the modes', () => {
  const options = { mode: 'both' } as unknown as SharedWebSocketOptions;
  assert.throws(() => new SharedWebSocket(URL_, [], options), {
    name: 'TypeError',
    message: /both.*mirror.*mux.*exclusive/,
  });
});

test('constants, and the lengths of functions', () => {
  const socket = unopened();
  for (const holder of [SharedWebSocket, SharedWebSocket.prototype, socket]) {
    const { CONNECTING, OPEN, CLOSING, CLOSED } = holder;
    assert.deepEqual([CONNECTING, OPEN, CLOSING, CLOSED], [0, 1, 2, 3]);
  }
  assert.equal(SharedWebSocket.length, 1);
});

test('a handler keeps its place among the listeners', () => {
  const socket = unopened();
  const order: string[] = [];
  socket.onopen = () => order.push('replaced');
  socket.addEventListener('open', () => order.push('listener'));
  socket.onopen = () => order.push('handler');
  socket.dispatchEvent(new Event('open'));
  assert.deepEqual(order, ['handler', 'listener']);
});

test('a handler set to null loses its place', () => {
  const socket = unopened();
  const order: string[] = [];
  const handler = () => order.push('handler');
  socket.onopen = handler;
  socket.addEventListener('open', () => order.push('listener'));
  socket.onopen = null;
  socket.dispatchEvent(new Event('open'));
  socket.onopen = handler;
  socket.dispatchEvent(new Event('open'));
  assert.deepEqual(order, ['listener', 'listener', 'handler']);
});

test('a handler that is no object reads as null; one that is no function is kept', () => {
  const socket = new SharedWebSocket(URL_) as unknown as { onopen: unknown } & EventTarget;
  assert.equal(socket.onopen, null);
  socket.onopen = 5;
  assert.equal(socket.onopen, null);
  const object = {};
  socket.onopen = object;
  socket.dispatchEvent(new Event('open'));
  assert.equal(socket.onopen, object);
});
