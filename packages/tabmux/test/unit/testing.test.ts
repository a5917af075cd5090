// `tabmux/testing`: the page library at a browser and a server in memory.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import { HubKind } from '../../src/protocol.js';
import { isHubMessage } from '../../src/shape.js';
import { testBed } from '../../src/entries/testing.js';
import type { TestBed } from '../../src/entries/testing.js';

const FEED = 'wss://example.org/feed';

let bed: TestBed;
beforeEach(() => {
  bed = testBed();
});
afterEach(() => bed.close());

/** The data of all messages of a socket or a topic. */
function heardBy(target: { addEventListener?: unknown; on?: unknown }): unknown[] {
  const heard: unknown[] = [];
  const hear = ({ data }: { data: unknown }): unknown => heard.push(data);
  const { addEventListener, on } = target as Record<string, (type: string, act: unknown) => void>;
  (addEventListener ?? on)?.call(target, 'message', hear);
  return heard;
}

test('two tabs look at one connection, and each hears the server', async () => {
  const one = new SharedWebSocket(FEED, ['json']);
  const two = new (bed.openTab().SharedWebSocket)(FEED, ['json']);
  const server = await bed.server.socket(FEED);
  await bed.settled();
  assert.deepEqual([bed.server.sockets.length, server.mode], [1, 'mirror']);
  assert.deepEqual([one.readyState, two.readyState, one.protocol], [1, 1, 'json']);
  assert.equal(one.shared.tabs, 2);
  const [first, second] = [heardBy(one), heardBy(two)];
  await server.send('hello');
  assert.deepEqual([first, second], [['hello'], ['hello']]);
  one.send('from one');
  two.send('from two');
  assert.deepEqual([await server.next(), await server.next()], ['from one', 'from two']);
});

test('a connection ends with its last view', async () => {
  const one = new SharedWebSocket(FEED);
  const tab = bed.openTab();
  new tab.SharedWebSocket(FEED);
  const server = await bed.server.socket();
  await bed.settled();
  one.close(3001, 'done');
  await bed.settled();
  assert.ok(server.isOpen);
  await tab.close();
  assert.deepEqual([server.isOpen, bed.server.sockets.length], [false, 0]);
});

test('a server that closes tells each view its code', async () => {
  const socket = new SharedWebSocket(FEED);
  const server = await bed.server.socket();
  await bed.settled();
  let code = 0;
  socket.onclose = (event) => (code = event.code);
  await server.close(4000, 'enough');
  assert.deepEqual([code, await server.closed], [4000, { code: 4000, reason: 'enough' }]);
});

test('a connection that is refused, cut or offline fails as one of WebSocket does', async () => {
  bed.server.refuse = ({ socket }) => (socket?.endsWith('/secret') ? 'not for you' : undefined);
  const errors: string[] = [];
  const open = (url: string): SharedWebSocket => {
    const socket = new SharedWebSocket(url);
    socket.onerror = ({ message }) => errors.push(message);
    return socket;
  };
  open('wss://example.org/secret');
  await bed.settled();
  assert.match(errors.pop() ?? '', /not for you/);
  const cut = open(FEED);
  await bed.server.socket(FEED);
  await bed.settled();
  await bed.cutLinks();
  assert.match(errors.pop() ?? '', /lost/);
  assert.equal(cut.readyState, SharedWebSocket.CLOSED);
  await bed.offline();
  open(FEED);
  await bed.settled();
  assert.match(errors.pop() ?? '', /offline/);
  await bed.online();
  assert.equal(open(FEED).readyState, SharedWebSocket.CONNECTING);
});

test('a dead worker costs mirror mode its connection', async () => {
  const socket = new SharedWebSocket(FEED);
  await bed.server.socket();
  await bed.settled();
  let code = 0;
  socket.onclose = (event) => (code = event.code);
  await bed.crashWorkers();
  assert.equal(code, 1006);
  new SharedWebSocket(FEED);
  assert.ok(await bed.server.socket());
});

