// A session that outlives links and hubs: what the page keeps, says again and hears once.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { TestContext } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import type { ConnectOptions } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { browser, event, failure, install, lastWorker, pair, tidy } from './rig.js';
import type { FakeWorker } from './rig.js';

install();
afterEach(tidy);

type Pair = Awaited<ReturnType<typeof pair>>;

const MIB = 1 << 20;
const SERVER = 'ws://host.test/';
/** Where the rig's page finds `worker.js`. */
const HERE = 'http://page.test/folder/worker.js';
/** What is behind the lock's name in that of a claim. */
const PLACE = `shared-worker${HERE}`;
const NEXT = 0xffffn;

/** The worker dies. Returns the next one, and what the page says to it first. */
async function dies({ worker, lock }: Pair, context: TestContext) {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  browser.grant(lock);
  context.mock.timers.tick(100);
  context.mock.timers.tick(100);
  const next = lastWorker();
  assert.ok(next !== worker);
  const [, , , ...shown] = await next.expect(PageKind.Attach);
  return { next, shown };
}

/** The link is gone, and the page knows. */
async function linkDies({ worker, hub }: Pair): Promise<void> {
  worker.post(hub, HubKind.State, LinkState.Connecting, 1, '');
  await worker.settled(hub);
}

/** What the page says on sockets until it has handled all: `[n, data]`. */
async function said(worker: FakeWorker, hub: bigint): Promise<unknown[]> {
  worker.post(hub, HubKind.Check, 0, 0);
  const all: unknown[] = [];
  for (;;) {
    const message = await worker.next();
    if (message[0] === PageKind.Got) return all;
    if (message[0] === PageKind.Send) all.push([message[1], message[3]]);
  }
}

/** All messages of a socket from now on. */
function heard(socket: SharedWebSocket): unknown[] {
  const all: unknown[] = [];
  socket.onmessage = ({ data }) => all.push(data);
  return all;
}

/** What a page with these options has found, as it shows it behind a comma. */
async function shown(options: ConnectOptions): Promise<string> {
  connect(SERVER, options);
  return (await lastWorker().expect(PageKind.Attach))[3];
}

test('a page that has no claim shows what others left of theirs', async () => {
  browser.storage.clear();
  const { worker, hub, key } = await pair();
  worker.resume(hub, 2, -1, 'session1 alias');
  await worker.settled(hub);
  const [[name, claim]] = [...browser.storage] as [[string, string]];
  const lock = `tabmux:socket:mux:unit-test:["ws://host.test/tabmux/ws","${key}"]`;
  assert.ok(name.startsWith(lock), name);
  assert.equal(claim, 'session1', 'what it is called itself is of no use to others');
  browser.storage.set(lock + PLACE, 'session2');
  assert.equal(await shown({ key, worker: './worker.js' }), ',session2');
  assert.equal(await shown({ key, worker: 'other.js' }), ',undefined', 'of another script');
  assert.equal(await shown({ key: 'of another user', worker: './worker.js' }), ',undefined');
});

test('what a page found is not its own: nothing is lost that it never had', async () => {
  const name = `tabmux:socket:mux:unit-test:["ws://host.test/tabmux/ws","found"]${PLACE}`;
  browser.storage.set(name, 'session1');
  const client = connect(SERVER, { key: 'found', worker: './worker.js' });
  const worker = lastWorker();
  assert.equal((await worker.expect(PageKind.Attach))[3], ',session1');
  const gaps: unknown[] = [];
  client.on('gap', (gap) => gaps.push(gap));
  worker.attached(7n);
  worker.resume(7n, 0, 0, 'session2 alias');
  await worker.settled(7n);
  assert.deepEqual(gaps, []);
  assert.equal(browser.storage.get(name), 'session2', 'the other one is over');
  worker.resume(7n, 0, 0, 'session3 alias');
  await worker.settled(7n);
  assert.equal(gaps.length, 1);
});

test('a page shows its own claim, and what another left since', async () => {
  browser.storage.clear();
  const { worker, hub } = await pair();
  worker.resume(hub, 2, -1, 'session1 alias');
  await worker.settled(hub);
  const [[name]] = [...browser.storage] as [[string, string]];
  browser.storage.set(name, 'session2');
  worker.post(99n, HubKind.Resync);
  assert.equal((await worker.expect(PageKind.Attach))[3], 'session1 alias,session2');
});

test('where storage is refused, a page goes on without', async () => {
  browser.refusesStorage = true;
  try {
    const { worker, hub } = await pair();
    worker.resume(hub, 2, -1, 'session1 alias');
    await worker.settled(hub);
  } finally {
    browser.refusesStorage = false;
  }
});

