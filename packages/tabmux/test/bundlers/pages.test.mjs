// Pages that are not simple: strict policies, scripts on a CDN, a service worker, two copies of the
// library, and React's StrictMode with hot reload; in Chromium.

import assert from 'node:assert/strict';
import { cp, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import react from '@vitejs/plugin-react';
import * as vite from 'vite';

import {
  MAIN, eventually, expectAdvice, expectError, expectLeader, expectShared, install, openTab, page, serve,
  startChromium, startFeed, until,
} from './harness.mjs';

const docs = await readFile(new URL('../../../../docs/csp.md', import.meta.url), 'utf8');

/** The policy of that name in docs/csp.md. */
const policyOf = (name) => new RegExp(`^\`\`\`csp ${name}\\n(.*)\\n`, 'm').exec(docs)[1];

const MODULE = page('<script type="module" src="/main.js"></script>');
const TO_CLIENT = MAIN.replace("'tabmux'", "'/tabmux/client.js'");

let project;
let scripts;
let browser;
const servers = [];

before(async () => {
  [project, browser] = await Promise.all([install(), startChromium()]);
  scripts = join(project.installed, 'dist');
});

after(async () => {
  servers.forEach((server) => server.close());
  await browser?.close();
  await project?.remove();
});

/** The origin of a server of this folder. */
async function origin(folder, answer) {
  const server = await serve(folder, answer);
  servers.push(server);
  return server.origin;
}

/** An application of these files, with the scripts of the package below /tabmux. */
async function plain(name, files) {
  const root = await project.app(name, { 'index.html': MODULE, 'main.js': TO_CLIENT, ...files });
  await cp(scripts, join(root, 'tabmux'), { recursive: true });
  return root;
}

/** The page of an application under these policies. */
async function under(name, pagePolicy, workerPolicy) {
  const headers = (policy) => ({ headers: { 'content-security-policy': policy } });
  const answer = (path) => path === '/' ? headers(pagePolicy)
    : path === '/tabmux/worker.js' ? headers(workerPolicy) : {};
  return `${await origin(await plain(name), answer)}/`;
}

/** The worker's policy with the address of a feed in it. */
const workerPolicyFor = ({ url }) =>
  policyOf('worker').replace('wss://example.org', url.replace(/\/$/, ''));

test('the policies of docs/csp.md are enough', async () => {
  const feed = await startFeed();
  try {
    const url = await under('csp', policyOf('page'), workerPolicyFor(feed));
    await expectShared(browser, url, {}, feed);
    await expectLeader(browser, url, feed);
  } finally {
    feed.close();
  }
});

test('where worker-src is missing, script-src is enough', async () => {
  const url = await under('csp-short', "default-src 'none'; script-src 'self'",
    policyOf('worker').replace('wss://example.org', '*'));
  await expectShared(browser, url);
});

test('each directive of docs/csp.md is needed, and what is said names it', async () => {
  const ofPage = policyOf('page');
  const anyServer = policyOf('worker').replace('wss://example.org', '*');
  const cases = [
    [ofPage.replace("worker-src 'self'", "worker-src 'none'"), anyServer, 'worker-src'],
    [ofPage.replace('trusted-types tabmux', "trusted-types 'none'"), anyServer, 'trusted-types'],
    [ofPage, anyServer.replace("'wasm-unsafe-eval'", "'self'"), 'wasm-unsafe-eval'],
    [ofPage, anyServer.replace(/connect-src [^;]*/, "connect-src 'none'"), 'connect-src'],
  ];
  for (const [index, [pagePolicy, workerPolicy, cause]] of cases.entries()) {
    const url = await under(`csp-${index}`, pagePolicy, workerPolicy);
    await expectError(browser, url, [cause]);
  }
});

/** A page whose scripts come from another origin. */
async function onCdn(name) {
  const cdn = await origin(scripts, () => ({ headers: { 'access-control-allow-origin': '*' } }));
  const root = await project.app(name, {
    'index.html': MODULE,
    'main.js': MAIN.replace("'tabmux'", `'${cdn}/client.js'`),
    'tabmux-worker.js': `importScripts('${cdn}/worker.js');`,
  });
  return [`${await origin(root)}/`, cdn];
}

test('scripts on a CDN work with a file of one line', async () => {
  const [url] = await onCdn('cdn');
  await expectShared(browser, url, { worker: '/tabmux-worker.js' });
  await expectShared(browser, url, { worker: '/tabmux-worker.js', tiers: 'leader' });
});

test('scripts on a CDN without that file: the console says what to serve', async () => {
  const [url, cdn] = await onCdn('cdn-bare');
  await expectAdvice(browser, url, [`importScripts('${cdn}/worker.js')`, 'option worker']);
});

/** The script as another build would have it. */
async function ofOtherBuild(name) {
  const client = await readFile(join(scripts, 'client.js'), 'utf8');
  const [, build] = /build:"(\w+)"/.exec(client);
  return (await readFile(join(scripts, name), 'utf8')).replaceAll(build, 'other');
}

/** A service worker that keeps what it once had of the addresses that match. */
const serviceWorker = (kept) => `
  self.addEventListener('install', () => self.skipWaiting());
  self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener('fetch', (event) => {
    if (!${kept}.test(event.request.url)) return;
    event.respondWith(caches.open('kept').then(async (cache) => {
      const known = await cache.match(event.request.url);
      if (known) return known;
      const answer = await fetch(event.request.url);
      await cache.put(event.request.url, answer.clone());
      return answer;
    }));
  });
`;

/** An application with a service worker, which has seen the scripts that it keeps. */
async function withServiceWorker(name, kept, answer) {
  const root = await plain(name, {
    'sw.js': serviceWorker(kept),
    'first.html': page('<script>navigator.serviceWorker.register("/sw.js");</script>'),
  });
  const url = `${await origin(root, answer)}/`;
  const tab = await openTab(browser, `${url}first.html`);
  await until(tab, 'navigator.serviceWorker.controller !== null');
  const modules = (await readdir(scripts)).filter((name) => name.endsWith('.wasm'));
  for (const script of ['client.js', 'tiers.js', 'worker.js', ...modules]) {
    assert.ok(await tab.evaluate(`fetch('/tabmux/${script}').then(({ ok }) => ok)`));
  }
  await tab.close();
  return url;
}

test('a service worker that keeps all three scripts works, also when they are gone', async () => {
  let areGone = false;
  const url = await withServiceWorker('sw', '/tabmux/', (path) =>
    areGone && path.startsWith('/tabmux/') ? null : {});
  areGone = true;
  await expectShared(browser, url);
  await expectLeader(browser, url);
});

test('a service worker that keeps client.js alone gets the worker of the same build', async () => {
  const other = await ofOtherBuild('worker.js');
  let isNew = false;
  const url = await withServiceWorker('sw-mixed', '/client\\.js/', (path) =>
    isNew && path === '/tabmux/worker.js' ? { body: other } : {});
  isNew = true;
  await expectShared(browser, url);
});

/** The address of a page with two libraries, each with a socket of its own, under a policy. */
async function sideBySide(name, second, policy) {
  const root = await plain(name, {
    'main.js': `
      import * as one from '/tabmux/client.js';
      import * as two from '/second/client.js';
      const url = new URLSearchParams(location.search).get('ws');
      globalThis.app = { heard: [], error: '' };
      globalThis.sockets = [one, two].map(({ SharedWebSocket }, index) => {
        const socket = new SharedWebSocket(url);
        socket.onmessage = ({ data }) => app.heard.push(data + index);
        socket.onerror = ({ message }) => (app.error = message);
        return socket;
      });
    `,
  });
  for (const script of ['client.js', 'tiers.js', 'worker.js']) {
    await project.app(`${name}/second`, { [script]: await second(script) });
  }
  const build = (text) => /build:"(\w+)"/.exec(text)[1];
  const first = build(await readFile(join(scripts, 'client.js'), 'utf8'));
  const other = build(await second('client.js'));
  for (const module of (await readdir(scripts)).filter((name) => name.endsWith('.wasm'))) {
    const named = module.replace(first, other);
    await project.app(`${name}/second`, { [named]: await readFile(join(scripts, module)) });
  }
  return origin(root, (path) =>
    path === '/' && policy ? { headers: { 'content-security-policy': policy } } : {});
}

/** Both libraries work in two tabs of such a page. */
async function expectSideBySide(name, second, policy) {
  const url = await sideBySide(name, second, policy);
  const feed = await startFeed();
  const tabs = [];
  for (let count = 0; count < 2; count += 1) {
    tabs.push(await openTab(browser, `${url}/?ws=${feed.url}`));
    await until(tabs[count], 'sockets.every(({ readyState }) => readyState === 1)');
  }
  feed.say('news');
  for (const tab of tabs) {
    await until(tab, 'app.heard.length > 1');
    assert.equal(await tab.evaluate('app.heard.sort().join()'), 'news0,news1');
    assert.equal(await tab.evaluate('app.error'), '');
  }
  assert.equal(feed.accepted, 2, 'one socket for each library');
  await Promise.all(tabs.map((tab) => tab.close()));
  feed.close();
}

test('two copies of the library work side by side in a page', () =>
  expectSideBySide('copies', (name) => readFile(join(scripts, name), 'utf8')));

test('two copies in a page that requires Trusted Types need allow-duplicates', async () => {
  const copy = (name) => readFile(join(scripts, name), 'utf8');
  const policy = policyOf('page').replace('trusted-types tabmux', "$& 'allow-duplicates'");
  await expectSideBySide('copies-trusted', copy, policy);
  const url = await sideBySide('copies-distrusted', copy, policyOf('page'));
  await expectError(browser, `${url}/`, ["'allow-duplicates'"]);
});

test('two versions of the library work side by side in a page', () =>
  expectSideBySide('versions', ofOtherBuild));

test('tabmux/install shares the sockets that a library opens, and no others', async () => {
  const root = await plain('install', {
    'index.html': page(`<script>globalThis.Native = WebSocket;</script>
      <script type="module" src="/main.js"></script>`),
    'library.js': 'const { WebSocket } = globalThis; export const open = (u) => new WebSocket(u);',
    'main.js': `
      import { install, uninstall } from '/tabmux/install.js';
      import { open } from './library.js';
      import { SharedWebSocket } from '/tabmux/client.js';
      const url = new URLSearchParams(location.search).get('ws');
      globalThis.app = { heard: [], error: '', uninstall };
      const takeBack = install(/feed$/);
      class Own extends WebSocket {}
      const [own, socket] = [new Own(url + 'feed'), open(url + 'feed')];
      takeBack();
      app.kinds = [own, socket, open(url + 'feed'), open(url)].map((one) =>
        [one instanceof SharedWebSocket, one instanceof WebSocket, one.OPEN === WebSocket.OPEN]);
      [own.onmessage, socket.onmessage] = [() => app.heard.push('own'), () => app.heard.push('it')];
      app.socket = socket;
      app.isOpen = () => socket.readyState === 1 && own.readyState === 1;
      try { new WebSocket('ftp://x/'); } catch ({ name }) { app.error = name; }
    `,
  });
  const url = await origin(root);
  const feed = await startFeed();
  const tabs = [];
  for (let count = 0; count < 2; count += 1) {
    tabs.push(await openTab(browser, `${url}/?ws=${feed.url}`));
    await until(tabs[count], 'app.isOpen()');
  }
  // Three of each tab are the browser's, and one is of both.
  await eventually('seven sockets are open', () => feed.open() === 7);
  feed.say('news');
  for (const tab of tabs) {
    await until(tab, 'app.heard.length > 1');
    const native = [false, true, true];
    assert.deepEqual(await tab.evaluate('app.kinds'), [native, [true, true, true], native, native]);
    assert.equal(await tab.evaluate('app.error'), 'SyntaxError');
    assert.equal(await tab.evaluate('WebSocket === Native'), false);
    assert.equal(await tab.evaluate('app.uninstall(), WebSocket === Native'), true);
    await tab.close();
  }
  feed.close();
});

const COMPONENT = (text) => `
  import { useEffect, useState } from 'react';
  import { SharedWebSocket } from 'tabmux';
  import { useSharedWebSocket } from 'tabmux/react';
  const url = new URLSearchParams(location.search).get('ws');
  export function App() {
    const { message } = useSharedWebSocket(url);
    const [heard, setHeard] = useState('');
    useEffect(() => {
      const socket = new SharedWebSocket(url);
      socket.onmessage = ({ data }) => setHeard(data);
      return () => socket.close();
    }, []);
    return <p>${text} {heard} {message?.data}</p>;
  }
`;

test('hot reload and StrictMode of React leak nothing', async () => {
  const root = await project.app('react', {
    'index.html': page('<div id="root"></div><script type="module" src="/main.jsx"></script>'),
    'main.jsx': `
      import { StrictMode } from 'react';
      import { createRoot } from 'react-dom/client';
      import { App } from './app.jsx';
      const root = createRoot(document.getElementById('root'));
      root.render(<StrictMode><App /></StrictMode>);
      globalThis.app = { unmount: () => root.unmount() };
    `,
    'app.jsx': COMPONENT('first'),
  });
  const server = await vite.createServer({
    root,
    configFile: false,
    logLevel: 'error',
    plugins: [react()],
    server: { host: '127.0.0.1', port: 0 },
  });
  const feed = await startFeed();
  try {
    await server.listen();
    const tabs = [];
    for (let count = 0; count < 2; count += 1) {
      tabs.push(await openTab(browser, `${server.resolvedUrls.local[0]}?ws=${feed.url}`));
    }
    for (const text of ['second', 'third', 'fourth']) {
      await writeFile(join(root, 'app.jsx'), COMPONENT(text));
      for (const tab of tabs) await until(tab, `document.body.textContent.includes('${text}')`);
      await eventually('one socket is open', () => feed.open() === 1);
    }
    const heard = (tab) => until(tab, "document.body.textContent.includes('fourth news news')");
    const say = setInterval(() => feed.say('news'), 50);
    await Promise.all(tabs.map(heard)).finally(() => clearInterval(say));
    assert.equal(feed.open(), 1);
    for (const tab of tabs) await tab.evaluate('app.unmount()');
    await eventually('no socket is open', () => feed.open() === 0);
    await Promise.all(tabs.map((tab) => tab.close()));
  } finally {
    await server.close();
    feed.close();
  }
});
