// Workers that do not start, die or are replaced, and pages that go and come back.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { FakeSocket } from './native.js';
import { SharedWebSocket, connect } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { FakeWorker, browser, event, failure, install, lastWorker, pair, tidy } from './rig.js';

install();
afterEach(tidy);

const SERVER = 'ws://host.test/';
let keys = 0;

/** The page's own socket, once it is there. */
async function ownOf(socket: SharedWebSocket): Promise<FakeSocket> {
  while (socket.tier !== 'page') await new Promise((wake) => setImmediate(wake));
  return FakeSocket.all.at(-1) as FakeSocket;
}

const mux = (path: string): SharedWebSocket =>
  new SharedWebSocket(SERVER, [], { mode: 'mux', key: path });

// After a script that did not load, sockets in mirror mode do without for a while: these are first.

test('the last resort: where there is no hub a socket is the own of its page', async () => {
  const socket = new SharedWebSocket(SERVER + 'own', ['a']);
  lastWorker().failed('tabmux: no wasm');
  const own = await ownOf(socket);
  assert.deepEqual([`${own.url}`, own.protocols], [SERVER + 'own', ['a']]);
  own.onopen?.();
  assert.deepEqual([socket.readyState, socket.protocol], [SharedWebSocket.OPEN, 'chosen']);
  socket.send('text');
  socket.send(Uint8Array.of(1));
  assert.deepEqual(own.said, ['text', Uint8Array.of(1)]);
  own.bufferedAmount = 5;
  assert.equal(socket.bufferedAmount, 5);
  const heard = event<MessageEvent>(socket, 'message');
  own.onmessage?.({ data: 'hello' });
  assert.equal((await heard).data, 'hello');
  socket.binaryType = 'arraybuffer';
  const bytes = event<MessageEvent>(socket, 'message');
  own.onmessage?.({ data: Uint8Array.of(7).buffer });
  assert.deepEqual((await bytes).data, Uint8Array.of(7).buffer);
  socket.close(3000, 'why');
  assert.deepEqual(own.closed, [[3000, 'why']]);
  const closed = event<CloseEvent>(socket, 'close');
  own.onclose?.({ code: 3000, reason: 'why', wasClean: true });
  const { code, reason, wasClean } = await closed;
  assert.deepEqual([code, reason, wasClean], [3000, 'why', true]);
});

test('the last resort: what it cannot open fails as a plain socket does', async () => {
  const socket = new SharedWebSocket(SERVER + 'none', [], { mode: 'exclusive' });
  lastWorker().failed('tabmux: no wasm');
  const own = await ownOf(socket);
  const message = failure(socket);
  own.onerror?.();
  own.onclose?.({ code: 1006, reason: '', wasClean: false });
  assert.match(await message, /no connection to ws:\/\/host\.test\/none/);
});

test('the last resort: where it is refused as well, both reasons are told', async () => {
  FakeSocket.refuses = true;
  const socket = new SharedWebSocket(SERVER + 'refused');
  lastWorker().failed('tabmux: no wasm');
  assert.equal(await failure(socket), 'tabmux: no wasm (refused by policy)');
});

test('no worker: the constructor throws', async () => {
  browser.refuses = true;
  const socket =
    new SharedWebSocket(SERVER, [], { mode: 'mux', key: 'lost', worker: '/lost/worker.js' });
  assert.equal(socket.readyState, SharedWebSocket.CONNECTING);
  assert.match(await failure(socket), /\/lost\/worker\.js .*worker-src.*option worker/);
});

test('no worker: the error event', async () => {
  const socket = mux('error');
  const message = failure(socket);
  lastWorker().onerror?.();
  assert.match(await message, /worker\.js did not start/);
});

test('a worker that has said nothing for thirty seconds is given up', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = mux('late');
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  const message = failure(socket);
  context.mock.timers.tick(30_499);
  assert.equal(socket.readyState, SharedWebSocket.CONNECTING);
  // What waits to be heard by a page that was blocked comes before the second timer.
  context.mock.timers.tick(1);
  context.mock.timers.tick(500);
  assert.match(await message, /worker\.js did not come/);
  await worker.expect(PageKind.Bye);
});

