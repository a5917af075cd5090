// The lock without which a hub does not dial, and what is done when its holder does not let go.

import { openChannel } from './bus.js';
import {
  Inquiry, Order as Step, answer, ask, asker, stop, waits, wake,
} from './election/inquiry.js';
import { Lock, Order } from './election/lock.js';
import { ignore } from './garbage.js';
import { wantLock } from './want.js';

/** What hubs that want the lock ask on the channel of its name; the holder answers its address. */
const ASK = 'who?';

/** The answer of a hub whose names hold no tag: it has the link of the tag in the lock's name. */
const UNNAMED = '#';

/**
 * How long a hub waits for the lock where it cannot ask which hub holds it. How long one without
 * locks asks before it answers: of two that ask, the one whose names hold the tag stays.
 */
const UNASKED_MS = 500;

/** What the hub hears of its lock. */
export interface LinkLockEvents {
  /** The link may be opened; `again`: as before it was stolen. */
  granted(again: boolean): void;
  /** Another hub took it, since this one did not answer. */
  stolen(): void;
  /** Another hub of this script has it, and is there. */
  moved(): void;
  /** The hub whose names hold no tag has the link of this key and tag. */
  taken(): void;
}

/** The lock, held or waited for. */
export interface LinkLock {
  /** Whether it was held, and is not any more. */
  readonly isStolen: boolean;
  release(): void;
}

const now = (): number => performance.now();

/** Asks for the lock. Without locks it is granted, and hubs of one user find each other. */
export function takeLinkLock(
  locks: LockManager | undefined,
  name: string,
  events: LinkLockEvents,
): LinkLock {
  const script = self.location.href;
  const channel = openChannel(name);
  const link = { isStolen: false, release: (): void => undefined };
  const inquiry = asker();
  let wasGranted = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const grant = (): void => {
    const again = wasGranted;
    wasGranted = true;
    link.isStolen = false;
    events.granted(again);
  };

  const lock = locks && wantLock(locks, name, true, (order) => {
    if (order === Order.Take) {
      clearTimeout(timer);
      stop(inquiry);
      grant();
    } else if (order === Order.AskAgain) {
      link.isStolen = true;
      inquire();
      events.stolen();
    }
  });

  const inquire = (): void => act(ask(inquiry, now()));
  const act = (step: Step): void => {
    clearTimeout(timer);
    // Where nobody can be asked, the holder may be a hub that no message reaches.
    if (!channel && step === Step.Ask) {
      timer = setTimeout(() => act(answer(inquiry, false, now())), UNASKED_MS);
    } else if (inquiry._inquiry !== Inquiry.Over) {
      timer = setTimeout(() => act(wake(inquiry, now())), waits(inquiry));
    }
    if (step === Step.Ask) channel?.postMessage(ASK);
    else if (step === Step.Rob) lock?._rob(inquire);
    else if (step === Step.Move) events.moved();
    else if (step === Step.Share && (!wasGranted || link.isStolen)) grant();
  };

  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (typeof data !== 'string') return ignore();
      if (lock ? lock._wanted._lock === Lock.Held : data === ASK) {
        if (data === ASK) channel.postMessage(script);
      } else if (data === UNNAMED) {
        events.taken();
      } else if (lock && data !== ASK) {
        act(answer(inquiry, data === script, now()));
      }
    };
  }
  link.release = () => {
    clearTimeout(timer);
    channel?.close();
    lock?._release();
  };
  if (lock) inquire();
  else {
    channel?.postMessage(ASK);
    queueMicrotask(grant);
  }
  return link;
}

/**
 * Takes the lock `name` of a key and tag, for a hub whose names hold no tag, if no hub has it.
 * Calls `told` once that is known, and `taken` if another hub has it, or robs this one later.
 * Without locks it is taken at once, and a hub that says that it has the link takes it away.
 * Returns the function that gives it back.
 */
export function takeTagLock(
  locks: LockManager | undefined,
  name: string,
  told: (isMine: boolean) => void,
  taken: () => void,
): () => void {
  const channel = openChannel(name);
  let isKnown = false;
  let isOver = false;
  let letGo = (): void => undefined;
  const tell = (isMine: boolean): void => {
    if (isOver) return;
    if (!isKnown) told(isMine);
    isKnown = true;
    isOver = !isMine;
    if (isOver) taken();
  };
  const release = (): void => {
    if (!isKnown) tell(true);
    isOver = true;
    channel?.close();
    letGo();
  };
  const since = now();
  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (data !== ASK) return locks || data === UNNAMED || tell(false);
      if (isKnown && (locks || now() - since > UNASKED_MS)) channel.postMessage(UNNAMED);
    };
  }
  if (!locks) {
    tell(true);
    channel?.postMessage(ASK);
  }
  locks?.request(name, { ifAvailable: true }, (lock) => {
    if (isOver || !lock) return tell(false);
    tell(true);
    return new Promise<void>((resolve) => (letGo = resolve));
    // Stolen; or refused, as some engines do where storage is: go on without.
  }).catch(() => tell(!isKnown));
  return release;
}