test('latency is virtual time', async () => {
  bed.server.latency = 50;
  const socket = new SharedWebSocket(FEED);
  await bed.advance(49);
  assert.equal(socket.readyState, SharedWebSocket.CONNECTING);
  await bed.advance(1);
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
  const heard = heardBy(socket);
  const server = await bed.server.socket();
  await server.send('slow');
  assert.deepEqual(heard, []);
  await bed.advance(50);
  assert.deepEqual([heard, bed.now], [['slow'], 100]);
});

test('a page in the back/forward cache hears what it missed when it is back', async () => {
  const socket = new SharedWebSocket(FEED);
  const server = await bed.server.socket();
  await bed.settled();
  const heard = heardBy(socket);
  await bed.tab.park();
  await server.send('meanwhile');
  assert.deepEqual(heard, []);
  await bed.tab.restore();
  assert.deepEqual(heard, ['meanwhile']);
});

test('virtual sockets outlive links and workers, and lose nothing', async () => {
  const socket = new SharedWebSocket('/game', [], { mode: 'mux' });
  const server = await bed.server.socket('/game');
  await bed.settled();
  const heard = heardBy(socket);
  await bed.cutLinks();
  socket.send('up');
  await server.send('down');
  assert.deepEqual([heard, server.received], [[], []]);
  await bed.advance(1000);
  assert.deepEqual([heard, server.received], [['down'], ['up']]);
  await bed.crashWorkers();
  socket.send('to the next worker');
  await server.send('from before');
  assert.deepEqual(heard, ['down', 'from before']);
  assert.deepEqual(server.received, ['up', 'to the next worker']);
  socket.close(3000, 'bye');
  assert.deepEqual(await server.closed, { code: 3000, reason: 'bye' });
});

test('a session ends after 210 s without a link', async () => {
  const socket = new SharedWebSocket('/game', [], { mode: 'mux' });
  await bed.server.socket('/game');
  await bed.settled();
  await bed.offline();
  await bed.advance(209_999);
  assert.equal(bed.server.sockets.length, 1);
  await bed.advance(1);
  assert.equal(bed.server.sockets.length, 0);
  await bed.online();
  assert.equal(socket.readyState, SharedWebSocket.CLOSED);
});

test('topics and messages to all tabs', async () => {
  const tab = bed.openTab();
  const [one, two] = [connect('/'), tab.connect('/')];
  const prices = two.topic('prices');
  const heard = [heardBy(prices), heardBy(one), heardBy(two)];
  await prices.ready;
  await bed.server.publish('prices', '42');
  await bed.server.broadcast('to all');
  assert.deepEqual(heard, [['42'], ['to all'], ['to all']]);
  await tab.crash();
  assert.equal(one.status.tabs, 1);
});

test('a topic goes on where it was, or tells a gap', async () => {
  const topic = connect('/').topic('prices');
  await topic.ready;
  const told: unknown[] = [];
  topic.on('message', ({ data }) => told.push(data));
  topic.on('gap', () => told.push('gap'));
  await bed.offline();
  await bed.server.publish('prices', '1');
  await bed.online();
  assert.deepEqual(told, ['1']);
  await bed.offline();
  await bed.server.publish('prices', '2');
  bed.server.forget('prices');
  await bed.server.publish('prices', '3');
  await bed.online();
  assert.deepEqual(told, ['1', 'gap', '3']);
  await bed.restartServer();
  await bed.advance(0);
  assert.deepEqual(told, ['1', 'gap', '3', 'gap']);
});

test('a topic that the server refuses', async () => {
  bed.server.refuse = ({ topic }) => (topic === 'secret' ? 'not for you' : undefined);
  await assert.rejects(connect('/').topic('secret').ready, /not for you/);
});

