// One hub as this page sees it: the SharedWorker or another tier, the locks, and what this page
// wants of the hub, to be told again to the next one. No logic of the protocol.
//
// Functions around shared variables, and no class: a minifier can shorten only those names.

import {
  HubKind, Limit, LinkState, PageKind, hubLock, isCounted, isOfPeer, tabLock,
} from './protocol.js';
import type { HubConfig, HubMessage, PageMessage, PeerMessage } from './protocol.js';
import type { PagePort, Tier } from './tiers.js';

/** Times and limits of this page's own: constants that the bundle has as numbers. */
const enum Own {
  /** How long a worker may take to say that its hub runs: the first, to be loaded, and others. */
  LoadMs = 6000,
  AttachMs = 2500,
  /**
   * How long after the end of a hub another worker is asked for. At once, Firefox gives a page
   * whose worker's process has crashed a port to the dead worker, and so it does ever after.
   */
  RestartMs = 100,
  /** What a message takes besides its bytes: empty ones are kept too. */
  Entry = 99,
  /** A SharedWorker that has worked once is asked for so often before another tier is tried. */
  Faults = 6,
}

/** How far this page is with its hub. */
const enum Phase {
  Attached,
  /** Back from the back/forward cache in mirror mode: the hub may have forgotten this tab. */
  Restored,
  /** `Attach` is posted, and all wishes after it. */
  Attaching,
  /** Nothing is posted yet. */
  New,
}

/**
 * What a socket or a client hears of its hub, as the hub said it: what concerns it and what
 * concerns all. `Resync`: the hub is another one. `Failed`: there is none, and none will come.
 * Others may hear the same message, and read the same bytes.
 */
export type Receive = (message: HubMessage) => void;

/**
 * What is asked of a hub for a socket or a subscription, its numbers left out. A client asks for
 * nothing. It may change: it is asked again of the next hub.
 */
export type Wish =
  | [kind: PageKind.Open, path: string, protocols: string[]]
  | [kind: PageKind.Subscribe, name: string, epoch: number, offset: number];

/** What is counted of what is said. */
type Said = Extract<PageMessage,
  { 0: PageKind.Open | PageKind.Send | PageKind.Close | PageKind.Credit }>;

/** What sharing depends on, besides URL and sub-protocols. */
export interface SharingOptions {
  /**
   * Who the user is. Two keys never share a connection. Give one wherever people log in: without it
   * the pages of two users of one browser share the connection of the first. Default: the empty
   * text.
   */
  key?: string | undefined;
  /** The address of worker.js. Default: beside the script of this library. */
  worker?: string | URL | undefined;
  /**
   * How a hub may be hosted, the best first; the next is tried where one is missing, fails or is
   * silent. The first socket of a page for a hub decides. Default: all, as `Tier` names them.
   */
  tiers?: Tier[] | undefined;
  /**
   * `prefer`: in Firefox, which keeps no page in the back/forward cache that has to do with a lock,
   * do without locks. Then a tab that crashes is noticed after a minute. The first socket of a page
   * decides for the page.
   */
  bfcache?: 'prefer' | undefined;
}

/** A hub as this page sees it. */
export interface HubPort {
  readonly _tier: Tier;
  _state: LinkState;
  _tabs: number;
  _reason: string;
  /** 0 until it is known. */
  _hub: bigint;
  /** Adds a socket, a subscription or a client and returns its number. */
  _add(receive: Receive, wish?: Wish): number;
  /** Forgets it. The hub is left with the last one. */
  _remove(number: number): void;
  _post(message: PageMessage): void;
  /**
   * Sends on a socket, or closes it; kept until the other end has it. False: too much is kept.
   */
  _say(kind: PageKind.Send | PageKind.Close, number: number, ...rest: unknown[]): boolean;
  /** Bytes of a socket's messages that were not handed to the link. */
  _buffered(number: number): number;
  /** The page is back, and holds its lock again; or it is refused locks from now on. */
  _return(): void;
}

/** Why there are no hubs. */
export const NO_WORKER = 'tabmux: no SharedWorker and no Worker';

const SHARED = 'shared-worker';

const hubs = new Map<string, HubPort>();
let tab: bigint | undefined;
let locks: LockManager | undefined;
let lockHeld: Promise<void>;
let leaving: AbortController;

/** The port to the hub of these arguments. There is one of each for the whole page. */
export function hubPort(
  mode: HubConfig['mode'],
  url: string,
  protocols: string[],
  { key = '', worker, tiers, bfcache }: SharingOptions,
): HubPort {
  const id = mode + ':' + JSON.stringify(mode === 'mux' ? [url, key] : [url, protocols, key]);
  const script = `${worker ?? new URL('worker.js?v=' + __WORKER_VERSION__, import.meta.url)}`;
  // Whether there are locks is known when it starts.
  const config = { mode, url, protocols, lock: 'tabmux:socket:' + id } as HubConfig;
  return hubs.get(id + script) ?? makePort(id + script, id, script, config, tiers, bfcache);
}

