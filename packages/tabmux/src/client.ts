/// <reference lib="esnext.disposable" preserve="true" />
// The client of a tabmux server.

import { DISPOSE, closeOn } from './closing.js';
import { HubKind, LinkState, PageKind, hex } from './protocol.js';
import type { Data, HubMessage, Of } from './protocol.js';
import { NO_WORKER, hasWorkers, order, post, skipped, tierOf } from './life.js';
import { addPeer, logOut, removePeer } from './port.js';
import type { Peer, SharingOptions, Wish } from './port.js';
import { MISSING, linkPort } from './socket.js';
import { emit } from './event.js';
import type { Skipped, Tier } from './host.js';
import { fault } from './url.js';
import type { Given } from './url.js';

/** The second argument of `connect`. */
export interface ConnectOptions extends SharingOptions {
  /** The address of the link, or a function. Default: `/tabmux/ws` on the host of the URL. */
  endpoint?: Given<string | URL | undefined>;
  /**
   * What the link is called, in the place of its address: clients and sockets in mux mode that give
   * the same text share it. Needed where the URL or `endpoint` is a function, which one of the tabs
   * is asked before each dial.
   */
  shareBy?: string | undefined;
  /**
   * Who the user is, as the server is told: a token for example, or a function, also an async one.
   * One of the tabs is asked before each dial, and again before the credentials expire. They are in
   * no address and in no log. At most 8,192 bytes. Needs the option `key`: pages that give another
   * key, or no credentials, have another link.
   */
  credentials?: Given<string> | undefined;
  /** Closes the client. */
  signal?: AbortSignal | undefined;
}

/** The second argument of `connect` for what is not text or bytes. */
export interface DecodeOptions extends ConnectOptions {
  /**
   * Turns what the server sent into what listeners get, for example `JSON.parse`. It is called once
   * for each listener and each loop. They do not get a message for which it throws: the error is
   * reported like one of a listener.
   */
  decode: Decode;
}

/** See `DecodeOptions`. A method, so that a function of texts alone fits. */
export type Decode = { decode(data: string | Uint8Array): unknown }['decode'];

/** The types of what a server sends, for `connect`. Those of what `decode` returns. */
export interface Schema {
  /** What the server says to all tabs of a browser. */
  message?: unknown;
  /** What is published, by the name of the topic. */
  topics?: object;
}

/** The schema of a client without `decode`. */
export interface RawSchema {
  message: string | Uint8Array;
  topics: Record<string, string | Uint8Array>;
}

/** The names of a schema's topics. */
export type TopicName<S extends Schema> = keyof S['topics'] & string;

/** How the client stands with the server. It does not change: another state is another object. */
export interface Status {
  /**
   * `idle`: nobody needs the link; `connecting`; `connected`; `backoff`: it failed and is tried
   * again soon, or the server has no room for this tab yet, or ended it for a time, as `reason`
   * tells; `closed`: this client is closed, there is no hub, or the server refused this browser or
   * ended this tab for good.
   */
  readonly state: 'idle' | 'connecting' | 'connected' | 'backoff' | 'closed';
  /**
   * The identity tag of the user whose the link is. `undefined` for nobody, where the server knows
   * no users, and until it is known.
   */
  readonly user?: string | undefined;
  /** How the hub is hosted. */
  readonly tier: Tier;
  /** The hub: 16 hexadecimal digits, empty until it is known. */
  readonly hubId: string;
  /** Tabs of this browser at the same hub. */
  readonly tabs: number;
  /** The tiers that were skipped, and why. Empty where the first one works. */
  readonly tried: readonly Skipped[];
  /** Why the state is what it is; empty when there is nothing to say. */
  readonly reason: string;
}

/** What a client tells its listeners. */
export interface ClientEvents<M = string | Uint8Array> {
  /** Something in `status` has changed. */
  status: Status;
  /** The server said something to all tabs of this browser, or to this tab alone. */
  message: { readonly type: 'message'; readonly data: M };
  /** The server said something to all tabs that this one missed, for it was away for too long. */
  gap: { readonly type: 'gap' };
}

/** A place in a topic. Offsets grow within an epoch; another epoch is another history. */
export interface Position {
  readonly epoch: number;
  readonly offset: number;
}

/** The second argument of `topic`. */
export interface TopicOptions {
  /**
   * The last position that the page has, for example that of the state with which it was rendered.
   * Everything after it comes as `message`, or is told as `gap`. Without it: from now on.
   */
  since?: Position | undefined;
  /** Closes the topic. */
  signal?: AbortSignal | undefined;
}

/** What a topic tells its listeners. */
export interface TopicEvents<D = string | Uint8Array> {
  /** A publication. */
  message: { readonly type: 'message'; readonly data: D; readonly position: Position };
  /** Publications up to this position may be missing: fetch the state of things anew. */
  gap: { readonly type: 'gap'; readonly position: Position };
  /** The server or the hub has ended the subscription, or there is no hub any more. */
  end: { readonly type: 'end'; readonly reason: string };
}

