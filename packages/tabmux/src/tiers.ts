// The ways to host a hub besides a SharedWorker: a dedicated worker of the tab that leads, which
// all tabs reach by one channel, the bus. A chunk of its own, loaded where it is needed.
//
// As in port.ts: functions around shared variables, and no class. What port.ts calls is called by
// position: names of properties are not shortened over two bundles.

import { contendByLease, contendByLock } from './leader.js';
import type { Leadership } from './leader.js';
import { STAYS, busName, resync } from './bus.js';
import type { HubFrame, TabFrame, WorkerOrder } from './bus.js';
import { ignore } from './garbage.js';
import { HubKind, PageKind, pulseEvery } from './protocol.js';
import { isHubMessage } from './shape.js';
import type { HubMessage, PageMessage } from './protocol.js';
import { openWire } from './wire.js';
import type { Wire } from './wire.js';

/** How a hub is hosted. */
export type Tier = 'shared-worker' | 'leader' | 'storage' | 'direct';

/** What a page speaks to a hub through. A SharedWorker's own port says nothing of its tier. */
export interface PagePort {
  readonly tier?: Tier;
  onmessage: ((event: MessageEvent<HubMessage>) => unknown) | null;
  postMessage(message: PageMessage): void;
  close(): void;
}

/** What a tier must know of the page. */
interface Page {
  /** What all tabs call the hub. */
  name: string;
  /** The address of the worker. */
  script: string;
  tab: bigint;
  /** Whether this page may hold locks. */
  locks: boolean;
  hear(message: HubMessage): void;
  /** This tier is no good; with a reason: nor is any other. */
  fail(reason?: string): void;
  /** The SharedWorker fell silent. */
  lost(): void;
}

/** A port of one tier. */
type TierPort = Omit<PagePort, 'onmessage'>;

const ALL: Tier[] = ['shared-worker', 'leader', 'storage', 'direct'];

/** How long a worker may take to start. */
const PATIENCE_MS = 6000;

/** How often a page looks whether its hub is still there. */
const CHECK_MS = 2500;

/** After such a silence the hub is asked; still silent at the next look, it is given up. */
const SILENCE_MS = 5000;

/** How long a hub that may already be there has time to say so. */
const HELLO_MS = 200;

/** How long a worker that was asked to end may take for it. */
const RETIRE_MS = 1500;

/**
 * Opens a port of the first of these tiers that works, and goes on to the next where one fails.
 * `isTried`: a SharedWorker was tried. Throws, or calls `fail`, where none is left. Throws also
 * where client.js is of another build, which a cache may cause: it names the `version` it wants.
 */
export function openTiers(
  version: string,
  tiers: Tier[] = ALL,
  isTried: boolean,
  name: string,
  script: string,
  tab: bigint,
  locks: boolean,
  fail: (reason: string) => void,
  lost: () => void,
): PagePort {
  if (version !== __TIERS_VERSION__) {
    throw new Error('tabmux: tiers.js and client.js are of two builds; load the page again');
  }
  const left = tiers.filter((tier) => !isTried || tier !== 'shared-worker');
  const noWorker = notStarted(script);
  let inner: TierPort | undefined;
  let tier: Tier | undefined;
  /** Whether the claim of this page is that of a session of its own. */
  let isOwn = false;

  const next = (): void => {
    inner?.close();
    inner = undefined;
    while (!inner && (tier = left.shift())) {
      const now = tier;
      const page: Page = {
        name, script, tab, locks, lost,
        hear(message) {
          if (tier !== now) return;
          isOwn ||= tier === 'direct' &&
            (message[0] === HubKind.Resume || message[0] === HubKind.Renew);
          // Another hub has the link; its own tier may be the last that is allowed.
          if (message[0] !== HubKind.Moved) outer.onmessage?.({ data: message } as MessageEvent);
          else if (left.length) page.fail();
        },
        fail(reason) {
          if (tier !== now) return;
          if (reason) return fail(reason);
          try {
            next();
            outer.onmessage?.({ data: resync() } as MessageEvent);
          } catch {
            fail(noWorker);
          }
        },
      };
      try {
        inner = tier === 'shared-worker' ? openShared(page) : openBus(tier, page);
      } catch {
        // The next.
      }
    }
    if (!inner) throw new Error(noWorker);
  };

  const outer: PagePort = {
    get tier() {
      return tier ?? 'direct';
    },
    onmessage: null,
    postMessage(message) {
      if (message[0] === PageKind.Attach) {
        const [kind, tab, config, claim, ...counts] = message;
        const hasLocks = locks && (tier === 'leader' || tier === 'storage');
        // The hub of one tab must not take over what others share.
        const own = tier !== 'direct' || isOwn ? claim : '';
        message = [kind, tab, { ...config, locks: hasLocks }, own, ...counts];
      }
      inner?.postMessage(message);
    },
    close() {
      tier = undefined;
      inner?.close();
    },
  };
  next();
  return outer;
}

