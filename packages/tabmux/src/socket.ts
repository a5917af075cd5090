/// <reference lib="esnext.disposable" preserve="true" />
// The drop-in for WebSocket.

import { DISPOSE, closeOn } from './closing.js';
import { HubKind, Limit, LinkState, PageKind, hex } from './protocol.js';
import type { Data, Flag, HubMessage } from './protocol.js';
import { tierOf } from './life.js';
import { addPeer, hubPort, removePeer, say } from './port.js';
import type { HubPort, SharingOptions } from './port.js';
import { buffered, sizeOf } from './session.js';
import type { Tier } from './host.js';
import { fault, socketUrl, subProtocols } from './url.js';

/** The third argument of `SharedWebSocket`. */
export interface SharedWebSocketOptions extends SharingOptions {
  /**
   * What is shared. `mirror` (default): one connection for all tabs that name the same URL,
   * sub-protocols and key; every tab gets every message. Works with any WebSocket server. `mux`:
   * a socket of its own inside the one link to a tabmux server. `exclusive`: a connection of its
   * own, in the worker.
   */
  mode?: 'mirror' | 'mux' | 'exclusive' | undefined;
  /** The address of the link (mux mode). Default: `/tabmux/ws` on the host of the socket's URL. */
  endpoint?: string | URL | undefined;
  /** Closes the socket, as `close()` does. */
  signal?: AbortSignal | undefined;
}

/** What a `SharedWebSocket` shares. */
export interface Shared {
  /** Tabs of this browser at the same hub. */
  tabs: number;
  /** The hub: 16 hexadecimal digits, empty until it is known. */
  hubId: string;
  /** Whether the connection was there before this socket. */
  reused: boolean;
}

const MODES = ['mirror', 'mux', 'exclusive'];
/** The text of the error for an argument that is missing. */
export const MISSING = 'no argument';

/** The `error` event of a `SharedWebSocket`. docs/errors.md lists the messages. */
export interface SocketErrorEvent extends Event {
  /** Why the socket fails. Begins with `tabmux:`, unless the text is one of the browser. */
  readonly message: string;
}

/** The events of a `SharedWebSocket`. */
export interface SharedWebSocketEventMap extends WebSocketEventMap {
  error: SocketErrorEvent;
}

type Type = keyof WebSocketEventMap;
/** What a handler is read as: that of a `WebSocket`, whose place the class takes. */
type Handler<K extends Type> = ((this: WebSocket, event: WebSocketEventMap[K]) => unknown) | null;
/** What may be set as one. */
type OwnHandler<K extends Type> =
  ((this: SharedWebSocket, event: SharedWebSocketEventMap[K]) => unknown) | null;
interface HandlerObject {
  _value: { call?: (socket: unknown, event: Event) => unknown } | null;
  handleEvent(event: Event): void;
}
type Handlers = Partial<Record<Type, HandlerObject>>;
type HasHandlers = EventTarget & { _handlers: Handlers };

const enum State {
  Connecting,
  Open,
  Closing,
  Closed,
}

/**
 * A `WebSocket` whose connection lives in a worker that all tabs of the browser share.
 * Same constructor, properties, events, constants and errors as `WebSocket`.
 */
export class SharedWebSocket extends EventTarget implements WebSocket {
  declare static readonly CONNECTING: 0;
  declare static readonly OPEN: 1;
  declare static readonly CLOSING: 2;
  declare static readonly CLOSED: 3;
  declare readonly CONNECTING: 0;
  declare readonly OPEN: 1;
  declare readonly CLOSING: 2;
  declare readonly CLOSED: 3;

  declare private readonly _url: URL;
  declare private readonly _hub: HubPort;
  declare private readonly _number: number;
  private _state = State.Connecting;
  private _protocol = '';
  private _extensions = '';
  private _binaryType: BinaryType = 'blob';
  private _reused = false;
  /** Aborts when the socket is closed. */
  private readonly _left = new AbortController();
  /** Bytes that `send` was given and that no hub was asked to send: what waits, and the late. */
  private _held = 0;
  /** Why the socket fails, as far as it is known. */
  private _error = '';
  /** What may be sent, without end in mirror mode. Below 1, messages wait. */
  declare private _credit: number;
  /** Tells the message that waits for credit that there is some. */
  declare private _wake: (() => void) | undefined;
  /** How many wait to be said: Blobs to be read, messages without credit, and what follows them. */
  private _waiting = 0;
  /** Ends when all of them are. */
  private _queue = Promise.resolve();
  /** What onopen and its like are. */
  protected readonly _handlers: Handlers = {};

