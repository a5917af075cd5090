// `for await` over topics, and what `decode` makes of messages.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { connect } from '../../src/index.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import type { DecodeOptions } from '../../src/index.js';
import { install, lastWorker, tidy } from './rig.js';
import type { FakeWorker } from './rig.js';

install();
afterEach(tidy);

let keys = 0;

/** A client whose hub runs, with a topic, its number and the worker. */
async function subscribed(decode: DecodeOptions['decode'] = (data) => data) {
  const client = connect<{ message: unknown; topics: { prices: unknown } }>(
    'https://app.example/', { key: `loops ${(keys += 1)}`, decode });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.attached();
  const topic = client.topic('prices');
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 0);
  await topic.ready;
  return { client, worker, topic, number };
}

const publish = (worker: FakeWorker, number: number, offset: number, data: string): void =>
  worker.post(1n, HubKind.Publication, number, 7, offset, data);

test('a loop gets messages and gaps in their order, and ends with the topic', async () => {
  const { worker, topic, number } = await subscribed();
  publish(worker, number, 1, 'one');
  worker.post(1n, HubKind.Gap, number, 7, 2);
  publish(worker, number, 3, 'three');
  const heard: unknown[] = [];
  for await (const event of topic) {
    heard.push([event.type, event.position.offset]);
    if (event.type === 'message' && event.data === 'three') topic.close();
  }
  assert.deepEqual(heard, [['message', 1], ['gap', 2], ['message', 3]]);
});

test('a loop throws the reason for which the server ends the subscription', async () => {
  const { worker, topic, number } = await subscribed();
  worker.post(1n, HubKind.Unsubscribed, number, 'not for you');
  await assert.rejects(topic[Symbol.asyncIterator]().next(), /not for you/);
  await assert.rejects(topic[Symbol.asyncIterator]().next(), /not for you/);
});

test('a loop over a closed topic ends at once', async () => {
  const { topic } = await subscribed();
  topic.close();
  assert.deepEqual(await topic[Symbol.asyncIterator]().next(), { done: true, value: undefined });
});

test('a loop hears what comes between its begin and its first next', async () => {
  const { worker, topic, number } = await subscribed();
  const loop = topic[Symbol.asyncIterator]();
  publish(worker, number, 1, 'one');
  await worker.settled();
  const first = loop.next();
  publish(worker, number, 2, 'two');
  const { value } = await first;
  assert.equal(value?.type === 'message' && value.data, 'one');
});

test('a loop that is left hears nothing more, and the topic goes on', async () => {
  const { worker, topic, number } = await subscribed();
  const loop = topic[Symbol.asyncIterator]();
  const first = loop.next();
  publish(worker, number, 1, 'one');
  await first;
  await loop.return();
  const heard = new Promise((resolve) => topic.on('message', ({ data }) => resolve(data)));
  publish(worker, number, 2, 'two');
  assert.equal(await heard, 'two');
  assert.equal((await loop.next()).done, true);
});

test('a loop that is a thousand events behind gets a gap in their place', async () => {
  const { worker, topic, number } = await subscribed();
  const loop = topic[Symbol.asyncIterator]();
  const first = loop.next();
  for (let offset = 1; offset <= 1003; offset += 1) publish(worker, number, offset, `${offset}`);
  await worker.settled();
  assert.equal((await first).value?.position.offset, 1);
  const second = (await loop.next()).value;
  assert.deepEqual([second?.type, second?.position.offset], ['gap', 1002]);
  const third = (await loop.next()).value;
  assert.deepEqual([third?.type, third?.position.offset], ['message', 1003]);
});

test('listeners and loops get what decode returns', async () => {
  const { client, worker, topic, number } = await subscribed(JSON.parse);
  const loop = topic[Symbol.asyncIterator]();
  const looped = loop.next();
  const heard = new Promise((resolve) => topic.on('message', resolve));
  publish(worker, number, 1, '{"cents":5}');
  const message = { type: 'message', data: { cents: 5 }, position: { epoch: 7, offset: 1 } };
  for (const event of [await heard, (await looped).value]) {
    const { type, data, position } = event as typeof message;
    assert.deepEqual({ type, data, position }, message);
  }
  const told = new Promise((resolve) => client.on('message', ({ data }) => resolve(data)));
  worker.post(1n, HubKind.Browser, 1, '["to all"]');
  assert.deepEqual(await told, ['to all']);
});
