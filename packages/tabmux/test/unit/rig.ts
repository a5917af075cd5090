// A browser as far as the page library sees it: SharedWorker, locks, pagehide and pageshow. Worker
// ends of ports are played by the tests.

import assert from 'node:assert/strict';

import { FakeSocket } from './native.js';
import { SharedWebSocket, connect } from '../../src/index.js';
import { HubKind, LinkState, PageKind, SEVERAL } from '../../src/protocol.js';
import type { HubMessage, Of, PageMessage, PortData } from '../../src/protocol.js';

/** What a message of that kind has behind the hub's id. */
type Rest<Kind extends HubKind> =
  Of<Kind> extends [unknown, bigint, ...infer Places] ? Places : never;

/** The worker's end of one port. */
export class FakeWorker {
  static readonly all: FakeWorker[] = [];
  readonly port: MessagePort;
  onerror: (() => void) | null = null;
  /** How often the page was told that it begins anew, and has not answered. */
  anew = 0;
  readonly #end: MessagePort;
  readonly #got: PageMessage[] = [];
  #waiting: ((message: PageMessage) => void) | undefined;

  readonly name: string;

  constructor(
    readonly url: string,
    options: { name: string },
  ) {
    this.name = options.name;
    if (browser.refuses) throw new DOMException('refused', 'SecurityError');
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.#end = port2;
    port2.onmessage = ({ data }: MessageEvent<PageMessage>) => {
      // It heard that it begins anew.
      const isAnswer = data[0] === PageKind.Got && !data[1] && !data[2];
      if (isAnswer && this.anew) return void (this.anew -= 1);
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting) waiting(data);
      else this.#got.push(data);
    };
    FakeWorker.all.push(this);
    browser.listeners.dispatchEvent(new Event('worker'));
  }

  /** The next message of the page. */
  next(): Promise<PageMessage> {
    const message = this.#got.shift();
    if (message) return Promise.resolve(message);
    return new Promise((resolve) => (this.#waiting = resolve));
  }

  /** The next message of the page, which has to be of that kind. */
  async expect<K extends PageKind>(kind: K): Promise<Extract<PageMessage, { 0: K }>> {
    const message = await this.next();
    if (message[0] !== kind) throw new Error(`got [${message}], not kind ${kind}`);
    return message as Extract<PageMessage, { 0: K }>;
  }

  post<Kind extends HubKind>(hub: bigint, kind: Kind, ...rest: Rest<Kind>): void {
    this.#end.postMessage([kind, hub, ...rest]);
  }

  failed(
    reason: string,
    kind: HubKind.Failed | HubKind.OtherBuild | HubKind.NotLoaded | HubKind.Loading =
      HubKind.Failed,
  ): void {
    this.#end.postMessage([kind, reason] satisfies HubMessage);
  }

  /** Posts several messages together, as a worker does in a burst. */
  several(messages: HubMessage[]): void {
    this.#end.postMessage([SEVERAL, messages] satisfies PortData);
  }

  ping(): void {
    this.#end.postMessage([HubKind.Ping] satisfies HubMessage);
  }

  attached(hub = 1n, tabs = 1, state = LinkState.Connected): void {
    this.post(hub, HubKind.Attached, state, tabs);
  }

  /**
   * The other end knows the tab, and has what it said up to `seen`. Counts of 0 and more: it is new
   * there, and so much of lane 0 is of no concern to it.
   */
  resume(hub = 1n, seen = 0, count0 = -1, claim = 'claim'): void {
    if (count0 < 0) return this.post(hub, HubKind.Resume, seen, claim);
    this.anew += 1;
    this.post(hub, HubKind.Renew, seen, count0, claim);
  }

  /** A hub whose link is up, and which sees the tab for the first time. */
  welcome(hub = 1n, count0 = 0): void {
    this.attached(hub);
    this.resume(hub, 0, count0);
  }

  /** Once the page has handled all that was posted to it. */
  async settled(hub = 1n): Promise<void> {
    this.post(hub, HubKind.Check, 0, 0);
    await this.expect(PageKind.Got);
  }

  close(): void {
    this.#end.close();
  }
}

interface Request {
  name: string;
  mode: string;
  grant: () => void;
}

/** The page's side of the browser. */
export const browser = {
  /** Whether the SharedWorker constructor throws. */
  refuses: false,
  /** What is in localStorage, and whether that throws. */
  storage: new Map<string, string>(),
  refusesStorage: false,
  /** Whether requests for locks are rejected. */
  refusesLocks: false,
  /** Locks that were asked for and are neither granted nor given up. */
  waiting: [] as Request[],
  /** Locks the page holds. */
  held: new Map<string, () => void>(),
  listeners: new EventTarget(),
  /** Fires pagehide or pageshow. */
  page(type: 'pagehide' | 'pageshow', persisted: boolean): void {
    this.listeners.dispatchEvent(Object.assign(new Event(type), { persisted }));
  },
  /** Takes a lock from the page; the page's next request for it waits to be granted. */
  steal(name: string): void {
    browser.isStolen = name;
    browser.held.get(name)?.();
  },
  /** The lock that somebody else has. */
  isStolen: '',
  /** Grants a lock that the page waits for. */
  grant(name: string): void {
    this.waiting.find((request) => request.name === name)?.grant();
  },
};

/** Grants what starts with tabmux:tab: at once: nobody else has an interest in it. */
const locks = {
  request(
    name: string,
    { signal, mode = 'exclusive' }: LockOptions,
    callback: () => unknown,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (browser.refusesLocks) return reject(new DOMException('refused', 'SecurityError'));
      const take = (): void => {
        browser.waiting = browser.waiting.filter((other) => other !== request);
        browser.held.set(name, () => {
          browser.held.delete(name);
          reject(new DOMException('stolen', 'AbortError'));
        });
        Promise.resolve(callback()).then((value) => {
          browser.held.delete(name);
          resolve(value);
        }, reject);
      };
      const request: Request = { name, mode, grant: take };
      browser.waiting.push(request);
      signal?.addEventListener('abort', () => {
        if (!browser.waiting.includes(request)) return;
        browser.waiting = browser.waiting.filter((other) => other !== request);
        reject(new DOMException('aborted', 'AbortError'));
      });
      if (name.startsWith('tabmux:tab:') && name !== browser.isStolen) queueMicrotask(take);
    });
  },
};

