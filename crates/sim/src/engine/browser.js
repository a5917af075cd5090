// What pages and workers find around them, as far as the shipped scripts use it. All that would
// need a browser is one call of `host`, or a task that `deliver` is given; the world in Rust decides
// what comes of it and when.
//
// `role`: 'page', 'shared' or 'dedicated'. Returns `deliver`.
export default (host, role, name, href, methods) => {
  const global = globalThis;
  const isPage = role === 'page';
  const define = (key, get) => Object.defineProperty(global, key, { get, configurable: true });

  // Clocks and randomness: of the seed, or not at all.
  Math.random = () => host('random');
  global.Date = { now: () => host('date') };
  global.performance = { now: () => host('now') };
  global.crypto = {
    getRandomValues(array) {
      for (let at = 0; at < array.length; at += 1) array[at] = host('random64');
      return array;
    },
  };

  const text = (error) =>
    (error instanceof Error ? `${error}\n${error.stack}` : String(error));
  /** What no script catches, a browser reports. */
  const guarded = (act) => {
    try {
      return act();
    } catch (error) {
      host('uncaught', text(error));
      return undefined;
    }
  };
  const hear = (target, listener, event) => {
    try {
      listener.call(target, event);
    } catch (error) {
      host('uncaught', text(error));
    }
  };
  const line = (level) => (...words) => host('log', level, words.map(text).join(' '));
  global.console = { info: line('info'), log: line('log'), warn: line('warn'), error: line('error') };

  // Structured clones travel as JSON, in which lone surrogates stay what they are. All that is no
  // number, flag, array or record is a string there, and its first letter says what it is. By hand,
  // since a replacer and a reviver would be called for everything.
  const clone = (it) => {
    switch (typeof it) {
      case 'string': return JSON.stringify('s' + it);
      case 'number': return Number.isFinite(it) ? `${it}` : `"f${it}"`;
      case 'bigint': return `"n${it.toString(16)}"`;
      case 'boolean': return `${it}`;
      case 'undefined': return '"u"';
      case 'object': {
        if (it === null) return 'null';
        if (Array.isArray(it)) {
          let all = '';
          for (let at = 0; at < it.length; at += 1) all += (at ? ',' : '[') + clone(it[at]);
          return all ? all + ']' : '[]';
        }
        if (it instanceof Uint8Array) return `"b${it.toHex()}"`;
        const all = Object.entries(it).map(([key, value]) => `"${key}":${clone(value)}`);
        return `{${all.join()}}`;
      }
      default: throw new DOMException(`${String(it)} cannot be cloned`, 'DataCloneError');
    }
  };
  const thaw = (it) => {
    if (typeof it === 'string') {
      const rest = it.slice(1);
      switch (it[0]) {
        case 'n': return BigInt('0x' + rest);
        case 'u': return undefined;
        case 'f': return Number(rest);
        case 'b': return Uint8Array.fromHex(rest);
        default: return rest;
      }
    }
    if (Array.isArray(it)) {
      for (let at = 0; at < it.length; at += 1) {
        if (typeof it[at] !== 'number') it[at] = thaw(it[at]);
      }
    } else if (typeof it === 'object') {
      for (const key in it) it[key] = thaw(it[key]);
    }
    return it;
  };
  const open = (json) => thaw(JSON.parse(json));

  // Events.
  const STOP = Symbol('stop');
  global.Event = class Event {
    constructor(type, init = {}) {
      this.type = String(type);
      this.cancelable = !!init.cancelable;
    }
    stopImmediatePropagation() {
      this[STOP] = true;
    }
    preventDefault() {}
  };
  const eventClass = (className, ...names) => {
    global[className] = class extends Event {
      constructor(type, init = {}) {
        super(type, init);
        for (const key of names) this[key] = init[key];
      }
    };
    Object.defineProperty(global[className], 'name', { value: className });
    return global[className];
  };
  const MessageEvent = eventClass('MessageEvent', 'data', 'origin', 'ports');
  const CloseEvent = eventClass('CloseEvent', 'code', 'reason', 'wasClean');
  const StorageEvent = eventClass('StorageEvent', 'key', 'oldValue', 'newValue');
  const PageTransitionEvent = eventClass('PageTransitionEvent', 'persisted');

  const LISTENERS = Symbol('listeners');
  global.EventTarget = class EventTarget {
    addEventListener(type, listener, options) {
      if (listener === null || listener === undefined) return;
      const { once = false, signal } = typeof options === 'object' && options ? options : {};
      if (signal?.aborted) return;
      const all = (this[LISTENERS] ??= []);
      if (all.some((it) => it.type === type && it.listener === listener)) return;
      all.push({ type, listener, once });
      signal?.addEventListener('abort', () => this.removeEventListener(type, listener));
    }
    removeEventListener(type, listener) {
      this[LISTENERS] = (this[LISTENERS] ?? [])
        .filter((it) => it.type !== type || it.listener !== listener);
    }
    dispatchEvent(event) {
      event.target = event.currentTarget = this;
      const { type } = event;
      // The classes of this file keep their handlers as plain properties. Those of the library see
      // to theirs by a listener.
      if (this[PLAIN]) {
        const handler = this['on' + type];
        if (typeof handler === 'function') hear(this, handler, event);
      }
      const all = this[LISTENERS];
      if (!all) return true;
      for (const it of all.filter((one) => one.type === type)) {
        if (event[STOP] || !this[LISTENERS].includes(it)) continue;
        if (it.once) this.removeEventListener(type, it.listener);
        if (typeof it.listener === 'function') hear(this, it.listener, event);
        else hear(it.listener, it.listener.handleEvent, event);
      }
      return true;
    }
  };
  const PLAIN = Symbol('plain');
  class Plain extends EventTarget {
    constructor() {
      super();
      this[PLAIN] = true;
    }
  }

  global.AbortSignal = class AbortSignal extends Plain {
    aborted = false;
    reason = undefined;
    onabort = null;
  };
  global.AbortController = class AbortController {
    signal = new AbortSignal();
    abort(reason = new DOMException('aborted', 'AbortError')) {
      if (this.signal.aborted) return;
      this.signal.aborted = true;
      this.signal.reason = reason;
      this.signal.dispatchEvent(new Event('abort'));
    }
  };

  // The global object is a target itself.
  const globalTarget = new EventTarget();
  for (const key of ['addEventListener', 'removeEventListener', 'dispatchEvent']) {
    global[key] = globalTarget[key].bind(globalTarget);
  }
  const fire = (event) => {
    const handler = global['on' + event.type];
    if (typeof handler === 'function') hear(global, handler, event);
    globalTarget.dispatchEvent(event);
  };

  // Text, addresses, blobs.
  global.TextEncoder = class TextEncoder {
    encode(given = '') {
      const out = [];
      for (const char of String(given).toWellFormed()) {
        const code = char.codePointAt(0);
        if (code < 0x80) out.push(code);
        else if (code < 0x800) out.push(0xc0 | code >> 6, 0x80 | code & 63);
        else if (code < 0x10000) {
          out.push(0xe0 | code >> 12, 0x80 | code >> 6 & 63, 0x80 | code & 63);
        } else {
          out.push(0xf0 | code >> 18, 0x80 | code >> 12 & 63, 0x80 | code >> 6 & 63,
            0x80 | code & 63);
        }
      }
      return Uint8Array.from(out);
    }
  };
  const bytesOf = (binary) => Uint8Array.from(binary, (char) => char.charCodeAt(0));
  global.btoa = (binary) => bytesOf(binary).toBase64();
  global.atob = (base64) => String.fromCharCode(...Uint8Array.fromBase64(base64));
  global.URL = class URL {
    constructor(given, base) {
      let it = String(given);
      if (!/^[a-z]+:\/\//.test(it)) {
        if (base === undefined) throw new TypeError(`Invalid URL: ${it}`);
        const to = new URL(base);
        it = it.startsWith('/') ? to.origin + it
          : to.origin + to.pathname.replace(/[^/]*$/, '') + it.replace(/^\.\//, '');
      }
      const parts = /^([a-z]+:)\/\/([^/?#]+)([^?#]*)(\?[^#]*)?(#.*)?$/.exec(it);
      if (!parts) throw new TypeError(`Invalid URL: ${it}`);
      [, this.protocol, this.host, this.pathname, this.search = '', this.hash = ''] = parts;
      this.pathname ||= '/';
      this.origin = this.protocol + '//' + this.host;
      this.href = this.origin + this.pathname + this.search + this.hash;
    }
    toString() {
      return this.href;
    }
  };
  global.URLSearchParams = class URLSearchParams {
    #all;
    constructor(search) {
      this.#all = search.replace(/^\?/, '').split('&').filter(Boolean).map((it) => it.split('='));
    }
    get(key) {
      const found = this.#all.find(([it]) => it === key);
      return found ? found[1] ?? '' : null;
    }
  };
  const at = new URL(href);
  global.self = global;
  global.name = name;
  global.location = { href: at.href, search: at.search };
  if (isPage) {
    global.window = global;
    global.document = { baseURI: at.href, visibilityState: 'visible' };
  }

  // Timers.
  const timers = new Map();
  let timerIds = 0;
  const arm = (act, wait, every, rest) => {
    timerIds += 1;
    timers.set(timerIds, { act, every, wait, rest });
    host('timer', timerIds, Math.max(0, Number(wait) || 0));
    return timerIds;
  };
  const disarm = (id) => {
    if (timers.delete(id)) host('untimer', id);
  };
  global.setTimeout = (act, wait, ...rest) => arm(act, wait, false, rest);
  global.setInterval = (act, wait, ...rest) => arm(act, wait, true, rest);
  global.clearTimeout = global.clearInterval = disarm;

  // What takes the world some time: a promise, and `settle`.
  const later = new Map();
  let laterIds = 0;
  const wait = (what, ...args) => new Promise((resolve, reject) => {
    laterIds += 1;
    later.set(laterIds, [resolve, reject]);
    host(what, laterIds, ...args);
  });
  // A dynamic import, which the world's loader turns into a call of this.
  global.tabmuxImport = (specifier) => wait('import', specifier);

  // Locks.
  const asked = new Map();
  let lockIds = 0;
  const requestLock = (lock, options, act) => {
    if (!act) [options, act] = [{}, options];
    const { mode = 'exclusive', ifAvailable = false, steal = false, signal } = options;
    const fault = (key) => Promise.reject(new DOMException(key, key));
    if (steal && ifAvailable || signal && (steal || ifAvailable)) return fault('NotSupportedError');
    if (steal && mode !== 'exclusive') return fault('NotSupportedError');
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (host('refuses', 'locks')) return fault('SecurityError');
    return new Promise((resolve, reject) => {
      const id = (lockIds += 1);
      asked.set(id, { act, resolve, reject, granted: false, name: lock, mode });
      host('lock', id, String(lock), mode === 'shared', ifAvailable, steal);
      signal?.addEventListener('abort', () => {
        const it = asked.get(id);
        if (!it || it.granted) return;
        asked.delete(id);
        host('unlock', id);
        reject(signal.reason);
      });
    });
  };
  const isGranted = (id) => {
    const it = asked.get(id);
    // Aborted meanwhile.
    if (!it) return host('unlock', id);
    it.granted = true;
    const letGo = (settle) => (value) => {
      if (!asked.delete(id)) return;
      host('unlock', id);
      settle(value);
    };
    new Promise((resolve) => resolve(it.act({ name: it.name, mode: it.mode })))
      .then(letGo(it.resolve), letGo(it.reject));
    return undefined;
  };
  const isUnavailable = (id) => {
    const it = asked.get(id);
    asked.delete(id);
    new Promise((resolve) => resolve(it.act(null))).then(it.resolve, it.reject);
  };
  const isStolen = (id) => {
    const it = asked.get(id);
    asked.delete(id);
    it?.reject(new DOMException('stolen', 'AbortError'));
  };
  global.navigator = host('has', 'locks') ? { locks: { request: requestLock } } : {};
  Object.defineProperty(global.navigator, 'onLine', { get: () => host('online') });

  // Channels.
  const channels = new Map();
  if (host('has', 'channels')) {
    global.BroadcastChannel = class BroadcastChannel extends Plain {
      #id;
      onmessage = null;
      constructor(channel) {
        super();
        if (host('refuses', 'channels')) throw new DOMException('refused', 'SecurityError');
        this.name = String(channel);
        this.#id = host('id');
        channels.set(this.#id, this);
        host('channel', this.#id, this.name);
      }
      postMessage(data) {
        if (!channels.has(this.#id)) throw new DOMException('closed', 'InvalidStateError');
        host('broadcast', this.#id, clone(data));
      }
      close() {
        if (channels.delete(this.#id)) host('channelClose', this.#id);
      }
    };
  }

  // Ports.
  const ports = new Map();
  class MessagePort extends Plain {
    #id;
    #handler = null;
    #early = [];
    constructor(id) {
      super();
      this.#id = id;
      ports.set(id, this);
    }
    get onmessage() {
      return this.#handler;
    }
    set onmessage(handler) {
      this.#handler = handler;
      const early = this.#early;
      this.#early = undefined;
      if (early?.length) host('early', this.#id, early);
    }
    /** What comes before a handler waits. */
    hear(json) {
      if (this.#early) this.#early.push(json);
      else this.dispatchEvent(new MessageEvent('message', { data: open(json), origin: '' }));
    }
    postMessage(data) {
      const json = clone(data);
      if (ports.has(this.#id)) host('post', this.#id, json);
    }
    close() {
      if (ports.delete(this.#id)) host('portClose', this.#id);
    }
  }
  global.MessagePort = MessagePort;
  // For what is to be done in a task of its own, and nothing else.
  global.MessageChannel = class MessageChannel {
    port1 = { onmessage: null, close() {} };
    port2 = { postMessage: (data) => setTimeout(() => this.port1.onmessage?.({ data }), 0) };
  };

  // Workers.
  const workers = new Map();
  if (isPage) {
    if (host('has', 'shared')) {
      global.SharedWorker = class SharedWorker extends Plain {
        onerror = null;
        constructor(script, options = {}) {
          super();
          if (host('refuses', 'shared')) throw new DOMException('refused', 'SecurityError');
          const id = host('id');
          workers.set(id, this);
          const port = host('id');
          this.port = new MessagePort(port);
          const url = new URL(String(script), document.baseURI).href;
          host('sharedWorker', id, url, String(options.name ?? ''), port);
        }
      };
    }
    global.Worker = class Worker extends Plain {
      #id;
      onmessage = null;
      onerror = null;
      constructor(script, options = {}) {
        super();
        if (host('refuses', 'workers')) throw new DOMException('refused', 'SecurityError');
        this.#id = host('id');
        workers.set(this.#id, this);
        const url = new URL(String(script), document.baseURI).href;
        host('worker', this.#id, url, String(options.name ?? ''));
      }
      postMessage(data) {
        host('workerPost', this.#id, clone(data));
      }
      terminate() {
        workers.delete(this.#id);
        host('terminate', this.#id);
      }
    };
  } else if (role === 'shared') {
    global.onconnect = null;
  } else {
    global.onmessage = null;
    global.postMessage = (data) => host('toOwner', clone(data));
    global.close = () => host('closeSelf');
  }

  // Storage, in pages only.
  if (isPage) {
    const storage = {
      getItem: (key) => host('storageGet', String(key)) ?? null,
      setItem: (key, value) => {
        if (!host('storageSet', String(key), String(value))) {
          throw new DOMException('full', 'QuotaExceededError');
        }
      },
      removeItem: (key) => void host('storageRemove', String(key)),
      clear: () => void host('storageClear'),
    };
    const proxy = new Proxy(storage, {
      get: (it, key) => it[key] ?? host('storageGet', String(key)) ?? undefined,
      set: (it, key, value) => (it.setItem(key, value), true),
    });
    define('localStorage', () => {
      if (host('refuses', 'storage')) throw new DOMException('refused', 'SecurityError');
      return proxy;
    });
  }

  // Links.
  const sockets = new Map();
  global.WebSocket = class WebSocket extends Plain {
    static OPEN = 1;
    #id;
    #state = 0;
    url;
    protocol = '';
    extensions = '';
    binaryType = 'blob';
    onopen = null;
    onmessage = null;
    onerror = null;
    onclose = null;
    constructor(url, protocols = []) {
      super();
      this.url = String(url);
      this.#id = host('id');
      sockets.set(this.#id, this);
      host('dial', this.#id, this.url, [].concat(protocols).join());
    }
    get readyState() {
      return this.#state;
    }
    get bufferedAmount() {
      return host('buffered', this.#id);
    }
    send(data) {
      if (this.#state === 0) throw new DOMException('not open', 'InvalidStateError');
      if (this.#state > 1) return;
      if (typeof data === 'string') host('sendText', this.#id, data.toWellFormed());
      else host('sendBytes', this.#id, new Uint8Array(data).toHex());
    }
    close(code = 0, reason = '') {
      if (code && code !== 1000 && !(code >= 3000 && code < 5000)) {
        throw new DOMException('no such code', 'InvalidAccessError');
      }
      if (this.#state > 1) return;
      this.#state = 2;
      host('hangUp', this.#id, code, reason);
    }
    hear(what, a, b, c) {
      if (what === 'opened') {
        if (this.#state) return;
        this.#state = 1;
        [this.protocol, this.extensions] = [a, b];
        this.dispatchEvent(new Event('open'));
      } else if (what === 'closed') {
        const wasConnecting = !this.#state;
        this.#state = 3;
        sockets.delete(this.#id);
        // An open one that breaks has no error.
        if (!c && wasConnecting) this.dispatchEvent(new Event('error'));
        this.dispatchEvent(new CloseEvent('close', { code: a, reason: b, wasClean: c }));
      } else if (this.#state === 1) {
        const data = what === 'text' ? a : Uint8Array.fromHex(a).buffer;
        this.dispatchEvent(new MessageEvent('message', { data, origin: at.origin }));
      }
    }
  };

  // The hub, where the shipped worker has a module of WebAssembly.
  global.WebAssembly = { compile: () => wait('compile') };
  global.fetch = async () => {
    const head = await wait('import', 'wasm');
    const parts = [Uint8Array.from(head, (char) => char.charCodeAt(0))];
    const read = async () => ({ value: parts.pop() });
    return { ok: true, status: 200, body: { getReader: () => ({ read }) } };
  };
  let hubs = 0;
  class Hub {
    #id;
    #shell;
    #busy = false;
    constructor(shell, mux, id, seed, url, ...rest) {
      this.#shell = shell;
      this.#id = hubs += 1;
      this.#run(() => host('hubNew', this.#id, mux, id, seed, url, ...rest));
    }
    #run(call) {
      // As the module has it.
      if (this.#busy) throw new Error('a call within another');
      this.#busy = true;
      const [wake, orders] = call();
      for (const [method, ...args] of orders) {
        this.#shell[method](...args);
        // The memory of the module, which the shell must not keep.
        for (const arg of args) if (arg instanceof Uint8Array) arg.fill(0);
      }
      this.#busy = false;
      return wake;
    }
    call(method, args) {
      const plain = args.map((it) => (it instanceof Uint8Array ? { hex: it.toHex() } : it));
      return this.#run(() => host('hub', this.#id, method, plain));
    }
  }
  for (const method of methods) {
    Hub.prototype[method] = function call(...args) {
      return this.call(method, args);
    };
  }
  global.tabmuxHost = { makeHub: (...given) => new Hub(...given), useModule: () => undefined };

  // What the world delivers, each in a task of its own.
  const tasks = {
    timer(id) {
      const it = timers.get(id);
      if (!it) return;
      if (it.every) host('timer', id, Math.max(0, Number(it.wait) || 0));
      else timers.delete(id);
      guarded(() => it.act(...it.rest));
    },
    message: (port, json) => ports.get(port)?.hear(json),
    connect: (port) =>
      fire(Object.assign(new MessageEvent('connect', { ports: [new MessagePort(port)] }))),
    fromOwner: (json) => fire(new MessageEvent('message', { data: open(json) })),
    fromWorker: (id, json) =>
      workers.get(id)?.dispatchEvent(new MessageEvent('message', { data: open(json) })),
    workerFails: (id) => workers.get(id)?.dispatchEvent(new Event('error')),
    broadcast: (id, json) =>
      channels.get(id)?.dispatchEvent(new MessageEvent('message', { data: open(json) })),
    granted: isGranted,
    unavailable: isUnavailable,
    stolen: isStolen,
    storage: (key, oldValue, newValue) => {
      if (isPage) fire(new StorageEvent('storage', { key, oldValue, newValue }));
    },
    link: (id, what, a, b, c) => sockets.get(id)?.hear(what, a, b, c),
    settle(id, isFine, value) {
      const [resolve, reject] = later.get(id) ?? [];
      later.delete(id);
      if (isFine) resolve?.(value);
      else reject?.(new TypeError(value));
    },
    page: (type, persisted) => fire(new PageTransitionEvent(type, { persisted })),
    event: (type) => fire(new Event(type)),
    app: (method, args) => guarded(() => global.tabmuxApp[method](...JSON.parse(args))),
  };
  return (task, a, b, c, d, e) => {
    try {
      tasks[task](a, b, c, d, e);
    } catch (error) {
      host('uncaught', text(error));
    }
  };
}