  /**
   * @param url - where to, `ws:`, `wss:`, `http:`, `https:` or relative to the page
   * @param protocols - sub-protocols to offer
   * @param options - what is shared, see {@link SharedWebSocketOptions}
   */
  constructor(
    url: string | URL,
    protocols: string | string[] = [],
    options?: SharedWebSocketOptions,
  ) {
    super();
    if (!arguments.length) fault(MISSING);
    // Scripts without types pass null for what they leave out.
    options ??= {};
    const { mode = 'mirror', endpoint, signal } = options;
    if (!MODES.includes(mode)) fault(`mode ${mode} is none of ${MODES}`);
    const address = (this._url = socketUrl(url));
    const names = subProtocols(protocols);
    closeOn(() => this.close(), this._left, signal);
    const isMux = mode === 'mux';
    this._credit = isMux ? 0 : 1 / 0;
    this._hub = isMux ? hubPort(mode, linkUrl(address, endpoint), [], options)
      // A number is nobody's key.
      : hubPort('mirror', address.href, names, mode === 'mirror' ? options
        : { ...options, key: Math.random() as unknown as string });
    this._reused = this._hub._state === LinkState.Connected;
    this._number = addPeer(this._hub,
      (message) => this._receive(message),
      [PageKind.Open, isMux ? address.pathname + address.search : '', isMux ? names : []],
    );
  }

  get url(): string {
    return this._url.href;
  }

  get readyState(): 0 | 1 | 2 | 3 {
    return this._state;
  }

  get protocol(): string {
    return this._protocol;
  }

  get extensions(): string {
    return this._extensions;
  }

  /** Bytes that `send` was given and that the worker has not handed to the connection yet. */
  get bufferedAmount(): number {
    return this._held + (this._state < State.Closed ? buffered(this._hub, this._number) : 0);
  }

  get binaryType(): BinaryType {
    return this._binaryType;
  }

  set binaryType(type: BinaryType) {
    if (/^(blob|arraybuffer)$/.test(type)) this._binaryType = type;
  }

  /** How the hub is hosted. */
  get tier(): Tier {
    return tierOf(this._hub);
  }

  /** How the connection is shared: the tabs, the hub, and whether the socket joined it. */
  get shared(): Shared {
    const { _tabs, _hub } = this._hub;
    return { tabs: _tabs, hubId: hex(_hub), reused: this._reused };
  }

  send(data: string | BufferSource | Blob): void {
    if (!arguments.length) fault(MISSING);
    const blob = / (Blob|File)]$/.test(tagOf(data)) && (data as Blob);
    const body = blob ? '' : bytesOf(data as BufferSource) ?? `${data as string}`;
    if (!this._state) fault('not open yet', 'InvalidStateError');
    const size = blob ? blob.size : sizeOf(body);
    this._held += size;
    if (this._state > State.Open) return;
    const over = (): void => this._fail('tabmux: over 16 MiB unsent');
    if (this._credit < 1 && this._held > Limit.Outbox) return over();
    this._inOrder((bytes) => {
      if (this._state > State.Closing) return;
      this._credit -= size + Limit.Message;
      if (say(this._hub, PageKind.Send, this._number, size, bytes || body)) this._held -= size;
      else over();
    }, true, blob);
  }

  close(code?: number, reason = ''): void {
    // 0 stands for a code that was not given. What is no number becomes 1, which is refused below.
    const number = code === undefined ? 0 : Math.round(+code) || 1;
    const text = `${reason}`;
    if (number && number !== 1000 && !(number >= 3000 && number < 5000)) {
      fault('a code is 1000 or 3000-4999', 'InvalidAccessError');
    }
    if (sizeOf(text) > Limit.Reason) fault(`reason over ${Limit.Reason} bytes`, 'SyntaxError');
    if (this._state > State.Open) return;
    const wasOpen = this._state;
    this._state = State.Closing;
    if (wasOpen) this._inOrder(() => this._leave(number, number ? text : ''));
    else queueMicrotask(() => this._fail('tabmux: closed before it was open'));
  }

  /** Does it now, or after all that waits, once a Blob is read and there is credit, if it costs. */
  private _inOrder(
    act: (bytes?: Uint8Array | false) => void,
    costs?: boolean,
    blob?: Blob | false,
  ): void {
    const waits = (): unknown => costs && this._credit < 1;
    if (!blob && !this._waiting && !waits()) return act();
    this._waiting += 1;
    this._queue = this._queue.then(async () => {
      const bytes = blob && new Uint8Array(await blob.arrayBuffer());
      while (waits()) await new Promise<void>((wake) => (this._wake = wake));
      this._waiting -= 1;
      act(bytes);
    }).catch((error) => this._fail(`tabmux: unreadable Blob: ${error}`));
  }

  private _receive(message: HubMessage): void {
    if (message[0] === HubKind.Opened) {
      this._credit += message[4];
      this._opened(message[5]);
    } else if (message[0] === HubKind.Joined) {
      if (message[3]) this._reused = true;
      this._opened(message[4]);
    } else if (message[0] === HubKind.Message) {
      this._heard(message[5]);
    } else if (message[0] === HubKind.Mirror) {
      // The bytes are those of every view.
      this._heard(message[2].slice());
    } else if (message[0] === HubKind.Credit) {
      this._credit += message[4];
      this._wake?.();
    } else if (message[0] === HubKind.Error) {
      this._error = message[3];
    } else if (message[0] === HubKind.Closed || message[0] === HubKind.Ended) {
      this._end(...message.slice(-3) as [code: number, clean: Flag, reason: string]);
    } else if (message[0] === HubKind.Failed || message[0] === HubKind.Lost && this._state) {
      // The next session opens the sockets that are still connecting.
      this._fail(message.at(-1) as string);
    } else if (message[0] === HubKind.State) {
      if (message[2] === LinkState.Backoff && !this._state) this._fail(message[4]);
    }
  }

  private _opened(answer: string): void {
    if (this._state) return;
    this._state = State.Open;
    [this._protocol = '', this._extensions = ''] = answer.split('\n');
    emit(this, 'open');
  }

  private _heard(body: Data): void {
    if (this._state !== State.Open) return;
    emit(this, 'message', {
      data: typeof body === 'string' ? body
        : this._binaryType === 'blob' ? new Blob([body as Uint8Array<ArrayBuffer>]) : body.buffer,
      origin: this._url.origin,
    }, MessageEvent);
  }

  private _leave(code: number, reason: string): void {
    say(this._hub, PageKind.Close, this._number, 0, code, reason);
  }

  private _fail(text: string): void {
    this._leave(0, '');
    this._error = text;
    this._end();
  }

  private _end(code = 1006, clean: Flag = 0, reason = ''): void {
    if (this._state === State.Closed) return;
    // `close()` is no failure.
    if (this._error && this._state < State.Closing) console.error(this._error);
    this._held = this.bufferedAmount;
    this._state = State.Closed;
    this._left.abort();
    removePeer(this._hub, this._number);
    // As with `WebSocket`, an open connection that breaks ends without an error event.
    if (this._error) emit(this, 'error', { message: this._error });
    emit(this, 'close', { code, reason, wasClean: !!clean }, globalThis.CloseEvent);
  }
}

