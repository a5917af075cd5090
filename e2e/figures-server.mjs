// The plain WebSocket server of `cargo xtask bench browser`: npm `ws` without permessage-deflate.
// `/echo` sends back what it gets, every other path is a feed. Commands and answers are those of
// crates/server/examples/figures.rs, with a line `{"type":"listening","port":…}` before them. It
// runs in the folder of the npm package, where `ws` is installed.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { WebSocketServer } = createRequire(`${process.cwd()}/package.json`)('ws');

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
const feeds = new Set();

server.on('listening', () => say({ type: 'listening', port: server.address().port }));
server.on('connection', (socket, { url }) => {
  if (url.startsWith('/echo')) {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
    return;
  }
  feeds.add(socket);
  socket.on('close', () => feeds.delete(socket));
});

/** A text that begins with its number. */
const text = (number, size) => String(number).padEnd(size);

const broadcast = (message) => feeds.forEach((socket) => socket.send(message));

const began = () => say({ type: 'began', at: performance.timeOrigin + performance.now() });

const burst = (count, size) => {
  began();
  for (let number = 0; number < count; number += 1) broadcast(text(number, size));
};

const rate = (perSecond, count, size) => {
  began();
  const start = performance.now();
  let number = 0;
  const timer = setInterval(() => {
    const due = Math.min(count, Math.floor(((performance.now() - start) * perSecond) / 1000));
    for (; number < due; number += 1) broadcast(text(number, size));
    if (number === count) clearInterval(timer);
  }, 1);
};

createInterface({ input: process.stdin }).on('line', (line) => {
  const [name, ...numbers] = line.split(' ');
  ({ burst, rate })[name](...numbers.map(Number));
});
