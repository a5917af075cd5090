// A plain WebSocket server for the tests of mirror mode. It writes one JSON line for each event
// and reads one JSON command a line:
//   {"send": text} {"sendBinary": [bytes]}      to every connection
//   {"close": code, "reason": text}             closes every connection
//   {"drop": true}                              cuts every connection without a closing handshake
// A path /echo sends every frame back, /refuse answers 403, /protocol takes the last sub-protocol
// that was offered, and /hello greets in the same flight as the upgrade.
// It runs in the folder of the npm package, where `ws` is installed.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { WebSocketServer } = createRequire(`${process.cwd()}/package.json`)('ws');

const report = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  verifyClient: ({ req }, decide) => decide(req.url !== '/refuse', 403),
  handleProtocols: (offered, req) => (req.url === '/protocol' ? [...offered].at(-1) : false),
});

server.on('listening', () => report({ type: 'listening', port: server.address().port }));

let connections = 0;
server.on('connection', (socket, request) => {
  const id = (connections += 1);
  report({ type: 'open', id, url: request.url, protocol: socket.protocol });
  if (request.url === '/hello') socket.send('hello');
  socket.on('message', (data, binary) => {
    report({ type: 'message', id, data: binary ? [...data] : data.toString() });
    if (request.url === '/echo') socket.send(data, { binary });
  });
  socket.on('close', (code, reason) => {
    report({ type: 'close', id, code, reason: reason.toString() });
  });
});

const obey = ({ send, sendBinary, close, reason, drop }) => {
  for (const socket of server.clients) {
    if (send !== undefined) socket.send(send);
    if (sendBinary !== undefined) socket.send(Uint8Array.from(sendBinary));
    if (close !== undefined) socket.close(close, reason);
    if (drop) socket.terminate();
  }
};
createInterface({ input: process.stdin }).on('line', (line) => obey(JSON.parse(line)));
