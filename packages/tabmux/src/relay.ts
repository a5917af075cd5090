// Mode `exclusive`: the worker passes on what each socket of a page says, and what it hears. It
// stands in the place of the wasm module, and takes the same calls, as far as this mode has them.

import { refused } from './policy.js';
import { HubKind, LinkState } from './protocol.js';
import type { Data } from './protocol.js';

/** How soon a socket is looked at again that holds bytes which are not sent. */
const LOOK_MS = 25;

/** How long a tab whose lock was granted may take to say that it is parked. */
const GRACE_MS = 500;

/** How long a tab may stay in the back/forward cache. */
const PARKED_MS = 600_000;

/** What the hub of mirror mode says of a connection that the browser failed. */
const broken = (url: string): string =>
  `tabmux: the browser closed the connection to ${url}: what the server sent is against the ` +
  'WebSocket protocol';

/** What a relay needs of the worker. */
export interface RelayShell {
  /** Posts `[kind, hub, ...numbers, data]` to a tab. */
  tell(tab: bigint, kind: HubKind, numbers: number[], data?: Data): void;
  watchTab(tab: bigint): void;
  dropTab(tab: bigint): void;
}

/** One socket, and the messages of which it holds bytes: where each ends, and its number. */
interface Line {
  readonly link: WebSocket;
  readonly held: [end: number, n: number][];
  /** All bytes that it was given. */
  given: number;
}

interface Tab {
  readonly lines: Map<number, Line>;
  /** How many of its messages came, and how many were posted that have a place in its lane. */
  said: number;
  count: number;
  isParked: boolean;
  /** Runs when it is taken for dead. */
  end?: ReturnType<typeof setTimeout> | undefined;
}

/** The sockets of all tabs of one worker, which are those of one page. */
export class Relay {
  readonly #tabs = new Map<bigint, Tab>();
  #looks: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly shell: RelayShell) {}

  attach(_now: number, tab: bigint): number {
    // A tab that is back begins anew: its connections were closed when it left.
    this.#close(tab);
    this.#tabs.set(tab, { lines: new Map(), said: 0, count: 0, isParked: false });
    this.shell.watchTab(tab);
    this.shell.tell(tab, HubKind.Attached, [LinkState.Idle, 1]);
    this.shell.tell(tab, HubKind.Renew, [0, 1], '');
    return -1;
  }

  /** The worker may stand still from now on, and a server that hears nothing is to be told. */
  park(_now: number, tab: bigint): number {
    const it = this.#tabs.get(tab);
    if (!it) return -1;
    it.isParked = true;
    it.lines.forEach(({ link }) => link.close());
    this.#endIn(PARKED_MS, tab, it);
    return -1;
  }

  bye(_now: number, tab: bigint): number {
    this.#close(tab);
    this.shell.dropTab(tab);
    return -1;
  }

  tabLockGranted(now: number, tab: bigint): number {
    const it = this.#tabs.get(tab);
    if (it && !it.isParked) this.#endIn(GRACE_MS, tab, it);
    else if (!it) this.bye(now, tab);
    return -1;
  }

  open(
    _now: number,
    tab: bigint,
    n: number,
    socket: number,
    url: string,
    protocols: string,
  ): number {
    const it = this.#next(tab, n);
    if (!it || it.lines.has(socket)) return -1;
    let link: WebSocket;
    try {
      link = new WebSocket(url, protocols ? protocols.split(',') : []);
    } catch {
      refused(url);
      queueMicrotask(() => this.#refused(tab, it, socket, url, 1006));
      return -1;
    }
    it.lines.set(socket, { link, held: [], given: 0 });
    link.binaryType = 'arraybuffer';
    let isOpen = false;
    link.onopen = () => {
      isOpen = true;
      const answer = `${link.protocol}\n${link.extensions}`;
      this.#tell(tab, it, HubKind.Joined, [socket, 0], answer);
    };
    link.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (it.isParked) return;
      this.#left(tab, it, socket);
      const body = typeof data === 'string' ? data : new Uint8Array(data);
      it.count += 1;
      this.shell.tell(tab, HubKind.Message, [socket, it.count, 0], body);
    };
    const closed = (code: number, reason: string, clean: boolean): void => {
      if (!it.lines.delete(socket)) return;
      if (isOpen) this.#ended(tab, it, socket, code, reason, clean);
      else this.#refused(tab, it, socket, url, code);
    };
    link.onclose = ({ code, reason, wasClean }) => closed(code, reason, wasClean);
    // Chromium says no more than this where the worker's own policy forbids the connection.
    link.onerror = () => {
      if (isOpen) this.#tell(tab, it, HubKind.Error, [socket], broken(url));
      setTimeout(() => closed(1006, '', false));
    };
    return -1;
  }

