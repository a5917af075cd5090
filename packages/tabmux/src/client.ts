// The client of a tabmux server.

import { HubKind, LinkState, PageKind, hex } from './protocol.js';
import type { HubMessage, Of } from './protocol.js';
import { NO_WORKER, post, tierOf } from './life.js';
import { addPeer, hubPort, removePeer } from './port.js';
import type { HubPort, SharingOptions, Wish } from './port.js';
import { emit, linkUrl } from './socket.js';
import type { Tier } from './host.js';
import { socketUrl } from './url.js';

/** The second argument of `connect`. */
export interface ConnectOptions extends SharingOptions {
  /** The address of the link. Default: `/tabmux/ws` on the host of the URL. */
  endpoint?: string | URL | undefined;
  /** Closes the client. */
  signal?: AbortSignal | undefined;
}

/** How the client stands with the server. It does not change: another state is another object. */
export interface Status {
  /**
   * `idle`: nobody needs the link; `connecting`; `connected`; `backoff`: it failed and is tried
   * again soon; `closed`: this client is closed, or there is no hub.
   */
  readonly state: 'idle' | 'connecting' | 'connected' | 'backoff' | 'closed';
  /** How the hub is hosted. */
  readonly tier: Tier;
  /** The hub: 16 hexadecimal digits, empty until it is known. */
  readonly hubId: string;
  /** Tabs of this browser at the same hub. */
  readonly tabs: number;
  /** Why the state is what it is; empty when there is nothing to say. */
  readonly reason: string;
}

/** What a client tells its listeners. */
export interface ClientEvents {
  /** Something in `status` has changed. */
  status: Status;
  /** The server said something to all tabs of this browser. */
  message: { readonly data: string | Uint8Array };
  /** The server said something to all tabs that this one missed, for it was away for too long. */
  gap: object;
}

/** A place in a topic. Offsets grow within an epoch; another epoch is another history. */
export interface Position {
  readonly epoch: number;
  readonly offset: number;
}

