// The test page: `T` opens sockets and clients and records what happens to them. Everything waits
// for events and never for a timer, because timers of hidden tabs crawl.

const records = new Map();
const log = [];

/** What a test compares of a message: texts and short binaries whole, the rest by sum. */
const describe = (data) => {
  if (typeof data === 'string') {
    if (data.length <= 200) return data;
    return `text of ${data.length}, sum ${sum(new TextEncoder().encode(data))}`;
  }
  if (data instanceof Blob) return `Blob of ${data.size}`;
  const bytes = new Uint8Array(data);
  if (bytes.length > 32) return `${data.constructor.name} of ${bytes.length}, sum ${sum(bytes)}`;
  return `${data.constructor.name} [${bytes.join(' ')}]`;
};

/** Tells apart what has another order or other bytes. */
const sum = (bytes) => {
  let value = 1;
  for (const byte of bytes) value = (Math.imul(value, 31) + byte) >>> 0;
  return value;
};

const makeRecord = (name, target) => {
  const record = { name, target, events: [], waiting: [] };
  records.set(name, record);
  return record;
};

const note = (record, event) => {
  record.events.push(event);
  log.push(`${record.name}: ${JSON.stringify(event)}`);
  record.waiting = record.waiting.filter((check) => !check());
};

const find = (name) => {
  const record = records.get(name);
  if (!record) throw new Error(`nothing is called ${name}`);
  return record;
};

/** Resolves with what `select` gives for the events of `name`, once that is not undefined. */
const when = (name, select) => {
  const record = find(name);
  return new Promise((resolve) => {
    const check = () => {
      const value = select(record.events);
      if (value === undefined) return false;
      resolve(value);
      return true;
    };
    if (!check()) record.waiting.push(check);
  });
};

const watchSocket = (name, socket) => {
  const record = makeRecord(name, socket);
  socket.addEventListener('open', () => note(record, { type: 'open' }));
  socket.addEventListener('message', ({ data }) => {
    note(record, { type: 'message', data: describe(data) });
  });
  socket.addEventListener('error', ({ message }) => {
    note(record, message === undefined ? { type: 'error' } : { type: 'error', message });
  });
  socket.addEventListener('close', ({ code, reason, wasClean }) => {
    note(record, { type: 'close', code, reason, wasClean });
  });
  return socket;
};

