/// <reference lib="esnext.disposable" preserve="true" />
// The drop-in for WebSocket.

import { DISPOSE, closeOn } from './closing.js';
import { bytesOf, tagOf } from './data.js';
import { emit, inTask } from './event.js';
import { HubKind, Limit, LinkState, PageKind, hex } from './protocol.js';
import type { Data, Flag, HubMessage, Rules } from './protocol.js';
import { explain, loadMore, order, skipped, tierOf } from './life.js';
import { addPeer, hubPort, own, removePeer, say } from './port.js';
import type { Address, Credentials, HubPort, Peer, SharingOptions } from './port.js';
import { buffered, sizeOf } from './session.js';
import type { Skipped, Tier } from './host.js';
import { SECRET, ask, fault, socketUrl, subProtocols } from './url.js';
import type { Given } from './url.js';

export type { Reconnect, Rules } from './protocol.js';
export type { Given } from './url.js';

/** The third argument of `SharedWebSocket`. */
export interface SharedWebSocketOptions extends Omit<SharingOptions, 'key'>, Rules {
  /**
   * Who the user is, as in `SharingOptions`. A function is asked for each new socket, and again
   * when the page comes back from the back/forward cache: if the key is another one then, the
   * socket fails.
   */
  key?: string | (() => string | Promise<string>) | undefined;
  /**
   * What is shared. `mirror` (default): one connection for all tabs that name the same URL,
   * sub-protocols and key; every tab gets every message. Works with any WebSocket server. `mux`:
   * a socket of its own inside the one link to a tabmux server. `exclusive`: a connection of its
   * own, in the worker.
   */
  mode?: 'mirror' | 'mux' | 'exclusive' | undefined;
  /**
   * The address of the link (mux mode). A function needs `shareBy`, and is asked before each dial.
   * Default: `/tabmux/ws` on the host of the socket's URL.
   */
  endpoint?: Given<string | URL | undefined>;
  /** Who the user is, as in `ConnectOptions` (mux mode). */
  credentials?: Given<string> | undefined;
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
  /** The tiers that were skipped, and why. */
  tried: Skipped[];
  /** The name of this tab, for `routeBy`. Another one with each load of the page. */
  tabId: string;
}

/** The browser's own class, whatever takes its place later. */
const Native = globalThis.WebSocket;
/** What `SharedWebSocket.reset` ends. */
export interface Reset {
  url?: string | URL;
  /** The option of that name, if the sockets were given one: it takes the place of the URL. */
  shareBy?: string | undefined;
  /** The key that the sockets were given. Default: the empty text. */
  key?: string | undefined;
}

/** The name of this tab. */
const tabId = Math.random().toString(36).slice(2);

const UNOPENED = 'tabmux: closed before it was open';

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
  /** The connection broke, and there is a new one (option `reconnect`). */
  reconnect: Event;
}

type Type = keyof SharedWebSocketEventMap;
/** What a handler is read as: that of a `WebSocket`, whose place the class takes. */
type Handler<K extends keyof WebSocketEventMap> =
  ((this: WebSocket, event: WebSocketEventMap[K]) => unknown) | null;
/** What may be set as one. */
type OwnHandler<K extends Type> =
  ((this: SharedWebSocket, event: SharedWebSocketEventMap[K]) => unknown) | null;
