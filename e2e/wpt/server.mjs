// Serves a checkout of web-platform-tests to browsers, and the WebSockets that its tests talk to:
//   node server.mjs ROOT DIST MUX_PORT
// ROOT has the folder `websockets` and the folder `resources` with testharness.js. Each mode has a
// port of its own, so that tests see the address that they expect. The first line of output is a
// JSON object: the ports by mode, and `ws`, that of the WebSockets. Pages of mode `mux` are sent to
// MUX_PORT, where a tabmux server has handlers for the same paths (the example `wpt` of
// tabmux-server). It runs in the folder of the npm package, where `ws` is installed.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { extname, join, normalize } from 'node:path';

const { WebSocketServer } = createRequire(`${process.cwd()}/package.json`)('ws');
const [root, dist, muxPort] = process.argv.slice(2);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };
const MODES = ['native', 'exclusive', 'mirror', 'mux'];

// What the harness of a page has found out, for the program that drives the browser.
const REPORT = `add_completion_callback((tests, harness) => {
  const done = tests.map(({ name, status, message }) => [name, status, message ?? '']);
  window.tabmuxReport = { status: harness.status, message: harness.message ?? '', tests: done };
});`;

/** The scripts that stand before all others of a page. */
const prelude = (mode) => mode === 'native' ? '' : `<script src="/tabmux/tabmux.iife.js"></script>
<script>globalThis.WebSocket = tabmux.SharedWebSocket.with({ mode: '${mode}' });</script>`;

/** What META lines of a script say, by name. */
const metaOf = (script) => {
  const lines = script.matchAll(/^\/\/ META: (\w+)=(.*)$/gm);
  return [...lines].map(([, name, value]) => ({ name, value: value.trim() }));
};

/** The page of a test that is a script alone. */
const pageOf = (path, script, mode) => {
  const meta = metaOf(script);
  const scripts = meta.filter(({ name }) => name === 'script').map(({ value }) => value);
  const title = meta.find(({ name }) => name === 'title')?.value ?? path;
  const tags = ['/resources/testharness.js', '/resources/testharnessreport.js', ...scripts, path];
  return `<!doctype html><meta charset="utf-8"><title>${title}</title>${prelude(mode)}
<script>self.GLOBAL = { isWindow: () => true, isWorker: () => false, isShadowRealm: () => false };
</script>${tags.map((src) => `<script src="${src}"></script>`).join('\n')}
<div id="log"></div>`;
};

/** The text of a file whose name has `.sub.`. What is not known here is empty. */
const substituted = (text, page, ws) => text.replace(/\{\{([^}]*)\}\}/g, (_, name) => {
  if (name === 'ports[ws][0]' || name === 'ports[ws][1]') return ws;
  if (name === 'ports[http][0]') return page;
  return /^(host|domains|hosts)/.test(name) ? 'localhost' : '';
});

const read = (path) => readFile(path, 'utf8').catch(() => undefined);

/** The body for an address, or nothing. */
const find = async (path, mode, port, ws) => {
  if (path.startsWith('/tabmux/')) return readFile(join(dist, path.slice(8))).catch(() => undefined);
  if (path === '/resources/testharnessreport.js') return REPORT;
  const file = join(root, path);
  const generated = /^(.*\.(?:any|window))\.html$/.exec(path);
  const script = generated && await read(join(root, `${generated[1]}.js`));
  if (script !== null && script !== undefined) return pageOf(`${generated[1]}.js`, script, mode);
  if (!/\.(html?|js)$/.test(path)) return readFile(file).catch(() => undefined);
  let text = await read(file);
  if (text === undefined) return undefined;
  if (path.includes('.sub.')) text = substituted(text, port, mode === 'mux' ? muxPort : ws);
  return path.endsWith('.js') ? text : text.replace(/<script|$/, (tag) => prelude(mode) + tag);
};

const serve = (mode, ws) => new Promise((resolve) => {
  const server = createServer(async ({ url }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, 'http://localhost').pathname));
    const body = await find(path, mode, server.address().port, ws);
    const type = TYPES[extname(path)] ?? 'application/octet-stream';
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': type });
    response.end(body);
  });
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

/** What a path does, as the files in `websockets/handlers` have it. */
const HANDLERS = {
  '/echo': (socket) => socket.on('message', (data, binary) => {
    // As `echo_wsh.py` has it.
    if (!binary && data.toString() === 'Goodbye') socket.close(1000);
    else socket.send(data, { binary });
  }),
  '/echo-query': (socket, { search }) => socket.send(search.slice(1)),
  '/echo_raw': (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })),
  '/echo_exit': (socket) => socket.on('message', () => socket.close(1000)),
  '/empty-message': (socket) => socket.on('message', (data) => {
    socket.send(data.length ? 'fail' : 'pass');
  }),
  '/protocol': (socket) => socket.send(socket.protocol),
  '/protocol_array': (socket) => socket.send(socket.protocol),
  '/handshake_protocol': () => {},
  '/handshake_no_protocol': () => {},
  '/handshake_no_extensions': () => {},
  '/remote-close': (socket, { searchParams }) => {
    const code = searchParams.get('code');
    if (searchParams.has('abrupt')) socket.terminate();
    else if (code) socket.close(Number(code), searchParams.get('reason') ?? '');
    else socket.close();
  },
};
/** Paths that take no sub-protocol, and those that take one that nobody may have offered. */
const chosen = (offered, { url }) => {
  const { pathname } = new URL(url, 'ws://localhost');
  if (pathname === '/handshake_protocol') return 'foobar';
  return pathname.startsWith('/protocol') ? [...offered][0] : false;
};

const sockets = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  verifyClient: ({ req }, decide) => {
    decide(new URL(req.url, 'ws://localhost').pathname in HANDLERS, 404);
  },
  handleProtocols: chosen,
});
sockets.on('connection', (socket, { url }) => {
  const address = new URL(url, 'ws://localhost');
  HANDLERS[address.pathname](socket, address);
});
sockets.on('listening', async () => {
  const ws = sockets.address().port;
  const ports = await Promise.all(MODES.map(async (mode) => [mode, await serve(mode, ws)]));
  console.log(JSON.stringify({ ...Object.fromEntries(ports), ws }));
});
