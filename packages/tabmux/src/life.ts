// The life of a hub as this page sees it: the SharedWorker or another tier, when the page attaches,
// and how it learns of the hub's end. And this tab's own: its lock, and that it leaves and returns.
// The file port.ts has the messages to a hub and from it.
//
// Functions over a record, and no class: a minifier shortens their names.

import { HubKind, LinkState, PageKind, hubLock, tabLock } from './protocol.js';
import type { HubConfig, HubMessage, PageMessage } from './protocol.js';
import { Deadline, listen } from './host.js';
import type { PagePort, Skipped, Tier, Tried } from './host.js';

/** Times and numbers: constants that the bundle has as numbers. */
const enum Own {
  /**
   * How long after the end of a hub another worker is asked for. At once, Firefox gives a page
   * whose worker's process has crashed a port to the dead worker, and so it does ever after.
   */
  RestartMs = 100,
  /** A page goes from the hub of one user to that of another so often. */
  Moves = 4,
  /** A SharedWorker that has worked once is asked for so often before another tier is tried. */
  Faults = 6,
  /** The first wait after the scripts could not be loaded, and the last. Each is twice another. */
  RetryMs = 1000,
  LastRetryMs = 64_000,
}

/** How far a page is with its hub. */
export const enum Phase {
  Attached,
  /** `Attach` is posted, and all wishes after it. */
  Attaching,
  /** Nothing is posted yet. */
  New,
}

/** A hub, its worker, and how far the page is with them. */
export interface Life {
  /** What all tabs call its worker, and the lock of its link, before a user is known. */
  readonly _id: string;
  /** The same once a user is known, and the worker's address. */
  _name: string;
  readonly _script: string;
  readonly _config: HubConfig;
  /** How often it was sent to the hub of another user. */
  _moves: number;
  readonly _isMux: boolean;
  readonly _tiers: Tier[] | undefined;
  /** What clients show. */
  _state: LinkState;
  _tabs: number;
  _reason: string;
  /** 0 until it is known. */
  _hub: bigint;
  _phase: Phase;
  /** Grows when the hub is left or asked for anew: what an earlier one was to do is not done. */
  _runs: number;
  /** How often the SharedWorker failed to start since it last worked. */
  _faults: number;
  /** The hub whose lock was granted: it is gone, or the lock that it holds is another. */
  _doubted?: bigint;
  /** Whether the hub is in a SharedWorker, or is to be, and locks tell how it is. */
  _isShared: boolean;
  _isTried?: boolean;
  /** The tiers that were skipped, and why. */
  readonly _tried: Tried;
  /** Until when sockets that need no hub wait for one. */
  _until?: number;
  /** The worker was of another build: that of this build has a name of its own. */
  _isOther?: boolean;
  _port?: PagePort | undefined;
  _timer?: ReturnType<typeof setTimeout>;
  /** Posts `Attach` and all wishes. */
  _attach(life: Life, tab: bigint): void;
  /** Hears what an attached page is told. */
  _hear(life: Life, message: HubMessage): void;
  /** Tells all sockets and clients. */
  _tell(life: Life, message: HubMessage): void;
  /** Goes to the hub of this user. */
  _move(life: Life, user: string): void;
}

/**
 * Whether this is a page, or a worker of one, that can have workers. SharedWorkers and service
 * workers have none; Deno and Bun have workers, and no pages.
 */
export const hasWorkers = (): unknown =>
  globalThis.Worker && !('onconnect' in globalThis) &&
    (globalThis.document ?? globalThis.location);

/** Why there are no hubs. */
export const NO_WORKER = 'tabmux: no Worker: connect() needs a page, or a dedicated worker';

/** Why a page has no hub after its worker was replaced. */
const UPDATED = 'tabmux was updated: reload this page';

export const SHARED = 'shared-worker';

/** How names of workers and of locks of links begin. */
const NAME = 'tabmux:';
const LOCK = 'tabmux:socket:';

/** All hubs of this page. */
export const hubs = new Set<Life>();

let tab: bigint | undefined;
let locks: LockManager | undefined;
let lockHeld: Promise<void>;
let leaving: AbortController;
/** How long the scripts are left alone after the next failure, and until when they are now. */
let pause = Own.RetryMs as number;
let pauseUntil = 0;
let lastFailure: string;

/** How the hub is hosted. */
export const tierOf = (life?: Life): Tier => life?._port?._tier ?? SHARED;

/** The tiers that were skipped. */
export const skipped = (life?: Life): Skipped[] =>
  Object.entries(life?._tried ?? {}).map(([tier, reason]) => ({ tier: tier as Tier, reason }));

