// The time of a test bed, which passes only when the test says so, and what is on its way.

/** Virtual time, in milliseconds from 0. */
export interface Clock {
  readonly now: number;
  /** Does something soon, before any time passes, in the order of the calls. */
  soon(act: () => void): void;
  /** Does something after so much time. */
  after(wait: number, act: () => void): void;
  /** Resolves once all that was to happen by now has happened. */
  settled(): Promise<void>;
  advance(wait: number): Promise<void>;
}

/** Promises that the page library waits for take a few turns, each of them one of these. */
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
      // Promises, and no timers: a test may have replaced those.
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