test('in mirror mode nothing is left', async () => {
  browser.storage.clear();
  new SharedWebSocket(SERVER, [], { key: 'mirror' });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(1n);
  await worker.expect(PageKind.Open);
  assert.equal(browser.storage.size, 0);
});

test('what is said while there is no link is said after Resume, in order', async () => {
  const it = await pair();
  const { open, worker, hub } = it;
  await linkDies(it);
  open.send('a');
  open.send('b');
  assert.deepEqual(await said(worker, hub), [], 'nobody would take it');
  worker.post(hub, HubKind.State, LinkState.Connected, 1, '');
  worker.resume(hub, 2);
  assert.deepEqual(await said(worker, hub), [[3, 'a'], [4, 'b']]);
});

test('what the other end has seen is not said again', async () => {
  const it = await pair();
  const { open, worker, hub } = it;
  open.send('a');
  open.send('b');
  assert.deepEqual(await said(worker, hub), [[3, 'a'], [4, 'b']]);
  await linkDies(it);
  worker.resume(hub, 3);
  assert.deepEqual(await said(worker, hub), [[4, 'b']]);
});

test('a socket that is wanted while there is no link is asked for after Resume', async () => {
  const it = await pair();
  const { worker, hub, open } = it;
  await linkDies(it);
  const key = /"(pair \d+)"/.exec(worker.name)?.[1];
  new SharedWebSocket('ws://host.test/third', [], { mode: 'mux', key });
  open.send('before');
  worker.resume(hub, 2);
  assert.deepEqual((await worker.expect(PageKind.Send)).slice(1, 2), [3]);
  const [, n, , path] = await worker.expect(PageKind.Open);
  assert.deepEqual([n, path], [4, '/third']);
});

test('an open socket stays open without a link; one that is not open fails with why', async () => {
  const { worker, hub, open, waiting, two } = await pair();
  const message = failure(waiting);
  worker.post(hub, HubKind.State, LinkState.Backoff, 1, 'tabmux: no route');
  assert.equal(await message, 'tabmux: no route');
  assert.equal(open.readyState, SharedWebSocket.OPEN);
  worker.resume(hub, 2);
  assert.deepEqual(await worker.expect(PageKind.Close), [PageKind.Close, 3, two, 0, '']);
});

test('the next hub is shown the claim, and how much was heard', async (context) => {
  const it = await pair();
  const { worker, hub, one } = it;
  worker.resume(hub, 2, -1, 'the last claim');
  worker.post(hub, HubKind.Message, one, 7, 0, 'x');
  worker.post(hub, HubKind.Browser, 5, 'y');
  await worker.settled(hub);
  const { shown } = await dies(it, context);
  assert.deepEqual(shown, ['the last claim,the', 5, 7]);
});

test('the next hub gets what no hub was seen to pass on, once', async (context) => {
  const it = await pair();
  const { open, waiting, worker, hub } = it;
  open.send('a');
  open.send('b');
  await said(worker, hub);
  const { next } = await dies(it, context);
  open.send('c');
  next.attached(NEXT);
  assert.deepEqual(await said(next, NEXT), [], 'it does not know the tab yet');
  next.resume(NEXT, 3);
  assert.deepEqual(await said(next, NEXT), [[4, 'b'], [5, 'c']]);
  const states = [open.readyState, waiting.readyState];
  assert.deepEqual(states, [SharedWebSocket.OPEN, SharedWebSocket.CONNECTING]);
});

test('what the next hub says again of the lane is not heard again', async (context) => {
  const it = await pair();
  const { open, worker, hub, one } = it;
  const all = heard(open);
  worker.post(hub, HubKind.Message, one, 2, 0, 'a');
  await worker.settled(hub);
  const { next } = await dies(it, context);
  next.attached(NEXT);
  next.resume(NEXT, 2);
  next.post(NEXT, HubKind.Message, one, 2, 0, 'a');
  next.post(NEXT, HubKind.Message, one, 3, 0, 'b');
  await next.settled(NEXT);
  assert.deepEqual(all, ['a', 'b']);
});

test('what the next hub says again to the whole browser is not heard again', async (context) => {
  const it = await pair();
  const { client, worker, hub } = it;
  const all: unknown[] = [];
  client.on('message', ({ data }) => all.push(data));
  worker.post(hub, HubKind.Browser, 4, 'a');
  await worker.settled(hub);
  const { next } = await dies(it, context);
  next.attached(NEXT);
  next.resume(NEXT, 2);
  next.post(NEXT, HubKind.Browser, 4, 'a');
  next.post(NEXT, HubKind.Browser, 5, 'b');
  await next.settled(NEXT);
  assert.deepEqual(all, ['a', 'b']);
});

