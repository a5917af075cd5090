// A tab's part in a hub that is in a dedicated worker: of the tab that leads, which all tabs reach
// by one channel, the bus; or in tier `direct` of this tab, which shares it with no other.

import { GONE, HERE, STAYS, busName, hostId, openChannel, resync } from './bus.js';
import type { HubFrame, TabFrame, WorkerOrder } from './bus.js';
import {
  Order, SILENCE_MS, follow, follower, heard, isHeard, wins,
} from './election/follow.js';
import type { Follower } from './election/follow.js';
import { ignore } from './garbage.js';
import { Deadline, baseOf, notStarted } from './host.js';
import type { Host, Tier, TierPort } from './host.js';
import { contendByLease, contendByLock } from './leader.js';
import type { Leadership } from './leader.js';
import { HubKind, PageKind } from './protocol.js';
import type { HubMessage, PageMessage } from './protocol.js';
import { isHubMessage } from './shape.js';
import { watchHub } from './watch.js';
import type { Watch } from './watch.js';
import { openWire } from './wire.js';
import type { Wire } from './wire.js';

/** One tab at the bus. */
interface Member {
  readonly _tier: Tier;
  readonly _host: Host;
  readonly _bus: string;
  readonly _hasChannel: boolean;
  readonly _watch: Watch;
  /** The host that this tab follows: that of its own worker, if it leads. */
  readonly _follower: Follower;
  _wire?: Wire | undefined;
  _leadership?: Leadership | undefined;
  /** This tab may lead, and will once the host that it follows is gone. */
  _mayLead: boolean;
  /** The worker of this tab, if it leads, and whether that has said anything yet. */
  _worker?: Worker | undefined;
  _runs: boolean;
  _starting?: ReturnType<typeof setTimeout>;
  /** A host that has ended: what it still says is nothing. */
  _gone: bigint;
  /** When it began to listen. */
  _since: number;
  _isClosed: boolean;
}

