// Compares SharedWebSocket with the browser's WebSocket. Each exported function runs a table with
// both classes and returns how many rows it compared and a text for each row that differs.
//
// Left out, because the engines differ among themselves and SharedWebSocket follows the standards:
// the empty URL (Firefox refuses it), codes that lie between two whole numbers (only Firefox
// rounds them to even), and a reason without a code (Chromium refuses it, WebKit lets it be long).

const MODES = { mirror: {}, mux: { mode: 'mux' }, exclusive: { mode: 'exclusive' } };

/** Makes the two constructors that a row is tried with; each socket has a hub of its own. */
let keys = 0;
const native = (url, protocols) => new WebSocket(url, protocols);
const shared = (mode) => (url, protocols) => {
  keys += 1;
  return new T.SharedWebSocket(url, protocols, { ...MODES[mode], key: `parity ${keys}` });
};

const compare = async (rows, modes = Object.keys(MODES)) => {
  const differences = [];
  let compared = 0;
  for (const [name, run] of rows) {
    const wanted = JSON.stringify(await run(native));
    for (const mode of modes) {
      const seen = JSON.stringify(await run(shared(mode)));
      compared += 1;
      if (seen !== wanted) differences.push(`${mode} ${name}: ${seen} instead of ${wanted}`);
    }
  }
  return { compared, differences };
};

const failure = (error) => ({
  thrown: error.name,
  code: error.code,
  isDomException: error instanceof DOMException,
});

/** The outcome of `act` on a socket that is still connecting. */
const attempt = (make, act = () => undefined) => {
  let socket;
  try {
    socket = make();
    const result = act(socket);
    const { url, readyState, protocol, extensions, binaryType } = socket;
    // How much is waiting depends on the engine: WebKit counts the heads of frames.
    const isWaiting = socket.bufferedAmount > 0;
    return { result, url, readyState, protocol, extensions, binaryType, isWaiting };
  } catch (error) {
    return failure(error);
  } finally {
    socket?.close();
  }
};

export const urls = ({ port }) => {
  const here = `127.0.0.1:${port}`;
  const inputs = [
    `ws://${here}/`, `ws://${here}`, `WS://LOCALHOST:${port}/Path?Query`, `wss://${here}/`,
    `ws://${here}/#`, `ws://${here}/#fragment`, `http://${here}/`, `https://${here}/`,
    `ws:${here}`, `ws:///${here}/`, `//${here}/x`, `ws://user:secret@${here}/`,
    `ws://${here}/a b?c d`, `ws://${here}/../x/./y`, ` ws://${here}/ `, `ws://${here}/\n`,
    'ws://127.0.0.1:99999/', 'ws://127.0.0.1:1/', 'ws://', 'ws://a b/', 'ws://[', 'ws://[::1/',
    'ftp://127.0.0.1/', 'about:blank', 'mailto:a@b', 'javascript:0', 'data:,x', 'blob:x',
    '/relative', 'relative', '?query', '#fragment', '.', 'ws', 'ws:',
    new URL(`ws://${here}/url`), 42, null, undefined, true, {},
  ];
  const rows = inputs.map((url) => [
    `new (${JSON.stringify(url)})`,
    (make) => attempt(() => make(url)),
  ]);
  rows.push(['new () without a URL', (make) => attempt(() => (
    make === native ? new WebSocket() : new T.SharedWebSocket()))]);
  rows.push(['a call without new', (make) => attempt(() => {
    const call = make === native ? WebSocket : T.SharedWebSocket;
    return call(`ws://${here}/`);
  })]);
  rows.push(['a Symbol as URL', (make) => attempt(() => make(Symbol('x')))]);
  return compare(rows);
};

export const protocols = ({ port }) => {
  const inputs = [
    undefined, [], 'one', ['one'], ['one', 'two'], ['one', 'one'], ['one', 'ONE'], '', [''],
    'a b', 'a,b', 'a\tb', 'ü', ['fine', 'not fine'], 'a/b', 'a(b)', '!#$%&\'*+-.^_`|~',
    null, 5, {}, [null], [[]], new Set(['one', 'one']),
  ];
  const rows = inputs.map((input) => [
    `protocols ${input instanceof Set ? 'Set' : JSON.stringify(input)}`,
    (make) => attempt(() => make(`ws://127.0.0.1:${port}/`, input)),
  ]);
  // Which of two faults is reported first.
  rows.push(['a wrong URL with wrong protocols', (make) => attempt(() => make('ws://[', 'a b'))]);
  return compare(rows);
};

