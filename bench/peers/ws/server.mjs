// npm `ws` as its documentation shows it: a broadcast is a loop over the clients.
// POST /publish?size=N carries messages of N bytes, one after another.

import { createServer } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';

const server = createServer((request, response) => {
  const size = Number(new URL(request.url, 'http://x').searchParams.get('size'));
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    for (let at = 0; at < body.length; at += size) broadcast(body.subarray(at, at + size));
    response.writeHead(200, { 'content-length': 0 }).end();
  });
});
const wss = new WebSocketServer({ server, path: '/ws', perMessageDeflate: false });

function broadcast(message) {
  for (const client of wss.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(message);
  }
}

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  console.log(`ws: serving http://127.0.0.1:${server.address().port}/`);
});
