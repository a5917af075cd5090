// Where there are no locks to tell that a tab has died, the hub asks: the worker's half of it.

import { HubKind, PageKind, pulseEvery } from './protocol.js';
import type { HubConfig, HubMessage } from './protocol.js';
import type { Port } from './ports.js';

/** So many questions without an answer are the end of a tab. Counted, since clocks jump. */
const MAX_UNANSWERED = 3;

/** One object for all ports, so that the bus can make one frame of it. */
const PING: HubMessage = [HubKind.Ping];

/** Attached tabs, how many questions each has left open, and what to do when it is gone. */
const pulses = new Map<Port, [unanswered: number, gone: () => void]>();
let timer: ReturnType<typeof setInterval> | undefined;

/** How long a tab whose lock is granted has to show that it lives all the same. */
const DOUBT_MS = 300;

/** How often a tab that is not asked may ask whether its hub is there. */
const ANSWERED_MS = 1000;

/** What is known of a port, whether its tab is asked or not. */
interface Known {
  /** How many messages came. */
  heard: number;
  /** Its tab has attached, and has not been parked or left since. */
  isHere: boolean;
  /** It was asked, and the answer is no question. */
  isDoubted: boolean;
  /** When a question of it was last answered: the answer to that is no question. */
  answeredAt: number;
  readonly gone: () => void;
}

const known = new WeakMap<Port, Known>();

/**
 * Returns the same port without the answers of its tab. A tab that gives none any more has said
 * `Bye`. Nothing is asked where the tab says that it holds its lock, and while it is parked.
 * `isAsked`: a `Pong` that answers nothing asks whether anyone is there. A tab on a bus asks in
 * another way, and its `Pong` may answer another hub: two hubs that took each other's answers for
 * questions would answer for ever.
 */
export function withPulse(port: Port, isAsked: boolean, gone = (): void => undefined): Port {
  const outer: Port = { onmessage: null, postMessage: (message) => port.postMessage(message) };
  const it: Known = { heard: 0, isHere: false, isDoubted: false, answeredAt: -ANSWERED_MS, gone };
  known.set(outer, it);
  port.onmessage = (event) => {
    const { data } = event;
    const kind: unknown = Array.isArray(data) ? data[0] : undefined;
    const pulse = pulses.get(outer);
    const isQuestion = isAsked && kind === PageKind.Pong && pulse?.[0] === 0;
    it.heard += 1;
    if (kind === PageKind.Attach) it.isHere = true;
    else if (kind === PageKind.Park || kind === PageKind.Bye) it.isHere = false;
    if (pulse) pulse[0] = isQuestion ? 1 : 0;
    // A tab whose lock tells that it lives asks only if that of the hub was granted. A worker that
    // was started in place of one that crashed has no tab at its ports, and must not answer for it.
    const now = performance.now();
    const isDoubt = isAsked && kind === PageKind.Pong && !pulse && it.isHere && !it.isDoubted &&
      now - it.answeredAt >= ANSWERED_MS;
    if (isDoubt) it.answeredAt = now;
    if (isQuestion || isDoubt) outer.postMessage(PING);
    it.isDoubted &&= kind !== PageKind.Pong;
    if (kind === PageKind.Pong) return;
    if (kind === PageKind.Attach && !hasLocks(data as unknown[])) start(outer, gone);
    else if (kind === PageKind.Park || kind === PageKind.Bye) stop(outer);
    outer.onmessage?.(event);
    if (kind === PageKind.Bye) gone();
  };
  return outer;
}

/**
 * The lock of a tab is granted to its hub. The tab is dead, or parked, or has another lock manager
 * than the worker, as where site data was cleared: then it answers, and is asked from now on.
 * `wasHere`: it did not say that it leaves, so it may only be blocked.
 */
export function doubt(port: Port, dead: (wasHere: boolean) => void, lives: () => void): void {
  const it = known.get(port);
  if (!it?.isHere) return dead(false);
  const before = it.heard;
  it.isDoubted = true;
  port.postMessage(PING);
  setTimeout(() => {
    if (it.heard === before || !it.isHere) return dead(it.isHere);
    askFromNowOn(port);
    lives();
  }, DOUBT_MS);
}

/** The tab at this port is asked whether it lives, whatever its locks say. */
export function askFromNowOn(port: Port): void {
  const it = known.get(port);
  if (it) start(port, it.gone);
}

const hasLocks = (attach: unknown[]): boolean =>
  !!self.navigator.locks && (attach[2] as HubConfig | undefined)?.locks !== false;

function start(port: Port, gone: () => void): void {
  pulses.set(port, [0, gone]);
  timer ??= setInterval(ask, pulseEvery());
}

function stop(port: Port): void {
  pulses.delete(port);
  if (pulses.size) return;
  clearInterval(timer);
  timer = undefined;
}

function ask(): void {
  for (const [port, pulse] of [...pulses]) {
    const [unanswered, gone] = pulse;
    if (unanswered < MAX_UNANSWERED) {
      pulse[0] += 1;
      port.postMessage(PING);
    } else {
      stop(port);
      port.onmessage?.({ data: [PageKind.Bye] } as MessageEvent);
      gone();
    }
  }
}