export const sends = ({ port }) => {
  const inputs = [
    ['text'], [''], [new ArrayBuffer(1)], [new Uint8Array(1)], [new Blob(['x'])], [], [null], [42],
    [Symbol('x')],
  ];
  const rows = inputs.map((input) => [
    `send of ${input.length} ${Object.prototype.toString.call(input[0])}`,
    (make) => attempt(
      () => make(`ws://127.0.0.1:${port}/`),
      (socket) => socket.send(...input),
    ),
  ]);
  rows.push(['send after close', (make) => attempt(
    () => make(`ws://127.0.0.1:${port}/`),
    (socket) => {
      socket.close();
      socket.send('text');
    },
  )]);
  return compare(rows);
};

export const closes = ({ port }) => {
  const inputs = [
    [], [1000], [1000, 'reason'], [999], [1001], [1004], [1005], [1006], [1015], [2999], [3000],
    [4999], [5000], [0], [-1], [NaN], [Infinity], ['1000'], ['3000'], ['code'], [1000.4],
    [65536 + 1000], [undefined], [null], [null, 'reason'], [{}],
    [1000, ''], [1000, undefined], [1000, null], [1000, 42], [3000, 'x'.repeat(123)],
    [3000, 'x'.repeat(124)], [3000, 'ü'.repeat(61)], [3000, 'ü'.repeat(62)], [3000, '\ud800'],
    [999, 'x'.repeat(124)], [Symbol('x')],
  ];
  const rows = inputs.map((input) => [
    `close(${input.map(String).join(', ')})`,
    (make) => attempt(
      () => make(`ws://127.0.0.1:${port}/`),
      (socket) => socket.close(...input),
    ),
  ]);
  rows.push(['close twice', (make) => attempt(() => make(`ws://127.0.0.1:${port}/`), (socket) => {
    socket.close(3000);
    socket.close(3001, 'again');
  })]);
  rows.push(['close with a wrong code after close', (make) => attempt(
    () => make(`ws://127.0.0.1:${port}/`),
    (socket) => {
      socket.close();
      socket.close(1);
    },
  )]);
  return compare(rows);
};

export const surface = ({ port }) => {
  const names = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
  const handlers = ['onopen', 'onmessage', 'onerror', 'onclose'];
  const url = `ws://127.0.0.1:${port}/`;
  const on = (act) => (make) => attempt(() => make(url), act);
  const rows = [
    ['constants', on((socket) => names.map((name) => [
      socket[name], socket.constructor[name], socket.constructor.prototype[name],
    ]))],
    ['constants do not change', on((socket) => {
      for (const name of names) {
        try { socket.constructor[name] = 7; } catch { /* strict code throws, that is fine */ }
      }
      return names.map((name) => socket.constructor[name]);
    })],
    ['kinds', on((socket) => [
      socket instanceof EventTarget, socket.constructor.length, typeof socket.dispatchEvent,
    ])],
    ['binaryType', on((socket) => ['arraybuffer', 'text', 'blob', '', 'arraybuffer', null].map(
      (type) => {
        socket.binaryType = type;
        return socket.binaryType;
      },
    ))],
    ['handlers', on((socket) => handlers.map((name) => {
      const values = [undefined, () => 1, null, 5, 'text', {}, () => 2, undefined];
      const initial = socket[name];
      return [initial, ...values.map((value) => {
        socket[name] = value;
        return socket[name] === value ? typeof value : String(socket[name]);
      })];
    }))],
    ['a handler and listeners run in the order of their registration', on((socket) => {
      const order = [];
      socket.addEventListener('open', () => order.push('listener'));
      socket.onopen = () => order.push('handler');
      socket.addEventListener('open', () => order.push('second listener'));
      socket.dispatchEvent(new Event('open'));
      socket.onopen = () => order.push('other handler');
      socket.dispatchEvent(new Event('open'));
      socket.onopen = null;
      socket.dispatchEvent(new Event('open'));
      return order;
    })],
    ['this and target in a handler', on((socket) => {
      const seen = [];
      socket.onmessage = function handler(event) {
        seen.push(this === socket, event.target === socket, event.currentTarget === socket);
      };
      socket.dispatchEvent(new MessageEvent('message', { data: 1 }));
      return seen;
    })],
    ...['url', 'readyState', 'protocol', 'extensions', 'bufferedAmount'].map((name) => [
      `${name} is read-only`, on((socket) => { socket[name] = 'other'; }),
    ]),
  ];
  return compare(rows);
};

