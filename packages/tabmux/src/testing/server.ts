// The server of a test bed: any WebSocket server for mirror and exclusive mode, and a tabmux server
// for mux mode and clients.

import type { Data } from '../protocol.js';
import type { Clock } from './clock.js';

/** A connection (mirror or exclusive mode) or a virtual socket (mux mode), as a server sees it. */
export interface ServerSocket {
  readonly mode: 'mirror' | 'mux' | 'exclusive';
  readonly url: string;
  /** The sub-protocols that the page offered. The server takes the first. */
  readonly protocols: readonly string[];
  readonly isOpen: boolean;
  /** All that came. */
  readonly received: readonly Data[];
  /** Resolves with the next message that was not returned yet. */
  next(): Promise<Data>;
  /** Resolves once the pages have heard it. With latency, they hear it when time passes. */
  send(data: Data): Promise<void>;
  close(code?: number, reason?: string): Promise<void>;
  /** How it ended, whoever ended it. */
  readonly closed: Promise<{ code: number; reason: string }>;
}

/** The server. */
export interface TestServer {
  /** The sockets that are open, the oldest first. */
  readonly sockets: readonly ServerSocket[];
  /** Resolves with the next socket, of this URL, that was not returned yet. */
  socket(url?: string): Promise<ServerSocket>;
  /** Publishes to a topic. Resolves once the pages have heard it. */
  publish(topic: string, data: Data): Promise<void>;
  /** Says something to all tabs of the browser: a `message` of each client. */
  broadcast(data: Data): Promise<void>;
  /** Forgets a topic's history: who comes back to it hears of a gap. */
  forget(topic: string): void;
  /** Why a socket or a topic is refused: a text, or nothing. Set it before the page asks. */
  refuse: (what: { socket?: string; topic?: string }) => string | undefined;
  /** How long each message takes in either direction, in milliseconds of virtual time. */
  latency: number;
}

/** What a hub tells a socket of the server, and is told by it. */
export interface Wire {
  deliver(data: Data): void;
  end(code: number, reason: string): void;
}

/** A socket with what only the hub uses. */
export interface InnerSocket extends ServerSocket {
  heard(data: Data): void;
  ended(code: number, reason: string): void;
}

/** A publication in a topic's history. */
export interface Publication {
  readonly offset: number;
  readonly data: Data;
}

/** What the server knows of a topic. */
export interface TestTopic {
  epoch: number;
  last: number;
  /** Publications since the one before `from`. */
  history: Publication[];
}

/** The server as hubs see it. */
export interface InnerServer extends TestServer {
  topic(name: string): TestTopic;
  accept(mode: ServerSocket['mode'], url: string, protocols: string[], wire: Wire): InnerSocket;
  /** Forgets all topics. */
  restart(): void;
  /** Calls hubs: a publication, or something for all tabs, is there. */
  onPublish: (topic: string) => void;
  onBroadcast: (data: Data) => void;
}

/** Throws at what `Data` excludes, which a test in JavaScript may give all the same. */
function checkData(call: string, data: Data): void {
  if (typeof data === 'string' || data instanceof Uint8Array) return;
  throw new TypeError(`tabmux/testing: ${call} takes a string or a Uint8Array, not ${typeof data}`);
}

export function makeServer(clock: Clock): InnerServer {
  const sockets: InnerSocket[] = [];
  const fresh: InnerSocket[] = [];
  const waiting: { url: string | undefined; take: (socket: InnerSocket) => void }[] = [];
  const topics = new Map<string, TestTopic>();
  const matches = (socket: InnerSocket, url?: string): boolean =>
    url === undefined || socket.url === url || socket.url.endsWith(url);
  const server: InnerServer = {
    sockets,
    latency: 0,
    refuse: () => undefined,
    onPublish: () => undefined,
    onBroadcast: () => undefined,
    socket(url) {
      const index = fresh.findIndex((socket) => matches(socket, url));
      const [found] = index < 0 ? [] : fresh.splice(index, 1);
      return found ? Promise.resolve(found)
        : new Promise((take) => waiting.push({ url, take }));
    },
    topic(name) {
      const known = topics.get(name) ?? { epoch: 1, last: 0, history: [] };
      topics.set(name, known);
      return known;
    },
    publish(name, data) {
      checkData('publish', data);
      const topic = server.topic(name);
      topic.history.push({ offset: topic.last += 1, data });
      server.onPublish(name);
      return clock.settled();
    },
    forget(name) {
      server.topic(name).history = [];
    },
    restart() {
      for (const topic of topics.values()) {
        topic.epoch += 1;
        topic.history = [];
      }
    },
    broadcast(data) {
      checkData('broadcast', data);
      server.onBroadcast(data);
      return clock.settled();
    },
    accept(mode, url, protocols, wire) {
      const socket = makeSocket(clock, mode, url, protocols, wire, () => {
        sockets.splice(sockets.indexOf(socket), 1);
      });
      sockets.push(socket);
      const index = waiting.findIndex((other) => matches(socket, other.url));
      const [waiter] = index < 0 ? [] : waiting.splice(index, 1);
      if (waiter) waiter.take(socket);
      else fresh.push(socket);
      return socket;
    },
  };
  return server;
}

function makeSocket(
  clock: Clock,
  mode: ServerSocket['mode'],
  url: string,
  protocols: string[],
  wire: Wire,
  forget: () => void,
): InnerSocket {
  const received: Data[] = [];
  const waiting: ((data: Data) => void)[] = [];
  let returned = 0;
  let isOpen = true;
  let told: (how: { code: number; reason: string }) => void;
  const closed = new Promise<{ code: number; reason: string }>((resolve) => (told = resolve));
  const ended = (code: number, reason: string): void => {
    if (!isOpen) return;
    isOpen = false;
    forget();
    told({ code, reason });
  };
  return {
    mode,
    url,
    protocols,
    received,
    closed,
    ended,
    get isOpen() {
      return isOpen;
    },
    heard(data) {
      received.push(data);
      const take = waiting.shift();
      if (!take) return;
      returned += 1;
      take(data);
    },
    next() {
      const data = received[returned];
      if (data === undefined) return new Promise((take) => waiting.push(take));
      returned += 1;
      return Promise.resolve(data);
    },
    send(data) {
      checkData('send', data);
      if (!isOpen) throw new Error('tabmux/testing: the socket is closed');
      wire.deliver(data);
      return clock.settled();
    },
    close(code = 1000, reason = '') {
      if (isOpen) wire.end(code, reason);
      ended(code, reason);
      return clock.settled();
    },
  };
}
