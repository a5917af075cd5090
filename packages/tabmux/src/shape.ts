// What hubs say on the bus is checked before the page acts on it: any script of the origin can post
// there.

import { HubKind } from './protocol.js';
import type { Data, HubMessage, Of } from './protocol.js';

/** One letter says what a place of a message holds: the first of `typeof`, or `d` for `Data`. */
type Letter<T> =
  [T] extends [bigint] ? 'b'
    : [T] extends [number] ? 'n'
      : [T] extends [string] ? 's'
        : [Data] extends [T] ? 'd' : never;

type Letters<T extends unknown[]> =
  T extends [infer First, ...infer Rest] ? `${Letter<First>}${Letters<Rest>}` : '';

/** The letters of a kind, for all places but the first. The compiler compares table and type. */
type Shape<Kind extends HubKind> =
  Of<Kind> extends [unknown, ...infer Rest] ? Letters<Rest> : never;

const SHAPES: { [Kind in HubKind]: Shape<Kind> } = {
  [HubKind.Opened]: 'bnnns',
  [HubKind.Message]: 'bnnnd',
  [HubKind.Closed]: 'bnnnns',
  [HubKind.Credit]: 'bnnn',
  [HubKind.Joined]: 'bnns',
  [HubKind.Ended]: 'bnnns',
  [HubKind.Error]: 'bns',
  [HubKind.Subscribed]: 'bnnn',
  [HubKind.Publication]: 'bnnnd',
  [HubKind.Gap]: 'bnnn',
  [HubKind.Unsubscribed]: 'bns',
  [HubKind.Attached]: 'bnn',
  [HubKind.State]: 'bnns',
  [HubKind.Mirror]: 'bd',
  [HubKind.Browser]: 'bnd',
  [HubKind.Direct]: 'bnd',
  [HubKind.BrowserGap]: 'b',
  [HubKind.Resume]: 'bns',
  [HubKind.Renew]: 'bnns',
  [HubKind.Lost]: 'bs',
  [HubKind.Check]: 'bnn',
  [HubKind.Sent]: 'bn',
  [HubKind.Seen]: 'bn',
  [HubKind.Resync]: 'b',
  [HubKind.Failed]: 's',
  [HubKind.Ask]: 'bnn',
  [HubKind.Wait]: 'bs',
  [HubKind.Elsewhere]: 'bs',
  [HubKind.User]: 'bns',
  [HubKind.Passed]: 'bnn',
  [HubKind.Loading]: 's',
  [HubKind.NotLoaded]: 's',
  [HubKind.OtherBuild]: 's',
  [HubKind.Moved]: 'b',
  [HubKind.Ping]: '',
};

/** Whether something is a message of a hub. */
export function isHubMessage(message: unknown): message is HubMessage {
  if (!Array.isArray(message)) return false;
  const [kind, ...places] = message as [HubKind, ...unknown[]];
  return SHAPES[kind]?.length === places.length &&
    places.every((place, at) => fits(SHAPES[kind][at], place));
}

/** A page has no use for an id of 0, nor for numbers that are none. */
const fits = (letter: string | undefined, place: unknown): boolean =>
  letter === 'd' ? typeof place === 'string' || place instanceof Uint8Array
    : letter === 'n' ? Number.isFinite(place)
      : letter === (typeof place)[0] && place !== 0n;
