// The package in Vite 7, webpack, Parcel and Next, in Chromium.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as vite7 from 'vite7';
import webpack from 'webpack';

import {
  MAIN, eventually, expectAdvice, expectLeader, expectShared, install, page, run, serve,
  startChromium,
} from './harness.mjs';

const MODULE = page('<script type="module" src="./main.js"></script>');
const here = fileURLToPath(new URL('.', import.meta.url));
const bin = (name) => join(here, 'node_modules/.bin', name);

let project;
let browser;
const servers = [];

before(async () => {
  [project, browser] = await Promise.all([install(), startChromium()]);
});

after(async () => {
  servers.forEach((server) => server.close());
  await browser?.close();
  await project?.remove();
});

/** The origin of a server of this folder. */
async function origin(folder) {
  const server = await serve(folder);
  servers.push(server);
  return `${server.origin}/`;
}

test('vite 7 builds it without configuration', async () => {
  const root = await project.app('vite7', { 'index.html': MODULE, 'main.js': MAIN });
  await vite7.build({ root, configFile: false, logLevel: 'error' });
  const url = await origin(join(root, 'dist'));
  await expectShared(browser, url);
  await expectLeader(browser, url);
});

/** Runs the development server of Vite 7 with these plugins. */
async function withVite7(name, plugins, act) {
  const root = await project.app(name, { 'index.html': MODULE, 'main.js': MAIN });
  const server = await vite7.createServer({
    root,
    configFile: false,
    logLevel: 'error',
    cacheDir: join(root, '.vite'),
    plugins,
    server: { host: '127.0.0.1', port: 0 },
  });
  try {
    await server.listen();
    await act(server.resolvedUrls.local[0]);
  } finally {
    await server.close();
  }
}

test('the development server of vite 7 serves it with tabmux/vite', async () => {
  const tabmux = (await import(join(project.installed, 'dist/node/vite.js'))).default;
  await withVite7('vite7-dev', [tabmux()], async (url) => {
    await expectShared(browser, url);
    await expectLeader(browser, url);
  });
});

test('the development server of vite 7 without tabmux/vite: the console names it', async () => {
  await withVite7('vite7-bare', [], (url) =>
    expectAdvice(browser, url, ["'tabmux/vite'", 'plugins']));
});

test('webpack 5 builds it without configuration', async () => {
  const context = await project.app('webpack', { 'src/index.js': MAIN });
  // What it takes from the folder in which it is started.
  const output = { path: join(context, 'dist') };
  const stats = await promisify(webpack)({ context, output, mode: 'production' });
  assert.equal(stats.hasErrors() || stats.hasWarnings(), false, stats.toString());
  await project.app('webpack', { 'index.html': page('<script src="./dist/main.js"></script>') });
  const url = await origin(context);
  await expectShared(browser, url);
  await expectLeader(browser, url);
});

test('parcel builds it without configuration', async () => {
  const root = await project.app('parcel', {
    'package.json': '{ "private": true }',
    'index.html': MODULE,
    'main.js': MAIN,
  });
  await expectParcel(root);
});

test('parcel builds tabmux/socket with packageExports', async () => {
  const root = await project.app('parcel-socket', {
    'package.json': '{ "private": true, "@parcel/resolver-default": { "packageExports": true } }',
    'yarn.lock': '',
    'index.html': MODULE,
    'main.js': MAIN.replace("'tabmux'", "'tabmux/socket'"),
  });
  await expectParcel(root);
});

async function expectParcel(root) {
  const args = ['build', 'index.html', '--no-autoinstall', '--dist-dir', 'dist'];
  args.push('--cache-dir', join(root, '.cache'));
  await run(bin('parcel'), args, { cwd: root });
  const url = await origin(join(root, 'dist'));
  await expectShared(browser, url);
  await expectLeader(browser, url);
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

test('next builds and serves it without configuration, also in development and on the server', async () => {
  const root = await project.app('next', {
    'package.json': '{ "private": true }',
    // Where its own packages are: this is no application of its own.
    'next.config.mjs': `export default { turbopack: { root: ${JSON.stringify(here)} } };`,
    'app/layout.js': `export default function Layout({ children }) {
      return <html><body>{children}</body></html>;
    }`,
    'app/page.js': `import { SharedWebSocket } from 'tabmux';
      import { App } from './app.js';
      export default function Page() {
        return <><p id="server">{typeof SharedWebSocket}</p><App /></>;
      }`,
    'app/app.js': `'use client';
      import { useEffect } from 'react';
      import { SharedWebSocket } from 'tabmux';
      export function App() {
        useEffect(() => {
          ${MAIN.replace("import { SharedWebSocket } from 'tabmux';", '')}
          return () => app.socket?.close();
        }, []);
        return <p>{typeof SharedWebSocket}</p>;
      }`,
  });
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' };
  await run(bin('next'), ['build'], { cwd: root, env });
  for (const command of ['start', 'dev']) {
    const port = await freePort();
    const args = [command, '--hostname', '127.0.0.1', '--port', String(port)];
    const stdio = ['ignore', 'ignore', 'inherit'];
    const server = spawn(bin('next'), args, { cwd: root, env, stdio });
    servers.push({ close: () => server.kill() });
    const url = `http://127.0.0.1:${port}/`;
    let html = '';
    const ask = async () => (html = await fetch(url).then((answer) => answer.text(), () => ''));
    await eventually('next answers', ask);
    assert.match(html, /<p id="server">function<\/p>/);
    await expectShared(browser, url);
    await expectLeader(browser, url);
    server.kill();
  }
});
