// What the page library and the worker say to each other over a port, and the names they agree on.
// This file is the only definition. Both sides are always of one build, since the page asks for the
// worker by the hash of its bytes, so there is no version here.

/** What a tab says to its hub: the first element of a `PageMessage`. */
export const enum PageKind {
  /** This tab is here. The first message on a port, and the first after `Resync`. */
  Attach,
  /** The page goes into the back/forward cache: nothing may be posted to it. */
  Park,
  /** The page is leaving, or it needs the hub no more. */
  Bye,
  /**
   * Opens a socket. In mirror mode the path is empty and there are no protocols. This and the next
   * two are counted by `n`, from 1 in each session. A hub ignores one that is not in its turn:
   * after `Resume` the page says again what was not seen.
   */
  Open,
  /** Sends a message on a socket. */
  Send,
  /** Closes a socket. Code 0: none was given. */
  Close,
  /** Subscribes to a topic, which the tab left at a position; epoch -1: it never heard of it. */
  Subscribe,
  /** Ends a subscription. */
  Unsubscribe,
  /** The answer to `Check`, with its counts: all that was posted before has been handled. */
  Got,
  /** The server may send so much more on a socket (mux mode). Counted as `Open` is. */
  Credit,
  /** Answers `Ping`; or asks for one. */
  Pong = 98,
  /**
   * Makes the hub trap. Only tests post it. It ships, so that what is tested is what is shipped:
   * who can post it is a script of the origin, which can harm its own origin anyway.
   */
  Trap = 99,
}

/** What a hub is for. The first tab tells it; every other tab says the same. */
export interface HubConfig {
  mode: 'mirror' | 'mux';
  /** What the hub dials. */
  url: string;
  /** The sub-protocols the link offers. */
  protocols: string[];
  /** The lock without which the hub does not dial. */
  lock: string;
  /** Whether locks tell who lives. Without them hub and tabs ask each other. */
  locks: boolean;
}

/** A message from a tab to its hub. */
export type PageMessage =
  | [kind: PageKind.Attach, tab: bigint, config: HubConfig, claim: string, last0: number,
    last: number]
  | [kind: PageKind.Park]
  | [kind: PageKind.Bye]
  | [kind: PageKind.Open, n: number, socket: number, path: string, protocols: string[]]
  | [kind: PageKind.Send, n: number, socket: number, data: string | Uint8Array]
  | [kind: PageKind.Close, n: number, socket: number, code: number, reason: string]
  | [kind: PageKind.Subscribe, number: number, name: string, epoch: number, offset: number]
  | [kind: PageKind.Unsubscribe, number: number]
  | [kind: PageKind.Got, count0: number, count: number]
  | [kind: PageKind.Credit, n: number, socket: number, bytes: number]
  | [kind: PageKind.Pong]
  | [kind: PageKind.Trap];

/** What a hub says to a tab: the second element of a `HubMessage`. */
export const enum HubKind {
  /** Answers `Attach`, once the hub runs. a: `LinkState`, b: tabs. */
  Attached,
  /** The link or the number of tabs changed. a: `LinkState`, b: tabs, data: reason. */
  State,
  /**
   * A socket is open. a: the count of the tab's lane, as in the next and in `Closed`, 0 if it is
   * not counted; b: in mux mode what may be sent before there is `Credit`, in mirror mode -1 if the
   * link was there before; data: protocol, newline, extensions.
   */
  Opened,
  /** A message on one socket. a: count, b: what it costs of the socket's credit. */
  Message,
  /** A message on every open socket of this tab (mirror mode). */
  Mirror,
  /** A socket is closed. a: count, b: code, and 10000 more if it was clean; data: reason. */
  Closed,
  /** Comes before `Closed`. data: the text of the `error` event. */
  Error,
  /** What this tab said was handed to the link. a: up to which n. */
  Sent,
  /** A message to all tabs of the browser. a: count of lane 0. */
  Browser,
  /** The hub does not know this port: attach again and say all wishes again. */
  Resync,
  /** There is no hub, whose id is given as 0. data: why. */
  Failed,
  /** A topic is subscribed. a: epoch, b: offset, data: not empty if the tab left it there. */
  Subscribed,
  /** A publication of a topic. a: epoch, b: offset. */
  Publication,
  /** Publications of a topic are missing here. a: epoch, b: offset, up to where. */
  Gap,
  /** A subscription is refused, or has ended. data: why. */
  Unsubscribed,
  /**
   * The other end knows this tab. a: what it said was received up to this n; the rest is to be said
   * again. b: -1 if the tab goes on with what it had; else its open sockets are lost, all counts
   * begin anew, and this is the count of lane 0. data: the claim for the next hub.
   */
  Resume,
  /** The session is lost, and with it all sockets that were open. data: why. */
  Lost,
  /** Has all that was posted been handled? a: count of lane 0, b: count. `Got` answers. */
  Check,
  /** What this tab said need not be kept. a: up to which n. */
  Seen,
  /** Messages to all tabs are missing here. */
  BrowserGap,
  /** More may be sent on a socket. a: count, as in `Opened`; b: how much more. */
  Credit,
  /** Another hub has the link: attach there, by the next tier. */
  Moved = 98,
  /** Asks a tab that holds no lock whether it lives. */
  Ping,
}

/** The state of a hub's link, as `Attached` and `State` tell it. */
export const enum LinkState {
  Idle,
  Connecting,
  Connected,
  Backoff,
  Closed,
}

/**
 * A message from a hub to a tab, always of this shape, unused places 0 or ''. The number is that of
 * a socket or a subscription, which a tab counts together. Another hub id than
 * before means another hub: the old one is gone, with all it knew.
 */
export type HubMessage = [
  hub: bigint,
  kind: HubKind,
  number: number,
  a: number,
  b: number,
  data: string | Uint8Array,
];

/**
 * An id as it is shown and as it stands in the name of a lock: 16 hexadecimal digits. Empty for one
 * that is not known yet.
 */
export const hex = (id?: bigint): string => (id ? id.toString(16).padStart(16, '0') : '');

/** The lock a tab holds while it lives and is not parked; its hub waits for it. */
export const tabLock = (tab: bigint): string => 'tabmux:tab:' + hex(tab);

/** The lock a hub holds while it lives; its tabs wait for it. */
export const hubLock = (hub: bigint): string => 'tabmux:hub:' + hex(hub);

/**
 * How often a hub asks tabs that hold no locks. Where there are locks, and pages do without them
 * for the sake of the back/forward cache, only a crash is to be noticed.
 */
export const pulseEvery = (): number => (navigator.locks ? 20_000 : 5000);
