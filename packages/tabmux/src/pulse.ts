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

/**
 * Returns the same port without the answers of its tab. A tab that gives none any more has said
 * `Bye`. Nothing is asked where the tab says that it holds its lock, and while it is parked.
 * `isAsked`: a `Pong` that answers nothing asks whether anyone is there. A tab on a bus asks in
 * another way, and its `Pong` may answer another hub: two hubs that took each other's answers for
 * questions would answer for ever.
 */
export function withPulse(port: Port, isAsked: boolean, gone = (): void => undefined): Port {
  const outer: Port = { onmessage: null, postMessage: (message) => port.postMessage(message) };
  port.onmessage = (event) => {
    const { data } = event;
    const kind: unknown = Array.isArray(data) ? data[0] : undefined;
    const pulse = pulses.get(outer);
    const isQuestion = isAsked && kind === PageKind.Pong && pulse?.[0] === 0;
    if (pulse) pulse[0] = isQuestion ? 1 : 0;
    if (isQuestion) outer.postMessage(PING);
    if (kind === PageKind.Pong) return;
    if (kind === PageKind.Attach && !hasLocks(data as unknown[])) start(outer, gone);
    else if (kind === PageKind.Park || kind === PageKind.Bye) stop(outer);
    outer.onmessage?.(event);
    if (kind === PageKind.Bye) gone();
  };
  return outer;
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
