// A tab's part in a hub that is in a dedicated worker: of the tab that leads, which all tabs reach
// by one channel, the bus; or in tier `direct` of this tab, which shares it with no other.

import { STAYS, busName, openChannel, resync } from './bus.js';
import type { HubFrame, TabFrame, WorkerOrder } from './bus.js';
import { ignore } from './garbage.js';
import { PATIENCE_MS, notStarted } from './host.js';
import type { Host, Tier, TierPort } from './host.js';
import { contendByLease, contendByLock } from './leader.js';
import type { Leadership } from './leader.js';
import { HubKind, PageKind } from './protocol.js';
import type { PageMessage } from './protocol.js';
import { isHubMessage } from './shape.js';
import { watchHub } from './watch.js';
import type { Watch } from './watch.js';
import { openWire } from './wire.js';
import type { Wire } from './wire.js';

/** After such a silence the hub is asked; still silent at the next look, it is given up. */
const SILENCE_MS = 5000;

/** How long a hub that may already be there has time to say so. */
const HELLO_MS = 200;

/** How long a worker that was asked to end may take for it. */
const RETIRE_MS = 1500;

/** One tab at the bus. */
interface Member {
  readonly _tier: Tier;
  readonly _host: Host;
  readonly _bus: string;
  readonly _hasChannel: boolean;
  readonly _watch: Watch;
  _wire?: Wire | undefined;
  _leadership?: Leadership | undefined;
  /** The worker of this tab, if it leads, and whether that has said anything yet. */
  _worker?: Worker | undefined;
  _runs: boolean;
  _starting?: ReturnType<typeof setTimeout>;
  _isClosed: boolean;
}

/** Takes part. Throws where this tier is none of this browser's. */
export function openMember(tier: Tier, host: Host): TierPort {
  const bus = busName(host._name, new URL(host._script, document.baseURI).href);
  // Where storage is refused, a channel may be there and throw.
  const probe = tier === 'direct' ? undefined : openChannel(bus);
  probe?.close();
  const hasChannel = !!probe;
  if (tier === 'leader' && !(host._locks && hasChannel)) throw new Error('no locks');
  // Throws where there is none, and where it is refused.
  if (tier === 'storage') localStorage.getItem(bus);
  const member: Member = {
    _tier: tier,
    _host: host,
    _bus: bus,
    _hasChannel: hasChannel,
    _watch: watchHub(SILENCE_MS, () => send(member, [host._tab]), () => silent(member)),
    _runs: false,
    _isClosed: false,
  };
  const park = (): void => leave(member);
  const back = (): void => take(member);
  addEventListener('pagehide', park);
  addEventListener('pageshow', back);
  take(member);
  return {
    _post: (message) => post(member, message),
    _close() {
      member._isClosed = true;
      leave(member);
      removeEventListener('pagehide', park);
      removeEventListener('pageshow', back);
    },
  };
}

/** Listens to the bus, and wants to lead if nobody does. */
function take(member: Member): void {
  if (member._isClosed || member._watch._isOn()) return;
  member._watch._start();
  if (member._tier === 'direct') return lead(member);
  try {
    member._wire = openWire(member._bus, member._hasChannel, (frame) => hear(member, frame), () =>
      refused(member));
  } catch {
    return refused(member);
  }
  member._wire._post([member._host._tab]);
  // A SharedWorker that this page could not have may serve the others, and this one as well.
  if (globalThis.SharedWorker) member._starting = setTimeout(() => contend(member), HELLO_MS);
  else contend(member);
}

function contend(member: Member): void {
  clearTimeout(member._starting);
  member._leadership ??= (member._tier === 'leader' ? contendByLock : contendByLease)(
    member._bus.replace(':', ':leader:'),
    () => lead(member),
    () => resign(member),
    () => refused(member),
  );
}

/** What this tier needs is there, and is refused to this page. Not at once: we may be opening. */
function refused(member: Member): void {
  queueMicrotask(() => member._isClosed || member._host._fail());
}

