// A plain WebSocket server for the tests of mirror mode. It writes one JSON line for each event
// and reads one JSON command a line:
//   {"send": text} {"sendBinary": [bytes]}      to every connection
//   {"close": code, "reason": text}             closes every connection
//   {"stop": true}                              takes no connection any more, and cuts all
//   {"drop": true}                              cuts every connection without a closing handshake
// Some paths do something by themselves:
//   /echo       sends every frame back; the text "close" makes it close with 4000
//   /hello      greets in the same flight as the upgrade
//   /close      closes at once, with the code and the reason of its query
//   /drop       cuts the connection at the first frame
//   /protocol   takes the last sub-protocol that was offered; every other path takes none
//   /refuse     answers 403
//   /ask        answers each JSON text with one that has the same `from`
//   /users      says once how many connections there are
//   /game       keeps a score for each player, and says a notice to every connection
//   /once       refuses a token, which is its query, that it has seen before
//   /whose      answers each message by the cookie `user` that its connection had at first
//   /raw        answers the first frame with the bytes of its query `hex`, which are no message
// It runs in the folder of the npm package, where `ws` is installed.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { WebSocketServer } = createRequire(`${process.cwd()}/package.json`)('ws');

const report = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  verifyClient: ({ req }, decide) => decide(req.url !== '/refuse' && isFresh(req.url), 403),
  handleProtocols: (offered, req) => (req.url === '/protocol' ? [...offered].at(-1) : false),
});

server.on('listening', () => report({ type: 'listening', port: server.address().port }));

const seen = new Set();
const isFresh = (url) => {
  const isUsed = url.startsWith('/once?') && seen.has(url);
  seen.add(url);
  return !isUsed;
};

let connections = 0;
server.on('connection', (socket, request) => {
  const id = (connections += 1);
  report({ type: 'open', id, url: request.url, protocol: socket.protocol });
  greet(socket, new URL(request.url, 'ws://localhost'));
  socket.on('message', (data, binary) => {
    report({ type: 'message', id, data: binary ? [...data] : data.toString() });
    if (request.url === '/echo') echo(socket, data, binary);
    if (request.url === '/drop') socket.terminate();
    if (request.url === '/whose') {
      const [, user = 'nobody'] = /(?:^|; )user=([^;]+)/.exec(request.headers.cookie ?? '') ?? [];
      socket.send(user);
    }
    if (request.url === '/ask') answer(socket, JSON.parse(data));
    if (request.url === '/game') play(socket, JSON.parse(data));
    const [, hex] = /^\/raw\?hex=(.*)/.exec(request.url) ?? [];
    if (hex) socket._socket.write(Buffer.from(hex, 'hex'));
  });
  socket.on('close', (code, reason) => {
    report({ type: 'close', id, code, reason: reason.toString() });
  });
});

const greet = (socket, { pathname, searchParams }) => {
  if (pathname === '/hello') socket.send('hello');
  if (pathname === '/users') socket.send(JSON.stringify({ users: server.clients.size }));
  if (pathname !== '/close') return;
  const code = searchParams.get('code');
  if (code) socket.close(Number(code), searchParams.get('reason'));
  else socket.close();
};

const answer = (socket, { from, text }) =>
  socket.send(JSON.stringify({ from, text: `answer to ${text}` }));

const scores = new Map();
const play = (socket, { player, points, notice }) => {
  if (notice !== undefined) {
    server.clients.forEach((client) => client.send(JSON.stringify({ notice })));
    return;
  }
  const score = (scores.get(player) ?? 0) + points;
  scores.set(player, score);
  socket.send(JSON.stringify({ player, score }));
};

const echo = (socket, data, binary) => {
  if (!binary && data.toString() === 'close') socket.close(4000);
  else socket.send(data, { binary });
};

const obey = ({ send, stream, sendBinary, close, reason, drop, stop }) => {
  if (stop) server.close();
  for (const socket of server.clients) {
    if (send !== undefined) socket.send(send);
    if (stream) {
      let n = 0;
      const timer = setInterval(() => {
        if (n < stream) socket.send(String(n += 1));
        else clearInterval(timer);
      }, 1);
    }
    if (sendBinary !== undefined) socket.send(Uint8Array.from(sendBinary));
    if (close !== undefined) socket.close(close, reason);
    if (drop || stop) socket.terminate();
  }
};
createInterface({ input: process.stdin }).on('line', (line) => obey(JSON.parse(line)));
