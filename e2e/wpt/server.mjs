// Serves a checkout of web-platform-tests to browsers, and the WebSockets that its tests talk to:
//   node server.mjs ROOT DIST MUX_PORT
// ROOT has the folder `websockets` and the folder `resources` with testharness.js. Each mode has a
// port of its own, so that tests see the address that they expect. The first line of output is a
// JSON object: the ports by mode, and `ws`, that of the WebSockets. Pages of mode `mux` are sent to
// MUX_PORT, where a tabmux server has handlers for the same paths (the example `wpt` of
// tabmux-server). It runs in the folder of the npm package, where `ws` is installed.
import { createHash } from 'node:crypto';
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

/** The page of a test that is a script in a dedicated worker. */
const pageOfWorker = (path) => `<!doctype html><meta charset="utf-8"><title>${path}</title>
<script src="/resources/testharness.js"></script>
<script src="/resources/testharnessreport.js"></script>
<script>fetch_tests_from_worker(new Worker('${path}.any.worker.js' + location.search));</script>
<div id="log"></div>`;

/** The script of that worker. */
const workerOf = (path, script, mode) => {
  const scripts = metaOf(script).filter(({ name }) => name === 'script');
  const all = ['/resources/testharness.js', ...scripts.map(({ value }) => value), path];
  const shared = `importScripts('/tabmux/tabmux.iife.js');
self.WebSocket = tabmux.SharedWebSocket.with({ mode: '${mode}', worker: '/tabmux/worker.js' });`;
  return `self.GLOBAL = {
  isWindow: () => false, isWorker: () => true, isShadowRealm: () => false,
};
${mode === 'native' ? '' : shared}
${all.map((src) => `importScripts('${src}');`).join('\n')}
done();`;
};

/** The text of a file whose name has `.sub.`. What is not known here is empty. */
const substituted = (text, page, ws) => text.replace(/\{\{([^}]*)\}\}/g, (_, name) => {
  if (name === 'ports[ws][0]' || name === 'ports[ws][1]') return ws;
  if (name === 'ports[http][0]') return page;
  return /^(host|domains|hosts)/.test(name) ? 'localhost' : '';
});

/** The bytes of a file, one a character: not every page is in UTF-8, and none may change. */
const read = (path) => readFile(path, 'latin1').catch(() => undefined);

/** The body for an address, or nothing. */
const find = async (path, mode, port, ws) => {
  const bytes = (file) => readFile(file).catch(() => undefined);
  if (path.startsWith('/tabmux/')) return bytes(join(dist, path.slice(8)));
  if (path === '/resources/testharnessreport.js') return REPORT;
  if (path === '/resources/WebIDLParser.js') {
    return bytes(join(root, 'resources/webidl2/lib/webidl2.js'));
  }
  const file = join(root, path);
  const inWorker = /^(.*)\.any\.worker\.(html|js)$/.exec(path);
  if (inWorker?.[2] === 'html') return pageOfWorker(inWorker[1]);
  if (inWorker) {
    const script = await read(join(root, `${inWorker[1]}.any.js`));
    return script && workerOf(`${inWorker[1]}.any.js`, script, mode);
  }
  const generated = /^(.*\.(?:any|window))\.html$/.exec(path);
  const script = generated && await read(join(root, `${generated[1]}.js`));
  if (script !== null && script !== undefined) return pageOf(`${generated[1]}.js`, script, mode);
  if (!/\.(html?|js)$/.test(path)) return bytes(file);
  let text = await read(file);
  if (text === undefined) return undefined;
  if (path.includes('.sub.')) text = substituted(text, port, mode === 'mux' ? muxPort : ws);
  return path.endsWith('.js') ? text : text.replace(/<script|$/, (tag) => prelude(mode) + tag);
};