/** The handlers, and the typed forms of `addEventListener`, as `WebSocket` has them. */
export interface SharedWebSocket extends Disposable {
  get onopen(): Handler<'open'>;
  set onopen(handler: OwnHandler<'open'>);
  get onmessage(): Handler<'message'>;
  set onmessage(handler: OwnHandler<'message'>);
  get onerror(): Handler<'error'>;
  set onerror(handler: OwnHandler<'error'>);
  get onclose(): Handler<'close'>;
  set onclose(handler: OwnHandler<'close'>);
  addEventListener<K extends Type>(
    type: K,
    listener: (this: SharedWebSocket, event: SharedWebSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends Type>(
    type: K,
    listener: (this: SharedWebSocket, event: SharedWebSocketEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** The address of the link that carries the sockets of this host. */
export const linkUrl = (address: URL, endpoint: string | URL = new URL('/tabmux/ws', address)):
string => socketUrl(endpoint).href;

/** Dispatches an event. Not every runtime has every class of event. */
export function emit(
  target: EventTarget,
  type: string,
  init?: object,
  Class?: new (type: string, init?: object) => Event,
): void {
  target.dispatchEvent(Class ? new Class(type, init) : Object.assign(new Event(type), init));
}

/** What kind of object it is, also when it is of an iframe, whose classes are others. */
const tagOf = (data: unknown): string => ({}).toString.call(data);

/** A copy of the bytes of a buffer or a view; nothing for all else. */
const bytesOf = (data: Partial<ArrayBufferView> & BufferSource): Uint8Array | undefined =>
  / ArrayBuffer]$/.test(tagOf(data)) || ArrayBuffer.isView(data)
    ? new Uint8Array((data as DataView).buffer ?? data, (data as DataView).byteOffset,
      data.byteLength).slice()
    : undefined;

const { prototype } = SharedWebSocket;
const { defineProperty } = Object;

prototype[DISPOSE] = prototype.close;

['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].forEach((name, value) => {
  for (const target of [SharedWebSocket, prototype]) {
    defineProperty(target, name, { value, enumerable: true });
  }
});

// As https://html.spec.whatwg.org/#event-handler-attributes: a handler keeps its place among the
// listeners until it is set to null; an object that cannot be called is kept, and not called.
for (const type of ['open', 'message', 'error', 'close'] as const) {
  defineProperty(prototype, 'on' + type, {
    enumerable: true,
    configurable: true,
    get(this: HasHandlers) {
      return this._handlers[type]?._value ?? null;
    },
    set(this: HasHandlers, value: HandlerObject['_value'] | null) {
      const handler = (this._handlers[type] ??= {
        _value: null,
        handleEvent: (event) => handler._value?.call?.(this, event),
      });
      // A handler that is a listener already keeps its place.
      if ((handler._value = value === Object(value) ? value : null)) {
        this.addEventListener(type, handler);
      } else {
        this.removeEventListener(type, handler);
      }
    },
  });
}
