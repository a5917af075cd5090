// `tabmux/react` with the real React.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { StrictMode, act, createElement } from 'react';
import type { FunctionComponent } from 'react';
import { createRoot, hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';

import { useSharedWebSocket, useStatus, useTopic } from '../../src/entries/react.js';
import { connect } from '../../src/index.js';
import { HubKind, LinkState, PageKind } from '../../src/protocol.js';
import { installPage } from './dom.js';
import { FakeWorker, lastWorker, tidy } from './rig.js';

const page = installPage();
let app = page;
afterEach(tidy);

const URL = 'ws://host.test/feed';
let keys = 0;
const newKey = (): string => `react ${(keys += 1)}`;

/** Lets ports deliver, within `act`, since what is heard renders. */
const settled = (): Promise<void> => act(() => new Promise<void>((go) => setImmediate(go)));

async function until(isThere: () => boolean): Promise<void> {
  while (!isThere()) await settled();
}

/** Renders in StrictMode, which does all effects twice. */
async function render(component: FunctionComponent) {
  page.append(app = document.createElement('div'));
  const root = createRoot(app);
  await act(async () => root.render(createElement(StrictMode, null, createElement(component))));
  return root;
}

/** The worker of the page plays a hub whose link is up, and which opens each view. */
async function openView(worker: FakeWorker): Promise<number> {
  await worker.expect(PageKind.Attach);
  worker.welcome();
  const [, , socket] = await worker.expect(PageKind.Open);
  worker.post(1n, HubKind.Joined, socket, 0, '\n');
  return socket;
}

test('a socket shows its newest message, and is closed with the component', async () => {
  const key = newKey();
  const heard: unknown[] = [];
  const root = await render(() => {
    const { socket, message, close } = useSharedWebSocket(URL, {
      key, onMessage: ({ data }) => heard.push(data),
    });
    return `${socket?.readyState} ${message?.data} ${close?.code}`;
  });
  assert.equal(app.textContent, '0 undefined undefined');
  const worker = lastWorker();
  await openView(worker);
  await until(() => app.textContent === '1 undefined undefined');
  worker.post(1n, HubKind.Mirror, 'one');
  worker.post(1n, HubKind.Mirror, 'two');
  await until(() => app.textContent === '1 two undefined');
  assert.deepEqual(heard, ['one', 'two']);
  await act(async () => root.unmount());
  await worker.expect(PageKind.Close);
});

test('StrictMode leaves one socket, and none after the end', async () => {
  const key = newKey();
  const root = await render(() => `${useSharedWebSocket(URL, { key }).socket?.readyState}`);
  assert.equal(FakeWorker.all.length, 1);
  const worker = lastWorker();
  const socket = await openView(worker);
  await until(() => app.textContent === '1');
  await act(async () => root.unmount());
  const [, , closed] = await worker.expect(PageKind.Close);
  assert.equal(closed, socket);
  worker.post(1n, HubKind.Ended, socket, 1000, 1, '');
  // The page leaves the hub with its last socket: there is no other.
  await worker.expect(PageKind.Bye);
});

test('another URL is another socket, and no URL is none', async () => {
  const key = newKey();
  let url: string | null = URL;
  const component = (): string => {
    const { socket } = useSharedWebSocket(url, { key });
    return socket ? socket.url : 'none';
  };
  const root = await render(component);
  const again = (): Promise<void> => act(async () => root.render(
    createElement(StrictMode, null, createElement(component, { key: 'same' } as object))));
  await again();
  assert.equal(app.textContent, URL);
  url = URL + '/other';
  await again();
  assert.equal(app.textContent, URL + '/other');
  url = null;
  await again();
  assert.equal(app.textContent, 'none');
  await act(async () => root.unmount());
});

test('a topic shows its newest message and gap, and is closed with the component', async () => {
  const client = connect('http://host.test/', { key: newKey() });
  const worker = lastWorker();
  const heard: unknown[] = [];
  const root = await render(() => {
    const { ready, message, gap, end } = useTopic(client, 'prices', {
      onMessage: ({ data }) => heard.push(data),
    });
    return JSON.stringify([ready?.offset, message?.data, gap?.position.offset, end?.reason]);
  });
  await worker.expect(PageKind.Attach);
  worker.attached();
  // StrictMode: of two subscriptions the first has ended.
  await worker.expect(PageKind.Subscribe);
  await worker.expect(PageKind.Unsubscribe);
  const [, number] = await worker.expect(PageKind.Subscribe);
  worker.post(1n, HubKind.Subscribed, number, 7, 1);
  await until(() => app.textContent === '[1,null,null,null]');
  worker.post(1n, HubKind.Publication, number, 7, 2, 'a');
  worker.post(1n, HubKind.Publication, number, 7, 3, 'b');
  worker.post(1n, HubKind.Gap, number, 7, 9);
  await until(() => app.textContent === '[1,"b",9,null]');
  assert.deepEqual(heard, ['a', 'b']);
  worker.post(1n, HubKind.Unsubscribed, number, 'over');
  await until(() => app.textContent === '[1,"b",9,"over"]');
  await act(async () => root.unmount());
  client.close();
  await worker.expect(PageKind.Unsubscribe);
  await worker.expect(PageKind.Bye);
});

test('the status renders when it changes, and at no other time', async () => {
  const client = connect('http://host.test/', { key: newKey() });
  assert.equal(client.status, client.status);
  const worker = lastWorker();
  let renders = 0;
  const root = await render(() => {
    renders += 1;
    const { state, tabs } = useStatus(client);
    return `${state} ${tabs}`;
  });
  await worker.expect(PageKind.Attach);
  worker.attached(1n, 3);
  await until(() => app.textContent === 'connected 3');
  const before = renders;
  worker.post(1n, HubKind.State, LinkState.Connected, 3, '');
  await worker.settled();
  await settled();
  assert.equal(renders, before);
  await act(async () => root.unmount());
  client.close();
});

test('a server renders the hooks, and the page takes over what it rendered', async () => {
  const key = newKey();
  const { document } = globalThis;
  const component = (): string => {
    const client = connect('/', { key });
    const { state } = useStatus(client);
    const { socket } = useSharedWebSocket('/feed', { key });
    const { message } = useTopic(client, 'prices');
    return `${state} ${socket} ${message}`;
  };
  Object.assign(globalThis, { document: undefined });
  const html = renderToString(createElement(component));
  Object.assign(globalThis, { document });
  assert.equal(html, 'idle undefined undefined');
  page.append(app = document.createElement('div'));
  app.innerHTML = html;
  const errors: unknown[] = [];
  const client = connect('http://host.test/', { key });
  const root = await act(async () => hydrateRoot(app, createElement(() => {
    const { state } = useStatus(client);
    const { socket } = useSharedWebSocket('/feed', { key });
    const { message } = useTopic(client, 'prices');
    return `${state} ${socket?.url} ${message}`;
  }), { onRecoverableError: (error) => errors.push(error) }));
  assert.deepEqual(errors, []);
  assert.equal(app.textContent, 'connecting ws://page.test/feed undefined');
  await act(async () => root.unmount());
  client.close();
});
