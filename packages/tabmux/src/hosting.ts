// One hub of a worker and all it holds. It carries bytes and facts between ports, locks, the link
// and the wasm module, and decides nothing.

import { makeHub } from './bindings.js';
import type { Hub, Shell } from './bindings.js';
import { takeLinkLock, takeTagLock } from './link_lock.js';
import type { LinkLock } from './link_lock.js';
import type { Port } from './ports.js';
import { refused, withPolicy } from './policy.js';
import { askFromNowOn, doubt } from './pulse.js';
import { HubKind, Limit, PageKind, hubLock, tabLock } from './protocol.js';
import type { Data, HubConfig, HubMessage, PageMessage } from './protocol.js';
import { Relay } from './relay.js';
import type { RelayShell } from './relay.js';

type Of<Kind extends PageKind> = Extract<PageMessage, { 0: Kind }>;
type AttachMessage = Of<PageKind.Attach>;

declare const self: WorkerGlobalScope & typeof globalThis;

/**
 * So much of a claim is looked at. Real ones, with what was found, have half of it; any script may
 * have spoilt what was found, which is no reason to keep the page away.
 */
const MAX_CLAIM = 512;

/** How long a tab of an earlier hub may take to attach, where no lock tells whether it lives. */
const ABSENT_MS = 10_000;

/** The code by which a server closes that would refuse a link. */
const REFUSED = 1008;

/** Tabs that were given up, and are remembered since they may come back. */
const MAX_GIVEN_UP = 256;

/** What is called of the wasm module, of which mode `exclusive` has a part. */
type Told = Pick<Hub, 'attach' | 'park' | 'bye' | 'open' | 'sendText' | 'sendBinary' | 'close' |
  'tabLockGranted'> & Partial<Pick<Hub, 'visible' | 'answer' | 'credit' | 'got' |
  'subscribe' | 'unsubscribe' | 'whose' | 'logout' | 'tagTaken' | 'trap' | 'wake' |
  'networkChanged' | 'linkLockGranted' |
  'linkOpened' | 'linkText' | 'linkBinary' | 'linkClosed' | 'linkTo' | 'reconnect' | 'renew' |
  'rules' | 'reset' | 'who'>>;

/** What a hub needs of its worker. */
export interface HostWorld {
  /** The hub may dial now, or may not any more. */
  hold(isHeld: boolean, isMux: boolean): void;
  /** Keeps an entry of a trace, where one is wanted. */
  readonly record: ((hub: bigint, entry: Uint8Array) => void) | undefined;
  /** The module is in an unknown state, and this hub at its end. */
  trapped(host: Host, error: unknown): void;
}