const notStarted = (script: string): string =>
  `tabmux: the worker ${script} did not start. Serve it from the page's own origin, allow it in ` +
  'worker-src, or pass the option worker.';

/** A SharedWorker whose tabs and hub ask each other whether they live. */
function openShared({ name, script, hear, fail, lost }: Page): TierPort {
  const worker = new SharedWorker(script, { name, extendedLifetime: true } as WorkerOptions);
  const { port } = worker;
  const pong = (): void => port.postMessage([PageKind.Pong]);
  const watch = watchHub(2 * pulseEvery(), pong, lost);
  const timer = setTimeout(() => fail(), PATIENCE_MS);
  let isAttached = false;
  worker.onerror = () => isAttached || fail();
  port.onmessage = ({ data }: MessageEvent<HubMessage>) => {
    clearTimeout(timer);
    if (!isAttached) watch.start();
    isAttached = true;
    watch.heard();
    if (data[0] === HubKind.Ping) pong();
    else hear(data);
  };
  return {
    postMessage: (message) => port.postMessage(message),
    close() {
      watch.stop();
      clearTimeout(timer);
      port.close();
    },
  };
}

function openBus(tier: Tier, { name, script, tab, locks, hear, fail }: Page): TierPort {
  const isAlone = tier === 'direct';
  const bus = busName(name, new URL(script, document.baseURI).href);
  const hasChannel = !isAlone && !!globalThis.BroadcastChannel;
  if (tier === 'leader' && !(locks && hasChannel)) throw new Error('no locks');
  // Throws where there is none, and where it is refused.
  if (tier === 'storage') localStorage.getItem(bus);
  // The other tiers that are left would start the same worker.
  const noStart = notStarted(script);
  let wire: Wire | undefined;
  let leadership: Leadership | undefined;
  let worker: Worker | undefined;
  /** Whether the worker of this page has said anything yet. */
  let runs = false;
  let starting: ReturnType<typeof setTimeout> | undefined;
  let isClosed = false;

  const port = {
    postMessage(message: PageMessage) {
      // Posted by the page's return, before we hear of it.
      take();
      const frame: TabFrame = [tab, message];
      if (worker) worker.postMessage(frame);
      else wire?.post(frame);
    },
    close() {
      isClosed = true;
      leave();
      removeEventListener('pagehide', park);
      removeEventListener('pageshow', take);
    },
  };

  /** Takes part: listens to the bus, and wants to lead if nobody does. */
  const take = (): void => {
    if (isClosed || watch.isOn()) return;
    watch.start();
    if (isAlone) return lead();
    try {
      wire = openWire(bus, hasChannel, hearFrame, refused);
    } catch {
      return refused();
    }
    wire.post([tab]);
    // A SharedWorker that this page could not have may serve the others, and this one as well.
    if (globalThis.SharedWorker) starting = setTimeout(contend, HELLO_MS);
    else contend();
  };

  const contend = (): void => {
    clearTimeout(starting);
    leadership ??= (tier === 'leader' ? contendByLock : contendByLease)(
      bus.replace(':', ':leader:'), lead, resign, refused,
    );
  };

  /** What this tier needs is there, and is refused to this page. Not at once: we may be opening. */
  const refused = (): void => queueMicrotask(() => isClosed || fail());

  const leave = (): void => {
    // First: Firefox may end the scripts of a tab that closes at any moment.
    leadership?.release();
    watch.stop();
    clearTimeout(starting);
    retire();
    wire?.close();
    leadership = wire = undefined;
  };

  // What the hub is told before comes before: it is posted to the same worker.
  const retire = (): void => {
    const ending = worker;
    ending?.postMessage('retire' satisfies WorkerOrder);
    // Where the worker of a cached page stands still, this is done when the page is back.
    if (ending) setTimeout(() => ending.terminate(), RETIRE_MS);
    worker = undefined;
  };

  const park = (): void => leave();

  /** Another tab leads. What it took us for dead for, a freeze, is over: end at once. */
  const resign = (): void => {
    worker?.terminate();
    worker = undefined;
    // Who leads now has said so while we stood still.
    hear(resync());
  };

  const lead = (): void => {
    clearTimeout(starting);
    runs = false;
    let mine: Worker;
    try {
      mine = worker = new Worker(script, { name });
    } catch {
      return queueMicrotask(() => fail(noStart));
    }
    const ticks = tier === 'storage';
    mine.postMessage([hasChannel ? bus : '', ticks] satisfies WorkerOrder);
    mine.onerror = () => worker === mine && !runs && fail(noStart);
    mine.onmessage = ({ data }: MessageEvent<HubFrame | null>) => {
      if (worker !== mine) return;
      if (data === null) {
        leadership?.renew();
      } else {
        hearFrame(data);
        wire?.post(data);
      }
    };
    starting = setTimeout(() => worker === mine && !runs && fail(noStart), PATIENCE_MS);
  };

  const hearFrame = (frame: unknown): void => {
    if (!Array.isArray(frame) || frame.length > 2) return ignore();
    const [to, message] = frame as unknown[];
    if (typeof to === 'bigint') {
      // Said by another tab, to the hub, which hears it by itself where it has a channel.
      if (worker && !hasChannel) worker.postMessage(frame);
      return;
    }
    const isBeat = message === undefined || message === STAYS;
    if (!Array.isArray(to) || !isBeat && !isHubMessage(message)) return ignore();
    if (to.length && !to.includes(tab)) return;
    runs ||= !!worker;
    watch.heard();
    if (message === STAYS && !worker) clearTimeout(starting);
    if (isBeat) return;
    if (message[0] === HubKind.Ping) port.postMessage([PageKind.Pong]);
    else hear(message);
  };

  const watch = watchHub(
    SILENCE_MS,
    () => (worker ? worker.postMessage([tab]) : wire?.post([tab])),
    () => {
      if (worker) {
        // It runs no more, or never has.
        worker.terminate();
        if (runs) lead();
        else fail(noStart);
      } else if (leadership) {
        leadership.steal();
      } else {
        // The hub was of another tier, and is gone.
        contend();
      }
    },
  );

  addEventListener('pagehide', park);
  addEventListener('pageshow', take);
  take();
  return port;
}

/**
 * Notices that a hub is silent. Timers of hidden pages crawl, and stand still in frozen ones: what
 * counts is that nothing came between two looks after the hub was asked.
 */
function watchHub(silence: number, ask: () => void, dead: () => void): {
  isOn(): boolean;
  heard(): void;
  start(): void;
  stop(): void;
} {
  let timer: ReturnType<typeof setInterval> | undefined;
  let heardAt = 0;
  let isAsked = false;
  const watch = {
    isOn: () => timer !== undefined,
    heard() {
      heardAt = performance.now();
      isAsked = false;
    },
    start() {
      watch.heard();
      timer = setInterval(look, CHECK_MS);
    },
    stop() {
      clearInterval(timer);
      timer = undefined;
    },
  };
  const look = (): void => {
    if (performance.now() - heardAt < silence) return;
    if (isAsked) {
      watch.heard();
      dead();
    } else {
      isAsked = true;
      ask();
    }
  };
  return watch;
}