test('a close that is told again is told once', async (context) => {
  const it = await pair();
  const { open, worker, hub, one } = it;
  const closed = event<CloseEvent>(open, 'close');
  worker.post(hub, HubKind.Closed, one, 2, 1000, 1, '');
  assert.equal((await closed).wasClean, true);
  open.onclose = () => assert.fail('twice');
  const { next } = await dies(it, context);
  next.attached(NEXT);
  next.resume(NEXT, 2);
  next.post(NEXT, HubKind.Closed, one, 2, 1000, 1, '');
  await next.settled(NEXT);
});

test('another session: open sockets are lost, and say so', async () => {
  const { open, waiting, worker, hub } = await pair();
  const message = failure(open);
  worker.resume(hub, 0, 0);
  assert.match(await message, /the connection is lost/);
  assert.equal(waiting.readyState, SharedWebSocket.CONNECTING);
});

test('another session: what still connects is asked for again, counted from 1', async () => {
  const it = await pair();
  const { open, worker, two, hub } = it;
  open.send('lost');
  await said(worker, hub);
  worker.resume(hub, 0, 0);
  assert.deepEqual(await worker.expect(PageKind.Open), [PageKind.Open, 1, two, '/waiting', []]);
  assert.equal(worker.anew, 0, 'it said first that it heard of it');
  assert.deepEqual(await said(worker, hub), []);
});

test('another session: its counts begin anew', async () => {
  const { waiting, client, worker, two, hub } = await pair();
  worker.post(hub, HubKind.Message, two, 90, 0, 'not open');
  worker.post(hub, HubKind.Browser, 90, 'of the old one');
  worker.resume(hub, 0, 7);
  await worker.expect(PageKind.Open);
  const all: unknown[] = [];
  client.on('message', ({ data }) => all.push(data));
  worker.post(hub, HubKind.Browser, 7, 'from before');
  worker.post(hub, HubKind.Browser, 8, 'new');
  worker.post(hub, HubKind.Opened, two, 1, 0, '\n');
  await event(waiting, 'open');
  assert.deepEqual(all, ['new']);
});

test('Lost: open sockets close with why, and what any page finds is shown', async (context) => {
  const it = await pair();
  const { open, worker, hub } = it;
  worker.post(hub, HubKind.Browser, 4, 'a');
  const message = failure(open);
  worker.resume(hub, 2, -1, 'session alias');
  worker.post(hub, HubKind.Lost, 'tabmux: away for 60 s');
  assert.equal(await message, 'tabmux: away for 60 s');
  const { shown } = await dies(it, context);
  assert.deepEqual(shown, [',session', 0, 0]);
});

test('a session that ends is no news to a client, whose status is the same', async () => {
  const { open, client, worker, hub } = await pair();
  client.on('status', () => assert.fail('it did not change'));
  worker.resume(hub, 0, 0);
  await failure(open);
});

test('a session that ends is told once as a gap in what is said to all tabs', async () => {
  const { open, client, worker, hub } = await pair();
  let gaps = 0;
  client.on('gap', () => (gaps += 1));
  const ended = failure(open);
  worker.post(hub, HubKind.Lost, 'tabmux: away for 60 s');
  await ended;
  worker.resume(hub, 0, 0);
  await worker.expect(PageKind.Open);
  assert.equal(gaps, 1);
});

test('Check is answered with its counts', async () => {
  const { worker, hub } = await pair();
  worker.post(hub, HubKind.Check, 12, 34);
  assert.deepEqual(await worker.expect(PageKind.Got), [PageKind.Got, 12, 34]);
});

test('Check counts what is of no concern to this tab', async (context) => {
  const it = await pair();
  it.worker.post(it.hub, HubKind.Check, 12, 34);
  await it.worker.expect(PageKind.Got);
  const { shown } = await dies(it, context);
  assert.deepEqual(shown.slice(1), [12, 34]);
});

test('a hub that is behind this tab takes nothing back by its Check', async (context) => {
  const it = await pair();
  const { worker, hub, one } = it;
  worker.post(hub, HubKind.Message, one, 34, 0, 'x');
  worker.post(hub, HubKind.Browser, 12, 'x');
  worker.post(hub, HubKind.Check, 11, 33);
  assert.deepEqual(await worker.expect(PageKind.Got), [PageKind.Got, 11, 33]);
  const { shown } = await dies(it, context);
  assert.deepEqual(shown.slice(1), [12, 34]);
});

test('bufferedAmount does not grow when another link is given it again', async () => {
  const it = await pair();
  const { open, worker, hub } = it;
  open.send('a');
  open.send('bc');
  assert.equal(open.bufferedAmount, 3);
  worker.post(hub, HubKind.Sent, 4);
  await said(worker, hub);
  assert.equal(open.bufferedAmount, 0);
  await linkDies(it);
  worker.resume(hub, 2);
  worker.post(hub, HubKind.Sent, 3);
  await said(worker, hub);
  assert.equal(open.bufferedAmount, 0);
});

