// The package in Vite, Rollup, esbuild and without a bundler, in Chromium.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { nodeResolve } from '@rollup/plugin-node-resolve';
import * as esbuild from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';

import {
  MAIN, expectAdvice, expectLeader, expectShared, install, openTab, page, run, serve, startChromium,
  startFeed, until,
} from './harness.mjs';

const MODULE = page('<script type="module" src="./main.js"></script>');

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
async function origin(folder, answer) {
  const server = await serve(folder, answer);
  servers.push(server);
  return `${server.origin}/`;
}

/** A plugin of the installed package. */
async function plugin(name) {
  return (await import(join(project.installed, `dist/node/${name}.js`))).default();
}

test('vite 8 builds it without configuration', async () => {
  const root = await project.app('vite8', { 'index.html': MODULE, 'main.js': MAIN });
  await vite.build({ root, configFile: false, logLevel: 'error' });
  const url = await origin(join(root, 'dist'));
  await expectShared(browser, url);
  await expectLeader(browser, url);
});

/** The development server of Vite 8 with these plugins serves it. */
async function expectVite8(name, ...plugins) {
  const root = await project.app(name, { 'index.html': MODULE, 'main.js': MAIN });
  const server = await vite.createServer({
    root,
    configFile: false,
    logLevel: 'error',
    cacheDir: join(root, '.vite'),
    plugins,
    server: { host: '127.0.0.1', port: 0 },
  });
  try {
    await server.listen();
    const [url] = server.resolvedUrls.local;
    await expectShared(browser, url);
    await expectLeader(browser, url);
  } finally {
    await server.close();
  }
}

test('the development server of vite 8 serves it without configuration', () =>
  expectVite8('vite8-dev'));

test('the development server of vite 8 takes tabmux/vite as well', async () =>
  expectVite8('vite8-plugin', await plugin('vite')));

test('tabmux, tabmux/socket and tabmux/react in one page are one library and one tab', async () => {
  const root = await project.app('entries', {
    'index.html': page('<div id="root"></div><script type="module" src="./main.js"></script>'),
    'main.js': `
      import { createElement } from 'react';
      import { createRoot } from 'react-dom/client';
      import { SharedWebSocket } from 'tabmux';
      import { SharedWebSocket as Alone } from 'tabmux/socket';
      import { useSharedWebSocket } from 'tabmux/react';
      const url = new URLSearchParams(location.search).get('ws');
      const sockets = [new SharedWebSocket(url), new Alone(url)];
      function Feed() {
        const { socket, message } = useSharedWebSocket(url);
        sockets[2] = socket;
        return message?.data;
      }
      createRoot(document.getElementById('root')).render(createElement(Feed));
      globalThis.app = {
        isOpen: () => sockets.length === 3 && sockets.every((one) => one?.readyState === 1),
        isOneClass: () => SharedWebSocket === Alone &&
          sockets.every((one) => one.constructor === SharedWebSocket),
        tabs: () => sockets.map(({ shared }) => shared.tabs).join(),
      };
    `,
  });
  await vite.build({ root, configFile: false, logLevel: 'error' });
  const feed = await startFeed();
  const tab = await openTab(browser, `${await origin(join(root, 'dist'))}?ws=${feed.url}`);
  try {
    await until(tab, 'app.isOpen()');
    assert.equal(await tab.evaluate('app.isOneClass()'), true);
    assert.equal(await tab.evaluate('app.tabs()'), '1,1,1');
    feed.say('news');
    await until(tab, "document.body.textContent.includes('news')");
    assert.equal(feed.accepted, 1);
  } finally {
    await tab.close();
    feed.close();
  }
});

/** Bundles with Rollup, with these plugins. */
async function rolled(name, ...plugins) {
  const root = await project.app(name, { 'main.js': MAIN, 'dist/index.html': MODULE });
  const bundle = await rollup({
    input: join(root, 'main.js'),
    plugins: [nodeResolve(), ...plugins],
    onwarn: ({ message }) => assert.fail(message),
  });
  await bundle.write({ dir: join(root, 'dist'), format: 'es' });
  await bundle.close();
  return origin(join(root, 'dist'));
}

