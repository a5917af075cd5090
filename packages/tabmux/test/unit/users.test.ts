// Whose the link is: what a page shows of it, whom it asks before it opens a socket, and where it
// goes when the browser is somebody else's.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { browser, event, install, lastWorker, tidy, untilClosed } from './rig.js';

install();
afterEach(tidy);

const HUB = 7n;
let count = 0;

/** Another server for each test: its link has no key. */
const server = (): string => `ws://host${(count += 1)}.test/`;

/** A client and a worker whose link is of this user, none where the server knows no users. */
async function of(user: string, options = {}) {
  const url = server();
  const client = connect(url, options);
  const worker = lastWorker();
  const [, , config] = await worker.expect(PageKind.Attach);
  worker.attached(HUB);
  if (user) worker.post(HUB, HubKind.User, 0, user);
  worker.resume(HUB, 0, 0);
  await worker.settled(HUB);
  return { url, client, worker, config };
}

const mux = (url: string, options = {}): SharedWebSocket =>
  new SharedWebSocket(url, [], { mode: 'mux', ...options });

test('status.user is the tag of the user whose the link is, and undefined for nobody', async () => {
  const seen: (string | undefined)[] = [];
  const { client, worker } = await of('');
  assert.equal(client.status.user, undefined);
  client.on('status', ({ user }) => seen.push(user));
  for (const user of ['nobody.', 'ann', 'ann']) {
    worker.post(HUB, HubKind.User, 0, user);
    await worker.settled(HUB);
  }
  assert.equal(client.status.user, 'ann');
  assert.deepEqual(seen, [undefined, 'ann'], 'the same is no news');
});

test('a socket that is opened later is asked about, and the next one waits', async () => {
  const { url, worker } = await of('ann');
  const first = mux(url + 'one');
  await worker.expect(PageKind.Whose);
  const second = mux(url + 'two');
  await worker.settled(HUB);
  worker.post(HUB, HubKind.User, 1, 'ann');
  const [, , , path] = await worker.expect(PageKind.Open);
  assert.equal(path, '/one');
  // It came when the question was on its way.
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'ann');
  assert.equal((await worker.expect(PageKind.Open))[3], '/two');
  assert.deepEqual([first, second].map(({ readyState }) => readyState), [0, 0]);
});

test('a socket of who has logged in goes to that user, and the others stay', async () => {
  const { url, client, worker } = await of('nobody.');
  const socket = mux(url + 'one');
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'ann');
  await worker.settled(HUB);
  const other = lastWorker();
  assert.ok(other !== worker && other.name === `${worker.name}#ann`, other.name);
  const [, , { lock, tag }] = await other.expect(PageKind.Attach);
  assert.ok(lock.endsWith('#ann') && tag === 'ann', lock);
  other.attached(8n);
  other.post(8n, HubKind.User, 0, 'ann');
  other.resume(8n, 0, 0);
  // It was asked about before: it is opened at once.
  const [, , number, path] = await other.expect(PageKind.Open);
  assert.equal(path, '/one');
  other.post(8n, HubKind.Opened, number, 1, 2 ** 40, '\n');
  await event(socket, 'open');
  assert.deepEqual([client.status.hubId, client.status.user], ['0000000000000007', undefined]);
  // The next one is asked about where the last one is.
  mux(url + 'two');
  await other.expect(PageKind.Whose);
});

/** The page leaves for the back/forward cache and is back, and `act` runs before it attaches. */
async function back(worker: ReturnType<typeof lastWorker>, act: () => unknown): Promise<void> {
  browser.page('pagehide', true);
  await worker.expect(PageKind.Park);
  browser.page('pageshow', true);
  act();
  // What it says before it attaches again is said to a hub for which it is away.
  let message = await worker.next();
  while (message[0] !== PageKind.Attach) message = await worker.next();
}

