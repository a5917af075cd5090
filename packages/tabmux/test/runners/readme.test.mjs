// The steps of README.md, by its own lines, with a PATH that has Node and no Rust.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { pack, repo, run } from './harness.mjs';
import { registry } from './registry.mjs';

const CHROMIUM = '/usr/bin/chromium';
const TOOLS = ['sh', 'env', 'mkdir', 'curl', 'node', 'npm', 'npx'];
const noBrowser = !existsSync(CHROMIUM) && `needs ${CHROMIUM}`;
const noCargo = spawnSync('cargo', ['--version']).status !== 0 && 'needs cargo';
const noServer = noBrowser || noCargo;

const servers = [];
let root;
let folder;
let env;
let npm;
let ports;
let browser;
let readme;

before(async () => {
  root = folder = await mkdtemp(join(tmpdir(), 'tabmux-readme-'));
  readme = await readFile(join(repo, 'README.md'), 'utf8');
  npm = await registry(root);
  ports = { 8080: await freePort(), 3000: await freePort() };
  const bin = join(root, 'bin');
  await mkdir(bin);
  for (const tool of TOOLS) {
    const found = execFileSync('sh', ['-c', `command -v ${tool}`]).toString().trim();
    await symlink(found, join(bin, tool));
  }
  const cache = join(root, 'cache');
  env = { PATH: bin, HOME: root, npm_config_registry: npm.url, npm_config_cache: cache };
  if (!noBrowser) {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  }
});

after(async () => {
  await browser?.close();
  servers.forEach((server) => server.kill());
  npm?.close();
  await rm(root, { recursive: true, force: true });
});

/** The text of README.md between two marks. */
function between(mark) {
  const text = readme.split(`<!-- ${mark} -->`)[1]?.split(`<!-- /${mark} -->`)[0];
  assert.ok(text, `README.md has lost ${mark}`);
  return text;
}

/** The blocks of a step: its commands, and its files by their names. The ports are free ones. */
function step(number) {
  const blocks = [...between(`step ${number}`).matchAll(/^```(\w+)\n(.*?)^```/gms)].map(([, language, code]) => {
    const body = code.replaceAll(/\b(8080|3000)\b/g, (port) => ports[port]);
    const name = /^(?:\/\/|<!--) ([\w./-]+)/.exec(body)?.[1];
    return { language, body, name };
  });
  assert.ok(blocks.length > 2, `step ${number} has lost its lines`);
  return blocks;
}

/** Runs commands that end, and stays in the folder in which they end. */
async function shell(commands) {
  const script = `${commands}\npwd > "$HOME/folder"`;
  await run('sh', ['-ec', script], { cwd: folder, env });
  folder = (await readFile(join(root, 'folder'), 'utf8')).trim();
}

/** Starts what does not end, and resolves once it has said this. */
async function start(command, said) {
  const server = spawn('sh', ['-c', `exec ${command.replace(/^(\w+=\S+) /, 'env $1 ')}`],
    { cwd: folder, env });
  servers.push(server);
  const output = { text: '' };
  for (const stream of [server.stdout, server.stderr]) {
    stream.on('data', (data) => (output.text += data));
  }
  while (!said.test(output.text)) {
    if (server.exitCode !== null) assert.fail(`${command} ended: ${output.text}`);
    await Promise.race([server.stdout, server.stderr].map((stream) => once(stream, 'data'))
      .concat(once(server, 'exit')));
  }
  return output;
}

async function write({ name, body }) {
  await mkdir(dirname(join(folder, name)), { recursive: true });
  await writeFile(join(folder, name), body);
}

/** Two tabs of one browser, once both show that. */
async function twoTabs(path, shown) {
  const context = await browser.newContext();
  const pages = [await context.newPage(), await context.newPage()];
  for (const page of pages) await page.goto(`http://127.0.0.1:${ports[8080]}${path}`);
  const ready = () => Promise.all(pages.map((page) =>
    page.waitForFunction((shown) => new RegExp(shown).test(document.body.textContent), shown)));
  return { context, ready };
}

let feed;

test('step 1: its lines install the package and start the server, without Rust', async () => {
  await assert.rejects(run('sh', ['-c', 'cargo --version || rustc --version'], { env }));
  for (const block of step(1)) {
    if (block.name) await write(block);
    else if (block.body === 'node server.mjs\n') feed = await start('node server.mjs', /127/);
    else await shell(block.body);
  }
  assert.ok(feed, 'no block starts the server');
  for (const path of ['/', '/tabmux/client.js', '/tabmux/worker.js']) {
    const { status } = await fetch(`http://127.0.0.1:${ports[8080]}${path}`);
    assert.equal(status, 200, path);
  }
});

test('step 1: two tabs show the feed over one connection', { skip: noBrowser }, async () => {
  const { context, ready } = await twoTabs('/', 'Z, 2 tabs');
  await ready();
  assert.deepEqual(feed.text.match(/connections: \d/g), ['connections: 1']);
  await context.close();
});

test('the line for the tarball installs the tarball that npm packs', async () => {
  const line = /^npm install \S+\/(\S+\.tgz) ws$/m.exec(between('tarball'));
  assert.ok(line, 'README.md has lost the line for the tarball');
  const tarball = await pack(root);
  assert.equal(basename(tarball), line[1]);
  const app = join(root, 'tarball');
  await mkdir(app);
  await writeFile(join(app, 'package.json'), '{ "private": true }');
  const command = line[0].replace(/\S+\.tgz/, tarball);
  await run('sh', ['-ec', command], { cwd: app, env });
  await access(join(app, 'node_modules/tabmux/dist/client.js'));
});

test('step 3: its first line installs the server', { skip: noCargo }, async () => {
  const [{ body }] = step(3);
  const [, address, name] = /^cargo install --locked --git (\S+) (\S+)\n$/.exec(body) ?? [];
  const listed = await run('cargo', ['metadata', '--no-deps', '--format-version', '1'],
    { cwd: repo, maxBuffer: 1 << 24 });
  const found = JSON.parse(listed.stdout).packages.find((one) => one.name === name);
  assert.equal(found?.repository, address, body);
  // This checkout stands for the address.
  const command = body.trim().replace(`--git ${address} ${name}`, '--path "$FROM"');
  await run('sh', ['-ec', `${command} --debug --root "$INTO"`], {
    cwd: repo,
    env: { ...process.env, FROM: dirname(found.manifest_path), INTO: root },
    maxBuffer: 1 << 24,
  });
  await access(join(root, 'bin/tabmux'));
});

test('step 3: two tabs show what its command publishes', { skip: noServer }, async () => {
  const [, page, serve, publish] = step(3);
  await write(page);
  await start(serve.body.replaceAll('\\\n', ' ').trim(), /serving/);
  const { context, ready } = await twoTabs('/prices.html', '42, 2 tabs');
  // What is published before a tab has subscribed does not come to it.
  const published = setInterval(() => void shell(publish.body), 500);
  await ready();
  clearInterval(published);
  await context.close();
});

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}
