// Which host a tab follows, of several that speak on its bus. A tab follows one at a time: it hears
// no other until its own has ended, or was silent for long and gave no answer when it was asked.

/** How long a host may be silent. */
export const SILENCE_MS = 5000;

/** How long a host that was silent may take to answer. */
export const ANSWER_MS = 1000;

/** What is to be done with what a host said. */
export const enum Order {
  /** Nothing: it is another host than that of this tab. */
  Ignore,
  /** Nothing yet, but to ask the host of this tab whether it is there. */
  Ask,
  /** It is the host of this tab: hear it. */
  Hear,
  /** Follow this host from now on. */
  Follow,
}

/** One tab's part in it. */
export interface Follower {
  /** The host that it follows; 0 for none. */
  _host: bigint;
  _heardAt: number;
  /** When the host was asked for the first time since it was heard; 0 if it was not. */
  _askedAt: number;
}

/** A tab that follows none. */
export const follower = (): Follower => ({ _host: 0n, _heardAt: 0, _askedAt: 0 });

/** A host said something. `isHeir`: it can only be there if every other one is gone. */
export function heard(it: Follower, host: bigint, isHeir: boolean, now: number): Order {
  if (host === it._host) {
    it._heardAt = now;
    it._askedAt = 0;
    return Order.Hear;
  }
  if (it._host && !isHeir && now - it._heardAt < SILENCE_MS) return Order.Ignore;
  // After a sleep of this tab its host has had no time to be heard.
  if (it._host && !isHeir && !it._askedAt) {
    it._askedAt = now;
    return Order.Ask;
  }
  if (it._host && !isHeir && now - it._askedAt < ANSWER_MS) return Order.Ignore;
  follow(it, host, now);
  return Order.Follow;
}

/** The tab follows this host, or none: 0. */
export function follow(it: Follower, host: bigint, now: number): void {
  it._host = host;
  it._heardAt = now;
  it._askedAt = 0;
}

/** Whether its host was heard within so many milliseconds. */
export const isHeard = (it: Follower, within: number, now: number): boolean =>
  !!it._host && now - it._heardAt < within;

/** A host that serves a bus, as another one hears it. */
export interface Rival {
  readonly _id: bigint;
  /** It depends on no tab that leads. */
  readonly _stays: boolean;
}

/**
 * Whether of two hosts that serve one bus `mine` goes on. With locks, one that depends on no tab
 * has the lock of the link; else it is the older one.
 */
export const wins = (mine: Rival, other: Rival, hasLocks: boolean): boolean =>
  hasLocks && mine._stays !== other._stays ? mine._stays : mine._id < other._id;