const serve = (mode, ws) => new Promise((resolve) => {
  const server = createServer(async ({ url }, response) => {
    const { pathname, search } = new URL(url, 'http://localhost');
    const path = normalize(decodeURIComponent(pathname));
    // As `set-cookie.py` has it.
    if (path.endsWith('/set-cookie.py')) {
      response.writeHead(200, { 'set-cookie': decodeURIComponent(search.slice(1)) }).end();
      return;
    }
    const body = await find(path, mode, server.address().port, ws);
    const type = TYPES[extname(path)] ?? 'application/octet-stream';
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': type });
    response.end(body, 'latin1');
  });
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a path does once the socket is open, as the files in `websockets/handlers` have it. */
const HANDLERS = {
  '/echo': (socket) => socket.on('message', (data, binary) => {
    socket.send(data, { binary });
    if (!binary && data.toString() === 'Goodbye') socket.close(1000);
  }),
  '/echo-cookie': (socket, _, { cookie }) => socket.send(cookie ?? '(none)'),
  '/echo-query': (socket, { search }) => socket.send(search.slice(1)),
  '/echo-query_v13': (socket, { search }) => socket.send(search.slice(1)),
  // The tests send whole frames, which the server does not look into.
  '/echo_raw': (socket) => socket.on('message', (data) => socket._socket.write(data)),
  '/echo_close_data': (socket) => socket.on('message', (data) => {
    if (data.toString() === 'Goodbye') socket.close(1000);
  }),
  '/echo_exit': (socket) => socket.on('message', () => socket.close(1000)),
  '/empty-message': (socket) => socket.on('message', (data) => {
    socket.send(data.length ? 'fail' : 'pass');
  }),
  '/handshake_no_extensions': () => {},
  '/handshake_no_protocol': () => {},
  '/handshake_protocol': () => {},
  '/handshake_sleep_2': (socket) => socket.close(1000),
  '/origin': (socket, _, { origin }) => socket.send(origin),
  '/protocol': (socket) => socket.send(socket.protocol),
  '/protocol_array': (socket) => socket.send(socket.protocol),
  '/referrer': (socket, _, { referer }) => socket.send(referer ?? 'MISSING AS PER FETCH'),
  '/remote-close': (socket, { searchParams }) => {
    const code = searchParams.get('code');
    if (searchParams.has('abrupt')) socket.terminate();
    else if (code) socket.close(Number(code), searchParams.get('reason') ?? '');
    else socket.close();
  },
  '/set-cookie': () => {},
  '/set-cookie_http': () => {},
};

/** What paths do in the place of a handshake. */
const RAW = {
  '/basic_auth': (connection) => connection.end(
    'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n'
    + 'WWW-Authenticate: Basic realm="camelot"\r\n\r\n'),
  '/invalid': (connection) => connection.end('FOO BAR BAZ\r\n\r\n'),
  '/simple_handshake': (connection, key) => connection.write(
    `${switching(key)}\x88\x06\x03\xe9PASS`, 'latin1'),
  '/sleep_10_v13': async (connection) => {
    for (let i = 0; i < 5; i++) {
      connection.write('x');
      await later(2000);
    }
    connection.end();
  },
  '/wrong_accept_key': (connection) => connection.write(
    switching('').replace(/(Accept: ).*/, '$1thisisawrongacceptkey')),
};

const switching = (key) => {
  const digest = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
  return 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n'
    + `Sec-WebSocket-Accept: ${digest.digest('base64')}\r\n\r\n`;
};

/** The sub-protocol that a path takes: some take one that nobody may have offered, most none. */
const chosen = (offered, { url }) => {
  const { pathname } = new URL(url, 'ws://localhost');
  if (pathname === '/handshake_protocol') return 'foobar';
  if (pathname === '/echo' && offered.has('echo')) return 'echo';
  return pathname.startsWith('/protocol') ? [...offered][0] : false;
};

const sockets = new WebSocketServer({ noServer: true, handleProtocols: chosen });
sockets.on('headers', (headers, { url }) => {
  const [path, query] = url.split('?');
  if (path === '/set-cookie') headers.push(`Set-Cookie: ws_test_${query}=test; Path=/`);
  if (path === '/set-cookie_http') {
    headers.push(`Set-Cookie: ws_test_${query}=test; Path=/; HttpOnly`);
  }
});

const upgrades = createServer((_, response) => response.writeHead(404).end());
upgrades.on('upgrade', async (request, connection, head) => {
  connection.on('error', () => {});
  const address = new URL(request.url, 'ws://localhost');
  const raw = RAW[address.pathname];
  if (raw) return void raw(connection, request.headers['sec-websocket-key']);
  const handler = HANDLERS[address.pathname];
  if (!handler) return void connection.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
  if (address.pathname === '/handshake_sleep_2') await later(2000);
  sockets.handleUpgrade(request, connection, head, (socket) => {
    socket.on('error', () => {});
    handler(socket, address, request.headers);
  });
});
upgrades.listen(0, '127.0.0.1', async () => {
  const ws = upgrades.address().port;
  const ports = await Promise.all(MODES.map(async (mode) => [mode, await serve(mode, ws)]));
  console.log(JSON.stringify({ ...Object.fromEntries(ports), ws }));
});