/** Something with events. */
export interface Listenable<Events> {
  /** Calls `listener` for each event until the signal says stop, or the returned function does. */
  on<K extends keyof Events>(
    type: K,
    listener: (event: Events[K]) => void,
    options?: { signal?: AbortSignal | undefined },
  ): () => void;
}

/**
 * This tab's subscription to a topic. All tabs of a browser share one at the server.
 *
 * `for await (const event of topic)` gets messages and gaps, which `event.type` tells apart. The
 * loop ends when the topic is closed, and throws when the server ends the subscription. A loop
 * hears only what comes after it began. A loop that is 1,000 events behind gets a gap in their
 * place. Leaving the loop does not close the topic.
 */
export interface Topic<D = string | Uint8Array> extends Listenable<TopicEvents<D>>, Disposable {
  readonly name: string;
  /**
   * Where the topic goes on for this page: everything after it comes as `message`, or is told as
   * `gap`. With `since` that is `since`, or where a gap ends that comes first. Rejects when the
   * topic is refused, when the client is closed before, and where there is no hub.
   */
  readonly ready: Promise<Position>;
  /** Ends it. */
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<TopicEvents<D>['message' | 'gap'], void, void>;
}

/** A client of a tabmux server. All tabs of a browser share one link. */
export interface Client<S extends Schema = RawSchema>
  extends Listenable<ClientEvents<S['message']>>, Disposable {
  /** The same object until something in it changes. */
  readonly status: Status;
  /** Subscribes to a topic, whose name has 1 to 256 bytes. */
  topic<N extends TopicName<S>>(
    name: N,
    options?: TopicOptions,
  ): Topic<NonNullable<S['topics']>[N & keyof S['topics']]>;
  /**
   * The link is closed and dialled again, also where the server refused it for good, or ended this
   * tab. Nothing is lost. Calls of all tabs within a second are one. For a new token, or after a
   * log-in.
   */
  reconnect(): void;
  /**
   * Ends the session of this browser: all tabs at this hub lose their sockets, and their clients
   * are `closed` with the reason "logged out", until a page is loaded or calls `reconnect()`. Log
   * out of the application first: this ends no log-in.
   */
  logout(): void;
  /**
   * Shows the server newer credentials at once, on the link that is open. The server refuses those
   * of another user, and `status.reason` tells so. Where it refused this browser for good, the link
   * is dialled again if the credentials are others now.
   */
  renew(): void;
  /** Leaves the link. The link goes with its last tab. */
  close(): void;
}

const STATES: Record<LinkState, Status['state']> =
  ['idle', 'connecting', 'connected', 'backoff', 'backoff', 'closed', 'closed'];

/** So many events a loop over a topic may be behind. */
const MAX_BEHIND = 1000;

/** Connects to the tabmux server that serves `url`. Where there are no workers: closed. */
export function connect<S extends Schema>(
  url: Given<string | URL>,
  options: DecodeOptions,
): Client<S>;
export function connect(url: Given<string | URL>, options?: ConnectOptions): Client;
export function connect(
  url: Given<string | URL>,
  options: ConnectOptions & Partial<DecodeOptions> = {},
): Client {
  const { endpoint, signal, decode } = options;
  const target = new EventTarget();
  let peer: Peer | undefined;
  let reason = '';
  const left = new AbortController();
  /** The last reason that is in the console. */
  let warned: string | undefined;
  /** What `status` returned last. */
  let last: Status | undefined;
  const receive = (message: HubMessage): unknown => {
    // How far the module of the worker is, is no fault.
    const reason = message[0] === HubKind.Loading ? '' : peer?._hub._reason;
    if (warned !== (warned = reason) && warned) console.warn(warned);
    return message[0] === HubKind.Browser || message[0] === HubKind.Direct
      ? emit(target, 'message', { data: message[3].slice() })
      : message[0] === HubKind.BrowserGap ? emit(target, 'gap')
        // No news to a client, whose messages and topics do not end with a session.
        : message[0] === HubKind.Lost || emit(target, 'status', { _status: client.status });
  };
  const close = (): void => {
    const old = peer;
    peer = undefined;
    left.abort();
    if (!old) return;
    removePeer(old);
    emit(target, 'status', { _status: client.status });
  };
  const client: Client = {
    get status(): Status {
      const hub = peer?._hub;
      const state = STATES[hub?._state ?? LinkState.Closed];
      const status = {
        state,
        // What stands for nobody has a point.
        user: hub?._user?.includes('.') ? undefined : hub?._user,
        tier: hub ? tierOf(hub) : 'direct',
        hubId: hex(hub?._hub),
        tabs: hub?._tabs ?? 0,
        tried: skipped(hub),
        reason: hub?._reason ?? reason,
      };
      return JSON.stringify(last) === JSON.stringify(status) ? last as Status : (last = status);
    },
    on: listenTo(target, decode),
    topic(name: string, options?: TopicOptions) {
      if (typeof name !== 'string') fault(MISSING);
      const why = peer?._hub._reason ?? reason;
      return makeTopic(peer, name, options?.since, why, decode, left.signal, options?.signal);
    },
    reconnect: () => order(peer?._hub),
    logout: () => logOut(peer?._hub),
    renew: () => order(peer?._hub, PageKind.Renew),
    close,
    [DISPOSE]: close,
  };
  closeOn(close, left, signal);
  if (!hasWorkers()) {
    reason = NO_WORKER;
  } else if (!signal?.aborted) {
    peer = addPeer(linkPort(url, endpoint, options), receive);
  }
  return client;
}

