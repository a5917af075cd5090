// The browser of a test bed, as the page library sees it: workers, locks and the events of a page.

import { HubKind, PageKind } from '../protocol.js';
import type { HubMessage, PageMessage } from '../protocol.js';
import type { Clock } from './clock.js';
import { ExclusiveHub } from './exclusive.js';
import type { HubEnd, HubWorld, TestHub } from './hub.js';
import { MirrorHub } from './mirror.js';
import { MuxHub } from './mux.js';
import type { InnerServer } from './server.js';

/** The parts of the browser that belong to one tab. */
export interface TabParts {
  readonly SharedWorker: new (url: string | URL, options: { name: string }) => {
    port: PagePort; onerror: unknown;
  };
  /** Ends the tab. It sends nothing to its hubs. */
  crash(): void;
  /** Ends the connections to all hubs of the tab. No hub answers it from now on. */
  fail(reason: string): void;
}

interface PagePort {
  onmessage: ((event: { data: HubMessage }) => unknown) | null;
  postMessage(message: PageMessage): void;
  close(): void;
}

export interface Browser {
  makeTab(): TabParts;
  readonly hubs: ReadonlyMap<string, TestHub>;
  isOnline: boolean;
  /** The tag of the user, or `nobody.`. It is undefined until somebody has logged in or out. */
  user: string | undefined;
}

export function makeBrowser(clock: Clock, server: InnerServer): Browser {
  const hubs = new Map<string, TestHub>();
  const browser: Browser = {
    hubs, isOnline: true, user: undefined, makeTab: () => makeTab(clock, hubs, world),
  };
  const world: HubWorld = {
    clock, server, isOnline: () => browser.isOnline, user: () => browser.user,
  };
  server.onPublish = () => hubs.forEach((hub) => hub instanceof MuxHub && hub.publish());
  server.onBroadcast = (data) =>
    hubs.forEach((hub) => hub instanceof MuxHub && hub.broadcast(data));
  return browser;
}

function makeTab(clock: Clock, hubs: Map<string, TestHub>, world: HubWorld): TabParts {
  const ports = new Set<{ crash(): void; fail(reason: string): void }>();

  const connect = (name: string): PagePort => {
    let tab: bigint | undefined;
    let isOpen = true;
    const leave = (): void => {
      const hub = hubs.get(name);
      if (tab === undefined || !hub) return;
      hub.leave(tab);
      tab = undefined;
      // The worker ends with its last tab, unless it keeps a connection.
      if (hub.seats.size === 0 && !hub.lingers) hubs.delete(name);
    };
    const end: HubEnd = {
      post: (message) => clock.soon(() => isOpen && port.onmessage?.({ data: message })),
    };
    const hear = (message: PageMessage): void => {
      if (message[0] === PageKind.Bye) return leave();
      if (message[0] === PageKind.Attach) {
        tab = message[1];
        const [, , config] = message;
        const Hub = { mirror: MirrorHub, mux: MuxHub, exclusive: ExclusiveHub }[config.mode];
        if (!hubs.has(name)) hubs.set(name, new Hub(world, config) as unknown as TestHub);
      }
      if (tab !== undefined) hubs.get(name)?.hear(tab, end, message);
    };
    const port: PagePort = {
      onmessage: null,
      postMessage: (message) => clock.soon(() => hear(message)),
      close: () => {
        isOpen = false;
        ports.delete(ends);
      },
    };
    const ends = {
      crash(): void {
        port.close();
        clock.soon(leave);
      },
      fail: (reason: string) => end.post([HubKind.Failed, reason]),
    };
    ports.add(ends);
    return port;
  };

  return {
    SharedWorker: class {
      onerror = null;
      readonly port: PagePort;
      constructor(_: string | URL, { name }: { name: string }) {
        this.port = connect(name);
      }
    },
    crash: () => ports.forEach((port) => port.crash()),
    fail: (reason) => ports.forEach((port) => port.fail(reason)),
  };
}

/**
 * Makes the locks of a tab. The tab's own lock is granted at once. The lock of a hub is never
 * granted, because tabs learn from their ports how hubs end. All other locks are those of the
 * process, if it has any.
 */
export function makeLocks(others?: LockManager): LockManager {
  const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
    const callback = rest.pop() as (lock: object) => unknown;
    if (!name.startsWith('tabmux:')) {
      return others ? (others.request as (...all: unknown[]) => Promise<unknown>).call(
        others, name, ...rest, callback) : Promise.resolve(callback({ name }));
    }
    if (name.startsWith('tabmux:tab:')) return Promise.resolve().then(() => callback({ name }));
    return new Promise(() => undefined);
  };
  return {
    request: request as LockManager['request'],
    query: () => others?.query() ?? Promise.resolve({ held: [], pending: [] }),
  };
}
