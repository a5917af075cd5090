// Which tab leads: by a Web Lock, or, where there are none, by a lease in localStorage.

import { hex } from './protocol.js';

/** A tab's part in the question who leads. */
export interface Leadership {
  /** Another tab may lead. */
  release(): void;
  /** The leader is silent: take its place, if nobody did so a short while ago. */
  steal(): void;
  /** This tab still leads. Called each second while its worker runs. */
  renew(): void;
}

/** For so long nobody steals again. */
const COOLDOWN_MS = 30_000;

/** How old a lease may be. */
const LEASE_MS = 5000;

/** How often a tab that does not lead looks at the lease. */
const LOOK_MS = 1000;

/** After taking a lease that was given up, and before it is held. */
const SETTLE_MS = 250;

/** The same for one that ran out: longer than its holder, if it is there, needs to see it. */
const SETTLE_RUN_OUT_MS = 1500;

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
  const { locks } = navigator;
  let abort: AbortController;
  let isHeld = false;

  const request = (options: LockOptions): void => {
    const { signal } = (abort = new AbortController());
    locks
      .request(name, options.steal ? options : { signal }, () => new Promise<void>((letGo) => {
        signal.addEventListener('abort', () => letGo());
        if (signal.aborted) return letGo();
        isHeld = true;
        lead();
      }))
      .catch(() => {
        if (signal.aborted) return;
        if (!isHeld) return refused();
        isHeld = false;
        resign();
        request({});
      });
  };

  request({});
  return {
    release() {
      isHeld = false;
      abort.abort();
    },
    steal() {
      // Who holds this lock has stolen just now.
      locks.request(name + ':stolen', { ifAvailable: true }, (isFirst) => {
        if (!isFirst || isHeld || abort.signal.aborted) return undefined;
        abort.abort();
        request({ steal: true });
        return new Promise((letGo) => setTimeout(letGo, COOLDOWN_MS));
      }).catch(() => undefined);
    },
    renew: () => undefined,
  };
}

/**
 * The lease is the name of its holder and the time, written each second. Who takes it reads it
 * again after a while: of several that took it at once, the last to write has it. Calls `refused`
 * where localStorage is refused or full.
 */
export function contendByLease(
  name: string,
  lead: () => void,
  resign: () => void,
  refused: () => void,
): Leadership {
  const me = hex(crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n);
  let state: 'waiting' | 'taking' | 'held' = 'waiting';
  let timer: ReturnType<typeof setTimeout> | undefined;
  let writtenAt = -Infinity;

  const read = (): [holder: string, age: number] => {
    const [holder = '', time] = (localStorage.getItem(name) ?? '').split(':');
    const age = Date.now() - Number(time);
    // Without a meaning, or from the future after the clock was set back.
    return age > -LEASE_MS ? [holder, age] : ['', Infinity];
  };

  const write = (): void => {
    writtenAt = Date.now();
    localStorage.setItem(name, `${me}:${writtenAt}`);
  };

  /** Does what needs the storage. */
  const attempt = (act: () => void): void => {
    try {
      act();
    } catch {
      clearTimeout(timer);
      refused();
    }
  };

  const look = (): void => attempt(() => {
    clearTimeout(timer);
    const [holder, age] = read();
    let wait = LOOK_MS;
    if (state === 'taking' && holder === me) {
      state = 'held';
      write();
      return lead();
    }
    state = 'waiting';
    if (age > LEASE_MS) {
      state = 'taking';
      write();
      wait = holder ? SETTLE_RUN_OUT_MS : SETTLE_MS;
    }
    timer = setTimeout(look, wait);
  });

  const lose = (): void => {
    state = 'waiting';
    resign();
    look();
  };

  const onStorage = ({ key }: StorageEvent): void => attempt(() => {
    if (key !== name && key !== null) return;
    if (state === 'held') {
      if (read()[0] !== me) lose();
    } else if (state === 'waiting' && !read()[0]) {
      look();
    }
  });

  addEventListener('storage', onStorage);
  look();
  return {
    release() {
      clearTimeout(timer);
      removeEventListener('storage', onStorage);
      // Where it was written a short while ago nobody else can have it. And what is done first with
      // storage may be the last: there, Firefox ends the scripts of a tab that closes.
      const isFresh = state === 'held' && Date.now() - writtenAt < LEASE_MS;
      try {
        if (isFresh || state !== 'waiting' && read()[0] === me) localStorage.removeItem(name);
      } catch {
        // It runs out by itself.
      }
      state = 'waiting';
    },
    // A lease runs out by itself.
    steal: () => undefined,
    renew: () => attempt(() => {
      if (state !== 'held') return;
      if (read()[0] === me) write();
      else lose();
    }),
  };
}
