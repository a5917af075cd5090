// A lock whose holder may be robbed of it.

/** What one of those who want the lock has of it. */
export const enum Lock {
  Waiting,
  Held,
  /** It is wanted no more, or may not be had. */
  Over,
}

/** What is to be done. */
export const enum Order {
  None,
  /** It is held from now on. */
  Take,
  /** It was held, and is asked for again. */
  AskAgain,
  /** This page may have no lock at all. */
  GiveUp,
}

/** One who wants the lock. */
export interface Wanted {
  _lock: Lock;
}

/** The request was granted. Else than by `Take`, let go of the lock. */
export function granted(it: Wanted): Order {
  if (it._lock !== Lock.Waiting) return Order.None;
  it._lock = Lock.Held;
  return Order.Take;
}

/** The request was rejected: the lock was stolen, or is refused. Some can do without. */
export function rejected(it: Wanted, canDoWithout: boolean): Order {
  if (it._lock === Lock.Held) {
    it._lock = Lock.Waiting;
    return Order.AskAgain;
  }
  if (it._lock === Lock.Over) return Order.None;
  it._lock = canDoWithout ? Lock.Held : Lock.Over;
  return canDoWithout ? Order.Take : Order.GiveUp;
}
