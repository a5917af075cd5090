// Where the worker's ports come from. A SharedWorker is handed one by each tab; a dedicated worker
// reaches all tabs by one channel, the bus, and makes a port of what each of them says there.

import { GONE, HERE, STAYS, busName, hostId, openChannel, resync } from './bus.js';
import type { HubFrame, TabFrame, WorkerOrder } from './bus.js';
import { SILENCE_MS, wins } from './election/follow.js';
import { ignore } from './garbage.js';
import { HubKind, MAX_BATCH, PageKind, SEVERAL } from './protocol.js';
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

/** So often ports post at once before it is a burst. */
const TURNS = 4;

/** How long a host that stood still says nothing of itself. */
const QUIET_MS = 1500;

/** Tabs a bus remembers. One that is forgotten, the oldest first, is told to attach again. */
const MAX_TABS = 256;

/** What this file needs of either kind of worker. */
declare const self: {
  name: string;
  navigator: { locks?: unknown };
  location: { href: string; search: string };
  onconnect?: (event: { ports: readonly MessagePort[] }) => void;
  onmessage: (event: MessageEvent<TabFrame | WorkerOrder | null>) => void;
  postMessage(frame: HubFrame | null): void;
  close(): void;
};

/** Where ports come from, as the worker sees it. */
export interface Ports {
  /**
   * The hub may dial now, or may not any more. Its tabs on the bus are away then in mux mode, and
   * in others they have left.
   */
  hold(isHeld: boolean, isMux: boolean): void;
}

/**
 * Installs, at once, what must not miss a port or a message: in every engine a port that arrives
 * before `onconnect` is set is lost for ever. `retire` is called when the worker is to end, and
 * `move` when its tabs are to go to a host of another tier.
 */
export function openPorts(
  serve: (port: Port) => void,
  retire: () => void,
  move = (): void => undefined,
): Ports {
  if ('onconnect' in self) return openShared(serve, move);
  if ('document' in self) throw new Error('tabmux: worker.js is no script for pages');
  return openDedicated(serve, retire);
}

function openShared(serve: (port: Port) => void, move: () => void): Ports {
  let channel: BroadcastChannel | undefined;
  let bus: Bus | undefined;
  self.onconnect = ({ ports: [port] }) => {
    if (!port) return;
    // Now the page knows that the script is here.
    port.postMessage([HubKind.Loading, ''] satisfies HubMessage);
    serve(withPulse(batched(port), true));
  };
  return {
    // The bus is for a tab that cannot have this SharedWorker though others have it. Who has the
    // link serves it: two hubs on one bus would both answer.
    hold(isHeld, isMux) {
      if (isHeld === !!bus) return;
      bus?.close(isMux ? PageKind.Park : PageKind.Bye);
      channel?.close();
      channel = bus = undefined;
      const opened = isHeld ? openChannel(busName(self.name, self.location.href)) : undefined;
      if (!opened) return;
      channel = opened;
      // A port of this bus may be told something after the bus is closed.
      const post = (frame: HubFrame): void => {
        if (channel === opened) opened.postMessage(frame);
      };
      const served = (bus = makeBus(hostId(), serve, post, STAYS, move));
      opened.onmessage = ({ data }) => served.hear(data);
      // The tabs on the bus may be of a hub that is gone, and hear of no other.
      served.announce();
    },
  };
}

/** What ports are to post. Ports are forgotten when there is nothing left for any. */
const waiting = new Map<MessagePort, HubMessage[]>();
let isDue = false;
/** How often something was posted with no pause of a millisecond, and when that was last. */
let turns = 0;
let lastTurn = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/**
 * The same port, which posts together what it is given in one task. In a burst it posts once in a
 * millisecond: to pass a message to another process costs more than all else that is done for it.
 */
function batched(port: MessagePort): Port {
  const outer: Port = {
    onmessage: null,
    postMessage(message) {
      const messages = waiting.get(port) ?? [];
      waiting.set(port, messages);
      if (messages.push(message) === MAX_BATCH) return flush(messages, port);
      if (performance.now() - lastTurn >= 1) turns = 0;
      if (isDue) return;
      if (turns < TURNS) {
        isDue = true;
        queueMicrotask(turn);
      } else {
        timer ??= setTimeout(late, 1);
      }
    },
  };
  port.onmessage = (event: MessageEvent<unknown>) => {
    // Who asks is answered at once.
    turns = 0;
    const messages = waiting.get(port);
    // It goes into the back/forward cache, where nothing may be posted to it.
    if (messages && (event.data as unknown[])?.[0] === PageKind.Park) flush(messages, port);
    outer.onmessage?.(event);
  };
  return outer;
}

function turn(): void {
  isDue = false;
  turns += 1;
  waiting.forEach(flush);
  waiting.clear();
  lastTurn = performance.now();
}

