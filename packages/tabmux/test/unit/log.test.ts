// `log` of `tabmux/debug`, at a browser and a server in memory. `cargo xtask dist` has to have run.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import type { TestBed } from '../../src/entries/testing.js';

// As it is published: the build gives short names to what these share.
const dist = new URL('../../../../dist/', import.meta.url);
const { SharedWebSocket, connect } =
  await import(`${dist}client.js`) as typeof import('../../src/index.js');
const { log } = await import(`${dist}debug.js`) as typeof import('../../src/entries/debug.js');
const { testBed } =
  await import(`${dist}testing.js`) as typeof import('../../src/entries/testing.js');

let bed: TestBed;
beforeEach(() => {
  bed = testBed();
});
afterEach(() => bed.close());

const FEED = 'wss://example.org/feed';

/** Logs, and returns the lines without the first word. */
function lines(): { all: unknown[][]; stop: () => void } {
  const all: unknown[][] = [];
  return { all, stop: log((...parts) => all.push(parts.slice(1))) };
}

test('what sockets say and hear is logged until the end', async () => {
  const { all, stop } = lines();
  const socket = new SharedWebSocket(FEED);
  const server = await bed.server.socket();
  await bed.settled();
  socket.send('up');
  await server.send('down');
  socket.close(3000, 'done');
  await bed.settled();
  const ofFeed = all.filter(([, name, what]) => name === FEED && !/link|session/.test(`${what}`));
  assert.deepEqual(ofFeed, [
    ['→', FEED, 'opens'],
    ['←', FEED, 'is open'],
    ['→', FEED, 'sends', 'up'],
    ['←', FEED, 'message', 'down'],
    ['→', FEED, 'closes', 3000, 'done'],
    ['←', FEED, 'is closed', 3000, 'done'],
    ['→', FEED, 'leaves'],
  ]);
  stop();
  const { length } = all;
  new SharedWebSocket(FEED);
  await bed.settled();
  assert.equal(all.length, length);
});

test('topics of a hub that was there before are logged, and go on when it ends', async () => {
  const client = connect('/');
  await bed.settled();
  const { all, stop } = lines();
  const topic = client.topic('prices');
  await topic.ready;
  await bed.server.publish('prices', '42');
  const ofTopic = all.filter(([, name]) => name === 'prices');
  assert.deepEqual(ofTopic, [
    ['→', 'prices', 'subscribes'],
    ['←', 'prices', 'is subscribed', { epoch: 1, offset: 0 }],
    ['←', 'prices', 'message', '42'],
  ]);
  stop();
  const heard = new Promise((resolve) => topic.on('message', ({ data }) => resolve(data)));
  await bed.server.publish('prices', '43');
  assert.equal(await heard, '43');
});

test('two logs end in any order, and each hears until its own end', async () => {
  const [one, two] = [lines(), lines()];
  one.stop();
  const before = one.all.length;
  new SharedWebSocket(FEED + '/two');
  await bed.settled();
  assert.equal(one.all.length, before);
  assert.ok(two.all.some(([, name]) => name === FEED + '/two'), `${two.all}`);
  two.stop();
  const after = two.all.length;
  new SharedWebSocket(FEED + '/none');
  await bed.settled();
  assert.deepEqual([one.all.length, two.all.length], [before, after]);
});
