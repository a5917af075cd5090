// The page of `cargo xtask bench browser`: sockets of each kind, what they take, and what comes.

import { SharedWebSocket, connect } from '/tabmux/client.js';
import { PlainSocket } from '/figures/plain.js';

/** A topic with the handlers of a WebSocket. */
class TopicSocket {
  #client;
  #topic;

  constructor(url) {
    this.#client = connect(url);
    this.#topic = this.#client.topic('figures');
    this.#topic.on('message', ({ data }) => this.onmessage({ data }));
    this.#topic.on('gap', () => (B.gaps += 1));
    this.#topic.on('end', () => this.onclose());
    this.#topic.ready.then(() => this.onopen());
  }

  close() {
    this.#topic.close();
    this.#client.close();
  }
}

const KINDS = {
  native: (url) => new WebSocket(url),
  plain: (url) => new PlainSocket(url),
  mirror: (url) => new SharedWebSocket(url, [], { mode: 'mirror' }),
  exclusive: (url) => new SharedWebSocket(url, [], { mode: 'exclusive' }),
  mux: (url) => new SharedWebSocket(url, [], { mode: 'mux' }),
  topic: (url) => new TopicSocket(url),
};

let sockets = [];

/** An open socket. */
const open = (kind, url) => new Promise((resolve, reject) => {
  const socket = KINDS[kind](url);
  sockets.push(socket);
  socket.onopen = () => resolve(socket);
  socket.onclose = () => reject(new Error(`${kind}: ${url} closed`));
});

const now = () => performance.timeOrigin + performance.now();

const B = {
  gaps: 0,
  got: 0,
  wrong: 0,
  last: 0,
  /** The times of so many round trips, in milliseconds: each is the mean of `group` in a row. */
  trips: async (kind, url, size, count, group) => {
    const socket = await open(kind, url);
    const text = 'x'.repeat(size);
    const trip = () => new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) =>
        (data.length === size ? resolve() : reject(new Error(`${data.length} came back`)));
      socket.send(text);
    });
    for (let warm = 0; warm < 3 * group; warm += 1) await trip();
    const times = [];
    while (times.length < count) {
      const start = performance.now();
      for (let done = 0; done < group; done += 1) await trip();
      times.push((performance.now() - start) / group);
    }
    return times;
  },
  /** Opens a feed whose messages are counted from now on: `wanted` are to come. */
  listen: async (kind, url, wanted) => {
    Object.assign(B, { gaps: 0, got: 0, wrong: 0, last: 0 });
    const socket = await open(kind, url);
    let next = 0;
    B.done = new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        const number = parseInt(data, 10);
        if (number !== next) B.wrong += 1;
        next = number + 1;
        B.got += 1;
        B.last = now();
        if (B.got === wanted) resolve();
      };
    });
  },
  /** Resolves when all came, or when nothing has come for so long. */
  rest: (quiet) => new Promise((resolve) => {
    const start = now();
    const timer = setInterval(() => {
      if (now() - Math.max(B.last, start) > quiet) stop();
    }, 100);
    const stop = () => {
      clearInterval(timer);
      resolve();
    };
    B.done.then(stop);
  }),
  /** What a feed brought so far. */
  seen: () => ({ got: B.got, wrong: B.wrong, gaps: B.gaps, last: B.last }),
  /** Opens so many sockets, to a URL each. Resolves with the time that it took. */
  many: async (kind, url, count) => {
    const start = performance.now();
    const urls = Array.from({ length: count }, (_, number) => `${url}?n=${number}`);
    await Promise.all(urls.map((url) => open(kind, url)));
    return performance.now() - start;
  },
  /** Closes all that this page opened. */
  close: () => {
    for (const socket of sockets) {
      socket.onclose = () => undefined;
      socket.close();
    }
    sockets = [];
  },
};

window.B = B;
window.pageReady();