/** Asks for the hub's worker. The page's first word on `bfcache` counts. */
export function start(life: Life, bfcache?: 'prefer'): void {
  if (!hasWorkers()) return queueMicrotask(() => fail(life, NO_WORKER));
  inhabit(bfcache);
  life._runs += 1;
  life._phase = Phase.New;
  life._config.locks = !!locks;
  life._isShared &&= life._config.locks;
  if (!life._isMux && performance.now() < pauseUntil) {
    queueMicrotask(now(life, () => end(life, lastFailure)));
  } else if (life._isShared) startShared(life);
  else startOther(life);
}

/** The address of the worker: that of this build alone, where the usual one is of another. */
const scriptOf = ({ _script, _isOther }: Life): string =>
  (_isOther ? _script.replace(/\.js(?=\?|$)/, `.${__BUILD__}.js`) : _script);

function startShared(life: Life): void {
  expect(life, Deadline.Load);
  // One that worked before may have been started by a page that was just ending.
  const failed = now(life, (_, error?: { message?: string }) => life._phase &&
    (life._hub && ++life._faults < Own.Faults ? restart(life)
      : fail(life, '', error?.message || 'it did not start')));
  try {
    const options = { name: life._name, extendedLifetime: true } as WorkerOptions;
    const worker = new SharedWorker(scriptOf(life), options);
    worker.onerror = failed;
    take(life, worker.port);
  } catch (error) {
    queueMicrotask(() => failed(error as Error));
  }
}

/** What few pages need is in a chunk of its own: the other tiers, and more. */
export const loadMore = (
  use: (more: typeof import('./tiers.js')) => unknown,
  failed: (error: Error) => unknown = String,
): unknown => import('./tiers.js').then(use).catch(failed);

/** Tells the true cause of a failed dial, if that can be found, in the place of all that may be. */
export function explain(text: string, url: string, tell: (text: string) => void): void {
  let isTold = false;
  const once = (text: string): void => {
    if (!isTold) tell(text);
    isTold = true;
  };
  if (!/is not there, /.test(text)) return once(text);
  setTimeout(once, Deadline.Cause, text);
  loadMore(({ withCause }) => withCause(text, url).then(once), () => once(text));
}

function startOther(life: Life): void {
  expect(life, Deadline.Load);
  loadMore(now(life, (_, { openTiers }) => take(life, openTiers(
    __BUILD__, life._tiers, !!life._isTried, {
      _name: life._name,
      _script: scriptOf(life),
      _tab: tab as bigint,
      _locks: life._config.locks,
      _tried: life._tried,
      _lost: now(life, restart),
      _listen: listen,
    }, now(life, (_, reason, isFinal) => (isFinal ? fail : retry)(life, reason)),
  ))), now(life, (_, error) =>
    (error instanceof TypeError ? retry : fail)(life, error.message)));
}

/** Attaches through this port as soon as the page holds its lock. */
function take(life: Life, port: PagePort): void {
  life._port = port;
  // The other tiers see to it themselves. Sockets that need no hub do not wait long for them.
  if (port._tier && life._isMux) clearTimeout(life._timer);
  listen(port, now(life, receive));
  lockHeld.then(now(life, () => life._phase === Phase.New && attach(life, Phase.Attaching)));
}

/** Does nothing any more once this hub is left, or asked for anew. */
function now<A extends unknown[]>(life: Life, act: (life: Life, ...given: A) => unknown) {
  const mine = life._runs;
  return (...given: A): unknown => mine === life._runs && act(life, ...given);
}

function attach(life: Life, next: Phase): void {
  life._phase = next;
  life._attach(life, tab as bigint);
  wake(life);
}

/**
 * Gives up what says nothing for so long. Sockets that need no hub wait so long for all that is to
 * be loaded, and not for each part of it.
 */
function expect(life: Life, wait: number): void {
  if (life._port?._tier) {
    if (life._isMux) return;
    wait = Deadline.Load;
  }
  const isSilent = wait > Deadline.Attach;
  const moment = performance.now();
  if (!life._isMux) wait = Math.min(wait, (life._until ||= moment + wait) - moment);
  clearTimeout(life._timer);
  life._timer = setTimeout(now(life, () => {
    life._timer = setTimeout(now(life, () => {
      const script = scriptOf(life);
      // Sockets that need no hub wait for no other tier.
      if (!isSilent) return fail(life, '', `${script} did not answer`, !life._isMux);
      // What is still being loaded is not loaded twice: after the pause it is there, or lost.
      life._isShared = false;
      life._isTried = true;
      pause = Math.max(pause, Deadline.Load);
      retry(life, `tabmux: ${script} did not come`);
    }), Deadline.Grace);
  }), wait);
}