interface HandlerObject {
  _value: { call?: (socket: unknown, event: Event) => unknown } | null;
  handleEvent(event: Event): void;
}
type Handlers = Partial<Record<Type, HandlerObject>>;

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

  // Private names: pages see no fields, a frozen socket works, and the methods throw for what is
  // no socket.
  /** Missing while the function that knows it was not asked in this page. */
  #url: URL | undefined;
  /** What people call it. What a function returned may be a secret. */
  readonly #name: string;
  /** Tells the URL and the sub-protocols. */
  readonly #find: Address;
  /** Missing until the key is known. */
  #peer: Peer | undefined;
  /** The sub-protocols that were offered. */
  #offered: string[] = [];
  /** The page's own socket: the last resort where no hub can be had. */
  #own: WebSocket | undefined;
  /** Dials a connection that is of this socket alone. */
  #dial: (() => void) | undefined;
  #state = State.Connecting;
  #protocol = '';
  #extensions = '';
  #binaryType: BinaryType = 'blob';
  #reused = false;
  /** Whether it stays open when its connection breaks. */
  #stays: boolean;
  /** Aborts when the socket is closed. */
  readonly #left = new AbortController();
  /** Bytes that `send` was given and that no hub was asked to send: what waits, and the late. */
  #held = 0;
  /** Why the socket fails, as far as it is known. */
  #error = '';
  /** Whether it was closed before it was open. */
  #unopened = false;
  /** What may be sent, without end in mirror mode. Below 1, messages wait. */
  #credit: number;
  /** Tells the message that waits for credit that there is some. */
  #wake: (() => void) | undefined;
  /** How many wait to be said: Blobs to be read, messages without credit, and what follows them. */
  #waiting = 0;
  /** Ends when all of them are. */
  #queue = Promise.resolve();
  /** What onopen and its like are. */
  readonly #handlers: Handlers = {};

  /**
   * @param url - where to, `ws:`, `wss:`, `http:`, `https:` or relative to the page; or a function
   *   that tells it before each dial, for a URL with a token that expires
   * @param protocols - sub-protocols to offer, or a function that tells them
   * @param options - what is shared, see {@link SharedWebSocketOptions}
   */
  constructor(
    url: Given<string | URL>,
    protocols: Given<string | string[]> = [],
    options?: SharedWebSocketOptions,
  ) {
    super();
    if (!arguments.length) fault(MISSING);
    // Scripts without types pass null for what they leave out.
    options ??= {};
    const { mode = 'mirror', endpoint, signal } = options;
    if (!MODES.includes(mode)) fault(`mode ${mode} is none of ${MODES}`);
    const { key, shareBy, routeBy, replayLast, linger, reconnect } = options;
    const [asksUrl, asksNames] = [url, protocols].map(isFunction);
    const isMux = mode === 'mux';
    const isMirror = mode === 'mirror';
    if (isMirror && (asksUrl || asksNames) && shareBy === undefined) fault(NAMELESS);
    if (!asksUrl) this.#url = socketUrl(url as string);
    if (!asksNames) this.#offered = subProtocols(protocols as string);
    this.#name = shareBy ?? this.#url?.href ?? SECRET;
    this.#find = async () => {
      const { href } = this.#url = socketUrl(await ask(url), this.#name);
      return [href, ...this.#offered = subProtocols(await ask(protocols), SECRET)];
    };
    closeOn(() => this.close(), this.#left, signal);
    this.#credit = isMux ? 0 : 1 / 0;
    const rules = isMirror ? { shareBy, routeBy, replayLast, linger, reconnect } : { shareBy };
    this.#stays = isMirror && !!reconnect;
    const join = (key?: string): void => {
      if (this.#state > State.Open) return;
      const old = this.#peer;
      const sharing = { ...options, key };
      const address = this.#url as URL;
      const hub = isMux ? linkPort(address, endpoint, sharing)
        : isMirror
          ? hubPort(mode, shareBy ?? address.href, this.#offered, sharing, rules, this.#find)
          : hubPort('exclusive', '', [], { ...sharing, key: own });
      if (hub._config.mode === 'exclusive') this.#dial = join;
      this.#reused = hub._state === LinkState.Connected;
      this.#peer = addPeer(hub,
        (message) => this.#receive(message),
        [PageKind.Open, isMux ? address.pathname + address.search : isMirror ? tabId : address.href,
          isMirror ? [] : this.#offered],
      );
      if (old) {
        say(old, PageKind.Close, 0, 0, '');
        removePeer(old);
      }
    };
    const fail = (text: unknown): void => this.#fail(`${text}`);
    const begin = (): unknown => (typeof key !== 'function' ? join(key)
      : loadMore(({ askKey }) => askKey(key, join, fail, this.#left.signal), fail));
    // What tabs do not share, this page alone must know.
    if (!isMirror && (asksUrl || asksNames)) this.#find().then(begin).catch(fail);
    else begin();
  }

  /** Ends a shared connection in all tabs: each socket closes with 1000 and the reason "reset". */
  static reset({ url, shareBy, key = '' }: Reset): void {
    const name = shareBy ?? socketUrl(url as string).href;
    loadMore(({ sendReset }) => sendReset(name, key));
  }

  /** A class whose sockets have these options, for libraries that take a class. */
  static with(options: SharedWebSocketOptions): typeof SharedWebSocket {
    // Not a class that extends this one: what a page does to its prototype must reach the sockets.
    return new Proxy(this, {
      construct: (target, given, as) => Reflect.construct(target,
        given.length ? [given[0], given[1], { ...options, ...given[2] }] : given, as),
    });
  }

  /** The URL. Empty while the function that knows it was not asked in this page. */
  get url(): string {
    return this.#url?.href ?? '';
  }

  get readyState(): 0 | 1 | 2 | 3 {
    return this.#state;
  }

  get protocol(): string {
    return this.#protocol;
  }

  get extensions(): string {
    return this.#extensions;
  }

  /** Bytes that `send` was given and that the worker has not handed to the connection yet. */
  get bufferedAmount(): number {
    return this.#held + (this.#peer && this.#state < State.Closed
      ? this.#own?.bufferedAmount ?? buffered(this.#peer._hub, this.#peer._number) : 0);
  }

  get binaryType(): BinaryType {
    return this.#binaryType;
  }

  set binaryType(type: BinaryType) {
    // Either way a private field is touched, which throws for what is no socket.
    this.#binaryType = /^(blob|arraybuffer)$/.test(type) ? type : this.#binaryType;
  }

  /** How the hub is hosted. */
  get tier(): Tier {
    return this.#own ? 'page' : tierOf(this.#peer?._hub);
  }

  /** How the connection is shared: the tabs, the hub, and whether the socket joined it. */
  get shared(): Shared {
    const { _tabs = 0, _hub } = this.#peer?._hub ?? {};
    const tried = skipped(this.#peer?._hub);
    return { tabs: _tabs, hubId: hex(_hub), reused: this.#reused, tried, tabId };
  }

  send(data: string | BufferSource | Blob): void {
    // Throws for what is no socket.
    const wasOpen = this.#state;
    if (!arguments.length) fault(MISSING);
    const blob = / (Blob|File)]$/.test(tagOf(data)) && (data as Blob);
    const body = blob ? '' : bytesOf(data as BufferSource) ?? `${data as string}`;
    if (!wasOpen) fault('not open yet', 'InvalidStateError');
    const size = blob ? blob.size : sizeOf(body);
    this.#held += size;
    if (this.#state > State.Open) return;
    const over = (): void => this.#fail('tabmux: over 16 MiB unsent');
    if (this.#credit < 1 && this.#held > Limit.Outbox) return over();
    this.#inOrder((bytes) => {
      if (this.#state > State.Closing) return;
      this.#credit -= size + Limit.Message;
      const data = bytes || body;
      if (this.#own) this.#own.send(data as string);
      else if (!say(this.#peer as Peer, PageKind.Send, size, data)) return over();
      this.#held -= size;
    }, true, blob);
  }

  /**
   * The connection, or the link in mux mode, is closed and dialled again. All sockets stay open,
   * and but for mux mode hear `reconnect`. For a new token, or after a log-in. Calls of all tabs
   * within a second are one. A connection of this socket alone (exclusive mode, tier `page`) is
   * dialled once at a time, and what is sent meanwhile waits.
   */
  reconnect(): void {
    if (!this.#dial) {
      if (this.#state < State.Closing) order(this.#peer?._hub);
    } else if (this.#state === State.Open && this.#credit) {
      this.#credit = 0;
      this.#find().then(() => this.#dial?.()).catch((error) => this.#fail(`${error}`));
    }
  }

  // Its length is 0, as in `WebSocket`.
  close(code: number | undefined = undefined, reason = ''): void {
    // First of all, as in `WebSocket`: this throws for what is no socket.
    const state = this.#state;
    // 0 stands for a code that was not given. What is no number becomes 1, which is refused below.
    const number = code === undefined ? 0 : Math.round(+code) || 1;
    const text = `${reason}`;
    if (number && number !== 1000 && !(number >= 3000 && number < 5000)) {
      fault('a code is 1000 or 3000-4999', 'InvalidAccessError');
    }
    if (sizeOf(text) > Limit.Reason) fault(`reason over ${Limit.Reason} bytes`, 'SyntaxError');
    if (state > State.Open) return;
    this.#state = State.Closing;
    if (state) this.#inOrder(() => this.#leave(number, number ? text : ''));
    else {
      this.#unopened = true;
      inTask(() => this.#fail(UNOPENED));
    }
  }

  /** Does it now, or after all that waits, once a Blob is read and there is credit, if it costs. */
  #inOrder(
    act: (bytes?: Uint8Array | false) => void,
    costs?: boolean,
    blob?: Blob | false,
  ): void {
    const waits = (): unknown => costs && this.#credit < 1;
    if (!blob && !this.#waiting && !waits()) return act();
    this.#waiting += 1;
    this.#queue = this.#queue.then(async () => {
      const bytes = blob && new Uint8Array(await blob.arrayBuffer());
      while (waits()) await new Promise<void>((wake) => (this.#wake = wake));
      this.#waiting -= 1;
      act(bytes);
    }).catch((error) => this.#fail(`tabmux: unreadable Blob: ${error}`));
  }

  #receive(message: HubMessage): void {
    if (message[0] === HubKind.Opened) {
      this.#credit += message[4];
      const [protocol] = message[5].split('\n');
      // The browser sees to this where the link is the server's own.
      if (!this.#state && this.#offered[0] && !protocol) {
        return this.#fail('tabmux: the server took none of the sub-protocols');
      }
      this.#opened(message[5]);
    } else if (message[0] === HubKind.Joined) {
      if (message[3]) {
        this.#reused = true;
        if (this.#offered[0]) loadMore(({ warnOf }) => warnOf(this.#protocol));
      }
      this.#opened(message[4]);
    } else if (message[0] === HubKind.Message) {
      this.#heard(message[5]);
    } else if (message[0] === HubKind.Mirror) {
      // The bytes are those of every view.
      this.#heard(message[2].slice());
    } else if (message[0] === HubKind.Credit) {
      this.#credit += message[4];
      this.#wake?.();
    } else if (message[0] === HubKind.Error) {
      this.#error = message[3].replaceAll(`${this.#url}`, this.#name);
    } else if (message[0] === HubKind.Closed || message[0] === HubKind.Ended) {
      explain(this.#state ? '' : this.#error, this.url, (text) => {
        if (text) this.#error = text;
        this.#end(...message.slice(-3) as [code: number, clean: Flag, reason: string]);
      });
    } else if (message[0] === HubKind.Failed ||
      message[0] === HubKind.Lost && this.#state && !this.#stays) {
      // The next session opens the sockets that are still connecting.
      this.#giveUp(message.at(-1) as string);
    } else if (message[0] === HubKind.State) {
      // A tab that there is no room for has no socket at the server.
      if (message[2] > LinkState.Backoff || message[2] === LinkState.Backoff && !this.#state) {
        this.#fail(message[4]);
      }
    }
  }

  /** There is no hub. What is still connecting needs none, but for a virtual socket. */
  #giveUp(reason: string): void {
    const peer = this.#peer as Peer;
    if (this.#state || peer._hub._isMux) return this.#fail(reason);
    console.warn(reason);
    removePeer(peer);
    this.#dial = () => {
      if (this.#state > State.Open) return;
      const old = this.#own;
      const own = (this.#own = new Native(this.url, this.#offered));
      old?.close();
      const now = <E>(act: (event: E) => void) => (event: E) => this.#own === own && act(event);
      own.binaryType = 'arraybuffer';
      own.onopen = now(() => this.#opened(own.protocol + '\n' + own.extensions));
      own.onmessage = now(({ data }) =>
        this.#heard(typeof data === 'string' ? data : new Uint8Array(data)));
      own.onerror = now(() => {
        this.#error = `${reason}; this page has no connection to ${this.#name} either`;
        // Chromium fires no `close` where the page's policy forbids the connection.
        setTimeout(now(() => this.#end()));
      });
      own.onclose = now(({ code, wasClean, reason }) => this.#end(code, wasClean, reason));
    };
    this.#find().then(this.#dial).catch((error: Error) =>
      this.#fail(`${reason} (${error.message})`));
  }

  #opened(answer: string): void {
    if (this.#state === State.Open) {
      this.#credit = 1 / 0;
      this.#wake?.();
      emit(this, 'reconnect');
    }
    if (this.#state) return;
    this.#state = State.Open;
    [this.#protocol = '', this.#extensions = ''] = answer.split('\n');
    emit(this, 'open');
  }

  #heard(body: Data): void {
    if (this.#state !== State.Open) return;
    emit(this, 'message', {
      data: typeof body === 'string' ? body
        : this.#binaryType === 'blob' ? new Blob([body as Uint8Array<ArrayBuffer>]) : body.buffer,
      origin: this.#url?.origin ?? '',
    }, MessageEvent);
  }

  #leave(code: number, reason: string): void {
    if (this.#own) this.#own.close(code || undefined, reason);
    else if (this.#peer) say(this.#peer, PageKind.Close, 0, code, reason);
  }

  #fail(text: string): void {
    this.#leave(0, '');
    this.#error = text;
    this.#end();
  }

  #end(code = 1006, clean: Flag | boolean = 0, reason = ''): void {
    if (this.#state === State.Closed) return;
    // The connection may be opened, and even closed, before this page hears of it.
    if (this.#unopened) [code, clean, reason, this.#error] = [1006, 0, '', UNOPENED];
    // `close()` is no failure.
    if (this.#error && this.#state < State.Closing) console.error(this.#error);
    this.#held = this.bufferedAmount;
    this.#state = State.Closed;
    this.#left.abort();
    if (this.#peer) removePeer(this.#peer);
    // As with `WebSocket`, an open connection that breaks ends without an error event.
    if (this.#error) emit(this, 'error', { message: this.#error });
    emit(this, 'close', { code, reason, wasClean: !!clean }, globalThis.CloseEvent);
  }

  static {
    const { prototype } = this;
    const { defineProperty, defineProperties, getOwnPropertyDescriptors } = Object;
    // A minifier takes the name of the class. The tag is that of the class whose place it takes.
    defineProperty(this, 'name', { value: 'SharedWebSocket' });
    defineProperty(prototype, Symbol.toStringTag, { value: 'WebSocket', configurable: true });
    ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].forEach((name, value) => {
      for (const target of [this, prototype]) {
        defineProperty(target, name, { value, enumerable: true });
      }
    });
    // https://html.spec.whatwg.org/#event-handler-attributes: a handler keeps its place among the
    // listeners until it is set to null; an object that cannot be called is kept, and not called.
    for (const type of ['open', 'message', 'error', 'close'] as const) {
      defineProperties(prototype, getOwnPropertyDescriptors({
        get ['on' + type]() {
          return (this as unknown as SharedWebSocket).#handlers[type]?._value ?? null;
        },
        set ['on' + type](value: HandlerObject['_value']) {
          const socket = this as unknown as SharedWebSocket;
          const handler = (socket.#handlers[type] ??= {
            _value: null,
            handleEvent: (event) => handler._value?.call?.(socket, event),
          });
          // A handler that is a listener already keeps its place.
          if ((handler._value = value === Object(value) ? value : null)) {
            socket.addEventListener(type, handler);
          } else {
            socket.removeEventListener(type, handler);
          }
        },
      }));
    }
    for (const [name, member] of Object.entries(getOwnPropertyDescriptors(prototype))) {
      if (name !== 'constructor') defineProperty(prototype, name, { ...member, enumerable: true });
    }
    prototype[DISPOSE] = prototype.close;
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

/** The port to the hub of the link that carries the sockets of this host. */
export function linkPort(
  url: Given<string | URL>,
  endpoint: Given<string | URL | undefined>,
  options: SharingOptions & Pick<Rules, 'shareBy'> & { credentials?: Credentials },
): HubPort {
  const { shareBy, key, credentials } = options;
  const at = (
    url: string | URL,
    endpoint: string | URL = new URL('/tabmux/ws', socketUrl(url, shareBy)),
  ): string => socketUrl(endpoint, shareBy).href;
  if (shareBy === undefined && [url, endpoint].some(isFunction)) fault(NAMELESS);
  // Nobody but the page can tell whose another page is that shows other credentials.
  if (!key && credentials !== undefined) fault('credentials need the option key');
  return hubPort('mux', shareBy ?? at(url as string, endpoint as string), [], options, { shareBy },
    async () => [at(await ask(url), await ask(endpoint))], credentials);
}

const isFunction = (given: unknown): boolean => typeof given === 'function';

/** The text of the error for a function without `shareBy`. */
const NAMELESS = 'a function needs the option shareBy';
