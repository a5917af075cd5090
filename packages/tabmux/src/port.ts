// One hub as this page sees it: the SharedWorker, the locks, and what this page wants of the hub,
// to be told again to the next one. No logic of the protocol.
//
// Functions around shared variables, and no class: a minifier can shorten only those names.

import { HubKind, LinkState, PageKind, hubLock, tabLock } from './protocol.js';
import type { HubConfig, HubMessage, PageMessage } from './protocol.js';

/** How long a worker may take to say that its hub runs. */
const ATTACH_TIMEOUT_MS = 6000;

/**
 * How long after the end of a hub another worker is asked for. At once, Firefox gives a page whose
 * worker's process has crashed a port to the dead worker, and so it does ever after.
 */
const RESTART_DELAY_MS = 100;

/** How far this page is with its hub. */
const enum Phase {
  Attached,
  /** Back from the back/forward cache: the hub may have forgotten this tab. */
  Restored,
  /** `Attach` is posted, and all wishes after it. */
  Attaching,
  /** Nothing is posted yet. */
  New,
}

/**
 * What a socket or a client hears of its hub, as the hub said it: what concerns it and what
 * concerns all. `Resync`: the hub is another one. `Failed`: there is none, and none will come.
 */
export type Receive = (kind: HubKind, a: number, b: number, data: string | Uint8Array) => void;

/**
 * What is asked of a hub for a socket or a subscription, its number left out. A client asks for
 * nothing. It may change: it is asked again of the next hub.
 */
export type Wish =
  | [kind: PageKind.Open, path: string, protocols: string[]]
  | [kind: PageKind.Subscribe, name: string, epoch: number, offset: number];

/** What sharing depends on, besides URL and sub-protocols. */
export interface SharingOptions {
  /** Whose connection it is. Two identities never share one. Default: the empty text. */
  key?: string | undefined;
  /** The address of worker.js. Default: beside the script of this library. */
  worker?: string | URL | undefined;
}

/** A hub as this page sees it. */
export interface HubPort {
  _state: LinkState;
  _tabs: number;
  _reason: string;
  /** 0 until it is known. */
  _hub: bigint;
  /** Adds a socket, a subscription or a client and returns its number. */
  _add(receive: Receive, wish?: Wish): number;
  /** Forgets it. The hub is left with the last one. */
  _remove(number: number): void;
  _post(message: PageMessage, transfer?: Transferable[]): void;
  /** The page is back, and holds its lock again. */
  _return(): void;
}

/** Why there are no hubs. */
export const NO_SHARED_WORKER = 'tabmux: no SharedWorker here';

const hubs = new Map<string, HubPort>();
let tab: bigint | undefined;
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
  return hubs.get(id + script) ?? makePort(id + script, id, script, config);
}

