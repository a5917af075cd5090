// A lease tells which tab leads where there are no locks. It is the name of its holder and the
// time, written each second to where all tabs can read it. Who takes it reads it again after a
// while: of several that took it at once, the last to write has it.

/** What a tab has of the lease. */
export const enum Claim {
  /** Another tab has it, as far as this one knows. */
  None,
  /** It is written, and not yet read again. */
  Taken,
  /** This tab leads. */
  Held,
}

/** What is to be done; several may be. */
export const enum Order {
  None,
  /** Write `entry` of this time. */
  Write = 1,
  /** Remove the entry. */
  Remove = 2,
  /** This tab leads no more. */
  Resign = 4,
  /** This tab leads. */
  Lead = 8,
}

/** One tab's part in it. */
export interface Lease {
  readonly _me: string;
  _claim: Claim;
  _writtenAt: number;
  /** When to look again, unless something is heard before. Never while it is held. */
  _lookAt: number;
}

/** How old a lease may be. */
const LEASE_MS = 5000;

/** How often a tab that does not lead looks at the lease. */
const LOOK_MS = 1000;

/** After taking a lease that was given up, and before it is held. */
const SETTLE_MS = 250;

/** The same for one that ran out: longer than its holder, if it is there, needs to see it. */
const SETTLE_RUN_OUT_MS = 1500;

/** A tab that has not looked yet. */
export const lease = (_me: string): Lease =>
  ({ _me, _claim: Claim.None, _writtenAt: -Infinity, _lookAt: 0 });

/** What is written of a lease. */
export const entryOf = ({ _me }: Lease, now: number): string => `${_me}:${now}`;

/**
 * Reads the entry when it is time to, or when it is gone. `isHeard`: a host speaks on the bus, so a
 * lease that ran out, or that is gone, means only that its tab is blocked, or that the storage was
 * cleared.
 */
export function look(it: Lease, entry: string, now: number, isHeard = false): Order {
  const [holder, age] = read(entry, now);
  if (it._claim === Claim.Taken && holder === it._me) {
    it._claim = Claim.Held;
    it._lookAt = Infinity;
    return write(it, now) | Order.Lead;
  }
  it._claim = Claim.None;
  it._lookAt = now + LOOK_MS;
  if (isHeard || age <= LEASE_MS) return Order.None;
  it._claim = Claim.Taken;
  it._lookAt = now + (holder ? SETTLE_RUN_OUT_MS : SETTLE_MS);
  return write(it, now);
}

/** Another tab has changed the entry. */
export function changed(it: Lease, entry: string, now: number, isHeard = false): Order {
  const [holder] = read(entry, now);
  if (it._claim === Claim.Held) return renew(it, entry, now, isHeard, false);
  return it._claim === Claim.None && !holder ? look(it, entry, now, isHeard) : Order.None;
}

/**
 * This tab still leads, and says so. An entry that is gone was cleared, and is written again.
 * `isDue`: not only then.
 */
export function renew(
  it: Lease,
  entry: string,
  now: number,
  isHeard = false,
  isDue = true,
): Order {
  if (it._claim !== Claim.Held) return Order.None;
  const [holder] = read(entry, now);
  if (holder && holder !== it._me) return lose(it, entry, now, isHeard);
  return isDue || !holder ? write(it, now) : Order.None;
}

/**
 * This tab may be on its way out, where what is done first with storage may be the last: there,
 * Firefox ends the scripts of a tab that closes. Where the entry was written a short while ago
 * nobody else can have it, and it need not be read.
 */
export function release(it: Lease, entry: () => string, now: number): Order {
  const isFresh = it._claim === Claim.Held && now - it._writtenAt < LEASE_MS;
  const isMine = isFresh || it._claim !== Claim.None && read(entry(), now)[0] === it._me;
  it._claim = Claim.None;
  it._lookAt = Infinity;
  return isMine ? Order.Remove : Order.None;
}

function write(it: Lease, now: number): Order {
  it._writtenAt = now;
  return Order.Write;
}

function lose(it: Lease, entry: string, now: number, isHeard: boolean): Order {
  it._claim = Claim.None;
  return Order.Resign | look(it, entry, now, isHeard);
}

/** What has no meaning, and what is from the future after a clock was set back, is nobody's. */
function read(entry: string, now: number): [holder: string, age: number] {
  const [holder = '', time] = entry.split(':');
  const age = now - Number(time);
  return age > -LEASE_MS ? [holder, age] : ['', Infinity];
}
