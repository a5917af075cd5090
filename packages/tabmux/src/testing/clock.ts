// The virtual time of a test bed, which passes only when the test says so, and the queue of what is
// due.

/** A clock of virtual time, in milliseconds from 0. */
export interface Clock {
  readonly now: number;
  /**
   * Calls `act` soon, before any time passes. Calls happen in the order in which they were queued.
   */
  soon(act: () => void): void;
  /** Calls `act` after `wait` milliseconds of virtual time. */
  after(wait: number, act: () => void): void;
  /** Resolves once everything that is due by now has happened. */
  settled(): Promise<void>;
  advance(wait: number): Promise<void>;
}

/**
 * Number of microtasks to wait while nothing is due. Promises of the page library take a few of
 * them.
 */
const TURNS = 30;

export function makeClock(): Clock {
  const due: { at: number; act: () => void }[] = [];
  let now = 0;
  let pending = 0;
  const settled = async (): Promise<void> => {
    for (let quiet = 0; quiet < TURNS; quiet = pending > 0 ? 0 : quiet + 1) await undefined;
  };
  return {
    get now() {
      return now;
    },
    soon(act) {
      pending += 1;
      // A promise is used, not a timer, because a test may have replaced timers.
      void Promise.resolve().then(() => {
        pending -= 1;
        act();
      });
    },
    after(wait, act) {
      const at = now + wait;
      const next = due.findIndex((other) => other.at > at);
      due.splice(next < 0 ? due.length : next, 0, { at, act });
    },
    settled,
    async advance(wait) {
      const until = now + wait;
      await settled();
      for (let first; (first = due[0]) && first.at <= until;) {
        due.shift();
        now = first.at;
        first.act();
        await settled();
      }
      now = until;
    },
  };
}