function makePort(place: string, id: string, script: string, config: HubConfig): HubPort {
  const peers = new Map<number, [Receive, Wish | undefined]>();
  let phase = Phase.New;
  let count = 0;
  let port: MessagePort | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const post: HubPort['_post'] = (message, transfer = []) => port?.postMessage(message, transfer);

  const tell = (kind: HubKind, state: number, tabs: number, data: string | Uint8Array): void => {
    if (kind !== HubKind.Mirror && kind !== HubKind.Browser) {
      self._state = state;
      self._tabs = tabs;
      self._reason = data as string;
    }
    // Bytes of its own for each.
    [...peers.values()].forEach(([receive]) => receive(kind, state, tabs, data.slice()));
  };

  const start = (): void => {
    phase = Phase.New;
    try {
      const worker = new SharedWorker(script, 'tabmux:' + id);
      const mine = (port = worker.port);
      mine.onmessage = ({ data }: MessageEvent<HubMessage>) => port === mine && receive(data);
      worker.onerror = () => port === mine && phase && fail();
      inhabit().then(() => port === mine && phase === Phase.New && attach(Phase.Attaching));
    } catch {
      queueMicrotask(fail);
    }
  };

  const attach = (next: Phase): void => {
    const mine = port;
    phase = next;
    clearTimeout(timer);
    timer = setTimeout(() => port === mine && phase && fail(), ATTACH_TIMEOUT_MS);
    post([PageKind.Attach, tab as bigint, config]);
    if (next === Phase.Attaching) peers.forEach(([, wish], number) => open(number, wish));
  };

  const open = (number: number, wish?: Wish): void => {
    if (!wish) return;
    const [kind, ...rest] = wish;
    post([kind, number, ...rest] as PageMessage);
  };

  const receive = ([hub, kind, number, a, b, data]: HubMessage): void => {
    const isOther = hub !== self._hub;
    if (kind === HubKind.Failed) {
      fail(data as string);
    } else if (kind === HubKind.Attached) {
      phase = Phase.Attached;
      self._hub = hub;
      watch();
      tell(kind, a, b, data);
    } else if (kind === HubKind.Resync ? isOther || phase < Phase.Attaching : isOther && !phase) {
      // One hub says Resync to everything it gets until it has got our Attach: once is enough.
      self._hub = hub;
      tell(HubKind.Resync, LinkState.Connecting, 0, '');
      if (port) attach(Phase.Attaching);
    } else if (!isOther) {
      if (number) peers.get(number)?.[0](kind, a, b, data);
      else tell(kind, a, b, data);
    }
  };

  /** Waits for the end of the hub: its lock is granted then. */
  const watch = (): void => {
    const { signal } = leaving;
    const mine = port;
    const hub = self._hub;
    navigator.locks?.request(hubLock(hub), { mode: 'shared', signal }, () => {
      if (port !== mine || hub !== self._hub) return;
      mine?.close();
      phase = Phase.New;
      setTimeout(() => port === mine && start(), RESTART_DELAY_MS);
      tell(HubKind.Resync, LinkState.Connecting, 0, '');
    }).catch(() => undefined);
  };

  const fail = (reason = globalThis.SharedWorker
    ? `tabmux: the worker ${script} did not start. Serve it from the page's own origin, ` +
      'allow it in worker-src, or pass the option worker.'
    : NO_SHARED_WORKER): void => {
    stop();
    tell(HubKind.Failed, LinkState.Closed, 0, reason);
    peers.clear();
  };

  const stop = (): void => {
    post([PageKind.Bye]);
    port?.close();
    port = undefined;
    if (hubs.get(place) === self) hubs.delete(place);
  };

  const self: HubPort = {
    _state: LinkState.Connecting,
    _tabs: 0,
    _reason: '',
    _hub: 0n,
    _add(receive, wish) {
      peers.set(++count, [receive, wish]);
      if (phase < Phase.New) open(count, wish);
      return count;
    },
    _remove(number) {
      peers.delete(number);
      if (!peers.size) stop();
    },
    _post: post,
    _return() {
      if (phase < Phase.New) {
        // A hub that has forgotten this tab answers the first of the two with `Resync`.
        post([PageKind.Park]);
        attach(Phase.Restored);
        // Nobody holds the lock of a hub that is not known yet.
        if (self._hub) watch();
      } else {
        attach(Phase.Attaching);
      }
    },
  };
  hubs.set(place, self);
  start();
  return self;
}

/** Resolves once this tab holds its lock; without locks at once. */
function inhabit(): Promise<void> {
  if (!tab) {
    tab = crypto.getRandomValues(new BigUint64Array(1))[0];
    takeLock();
    addEventListener('pagehide', ({ persisted }) => {
      hubs.forEach((hub) => hub._post([persisted ? PageKind.Park : PageKind.Bye]));
      // Lets go of the lock in this task, and waits for none: a cached page must not.
      leaving.abort();
    });
    addEventListener('pageshow', ({ persisted }) => {
      if (!persisted) return;
      takeLock();
      lockHeld.then(() => hubs.forEach((hub) => hub._return()));
    });
  }
  return lockHeld;
}

function takeLock(): void {
  const { signal } = (leaving = new AbortController());
  lockHeld = new Promise((resolve) => {
    if (!navigator.locks) return resolve();
    navigator.locks.request(tabLock(tab as bigint), { signal }, () => {
      resolve();
      return new Promise((letGo) => signal.addEventListener('abort', letGo));
    // Refused, as some engines do where storage is: go on without. If we left, wait.
    }).catch(() => signal.aborted || resolve());
  });
}
