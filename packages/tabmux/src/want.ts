// Binds the machine of a lock that can be stolen, and that of the theft, to `navigator.locks`.

import { Lock, Order, granted, rejected } from './election/lock.js';
import type { Wanted } from './election/lock.js';
import { answered, plan, remaining, theft } from './election/theft.js';

/** A lock that is waited for or held. */
export interface WantedLock {
  readonly _wanted: Wanted;
  _release(): void;
  /** Its holder is silent: robs it. Calls `denied` where this is not the time. */
  _rob(denied?: () => void): void;
}

/** Asks for a lock, again when it was stolen, and tells what came of it. */
export function wantLock(
  locks: LockManager,
  name: string,
  canDoWithout: boolean,
  act: (order: Order) => void,
): WantedLock {
  const wanted: Wanted = { _lock: Lock.Waiting };
  const thief = theft();
  let abort: AbortController;

  const request = (options: LockOptions): void => {
    const { signal } = (abort = new AbortController());
    locks
      .request(name, options.steal ? options : { signal }, () => new Promise<void>((letGo) => {
        // A request that is granted can no longer be aborted: the lock is let go of by hand.
        signal.addEventListener('abort', () => letGo());
        if (signal.aborted) return letGo();
        act(granted(wanted));
      }))
      .catch(() => {
        if (signal.aborted) return;
        const order = rejected(wanted, canDoWithout);
        if (order === Order.AskAgain) request({});
        act(order);
      });
  };

  const isWanted = (): boolean => wanted._lock === Lock.Waiting;

  request({});
  return {
    _wanted: wanted,
    _release() {
      wanted._lock = Lock.Over;
      abort.abort();
    },
    _rob(denied) {
      if (!plan(thief)) return denied?.();
      locks.request(name + ':stolen', { ifAvailable: true }, (isFirst) => {
        if (!answered(thief, !!isFirst, isWanted(), performance.now())) {
          if (isWanted()) denied?.();
          return undefined;
        }
        abort.abort();
        request({ steal: true });
        return cooldown(thief);
      }).catch(() => answered(thief, false, false, 0));
    },
  };
}

/** Ends when the thieves' lock may be let go of. */
async function cooldown(thief: ReturnType<typeof theft>): Promise<void> {
  for (let wait; (wait = remaining(thief, performance.now())) > 0;) {
    await new Promise((wake) => setTimeout(wake, wait));
  }
}