test('a worker that loads its module has thirty seconds for each word, and is asked again', async (
  context,
) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const client = connect(SERVER, { key: 'loads' });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  const states: unknown[] = [];
  client.on('status', ({ state, reason }) => states.push([state, reason]));
  for (const reason of ['1 kB', '2 kB']) {
    worker.failed(reason, HubKind.Loading);
    while (states.length < Number(reason[0])) await new Promise((wake) => setImmediate(wake));
    context.mock.timers.tick(29_000);
  }
  worker.failed('tabmux: status 404', HubKind.NotLoaded);
  while (states.length < 3) await new Promise((wake) => setImmediate(wake));
  assert.deepEqual(states, [
    ['connecting', '1 kB'], ['connecting', '2 kB'], ['backoff', 'tabmux: status 404'],
  ]);
  client.close();
});

test('no hub: a virtual socket fails', async () => {
  const socket = mux('failed');
  lastWorker().failed('tabmux: no wasm');
  assert.equal(await failure(socket), 'tabmux: no wasm');
});

test('a worker of another build: that of this build has a name of its own', async () => {
  const socket = mux('other');
  lastWorker().failed('tabmux: of two builds', HubKind.OtherBuild);
  await event(browser.listeners, 'worker');
  assert.match(lastWorker().url, /\/worker\.unit-test\.js$/);
  const failed = failure(socket);
  lastWorker().onerror?.();
  assert.equal(await failed, 'tabmux was updated: reload this page');
});

test('no worker: the next socket tries again', async () => {
  const socket = mux('again');
  const failed = failure(socket);
  const worker = lastWorker();
  worker.onerror?.();
  await failed;
  mux('again');
  assert.notEqual(lastWorker(), worker);
});

