// Thirteen libraries in Chromium, or in Firefox (`npm run test:firefox`), three tabs each: in mode mux through `tabmux gateway`, and natively
// as a control. What is compared is what the servers behind the gateway saw.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import * as playwright from 'playwright-core';
import { backends } from './backends.mjs';
import { launch } from './firefox.mjs';
import { documents } from './table.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const repo = join(here, '../../../..');
const BINARY = process.env.TABMUX ?? join(repo, 'target/debug/tabmux');
const ENGINE = process.env.ENGINE ?? 'chromium';
const EXECUTABLE = ENGINE === 'firefox' ? '/usr/bin/firefox-esr' : '/usr/bin/chromium';
const skip = !existsSync(EXECUTABLE) && `needs ${EXECUTABLE}`;
/** How long refused libraries are watched, in milliseconds. */
const WATCHED = 6_000;
const TABS = [1, 2, 3];

let servers;
let gateway;
let address;
let site;
let browser;

before(async () => {
  if (skip) return;
  servers = await backends();
  site = await mkdtemp(join(tmpdir(), 'tabmux-gateway-'));
  await build({
    entryPoints: [join(here, 'page.mjs')], outfile: join(site, 'page.js'), bundle: true,
    format: 'esm', external: ['/tabmux/client.js'], logLevel: 'error',
    define: { global: 'globalThis', 'process.env.NODE_ENV': '"production"' },
  });
  await writeFile(join(site, 'index.html'), '<!doctype html><script type="module" src="/page.js"></script>');
  gateway = spawn(BINARY, [
    'gateway', '--listen', '127.0.0.1:0', '--demo', site,
    '--assets', join(repo, 'packages/tabmux/dist'), '--route', `/=ws://127.0.0.1:${servers.port}`,
  ], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(gateway.stdout), 'line');
  address = new URL(line.match(/http:\S+/)[0]);
  browser = ENGINE === 'firefox' ? await launch(EXECUTABLE, await freePort())
    : await playwright.chromium.launch({ executablePath: EXECUTABLE, args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  gateway?.kill();
  servers?.close();
  if (site) await rm(site, { recursive: true });
});

/** A port that nobody has. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Where sockets of a mode are opened. */
const origin = (mode) => mode === 'mux' ? `ws://${address.host}` : `ws://127.0.0.1:${servers.port}`;

/** Pages of one browser. */
async function pages(count) {
  const context = await browser.newContext();
  const opened = await Promise.all(Array.from({ length: count }, () => context.newPage()));
  await Promise.all(opened.map(async (page) => {
    await page.goto(address.href);
    await page.waitForFunction(() => globalThis.names);
  }));
  return { context, opened };
}

/** Waits until what `look` returns is true. */
async function until(what, look) {
  for (const end = Date.now() + 10_000; !(await look());) {
    assert.ok(Date.now() < end, `waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What the servers saw of a library, tab by tab. */
async function saw(name, mode, opened) {
  const from = servers.seen.length;
  const heard = await Promise.all(opened.map((page, at) =>
    page.evaluate(([...args]) => talk(...args), [name, mode, origin(mode), TABS[at]])));
  const mine = () => servers.seen.slice(from);
  await until(`${name} to close`, () => mine().every(({ code }) => code));
  const of = (tab) => mine().filter((entry) => entry.tab === `${tab}`)
    // mqtt ends its socket without a wait, so its server sees a close frame or none, by luck.
    .map(({ offered, chosen, code, reason, messages }) => name === 'mqtt'
      ? { offered, chosen, messages }
      : { offered, chosen, code, reason, messages });
  assert.equal(mine().length, TABS.flatMap(of).length, 'each connection has its tab');
  return { heard, connections: TABS.map(of) };
}

test('the tables of the documents have the lines that are tested', async () => {
  for (const [path, text, fresh] of await documents()) assert.equal(text, fresh, `npm run table writes ${path}`);
});

const names = ['graphql', 'phoenix', 'stomp', 'centrifuge', 'socketio', 'mqtt', 'rxjs', 'reconnecting',
  'partysocket', 'yjs', 'signalr', 'trpc', 'cable'];

for (const name of names) {
  test(`${name}: three tabs talk as they do natively`, { skip }, async () => {
    const native = await pages(3);
    const control = await saw(name, 'native', native.opened);
    await native.context.close();
    const mux = await pages(3);
    const result = await saw(name, 'mux', mux.opened);
    const { links } = await (await fetch(new URL('/tabmux/stats', address))).json();
    await mux.context.close();
    // Messages of documents depend on who comes first.
    if (name === 'yjs') for (const it of [control, result]) for (const tab of it.connections.flat()) delete tab.messages;
    assert.deepEqual(result, control);
    assert.ok(result.connections.every((tab) => tab.length > 0), 'each tab has a connection');
    assert.equal(links.open ?? links, 1, 'three tabs have one link');
  });
}

// Firefox waits longer after each failure of any page, natively for one address and here for none.
const slows = ENGINE === 'firefox' && 'Firefox slows down all sockets to a server that fails';

test('after a refusal each library tries as often as it does natively', { skip: skip || slows }, async () => {
  // Each has a browser of its own: an engine that sees many failures slows all sockets down.
  const attempts = async (mode) => {
    const opened = await Promise.all(names.map(() => pages(1)));
    // So that no first attempt waits for a worker.
    await Promise.all(opened.map(({ opened: [page] }) =>
      page.evaluate(([...args]) => talk(...args), ['rxjs', mode, origin(mode), 0])));
    servers.state.refused = true;
    const from = servers.seen.length;
    const evaluate = ({ opened: [page] }, at) =>
      page.evaluate(([...args]) => attempt(...args), [names[at], mode, origin(mode)]);
    await Promise.all(opened.map(evaluate));
    const tried = (name) => servers.seen.slice(from).filter((it) => it.name === name);
    await until('first attempts', () => names.every((name) => tried(name).length > 0));
    await new Promise((resolve) => setTimeout(resolve, WATCHED));
    const counts = names.map((name) => {
      const [first, ...more] = tried(name);
      return [name, 1 + more.filter(({ at }) => at < first.at + WATCHED).length];
    });
    await Promise.all(opened.map(({ context }) => context.close()));
    servers.state.refused = false;
    return Object.fromEntries(counts);
  };
  const [native, mux] = [await attempts('native'), await attempts('mux')];
  for (const name of names) {
    const both = `${name}: ${mux[name]} attempts, natively ${native[name]}`;
    console.log(both);
    // One more where the last attempt falls on the end, and fewer where each takes longer.
    assert.ok(mux[name] <= native[name] + 1 && mux[name] > native[name] / 2, both);
  }
});