export function post(life: Life, message: PageMessage): void {
  // WebKit drops some of what was on its way to a page that enters the cache, and hands over the
  // rest when it is back. Nothing is heard then before the hub says again what is missing.
  if (message[0] === PageKind.Park) life._phase ||= Phase.Attaching;
  life._port?.postMessage(message);
}

/** The page is looked at: the hub looks whether its link lives, and asks this tab first. */
function wake(life: Life): void {
  if (life._phase < Phase.New && globalThis.document?.visibilityState === 'visible') {
    post(life, [PageKind.Wake, navigator.onLine !== false]);
  }
}

/** Asks for a new link, for newer credentials, or for the end of the session, if there is a hub. */
export function order(
  life?: Life,
  kind: PageKind.Reconnect | PageKind.Renew | PageKind.Logout = PageKind.Reconnect,
): void {
  if (life && life._phase < Phase.New) post(life, [kind]);
}

function receive(life: Life, message: HubMessage): void {
  const [kind, hub] = message;
  const isOther = hub !== life._hub;
  if (kind === HubKind.Ping) {
    if (life._hub !== life._doubted || !life._isShared) return post(life, [PageKind.Pong]);
    // It is there: site data was cleared, and it has other locks. It is asked from now on.
    life._isShared = false;
    life._port?.close();
    // What was said on that port is lost.
    if (!life._isMux) showResync(life);
    start(life);
  } else if (kind === HubKind.Failed) {
    fail(life, message[1]);
  } else if (kind === HubKind.OtherBuild) {
    if (life._isOther) return fail(life, UPDATED);
    life._isOther = true;
    restart(life);
  } else if (kind === HubKind.NotLoaded) {
    retry(life, message[1]);
  } else if (kind === HubKind.Elsewhere) {
    life._move(life, message[2]);
  } else if (kind === HubKind.Loading || kind === HubKind.Wait) {
    if (!life._phase) return;
    const what = message.at(-1) as string;
    expect(life, what ? Deadline.Load : Deadline.Attach);
    if (what) show(life, message, LinkState.Connecting, 0, what);
  } else if (kind === HubKind.Moved) {
    if (!life._tiers || life._tiers[1]) fail(life, '', 'another hub has the link');
  } else if (message[0] === HubKind.Attached) {
    clearTimeout(life._timer);
    life._until = 0;
    delete life._tried[tierOf(life)];
    pause = Own.RetryMs;
    life._phase = life._faults = Phase.Attached;
    life._hub = message[1];
    watch(life);
    show(life, message, message[2], message[3]);
  } else if (kind === HubKind.Resync ? isOther || !life._phase : isOther && !life._phase) {
    // One hub says Resync to everything it gets until it has got our Attach: once is enough.
    life._hub = hub as bigint;
    showResync(life);
    // Sockets that were lost by it may have been all that this page had: then the hub is left.
    if (!life._port) return;
    expect(life, Deadline.Attach);
    attach(life, Phase.Attaching);
  } else if (!isOther && !life._phase) {
    // Else it was said before we attached. What came before it may not have been heard.
    life._hear(life, message);
  }
}

/** Leaves for the hub of the user that the browser has now. */
export function move(life: Life, user: string): void {
  if (++life._moves > Own.Moves) return fail(life, 'tabmux: the user changed too often');
  rename(life, user);
  life._hub = 0n;
  restart(life);
}

/** Gives the hub names that hold this user; with the empty text those of a hub of anybody. */
export function rename(life: Life, user: string): void {
  const id = life._id + (user && '#' + user);
  life._name = NAME + id;
  life._config.lock = LOCK + id;
  life._config.tag = user;
}

/** Tells all how the hub and its link stand. */
export function show(
  life: Life,
  message: HubMessage,
  state: LinkState,
  tabs = 0,
  reason = '',
): void {
  life._state = state;
  life._tabs = tabs;
  life._reason = reason;
  life._tell(life, message);
}

const showResync = (life: Life): void =>
  show(life, [HubKind.Resync, life._hub], LinkState.Connecting);

/** Waits for the end of the hub: its lock is granted then. The other tiers do it themselves. */
function watch(life: Life): void {
  const hub = life._hub;
  if (life._isShared) locks?.request(hubLock(hub), { mode: 'shared', signal: leaving.signal },
    now(life, () => hub === life._hub && doubt(life)),
  ).catch(() => undefined);
}