const T = {
  log,
  /** Every SharedWorker that this page has made, in order. */
  workers: [],
  /** Every dedicated worker that this page has made, and those it has ended. */
  dedicated: [],
  terminated: [],

  /** Opens a SharedWebSocket. */
  shared: (name, url, protocols, options) => {
    watchSocket(name, new T.SharedWebSocket(url, protocols, options)).binaryType = 'arraybuffer';
  },
  /** Opens a virtual socket. */
  mux: (name, url, options) => T.shared(name, url, [], { mode: 'mux', ...options }),
  /** Opens a WebSocket of the browser. */
  native: (name, url, protocols) => {
    watchSocket(name, new WebSocket(url, protocols)).binaryType = 'arraybuffer';
  },
  /** Opens a client. */
  client: (name, url, options) => {
    const client = T.connect(url, options);
    const record = makeRecord(name, client);
    client.on('status', () => note(record, { type: 'status', ...client.status }));
    client.on('message', ({ data }) => note(record, { type: 'message', data: describe(data) }));
    note(record, { type: 'status', ...client.status });
  },

  /** Subscribes a client to a topic. */
  topic: (name, client, topic, options) => {
    const it = T.get(client).topic(topic, options);
    const record = makeRecord(name, it);
    it.on('message', ({ data }) => note(record, { type: 'message', data: describe(data) }));
    it.on('gap', () => note(record, { type: 'gap' }));
    it.ready.then(
      () => note(record, { type: 'ready' }),
      ({ message }) => note(record, { type: 'error', message }),
    );
  },

  /** What was opened under that name. */
  get: (name) => find(name).target,
  /** Whether something was opened under that name by this load of the page. */
  has: (name) => records.has(name),
  /** How many events of one type there were so far. */
  count: (name, type) => find(name).events.filter((event) => event.type === type).length,
  /** All events of a name so far. */
  events: (name) => find(name).events,
  /** The first `count` events of one type, once there are so many. */
  until: (name, type, count = 1) => when(name, (events) => {
    const found = events.filter((event) => event.type === type);
    return found.length < count ? undefined : found.slice(0, count);
  }),
  /** The data of the first `count` messages. */
  messages: async (name, count = 1) => {
    const messages = await T.until(name, 'message', count);
    return messages.map(({ data }) => data);
  },
  /** The last status of a client, once it is in that state. */
  state: (name, state) => when(name, (events) => {
    const last = events.findLast(({ type }) => type === 'status');
    return last?.state === state ? last : undefined;
  }),
  /** The last status of a client, once it counts so many tabs. */
  tabs: (name, tabs) => when(name, (events) => {
    const last = events.findLast(({ type }) => type === 'status');
    return last?.tabs === tabs ? last : undefined;
  }),
  /** The states a client went through; a change of something else is no new state. */
  states: (name) => find(name).events
    .filter(({ type }) => type === 'status')
    .map(({ state }) => state)
    .filter((state, index, states) => state !== states[index - 1]),
  describe,
  /**
   * Sends numbered messages on an open echo socket, each when an earlier one has come back, until
   * it is told to end; then resolves with how many came back, once all have. Fails at once when
   * one is missing, comes twice or out of its turn, and when the socket closes.
   */
  stream: (name) => {
    const socket = find(name).target;
    let sent = 0;
    let got = 0;
    let ending = false;
    const send = () => socket.send(`${name} ${sent++}`);
    const stream = { get got() { return got; } };
    stream.ended = new Promise((resolve, reject) => {
      socket.addEventListener('message', ({ data }) => {
        if (data !== `${name} ${got}`) reject(new Error(`${data} instead of ${name} ${got}`));
        got += 1;
        if (!ending) send();
        else if (got === sent) resolve(got);
      });
      socket.addEventListener('close', ({ code }) => reject(new Error(`closed with ${code}`)));
    });
    stream.end = () => {
      ending = true;
      return stream.ended;
    };
    stream.ended.catch(() => undefined);
    T.streams[name] = stream;
    for (let i = 0; i < 3; i += 1) send();
  },
  streams: {},
  /** Evaluates a script as a script of this page would be. */
  run: (script) => (0, eval)(script),
};

window.addEventListener('error', ({ message }) => log.push(`uncaught: ${message}`));
window.addEventListener('unhandledrejection', ({ reason }) => log.push(`unhandled: ${reason}`));

// ?without=NAME: as if the browser had no such thing. ?silent: SharedWorkers that never answer.
// ?broken: SharedWorkers that cannot be made.
const query = new URLSearchParams(location.search);
for (const name of query.getAll('without')) delete window[name];

const NativeSharedWorker = window.SharedWorker;
if (query.has('silent')) {
  window.SharedWorker = class {
    port = new MessageChannel().port1;
  };
} else if (query.has('broken')) {
  window.SharedWorker = class {
    constructor() {
      throw new DOMException('broken', 'SecurityError');
    }
  };
} else if (NativeSharedWorker) {
  window.SharedWorker = class extends NativeSharedWorker {
    constructor(...options) {
      super(...options);
      this.options = options;
      T.workers.push(this);
    }
  };
}

const NativeWorker = window.Worker;
window.Worker = class extends NativeWorker {
  constructor(...options) {
    super(...options);
    T.dedicated.push(this);
  }
  terminate() {
    T.terminated.push(this);
    super.terminate();
  }
};

window.T = T;
try {
  const { SharedWebSocket, connect } = await import('/tabmux/client.js');
  Object.assign(T, { SharedWebSocket, connect });
  window.pageReady(true);
} catch (error) {
  window.pageFailed(error);
}
