// The client of a tabmux server.

import { HubKind, LinkState, hex } from './protocol.js';
import { NO_SHARED_WORKER, hubPort } from './port.js';
import type { HubPort, SharingOptions } from './port.js';
import { emit, linkUrl } from './socket.js';
import type { Tier } from './socket.js';
import { socketUrl } from './url.js';

/** The second argument of `connect`. */
export interface ConnectOptions extends SharingOptions {
  /** The address of the link. Default: `/tabmux/ws` on the host of the URL. */
  endpoint?: string | URL | undefined;
  /** Closes the client. */
  signal?: AbortSignal | undefined;
}

/** How the client stands with the server. */
export interface Status {
  /**
   * `idle`: nobody needs the link; `connecting`; `connected`; `backoff`: it failed and is tried
   * again soon; `closed`: this client is closed, or there is no hub.
   */
  state: 'idle' | 'connecting' | 'connected' | 'backoff' | 'closed';
  /** How the hub is hosted. */
  tier: Tier;
  /** The hub: 16 hexadecimal digits, empty until it is known. */
  hubId: string;
  /** Tabs of this browser at the same hub. */
  tabs: number;
  /** Why the state is what it is; empty when there is nothing to say. */
  reason: string;
}

/** What a client tells its listeners. */
export interface ClientEvents {
  /** Something in `status` has changed. */
  status: Status;
  /** The server said something to all tabs of this browser. */
  message: { readonly data: string | Uint8Array };
}

/** A client of a tabmux server. All tabs of a browser share one link. */
export interface Client {
  readonly status: Status;
  /** Calls `listener` for each event until the signal says stop, or the returned function does. */
  on<K extends keyof ClientEvents>(
    type: K,
    listener: (event: ClientEvents[K]) => void,
    options?: { signal?: AbortSignal | undefined },
  ): () => void;
  /** Leaves the link. The link goes with its last tab. */
  close(): void;
}

const STATES: Record<LinkState, Status['state']> =
  ['idle', 'connecting', 'connected', 'backoff', 'closed'];

/** Connects to the tabmux server that serves `url`. Where there is no SharedWorker: closed. */
export function connect(url: string | URL, options: ConnectOptions = {}): Client {
  const { endpoint, signal } = options;
  const target = new EventTarget();
  let hub: HubPort | undefined;
  let reason = '';
  let number = 0;
  const receive = (kind: HubKind, _a = 0, _b = 0, data: string | Uint8Array = ''): void =>
    kind === HubKind.Browser
      ? emit(target, 'message', { data })
      : emit(target, 'status', { _status: client.status });
  const client: Client = {
    get status(): Status {
      const state = STATES[hub ? hub._state : LinkState.Closed];
      return {
        state,
        tier: 'shared-worker',
        hubId: hub?._hub ? hex(hub._hub) : '',
        tabs: hub?._tabs ?? 0,
        reason: hub?._reason ?? reason,
      };
    },
    on(type, notify, { signal } = {}) {
      const wrapped = (event: Event & { _status?: Status }): void =>
        notify((event._status ?? event) as never);
      target.addEventListener(type, wrapped, { ...(signal && { signal }) });
      return () => target.removeEventListener(type, wrapped);
    },
    close() {
      const left = hub;
      hub = undefined;
      left?._remove(number);
      if (left) receive(HubKind.State);
    },
  };
  if (globalThis.SharedWorker) {
    hub = hubPort('mux', linkUrl(socketUrl(url), endpoint), [], options);
    number = hub._add(receive);
    signal?.addEventListener('abort', client.close);
    if (signal?.aborted) client.close();
  } else {
    reason = NO_SHARED_WORKER;
  }
  return client;
}