/** Takes part. Throws where this tier is none of this browser's. */
export function openMember(tier: Tier, host: Host): TierPort {
  const bus = busName(host._name, new URL(host._script, baseOf()).href);
  // Where storage is refused, a channel may be there and throw.
  const probe = tier === 'direct' ? undefined : openChannel(bus);
  probe?.close();
  const hasChannel = !!probe;
  if (tier === 'leader' && !host._locks) throw new Error('there are no Web Locks');
  if (tier === 'leader' && !hasChannel) throw new Error('there is no BroadcastChannel');
  // Throws where there is none, and where it is refused.
  if (tier === 'storage') localStorage.getItem(bus);
  const member: Member = {
    _tier: tier,
    _host: host,
    _bus: bus,
    _hasChannel: hasChannel,
    _watch: watchHub(SILENCE_MS, () => question(member), () => silent(member)),
    _follower: follower(),
    _mayLead: false,
    _runs: false,
    _gone: 0n,
    _since: 0,
    _isClosed: false,
  };
  const park = (): void => leave(member);
  const back = (): void => take(member);
  addEventListener('pagehide', park);
  addEventListener('pageshow', back);
  take(member);
  return {
    _isApart: !hasChannel,
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
  question(member);
  member._since = performance.now();
  // A SharedWorker that this page could not have may serve the others, and this one as well: no
  // worker that is a tab can have one. And the lease of a host that is there may have been cleared.
  if (globalThis.SharedWorker || !globalThis.document || member._tier === 'storage') {
    member._starting = setTimeout(() => contend(member), Deadline.Hello);
  } else {
    contend(member);
  }
}

function contend(member: Member): void {
  clearTimeout(member._starting);
  const now = (): boolean => isHeard(member._follower, SILENCE_MS, performance.now());
  member._leadership ??= (member._tier === 'leader' ? contendByLock : contendByLease)(
    member._bus.replace(':', ':leader:'),
    () => elected(member),
    () => resign(member),
    () => refused(member),
    now,
  );
}

/**
 * This tab has the lock or the lease. It leads once no other host answers: a lock is granted
 * although its holder lives where site data was cleared.
 */
function elected(member: Member): void {
  if (member._tier === 'storage') return lead(member);
  member._mayLead = true;
  const { _follower } = member;
  const host = _follower._host;
  const since = performance.now();
  question(member);
  clearTimeout(member._starting);
  member._starting = setTimeout(() => {
    if (!member._mayLead || member._worker) return;
    const lives = _follower._host && (_follower._host !== host || _follower._heardAt >= since);
    if (lives) member._host._distrust();
    else lead(member);
  }, host ? Deadline.Hello : Math.max(0, member._since + Deadline.Hello - since));
}

/** What this tier needs is there, and is refused to this page. Not at once: we may be opening. */
function refused(member: Member): void {
  queueMicrotask(() => member._isClosed ||
    member._host._skip('locks, channels or storage are refused to this page'));
}

function leave(member: Member): void {
  // First: Firefox may end the scripts of a tab that closes at any moment.
  member._leadership?._release();
  member._watch._stop();
  clearTimeout(member._starting);
  retire(member);
  member._wire?._close();
  member._leadership = member._wire = undefined;
  member._mayLead = false;
  follow(member._follower, 0n, 0);
}

/** What the hub is told before comes before: it is posted to the same worker. */
function retire(member: Member): void {
  const ending = member._worker;
  if (!ending) return;
  gone(member);
  ending.postMessage('retire' satisfies WorkerOrder);
  // Where the worker of a cached page stands still, this is done when the page is back.
  setTimeout(() => ending.terminate(), Deadline.Retire);
  member._worker = undefined;
}

/** The host of this tab's worker ends: others may follow another one at once. */
function gone(member: Member): void {
  const { _wire, _follower: { _host } } = member;
  member._gone = _host;
  if (_host) _wire?._post([[], GONE, _host]);
}

/** Another tab leads. What it took us for dead for, a freeze, is over: end at once. */
function resign(member: Member): void {
  member._mayLead = false;
  clearTimeout(member._starting);
  stopLeading(member);
}

/** Ends the worker of this tab, and looks for another host. */
function stopLeading(member: Member): void {
  if (!member._worker) return;
  gone(member);
  member._worker.terminate();
  member._worker = undefined;
  follow(member._follower, 0n, 0);
  member._watch._heard();
  if (member._tier === 'storage') {
    // A lock is kept for when the other host ends. A lease runs out.
    member._leadership?._release();
    member._leadership = undefined;
    member._starting = setTimeout(() => contend(member), Deadline.Hello);
  }
  question(member);
}

/** Starts the worker of this tab. */
function lead(member: Member): void {
  const { _host: { _name: name, _address }, _hasChannel } = member;
  clearTimeout(member._starting);
  // The silence of the hub before is no fault of this worker.
  member._watch._heard();
  member._runs = false;
  const host = hostId();
  follow(member._follower, host, performance.now());
  let mine: Worker;
  try {
    mine = member._worker = new Worker(_address, { name });
  } catch {
    // The page's policy forbids it, or its sandbox.
    return queueMicrotask(() => fail(member, true));
  }
  const ticks = member._tier === 'storage';
  mine.postMessage([_hasChannel ? member._bus : '', ticks, host] satisfies WorkerOrder);
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
  member._starting = setTimeout(failed, Deadline.Load);
}

/** The other tiers that are left would start the same worker. */
const fail = ({ _host }: Member, isFinal?: boolean): void =>
  _host._fail(notStarted(_host._script), isFinal);

/** Asks who is there; in the worker of this tab, if there is one. */
function question({ _worker, _wire, _host: { _tab } }: Member): void {
  if (_worker) _worker.postMessage([_tab]);
  else _wire?._post([_tab]);
}

function post(member: Member, message: PageMessage): void {
  // Posted by the page's return, before we hear of it.
  take(member);
  const { _worker, _wire, _host: { _tab }, _follower: { _host } } = member;
  if (_worker) _worker.postMessage([_tab, message] satisfies TabFrame);
  // Without a host it is lost: the page says all again when there is one.
  else if (_host) _wire?._post([_tab, message, _host]);
}

/** Hears what is said on the bus, by other tabs, by a hub, or by any script of the origin. */
function hear(member: Member, frame: unknown): void {
  if (!Array.isArray(frame) || frame.length > 3) return ignore();
  const [to, message, from] = frame as unknown[];
  if (typeof to === 'bigint') {
    // Said by another tab, to the hub, which hears it by itself where it has a channel.
    if (!member._hasChannel) member._worker?.postMessage(frame);
    return;
  }
  const isBeat = message === HERE || message === STAYS || message === GONE;
  if (!Array.isArray(to) || typeof from !== 'bigint' || !isBeat && !isHubMessage(message)) {
    return ignore();
  }
  if (from === member._gone) return;
  if (message === GONE) member._gone = from;
  if (member._worker && member._follower._host !== from) return meet(member, from, message);
  if (message === GONE) return left(member, from);
  const announces = !isBeat && !to.length && message[0] === HubKind.Resync;
  // Who leads by the lock can only do so if nobody else does.
  const isHeir = announces && member._tier === 'leader';
  const order = heard(member._follower, from, isHeir, performance.now());
  if (order === Order.Ask) question(member);
  if (order !== Order.Hear && order !== Order.Follow) return;
  member._watch._heard();
  member._runs ||= !!member._worker;
  if (message === STAYS || member._runs) clearTimeout(member._starting);
  // A host that is new to this tab knows nothing of it.
  if (order === Order.Follow) member._host._hear(resync());
  else if (!isBeat && (!to.length || to.includes(member._host._tab))) told(member, message);
}

function told(member: Member, message: HubMessage): void {
  if (message[0] === HubKind.Ping) post(member, [PageKind.Pong]);
  else if (message[0] === HubKind.Moved) moved(member, message);
  else member._host._hear(message);
}

/** Another host has the link. It may be on this bus; else another tier may reach it. */
function moved(member: Member, message: HubMessage): void {
  if (member._worker) stopLeading(member);
  follow(member._follower, 0n, 0);
  question(member);
  setTimeout(() => {
    if (!member._follower._host && !member._worker) member._host._hear(message);
  }, Deadline.Hello);
}

/** This tab leads, and another host is on the bus. */
function meet(member: Member, other: bigint, said: unknown): void {
  const { _host } = member._follower;
  // Of one that stood still all but its beat may still come.
  if (said !== HERE && said !== STAYS) return;
  const mine = { _id: _host, _stays: false };
  if (wins(mine, { _id: other, _stays: said === STAYS }, !!navigator.locks)) return;
  stopLeading(member);
}

/** A host has ended. */
function left(member: Member, host: bigint): void {
  if (member._follower._host !== host) return;
  follow(member._follower, 0n, 0);
  member._watch._heard();
  if (member._mayLead) lead(member);
  else if (member._leadership) member._leadership._look?.();
  else contend(member);
  question(member);
}

/** The hub is silent. */
function silent(member: Member): void {
  if (member._worker) {
    // It runs no more, or never has.
    member._worker.terminate();
    if (member._runs) lead(member);
    else fail(member);
    return;
  }
  follow(member._follower, 0n, 0);
  if (member._mayLead) {
    lead(member);
  } else if (member._leadership) {
    member._leadership._rob?.();
    member._leadership._look?.();
  } else {
    // The hub was of another tier, and is gone.
    contend(member);
  }
}
