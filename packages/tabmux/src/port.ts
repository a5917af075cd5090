// One hub as this page sees it: the SharedWorker, the locks, and what this page wants of the hub,
// to be told again to the next one. No logic of the protocol.

import { HubKind, LinkState, PageKind, hubLock, tabLock } from './protocol.js';
import type { HubConfig, HubMessage, PageMessage } from './protocol.js';

/** How long a worker may take to say that its hub runs. */
const ATTACH_TIMEOUT_MS = 6000;

/** How far this page is with its hub. From `Attaching` on, nothing it wants is known there. */
const enum Phase {
  Attached,
  /** Back from the back/forward cache: the hub may have forgotten this tab. */
  Restored,
  /** `Attach` is posted, and all wishes after it. */
  Attaching,
  /** Nothing is posted yet. */
  New,
}

/** A socket as its hub port sees it. */
export interface Peer {
  /** Its wish, without its number. */
  readonly _wish: [path: string, protocols: string[]];
  /** Not open yet: to be opened again by another hub. */
  _connecting: boolean;
  /** `Opened`, `Message`, `Error`, `Closed` and `Sent`, as the hub said them. */
  readonly _receive: (kind: HubKind, a: number, b: number, data: string | Uint8Array) => void;
}

/** A client hears of each change of the status, and with an argument of each message to all. */
export type Listener = (data?: string | Uint8Array) => void;

/** What sharing depends on, besides URL and sub-protocols. */
export interface SharingOptions {
  /** Whose connection it is. Two identities never share one. Default: the empty text. */
  key?: string | undefined;
  /** The address of worker.js. Default: beside the script of this library. */
  worker?: string | URL | undefined;
}

const hubs = new Map<string, HubPort>();
let tab = 0n;
let lockHeld: Promise<void>;
let leaving: AbortController;

/** The port to the hub of these arguments. There is one of each for the whole page. */
export function hubPort(
  mode: HubConfig['mode'],
  url: string,
  protocols: string[],
  { key = '', worker }: SharingOptions,
): HubPort {
  const id = mode + ':' + JSON.stringify(mode === 'mux' ? [url, key] : [url, protocols, key]);
  const script = `${worker ?? new URL('worker.js?v=' + __WORKER_VERSION__, import.meta.url)}`;
  const config = { mode, url, protocols, lock: 'tabmux:socket:' + id };
  return hubs.get(id + script) ?? new HubPort(id, script, config);
}

/** Says that there is no hub, and what to do. */
export const NO_SHARED_WORKER = 'tabmux: there is no SharedWorker here';

export class HubPort {
  _state = LinkState.Connecting;
  _tabs = 0;
  _reason = '';
  _hub = 0n;
  readonly _peers = new Map<number, Peer>();
  readonly _listeners = new Set<Listener>();
  private _phase = Phase.New;
  private _count = 0;
  private _port: MessagePort | undefined;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _watch: AbortController | undefined;

  constructor(
    private readonly _id: string,
    private readonly _script: string,
    private readonly _config: HubConfig,
  ) {
    hubs.set(_id + _script, this);
    this._start();
  }

  /** Opens a socket and returns its number. */
  _open(peer: Peer): number {
    this._peers.set(++this._count, peer);
    if (this._phase < Phase.New) this._wish(this._count, peer);
    return this._count;
  }

  /** Forgets a socket or a listener. The hub is left with the last of them. */
  _remove(who: number | Listener): void {
    this._peers.delete(who as number);
    this._listeners.delete(who as Listener);
    if (!this._peers.size && !this._listeners.size) this._stop();
  }

  _post(message: PageMessage, transfer: Transferable[] = []): void {
    this._port?.postMessage(message, transfer);
  }

  /** The page goes away, perhaps to come back. */
  _leave(persisted: boolean): void {
    this._post([persisted ? PageKind.Park : PageKind.Bye]);
    this._watch?.abort();
  }

  /** This tab holds its lock, for the first time or again. */
  _enter(): void {
    if (this._phase < Phase.New) {
      // A hub that has forgotten this tab answers the first of the two with `Resync`.
      this._post([PageKind.Park]);
      this._attach(Phase.Restored);
      this._watchHub();
    } else if (this._port) {
      this._attachNew();
    }
  }

  private _start(): void {
    try {
      const worker = new SharedWorker(this._script, 'tabmux:' + this._id);
      const port = (this._port = worker.port);
      port.onmessage = ({ data }: MessageEvent<HubMessage>) => this._receive(data);
      worker.onerror = () => {
        if (port === this._port && this._phase) this._fail();
      };
      inhabit().then(() => {
        if (port === this._port && this._phase === Phase.New) this._attachNew();
      });
    } catch {
      queueMicrotask(() => this._fail());
    }
  }

