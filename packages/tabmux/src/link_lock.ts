// The lock without which a hub does not dial, and what is done when its holder does not let go.

import { openChannel } from './bus.js';
import { ignore } from './garbage.js';

/** How long the holder may take to say that it is there. */
const ANSWER_MS = 5000;

/** For so long nobody steals the lock again. */
const COOLDOWN_MS = 30_000;

/** What hubs that want the lock ask on the channel of its name; the holder answers its build. */
const ASK = 'who?';

/** What the hub hears of its lock. */
export interface LinkLockEvents {
  /** The link may be opened; `again`: as before it was stolen. */
  granted(again: boolean): void;
  /** Another hub took it, since this one did not answer. */
  stolen(): void;
  /** Another hub of this build has it, and is there. */
  moved(): void;
}

/** The lock, held or waited for. */
export interface LinkLock {
  /** Whether it was held, and is not any more. */
  readonly isStolen: boolean;
  release(): void;
}

/** Asks for the lock. Without locks it is granted: then the server alone sees to one link. */
export function takeLinkLock(
  locks: LockManager | undefined,
  name: string,
  events: LinkLockEvents,
): LinkLock {
  const lock = { isStolen: false, release: (): void => undefined };
  if (!locks) {
    queueMicrotask(() => events.granted(false));
    return lock;
  }
  // Another build is not to be waited for: it lives as long as its last tab.
  const build = self.location.href;
  const channel = openChannel(name);
  let state: 'waiting' | 'held' | 'released' = 'waiting';
  let wasGranted = false;
  let answers = 0;
  let abort = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;

  const grant = (): void => {
    const again = wasGranted;
    clearTimeout(timer);
    wasGranted = true;
    lock.isStolen = false;
    events.granted(again);
  };

  const request = (options: LockOptions): void => {
    const { signal } = (abort = new AbortController());
    state = 'waiting';
    locks
      .request(name, options.steal ? options : { signal }, () => new Promise<void>((letGo) => {
        // A request that is granted can no longer be aborted: the lock is let go of by hand.
        signal.addEventListener('abort', () => letGo());
        if (signal.aborted) return letGo();
        state = 'held';
        grant();
      }))
      .catch(() => {
        if (signal.aborted) return;
        if (state === 'held') {
          lock.isStolen = true;
          request({});
          ask();
          events.stolen();
        } else {
          // Refused, as some engines do where storage is: go on without.
          state = 'held';
          grant();
        }
      });
  };

  const ask = (): void => {
    if (!channel || state !== 'waiting') return;
    const asked = performance.now();
    channel.postMessage(ASK);
    clearTimeout(timer);
    timer = setTimeout(() => {
      // After a sleep nobody has had the time to answer.
      if (performance.now() - asked < 2 * ANSWER_MS) steal();
      else ask();
    }, ANSWER_MS);
  };

  /** One thief at a time, over all tabs and builds. */
  const steal = (): void => {
    locks.request(name + ':stolen', { ifAvailable: true }, (isFirst) => {
      if (state !== 'waiting') return undefined;
      if (!isFirst) {
        ask();
        return undefined;
      }
      abort.abort();
      request({ steal: true });
      return new Promise((letGo) => setTimeout(letGo, COOLDOWN_MS));
    }).catch(() => undefined);
  };

  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (typeof data !== 'string') return ignore();
      if (state === 'held') {
        if (data === ASK) channel.postMessage(build);
      } else if (data !== ASK) {
        clearTimeout(timer);
        if (data !== build) {
          if (!wasGranted || lock.isStolen) grant();
          return;
        }
        timer = setTimeout(ask, ANSWER_MS);
        // A holder that is just leaving answers once.
        if ((answers += 1) > 1) events.moved();
      }
    };
  }
  lock.release = () => {
    state = 'released';
    clearTimeout(timer);
    channel?.close();
    abort.abort();
  };
  request({});
  ask();
  return lock;
}