const MEMBERS = [
  'url', 'readyState', 'bufferedAmount', 'extensions', 'protocol', 'binaryType', 'onopen',
  'onmessage', 'onerror', 'onclose', 'send', 'close',
];

/** How a member looks to code that inspects objects. */
const shape = ({ prototype }, name) => {
  const { get, set, value, enumerable, configurable } =
    Object.getOwnPropertyDescriptor(prototype, name);
  return [get?.name, set?.name, value?.name, value?.length, enumerable, configurable];
};

/** The socket as an object: what code sees that lists, prints, freezes or borrows. */
export const object = ({ port }) => {
  const on = (act) => (make) => attempt(() => make(`ws://127.0.0.1:${port}/`), act);
  const rows = [
    ['its own fields', on((socket) => [Object.keys(socket), JSON.stringify(socket)])],
    ['what a loop over it finds', on((socket) => {
      const found = [];
      for (const name in socket) found.push(name);
      return [...MEMBERS, 'CONNECTING', 'CLOSED', 'dispatchEvent'].map((it) => found.includes(it));
    })],
    ['its tag', on((socket) => [`${socket}`, socket.constructor.prototype.toString()])],
    ...MEMBERS.map((name) => [`the shape of ${name}`, on((socket) =>
      shape(socket.constructor, name))]),
    ...MEMBERS.map((name) => [`${name} of what is no socket`, on((socket) => {
      const { get, value } =
        Object.getOwnPropertyDescriptor(socket.constructor.prototype, name);
      return (get ?? value).call({}, '');
    })]),
    ...['nonsense', 'blob'].map((type) => [`binaryType = ${type} of what is no socket`,
      on(({ constructor: { prototype } }) => {
        Object.getOwnPropertyDescriptor(prototype, 'binaryType').set.call({}, type);
      })]),
    ['close(1) of what is no socket', on((socket) => socket.close.call({}, 1))],
    ['a frozen socket', on((socket) => {
      Object.freeze(socket);
      socket.onopen = () => 1;
      socket.binaryType = 'arraybuffer';
      socket.close();
      return [typeof socket.onopen, Object.isFrozen(socket)];
    })],
  ];
  return compare(rows);
};

/** Records the events of a socket until it is closed; `act` sees each of them. */
const record = (socket, act = {}) => new Promise((resolve) => {
  const seen = [];
  for (const type of ['open', 'message', 'error', 'close']) {
    socket.addEventListener(type, (event) => {
      const { readyState, protocol } = socket;
      const row = { type, readyState, protocol };
      if (type === 'message') {
        row.data = T.describe(event.data);
        row.origin = event.origin;
        row.isMessageEvent = event instanceof MessageEvent;
      }
      if (type === 'close') {
        row.close = [event.code, event.reason, event.wasClean];
        row.isCloseEvent = event instanceof CloseEvent;
      }
      row.flags = [event.bubbles, event.cancelable];
      seen.push(row);
      act[type]?.(socket);
      if (type === 'close') resolve(seen);
    });
  }
});