test('a socket that a page opens as it returns from the cache is asked about', async () => {
  const { url, worker } = await of('ann');
  await back(worker, () => mux(url + 'one'));
  worker.attached(HUB);
  worker.resume(HUB);
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'bob');
  await worker.settled(HUB);
  assert.equal(lastWorker().name, `${worker.name}#bob`);
});

test('so is one of a page that left before it had a part in the session', async () => {
  const url = server();
  connect(url);
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.attached(HUB);
  worker.post(HUB, HubKind.User, 0, 'ann');
  await worker.settled(HUB);
  await back(worker, () => mux(url + 'one'));
  worker.attached(HUB);
  worker.post(HUB, HubKind.User, 0, 'ann');
  worker.resume(HUB, 0, 0);
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'bob');
  await worker.settled(HUB);
  assert.equal(lastWorker().name, `${worker.name}#bob`);
});

test('a topic of a client that came as its page returned is asked about as well', async () => {
  const { url, worker } = await of('ann');
  await back(worker, () => connect(url).topic('prices'));
  worker.attached(HUB);
  worker.resume(HUB);
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'ann');
  assert.equal((await worker.expect(PageKind.Subscribe))[2], 'prices');
});

test('a client that comes later hears nothing before it is known whose it is', async () => {
  const { url, worker } = await of('ann');
  const client = connect(url);
  const heard: unknown[] = [];
  client.on('message', ({ data }) => heard.push(data));
  const topic = client.topic('prices');
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.Browser, 1, 'for ann');
  await worker.settled(HUB);
  worker.post(HUB, HubKind.User, 1, 'bob');
  await worker.settled(HUB);
  const other = lastWorker();
  assert.equal(other.name, `${worker.name}#bob`);
  await other.expect(PageKind.Attach);
  assert.equal((await other.expect(PageKind.Subscribe))[2], 'prices');
  other.attached(8n);
  other.post(8n, HubKind.User, 0, 'bob');
  other.resume(8n, 0, 0);
  other.post(8n, HubKind.Browser, 1, 'for bob');
  await other.settled(8n);
  assert.deepEqual(heard, ['for bob']);
  assert.equal(client.status.user, 'bob');
  topic.close();
});

test('nobody is asked where there are no users, with a key, and with an identity', async () => {
  for (const [user, options] of [
    ['', {}], ['ann', { key: 'ann' }], ['ann', { identity: 'ann' }],
  ] as const) {
    const { url, worker } = await of(user, options);
    mux(url + 'one', options);
    assert.equal((await worker.expect(PageKind.Open))[3], '/one');
  }
});

test('a page with an identity attaches to that hub, and fails where it is not', async () => {
  const { client, worker, config } = await of('ann', { identity: 'ann' });
  assert.ok(worker.name.endsWith('#ann') && config.tag === 'ann', worker.name);
  worker.post(HUB, HubKind.Elsewhere, 'bob');
  const { state, reason } = await new Promise<typeof client.status>((resolve) =>
    client.on('status', resolve));
  assert.deepEqual([state, reason], ['closed', 'tabmux: the user changed']);
  assert.equal(lastWorker(), worker, 'it goes nowhere');
});

test('a page with an identity goes to the hub that has the link of its user', async () => {
  const { client, worker } = await of('ann', { identity: 'ann' });
  worker.post(HUB, HubKind.Elsewhere, '');
  await event(browser.listeners, 'worker');
  assert.equal(`${lastWorker().name}#ann`, worker.name);
  assert.equal(client.status.user, 'ann');
});

test('a page with an identity fails when its shared link becomes another user\'s', async () => {
  const { client, worker } = await of('ann', { identity: 'ann' });
  worker.post(HUB, HubKind.Elsewhere, '');
  await event(browser.listeners, 'worker');
  const other = lastWorker();
  await other.expect(PageKind.Attach);
  other.attached(8n);
  other.post(8n, HubKind.User, 0, 'ann');
  other.resume(8n, 0, 0);
  await other.settled(8n);
  assert.equal(client.status.state, 'connected');
  other.post(8n, HubKind.Lost, 'tabmux: the user changed');
  other.post(8n, HubKind.User, 0, 'bob');
  await other.expect(PageKind.Bye);
  const { state, reason } = client.status;
  assert.deepEqual([state, reason], ['closed', 'tabmux: the user changed']);
});

