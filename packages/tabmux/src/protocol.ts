// What the page library and the worker say to each other over a port, and the names they agree on.
// This file is the only definition. Both sides are always of one build: names hold the build's id,
// and a worker answers a page of another build with `OtherBuild`.

/** What a tab says to its hub: the first element of a `PageMessage`. */
export const enum PageKind {
  /** This tab is here. The first message on a port, and the first after `Resync`. */
  Attach,
  /** The page goes into the back/forward cache: nothing may be posted to it. */
  Park,
  /** The page is leaving, or it needs the hub no more. */
  Bye,
  /**
   * Opens a socket. In mirror mode the path is the name of the tab and there are no protocols; in
   * mode `exclusive` the path is the URL. This and the next two are counted by `n`, from 1 in each
   * session. A hub ignores one that is not in its turn: after `Resume` the page says again what was
   * not seen.
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
  /**
   * The page asks for a new link, also where the server refused the hub for good or the application
   * ended this tab. The hub ignores what comes within a second of the last one.
   */
  Reconnect,
  /**
   * Answers `Ask`: the URL and the sub-protocols where they were asked for, the credentials, or why
   * the page does not know them. They may be a secret, so nobody writes them down.
   */
  Answer,
  /** A socket is about to be opened: whose is the browser now? `User` answers. */
  Whose,
  /** The page ends the session, for all tabs. */
  Logout,
  /** The page asks for its credentials to be renewed on the link that is open. */
  Renew,
  /** This tab is visible, or the network is back: the hub looks whether its link lives. */
  Wake = 97,
  /** Answers `Ping`; or asks for one. */
  Pong = 98,
  /**
   * Makes the hub trap. Only tests post it. It ships, so that what is tested is what is shipped:
   * who can post it is a script of the origin, which can harm its own origin anyway.
   */
  Trap = 99,
}

/**
 * How a shared connection behaves, in mirror mode. Tabs that give other values have another
 * connection.
 */
export interface Rules {
  /**
   * What the connection is called, in the place of its URL: tabs that give the same text share it.
   * Needed where the URL or the sub-protocols are a function, and where URLs differ from tab to tab
   * by a random query for example. Before each dial one of the tabs is asked for the URL.
   */
  shareBy?: string | undefined;
  /**
   * The name of a field. A JSON text of the server whose field of that name has the `tabId` of a
   * tab goes to that tab alone. All other messages go to all tabs: a name may belong to a tab of
   * another browser. A tab in the back/forward cache gets its messages when it is back. What names
   * a tab that left within the last minute is dropped. Default: all messages go to all tabs.
   */
  routeBy?: string | undefined;
  /**
   * A tab that opens its first socket later than others gets so many of the last messages, right
   * after `open`. At most 256 KiB are kept. A tab that comes back from the back/forward cache does
   * not get them, and after a new dial there are none. Default: 0.
   */
  replayLast?: number | undefined;
  /**
   * For so many milliseconds the connection stays open after its last socket is closed, where the
   * worker lives on: in Chromium, and in every engine when the page goes to another one of its
   * origin. Default: 0.
   */
  linger?: number | undefined;
  /** What happens when an open connection breaks. Default: false, its sockets close. */
  reconnect?: false | Reconnect | undefined;
}

/**
 * Sockets stay open when their connection breaks, or when the server closes it with 1001, 1011,
 * 1012, 1013 or 1014. The worker dials again once for all tabs, after random waits. What is sent
 * meanwhile is kept, 1 MiB at most. A `reconnect` event follows the new connection. `close` comes
 * when there were dials enough.
 */
export interface Reconnect {
  /** The first wait, in milliseconds. It doubles with each dial. Default: 500. */
  minMs?: number | undefined;
  /** The longest wait, in milliseconds. Default: 30,000. */
  maxMs?: number | undefined;
  /** Dials that an outage may take. Default: 10. */
  attempts?: number | undefined;
}

/** What a hub is for. The first tab tells it; every other tab says the same. */
export interface HubConfig {
  /** The build of the page library. A worker of another build does not serve the page. */
  build: string;
  /** In mode `exclusive` the worker passes on what each socket of a page says; there is no hub. */
  mode: 'mirror' | 'mux' | 'exclusive';
  /** Where the wasm module of this mode is: empty if the page does not know. */
  module: string;
  /** What the hub dials, or what that is called (`shareBy`). Empty in mode `exclusive`. */
  url: string;
  /** The sub-protocols the link offers. */
  protocols: string[];
  /** The lock without which the hub does not dial. */
  lock: string;
  /** Whose hub it is, if its names hold that: an identity tag, or what stands for nobody. */
  tag: string;
  /** Who the user is, as the page says. */
  key: string;
  /** How a shared connection behaves. All but `shareBy` is without meaning in mux mode. */
  rules: Rules;
  /** Whether locks tell who lives. Without them hub and tabs ask each other. */
  locks: boolean;
  /** Whether pages tell credentials (mux mode). */
  shows?: boolean;
}

