// `tabmux/svelte` with the real Svelte.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { get } from 'svelte/store';

import { connect } from '../../src/index.js';
import { useSharedWebSocket, useStatus, useTopic } from '../../src/entries/svelte.js';
import { HubKind, PageKind } from '../../src/protocol.js';
import { FakeWorker, install, lastWorker, tidy } from './rig.js';

install();
afterEach(tidy);

const settled = (): Promise<void> => new Promise((go) => setImmediate(go));

async function until(isThere: () => boolean): Promise<void> {
  while (!isThere()) await settled();
}

test('subscribers of a store share a socket, which the last one closes', async () => {
  const feed = useSharedWebSocket('ws://host.test/feed', { key: 'svelte' });
  const before = FakeWorker.all.length;
  let data: unknown;
  const stops = [1, 2].map(() => feed.subscribe(({ message }) => (data = message?.data)));
  assert.equal(FakeWorker.all.length, before + 1);
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, , socket] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, socket, 0, '\n');
  worker.post(1n, HubKind.Mirror, 'one');
  await until(() => data === 'one');
  stops.forEach((stop) => stop());
  await worker.expect(PageKind.Close);
  worker.post(1n, HubKind.Ended, socket, 1000, 1, '');
  await worker.expect(PageKind.Bye);
});

test('a topic and the status of its client', async () => {
  const client = connect('http://host.test/', { key: 'svelte topic' });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.attached();
  const prices = useTopic(client, 'prices');
  let data: unknown;
  const stop = prices.subscribe(({ message }) => (data = message?.data));
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Publication, number, 7, 2, 'a');
  await until(() => data === 'a');
  assert.equal(get(useStatus(client)).state, 'connected');
  stop();
  await worker.expect(PageKind.Unsubscribe);
  client.close();
});

test('on a server nothing is opened', () => {
  const { document } = globalThis;
  Object.assign(globalThis, { document: undefined });
  assert.deepEqual(get(useSharedWebSocket('/feed')), {});
  assert.equal(get(useStatus(connect('/'))).state, 'idle');
  Object.assign(globalThis, { document });
});
