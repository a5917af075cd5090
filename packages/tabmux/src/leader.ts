// Which tab leads: by a Web Lock, or, where there are none, by a lease in localStorage.

import { Claim, Order as LeaseOrder, entryOf, lease, look, changed, release, renew } from
  './election/lease.js';
import type { Lease } from './election/lease.js';
import { Order } from './election/lock.js';
import { hex } from './protocol.js';
import { wantLock } from './want.js';

/** A tab's part in the question who leads. */
export interface Leadership {
  /** Another tab may lead. */
  _release(): void;
  /** The leader is silent: robs it. A lease runs out by itself. */
  _rob?(): void;
  /** This tab still leads. Called each second while its worker runs; a lock needs no such word. */
  _renew?(): void;
  /** The host of the bus has ended. */
  _look?(): void;
}

/**
 * Waits for the lock `name`, and leads while it is held. A lock that was stolen is waited for
 * again. Calls `refused` where this page may have no lock.
 */
export function contendByLock(
  name: string,
  lead: () => void,
  resign: () => void,
  refused: () => void,
): Leadership {
  return wantLock(navigator.locks, name, false, (order) => {
    if (order === Order.Take) lead();
    else if (order === Order.AskAgain) resign();
    else if (order === Order.GiveUp) refused();
  });
}

/**
 * Contends for the lease `name`. Calls `refused` where localStorage is refused or full. `isHeard`
 * tells whether a host speaks on the bus.
 */
export function contendByLease(
  name: string,
  lead: () => void,
  resign: () => void,
  refused: () => void,
  isHeard: () => boolean,
): Leadership {
  const it = lease(hex(crypto.getRandomValues(new BigUint64Array(1))[0]));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const read = (): string => localStorage.getItem(name) ?? '';

  type Step = (it: Lease, entry: string, now: number, isHeard: boolean) => LeaseOrder;

  const act = (step: Step): void => {
    const now = Date.now();
    let order;
    clearTimeout(timer);
    try {
      order = step(it, read(), now, isHeard());
      if (order & LeaseOrder.Write) localStorage.setItem(name, entryOf(it, now));
    } catch {
      return refused();
    }
    if (it._lookAt < Infinity) timer = setTimeout(() => act(look), it._lookAt - now);
    if (order & LeaseOrder.Resign) resign();
    if (order & LeaseOrder.Lead) lead();
  };

  const onStorage = ({ key }: StorageEvent): void => {
    if (key === name || key === null) act(changed);
  };

  addEventListener('storage', onStorage);
  act(look);
  return {
    _release() {
      clearTimeout(timer);
      removeEventListener('storage', onStorage);
      try {
        if (release(it, read, Date.now())) localStorage.removeItem(name);
      } catch {
        // It runs out by itself.
      }
    },
    _renew: () => act(renew),
    _look: () => it._claim === Claim.None && act(look),
  };
}