const localStorage = new Proxy({}, {
  get: (_, name: string) => openStorage().get(name),
  set: (_, name: string, value: string) => !!openStorage().set(name, `${value}`),
  deleteProperty: (_, name: string) => openStorage().delete(name) || true,
});

function openStorage(): Map<string, string> {
  if (browser.refusesStorage) throw new DOMException('refused', 'SecurityError');
  return browser.storage;
}

class FakeCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  constructor(type: string, init: { code: number; reason: string; wasClean: boolean }) {
    super(type);
    ({ code: this.code, reason: this.reason, wasClean: this.wasClean } = init);
  }
}

/** Makes this process look like a page. */
export function install(): void {
  const { listeners } = browser;
  const { setTimeout } = globalThis;
  const globals = {
    // The process need not wait for what the page would wait for.
    setTimeout: (act: () => void, wait: number) => setTimeout(act, wait).unref(),
    SharedWorker: FakeWorker,
    // There is no tier here but the first.
    BroadcastChannel: undefined,
    Worker: class {
      constructor() {
        throw new DOMException('refused', 'SecurityError');
      }
    },
    CloseEvent: FakeCloseEvent,
    navigator: { locks },
    localStorage,
    document: { baseURI: 'http://page.test/folder/page' },
    addEventListener: listeners.addEventListener.bind(listeners),
    removeEventListener: listeners.removeEventListener.bind(listeners),
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
}

/** Closes what keeps the process alive. */
export function tidy(): void {
  FakeWorker.all.splice(0).forEach((worker) => worker.close());
  browser.refuses = false;
  FakeSocket.all.splice(0);
  FakeSocket.refuses = false;
}

/** The worker that was made last. */
export function lastWorker(): FakeWorker {
  const worker = FakeWorker.all.at(-1);
  if (!worker) throw new Error('no worker was made');
  return worker;
}

/** The next event of that type. */
export function event<E = Event>(target: EventTarget, type: string): Promise<E> {
  return new Promise((resolve) => {
    target.addEventListener(type, (event) => resolve(event as E), { once: true });
  });
}

/** The types of the events that come up to and including `close`. */
export function untilClosed(socket: EventTarget): Promise<string[]> {
  const types: string[] = [];
  return new Promise((resolve) => {
    for (const type of ['open', 'message', 'error', 'close']) {
      socket.addEventListener(type, () => {
        types.push(type);
        if (type === 'close') resolve(types);
      });
    }
  });
}

let pairs = 0;

/** An open socket, a connecting one and a client, all at one hub. Two messages were said. */
export async function pair() {
  const key = `pair ${(pairs += 1)}`;
  const hub = BigInt(pairs * 0x1000);
  const lock = `tabmux:hub:${hub.toString(16).padStart(16, '0')}`;
  const server = 'ws://host.test/';
  const open = new SharedWebSocket(server + 'open', [], { mode: 'mux', key });
  const waiting = new SharedWebSocket(server + 'waiting', [], { mode: 'mux', key });
  const client = connect(server, { key });
  const worker = lastWorker();
  await worker.expect(PageKind.Attach);
  worker.welcome(hub);
  const [, , one] = await worker.expect(PageKind.Open);
  const [, , two] = await worker.expect(PageKind.Open);
  worker.post(hub, HubKind.Opened, one, 1, 2 ** 40, '\n');
  await event(open, 'open');
  return { open, waiting, client, worker, one, two, hub, lock, key };
}

/** Waits until the socket fails, and says why. */
export async function failure(socket: SharedWebSocket): Promise<string> {
  const error = event<ErrorEvent>(socket, 'error');
  const types = untilClosed(socket);
  const closed = event<CloseEvent>(socket, 'close');
  assert.deepEqual(await types, ['error', 'close']);
  assert.equal((await closed).code, 1006);
  return (await error).message;
}