/** What a topic tells its listeners. */
export interface TopicEvents {
  /** A publication. */
  message: { readonly data: string | Uint8Array; readonly position: Position };
  /** Publications up to this position may be missing: fetch the state of things anew. */
  gap: { readonly position: Position };
  /** The server or the hub has ended the subscription, or there is no hub any more. */
  end: { readonly reason: string };
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

/** This tab's subscription to a topic. All tabs of a browser share one at the server. */
export interface Topic extends Listenable<TopicEvents> {
  readonly name: string;
  /**
   * Where the topic was when it was subscribed: everything after it comes as `message`, or is told
   * as `gap`. Rejects when the topic is refused, when the client is closed before, and where there
   * is no hub.
   */
  readonly ready: Promise<Position>;
  /** Ends it. */
  close(): void;
}

/** A client of a tabmux server. All tabs of a browser share one link. */
export interface Client extends Listenable<ClientEvents> {
  /** The same object until something in it changes. */
  readonly status: Status;
  /** Subscribes to a topic, whose name has 1 to 256 bytes. */
  topic(name: string): Topic;
  /** Leaves the link. The link goes with its last tab. */
  close(): void;
}

const STATES: Record<LinkState, Status['state']> =
  ['idle', 'connecting', 'connected', 'backoff', 'closed'];

/** Connects to the tabmux server that serves `url`. Where there are no workers: closed. */
export function connect(url: string | URL, options: ConnectOptions = {}): Client {
  const { endpoint, signal } = options;
  const target = new EventTarget();
  let hub: HubPort | undefined;
  let reason = '';
  let number = 0;
  /** What `status` returned last. */
  let last: Status | undefined;
  const receive = (message: HubMessage): unknown =>
    message[0] === HubKind.Browser ? emit(target, 'message', { data: message[3].slice() })
      : message[0] === HubKind.BrowserGap ? emit(target, 'gap')
        // No news to a client, whose messages and topics do not end with a session.
        : message[0] === HubKind.Lost || emit(target, 'status', { _status: client.status });
  const closers = new Set<() => void>();
  const client: Client = {
    get status(): Status {
      const state = STATES[hub?._state ?? LinkState.Closed];
      const status = {
        state,
        tier: hub ? tierOf(hub) : 'direct',
        hubId: hex(hub?._hub),
        tabs: hub?._tabs ?? 0,
        reason: hub?._reason ?? reason,
      };
      return JSON.stringify(last) === JSON.stringify(status) ? last as Status : (last = status);
    },
    on: listenTo(target),
    topic(name) {
      const { state, reason } = client.status;
      const topic = makeTopic(state === 'closed' ? undefined : hub, name, reason, closers);
      closers.add(topic.close);
      return topic;
    },
    close() {
      const left = hub;
      hub = undefined;
      closers.forEach((close) => close());
      if (!left) return;
      removePeer(left, number);
      emit(target, 'status', { _status: client.status });
    },
  };
  if (globalThis.Worker) {
    hub = hubPort('mux', linkUrl(socketUrl(url), endpoint), [], options);
    number = addPeer(hub, receive);
    signal?.addEventListener('abort', client.close);
    if (signal?.aborted) client.close();
  } else {
    reason = NO_WORKER;
  }
  return client;
}

/** Without a hub the reason tells why. */
function makeTopic(
  hub: HubPort | undefined,
  name: string,
  reason: string,
  closers: Set<() => void>,
): Topic {
  const target = new EventTarget();
  const wish: Wish = [PageKind.Subscribe, name, -1, 0];
  let settle: [resolve: (position: Position) => void, reject: (error: Error) => void];
  let number = 0;
  /** The last gap that was told: a hub that was asked twice tells it twice. */
  let gap: Position | undefined;
  const topic: Topic = {
    name,
    ready: new Promise((...both) => (settle = both)),
    on: listenTo(target),
    close: () => end(`tabmux: the subscription to ${name} is closed`),
  };
  // Who does not ask is not told of an error that nobody handles.
  topic.ready.catch(() => undefined);
  const end = (reason: string): void => {
    settle[1](new Error(reason));
    closers.delete(topic.close);
    if (!hub || !number) return;
    post(hub, [PageKind.Unsubscribe, number]);
    removePeer(hub, number);
    number = 0;
  };
  if (hub) {
    number = addPeer(hub, (message) => {
      const [kind] = message;
      if (kind === HubKind.Failed || kind === HubKind.Unsubscribed) {
        const reason = message.at(-1) as string;
        end(reason);
        return emit(target, 'end', { reason });
      }
      if (kind < HubKind.Subscribed || kind > HubKind.Gap) return;
      const [, , , epoch, offset, data] = message as Of<HubKind.Publication>;
      // Heard before, from another hub.
      if (kind === HubKind.Publication && epoch === wish[2] && offset <= wish[3]) return;
      const position = { epoch, offset };
      // A hub that was asked twice may name an earlier place, and what follows that again.
      if (epoch !== wish[2] || offset > wish[3]) [wish[2], wish[3]] = [epoch, offset];
      if (kind === HubKind.Subscribed) settle[0](position);
      else if (kind === HubKind.Gap) {
        if (gap?.epoch !== epoch || gap.offset !== offset) emit(target, 'gap', { position });
        gap = position;
      } else emit(target, 'message', { data, position });
    }, wish);
  } else {
    end(reason || 'tabmux: the client is closed');
  }
  return topic;
}

/** The `on` of something whose events are dispatched on a target. */
const listenTo = (target: EventTarget): Listenable<Record<string, never>>['on'] =>
  (type, notify, { signal } = {}) => {
    const wrapped = (event: Event & { _status?: Status }): void =>
      notify((event._status ?? event) as never);
    target.addEventListener(type, wrapped, { signal } as AddEventListenerOptions);
    return () => target.removeEventListener(type, wrapped);
  };