  private _attach(phase: Phase): void {
    this._phase = phase;
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._fail(), ATTACH_TIMEOUT_MS);
    this._post([PageKind.Attach, tab, this._config]);
  }

  private _attachNew(): void {
    this._attach(Phase.Attaching);
    this._peers.forEach((peer, socket) => this._wish(socket, peer));
  }

  private _wish(socket: number, peer: Peer): void {
    this._post([PageKind.Open, socket, ...peer._wish]);
  }

  private _receive([hub, kind, socket, a, b, data]: HubMessage): void {
    const isOther = hub !== this._hub;
    if (kind === HubKind.Failed) {
      this._fail(data as string);
    } else if (kind === HubKind.Attached) {
      clearTimeout(this._timer);
      this._phase = Phase.Attached;
      this._hub = hub;
      this._watchHub();
      this._tell(a, b, '');
    } else if (kind === HubKind.Resync ? isOther || this._phase < Phase.Attaching
      : isOther && !this._phase) {
      // One hub says Resync to everything it gets until it has got our Attach: once is enough.
      this._hub = hub;
      this._lose();
      this._attachNew();
    } else if (isOther) {
      // A hub of the past.
    } else if (kind === HubKind.State) {
      this._tell(a, b, data as string);
    } else if (kind === HubKind.Browser) {
      this._listeners.forEach((listener) => listener(data));
    } else if (kind === HubKind.Mirror) {
      // Each gets bytes of its own.
      this._peers.forEach((peer) => peer._receive(HubKind.Message, 0, 0, data.slice()));
    } else {
      this._peers.get(socket)?._receive(kind, a, b, data);
    }
  }

  private _tell(state: LinkState, tabs: number, reason: string): void {
    this._state = state;
    this._tabs = tabs;
    this._reason = reason;
    this._listeners.forEach((listener) => listener());
  }

  /** Waits for the end of the hub: its lock is granted then. */
  private _watchHub(): void {
    this._watch?.abort();
    const { signal } = (this._watch = new AbortController());
    navigator.locks?.request(hubLock(this._hub), { mode: 'shared', signal }, () => {
      if (signal.aborted) return;
      this._drop();
      this._phase = Phase.New;
      this._lose();
      this._start();
    }).catch(() => undefined);
  }

  /** The hub is gone: what was open is closed, what was opening waits for the next hub. */
  private _lose(): void {
    this._watch?.abort();
    this._peers.forEach((peer) => {
      if (!peer._connecting) peer._receive(HubKind.Closed, 1006, 0, '');
    });
    this._tell(LinkState.Connecting, this._tabs, '');
  }

  private _fail(reason = globalThis.SharedWorker
    ? `tabmux: the worker ${this._script} did not start. Serve it from the page's own origin, ` +
      'allow it in the worker-src of the page, or pass its address as the option worker.'
    : NO_SHARED_WORKER): void {
    this._stop();
    this._peers.forEach((peer) => {
      peer._receive(HubKind.Error, 0, 0, reason);
      peer._receive(HubKind.Closed, 1006, 0, '');
    });
    this._tell(LinkState.Closed, 0, reason);
  }

  private _stop(): void {
    this._post([PageKind.Bye]);
    this._drop();
    this._watch?.abort();
    clearTimeout(this._timer);
    if (hubs.get(this._id + this._script) === this) hubs.delete(this._id + this._script);
  }

  private _drop(): void {
    if (this._port) this._port.onmessage = null;
    this._port?.close();
    this._port = undefined;
  }
}

/** Resolves once this tab holds its lock; without locks at once. */
function inhabit(): Promise<void> {
  if (!tab) {
    tab = crypto.getRandomValues(new BigUint64Array(1))[0] as bigint;
    takeLock();
    addEventListener('pagehide', ({ persisted }) => {
      hubs.forEach((hub) => hub._leave(persisted));
      // Gives the lock back, in this task: a cached page must not hold it.
      leaving.abort();
    });
    addEventListener('pageshow', ({ persisted }) => {
      if (!persisted) return;
      takeLock();
      lockHeld.then(() => hubs.forEach((hub) => hub._enter()));
    });
  }
  return lockHeld;
}

function takeLock(): void {
  const { signal } = (leaving = new AbortController());
  lockHeld = new Promise((resolve) => {
    if (!navigator.locks) return resolve();
    navigator.locks.request(tabLock(tab), { signal }, () => {
      resolve();
      return new Promise<void>((letGo) => signal.addEventListener('abort', () => letGo()));
    }).catch(() => {
      // Refused, as some engines do where storage is: go on without. If we left, wait.
      if (!signal.aborted) resolve();
    });
  });
}