/** Costs and limits that hubs and servers have as well; `cargo xtask tidy` compares them. */
export const enum Limit {
  /** What a message costs of a socket's credit besides its bytes: `MESSAGE_COST` of crates/wire. */
  Message = 64,
  /** Bytes of a close reason: `MAX_REASON` of crates/wire. */
  Reason = 123,
  /**
   * Bytes of a tab's messages that may wait, in the page and in the hub (`outbox_bytes`): so many
   * may one message have.
   */
  Outbox = 16 << 20,
  /** So much that was heard on a socket is given back as credit: half of `credit_bytes`. */
  Credit = 64 << 10,
  /** Bytes of credentials: `MAX_CREDENTIALS` of crates/wire. */
  Credentials = 8192,
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
  | [kind: PageKind.Reconnect]
  | [kind: PageKind.Answer, ask: number, address: string[], failure: string, credentials: string]
  | [kind: PageKind.Whose]
  | [kind: PageKind.Logout]
  | [kind: PageKind.Renew]
  | [kind: PageKind.Wake, isOnline: boolean]
  | [kind: PageKind.Pong]
  | [kind: PageKind.Trap];

/**
 * What a hub says to a tab: the first element of a `HubMessage`. `HubKind` of crates/core has the
 * same names and values up to `Failed`; `cargo xtask tidy` compares them. What is said of one
 * socket or subscription comes first (`isOfPeer`), and of that what has a place in the tab's lane
 * (`isCounted`).
 */
export const enum HubKind {
  /** A virtual socket is open. */
  Opened,
  /** A message on a virtual socket. */
  Message,
  /** A virtual socket is closed, by word of the server. */
  Closed,
  /** More may be sent on a virtual socket. */
  Credit,
  /** A view of the shared connection is open (mirror mode). */
  Joined,
  /** A socket is closed: a view, or a virtual socket of which the server said nothing. */
  Ended,
  /** The text of the `error` event. `Closed` or `Ended` follows. */
  Error,
  /** A topic is subscribed: what comes after this place will be told. */
  Subscribed,
  /** A publication of a topic. */
  Publication,
  /** Publications of a topic up to this place may be missing here. */
  Gap,
  /** A subscription is refused, or has ended. */
  Unsubscribed,
  /** Answers `Attach`, once the hub runs. */
  Attached,
  /** The link or the number of tabs changed. */
  State,
  /** A message on every open socket of this tab (mirror mode). */
  Mirror,
  /** A message to all tabs of the browser. */
  Browser,
  /** A message to this tab alone. It has a place in the tab's lane. */
  Direct,
  /** Messages to all tabs are missing here. */
  BrowserGap,
  /**
   * The other end knows this tab, which goes on with what it had. It has received what the tab said
   * up to `n`; the rest is to be said again.
   */
  Resume,
  /**
   * The other end knows this tab anew. Its open sockets are lost, and all counts begin anew, that
   * of lane 0 at `count0`.
   */
  Renew,
  /** The session is lost, and with it all sockets that were open. */
  Lost,
  /** Has all that was posted been handled? `Got` answers. */
  Check,
  /** What this tab said was handed to the link up to `n`. */
  Sent,
  /** What this tab said need not be kept up to `n`. */
  Seen,
  /** The hub does not know this port: attach again and say all wishes again. */
  Resync,
  /** There is no hub. */
  Failed,
  /** Where does the link go (0), or what are the credentials (1)? `Answer` answers. */
  Ask,
  /** The tab is to wait, for what the text says: it may not be one for this hub. */
  Wait,
  /** The browser is of another user than the hub: attach to the hub of that user. */
  Elsewhere,
  /** Whose the link is, before `Resume`; or whose the browser is now, after `Whose`. */
  User,
  /** What this tab said on one socket need not be kept up to `n` (mode `exclusive`). */
  Passed = 94,
  /**
   * The script of the worker runs. It says so at once on each port, and again each second while it
   * loads its wasm module. The text says what it loads; it is empty if nothing needs to be loaded
   * or all is there.
   */
  Loading,
  /** The worker could not load its wasm module. It tries again with the next `Attach`. */
  NotLoaded,
  /**
   * The worker is of another build than the page. The form of this message never changes, nor does
   * the place of `build` in `Attach`.
   */
  OtherBuild = 97,
  /** Another hub has the link: attach there, by the next tier. */
  Moved,
  /** Asks a tab that holds no lock whether it lives. */
  Ping,
}

/** The state of a hub's link, as `Attached` and `State` tell it. */
export const enum LinkState {
  Idle,
  Connecting,
  Connected,
  Backoff,
  /**
   * The server has no room for this tab: it gets its place once there is room. Or the application
   * ended this tab, which comes back after a time.
   */
  Full,
  /**
   * The server refused the hub for good: nothing is tried before another page attaches, or a page
   * posts `Reconnect`. Or the application ended this tab for good.
   */
  Refused,
  Closed,
}

/** No or yes. */
export type Flag = 0 | 1;

/** What a message carries: text or bytes. */
export type Data = string | Uint8Array;

/**
 * A message from a hub to a tab. Another hub id than before means another hub: the old one is gone,
 * with all it knew. A tab counts its sockets and subscriptions together. `count` is the place of
 * the message in the tab's lane, `count0` in lane 0. `answer` is what the server chose: the
 * sub-protocol, a newline, the extensions.
 */
export type HubMessage =
  | [kind: HubKind.Opened, hub: bigint, socket: number, count: number, credit: number,
    answer: string]
  | [kind: HubKind.Message, hub: bigint, socket: number, count: number, cost: number, data: Data]
  | [kind: HubKind.Closed, hub: bigint, socket: number, count: number, code: number, clean: Flag,
    reason: string]
  | [kind: HubKind.Credit, hub: bigint, socket: number, count: number, bytes: number]
  | [kind: HubKind.Joined, hub: bigint, socket: number, reused: Flag, answer: string]
  | [kind: HubKind.Ended, hub: bigint, socket: number, code: number, clean: Flag, reason: string]
  | [kind: HubKind.Error, hub: bigint, socket: number, message: string]
  | [kind: HubKind.Subscribed, hub: bigint, subscription: number, epoch: number, offset: number]
  | [kind: HubKind.Publication, hub: bigint, subscription: number, epoch: number, offset: number,
    data: Data]
  | [kind: HubKind.Gap, hub: bigint, subscription: number, epoch: number, offset: number]
  | [kind: HubKind.Unsubscribed, hub: bigint, subscription: number, reason: string]
  | [kind: HubKind.Attached, hub: bigint, state: LinkState, tabs: number]
  | [kind: HubKind.State, hub: bigint, state: LinkState, tabs: number, reason: string]
  | [kind: HubKind.Mirror, hub: bigint, data: Data]
  | [kind: HubKind.Browser, hub: bigint, count0: number, data: Data]
  | [kind: HubKind.Direct, hub: bigint, count: number, data: Data]
  | [kind: HubKind.BrowserGap, hub: bigint]
  | [kind: HubKind.Resume, hub: bigint, n: number, claim: string]
  | [kind: HubKind.Renew, hub: bigint, n: number, count0: number, claim: string]
  | [kind: HubKind.Lost, hub: bigint, reason: string]
  | [kind: HubKind.Check, hub: bigint, count0: number, count: number]
  | [kind: HubKind.Sent, hub: bigint, n: number]
  | [kind: HubKind.Seen, hub: bigint, n: number]
  | [kind: HubKind.Resync, hub: bigint]
  | [kind: HubKind.Failed, reason: string]
  | [kind: HubKind.Ask, hub: bigint, ask: number, what: number]
  | [kind: HubKind.Wait, hub: bigint, what: string]
  | [kind: HubKind.Elsewhere, hub: bigint, user: string]
  | [kind: HubKind.User, hub: bigint, answers: Flag, user: string]
  | [kind: HubKind.Passed, hub: bigint, socket: number, n: number]
  | [kind: HubKind.Loading, what: string]
  | [kind: HubKind.NotLoaded, reason: string]
  | [kind: HubKind.OtherBuild, reason: string]
  | [kind: HubKind.Moved, hub: bigint]
  | [kind: HubKind.Ping];

/** In the place of a kind: several messages follow, which a port carries together. */
export const SEVERAL = 93;

/**
 * So many at most: a page does nothing else until it has dealt with all of them, and it has a
 * listener for each, of which Node takes more than 10 for a leak.
 */
export const MAX_BATCH = 10;

/** What a port carries to a page. */
export type PortData = HubMessage | [kind: typeof SEVERAL, messages: HubMessage[]];

/** The messages of these kinds. */
export type Of<Kind extends HubKind> = Extract<HubMessage, { 0: Kind }>;

/** What is said of one socket and has a place in the tab's lane. */
export type CountedMessage =
  Of<HubKind.Opened | HubKind.Message | HubKind.Closed | HubKind.Credit>;

/** What is said of one socket or subscription. */
export type PeerMessage = CountedMessage | Of<HubKind.Joined | HubKind.Ended | HubKind.Error |
  HubKind.Subscribed | HubKind.Publication | HubKind.Gap | HubKind.Unsubscribed>;

/** Whether a message of one socket has a place in the tab's lane. */
export const isCounted = (message: HubMessage): message is CountedMessage =>
  message[0] < HubKind.Joined;

/** Whether a message is said of one socket or subscription. */
export const isOfPeer = (message: HubMessage): message is PeerMessage =>
  message[0] < HubKind.Attached;

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