export const events = ({ port, plain }) => {
  const at = (path, protocols, act) => (make) => {
    const socket = make(`ws://127.0.0.1:${plain}${path}`, protocols);
    return record(socket, act);
  };
  const rows = [
    ['a greeting, then our close', at('/hello', [], {
      message: (socket) => socket.close(3001, 'bye'),
    })],
    ['buffers that were transferred', at('/echo', [], {
      open: (socket) => {
        const [one, two, three] = [1, 2, 3].map((size) => new Uint8Array(size));
        const views = [one.buffer, two, new DataView(three.buffer)];
        structuredClone(0, { transfer: [one.buffer, two.buffer, three.buffer] });
        socket.binaryType = 'arraybuffer';
        views.forEach((view) => socket.send(view));
        socket.send('close');
      },
    })],
    ['bufferedAmount when the echo is there', async (make) => {
      const socket = make(`ws://127.0.0.1:${plain}/echo`);
      const amounts = [];
      await record(socket, {
        open: () => socket.send('x'.repeat(1000)),
        message: () => {
          amounts.push(socket.bufferedAmount);
          if (amounts.length < 20) socket.send('x'.repeat(1000));
          else socket.close();
        },
      });
      return amounts;
    }],
    ['a frozen socket', at('/echo', [], {
      open: (socket) => Object.freeze(socket).send('text'),
      message: (socket) => socket.close(),
    })],
    ['a close without a code', at('/', [], { open: (socket) => socket.close() })],
    ['a close with a reason', at('/', [], { open: (socket) => socket.close(1000, 'ü') })],
    ['an echo of text, Blob and bytes', at('/echo', [], {
      open: (socket) => {
        socket.binaryType = 'arraybuffer';
        socket.send('text');
        socket.send(new Blob(['blob']));
        socket.send(new Uint8Array([1, 2]));
        socket.send('close');
      },
    })],
    ['the server closes with a code', at('/close?code=4001&reason=enough', [])],
    ['the server closes without a code', at('/close', [])],
    ['the server cuts the connection', at('/drop', [], {
      open: (socket) => socket.send('now'),
    })],
    ['a sub-protocol is chosen', at('/protocol', ['one', 'two'], {
      open: (socket) => socket.close(),
    })],
    ['an offered sub-protocol is ignored', at('/', ['one'], { open: (socket) => socket.close() })],
    ['the server refuses', at('/refuse', [])],
    ['nobody listens', (make) => record(make(`ws://127.0.0.1:${port}/`))],
    ['closed while connecting, and heard by handlers set after an await', async (make) => {
      const socket = make(`ws://127.0.0.1:${plain}/`);
      socket.close();
      for (let turn = 0; turn < 20; turn += 1) await undefined;
      return Promise.race([record(socket), new Promise((resolve) => setTimeout(resolve, 3000))]);
    }],
    ['closed while connecting', (make) => {
      const socket = make(`ws://127.0.0.1:${plain}/`);
      const seen = record(socket);
      socket.close();
      return seen;
    }],
  ];
  return compare(rows, ['mirror', 'exclusive']);
};

/** What the server sends is against the protocol. */
export const broken = ({ plain }) => {
  const rows = Object.entries(BROKEN).map(([name, hex]) => [name, (make) => {
    const socket = make(`ws://127.0.0.1:${plain}/raw?hex=${hex}`);
    // Firefox takes a masked frame for a message.
    return record(socket, { open: () => socket.send('now'), message: () => socket.close() });
  }]);
  return compare(rows, ['mirror', 'exclusive']);
};

/** A server that takes none of the sub-protocols, and one of tabmux that does the same. */
export const ignored = async ({ plain, mux }) => {
  const outcome = async (socket) => (await record(socket, { open: () => socket.close() })).map(
    ({ type, readyState, protocol, close }) => ({ type, readyState, protocol, close: close ?? null }),
  );
  return {
    native: await outcome(native(`ws://127.0.0.1:${plain}/`, ['one'])),
    mux: await outcome(shared('mux')(mux, ['one'])),
    none: await outcome(shared('mux')(mux, [])),
  };
};

/** Frames that the protocol forbids, and that make a browser fail an open connection. */
const BROKEN = {
  'a reserved opcode': '8300',
  'a masked frame': '81810000000061',
  'invalid UTF-8': '8101ff',
  'a Close body of one byte': '880103',
  'a Close code that must not be sent': '880203ed',
  'a reserved bit': 'c10161',
  'a continuation of nothing': '800161',
  'a Ping in parts': '0900',
};