function makePort(
  place: string,
  id: string,
  script: string,
  config: HubConfig,
  tiers?: Tier[],
  bfcache?: 'prefer',
): HubPort {
  /**
   * What each hears, what it asks for, how much it heard that is not given back, and whether a
   * socket was asked for in this session.
   */
  const peers =
    new Map<number, [receive: Receive, wish: Wish | undefined, heard: number, said?: boolean]>();
  const isMux = config.mode === 'mux';
  let phase = Phase.New;
  let count = 0;
  let runs = 0;
  /** How often the SharedWorker failed to start since it last worked. */
  let faults = 0;
  /** Whether the hub is in a SharedWorker, or is to be, and locks tell how it is. */
  let isShared = !tiers || tiers[0] === SHARED;
  let isTried = false;
  let port: PagePort | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  // What this page has of its session, for the next hub.
  let claim = '';
  let last0 = 0;
  let last = 0;
  /** What was said in the session and is not known to have been received. */
  let unseen: [size: number, message: Said][] = [];
  let said = 0;
  let kept = 0;
  /** Up to which n it was handed to the link. */
  let handed = 0;
  /** Whether the hub takes what is said. */
  let up = false;

  const post: HubPort['_post'] = (message) => {
    // WebKit drops some of what was on its way to a page that enters the cache, and hands over the
    // rest when it is back. Nothing is heard then before the hub says again what is missing.
    if (message[0] === PageKind.Park && isMux) phase ||= Phase.Attaching;
    port?.postMessage(message);
  };

  const tell = (message: HubMessage): void =>
    new Map(peers).forEach(([receive]) => receive(message));

  /** Tells how the hub and its link stand. */
  const show = (state: LinkState, tabs: number, reason: string, message: HubMessage): void => {
    self._state = state;
    self._tabs = tabs;
    self._reason = reason;
    tell(message);
  };

  const showResync = (): void =>
    show(LinkState.Connecting, 0, '', [HubKind.Resync, self._hub]);

  /** Does nothing any more once this hub is left, or asked for anew. */
  const now = <A extends unknown[]>(act: (...given: A) => unknown) => {
    const mine = runs;
    return (...given: A): unknown => mine === runs && act(...given);
  };

  const start = (): void => {
    if (!globalThis.Worker) return queueMicrotask(() => fail(NO_WORKER));
    inhabit(bfcache);
    runs += 1;
    phase = Phase.New;
    config.locks = !!locks;
    isShared &&= config.locks;
    const name = 'tabmux:' + id;
    const take = (opened: PagePort): void => {
      port = opened;
      opened.onmessage = now(({ data }) => receive(data));
      lockHeld.then(now(() => phase === Phase.New && attach(Phase.Attaching)));
    };
    // One that worked before may have been started by a page that was just ending.
    const failed = now(() =>
      phase && (self._hub && ++faults < Own.Faults ? restart() : fail()));
    if (!isShared) {
      import('./tiers.js').then(now(({ openTiers }) => take(openTiers(
        __TIERS_VERSION__, tiers, isTried, name, script, tab as bigint, config.locks, now(fail),
        now(restart),
      )))).catch(now(({ message }) => fail(message)));
      return;
    }
    try {
      const worker = new SharedWorker(script, { name, extendedLifetime: true } as WorkerOptions);
      worker.onerror = failed;
      take(worker.port);
    } catch {
      queueMicrotask(failed);
    }
  };

  const attach = (next: Phase): void => {
    phase = next;
    up = false;
    clearTimeout(timer);
    // The other tiers see to it themselves.
    timer = setTimeout(now(() => isShared && fail()),
      self._hub ? Own.AttachMs : Own.LoadMs);
    post([PageKind.Attach, tab as bigint, config, claim + left(), last0, last]);
    peers.forEach(([, wish], number) => subscribe(number, wish));
  };

  /**
   * What pages of this build left of their claim for those to come, behind a comma: a page that has
   * none may be the first at the next hub, and that of another may be over. It is this page's from
   * now on, if it has one. `undefined` is no claim to a hub. A tier of one tab has a session of
   * its own.
   */
  const left = (mine?: string): string => {
    try {
      if (isMux && self._tier !== 'direct') {
        // Without locks nothing keeps hubs of two tiers from taking a session from each other.
        const name = config.lock + self._tier + new URL(script, document.baseURI);
        // All but what this tab is called there.
        if (mine) localStorage[name] = mine.split(' ')[0];
        return ',' + localStorage[name];
      }
    } catch {
      // Refused, or full.
    }
    return '';
  };

  const subscribe = (number: number, wish?: Wish): void => {
    if (wish?.[0] === PageKind.Subscribe) {
      const [kind, ...rest] = wish;
      post([kind, number, ...rest]);
    }
  };

  /** Asks for a socket, once it can be. */
  const open = (number: number): void => {
    const peer = peers.get(number);
    if (up && !peer?.[3] && peer?.[1]?.[0] === PageKind.Open) {
      const [kind, ...rest] = peer[1];
      peer[3] = true;
      say(kind, number, 0, rest);
    }
  };

  const say = (kind: PageKind, number: number, size: number, rest: unknown[]): void => {
    const message = [kind, ++said, number, ...rest] as Said;
    // A hub's word on what was sent is all that frees a mirror's, and it says so of bytes only.
    if (size || !up || isMux) unseen.push([size, message]);
    kept += size;
    if (up) post(message);
  };

  /** The other end has what was said up to `n`. */
  const seen = (n: number): void => {
    for (let next; (next = unseen[0]) && next[1][1] <= n; unseen.shift()) kept -= next[0];
  };

  /** A link was given what was said up to `n`. Another one may be given some of it again. */
  const hand = (n: number): number => (handed = Math.max(handed, n));

  /** The session is gone: what was open is lost, what is not yet open is asked for in the next. */
  const lose = (reason: string, count0: number): void => {
    unseen = [];
    said = kept = handed = last = 0;
    last0 = count0;
    peers.forEach((peer) => (peer[3] = false));
    // Nobody knows what was said to all tabs between the two.
    if (claim) tell([HubKind.BrowserGap, self._hub]);
    claim = '';
    tell([HubKind.Lost, self._hub, reason]);
  };

  /** The other end has what this page said up to `n`, and takes the rest. */
  const goOn = (n: number, shown: string): void => {
    left((claim = shown));
    seen(n);
    hand(n);
    up = true;
    unseen.forEach(([, message]) => post(message));
    peers.forEach((_, number) => open(number));
  };

  const receive = (message: HubMessage): void => {
    const [kind, hub] = message;
    const isOther = hub !== self._hub;
    if (kind === HubKind.Failed) {
      fail(hub as string);
    } else if (kind === HubKind.Moved) {
      if (!tiers || tiers[1]) fail();
    } else if (message[0] === HubKind.Attached) {
      clearTimeout(timer);
      phase = faults = Phase.Attached;
      self._hub = message[1];
      watch();
      show(message[2], message[3], '', message);
    } else if (kind === HubKind.Resync ? isOther || phase < Phase.Attaching : isOther && !phase) {
      // One hub says Resync to everything it gets until it has got our Attach: once is enough.
      self._hub = hub as bigint;
      showResync();
      if (port) attach(Phase.Attaching);
    } else if (!isOther && phase < Phase.Attaching) {
      // Else it was said before we attached. What came before it may not have been heard.
      hear(message);
    }
  };

  /** What the hub said, unless it was heard before. */
  const hear = (message: HubMessage): void => {
    if (isOfPeer(message)) return hearOfPeer(message);
    // One of before we were away: another one comes, and one answer is all the hub waits for.
    if (message[0] === HubKind.Resume) {
      if (!phase) goOn(message[2], message[3]);
    } else if (message[0] === HubKind.Renew) {
      if (phase) return;
      lose('tabmux: the session is lost', message[3]);
      // What was said before this was said in another session.
      post([PageKind.Got, 0, 0]);
      goOn(message[2], message[4]);
    } else if (message[0] === HubKind.Check) {
      // Not all that is counted comes here. What an earlier hub posted may be ahead of this one.
      last0 = Math.max(last0, message[2]);
      last = Math.max(last, message[3]);
      post([PageKind.Got, message[2], message[3]]);
    } else if (message[0] === HubKind.Sent) {
      hand(message[2]);
      if (!isMux) seen(message[2]);
    } else if (message[0] === HubKind.Seen) {
      seen(message[2]);
    } else if (message[0] === HubKind.Lost) {
      lose(message[2], 0);
    } else if (message[0] === HubKind.State) {
      if (message[2] !== LinkState.Connected && isMux) up = false;
      show(message[2], message[3], message[4], message);
    } else {
      if (message[0] === HubKind.Browser) {
        if (message[2] <= last0) return;
        last0 = message[2];
      }
      tell(message);
    }
  };

  const hearOfPeer = (message: PeerMessage): void => {
    if (isCounted(message)) {
      if (message[3] <= last) return;
      last = message[3];
    }
    const peer = peers.get(message[2]);
    peer?.[0](message);
    if (peer && message[0] === HubKind.Message && (peer[2] += message[4]) >= Limit.Credit) {
      say(PageKind.Credit, message[2], 0, [peer[2]]);
      peer[2] = 0;
    }
  };

  /** Waits for the end of the hub: its lock is granted then. The other tiers do it themselves. */
  const watch = (): void => {
    const hub = self._hub;
    if (isShared) locks?.request(hubLock(hub), { mode: 'shared', signal: leaving.signal },
      now(() => hub === self._hub && restart()),
    ).catch(() => undefined);
  };

  const restart = (): void => {
    port?.close();
    phase = Phase.New;
    up = false;
    const again = now(start);
    showResync();
    if (self._hub) setTimeout(again, Own.RestartMs);
    else again();
  };

  /** Where a SharedWorker failed for no reason that holds everywhere, the other tiers are left. */
  const fail = (reason?: string): void => {
    leave();
    if (isShared && !reason) {
      isShared = false;
      isTried = true;
      return restart();
    }
    hubs.delete(place);
    show(LinkState.Closed, 0, reason as string, [HubKind.Failed, reason as string]);
    peers.clear();
  };

  const leave = (): void => {
    post([PageKind.Bye]);
    port?.close();
    port = undefined;
    runs += 1;
  };

  const self: HubPort = {
    get _tier() {
      return port?.tier ?? SHARED;
    },
    _state: LinkState.Connecting,
    _tabs: 0,
    _reason: '',
    _hub: 0n,
    _add(receive, wish) {
      peers.set(++count, [receive, wish, 0]);
      if (phase < Phase.New) subscribe(count, wish);
      open(count);
      return count;
    },
    _remove(number) {
      peers.delete(number);
      if (peers.size) return;
      leave();
      if (hubs.get(place) === self) hubs.delete(place);
    },
    _post: post,
    _say(kind, number, ...rest) {
      // What was never asked for need not be closed.
      if (!peers.get(number)?.[3]) return true;
      const size = kind === PageKind.Send ? sizeOf(rest[0] as string | Uint8Array) : 0;
      const all = kept + size + unseen.length * Own.Entry;
      if (kind === PageKind.Send && all > Limit.Outbox) return false;
      say(kind, number, size, rest);
      return true;
    },
    _buffered(number) {
      return unseen.reduce((sum, [size, [, n, socket]]) =>
        sum + (n > handed && socket === number ? size : 0), 0);
    },
    _return() {
      if (config.locks && !locks) {
        // A hub with locks would take a page that holds none for dead.
        restart();
      } else if (phase < Phase.New) {
        // A hub that has forgotten this tab answers the first of the two with `Resync`.
        post([PageKind.Park]);
        attach(phase || Phase.Restored);
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

/** Bytes of a message. */
export const sizeOf = (data: string | Uint8Array): number =>
  (typeof data === 'string' ? new TextEncoder().encode(data) : data).length;

/** Sets `lockHeld`, which resolves once this tab holds its lock; without locks at once. */
function inhabit(bfcache?: 'prefer'): void {
  if (tab) return;
  tab = crypto.getRandomValues(new BigUint64Array(1))[0];
  // Only Firefox has this, and no page can ask a browser what it keeps in its cache.
  locks = bfcache && 'mozInnerScreenX' in globalThis ? undefined : navigator.locks;
  takeLock();
  addEventListener('pagehide', ({ persisted }) => {
    hubs.forEach((hub) => hub._post([persisted ? PageKind.Park : PageKind.Bye]));
    // Lets go of the lock in this task, and waits for none: a cached page must not.
    leaving.abort();
  });
  addEventListener('pageshow', ({ persisted }) => persisted && comeBack());
}

/** Takes the lock again, and tells the hubs, which may have taken this page for dead without it. */
function comeBack(): void {
  leaving.abort();
  takeLock();
  lockHeld.then(() => hubs.forEach((hub) => hub._return()));
}

function takeLock(): void {
  const { signal } = (leaving = new AbortController());
  lockHeld = new Promise((resolve) => {
    if (!locks) return resolve();
    let isHeld = false;
    locks.request(tabLock(tab as bigint), { signal }, () => {
      isHeld = true;
      resolve();
      return new Promise((letGo) => signal.addEventListener('abort', letGo));
    }).catch(() => {
      // We left.
      if (signal.aborted) return;
      // Not stolen but refused, as locks are where storage is.
      if (!isHeld) locks = undefined;
      comeBack();
    });
  });
}
