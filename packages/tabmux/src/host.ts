// What a page and the ways to host a hub know of each other.

import { MAX_BATCH, SEVERAL } from './protocol.js';
import type { HubMessage, PageMessage, PortData } from './protocol.js';

/**
 * How a hub is hosted. `page`: a socket in mirror or exclusive mode could have no hub, and is a
 * `WebSocket` of this page alone.
 */
export type Tier = 'shared-worker' | 'leader' | 'storage' | 'direct' | 'page';

/** What a page speaks to a hub through. A SharedWorker's own port says nothing of its tier. */
export interface PagePort {
  readonly _tier?: Tier;
  onmessage: ((event: MessageEvent<PortData>) => unknown) | null;
  postMessage(message: PageMessage): void;
  close(): void;
}

/** What addresses are relative to. A worker that is a tab has no document. */
export const baseOf = (): string => globalThis.document?.baseURI ?? location.href;

/** How long each step towards a hub may take, in milliseconds, in all tiers. */
export const enum Deadline {
  /** A script or a module that is on its way. Nobody can see whether it is. */
  Load = 30_000,
  /** A worker whose script and module are there says that its hub runs. */
  Attach = 2000,
  /** A page that was blocked finds its timer before what was said meanwhile. */
  Grace = 500,
  /** The browser grants the lock of this tab, for which nobody else waits. */
  Lock = 500,
  /** A hub whose lock is granted shows that it is there all the same. */
  Doubt = 100,
  /** A host that may already be on the bus says so. */
  Hello = 200,
  /** The cause of a failed dial is found, or left open. */
  Cause = 1000,
  /** A worker that was asked to end has ended. */
  Retire = 1500,
}

/** A tier that was skipped. */
export interface Skipped {
  readonly tier: Tier;
  /** Why, in words. */
  readonly reason: string;
}

/** The tiers that were skipped, and why. */
export type Tried = Partial<Record<Tier, string>>;

/** What a tier must know of the page. */
export interface Page {
  /** What all tabs call the hub. */
  readonly _name: string;
  /** The address of the worker. */
  readonly _script: string;
  readonly _tab: bigint;
  /** Whether this page may hold locks. */
  readonly _locks: boolean;
  /** The tiers that were skipped. */
  readonly _tried: Tried;
  /** The SharedWorker fell silent. */
  _lost(): void;
  /** See `listen`: the chunk of the other tiers has no copy of it. */
  readonly _listen: typeof listen;
}

/**
 * Hears what a port carries, one message after another. Each has a listener: what a page does after
 * an `await` comes between two listeners, as between two messages of a WebSocket, and not between
 * two calls of one.
 */
export function listen(port: PagePort | MessagePort, hear: (message: HubMessage) => unknown): void {
  let late: HubMessage[];
  const next = (event: Event): void => {
    if (!late[1]) event.stopImmediatePropagation?.();
    hear(late.shift() as HubMessage);
  };
  port.onmessage = (event: MessageEvent<PortData>) => {
    late = event.data[0] === SEVERAL ? event.data[1] : [event.data];
    next(event);
  };
  for (let n = 1; n < MAX_BATCH; n += 1) {
    (port as Partial<MessagePort>).addEventListener?.('message', (it) => next(it));
  }
}

/** What a tier tells of its hub. */
export interface Host extends Page {
  /** The address of the worker as the browser takes it. */
  readonly _address: string;
  _hear(message: HubMessage): void;
  /** The locks of this page are not those of the host: they tell neither who lives. */
  _distrust(): void;
  /** This tier is no good. */
  _skip(why: string): void;
  /** No tier is any good, also not later if that is final. */
  _fail(reason: string, isFinal?: boolean): void;
}

/** A port of one tier. */
export interface TierPort {
  /** Without channels, this hub and those of other tiers do not reach each other. */
  readonly _isApart?: boolean;
  _post(message: PageMessage): void;
  _close(): void;
}

/** Returns why there is no worker, and what to do. */
export function notStarted(script: string): string {
  return `tabmux: the worker ${script} did not start. ` + (isForeign(script)
    ? "It must be of this page's origin: serve a file there whose one line is " +
      `importScripts('${script}'), and pass the address of that file as the option worker.`
    : "Serve it from the page's own origin, allow it in worker-src, or pass the option worker. " +
      "With Vite 7, esbuild or Rollup add tabmux() of 'tabmux/vite', 'tabmux/esbuild' or " +
      "'tabmux/rollup' to the plugins; without a bundler `npx tabmux copy` puts it there.");
}

function isForeign(script: string): boolean {
  const own = globalThis.location?.origin;
  return !!own && script.startsWith('http') && !script.startsWith(own + '/');
}