test('rollup bundles it with tabmux/rollup', async () => {
  const url = await rolled('rollup', await plugin('rollup'));
  await expectShared(browser, url);
  await expectLeader(browser, url);
});

test('rollup without tabmux/rollup: the console names it', async () => {
  await expectAdvice(browser, await rolled('rollup-bare'), ["'tabmux/rollup'", 'plugins']);
});

/** Bundles with esbuild, in this format. */
async function esbuilt(name, settings, type, source = './main.js') {
  const root = await project.app(name, {
    'main.js': MAIN,
    'dist/index.html': page(`<script ${type} src="${source}"></script>`),
  });
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: ['main.js'],
    outdir: 'dist',
    bundle: true,
    logLevel: 'silent',
    ...settings,
  });
  return origin(join(root, 'dist'));
}

test('esbuild bundles it with tabmux/esbuild, as a module and as a classic script', async () => {
  const plugins = [await plugin('esbuild')];
  const split = { format: 'esm', splitting: true, plugins };
  const url = await esbuilt('esbuild', split, 'type="module"');
  await expectShared(browser, url);
  await expectLeader(browser, url);
  const classic = await esbuilt('esbuild-iife', { plugins }, 'defer');
  await expectShared(browser, classic);
  await expectLeader(browser, classic);
});

test('esbuild: a classic bundle in a module script finds the worker by publicPath', async () => {
  const settings = { outdir: 'dist/js', plugins: [await plugin('esbuild')] };
  const load = (name, more) =>
    esbuilt(name, { ...settings, ...more }, 'type="module"', './js/main.js');
  await expectShared(browser, await load('esbuild-public', { publicPath: '/js' }));
  await expectAdvice(browser, await load('esbuild-module', {}), ['tabmux-worker']);
});

test('esbuild without tabmux/esbuild: the console names it', async () => {
  const advice = ["'tabmux/esbuild'", 'plugins'];
  const url = await esbuilt('esbuild-bare', { format: 'esm' }, 'type="module"');
  await expectAdvice(browser, url, advice);
  await expectAdvice(browser, await esbuilt('esbuild-bare-iife', {}, 'defer'), advice);
});

test('every entry can be imported in Node, as on a server', async () => {
  const manifest = JSON.parse(await readFile(join(project.installed, 'package.json'), 'utf8'));
  const entries = Object.entries(manifest.exports).filter(([, { types }]) => types);
  // What they need is not installed here.
  const names = entries.map(([name]) => name.replace('.', 'tabmux'))
    .filter((name) => !/vue|svelte/.test(name));
  assert.ok(names.includes('tabmux') && names.includes('tabmux/react'), `${names}`);
  for (const name of names) {
    const script = `await import('${name}')`;
    await run(process.execPath, ['--input-type=module', '-e', script], { cwd: project.root });
  }
});

test('without a bundler: `tabmux copy`, an import map, and a classic script', async () => {
  const imports = JSON.stringify({ imports: { tabmux: '/tabmux/client.js' } });
  const root = await project.app('plain', {
    'index.html': page(`<script type="importmap">${imports}</script>
      <script type="module" src="./main.js"></script>`),
    'main.js': MAIN,
    'classic/index.html': page(`<script src="/tabmux/tabmux.iife.js"></script>
      <script>${MAIN.replace("import { SharedWebSocket } from 'tabmux'",
        'const { SharedWebSocket } = tabmux')}</script>`),
  });
  await run('npx', ['--no-install', 'tabmux', 'copy', root], { cwd: project.root });
  const copied = (await readdir(join(root, 'tabmux'))).filter((name) => name.endsWith('.js'));
  const scripts = ['client', 'connect', 'debug', 'install', 'socket', 'tabmux.iife', 'tiers', 'worker'];
  const isOfBuild = (name) => /^worker\.[\da-f]{8}\.js$/.test(name);
  assert.deepEqual(copied.filter((name) => !isOfBuild(name)).sort(),
    scripts.map((name) => `${name}.js`));
  assert.equal(copied.filter(isOfBuild).length, 1);
  const url = await origin(root);
  await expectShared(browser, url);
  await expectLeader(browser, url);
  await expectShared(browser, `${url}classic/`);
  await expectLeader(browser, `${url}classic/`);
});
