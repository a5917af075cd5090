// Where the worker's ports come from. A SharedWorker is handed one by each tab; a dedicated worker
// reaches all tabs by one channel, the bus, and makes a port of what each of them says there.

import { STAYS, busName, openChannel, resync } from './bus.js';
import type { HubFrame, TabFrame, WorkerOrder } from './bus.js';
import { ignore } from './garbage.js';
import { HubKind, PageKind } from './protocol.js';
import type { HubMessage } from './protocol.js';
import { withPulse } from './pulse.js';

/** What a hub and a tab speak through: a `MessagePort`, or one tab's part of the bus. */
export interface Port {
  onmessage: ((event: MessageEvent<unknown>) => unknown) | null;
  postMessage(message: HubMessage): void;
}

/** How often the hub says on the bus that it is there. */
const BEAT_MS = 2500;

/** How often a page that asked for it hears that its worker runs. */
const TICK_MS = 1000;

/** How long a link may take to close when its worker ends. */
const RETIRE_MS = 1000;

/** Tabs a bus remembers. One that is forgotten, the oldest first, is told to attach again. */
const MAX_TABS = 256;

/** What this file needs of either kind of worker. */
declare const self: {
  name: string;
  location: { href: string; search: string };
  onconnect?: (event: { ports: readonly MessagePort[] }) => void;
  onmessage: (event: MessageEvent<TabFrame | WorkerOrder | null>) => void;
  postMessage(frame: HubFrame | null): void;
  close(): void;
};

/** Where ports come from, as the worker sees it. */
export interface Ports {
  /** The hub may dial now, or may not any more. */
  hold(isHeld: boolean): void;
}

/**
 * Installs, at once, what must not miss a port or a message: in every engine a port that arrives
 * before `onconnect` is set is lost for ever. `retire` is called when the worker is to end.
 */
export function openPorts(serve: (port: Port) => void, retire: () => void): Ports {
  if ('onconnect' in self) return openShared(serve);
  if ('document' in self) throw new Error('tabmux: worker.js is no script for pages');
  return openDedicated(serve, retire);
}

function openShared(serve: (port: Port) => void): Ports {
  let channel: BroadcastChannel | undefined;
  let bus: Bus | undefined;
  self.onconnect = ({ ports: [port] }) => {
    if (!port) return;
    // Now the page knows that the script is here.
    port.postMessage([HubKind.Loading, ''] satisfies HubMessage);
    serve(withPulse(port, true));
  };
  return {
    // The bus is for a tab that cannot have this SharedWorker though others have it. Who has the
    // link serves it: two hubs on one bus would both answer.
    hold(isHeld) {
      if (isHeld === !!bus) return;
      channel?.close();
      bus?.close();
      channel = bus = undefined;
      const opened = isHeld ? openChannel(busName(self.name, self.location.href)) : undefined;
      if (!opened) return;
      channel = opened;
      // A port of this bus may be told something after the bus is closed.
      const post = (frame: HubFrame): void => {
        if (channel === opened) opened.postMessage(frame);
      };
      const served = (bus = makeBus(serve, post, STAYS));
      opened.onmessage = ({ data }) => served.hear(data);
      // The tabs on the bus may be of a hub that is gone, and hear of no other.
      served.announce();
    },
  };
}

function openDedicated(serve: (port: Port) => void, retire: () => void): Ports {
  let bus: Bus | undefined;

  self.onmessage = ({ data }) => {
    if (data === 'retire') {
      retire();
      setTimeout(() => self.close(), RETIRE_MS);
    } else if (typeof data?.[0] === 'string') {
      start(...data as [string, boolean]);
    } else {
      bus?.hear(data);
    }
  };

  const start = (name: string, ticks: boolean): void => {
    if (bus) return;
    const channel = name ? new BroadcastChannel(name) : self;
    bus = makeBus(serve, (frame) => channel.postMessage(frame));
    if (channel !== self) channel.onmessage = ({ data }: MessageEvent) => bus?.hear(data);
    if (ticks) setInterval(() => self.postMessage(null), TICK_MS);
    // All tabs attach when they hear of a hub that they do not know.
    bus.announce();
  };

  return { hold: () => undefined };
}

interface Bus {
  hear(frame: unknown): void;
  /** Makes all tabs attach. */
  announce(): void;
  close(): void;
}

/** The hub's end of the bus. */
function makeBus(
  serve: (port: Port) => void,
  post: (frame: HubFrame) => void,
  ...beat: [] | [typeof STAYS]
): Bus {
  const ports = new Map<bigint, Port>();
  let waiting: HubFrame | undefined;

  // What is posted to several tabs one after another is one frame to all of them.
  const postTo = (tab: bigint, message: HubMessage): void => {
    if (waiting && waiting[1] === message) {
      waiting[0].push(tab);
      return;
    }
    flush();
    waiting = [[tab], message];
    queueMicrotask(flush);
  };
  const flush = (): void => {
    if (waiting) post(waiting);
    waiting = undefined;
  };

  const portOf = (tab: bigint, message: unknown): Port => {
    const known = ports.get(tab);
    if (known) return known;
    const port: Port = { onmessage: null, postMessage: (message) => postTo(tab, message) };
    // Who does not begin with `Attach` is answered, and not remembered.
    if (Array.isArray(message) && message[0] === PageKind.Attach) {
      ports.set(tab, port);
      for (const oldest of ports.keys()) if (ports.size > MAX_TABS) ports.delete(oldest);
    }
    serve(withPulse(port, false, () => ports.delete(tab)));
    return port;
  };

  const beats = setInterval(() => ports.size && post([[], ...beat]), BEAT_MS);

  return {
    hear(frame) {
      if (isHubFrame(frame)) return;
      if (!isTabFrame(frame)) return ignore();
      const [tab, message] = frame;
      if (frame.length < 2) return post([[tab], ...beat]);
      portOf(tab, message).onmessage?.({ data: message } as MessageEvent);
    },
    announce: () => post([[], resync()]),
    close: () => clearInterval(beats),
  };
}

/** Whether it is said by a hub, another one: none of our business. */
const isHubFrame = (frame: unknown): boolean => Array.isArray(frame) && Array.isArray(frame[0]);

const isTabFrame = (frame: unknown): frame is TabFrame =>
  Array.isArray(frame) && typeof frame[0] === 'bigint' &&
  frame[0] === BigInt.asUintN(64, frame[0]) && frame.length <= 2;