test('an error of a worker that runs is none of ours', async () => {
  const { worker, open } = await pair();
  worker.onerror?.();
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('the worker died: another is asked for, and the sockets go on there', async (context) => {
  const { open, waiting, worker, two, lock } = await pair();
  context.mock.timers.enable({ apis: ['setTimeout'] });
  browser.grant(lock);
  context.mock.timers.tick(100);
  context.mock.timers.tick(99);
  assert.ok(lastWorker() === worker, 'at once, Firefox would give us the dead one');
  context.mock.timers.tick(1);
  const next = lastWorker();
  assert.ok(next !== worker);
  assert.equal(next.name, worker.name);
  await next.expect(PageKind.Attach);
  next.attached(2n);
  next.resume(2n, 2);
  next.post(2n, HubKind.Opened, two, 2, 0, '\n');
  await event(waiting, 'open');
  assert.equal(waiting.shared.hubId, '0000000000000002');
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('the hub was replaced: Resync', async () => {
  const { open, waiting, worker, lock } = await pair();
  worker.post(2n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  worker.attached(2n);
  worker.resume(2n, 2);
  await worker.settled(2n);
  assert.equal(open.readyState, SharedWebSocket.OPEN);
  assert.equal(waiting.readyState, SharedWebSocket.CONNECTING);
  browser.grant(lock);
  assert.equal(lastWorker(), worker);
});

test('Resync for each of several messages is answered once', async () => {
  const { open, worker } = await pair();
  worker.post(2n, HubKind.Resync);
  worker.post(2n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  open.send('x');
  worker.attached(2n);
  worker.resume(2n, 2);
  await worker.expect(PageKind.Send);
});

test('a hub that trapped before it answered is followed', async () => {
  const { worker } = await pair();
  worker.post(2n, HubKind.Resync);
  worker.post(3n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  await worker.expect(PageKind.Attach);
});

test('a message of another hub is no message of ours: attach there', async () => {
  const { open, worker, one } = await pair();
  open.onmessage = () => assert.fail('of another hub');
  worker.post(2n, HubKind.Message, one, 2, 0, 'x');
  await worker.expect(PageKind.Attach);
});

test('what a hub says between a message that was not heard and Attached is not heard', async () => {
  const { open, worker, one } = await pair();
  const messages: unknown[] = [];
  open.onmessage = ({ data }) => messages.push(data);
  worker.post(2n, HubKind.Message, one, 2, 0, 'lost');
  await worker.expect(PageKind.Attach);
  // An answer would say that the page has the message.
  worker.post(2n, HubKind.Check, 0, 2);
  worker.attached(2n);
  worker.resume(2n);
  worker.post(2n, HubKind.Message, one, 2, 0, 'again');
  worker.post(2n, HubKind.Check, 0, 2);
  let message = await worker.next();
  while (message[0] !== PageKind.Got) message = await worker.next();
  assert.deepEqual(messages, ['again']);
});

test('pagehide into the cache: Park, no lock held or waited for', async () => {
  const { worker } = await pair();
  browser.page('pagehide', true);
  await worker.expect(PageKind.Park);
  assert.deepEqual([...browser.held.keys()], []);
  assert.deepEqual(browser.waiting, []);
  browser.page('pageshow', true);
});

test('back from the cache: the lock, Park and Attach; the sockets live on', async () => {
  const { worker, open, waiting, two, hub } = await pair();
  browser.page('pagehide', true);
  await worker.expect(PageKind.Park);
  browser.page('pageshow', true);
  await worker.expect(PageKind.Park);
  await worker.expect(PageKind.Attach);
  assert.equal([...browser.held.keys()].filter((name) => name.startsWith('tabmux:tab:')).length, 1);
  worker.attached(hub);
  worker.resume(hub, 2);
  worker.post(hub, HubKind.Opened, two, 2, 0, '\n');
  await event(waiting, 'open');
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('back from the cache: a Resume of before is not heard, since another one comes', async () => {
  const { worker, open, hub } = await pair();
  browser.page('pagehide', true);
  await worker.expect(PageKind.Park);
  browser.page('pageshow', true);
  await worker.expect(PageKind.Park);
  await worker.expect(PageKind.Attach);
  worker.post(hub, HubKind.Renew, 0, 0, 'of another session');
  worker.attached(hub);
  worker.resume(hub, 2);
  await worker.settled(hub);
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('its lock is stolen: it waits for it again, and then says that it is there', async () => {
  const { worker, open, hub, lock } = await pair();
  const mine = [...browser.held.keys()].find((name) => name.startsWith('tabmux:tab:')) ?? '';
  browser.steal(mine);
  // Until the thief lets go, no hub takes it for dead.
  open.send('still here');
  assert.equal((await worker.expect(PageKind.Send))[3], 'still here');
  browser.isStolen = '';
  browser.grant(mine);
  await worker.expect(PageKind.Park);
  await worker.expect(PageKind.Attach);
  worker.attached(hub);
  worker.resume(hub, 2);
  assert.equal((await worker.expect(PageKind.Send))[3], 'still here');
  assert.equal(open.readyState, SharedWebSocket.OPEN);
  const watches = browser.waiting.filter(({ name }) => name === lock);
  assert.ok(watches.length, 'its hub is watched again');
});

test('back from the cache: what was on its way before has holes, and is not heard', async () => {
  const { worker, open, client, hub, one } = await pair();
  const heard: unknown[] = [];
  open.addEventListener('message', ({ data }) => heard.push(data));
  client.on('message', ({ data }) => heard.push(data));
  worker.post(hub, HubKind.Message, one, 2, 65, 'before');
  await worker.settled(hub);
  browser.page('pagehide', true);
  await worker.expect(PageKind.Park);
  // The engine has dropped the one with the count 3, and a message to all with the count 1.
  const stale = (): void => {
    worker.post(hub, HubKind.Message, one, 4, 65, 'after a hole');
    worker.post(hub, HubKind.Browser, 2, 'after a hole');
    worker.post(hub, HubKind.Check, 2, 4);
  };
  stale();
  browser.page('pageshow', true);
  await worker.expect(PageKind.Park);
  const [, , , , last0, last] = await worker.expect(PageKind.Attach);
  assert.deepEqual([last0, last], [0, 2], 'both are to come again');
  stale();
  worker.attached(hub);
  worker.resume(hub, 2);
  ['what was dropped', 'again'].forEach((text, index) =>
    worker.post(hub, HubKind.Message, one, 3 + index, 65, text));
  await worker.settled(hub);
  assert.deepEqual(heard, ['before', 'what was dropped', 'again']);
});

test('back from the cache: topics are asked for again, from where the page is', async () => {
  const { worker, client, hub } = await pair();
  client.topic('prices');
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(hub, HubKind.Subscribed, number, 7, 100);
  worker.post(hub, HubKind.Publication, number, 7, 101, 'heard');
  await worker.settled(hub);
  browser.page('pagehide', true);
  worker.post(hub, HubKind.Publication, number, 7, 103, 'after a hole');
  browser.page('pageshow', true);
  for (const kind of [PageKind.Park, PageKind.Park, PageKind.Attach] as const) {
    await worker.expect(kind);
  }
  // From a hub that has forgotten this tab; it has not got the Attach yet, and will.
  worker.post(hub, HubKind.Resync);
  const again = await worker.expect(PageKind.Subscribe);
  assert.deepEqual(again.slice(2), ['prices', 7, 101]);
});

test('a hub that answers although its lock is granted is asked from then on', async () => {
  const { open, worker, lock } = await pair();
  const another = event(browser.listeners, 'worker');
  browser.grant(lock);
  await worker.expect(PageKind.Pong);
  worker.ping();
  await another;
  const [, , config] = await lastWorker().expect(PageKind.Attach);
  assert.equal(config.locks, false);
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('the worker died and nobody needs another', async (context) => {
  const { open, waiting, client, worker, hub, lock, one } = await pair();
  worker.post(hub, HubKind.Closed, one, 2, 1000, 1, '');
  await event(open, 'close');
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const closed = failure(waiting);
  client.on('status', () => {
    client.close();
    waiting.close();
  });
  browser.grant(lock);
  context.mock.timers.tick(100);
  await closed;
  context.mock.timers.tick(100);
  assert.ok(lastWorker() === worker);
});

test('back from the cache to a dead worker: its lock tells', async (context) => {
  const { worker, lock } = await pair();
  browser.page('pagehide', true);
  browser.page('pageshow', true);
  for (const kind of [PageKind.Park, PageKind.Park, PageKind.Attach] as const) {
    await worker.expect(kind);
  }
  context.mock.timers.enable({ apis: ['setTimeout'] });
  browser.grant(lock);
  context.mock.timers.tick(100);
  context.mock.timers.tick(100);
  assert.ok(lastWorker() !== worker);
  await lastWorker().expect(PageKind.Attach);
});

test('back from the cache before the hub was known: no lock of a hub is waited for', async () => {
  const socket = new SharedWebSocket('/', [], { mode: 'mux', key: `early ${(keys += 1)}` });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  browser.page('pagehide', true);
  browser.page('pageshow', true);
  for (const kind of [PageKind.Park, PageKind.Park, PageKind.Attach] as const) {
    await worker.expect(kind);
  }
  const hubLocks = browser.waiting.filter(({ name }) => name.endsWith('0'.repeat(16)));
  assert.deepEqual(hubLocks, []);
  worker.welcome();
  worker.post(1n, HubKind.Opened, 1, 1, 0, '\n');
  await event(socket, 'open');
});

test('pagehide for good: Bye', async () => {
  const { worker } = await pair();
  browser.page('pagehide', false);
  await worker.expect(PageKind.Bye);
  browser.page('pageshow', true);
});

test('a tab without room: its sockets fail, and the next open once there is', async () => {
  const { waiting, client, worker, hub, key } = await pair();
  const options = { mode: 'mux', key } as const;
  const why = 'tabmux: a browser may have 64 tabs on this server';
  const told = failure(waiting);
  worker.post(hub, HubKind.State, LinkState.Full, 65, why);
  assert.equal(await told, why);
  assert.deepEqual([client.status.state, client.status.reason], ['backoff', why]);
  assert.equal(await failure(new SharedWebSocket('ws://host.test/late', [], options)), why);
  worker.post(hub, HubKind.State, LinkState.Connected, 64, '');
  worker.post(hub, HubKind.Renew, 0, 0, 'claim');
  await worker.expect(PageKind.Got);
  const next = new SharedWebSocket('ws://host.test/next', [], options);
  const [, , socket] = await worker.expect(PageKind.Open);
  worker.post(hub, HubKind.Opened, socket, 1, 2 ** 40, '\n');
  await event(next, 'open');
});

test('a client tells the status', async () => {
  const key = `status ${(keys += 1)}`;
  const client = connect('/', { key });
  assert.equal(client.status.state, 'connecting');
  const worker = lastWorker();
  assert.equal(worker.name, `tabmux:mux:unit-test:["ws://page.test/tabmux/ws","${key}"]`);
  await worker.expect(PageKind.Attach);
  const changed = new Promise((resolve) => client.on('status', resolve));
  worker.attached(0xffn, 3, LinkState.Backoff);
  const status = {
    state: 'backoff', user: undefined, tier: 'shared-worker', hubId: '00000000000000ff', tabs: 3,
    tried: [], reason: '',
  };
  assert.deepEqual(await changed, status);
  assert.deepEqual(client.status, status);
});

test('the status of a client is the same object until something in it changes', async () => {
  const client = connect('/', { key: `status ${(keys += 1)}` });
  const first = client.status;
  assert.equal(client.status, first);
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  let told: unknown;
  client.on('status', (status) => (told = status));
  worker.attached(1n, 2);
  await worker.settled();
  const second = client.status;
  assert.equal(told, second);
  assert.notEqual(second, first);
  // Said again, and not changed.
  worker.post(1n, HubKind.State, LinkState.Connected, 2, '');
  await worker.settled();
  assert.equal(client.status, second);
  worker.post(1n, HubKind.State, LinkState.Connected, 3, '');
  await worker.settled();
  assert.notEqual(client.status, second);
  assert.equal(client.status.tabs, 3);
});

test('a client tells messages to all, until its listener is taken off', async () => {
  const { client, worker, hub } = await pair();
  const seen: unknown[] = [];
  const abort = new AbortController();
  const off = client.on('message', ({ data }) => seen.push(['off', data]));
  client.on('message', ({ data }) => seen.push(['signal', data]), { signal: abort.signal });
  const next = () => new Promise((resolve) => client.on('message', resolve));
  worker.post(hub, HubKind.Browser, 1, 'one');
  await next();
  off();
  abort.abort();
  worker.post(hub, HubKind.Browser, 2, 'two');
  await next();
  assert.deepEqual(seen, [['off', 'one'], ['signal', 'one']]);
});

test('a message to this tab alone is a message of the client, and is heard once', async () => {
  const { client, worker, hub } = await pair();
  const seen: unknown[] = [];
  client.on('message', ({ data }) => seen.push(data));
  worker.post(hub, HubKind.Direct, 8, 'to the tab');
  worker.post(hub, HubKind.Direct, 8, 'to the tab');
  // It has a place in the tab's lane, and none in lane 0.
  worker.post(hub, HubKind.Browser, 1, 'to all');
  worker.post(hub, HubKind.Direct, 9, Uint8Array.of(7));
  await worker.settled(hub);
  assert.deepEqual(seen, ['to the tab', 'to all', Uint8Array.of(7)]);
});

test('a tab that the server ended is closed with the reason, and may come back', async () => {
  const { client, worker, hub, open, key } = await pair();
  const failed = failure(open);
  const reason = 'tabmux: the server ended this tab: moderated';
  worker.post(hub, HubKind.State, LinkState.Refused, 1, reason);
  worker.post(hub, HubKind.Lost, reason);
  assert.equal(await failed, reason);
  await worker.settled(hub);
  assert.deepEqual([client.status.state, client.status.reason], ['closed', reason]);
  // What is opened meanwhile fails for the same reason.
  const late = new SharedWebSocket(SERVER + 'late', [], { mode: 'mux', key });
  assert.equal(await failure(late), reason);
  worker.post(hub, HubKind.State, LinkState.Full, 1, reason);
  await worker.settled(hub);
  assert.equal(client.status.state, 'backoff');
  worker.post(hub, HubKind.State, LinkState.Connected, 1, '');
  worker.resume(hub, 0, 0);
  await worker.settled(hub);
  assert.deepEqual([client.status.state, client.status.reason], ['connected', '']);
});

test('a closed client says so once, and leaves the hub', async () => {
  const abort = new AbortController();
  const client = connect(SERVER, { key: `close ${(keys += 1)}`, signal: abort.signal });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  const seen: string[] = [];
  client.on('status', ({ state }) => seen.push(state));
  abort.abort();
  client.close();
  await worker.expect(PageKind.Bye);
  assert.deepEqual(seen, ['closed']);
});

test('a client keeps the hub when the last socket goes', async () => {
  const { open, waiting, worker, one, two, client, hub } = await pair();
  worker.post(hub, HubKind.Closed, one, 2, 1000, 1, '');
  worker.post(hub, HubKind.Closed, two, 3, 1006, 0, '');
  await Promise.all([event(open, 'close'), event(waiting, 'close')]);
  client.close();
  await worker.expect(PageKind.Bye);
});

test('a client of a worker that is refused is closed, with the reason', async () => {
  const client = connect(SERVER, { worker: '/lost.js' });
  const closed = new Promise<typeof client.status>((resolve) =>
    client.on('status', (status) => status.state === 'closed' && resolve(status)));
  lastWorker().onerror?.();
  assert.match((await closed).reason, /\/lost\.js/);
});

test('without locks it goes on', async () => {
  const { locks } = navigator;
  Object.assign(navigator, { locks: undefined });
  try {
    const socket = mux('no locks');
    const worker = lastWorker();
    await worker.expect(PageKind.Attach);
    worker.welcome();
    const [, , number] = await worker.expect(PageKind.Open);
    worker.post(1n, HubKind.Opened, number, 1, 0, '\n');
    await event(socket, 'open');
  } finally {
    Object.assign(navigator, { locks });
  }
  assert.equal(FakeWorker.all.length, 1);
});