test('more than 16 MiB unseen fails the socket, and closes it at the other end', async () => {
  const { open, worker, hub, one } = await pair();
  open.send(new Uint8Array(15 * MIB));
  open.send(new Uint8Array(MIB - 1000));
  assert.deepEqual([open.readyState, open.bufferedAmount], [1, 16 * MIB - 1000]);
  const message = failure(open);
  open.send(new Uint8Array(1000));
  assert.match(await message, /over 16 MiB unsent/);
  assert.equal(open.bufferedAmount, 16 * MIB, 'it never falls again');
  assert.equal((await said(worker, hub)).length, 2);
  worker.resume(hub, 4);
  assert.deepEqual(await worker.expect(PageKind.Close), [PageKind.Close, 5, one, 0, '']);
});

test('what was seen takes no room any more', async () => {
  const { open, worker, hub } = await pair();
  for (let n = 3; n < 6; n += 1) {
    open.send(new Uint8Array(15 * MIB));
    worker.post(hub, HubKind.Seen, n);
    await said(worker, hub);
  }
  assert.equal(open.readyState, SharedWebSocket.OPEN);
});

test('empty messages that are kept take room too', async () => {
  const it = await pair();
  await linkDies(it);
  const message = failure(it.open);
  let count = 0;
  while (it.open.readyState === SharedWebSocket.OPEN && count < MIB) {
    it.open.send('');
    count += 1;
  }
  assert.match(await message, /over 16 MiB unsent/);
});

test('messages to all that were missed are a gap of the client', async () => {
  const { client, worker, hub } = await pair();
  const gap = new Promise((resolve) => client.on('gap', resolve));
  client.on('message', () => assert.fail('it is none'));
  worker.post(hub, HubKind.BrowserGap);
  await gap;
});

/** An open view in mirror mode. */
async function view(key: string) {
  const socket = new SharedWebSocket('ws://host.test/', [], { key });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(1n, 1);
  const [, , number] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, number, 0, '\n');
  await event(socket, 'open');
  return { socket, worker };
}

test('mirror: open views close as soon as another hub speaks', async () => {
  const { socket, worker } = await view('mirror dies');
  const other = new SharedWebSocket('ws://host.test/', [], { key: 'mirror dies' });
  socket.onmessage = () => assert.fail('said on another connection');
  const message = failure(socket);
  worker.post(2n, HubKind.Resync);
  assert.match(await message, /lost/);
  await worker.expect(PageKind.Open);
  await worker.expect(PageKind.Attach);
  // The hub before, which was not dead, and has told the page meanwhile that the view is closed.
  worker.attached();
  worker.resume(1n, 3);
  worker.post(1n, HubKind.Joined, 2, 0, '\n');
  await event(other, 'open');
  worker.post(1n, HubKind.Mirror, 'for the second');
  await event(other, 'message');
});

test('mirror: what was handed to the link takes no room any more', async () => {
  const { socket, worker } = await view('mirror sends');
  for (let n = 2; n < 5; n += 1) {
    socket.send(new Uint8Array(15 * MIB));
    worker.post(1n, HubKind.Sent, n);
    await said(worker, 1n);
  }
  assert.deepEqual([socket.readyState, socket.bufferedAmount], [1, 0]);
});

test('mirror: what was posted is not said again', async () => {
  const { socket, worker } = await view('mirror returns');
  socket.send('');
  browser.page('pagehide', true);
  browser.page('pageshow', true);
  worker.attached();
  worker.resume(1n, 2);
  assert.deepEqual(await said(worker, 1n), [[2, '']]);
});

test('mirror: a page that left hears nothing before it is attached again', async () => {
  const { socket, worker } = await view('mirror drops');
  const all = heard(socket);
  worker.post(1n, HubKind.Mirror, 'one');
  await said(worker, 1n);
  browser.page('pagehide', true);
  worker.post(1n, HubKind.Mirror, 'two');
  worker.post(1n, HubKind.Mirror, 'three');
  browser.page('pageshow', true);
  const messages = [];
  for (let got; got?.[0] !== PageKind.Attach; messages.push(got)) got = await worker.next();
  // `Joined` and one message came after the 1 of `Renew`.
  const [, , , , last0] = messages.at(-1) as unknown[];
  assert.deepEqual([all, last0], [['one'], 3]);
  worker.attached();
  ['two', 'three'].forEach((text) => worker.post(1n, HubKind.Mirror, text));
  worker.resume(1n, 1);
  await said(worker, 1n);
  assert.deepEqual(all, ['one', 'two', 'three']);
});
