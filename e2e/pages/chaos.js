// The page of the chaos run: `C` opens sockets and topics that carry numbers, and looks at each
// number. The server is crates/server/examples/chaos.rs. Nothing here waits for a timer: a message
// that comes is answered by one that goes.

const query = new URLSearchParams(location.search);
// Where the page library is; another place stands for another build.
const { SharedWebSocket, connect } = await import(`/${query.get('build') ?? 'tabmux'}/client.js`);

const streams = new Map();
const topics = new Map();
const faults = [];
const tier = query.get('tier');
const bfcache = query.get('bfcache') ?? undefined;
const options = { mode: 'mux', bfcache, ...(tier && { tiers: [tier] }) };
const zero = { down: 0, up: 0, publications: 0, gaps: 0 };
let counts = { ...zero };
let client;
/** What the client heard of its hub and link last. */
const history = [];

const now = () => new Date().toISOString().slice(11, 23);
const fault = (text) => faults.push(`${now()} ${text}`);

/** The same message as the server makes. */
const numbered = (direction, number) => {
  const filler = 'x'.repeat(number % 50 === 0 ? 2000 : number % 7);
  const text = `${direction} ${number} ${filler}`;
  return number % 10 === 0 ? new TextEncoder().encode(text) : text;
};

const textOf = (data) => (typeof data === 'string' ? data : new TextDecoder().decode(data));

const sendNext = (stream) => {
  if (stream.socket.readyState !== 1 || stream.ending) return;
  stream.sent += 1;
  counts.up += 1;
  stream.socket.send(numbered('u', stream.sent));
};

const receive = (stream, data) => {
  const { name, socket } = stream;
  const text = textOf(data);
  const [kind, first, second] = text.split(' ');
  if (stream.closed) fault(`${name}: ${text.slice(0, 20)} after its close`);
  if (!stream.opened) fault(`${name}: ${text.slice(0, 20)} before its open`);
  if (kind === 't') return total(stream, Number(first), Number(second));
  const number = Number(first);
  if (kind !== 'd' || number !== stream.received + 1) {
    const what = number <= stream.received ? 'again or late' : 'with a hole before it';
    fault(`${name}: ${text.slice(0, 20)} came ${what}: ${stream.received} was before`);
  }
  const length = typeof data === 'string' ? data.length : data.byteLength;
  if (length !== numbered('d', number).length) fault(`${name}: ${number} has ${length} bytes`);
  stream.received = number;
  counts.down += 1;
  sendNext(stream);
};

/** The server's count of both directions, in answer to `end`. */
const total = (stream, sent, received) => {
  const { name } = stream;
  if (sent !== stream.received) fault(`${name}: ${stream.received} of ${sent} came down`);
  if (received !== stream.sent) fault(`${name}: ${received} of ${stream.sent} came up`);
  stream.settled = true;
};

const publication = (topic, data) => {
  const [, run, text] = textOf(data).split(' ');
  const number = Number(text);
  const { name, gap } = topic;
  if (topic.run === run) {
    if (number <= topic.last) fault(`${name}: ${number} came again or late after ${topic.last}`);
    else if (number > topic.last + 1 && !gap) fault(`${name}: no gap before ${number}, ${topic.last} was before`);
  } else if (topic.run !== undefined && !gap) {
    fault(`${name}: another run without a gap`);
  }
  Object.assign(topic, { run, last: number, gap: false, count: topic.count + 1 });
  counts.publications += 1;
};

const C = {
  /** Another one at each load: tells a page that was restored from one that was loaded again. */
  page: Math.random().toString(36).slice(2, 10),
  connect: (url) => {
    client = connect(url, options);
    client.on('status', ({ state, tier, hubId, tabs, reason }) => {
      history.push(`${now()} ${tier} ${hubId} ${state} ${tabs} ${reason}`);
      history.splice(0, history.length - 30);
    });
  },
  open: (name, url) => {
    const socket = new SharedWebSocket(url, [], options);
    socket.binaryType = 'arraybuffer';
    const stream = { name, socket, born: Date.now(), opened: false, sent: 0, received: 0,
      ending: false, settled: false, asked: false, closed: undefined };
    streams.set(name, stream);
    socket.addEventListener('open', () => {
      if (stream.opened) fault(`${name}: opened twice`);
      stream.opened = true;
      // What was asked for while it was connecting.
      if (stream.ending) socket.send('end');
      else sendNext(stream);
    });
    socket.addEventListener('message', ({ data }) => receive(stream, data));
    socket.addEventListener('close', ({ code, reason, wasClean }) => {
      if (stream.closed) fault(`${name}: closed twice`);
      stream.closed = { code, reason, wasClean, at: Date.now() };
      stream.settled = true;
    });
  },
  topic: (name) => {
    const topic = { name, run: undefined, last: 0, gap: false, count: 0 };
    topics.set(name, topic);
    const it = client.topic(name);
    it.on('message', ({ data }) => publication(topic, data));
    it.on('gap', ({ position }) => {
      history.push(`${now()} gap of ${name} up to ${position.offset}, ${topic.last} was heard last`);
      topic.gap = true;
      counts.gaps += 1;
    });
    it.on('end', ({ reason }) => fault(`${name}: ended: ${reason}`));
  },
  /** Sends some messages at once. */
  burst: (name, count) => {
    for (let sent = 0; sent < count; sent += 1) sendNext(streams.get(name));
  },
  close: (name) => {
    const stream = streams.get(name);
    stream.asked = true;
    stream.socket.close(3000, 'enough');
  },
  /** From now on each socket that is not closed, and each topic, must hear something. */
  mark: () => {
    streams.forEach((stream) => (stream.mark = stream.received));
    topics.forEach((topic) => (topic.mark = topic.count));
  },
  /** Those that have heard nothing since. */
  still: () => [
    ...[...streams.values()].filter((s) => s.socket.readyState < 2 && s.received === s.mark),
    ...[...topics.values()].filter((topic) => topic.count === topic.mark),
  ].map(({ name }) => name),
  /** Asks the server to stop and to say how many messages there were. */
  end: () => streams.forEach((stream) => {
    stream.ending = true;
    stream.settled = Boolean(stream.closed);
    if (stream.socket.readyState === 1) stream.socket.send('end');
  }),
  go: () => streams.forEach((stream) => {
    stream.ending = false;
    if (stream.socket.readyState !== 1) return;
    stream.socket.send('go');
    sendNext(stream);
  }),
  /** What there is to say, once: counts begin anew and what is closed is forgotten. */
  take: () => {
    const report = C.report();
    counts = { ...zero };
    faults.length = 0;
    streams.forEach((stream, name) => stream.closed && streams.delete(name));
    return report;
  },
  report: () => ({
    page: C.page,
    counts,
    history,
    tier: client?.status.tier,
    tabs: client?.status.tabs,
    hub: client?.status.hubId,
    faults: [...faults],
    streams: [...streams.values()].map(({ socket, ...stream }) => ({
      ...stream, readyState: socket.readyState, buffered: socket.bufferedAmount,
    })),
    topics: [...topics.values()],
  }),
};

window.addEventListener('error', ({ message }) => fault(`uncaught: ${message}`));
window.addEventListener('unhandledrejection', ({ reason }) => fault(`unhandled: ${reason}`));
window.C = C;
window.chaosReady?.();
