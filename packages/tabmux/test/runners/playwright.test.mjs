// What docs/testing.md says of Playwright, as it stands there, in Chromium.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { blocks, install } from './harness.mjs';

const CHROMIUM = '/usr/bin/chromium';
const skip = !existsSync(CHROMIUM) && 'needs Chromium';
const PAGE = `<!doctype html><script type="module">
  import { SharedWebSocket, connect } from '/client.js';
  globalThis.open = (url, mode) => {
    const socket = new SharedWebSocket(url, [], { mode });
    globalThis.heard = [];
    socket.onmessage = ({ data }) => heard.push(data);
    socket.onopen = () => socket.send('hello');
    socket.onerror = ({ message }) => heard.push(message);
    return socket;
  };
  open('wss://example.org/feed', 'mirror');
</script>`;

let app;
let server;
let browser;
let address;

before(async () => {
  if (skip) return;
  app = await install();
  server = createServer(async ({ url }, response) => {
    const file = join(app.root, 'node_modules/tabmux/dist', basename(url));
    const type = { js: 'text/javascript', wasm: 'application/wasm' }[url.split('.').at(-1)];
    response.writeHead(200, { 'content-type': type ?? 'text/html' });
    response.end(type ? await readFile(file) : PAGE);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  address = `http://127.0.0.1:${server.address().port}/`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
  await app?.remove();
});

async function intercept() {
  const texts = await blocks('docs/testing.md');
  await app.write('feed.spec.mjs', texts['feed.spec.mjs']);
  return (await import(pathToFileURL(join(app.root, 'feed.spec.mjs')))).intercept;
}

const heard = (page, text) => page.waitForFunction((text) => heard.includes(text), text);

test('routeWebSocket sees the socket of a page that runs the worker itself', { skip }, async () => {
  const context = await browser.newContext();
  const act = await intercept();
  // A second page of the browser has a connection of its own.
  for (const page of [await context.newPage(), await context.newPage()]) {
    await act(page, address);
    await heard(page, 'echo of hello');
  }
  await context.close();
});

test('a socket that the test closes closes in the page', { skip }, async () => {
  const page = await browser.newPage();
  await page.addInitScript({ path: join(app.root, 'node_modules/tabmux/dist/in-page.js') });
  let route;
  await page.routeWebSocket('wss://example.org/feed', (socket) => {
    route = socket;
    socket.onMessage(() => socket.send('there'));
  });
  await page.goto(address);
  await heard(page, 'there');
  const closed = page.evaluate(() => new Promise((resolve) => {
    const socket = globalThis.open('wss://example.org/feed', 'mirror');
    socket.onclose = ({ code }) => resolve(code);
    socket.onopen = () => document.title = 'joined';
  }));
  await page.waitForFunction(() => document.title === 'joined');
  await route.close({ code: 4000 });
  assert.equal(await closed, 4000);
  await page.close();
});

test('without the script routeWebSocket sees nothing', { skip }, async () => {
  const page = await browser.newPage();
  let routed = 0;
  await page.routeWebSocket('wss://example.org/feed', () => (routed += 1));
  await page.goto(address);
  // There is no such server: the worker's own socket fails.
  await page.waitForFunction(() => heard.length > 0);
  assert.equal(routed, 0);
  await page.close();
});
