// Topics of a client, at a worker that the test plays.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { connect } from '../../src/index.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import { install, lastWorker, tidy } from './rig.js';
import type { FakeWorker } from './rig.js';
import type { Client } from '../../src/index.js';

install();
afterEach(tidy);

let keys = 0;

/** A client whose hub runs, and its worker. */
async function connected(): Promise<[Client, FakeWorker]> {
  const client = connect('https://app.example/', { key: `topics ${(keys += 1)}` });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.attached();
  return [client, worker];
}

/** All that a topic tells. */
function told(topic: ReturnType<Client['topic']>): unknown[][] {
  const all: unknown[][] = [];
  topic.on('message', ({ data, position }) => all.push([data, position]));
  topic.on('gap', ({ position }) => all.push(['gap', position]));
  return all;
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a gap that is told twice is heard once', async () => {
  const [client, worker] = await connected();
  const all = told(client.topic('prices'));
  const [, number] = await worker.expect(PageKind.Subscribe);
  // As to one who was at 5 and asked twice, and then as to one who missed something once more.
  for (const [epoch, offset] of [[7, 8], [7, 8], [7, 9], [8, 9]] as const) {
    worker.post(1n, HubKind.Subscribed, number, epoch, offset);
    worker.post(1n, HubKind.Gap, number, epoch, offset);
  }
  worker.post(1n, HubKind.Publication, number, 8, 10, 'last');
  while (all.at(-1)?.[0] !== 'last') await settled();
  const gaps = all.slice(0, -1).map(([, position]) => position);
  assert.deepEqual(gaps, [
    { epoch: 7, offset: 8 }, { epoch: 7, offset: 9 }, { epoch: 8, offset: 9 },
  ]);
});

test('a tab that leaves before it hears of a gap asks again from where it was', async () => {
  const [client, worker] = await connected();
  const all = told(client.topic('prices'));
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 5);
  // It attached anew, and the topic is at 8 by now. The gap up to there comes too late.
  worker.post(1n, HubKind.Subscribed, number, 7, 8);
  await settled();
  worker.post(2n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  const again = await worker.expect(PageKind.Subscribe);
  assert.deepEqual([again.slice(2), all], [['prices', 7, 5], []]);
});

test('a topic goes on from the position that the page has', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices', { since: { epoch: 7, offset: 5 } });
  const all = told(topic);
  const [, number, name, ...since] = await worker.expect(PageKind.Subscribe);
  assert.deepEqual([name, since], ['prices', [7, 5]]);
  worker.post(1n, HubKind.Subscribed, number, 7, 5);
  worker.post(1n, HubKind.Publication, number, 7, 6, 'a');
  assert.deepEqual(await topic.ready, { epoch: 7, offset: 5 });
  while (!all[0]) await settled();
  assert.deepEqual(all, [['a', { epoch: 7, offset: 6 }]]);
  client.close();
});

test('a page that leaves before a topic is subscribed asks again from its position', async () => {
  const [client, worker] = await connected();
  const all = told(client.topic('prices', { since: { epoch: 7, offset: 5 } }));
  const [, number] = await worker.expect(PageKind.Subscribe);
  // The gap up to there comes too late.
  worker.post(1n, HubKind.Subscribed, number, 7, 8);
  await settled();
  worker.post(2n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  const again = await worker.expect(PageKind.Subscribe);
  assert.deepEqual([again.slice(2), all], [['prices', 7, 5], []]);
  client.close();
});

test('a topic: subscribe, ready, messages, gaps, close', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices');
  const all = told(topic);
  const [, number, name, epoch] = await worker.expect(PageKind.Subscribe);
  assert.deepEqual([name, epoch, topic.name], ['prices', -1, 'prices']);
  worker.post(1n, HubKind.Subscribed, number, 7, 5);
  assert.deepEqual(await topic.ready, { epoch: 7, offset: 5 });
  worker.post(1n, HubKind.Publication, number, 7, 6, 'a');
  worker.post(1n, HubKind.Gap, number, 7, 8);
  worker.post(1n, HubKind.Publication, number, 7, 9, new Uint8Array([1]));
  worker.post(1n, HubKind.Publication, number + 1, 7, 9, 'of another');
  while (all.length < 3) await settled();
  assert.deepEqual(all, [
    ['a', { epoch: 7, offset: 6 }],
    ['gap', { epoch: 7, offset: 8 }],
    [new Uint8Array([1]), { epoch: 7, offset: 9 }],
  ]);
  topic.close();
  assert.deepEqual(await worker.expect(PageKind.Unsubscribe), [PageKind.Unsubscribe, number]);
  topic.close();
  client.close();
  await worker.expect(PageKind.Bye);
});

test('a topic is asked of the next hub from its last position', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices');
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 5);
  worker.post(1n, HubKind.Publication, number, 7, 6, 'a');
  await topic.ready;
  worker.post(2n, HubKind.Resync);
  await worker.expect(PageKind.Attach);
  assert.deepEqual(await worker.expect(PageKind.Subscribe), [
    PageKind.Subscribe, number, 'prices', 7, 6,
  ]);
  client.close();
});

test('a publication that the next hub tells again is not heard again', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices');
  const all = told(topic);
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 5);
  worker.post(1n, HubKind.Publication, number, 7, 6, 'a');
  worker.post(2n, HubKind.Resync);
  worker.attached(2n);
  worker.post(2n, HubKind.Subscribed, number, 7, 6);
  worker.post(2n, HubKind.Publication, number, 7, 6, 'a');
  worker.post(2n, HubKind.Publication, number, 7, 7, 'b');
  worker.post(2n, HubKind.Publication, number, 8, 1, 'of another epoch');
  while (all.length < 3) await settled();
  assert.deepEqual(all.map(([data]) => data), ['a', 'b', 'of another epoch']);
  client.close();
});

test('a refused topic rejects, says so to nobody who does not ask, and is over', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices');
  const ends: string[] = [];
  topic.on('end', ({ reason }) => ends.push(reason));
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Unsubscribed, number, 'tabmux: no');
  await assert.rejects(topic.ready, { message: 'tabmux: no' });
  assert.deepEqual(ends, ['tabmux: no']);
  client.topic('news');
  await worker.expect(PageKind.Unsubscribe);
  const [, next] = await worker.expect(PageKind.Subscribe);
  assert.notEqual(next, number);
  client.close();
});

test('a closed client ends its topics and has no others', async () => {
  const [client, worker] = await connected();
  const topic = client.topic('prices');
  await worker.expect(PageKind.Subscribe);
  client.close();
  await assert.rejects(topic.ready, /topic prices is closed/);
  await worker.expect(PageKind.Unsubscribe);
  await worker.expect(PageKind.Bye);
  await assert.rejects(client.topic('news').ready, /topic news is closed/);
});

test('a topic of a client without a worker rejects with the reason', async () => {
  const client = connect('https://app.example/', { key: `topics ${(keys += 1)}` });
  const topic = client.topic('prices');
  lastWorker().failed('tabmux: no wasm');
  await assert.rejects(topic.ready, /no wasm/);
  await assert.rejects(client.topic('news').ready, /no wasm/);
});