/** One hub and all it holds. */
export class Host implements RelayShell, Shell {
  readonly id = random();
  /** The port of each tab, and which one that was of all that were served. */
  readonly tabs = new Map<bigint, [port: Port, age: number]>();
  readonly #hub: Told;
  readonly #watches = new Map<bigint, AbortController>();
  /** Attached tabs of which no lock tells whether they live. */
  readonly #unlocked = new Set<bigint>();
  /** Tabs that were given up by their lock though they had not left, the last `MAX_GIVEN_UP`. */
  readonly #givenUp = new Set<bigint>();
  /** What waits to be posted until it is known who has so many locks. */
  #waiting: (() => void)[] = [];
  #waits = 0;
  #alive = true;
  #letGo = (): void => undefined;
  /** Whose the link is, as far as it is known, and what gives the lock of that back. */
  #tag: string;
  #releaseTag: (() => void) | undefined;
  readonly #locks: LockManager | undefined;
  #linkLock: LinkLock | undefined;
  #link: WebSocket | undefined;
  /** The last question whose the browser is. */
  #who: WebSocket | undefined;
  /** Where the next link goes: a URL, and sub-protocols behind it. Nobody writes it down. */
  #address: string[];
  /** What a page told last of who its user is. Nobody writes it down either. */
  #credentials = '';
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly config: HubConfig, readonly world: HostWorld) {
    const { mode, url, protocols, rules, key, tag, shows } = config;
    this.#address = [url, ...protocols];
    this.#tag = tag;
    this.#hub = mode === 'exclusive' ? new Relay(this)
      // Pages that name their user never share a hub with those of another.
      : makeHub(this, mode === 'mux', this.id, random(), url,
        rules.shareBy !== undefined || !!shows, !key, tag, world.record !== undefined);
    const { replayLast = 0, linger = 0, reconnect } = rules;
    const { minMs = 500, maxMs = 30_000, attempts = 10 } = reconnect || { attempts: 0 };
    if (mode === 'mirror') {
      this.call((hub, now) =>
        hub.rules?.(now, replayLast, linger, minMs, maxMs, attempts) ?? -1);
    }
    this.#locks = config.locks ? self.navigator.locks : undefined;
    if (!this.#isOnline()) this.tellNetwork();
    if (this.#locks === undefined) return;
    this.#waits = 1;
    let isHeld = false;
    const goOn = (): void => {
      if (!isHeld) this.#goOn();
      isHeld = true;
    };
    const locks = this.#locks;
    const hold = (): Promise<void> =>
      locks.request(hubLock(this.id), () => {
        goOn();
        return new Promise<void>((letGo) => (this.#letGo = letGo));
      });
    hold()
      // Stolen: whoever waits for it thinks that this hub is dead, and comes back.
      .catch(() => isHeld ? hold() : undefined)
      // Refused, as some engines do where storage is: go on without.
      .catch(() => undefined)
      .then(() => this.#alive && goOn());
  }

  /** It is known who has one of the locks that what is to be posted waits for. */
  #goOn(): void {
    if (!(this.#waits -= 1)) this.#waiting.splice(0).forEach((post) => post());
  }

  /** Ends the shared connection for all tabs. */
  reset(): void {
    this.call((hub, now) => hub.reset?.(now) ?? -1);
  }

  attach(port: Port, age: number, [, tab, config, claim, ...has]: AttachMessage): void {
    if (config.lock !== this.config.lock) {
      const text = `tabmux: this worker serves ${this.config.lock}, not ${config.lock}`;
      port.postMessage([HubKind.Failed, text]);
      return;
    }
    // Ports keep their order, two of them none: what a page said before it asked for another port
    // may come after what it said there, and that page no longer listens to the first.
    if ((this.tabs.get(tab)?.[1] ?? 0) > age) return;
    // What was said on another port may be lost. In mux mode it is said again.
    if (config.mode !== 'mux' && !has[0] && this.tabs.has(tab)) {
      this.call((hub, now) => hub.bye(now, tab));
    }
    this.tabs.set(tab, [port, age]);
    // One that was given up and is back had another lock than this worker saw.
    if (!config.locks || this.#givenUp.delete(tab)) this.#unlocked.add(tab);
    if (this.#unlocked.has(tab)) askFromNowOn(port);
    this.call((hub, now) => hub.attach(now, tab, claim.slice(0, MAX_CLAIM), ...has));
  }

  message(tab: bigint, message: Exclude<PageMessage, AttachMessage>): void {
    this.call((hub, now) => {
      switch (message[0]) {
        case PageKind.Park:
          return hub.park(now, tab);
        case PageKind.Bye:
          return hub.bye(now, tab);
        case PageKind.Open:
          return hub.open(now, tab, message[1], message[2], message[3], message[4].join());
        case PageKind.Send:
          if (this.config.mode !== 'exclusive' && isTooLarge(message[3])) {
            return this.#tooLarge(hub, now, tab, message[1], message[2]);
          }
          return typeof message[3] === 'string'
            ? hub.sendText(now, tab, message[1], message[2], message[3])
            : hub.sendBinary(now, tab, message[1], message[2], message[3]);
        case PageKind.Close:
          return hub.close(now, tab, message[1], message[2], message[3], message[4]);
        case PageKind.Credit:
          return hub.credit?.(now, tab, message[1], message[2], message[3]) ?? -1;
        case PageKind.Got:
          return hub.got?.(now, tab, message[1], message[2]) ?? -1;
        case PageKind.Subscribe:
          return hub.subscribe?.(now, tab, message[1], message[2], message[3], message[4]) ?? -1;
        case PageKind.Unsubscribe:
          return hub.unsubscribe?.(now, tab, message[1]) ?? -1;
        case PageKind.Reconnect:
          return hub.reconnect?.(now, tab) ?? -1;
        case PageKind.Whose:
          return hub.whose?.(now, tab) ?? -1;
        case PageKind.Logout:
          return hub.logout?.(now, tab) ?? -1;
        case PageKind.Wake:
          return hub.visible?.(now, tab, this.#isOnline(message[1])) ?? -1;
        case PageKind.Answer:
          return hub.answer?.(now, tab, message[1], ...this.#answered(message)) ?? -1;
        case PageKind.Renew:
          return hub.renew?.(now, tab) ?? -1;
        case PageKind.Pong:
          return -1;
        case PageKind.Trap:
          hub.trap?.();
          return -1;
      }
    });
  }

  /** Keeps what a page told. Returns why it told nothing, and whether it is new. */
  #answered([, , address, failure, shown]: Of<PageKind.Answer>): [failure: string, fresh: boolean] {
    if (!failure && encode(shown).length > Limit.Credentials) {
      failure = `credentials have ${Limit.Credentials} bytes at most`;
    }
    const before = `${this.#address} ${this.#credentials}`;
    if (!failure) {
      if (address[0]) this.#address = address;
      this.#credentials = shown;
    }
    return [failure, before !== `${this.#address} ${this.#credentials}`];
  }

  tellNetwork(): void {
    this.call((hub, now) => hub.networkChanged?.(now, this.#isOnline()) ?? -1);
  }

  /** A server of this machine needs no network. */
  #isOnline(said = self.navigator.onLine !== false): boolean {
    return said || /^wss?:\/\/(localhost|127\.|\[::1])/.test(this.#address[0] ?? '');
  }

  #tooLarge(hub: Told, now: number, tab: bigint, n: number, socket: number): number {
    const text = `tabmux: a message has ${Limit.Outbox} bytes at most`;
    const port = this.tabs.get(tab)?.[0];
    port?.postMessage([HubKind.Error, this.id, socket, text]);
    port?.postMessage([HubKind.Ended, this.id, socket, 1006, 0, '']);
    return hub.close(now, tab, n, socket, 0, '');
  }

  /** Tells the hub a fact. It has given all its orders when this returns. */
  call(fact: (hub: Told, now: number) => number): void {
    if (!this.#alive) return;
    let wakeAt;
    try {
      wakeAt = fact(this.#hub, performance.now());
    } catch (error) {
      return this.#trapped(error);
    }
    clearTimeout(this.#timer);
    if (wakeAt >= 0) {
      // Never early: timers count whole milliseconds.
      const wait = Math.max(0, Math.ceil(wakeAt - performance.now()));
      this.#timer = setTimeout(() => this.#wake(), Math.min(wait, 0x7fff_ffff));
    }
  }

  #wake(): void {
    this.call((hub, now) =>
      hub.wake?.(now, this.#attempt, this.#link?.bufferedAmount ?? 0) ?? -1);
  }

  /** A trap leaves the module in an unknown state: the worker throws it away. */
  #trapped(error: unknown): void {
    this.#stop();
    this.world.trapped(this, error);
    this.#letGo();
  }

  /** Another host serves the tabs: they are to go there. */
  move(): void {
    this.tellAll([HubKind.Moved, this.id]);
  }

  /** The worker ends. What was said to the link is said. */
  end(): void {
    this.#stop();
    this.#letGo();
  }

  #stop(): void {
    this.#alive = false;
    clearTimeout(this.#timer);
    if (this.#hub instanceof Relay) this.#hub.end();
    this.#link?.close();
    this.releaseLock();
    this.#watches.forEach((watch) => watch.abort());
  }

  /** Tells all tabs. */
  tellAll(news: HubMessage): void {
    this.tabs.forEach(([port]) => port.postMessage(news));
  }

  // The orders of the hub.

  post(tabs: BigUint64Array, kind: HubKind, numbers: Float64Array, data?: Data): void {
    // The bytes lie in the module's memory: a copy of them, not of all of it, is to be sent.
    this.#post([...tabs], kind, [...numbers], data?.slice());
  }

  tell(tab: bigint, kind: HubKind, numbers: number[], data?: Data): void {
    this.#post([tab], kind, numbers, data);
  }

  #post(tabs: bigint[], kind: HubKind, numbers: number[], data?: Data): void {
    if (typeof data === 'string' && kind !== HubKind.Message && kind !== HubKind.Mirror) {
      data = withPolicy(data);
    }
    const parts: unknown[] = kind === HubKind.Failed ? [kind] : [kind, this.id, ...numbers];
    if (data !== undefined) parts.push(data);
    const message = parts as HubMessage;
    const to = tabs.map((tab) => this.tabs.get(tab)?.[0]);
    const post = (): void => to.forEach((port) => port?.postMessage(message));
    if (this.#waits) this.#waiting.push(post);
    else post();
  }

  requestLock(): void {
    this.#linkLock = takeLinkLock(this.#locks, this.config.lock, {
      granted: (again) => {
        this.#hold(true);
        this.call((hub, now) =>
          (again ? hub.networkChanged?.(now, this.#isOnline()) : hub.linkLockGranted?.(now)) ?? -1);
      },
      // Another hub has the link now. This one dials in vain until the lock comes back.
      stolen: () => {
        this.#hold(false);
        this.#link?.close();
      },
      moved: () => this.tellAll([HubKind.Moved, this.id]),
      taken: () => this.#taken(),
    });
  }

  #hold(isHeld: boolean): void {
    this.world.hold(isHeld, this.config.mode === 'mux');
  }

  /** Takes the lock of the key and this tag. Nobody hears of a session before it is held. */
  takeTag(tag: string): void {
    this.#tag = tag;
    this.#waits += 1;
    this.#releaseTag = takeTagLock(this.#locks, this.config.lock + '#' + tag, (isMine) => {
      // What was to be posted is of a session that ends, and all tabs hear where to go.
      if (!isMine) this.#waiting = [];
      this.#goOn();
    }, () => this.#taken());
  }

  /** Another hub has the lock of the key and tag. */
  #taken(): void {
    this.call((hub, now) => hub.tagTaken?.(now) ?? -1);
  }

  /** An address with the tag that this hub knows. What stands for nobody is none. */
  #shown(url = ''): string {
    return /^[\w-]+$/.test(this.#tag)
      ? `${url}${url.includes('?') ? '&' : '?'}identity=${this.#tag}` : url;
  }

  releaseLock(): void {
    this.#hold(false);
    this.#releaseTag?.();
    this.#releaseTag = undefined;
    this.#linkLock?.release();
    this.#linkLock = undefined;
  }

  openLink(attempt: number): void {
    this.#attempt = attempt;
    // Whether the browser said `error`: pages say the same of a socket that was open.
    let failed = false;
    const closed = (code: number, reason: string, clean: boolean): void =>
      this.call((hub, now) => hub.linkClosed?.(now, attempt, code, reason, clean, failed) ?? -1);
    let link: WebSocket;
    if (this.#linkLock?.isStolen) return queueMicrotask(() => closed(1006, '', false));
    const [url = '', ...protocols] = this.#address;
    try {
      link = new WebSocket(this.#shown(url), protocols);
    } catch {
      refused(url);
      return queueMicrotask(() => closed(1006, '', false));
    }
    this.#link = link;
    link.binaryType = 'arraybuffer';
    link.onopen = () => {
      this.call((hub, now) =>
        hub.linkOpened?.(now, attempt, link.protocol, link.extensions) ?? -1);
    };
    link.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      const name = nameIn(data, this.config.rules.routeBy);
      this.call((hub, now) => (typeof data === 'string'
        ? name === undefined ? hub.linkText?.(now, attempt, data)
          : hub.linkTo?.(now, attempt, name, data)
        : hub.linkBinary?.(now, attempt, new Uint8Array(data))) ?? -1);
    };
    link.onclose = ({ code, reason, wasClean }) => closed(code, reason, wasClean);
    // Chromium says no more than this where the worker's own policy forbids the connection. Else
    // `close` follows in the same task and says how; for the hub the attempt is over then.
    link.onerror = () => {
      failed = true;
      setTimeout(() => closed(1006, '', false));
    };
  }

  /** Asks beside the link, by a WebSocket whose cookies are those of this moment. */
  askWho(): void {
    let said = '';
    const told = (text: string): void => this.call((hub, now) => hub.who?.(now, text) ?? -1);
    try {
      const { href, search } = new URL(this.#shown(this.#address[0]));
      const who = this.#who = new WebSocket(new URL('who' + search, href));
      who.onmessage = ({ data }) => (said = `${data}`);
      // One that comes after the hub gave up on it tells nothing of now.
      who.onclose = ({ code }) =>
        this.#who === who && told(said || (code === REFUSED ? 'refused' : ''));
    } catch {
      // Firefox and WebKit throw when the worker's own policy forbids the connection.
      queueMicrotask(() => told(''));
    }
  }

  /** Shows a ticket by a WebSocket whose cookies are those of a native socket of this path. */
  showTicket(ticket: string, path: string): void {
    try {
      const { protocol, host } = new URL(this.#address[0] ?? '');
      const short = new WebSocket(`${protocol}//${host}${path}`, ['tabmux.ticket', ticket]);
      // A WebSocket that nobody listens to may be collected before it is open.
      short.onclose = () => undefined;
    } catch {
      // The worker's own policy forbids it: the server refuses the socket, and says what it lacks.
    }
  }

  sendLink(attempt: number, data: string | Uint8Array): void {
    if (attempt === this.#attempt) this.#link?.send(data as Uint8Array<ArrayBuffer>);
  }

  sendShown(attempt: number, bytes: Uint8Array): void {
    this.sendLink(attempt, new Uint8Array([...bytes, ...encode(this.#credentials)]));
  }

  closeLink(attempt: number, code: number, reason: string): void {
    if (attempt !== this.#attempt) return;
    if (code === 0) this.#link?.close();
    else this.#link?.close(code, reason);
  }

  watchTab(tab: bigint): void {
    if (this.#locks === undefined && !this.tabs.has(tab)) {
      // It was of another hub. If it lives, it is on its way.
      setTimeout(() => {
        if (!this.tabs.has(tab)) this.call((hub, now) => hub.tabLockGranted(now, tab));
      }, ABSENT_MS);
    }
    if (this.#locks === undefined || this.#watches.has(tab) || this.#unlocked.has(tab)) return;
    const abort = new AbortController();
    this.#watches.set(tab, abort);
    // Shared, since another hub may wait for it too, and be frozen when it gets it.
    this.#locks
      .request(tabLock(tab), { mode: 'shared', signal: abort.signal }, () => {
        // Returning lets go of it at once: the tab may be on its way back.
        this.#watches.delete(tab);
        const dead = (): void => this.call((hub, now) => hub.tabLockGranted(now, tab));
        const port = this.tabs.get(tab)?.[0];
        if (!port) return dead();
        doubt(port, (wasHere) => {
          if (wasHere) this.#giveUp(tab);
          dead();
        }, () => this.#unlocked.add(tab));
      })
      .catch(() => undefined);
  }

  /** Remembers the last of those that were silent when they were doubted. Most of them are dead. */
  #giveUp(tab: bigint): void {
    this.#givenUp.add(tab);
    const [oldest] = this.#givenUp;
    if (this.#givenUp.size > MAX_GIVEN_UP) this.#givenUp.delete(oldest as bigint);
  }

  dropTab(tab: bigint): void {
    this.tabs.delete(tab);
    this.#unlocked.delete(tab);
    this.#watches.get(tab)?.abort();
    this.#watches.delete(tab);
  }

  log(line: string): void {
    console.info(line);
  }

  record(entry: Uint8Array): void {
    this.world.record?.(this.id, entry);
  }
}

/** The text in that field of a message, if the message is a JSON text that has one. */
function nameIn(data: unknown, field?: string): string | undefined {
  if (field === undefined || typeof data !== 'string') return;
  try {
    const { [field]: name } = Object(JSON.parse(data)) as Record<string, unknown>;
    return typeof name === 'string' ? name : undefined;
  } catch {
    // No JSON.
    return;
  }
}

/**
 * A message that is too large is not even copied into the module, whose memory all tabs share and
 * which cannot give it back.
 */
function isTooLarge(data: string | Uint8Array): boolean {
  // A UTF-16 unit takes one to three bytes of UTF-8: most texts need not be measured.
  if (typeof data === 'string' && data.length <= Limit.Outbox && data.length * 3 > Limit.Outbox) {
    return encode(data).length > Limit.Outbox;
  }
  return data.length > Limit.Outbox;
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

function random(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
}