function late(): void {
  timer = undefined;
  turn();
}

function flush(messages: HubMessage[], port: MessagePort): void {
  const all = messages.splice(0);
  const [only] = all;
  if (only) port.postMessage(all.length > 1 ? [SEVERAL, all] : only);
}

function openDedicated(serve: (port: Port) => void, retire: () => void): Ports {
  let bus: Bus | undefined;

  self.onmessage = ({ data }) => {
    if (data === 'retire') {
      bus?.close(PageKind.Park);
      // Who asks from now on, and is answered, takes this worker for a host that lives.
      bus = undefined;
      retire();
      setTimeout(() => self.close(), RETIRE_MS);
    } else if (typeof data?.[0] === 'string') {
      start(...data as Exclude<WorkerOrder, string>);
    } else {
      bus?.hear(data);
    }
  };

  const start = (name: string, ticks: boolean, host: bigint): void => {
    if (bus) return;
    const channel = name ? new BroadcastChannel(name) : self;
    bus = makeBus(host, serve, (frame) => channel.postMessage(frame), HERE);
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
  /** Nothing reaches its tabs any more: says this to the hub in the place of each. */
  close(leaving: PageKind.Park | PageKind.Bye): void;
}

/** The hub's end of the bus. `move`: an older host serves the bus, and this one is to end. */
function makeBus(
  me: bigint,
  serve: (port: Port) => void,
  post: (frame: HubFrame) => void,
  beat: typeof HERE | typeof STAYS,
  move = (): void => undefined,
): Bus {
  const ports = new Map<bigint, Port>();
  const isQuiet = quietness();
  const postTo = framing(me, post);

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

  const beats = setInterval(() => {
    // Nobody needs to know of one that no tab of the bus is at, and that depends on none.
    if (!isQuiet() && (beat === HERE || ports.size)) post([[], beat, me]);
  }, BEAT_MS);

  /** Another host serves the bus as well: the younger one ends. */
  const meet = ([, said, other]: HubFrame): void => {
    const isBeat = said === HERE || said === STAYS;
    if (other === me || !isBeat && said[0] !== HubKind.Resync) return;
    const mine = { _id: me, _stays: beat === STAYS };
    // The page of a host that ends hears the beat of the one that goes on.
    if (wins(mine, { _id: other, _stays: said === STAYS }, !!self.navigator.locks)) {
      post([[], beat, me]);
    } else {
      move();
    }
  };

  return {
    hear(frame) {
      const quiet = isQuiet();
      if (isHubFrame(frame)) return quiet ? undefined : meet(frame);
      if (!isTabFrame(frame)) return ignore();
      const [tab, message, to] = frame;
      if (frame.length < 2) return post([[tab], beat, me]);
      if (to !== undefined && to !== me) return;
      portOf(tab, message).onmessage?.({ data: message } as MessageEvent);
    },
    announce: () => post([[], resync(), me]),
    close(leaving) {
      clearInterval(beats);
      post([[], GONE, me]);
      // Not at once: the hub may be the one that closes this.
      const left = { data: [leaving] } as MessageEvent;
      queueMicrotask(() => [...ports.values()].forEach((port) => port.onmessage?.(left)));
    },
  };
}

/** Returns what makes one frame of a message that is posted to several tabs one after another. */
function framing(me: bigint, post: (frame: HubFrame) => void) {
  let waiting: HubFrame | undefined;
  const flush = (): void => {
    if (waiting) post(waiting);
    waiting = undefined;
  };
  return (tab: bigint, message: HubMessage): void => {
    if (waiting && waiting[1] === message) {
      waiting[0].push(tab);
      return;
    }
    flush();
    waiting = [[tab], message, me];
    queueMicrotask(flush);
  };
}

/**
 * Returns what tells whether this host is to say nothing of itself: others may have taken the place
 * of one that stood still, and its page is about to hear of it.
 */
function quietness(): () => boolean {
  let ranAt = performance.now();
  let quietUntil = 0;
  return () => {
    const now = performance.now();
    if (now - ranAt > SILENCE_MS) quietUntil = now + QUIET_MS;
    ranAt = now;
    return now < quietUntil;
  };
}

const isHubFrame = (frame: unknown): frame is HubFrame =>
  Array.isArray(frame) && Array.isArray(frame[0]) && frame.length === 3 &&
  typeof frame[2] === 'bigint';

const isTabFrame = (frame: unknown): frame is TabFrame =>
  Array.isArray(frame) && typeof frame[0] === 'bigint' &&
  frame[0] === BigInt.asUintN(64, frame[0]) && frame.length <= 3 &&
  (frame.length < 3 || typeof frame[2] === 'bigint');