test('its hubs say nothing that a hub of a worker does not say', async () => {
  const kinds = new Set<number>();
  const wrong: unknown[] = [];
  const { SharedWorker } = globalThis;
  Object.assign(globalThis, {
    SharedWorker: class extends SharedWorker {
      constructor(url: string, options: WorkerOptions) {
        super(url, options);
        let hear: (event: { data: unknown }) => unknown;
        Object.defineProperty(this.port, 'onmessage', {
          set: (handler) => (hear = handler),
          get: () => (event: { data: unknown[] }) => {
            kinds.add(event.data[0] as number);
            if (!isHubMessage(event.data)) wrong.push(event.data);
            return hear(event);
          },
        });
      }
    },
  });
  bed.server.refuse = ({ socket, topic }) =>
    ((topic ?? socket)?.endsWith('secret') ? 'no' : undefined);
  new SharedWebSocket(FEED);
  new SharedWebSocket('/secret');
  const game = new SharedWebSocket('/game', [], { mode: 'mux' });
  new SharedWebSocket('/secret', [], { mode: 'mux' });
  const client = connect('/');
  client.topic('prices');
  client.topic('secret');
  const [feed, virtual] = [await bed.server.socket(FEED), await bed.server.socket('/game')];
  await bed.settled();
  await feed.send('text');
  await feed.close(4000);
  await virtual.send(new Uint8Array(1));
  game.send('up');
  await bed.server.publish('prices', '1');
  await bed.server.broadcast('to all');
  await bed.tab.park();
  bed.server.forget('prices');
  await bed.server.publish('prices', '2');
  bed.server.forget('prices');
  await bed.tab.restore();
  await bed.crashWorkers();
  await bed.restartServer();
  await bed.advance(1000);
  await bed.close();
  assert.deepEqual(wrong, []);
  const said = [HubKind.Opened, HubKind.Message, HubKind.Closed, HubKind.Joined, HubKind.Ended,
    HubKind.Error, HubKind.Subscribed, HubKind.Publication, HubKind.Gap, HubKind.Unsubscribed,
    HubKind.Attached, HubKind.State, HubKind.Mirror, HubKind.Browser, HubKind.Resume, HubKind.Renew,
    HubKind.Sent, HubKind.Seen, HubKind.Resync, HubKind.Failed];
  assert.deepEqual(said.filter((kind) => !kinds.has(kind)), []);
});

test('the end of a block closes a test bed', async () => {
  await bed.close();
  const own = testBed();
  const socket = new SharedWebSocket(FEED);
  await own.settled();
  await own[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose') as never]();
  assert.equal(socket.readyState, SharedWebSocket.CLOSED);
});

test('what is open ends with the test bed, and the globals are as they were', async () => {
  const client = connect('/');
  const socket = new SharedWebSocket(FEED);
  await bed.settled();
  assert.equal(client.status.state, 'connected');
  await bed.close();
  assert.equal(client.status.state, 'closed');
  assert.equal(socket.readyState, SharedWebSocket.CLOSED);
  assert.equal('SharedWorker' in globalThis, false);
});

test('a second test bed is refused until the first one is closed', async () => {
  const own = globalThis.SharedWorker;
  const message = 'tabmux/testing: close the test bed before another one';
  assert.throws(() => testBed(), { message });
  assert.equal(globalThis.SharedWorker, own);
  await bed.close();
  assert.notEqual(globalThis.SharedWorker, own);
  const next = testBed();
  await bed.close();
  assert.throws(() => testBed(), /close the test bed/);
  await next.close();
});

test('a server that is to send no message says what it takes', async () => {
  new SharedWebSocket(FEED);
  const server = await bed.server.socket();
  const wrong = 5 as unknown as string;
  const calls = {
    send: () => server.send(wrong),
    publish: () => bed.server.publish('prices', wrong),
    broadcast: () => bed.server.broadcast(wrong),
  };
  for (const [name, call] of Object.entries(calls)) {
    const message = `tabmux/testing: ${name} takes a string or a Uint8Array, not number`;
    assert.throws(call, { name: 'TypeError', message });
  }
});

test('fake timers of a test runner change nothing', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] });
  const socket = new SharedWebSocket(FEED);
  const client = connect('http://localhost/');
  const topic = client.topic('prices');
  const [heard, published] = [heardBy(socket), heardBy(topic)];
  const server = await bed.server.socket(FEED);
  await bed.settled();
  await server.send('one');
  await bed.server.publish('prices', '42');
  await bed.offline();
  await bed.server.publish('prices', '43');
  await bed.online();
  assert.deepEqual([heard, published], [['one'], ['42', '43']]);
});

