// An application that has the tarball of the package among its dependencies, a server for its pages,
// a feed, and Chromium. `cargo xtask dist` has to have run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import puppeteer from 'puppeteer-core';
import { WebSocketServer } from 'ws';

export const run = promisify(execFile);

const here = dirname(fileURLToPath(import.meta.url));
const CHROMIUM = '/usr/bin/chromium';
const PATIENCE_MS = 30_000;
const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css',
};

/** What most applications are: a socket, and what became of it. */
export const MAIN = `
  import { SharedWebSocket } from 'tabmux';
  const query = new URLSearchParams(location.search);
  const app = (globalThis.app = { heard: [], error: '', socket: undefined });
  try {
    const socket = (app.socket = new SharedWebSocket(query.get('ws'), [], {
      tiers: query.get('tiers')?.split(','),
      worker: query.get('worker') ?? undefined,
    }));
    socket.onmessage = ({ data }) => app.heard.push(data);
    socket.onerror = ({ message }) => (app.error = message);
  } catch (error) {
    app.error = String(error);
  }
`;

export const page = (script) => `<!doctype html><title>app</title>${script}`;

/** Packs the package, and installs it in a folder from which Node finds the bundlers. */
export async function install() {
  const apps = join(here, '.apps');
  await mkdir(apps, { recursive: true });
  const root = await mkdtemp(join(apps, 'app-'));
  await writeFile(join(root, 'package.json'), '{ "private": true, "type": "module" }');
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', root], {
    cwd: join(here, '../..'),
  });
  const tarball = join(root, JSON.parse(stdout)[0].filename);
  await run('npm', ['install', '--offline', '--no-save', '--no-package-lock', tarball], {
    cwd: root,
  });
  return {
    root,
    /** The folder of the installed package. */
    installed: join(root, 'node_modules/tabmux'),
    /** Makes an application of these files, by their names. */
    async app(name, files) {
      const folder = join(root, name);
      for (const [file, text] of Object.entries(files)) {
        await mkdir(dirname(join(folder, file)), { recursive: true });
        await writeFile(join(folder, file), text);
      }
      return folder;
    },
    remove: () => rm(root, { recursive: true, force: true }),
  };
}

/** Serves a folder. `answer(path)` may give other headers, or a body in the place of the file. */
export async function serve(folder, answer = () => ({})) {
  const server = createServer(async ({ url }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, 'http://x').pathname));
    const { headers, body } = answer(path) ?? { body: null };
    const file = join(folder, path.endsWith('/') ? `${path}index.html` : path);
    const bytes = body === undefined ? await readFile(file).catch(() => null) : body;
    if (bytes === null) return response.writeHead(404).end();
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-cache', ...headers });
    response.end(bytes);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A WebSocket server that says the same to all, and counts who comes. */
export async function startFeed() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  const feed = {
    url: `ws://127.0.0.1:${server.address().port}/`,
    accepted: 0,
    open: () => server.clients.size,
    say: (text) => server.clients.forEach((client) => client.send(text)),
    close() {
      server.clients.forEach((client) => client.terminate());
      server.close();
    },
  };
  server.on('connection', () => (feed.accepted += 1));
  return feed;
}

export function startChromium() {
  return puppeteer.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu'],
    protocolTimeout: PATIENCE_MS * 2,
  });
}

/** Opens a tab, whose console lines are in `tab.lines`. */
export async function openTab(browser, url) {
  const tab = await browser.newPage();
  tab.lines = [];
  tab.on('console', (message) => tab.lines.push(message.text()));
  tab.on('pageerror', (error) => tab.lines.push(String(error)));
  await tab.goto(url);
  return tab;
}

/** Waits until this expression is true in the tab. `app` is there once the page's script ran. */
export async function until(tab, expression) {
  // An expression that throws ends the wait, and a page may load its script late.
  const loaded = expression.includes('app.') ? `globalThis.app && (${expression})` : expression;
  // By a timer: a tab in the background draws no frames.
  await tab.waitForFunction(loaded, { polling: 50, timeout: PATIENCE_MS }).catch(async (error) => {
    const state = await tab.evaluate('`${app.error} ${app.heard} ${app.socket?.readyState}`')
      .catch(String);
    assert.fail(`${expression}: ${error.message}; app: ${state}; console: ${tab.lines}`);
  });
}

/** Waits until a condition of this process, which may be asynchronous, holds. */
export async function eventually(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  while (!await condition()) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

const addressOf = (url, feed, query = {}) =>
  `${url}?${new URLSearchParams({ ws: feed.url, ...query })}`;

/** Two tabs share one connection of a feed, of their own or given, and both hear what it says. */
export async function expectShared(browser, url, query = {}, given = undefined) {
  const feed = given ?? await startFeed();
  const tabs = [];
  const before = feed.accepted;
  try {
    for (let count = 0; count < 2; count += 1) {
      const tab = await openTab(browser, addressOf(url, feed, query));
      tabs.push(tab);
      await until(tab, 'app.error || app.socket?.readyState === 1');
      assert.equal(await tab.evaluate('app.error'), '', tab.lines.join('\n'));
    }
    feed.say('news');
    for (const tab of tabs) {
      await until(tab, 'app.heard.length > 0');
      assert.equal(await tab.evaluate('app.heard.join()'), 'news');
      const tier = query.tiers ?? 'shared-worker';
      assert.equal(await tab.evaluate('app.socket.tier'), tier, tab.lines.join('\n'));
    }
    assert.equal(feed.accepted - before, 1, 'sockets at the server');
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
    if (!given) feed.close();
  }
}

/** The other ways to host the hub are loaded, and work. */
export const expectLeader = (browser, url, feed) =>
  expectShared(browser, url, { tiers: 'leader' }, feed);

/** The socket fails, and its `error` event says why: all of these. */
export async function expectError(browser, url, causes) {
  const feed = await startFeed();
  const tab = await openTab(browser, addressOf(url, feed));
  try {
    await until(tab, 'app.error');
    const text = await tab.evaluate('app.error');
    causes.forEach((part) => assert.ok(text.includes(part), `${part} is not in: ${text}`));
  } finally {
    await tab.close();
    feed.close();
  }
}

/** The socket is the page's own, and the console says why, and what to do: all of these. */
export async function expectAdvice(browser, url, advice, query = {}) {
  const feed = await startFeed();
  const tab = await openTab(browser, addressOf(url, feed, query));
  try {
    await until(tab, 'app.socket?.readyState === 1');
    const text = tab.lines.join('\n');
    advice.forEach((part) => assert.ok(text.includes(part), `${part} is not in: ${text}`));
    assert.equal(await tab.evaluate('app.socket.tier'), 'page');
  } finally {
    await tab.close();
    feed.close();
  }
}