function leave(member: Member): void {
  // First: Firefox may end the scripts of a tab that closes at any moment.
  member._leadership?._release();
  member._watch._stop();
  clearTimeout(member._starting);
  retire(member);
  member._wire?._close();
  member._leadership = member._wire = undefined;
}

/** What the hub is told before comes before: it is posted to the same worker. */
function retire(member: Member): void {
  const ending = member._worker;
  ending?.postMessage('retire' satisfies WorkerOrder);
  // Where the worker of a cached page stands still, this is done when the page is back.
  if (ending) setTimeout(() => ending.terminate(), RETIRE_MS);
  member._worker = undefined;
}

/** Another tab leads. What it took us for dead for, a freeze, is over: end at once. */
function resign(member: Member): void {
  member._worker?.terminate();
  member._worker = undefined;
  // Who leads now has said so while we stood still.
  member._host._hear(resync());
}

/** Starts the worker of this tab. */
function lead(member: Member): void {
  const { _host: { _name: name, _address }, _hasChannel } = member;
  clearTimeout(member._starting);
  // The silence of the hub before is no fault of this worker.
  member._watch._heard();
  member._runs = false;
  let mine: Worker;
  try {
    mine = member._worker = new Worker(_address, { name });
  } catch {
    // The page's policy forbids it, or its sandbox.
    return queueMicrotask(() => fail(member, true));
  }
  const ticks = member._tier === 'storage';
  mine.postMessage([_hasChannel ? member._bus : '', ticks] satisfies WorkerOrder);
  const failed = (): unknown => member._worker === mine && !member._runs && fail(member);
  mine.onerror = failed;
  mine.onmessage = ({ data }: MessageEvent<HubFrame | null>) => {
    if (member._worker !== mine) return;
    if (data === null) {
      member._leadership?._renew?.();
    } else {
      hear(member, data);
      member._wire?._post(data);
    }
  };
  member._starting = setTimeout(failed, PATIENCE_MS);
}

/** The other tiers that are left would start the same worker. */
const fail = ({ _host }: Member, isFinal?: boolean): void =>
  _host._fail(notStarted(_host._script), isFinal);

/** To the worker of this tab, or to the hub by the bus. */
function send(member: Member, frame: TabFrame): void {
  if (member._worker) member._worker.postMessage(frame);
  else member._wire?._post(frame);
}

function post(member: Member, message: PageMessage): void {
  // Posted by the page's return, before we hear of it.
  take(member);
  send(member, [member._host._tab, message]);
}

/** Hears what is said on the bus, by other tabs, by a hub, or by any script of the origin. */
function hear(member: Member, frame: unknown): void {
  if (!Array.isArray(frame) || frame.length > 2) return ignore();
  const [to, message] = frame as unknown[];
  if (typeof to === 'bigint') {
    // Said by another tab, to the hub, which hears it by itself where it has a channel.
    if (!member._hasChannel) member._worker?.postMessage(frame);
    return;
  }
  const isBeat = message === undefined || message === STAYS;
  if (!Array.isArray(to) || !isBeat && !isHubMessage(message)) return ignore();
  if (to.length && !to.includes(member._host._tab)) return;
  // It is said by another hub than that of this tab, which may be silent.
  if (message === STAYS && member._worker) return;
  member._runs ||= !!member._worker;
  member._watch._heard();
  if (message === STAYS) clearTimeout(member._starting);
  if (isBeat) return;
  if (message[0] === HubKind.Ping) post(member, [PageKind.Pong]);
  else member._host._hear(message);
}

/** The hub is silent. */
function silent(member: Member): void {
  if (member._worker) {
    // It runs no more, or never has.
    member._worker.terminate();
    if (member._runs) lead(member);
    else fail(member);
  } else if (member._leadership) {
    member._leadership._rob?.();
  } else {
    // The hub was of another tier, and is gone.
    contend(member);
  }
}