test('with a function the tab that came last is asked where the connection goes', async () => {
  const one = new SharedWebSocket(() => `${FEED}?token=1`, [], { shareBy: 'feed' });
  const server = await bed.server.socket(`${FEED}?token=1`);
  await bed.settled();
  assert.deepEqual([one.readyState, one.url, server.isOpen], [1, `${FEED}?token=1`, true]);
});

test('a function that fails ends the socket, with its reason', async () => {
  const failing = new SharedWebSocket(() => Promise.reject(new Error('logged out')), [],
    { shareBy: 'failing' });
  let text = '';
  failing.onerror = (event) => (text = (event as unknown as { message: string }).message);
  await bed.advance(1000);
  assert.match(text, /could not say where failing is: Error: logged out/);
});

test('an answer goes to the tab that it names, and a late tab hears the last message', async () => {
  const rules = { routeBy: 'from', replayLast: 1 };
  const one = new SharedWebSocket(FEED, [], rules);
  const two = new (bed.openTab().SharedWebSocket)(FEED, [], rules);
  const server = await bed.server.socket(FEED);
  await bed.settled();
  const [first, second] = [heardBy(one), heardBy(two)];
  const answer = JSON.stringify({ from: two.shared.tabId });
  await server.send(answer);
  assert.deepEqual([first, second], [[], [answer]]);
  await server.send('to all');
  const late = heardBy(new (bed.openTab().SharedWebSocket)(FEED, [], rules));
  await bed.settled();
  assert.deepEqual([first, late], [['to all'], ['to all']]);
});

test('a connection lingers after its last view', async () => {
  const options = { linger: 5000 };
  const one = new SharedWebSocket(FEED, [], options);
  const server = await bed.server.socket();
  await bed.settled();
  one.close();
  await bed.advance(4999);
  assert.ok(server.isOpen);
  const two = new SharedWebSocket(FEED, [], options);
  await bed.advance(5000);
  assert.deepEqual([two.readyState, bed.server.sockets.length, server.isOpen], [1, 1, true]);
  two.close();
  await bed.advance(5000);
  assert.deepEqual(await server.closed, { code: 1000, reason: '' });
});

test('views stay open while the connection is dialled again', async () => {
  const rules = { reconnect: { minMs: 100, maxMs: 150, attempts: 3 } };
  const one = new SharedWebSocket(FEED, [], rules);
  const two = new (bed.openTab().SharedWebSocket)(FEED, [], rules);
  const heard: string[] = [];
  for (const socket of [one, two]) {
    for (const type of ['error', 'close', 'reconnect']) {
      socket.addEventListener(type, () => heard.push(type));
    }
  }
  const first = await bed.server.socket();
  await bed.settled();
  await first.close(1012, 'update');
  one.send('kept');
  bed.server.refuse = () => 'not now';
  await bed.advance(100);
  bed.server.refuse = () => undefined;
  await bed.advance(149);
  assert.deepEqual([heard, bed.server.sockets.length], [[], 0]);
  await bed.advance(1);
  const second = await bed.server.socket();
  assert.deepEqual([heard, second.received], [['reconnect', 'reconnect'], ['kept']]);
  bed.server.refuse = () => 'never';
  await bed.cutLinks();
  await bed.advance(1000);
  assert.deepEqual(heard.slice(2), ['error', 'close', 'error', 'close']);
});