/** Asks the hub whether it is there, although its lock is granted. */
function doubt(life: Life): void {
  life._doubted = life._hub;
  post(life, [PageKind.Pong]);
  clearTimeout(life._timer);
  life._timer = setTimeout(now(life, restart), Deadline.Doubt);
}

function restart(life: Life): void {
  life._port?.close();
  life._port = undefined;
  life._phase = Phase.New;
  const again = now(life, start);
  showResync(life);
  if (life._hub) setTimeout(again, Own.RestartMs);
  else again();
}

/**
 * Where a SharedWorker failed for no reason that holds everywhere, the other tiers are left: it is
 * skipped, and `why` tells why. Not if it is the last that may be tried.
 */
export function fail(life: Life, reason = '', why = reason, isLast = false): void {
  leave(life);
  if (life._isShared) life._tried[SHARED] = why;
  if (life._isShared && !reason && !life._isOther && !isLast) {
    life._isShared = false;
    life._isTried = true;
    return restart(life);
  }
  end(life, life._isOther ? UPDATED : reason || 'tabmux: ' + why);
}

/**
 * A script or the module could not be loaded. All hubs in mux mode ask for it again later. Sockets
 * in other modes do without, and so do those that are made until then.
 */
function retry(life: Life, reason: string): void {
  leave(life);
  if (life._isOther) return end(life, UPDATED);
  lastFailure = reason;
  pauseUntil = performance.now() + pause;
  pause = Math.min(pause * 2, Own.LastRetryMs);
  if (!life._isMux) return end(life, reason);
  const state = LinkState.Backoff;
  show(life, [HubKind.State, life._hub, state, 0, reason], state, 0, reason);
  setTimeout(now(life, start), pauseUntil - performance.now());
}

/** There is no hub. */
function end(life: Life, reason: string): void {
  hubs.delete(life);
  show(life, [HubKind.Failed, reason], LinkState.Closed, 0, reason);
}

/** The page has no use for the hub any more, or there is none. */
export function leave(life: Life): void {
  post(life, [PageKind.Bye]);
  life._port?.close();
  life._port = undefined;
  life._runs += 1;
}

/** The page is back, and holds its lock again; or it is refused locks from now on. */
function comeBackTo(life: Life): void {
  if (life._config.locks && !locks) {
    // A hub with locks would take a page that holds none for dead.
    restart(life);
  } else if (life._phase < Phase.New) {
    // A hub that has forgotten this tab answers the first of the two with `Resync`.
    post(life, [PageKind.Park]);
    expect(life, Deadline.Attach);
    attach(life, Phase.Attaching);
    // Nobody holds the lock of a hub that is not known yet.
    if (life._hub) watch(life);
  } else if (life._port) {
    // Else its tier is not loaded yet, and takes up this page when it is.
    attach(life, Phase.Attaching);
  }
}

/** Sets `lockHeld`, which resolves once this tab holds its lock; without locks at once. */
function inhabit(bfcache?: 'prefer'): void {
  if (tab) return;
  tab = crypto.getRandomValues(new BigUint64Array(1))[0];
  // Only Firefox has this, and no page can ask a browser what it keeps in its cache.
  locks = bfcache && 'mozInnerScreenX' in globalThis ? undefined : navigator.locks;
  takeLock();
  for (const type of ['online', 'pageshow', 'visibilitychange']) {
    addEventListener(type, () => hubs.forEach(wake));
  }
  addEventListener('pagehide', ({ persisted }) => {
    hubs.forEach((hub) => post(hub, [persisted ? PageKind.Park : PageKind.Bye]));
    // Lets go of the lock in this task, and waits for none: a cached page must not.
    leaving.abort();
  });
  addEventListener('pageshow', ({ persisted }) => persisted && comeBack());
}

/** Takes the lock again, and tells the hubs, which may have taken this page for dead without it. */
function comeBack(): void {
  leaving.abort();
  takeLock();
  lockHeld.then(() => hubs.forEach(comeBackTo));
}

function takeLock(): void {
  const { signal } = (leaving = new AbortController());
  lockHeld = new Promise((resolve) => {
    if (!locks) return resolve();
    let isHeld = false;
    // Locks are judged by their use: one that is not granted is as one that is refused.
    setTimeout(() => setTimeout(() => {
      if (isHeld || signal.aborted) return;
      locks = undefined;
      comeBack();
    }, Deadline.Grace), Deadline.Lock);
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
