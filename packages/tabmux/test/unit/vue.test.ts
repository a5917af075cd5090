// `tabmux/vue` with the real Vue.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { HubKind, PageKind } from '../../src/protocol.js';
import { installPage } from './dom.js';
import { lastWorker, tidy } from './rig.js';

const app = installPage();
// Vue looks for its document when it is loaded, and so it is loaded after that, as it is published.
const dist = new URL('../../../../dist/', import.meta.url);
const { connect } = await import(`${dist}client.js`) as typeof import('../../src/index.js');
const { useSharedWebSocket, useStatus, useTopic } =
  await import(`${dist}vue.js`) as typeof import('../../src/entries/vue.js');
const { createApp, createSSRApp, nextTick, ref } = await import('vue');
const { renderToString } = await import('@vue/server-renderer');
afterEach(tidy);

const settled = (): Promise<void> => new Promise((go) => setImmediate(go));

async function until(isThere: () => boolean): Promise<void> {
  while (!isThere()) await settled();
}

test('a socket shows its newest message, follows its URL, and is closed at the end', async () => {
  const url = ref<string | null>('ws://host.test/one');
  const heard: unknown[] = [];
  const vue = createApp({
    setup() {
      const feed = useSharedWebSocket(url, {
        key: 'vue', onMessage: ({ data }) => heard.push(data),
      });
      return () => `${feed.value.socket?.url} ${feed.value.message?.data}`;
    },
  });
  vue.mount(app);
  await nextTick();
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, , socket] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, socket, 0, '\n');
  worker.post(1n, HubKind.Mirror, 'one');
  await until(() => app.textContent === 'ws://host.test/one one');
  assert.deepEqual(heard, ['one']);
  url.value = 'ws://host.test/two';
  await until(() => app.textContent === 'ws://host.test/two undefined');
  await worker.expect(PageKind.Close);
  const second = lastWorker();
  vue.unmount();
  while ((await second.next())[0] !== PageKind.Bye);
});

test('a socket stays open when its URL is computed anew and is the same', async () => {
  const user = ref({ id: 1 });
  const vue = createApp({
    setup() {
      const feed = useSharedWebSocket(() => new URL(`ws://host.test/same/${user.value.id}`), {
        key: 'vue same',
      });
      return () => `${feed.value.socket?.url} ${feed.value.message?.data}`;
    },
  });
  vue.mount(app);
  await nextTick();
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, , socket] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, socket, 0, '\n');
  worker.post(1n, HubKind.Mirror, 'one');
  await until(() => app.textContent === 'ws://host.test/same/1 one');
  user.value = { id: 1 };
  await nextTick();
  worker.post(1n, HubKind.Mirror, 'two');
  await until(() => !app.textContent?.endsWith('one'));
  assert.equal(app.textContent, 'ws://host.test/same/1 two');
  user.value = { id: 2 };
  await nextTick();
  assert.equal(app.textContent, 'ws://host.test/same/2 undefined');
  vue.unmount();
});

test('a topic and a status without a client are those of nothing', async () => {
  const none = undefined as ReturnType<typeof connect> | undefined;
  const vue = createApp({
    setup() {
      const [nothing, status] = [useTopic(none, 'prices'), useStatus(none)];
      return () => `${status.value.state} ${Object.keys(nothing.value)}`;
    },
  });
  vue.mount(app);
  await nextTick();
  assert.equal(app.textContent, 'idle ');
  vue.unmount();
});

test('a topic and the status of its client', async () => {
  const client = connect('http://host.test/', { key: 'vue topic' });
  const worker = lastWorker();
  const vue = createApp({
    setup() {
      const prices = useTopic(client, 'prices');
      const status = useStatus(client);
      return () => `${status.value.state} ${prices.value.message?.data} ${prices.value.gap?.type}`;
    },
  });
  vue.mount(app);
  await nextTick();
  await worker.expect(PageKind.Attach);
  worker.attached();
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 1);
  worker.post(1n, HubKind.Publication, number, 7, 2, 'a');
  worker.post(1n, HubKind.Gap, number, 7, 3);
  await until(() => app.textContent === 'connected a gap');
  vue.unmount();
  const [, ended] = await worker.expect(PageKind.Unsubscribe);
  assert.equal(ended, number);
  client.close();
});

test('a server renders the composables and opens nothing', async () => {
  const html = await renderToString(createSSRApp({
    setup() {
      const feed = useSharedWebSocket('ws://host.test/', { key: 'vue ssr' });
      return () => `${feed.value.socket}`;
    },
  }));
  assert.equal(html, 'undefined');
});