test('an outage without a network waits for one', async () => {
  const socket = new SharedWebSocket(FEED, [], { reconnect: { attempts: 1 } });
  await bed.settled();
  await bed.offline();
  await bed.advance(60_000);
  assert.equal(socket.readyState, SharedWebSocket.OPEN);
  const again = new Promise((resolve) => socket.addEventListener('reconnect', resolve));
  await bed.online();
  await again;
  assert.equal(bed.server.sockets.length, 1);
});

test('a page asks for a new connection, and its view stays open', async () => {
  const socket = new SharedWebSocket(FEED);
  const first = await bed.server.socket();
  await bed.settled();
  const again = new Promise((resolve) => socket.addEventListener('reconnect', resolve));
  socket.reconnect();
  await again;
  assert.deepEqual([first.isOpen, bed.server.sockets.length], [false, 1]);
});

test('exclusive sockets have a connection each', async () => {
  const options = { mode: 'exclusive' } as const;
  const one = new SharedWebSocket(FEED, ['a'], options);
  const two = new SharedWebSocket(FEED, [], options);
  const [first, second] = [await bed.server.socket(), await bed.server.socket()];
  await bed.settled();
  assert.deepEqual([first.mode, first.protocols, second.protocols], ['exclusive', ['a'], []]);
  const [ones, twos] = [heardBy(one), heardBy(two)];
  await first.send('to one');
  two.send('from two');
  assert.deepEqual([ones, twos, await second.next()], [['to one'], [], 'from two']);
  one.close(3000, 'bye');
  assert.deepEqual(await first.closed, { code: 3000, reason: 'bye' });
  const codes: number[] = [];
  two.onclose = ({ code }) => codes.push(code);
  await bed.cutLinks();
  assert.deepEqual([codes, bed.server.sockets.length], [[1006], 0]);
  bed.server.refuse = () => 'full';
  const refused = new SharedWebSocket(FEED, [], options);
  const error = new Promise<string>((resolve) => {
    refused.onerror = ({ message }) => resolve(message);
  });
  assert.match(await error, /could not be opened \(full\)/);
});

test('an exclusive socket ends when its page goes into the back/forward cache', async () => {
  const socket = new SharedWebSocket(FEED, [], { mode: 'exclusive' });
  const server = await bed.server.socket();
  await bed.settled();
  let code = 0;
  socket.onclose = (event) => (code = event.code);
  await bed.tab.park();
  assert.deepEqual([server.isOpen, code], [false, 0]);
  await bed.tab.restore();
  assert.equal(code, 1006);
});

test('a socket of who logs in is of that user, and the client is once the link is', async () => {
  await bed.logIn();
  const client = connect('/');
  const topic = client.topic('prices');
  let gaps = 0;
  topic.on('gap', () => (gaps += 1));
  await bed.settled();
  assert.deepEqual([client.status.state, client.status.user], ['connected', undefined]);
  await bed.logIn('ann');
  const socket = new SharedWebSocket('/chat', [], { mode: 'mux' });
  await bed.settled();
  assert.deepEqual([socket.readyState, client.status.user], [1, undefined]);
  assert.notEqual(socket.shared.hubId, client.status.hubId);
  await bed.cutLinks();
  await bed.advance(1000);
  await bed.settled();
  assert.deepEqual([client.status.state, client.status.user, gaps], ['connected', 'ann', 1]);
  assert.equal(socket.readyState, 1, 'its session went on');
  assert.equal(socket.shared.hubId, client.status.hubId);
  client.logout();
  await bed.settled();
  assert.deepEqual([client.status.state, client.status.reason], ['closed', 'tabmux: logged out']);
  assert.equal(socket.readyState, 3);
});