test('when the link is of another user, sockets close, and topics tell a gap', async () => {
  const { url, client, worker } = await of('nobody.', { worker: './w.js' });
  const topic = client.topic('prices');
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(HUB, HubKind.Subscribed, number, 1, 5);
  await topic.ready;
  const socket = mux(url + 'one', { worker: './w.js' });
  await worker.expect(PageKind.Whose);
  worker.post(HUB, HubKind.User, 1, 'nobody.');
  const [, , one] = await worker.expect(PageKind.Open);
  worker.post(HUB, HubKind.Opened, one, 1, 2 ** 40, '\n');
  await event(socket, 'open');
  const gaps: unknown[] = [];
  topic.on('gap', ({ position }) => gaps.push(position));
  const closed = untilClosed(socket);
  const error = event<ErrorEvent>(socket, 'error');
  worker.post(HUB, HubKind.Elsewhere, 'ann');
  await event(browser.listeners, 'worker');
  const other = lastWorker();
  assert.equal(other.name, `${worker.name}#ann`);
  const [, , , claim] = await other.expect(PageKind.Attach);
  assert.match(claim, /^,/, 'it claims no session of somebody else');
  await other.expect(PageKind.Subscribe);
  assert.deepEqual(await closed, ['error', 'close']);
  assert.equal((await error).message, 'tabmux: the user changed');
  assert.deepEqual(gaps, [{ epoch: 1, offset: 5 }]);
  assert.equal(client.status.user, 'ann');
});

test('a page that was refused for good tells the next hub, until it asks for a link', async () => {
  const { client, worker } = await of('ann');
  worker.post(HUB, HubKind.Lost, 'tabmux: log in');
  worker.post(HUB, HubKind.State, LinkState.Refused, 1, 'tabmux: log in');
  await worker.settled(HUB);
  worker.post(8n, HubKind.Resync);
  assert.equal((await worker.expect(PageKind.Attach))[3].split(',')[0], '!tabmux: log in');
  worker.attached(8n, 1, LinkState.Refused);
  worker.post(8n, HubKind.State, LinkState.Refused, 1, 'tabmux: log in');
  await worker.settled(8n);
  assert.equal(client.status.reason, 'tabmux: log in');
  client.reconnect();
  await worker.expect(PageKind.Reconnect);
  worker.post(8n, HubKind.State, LinkState.Connecting, 1, '');
  worker.post(9n, HubKind.Resync);
  assert.equal((await worker.expect(PageKind.Attach))[3].split(',')[0], '');
});

test('after a final refusal another identity has a hub that dials', async () => {
  const { url, worker } = await of('ann', { identity: 'ann' });
  worker.post(HUB, HubKind.State, LinkState.Refused, 1, 'tabmux: log in');
  await worker.settled(HUB);
  connect(url, { identity: 'bob' });
  const other = lastWorker();
  assert.ok(other !== worker && other.name.endsWith('#bob'), other.name);
  const [, , { tag }, claim] = await other.expect(PageKind.Attach);
  assert.equal(tag, 'bob');
  assert.ok(!claim.startsWith('!'), claim);
});

test('logout() asks the hub for the end of the session, and leaves no claim', async () => {
  browser.storage.clear();
  const { client, worker } = await of('ann');
  assert.equal(browser.storage.size, 1);
  client.logout();
  await worker.expect(PageKind.Logout);
  assert.equal(browser.storage.size, 0);
  worker.post(HUB, HubKind.Lost, 'tabmux: logged out');
  worker.post(HUB, HubKind.State, LinkState.Refused, 1, 'tabmux: logged out');
  await worker.settled(HUB);
  const { state, reason } = client.status;
  assert.deepEqual([state, reason], ['closed', 'tabmux: logged out']);
});
