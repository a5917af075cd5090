// The bus: what the tabs of one hub and a worker that is no SharedWorker say to each other by.

import { HubKind } from './protocol.js';
import type { HubMessage } from './protocol.js';

/**
 * What a page tells its dedicated worker first: the name of the channel (none: all goes through
 * the page) and whether the page needs to hear a tick each second. `retire`: say what is to be
 * said, let go of everything and end.
 */
export type WorkerOrder = [channel: string, ticks: boolean] | 'retire';

/** On the bus, from a tab to its hub. Without a message it asks whether the hub is there. */
export type TabFrame = [tab: bigint, message?: unknown];

/** On the bus, from the hub to these tabs, or to all. Without a message: the hub is there. */
export type HubFrame = [tabs: bigint[], message?: HubMessage | typeof STAYS];

/** In place of a message: the hub is there, and depends on no tab that leads. */
export const STAYS = 'stays';

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
