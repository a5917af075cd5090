// The server of a test bed. In mirror and exclusive mode it stands for any WebSocket server. In mux
// mode and for clients it stands for a tabmux server.

import type { Data } from '../protocol.js';
import type { Clock } from './clock.js';

/** The server's end of a connection (mirror or exclusive mode) or a virtual socket (mux mode). */
export interface ServerSocket {
  readonly mode: 'mirror' | 'mux' | 'exclusive';
  readonly url: string;
  /** The sub-protocols that the page offered. The server chooses the first. */
  readonly protocols: readonly string[];
  readonly isOpen: boolean;
  /** All messages that the server has received. */
  readonly received: readonly Data[];
  /** Resolves with the next message that was not returned yet. */
  next(): Promise<Data>;
  /**
   * Sends a message. Resolves once the pages have it. If latency is set, that takes virtual time.
   */
  send(data: Data): Promise<void>;
  close(code?: number, reason?: string): Promise<void>;
  /** Resolves with the code and the reason once either end has closed the socket. */
  readonly closed: Promise<{ code: number; reason: string }>;
}

/** The server of the test bed, as a test sees it. */
export interface TestServer {
  /** The open sockets, oldest first. */
  readonly sockets: readonly ServerSocket[];
  /** Resolves with the next socket of this URL that was not returned yet. */
  socket(url?: string): Promise<ServerSocket>;
  /** Publishes to a topic. Resolves once the subscribed pages have the publication. */
  publish(topic: string, data: Data): Promise<void>;
  /** Sends a message to all tabs of the browser. Each client emits a `message`. */
  broadcast(data: Data): Promise<void>;
  /** Forgets a topic's history. A page that comes back to the topic gets a gap. */
  forget(topic: string): void;
  /**
   * Returns the reason why a socket or a topic is refused, or nothing to accept it. Set it before
   * the page asks.
   */
  refuse: (what: { socket?: string; topic?: string }) => string | undefined;
  /** Time that each message takes in either direction, in milliseconds of virtual time. */
  latency: number;
}

/** The hub's end of a socket. */
export interface Wire {
  deliver(data: Data): void;
  end(code: number, reason: string): void;
}

/** A socket, with the members that only the hub uses. */
export interface InnerSocket extends ServerSocket {
  heard(data: Data): void;
  ended(code: number, reason: string): void;
}

/** A publication in a topic's history. */
export interface Publication {
  readonly offset: number;
  readonly data: Data;
}

/** The server's state of a topic. */
export interface TestTopic {
  epoch: number;
  last: number;
  /** The publications that follow offset `from`. */
  history: Publication[];
}

/** The server as the hubs see it. */
export interface InnerServer extends TestServer {
  topic(name: string): TestTopic;
  accept(mode: ServerSocket['mode'], url: string, protocols: string[], wire: Wire): InnerSocket;
  /** Restarts the server, which forgets all topics. */
  restart(): void;
  /** Tells the hubs that a topic has a new publication. */
  onPublish: (topic: string) => void;
  onBroadcast: (data: Data) => void;
}

/** Throws if `data` is no `Data`. A test in JavaScript may pass anything. */
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
