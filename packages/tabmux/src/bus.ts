// The bus: what the tabs of one hub and a worker that is no SharedWorker say to each other by.

import { HubKind } from './protocol.js';
import type { HubMessage } from './protocol.js';

/**
 * What a page tells its dedicated worker first: the name of the channel (none: all goes through
 * the page), whether the page needs to hear a tick each second, and the name of the host.
 * `retire`: say what is to be said, let go of everything and end.
 */
export type WorkerOrder = [channel: string, ticks: boolean, host: bigint] | 'retire';

/**
 * On the bus, from a tab to the host `to`. Other hosts ignore it. Without a message the tab asks
 * every host whether it is there.
 */
export type TabFrame = [tab: bigint, message?: unknown, to?: bigint];

/** On the bus, from the host `from` to these tabs, or to all. */
export type HubFrame = [tabs: bigint[], message: HubMessage | Beat, from: bigint];

/** What a host says in place of a message. */
export type Beat = typeof HERE | typeof STAYS | typeof GONE;

/** The host is there. */
export const HERE = 'here';

/** The host is there, and depends on no tab that leads. */
export const STAYS = 'stays';

/** The host ends: another may be followed at once. */
export const GONE = 'gone';

/**
 * Returns a name for a worker that serves a bus. Of two names the smaller one is that of the older
 * host, by the clock of the machine.
 */
export function hostId(): bigint {
  const [random = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  return (BigInt(Date.now()) << 16n) + (random & 0xffffn);
}

/** What makes tabs attach anew: it is of a hub that no tab knows. */
export const resync = (): HubMessage => {
  const [id = 1n] = crypto.getRandomValues(new BigUint64Array(1));
  return [HubKind.Resync, id];
};

/** Two scripts do not share a bus, nor do two builds: the hub's name holds the build. */
export const busName = (name: string, script: string): string => `${name} ${script}`;

/** Opens a channel: none where there is no such thing, and where it is refused. */
export function openChannel(name: string): BroadcastChannel | undefined {
  try {
    return new BroadcastChannel(name);
  } catch {
    return undefined;
  }
}
