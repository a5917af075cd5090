// The servers of thirteen libraries, on one port, and what they see: who comes, with which
// sub-protocols, and how each connection ends. Six are the libraries' own, seven are small ones of
// ours that speak as much of the protocol as the tests need.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initTRPC } from '@trpc/server';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import { Aedes } from 'aedes';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { Server as SocketIo } from 'socket.io';
import { WebSocketServer, createWebSocketStream } from 'ws';

const require = createRequire(import.meta.url);
const yjs = require('y-websocket-server/bin/utils');

/** Starts the servers. While `refused` is true, each handshake is answered by 403. */
export async function backends() {
  const seen = [];
  const serve = await servers();
  const state = { refused: false };
  const http = createServer((_, response) => response.writeHead(404).end());
  const sockets = new Set();
  http.on('upgrade', (request, socket, head) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    const name = request.url.split('/')[1].split('?')[0];
    const entry = {
      name, tab: new URL(request.url, 'http://a').searchParams.get('tab'),
      offered: request.headers['sec-websocket-protocol'] ?? '', at: Date.now(),
    };
    seen.push(entry);
    if (state.refused) {
      // Nothing reads this socket, so Node would not see that its peer closes it.
      socket.resume();
      return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    }
    watch(socket, entry);
    serve[name](request, socket, head);
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return {
    port: http.address().port,
    seen,
    state,
    close() {
      http.close();
      http.closeAllConnections();
      // Node does not count a socket after its upgrade among the connections of the server.
      for (const socket of sockets) socket.destroy();
      serve.close();
    },
  };
}

/** Notes the sub-protocol that a server chooses, and the close frame that comes to it. */
function watch(socket, entry) {
  const write = socket.write;
  socket.write = (data, ...rest) => {
    entry.chosen ??= /sec-websocket-protocol: *(.*)\r\n/i.exec(data.toString('latin1'))?.[1] ?? '';
    return write.call(socket, data, ...rest);
  };
  let bytes = Buffer.alloc(0);
  socket.on('data', (data) => {
    bytes = Buffer.concat([bytes, data]);
    for (let frame; (frame = next(bytes)); bytes = bytes.subarray(frame.end)) {
      if (frame.opcode < 3) entry.messages = (entry.messages ?? 0) + 1;
      if (frame.opcode === 8) {
        const { payload } = frame;
        entry.code = payload.length ? payload.readUInt16BE(0) : 1005;
        entry.reason = payload.subarray(2).toString();
      }
    }
  });
  socket.on('close', () => (entry.code ??= 1006));
}

/** The first frame of a client, if all of it is there. */
function next(bytes) {
  if (bytes.length < 2) return undefined;
  let [len, at] = [bytes[1] & 127, 2];
  if (len === 126 && bytes.length >= 4) [len, at] = [bytes.readUInt16BE(2), 4];
  else if (len === 127 && bytes.length >= 10) [len, at] = [Number(bytes.readBigUInt64BE(2)), 10];
  else if (len > 125) return undefined;
  const end = at + 4 + len;
  if (bytes.length < end) return undefined;
  const mask = bytes.subarray(at, at + 4);
  const payload = Buffer.from(bytes.subarray(at + 4, end)).map((byte, at) => byte ^ mask[at % 4]);
  return { opcode: bytes[0] & 15, payload, end };
}

/** What serves an upgrade, by the first part of its path. */
async function servers() {
  const socketIo = new SocketIo({ path: '/socketio/', serveClient: false });
  socketIo.on('connection', (socket) => socket.on('ask', (what, reply) => reply(`re: ${what}`)));
  const engine = createServer();
  socketIo.attach(engine);
  const broker = await (existsSync(MOSQUITTO) ? mosquitto() : aedes());
  return {
    graphql: graphql(),
    phoenix: messages(phoenix),
    stomp: messages(stomp, (offered) => [...offered].find((name) => name === 'v12.stomp')),
    centrifuge: messages(centrifuge),
    socketio: (request, socket, head) => engine.emit('upgrade', request, socket, head),
    mqtt: broker.serve,
    rxjs: messages((text, say) => say(JSON.stringify({ re: JSON.parse(text) }))),
    reconnecting: messages(echoOrEnd),
    partysocket: messages(echoOrEnd),
    yjs: connections((socket, request) => yjs.setupWSConnection(socket, request, { docName: 'doc' })),
    signalr: messages(signalr),
    trpc: trpc(),
    cable: connections(cable, (offered) => [...offered][0]),
    close() {
      socketIo.close();
      broker.close();
      // A document has a timer, and nothing else ends it.
      for (const document of yjs.docs.values()) document.destroy();
    },
  };
}

/** Debian's package `mosquitto` puts the broker here. */
const MOSQUITTO = '/usr/sbin/mosquitto';

/**
 * The broker of Debian. Its own WebSockets do not start on every machine, so `ws` carries them to its
 * port for TCP.
 */
async function mosquitto() {
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'tabmux-mosquitto-'));
  const config = join(folder, 'mosquitto.conf');
  await writeFile(config, `listener ${port} 127.0.0.1\nallow_anonymous true\n`);
  const child = spawn(MOSQUITTO, ['-c', config], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  for (let tries = 0; !(await listens(port)); tries += 1) {
    if (tries === 100) throw new Error('mosquitto does not listen');
    await new Promise((wake) => setTimeout(wake, 50));
  }
  return {
    serve: connections((socket) => {
      const [stream, broker] = [createWebSocketStream(socket), connect(port, '127.0.0.1')];
      for (const [from, to] of [[stream, broker], [broker, stream]]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
    }, (offered) => [...offered][0]),
    async close() {
      child.kill();
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}

/** The broker of npm, where Debian's is not installed. */
async function aedes() {
  const broker = await Aedes.createBroker();
  const serve = connections((socket) => broker.handle(createWebSocketStream(socket)), (offered) =>
    [...offered][0]);
  return { serve, close: () => broker.close() };
}

/** Returns a port on which nobody listens. */
async function freePort() {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Returns true if somebody listens on a port. */
const listens = (port) => new Promise((told) => {
  const socket = connect(port, '127.0.0.1', () => (socket.destroy(), told(true)));
  socket.on('error', () => told(false));
});

/** Calls `connected` for each WebSocket. */
function connections(connected, handleProtocols = () => false) {
  const server = new WebSocketServer({ noServer: true, handleProtocols });
  server.on('connection', connected);
  return (request, socket, head) => server.handleUpgrade(request, socket, head, (ws) =>
    server.emit('connection', ws, request));
}

/** Calls `hear` for each message, with what answers it. */
function messages(hear, handleProtocols) {
  return connections((socket) => socket.on('message', (data) =>
    hear(data.toString(), (text) => socket.send(text), socket)), handleProtocols);
}

function graphql() {
  const schema = buildSchema('type Query { hello(tab: Int): String } type Subscription { count: Int }');
  const roots = {
    query: { hello: ({ tab }) => `hello ${tab}` },
    subscription: { async *count() { for (let n = 1; n <= 3; n++) yield { count: n }; } },
  };
  const handleProtocols = (offered) => offered.has('graphql-transport-ws') && 'graphql-transport-ws';
  const server = new WebSocketServer({ noServer: true, handleProtocols });
  useServer({ schema, roots }, server);
  return (request, socket, head) => server.handleUpgrade(request, socket, head, (ws) =>
    server.emit('connection', ws, request));
}

function trpc() {
  const { router, procedure } = initTRPC.create();
  const appRouter = router({
    hello: procedure.input((tab) => tab).query(({ input }) => `hello ${input}`),
    count: procedure.subscription(async function* () { for (let n = 1; n <= 3; n++) yield n; }),
  });
  const wss = new WebSocketServer({ noServer: true });
  applyWSSHandler({ wss, router: appRouter });
  return (request, socket, head) => wss.handleUpgrade(request, socket, head, (ws) =>
    wss.emit('connection', ws, request));
}

/** Echoes, and closes with 4001 when it is asked to. */
function echoOrEnd(text, say, socket) {
  if (text === 'end') socket.close(4001, 'asked to');
  else say(`re: ${text}`);
}

/** Phoenix channels, version 2 of the serializer. */
function phoenix(text, say) {
  const [joinRef, ref, topic, event, payload] = JSON.parse(text);
  const response = event === 'ask' ? { re: payload } : {};
  say(JSON.stringify([joinRef, ref, topic, 'phx_reply', { status: 'ok', response }]));
}

/** STOMP 1.2: what is sent comes back to who subscribed on this connection. */
function stomp(text, say, socket) {
  const [head, body] = text.replace(/\0$/, '').split('\n\n');
  const [command, ...lines] = head.trim().split('\n');
  const headers = Object.fromEntries(lines.map((line) => line.trim().split(/:(.*)/)));
  if (command === 'CONNECT') say('CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0');
  if (command === 'SUBSCRIBE') socket.subscription = headers.id;
  if (command === 'SEND') {
    const { destination } = headers;
    say(`MESSAGE\nsubscription:${socket.subscription}\nmessage-id:1\ndestination:${destination}\n\nre: ${body}\0`);
  }
  if (command === 'DISCONNECT' && headers.receipt) say(`RECEIPT\nreceipt-id:${headers.receipt}\n\n\0`);
}

/** The JSON protocol of Centrifugo: commands are lines. */
function centrifuge(text, say) {
  for (const line of text.split('\n').filter(Boolean)) {
    const { id, connect, rpc } = JSON.parse(line);
    if (connect) say(JSON.stringify({ id, connect: { client: 'c', version: '1' } }));
    if (rpc) say(JSON.stringify({ id, rpc: { data: { re: rpc.data } } }));
  }
}

/** The JSON hub protocol of SignalR: records end in 0x1e. */
function signalr(text, say) {
  for (const record of text.split('\x1e').filter(Boolean)) {
    const { protocol, type, invocationId, arguments: args } = JSON.parse(record);
    if (protocol) say('{}\x1e');
    if (type === 1) say(`${JSON.stringify({ type: 3, invocationId, result: `re: ${args[0]}` })}\x1e`);
  }
}

/** Action Cable: a channel that answers what is performed. */
function cable(socket) {
  const say = (message) => socket.send(JSON.stringify(message));
  say({ type: 'welcome' });
  const ping = setInterval(() => say({ type: 'ping', message: Date.now() }), 1000);
  socket.on('close', () => clearInterval(ping));
  socket.on('message', (data) => {
    const { command, identifier, data: what } = JSON.parse(data);
    if (command === 'subscribe') say({ identifier, type: 'confirm_subscription' });
    if (command === 'message') say({ identifier, message: { re: JSON.parse(what).what } });
  });
}
