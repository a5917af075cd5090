// What this page has of its session, for the next hub: what it said, how much it heard, and the
// claim. It numbers what it says, and keeps it until the other end has it; what it has heard once
// it does not hear again. No timers and no ports.

import { Limit } from './protocol.js';
import type { Data, PageKind, PageMessage } from './protocol.js';
import { baseOf } from './host.js';
import { tierOf } from './life.js';
import type { Life } from './life.js';

/** What a message that is kept takes besides its bytes: empty ones are kept too. */
const ENTRY = 99;

/** What is counted of what is said. */
export type Said = Extract<PageMessage,
  { 0: PageKind.Open | PageKind.Send | PageKind.Close | PageKind.Credit }>;

/** The lanes in which a page hears. */
export const enum Lane {
  /** Lane 0, of messages to all tabs. */
  All,
  /** The tab's own. */
  Own,
}

/** One page's part in a session. */
export interface Session {
  /** What the next hub is shown; empty before the first `Renew`. */
  _claim: string;
  /** The places up to which it has heard, by `Lane`. */
  _heardTo: [count0: number, count: number];
  /** What was said and is not known to have been received, with the bytes of each. */
  _unseen: [size: number, message: Said][];
  /** The bytes of all of these. */
  _kept: number;
  /** The number of what was said last, and that up to which it was handed to the link. */
  _said: number;
  _handed: number;
  /** Whether the hub takes what is said. */
  _up: boolean;
}

/** A session in which nothing was said or heard. */
export const newSession = (): Session => ({
  _claim: '', _heardTo: [0, 0], _unseen: [], _kept: 0, _said: 0, _handed: 0, _up: false,
});

/** The session is gone: another begins, in which lane 0 is at `count0`. */
export function forget(session: Session, count0: number): void {
  Object.assign(session, newSession(), { _heardTo: [count0, 0], _up: session._up });
}

/** Numbers what is said, and keeps it until it is seen. */
export function number(
  session: Session,
  isMux: boolean,
  size: number,
  kind: Said[0],
  socket: number,
  rest: unknown[],
): Said {
  const message = [kind, ++session._said, socket, ...rest] as Said;
  // A hub's word on what was sent is all that frees a mirror's, and it says so of bytes only.
  if (size || !session._up || isMux) session._unseen.push([size, message]);
  session._kept += size;
  return message;
}

/** Whether so much more may not be kept. */
export const isFull = ({ _kept, _unseen }: Session, size: number): boolean =>
  _kept + size + _unseen.length * ENTRY > Limit.Outbox;

/** The other end has what was said up to `n`, or said so far on one socket. */
export function seen(session: Session, n: number, socket?: number): void {
  session._unseen = session._unseen.filter(([size, message]) => {
    if (message[1] > n || socket && message[2] !== socket) return true;
    session._kept -= size;
    return false;
  });
}

/** A link was given what was said up to `n`. Another one may be given some of it again. */
export function hand(session: Session, n: number): void {
  session._handed = Math.max(session._handed, n);
}

/** Bytes of a socket's messages that were not handed to the link. */
export const buffered = ({ _unseen, _handed }: Session, socket: number): number =>
  _unseen.reduce((sum, [size, message]) =>
    sum + (message[1] > _handed && message[2] === socket ? size : 0), 0);

/** Whether the message at that place was heard before. If not, it is now. */
export function isHeard({ _heardTo }: Session, lane: Lane, count: number): boolean {
  if (count <= _heardTo[lane]) return true;
  _heardTo[lane] = count;
  return false;
}

/**
 * All that was posted up to these places is heard. Not all that is counted comes here, and what an
 * earlier hub posted may be ahead of this one.
 */
export function check(session: Session, counts: Session['_heardTo']): void {
  counts.forEach((count, lane) => isHeard(session, lane, count));
}

/**
 * What pages of this build left of their claim for those to come, behind a comma: a page that has
 * none may be the first at the next hub, and that of another may be over. It is this page's from
 * now on, if it has one, and nobody's if the session is over. `undefined` is no claim to a hub. A
 * tier of one tab has a session of its own.
 */
export function left(life: Life, mine?: string, isOver?: boolean): string {
  const tier = tierOf(life);
  try {
    if (life._isMux && tier !== 'direct') {
      // Without locks nothing keeps hubs of two tiers from taking a session from each other.
      const name = life._config.lock + tier + new URL(life._script, baseOf());
      // All but what this tab is called there.
      if (mine) localStorage[name] = mine.split(' ')[0];
      if (isOver) delete localStorage[name];
      return ',' + localStorage[name];
    }
  } catch {
    // Refused, or full.
  }
  return '';
}

/** Bytes of a message. */
export const sizeOf = (data: Data): number =>
  (typeof data === 'string' ? new TextEncoder().encode(data) : data).length;
