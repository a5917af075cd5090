// The ways to host a hub besides a SharedWorker that locks watch over. A chunk of its own, loaded
// where it is needed: it goes from tier to tier, and gives life.ts what looks like a port.

import { HubKind, PageKind, pulseEvery } from './protocol.js';
import type { HubMessage, PageMessage } from './protocol.js';
import { resync } from './bus.js';
import { Deadline, notStarted } from './host.js';
import type { Host, Page, PagePort, Tier, TierPort } from './host.js';
import { openMember } from './member.js';
import { addressOf } from './trust.js';
import { watchHub } from './watch.js';

export { withCause } from './causes.js';
export { askKey } from './keys.js';
export { sendReset } from './resets.js';
export { warnOf } from './stateful.js';

/** The tiers that are left, and the one that is tried or works. */
interface Ladder extends PagePort {
  readonly _page: Page;
  /** The address of the worker as the browser takes it. */
  readonly _address: string;
  readonly _left: Tier[];
  _tier: Tier;
  _rung?: TierPort | undefined;
  /** Grows with each tier, and at the end: an earlier one is not heard any more. */
  _turn: number;
  /** Whether locks tell the hub that this page lives. */
  _locks: boolean;
  /** No tier is left, or none can help. */
  _fail(reason: string, isFinal?: boolean): void;
}

/** The hubs of this page whose session none but tabs of this tier can have. */
const owners = new Map<string, Tier>();

const SHARED = 'shared-worker';
const TIERS: Tier[] = [SHARED, 'leader', 'storage', 'direct'];

/**
 * Opens a port of the first of these tiers that works, and goes on to the next where one fails.
 * `isTried`: a SharedWorker was tried. It is tried again where the page requires Trusted Types,
 * which client.js knows nothing of. Throws, or calls `fail`, where none is left. Throws also for
 * what is no list of tiers, and where client.js is of another `build`, which a cache may cause.
 */
export function openTiers(
  build: string,
  tiers = TIERS,
  isTried: boolean,
  page: Page,
  fail: (reason: string, isFinal?: boolean) => void,
): PagePort {
  if (build !== __BUILD__) {
    throw new Error('tabmux: tiers.js is of another build; load the page again');
  }
  if (!tiers.length || [...tiers].some((tier) => !TIERS.includes(tier))) {
    throw new Error(`tabmux: the option tiers has [${tiers}], not some of ${TIERS}`);
  }
  const address = addressOf(page._script);
  const ladder: Ladder = {
    _page: page,
    _address: address,
    _left: tiers.filter((tier) => !isTried || tier !== SHARED || address !== page._script),
    _tier: 'direct',
    _turn: 0,
    _locks: page._locks,
    _fail: fail,
    onmessage: null,
    postMessage: (message) => post(ladder, message),
    close() {
      ladder._turn += 1;
      ladder._tier = 'direct';
      ladder._rung?._close();
    },
  };
  climb(ladder);
  return ladder;
}

/** Goes to the next tier that can be opened. */
function climb(ladder: Ladder): void {
  ladder._rung?._close();
  ladder._rung = undefined;
  for (let tier; !ladder._rung && (tier = ladder._left.shift());) {
    ladder._tier = tier;
    const host = hostOf(ladder, ladder._turn += 1);
    try {
      ladder._rung = tier === SHARED ? openShared(host) : openMember(tier, host);
    } catch (error) {
      ladder._page._tried[tier] = (error as Error).message;
    }
  }
  if (!ladder._rung) throw new Error(notStarted(ladder._page._script));
}

/** What the tier of this turn tells. */
function hostOf(ladder: Ladder, turn: number): Host {
  const skip = (why: string): void => {
    if (turn !== ladder._turn) return;
    ladder._page._tried[ladder._tier] = why;
    try {
      climb(ladder);
      tell(ladder, resync());
    } catch (error) {
      ladder._fail((error as Error).message, true);
    }
  };
  return {
    ...ladder._page,
    _address: ladder._address,
    _hear(message) {
      if (turn !== ladder._turn) return;
      if (message[0] === HubKind.Renew) {
        const { _page: { _name }, _tier } = ladder;
        if (ladder._rung?._isApart) owners.set(_name, _tier);
        else owners.delete(_name);
      }
      // Another hub has the link; its own tier may be the last that is allowed.
      if (message[0] !== HubKind.Moved) tell(ladder, message);
      else if (ladder._left.length) skip('another hub has the link');
    },
    _distrust() {
      if (turn !== ladder._turn || !ladder._locks) return;
      ladder._locks = false;
      tell(ladder, resync());
    },
    _skip: skip,
    _fail(reason, isFinal) {
      if (turn === ladder._turn) ladder._fail(reason, isFinal);
    },
  };
}

const tell = (ladder: Ladder, data: HubMessage): unknown =>
  ladder.onmessage?.({ data } as MessageEvent);

function post(ladder: Ladder, message: PageMessage): void {
  if (message[0] === PageKind.Attach) {
    const [kind, tab, config, claim, ...counts] = message;
    const tier = ladder._tier;
    const locks = ladder._locks && (tier === 'leader' || tier === 'storage');
    // What hubs that do not reach each other share, each would take from the other for ever.
    const own = !ladder._rung?._isApart || owners.get(ladder._page._name) === tier;
    const shown = own ? claim : claim.replace(/^[^,]*/, '');
    message = [kind, tab, { ...config, locks }, shown, ...counts];
  }
  ladder._rung?._post(message);
}

/** A SharedWorker whose tabs and hub ask each other whether they live. */
function openShared({ _name: name, _address, _hear, _skip, _lost, _listen }: Host): TierPort {
  const worker = new SharedWorker(_address, { name, extendedLifetime: true } as WorkerOptions);
  const { port } = worker;
  const pong = (): void => port.postMessage([PageKind.Pong]);
  // It asks each page so often, and answers a page that has not heard that.
  const watch = watchHub(1.25 * pulseEvery(), pong, _lost);
  const timer = setTimeout(() => _skip('it did not come'), Deadline.Load);
  let isAttached = false;
  worker.onerror = () => isAttached || _skip('it did not start');
  _listen(port, (message) => {
    clearTimeout(timer);
    if (!isAttached) watch._start();
    isAttached = true;
    watch._heard();
    if (message[0] === HubKind.Ping) pong();
    else _hear(message);
  });
  return {
    _post: (message) => port.postMessage(message),
    _close() {
      watch._stop();
      clearTimeout(timer);
      port.close();
    },
  };
}