/** Without a hub, or with one that has failed, the reason tells why. */
function makeTopic(
  client: Peer | undefined,
  name: string,
  since: Position | undefined,
  reason: string,
  decode: Decode | undefined,
  ...signals: (AbortSignal | undefined)[]
): Topic {
  const target = new EventTarget();
  const wish: Wish = [PageKind.Subscribe, name, since?.epoch ?? -1, since?.offset ?? 0];
  let settle: [resolve: (position: Position) => void, reject: (error: Error) => void];
  let peer: Peer | undefined;
  const left = new AbortController();
  /** The last gap that was told: a hub that was asked twice tells it twice. */
  let gap: string | undefined;
  /** Why it ended; empty if it was closed. */
  let over: string | undefined;
  const end = (reason: string): void => {
    over ??= reason;
    settle[1](new Error(reason || `tabmux: topic ${name} is closed`));
    left.abort();
    if (peer) {
      post(peer._hub, [PageKind.Unsubscribe, peer._number]);
      removePeer(peer);
    }
    peer = undefined;
    emit(target, reason && 'end', { reason });
  };
  const close = (): void => end('');
  const topic: Topic = {
    name,
    ready: new Promise((...both) => (settle = both)),
    on: listenTo(target, decode),
    [Symbol.asyncIterator]: () => begun(iterate(topic.on as never, () => over)),
    close,
    [DISPOSE]: close,
  };
  // A page that does not read `ready` gets no error that nobody handles.
  topic.ready.catch(() => undefined);
  closeOn(close, left, ...signals);
  if (client && client._hub._state !== LinkState.Closed) {
    peer = addPeer(client._hub, (message) => {
      const [kind] = message;
      if (kind === HubKind.Failed || kind === HubKind.Unsubscribed) {
        return end(message.at(-1) as string);
      }
      if (kind < HubKind.Subscribed || kind > HubKind.Gap) return;
      const [, , , epoch, offset, data] = message as Of<HubKind.Publication>;
      const position = { epoch, offset };
      // A hub that was asked twice may name an earlier place, and what follows that again.
      const isOld = epoch === wish[2] && offset <= wish[3];
      // Heard before, from another hub.
      if (isOld && kind === HubKind.Publication) return;
      // A hub that is asked anew names its own place, and the gap up to there comes next: this tab
      // may leave between the two.
      if (kind > HubKind.Subscribed ? !isOld : wish[2] < 0) [wish[2], wish[3]] = [epoch, offset];
      if (kind === HubKind.Subscribed) settle[0](position);
      else if (kind === HubKind.Gap) {
        const place = `${epoch} ${offset}`;
        if (gap !== place) emit(target, 'gap', { position });
        gap = place;
      } else emit(target, 'message', { data, position });
    }, wish, client);
  } else {
    end(reason);
  }
  return topic;
}

/** The loop, whose listeners are there at once: its first `next` adds them. */
function begun(loop: AsyncGenerator<Item, void, void>): AsyncGenerator<Item, void, void> {
  void loop.next();
  return loop;
}

/**
 * What a `for await` over a topic gets. The first `next` listens, and returns nothing that a loop
 * may see. `over` tells why the topic has ended, if it has.
 */
async function* iterate(
  on: (type: string, listener: (event: Item) => void) => () => void,
  over: () => string | undefined,
): AsyncGenerator<Item, void, void> {
  let queue: Item[] = [];
  let wake: (() => void) | undefined;
  const offs = ['message', 'gap', 'end', ''].map((type) => on(type, (event) => {
    const { position } = event;
    if (position && queue.push(event) > MAX_BEHIND) queue = [{ type: 'gap', position }];
    wake?.();
  }));
  try {
    yield undefined as never;
    while (queue[0] || over() === undefined) {
      if (queue[0]) yield queue.shift() as Item;
      else await new Promise<void>((go) => (wake = go));
    }
    if (over()) throw new Error(over());
  } finally {
    offs.forEach((off) => off());
  }
}

type Item = TopicEvents['message' | 'gap'];

/** What an event has besides what listeners are shown. */
type Inner = Event & { _status?: Status; data?: Data };

/** The `on` of something whose events are dispatched on a target. */
const listenTo = (target: EventTarget, decode?: Decode): Listenable<Record<string, never>>['on'] =>
  (type, notify, options) => {
    const wrapped = (event: Inner): void => notify((
      event._status ?? (decode && event.data !== undefined
        ? { ...event, type, data: decode(event.data) }
        : event)
    ) as never);
    target.addEventListener(type, wrapped, options as AddEventListenerOptions);
    return () => target.removeEventListener(type, wrapped);
  };