  sendText(_now: number, tab: bigint, n: number, socket: number, text: string): number {
    // A UTF-16 unit takes three bytes of UTF-8 at most. Only an estimate: what it is compared with
    // is 0 in the end.
    return this.#send(tab, n, socket, text, text.length);
  }

  sendBinary(_now: number, tab: bigint, n: number, socket: number, bytes: Uint8Array): number {
    return this.#send(tab, n, socket, bytes, bytes.length);
  }

  close(
    _now: number,
    tab: bigint,
    n: number,
    socket: number,
    code: number,
    reason: string,
  ): number {
    const link = this.#next(tab, n)?.lines.get(socket)?.link;
    if (code) link?.close(code, reason);
    else link?.close();
    return -1;
  }

  /** Ends all connections. */
  end(): void {
    clearTimeout(this.#looks);
    this.#tabs.forEach((it) => {
      clearTimeout(it.end);
      it.lines.forEach(({ link }) => link.close());
    });
    this.#tabs.clear();
  }

  #send(tab: bigint, n: number, socket: number, data: Data, size: number): number {
    const it = this.#next(tab, n);
    if (!it) return -1;
    const line = it.lines.get(socket);
    if (!line || line.link.readyState !== WebSocket.OPEN) {
      this.#tell(tab, it, HubKind.Passed, [socket, n]);
      return -1;
    }
    line.link.send(data as Uint8Array<ArrayBuffer>);
    line.given += size;
    line.held.push([line.given, n]);
    this.#looks ??= setTimeout(() => this.#look(), 0);
    return -1;
  }

  /** Tells the tabs what their sockets no longer hold. */
  #look(): void {
    let holds = false;
    this.#tabs.forEach((it, tab) => it.lines.forEach((line, socket) => {
      this.#left(tab, it, socket);
      holds ||= line.held.length > 0;
    }));
    this.#looks = holds ? setTimeout(() => this.#look(), LOOK_MS) : undefined;
  }

  /**
   * Tells a tab what its socket no longer holds. An echo calls this first, so that the page finds
   * `bufferedAmount` at 0 when it hears the echo.
   */
  #left(tab: bigint, it: Tab, socket: number): void {
    const line = it.lines.get(socket);
    if (!line) return;
    const buffered = line.link.bufferedAmount;
    let passed;
    while (line.held[0] && (line.held[0][0] <= line.given - buffered || !buffered)) {
      passed = line.held.shift();
    }
    if (passed) this.#tell(tab, it, HubKind.Passed, [socket, passed[1]]);
  }

  /** The tab, if this is the next of its messages. */
  #next(tab: bigint, n: number): Tab | undefined {
    const it = this.#tabs.get(tab);
    if (!it || n !== it.said + 1) return undefined;
    it.said = n;
    return it;
  }

  #refused(tab: bigint, it: Tab, socket: number, url: string, code: number): void {
    this.#tell(tab, it, HubKind.Error, [socket],
      `tabmux: the WebSocket to ${url} could not be opened (code ${code}): the server is not ` +
      "there, it refused this page's origin, or the connect-src of the policy on " +
      "worker.js's own response forbids it");
    this.#ended(tab, it, socket, 1006, '', false);
  }

  #ended(
    tab: bigint,
    it: Tab,
    socket: number,
    code: number,
    reason: string,
    clean: boolean,
  ): void {
    this.#tell(tab, it, HubKind.Passed, [socket, it.said]);
    this.#tell(tab, it, HubKind.Ended, [socket, code, +clean], reason);
  }

  /** Nothing may be posted to a page in the back/forward cache. */
  #tell(tab: bigint, it: Tab, kind: HubKind, numbers: number[], data?: Data): void {
    if (!it.isParked) this.shell.tell(tab, kind, numbers, data);
  }

  /** Ends the connections of a tab. */
  #close(tab: bigint): void {
    const it = this.#tabs.get(tab);
    if (!it) return;
    clearTimeout(it.end);
    it.isParked = true;
    it.lines.forEach(({ link }) => link.close());
    this.#tabs.delete(tab);
  }

  #endIn(wait: number, tab: bigint, it: Tab): void {
    clearTimeout(it.end);
    it.end = setTimeout(() => this.bye(0, tab), wait);
  }
}
