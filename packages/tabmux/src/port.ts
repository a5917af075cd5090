// One hub as this page sees it: its sockets, subscriptions and clients, what each of them wants and
// hears, over the page's part in the session (session.ts) and the life of the hub (life.ts).
//
// Functions over a record, and no class: a minifier shortens their names.

import { HubKind, Limit, LinkState, PageKind, isCounted, isOfPeer } from './protocol.js';
import type { HubConfig, HubMessage, Of, PeerMessage, Rules } from './protocol.js';
import { LOCK, NAME, Phase, SHARED, explain, hubs, leave, post, show, start } from './life.js';
import type { Life } from './life.js';
import {
  Lane, check, forget, hand, isFull, isHeard, left, newSession, number as count, seen,
} from './session.js';
import type { Said, Session } from './session.js';
import type { Tier } from './host.js';

const LOST = 'tabmux: the connection is lost';

/**
 * What a socket or a client hears of its hub, as the hub said it: what concerns it and what
 * concerns all. `Resync`: the hub is another one. `Failed`: there is none, and none will come.
 * Others may hear the same message, and read the same bytes.
 */
export type Receive = (message: HubMessage) => void;

/**
 * What is asked of a hub for a socket or a subscription, its numbers left out. A client asks for
 * nothing. It may change: it is asked again of the next hub.
 */
export type Wish =
  | [kind: PageKind.Open, path: string, protocols: string[]]
  | [kind: PageKind.Subscribe, name: string, epoch: number, offset: number];

/** What all exclusive sockets of this page share: a worker of their own. */
export const own = `${Math.random()}`;

/** Tells the URL of a hub's link, and its sub-protocols behind it. */
export type Address = () => Promise<string[]>;

/** What sharing depends on, besides URL and sub-protocols. */
export interface SharingOptions {
  /**
   * Who the user is. Two keys never share a connection. In mirror mode, give one wherever people
   * log in: without it the pages of two users of one browser share the connection of the first. In
   * mux mode a server that names users keeps their pages apart, and a key is needed where people
   * log in without a page load. Default: the empty text.
   */
  key?: string | undefined;
  /** The address of worker.js. Default: beside the script of this library. */
  worker?: string | URL | undefined;
  /**
   * How a hub may be hosted, the best first; the next is tried where one is missing, fails or is
   * silent. The first socket of a page for a hub decides. Default: all, as `Tier` names them.
   */
  tiers?: Tier[] | undefined;
  /**
   * `prefer`: in Firefox, which keeps no page in the back/forward cache that has to do with a lock,
   * do without locks. Then a tab that crashes is noticed after a minute. The first socket of a page
   * decides for the page.
   */
  bfcache?: 'prefer' | undefined;
}

/** A socket, a subscription or a client. */
interface Peer {
  readonly _receive: Receive;
  readonly _wish: Wish | undefined;
  /** What was heard on a socket and is not given back as credit. */
  _heard: number;
  /** Whether a socket was asked for in this session. */
  _isAsked?: boolean;
}

/** A hub as this page sees it. */
export interface HubPort extends Life, Session {
  readonly _peers: Map<number, Peer>;
  /** What the last socket or client says of where the link goes. */
  _address: Address | undefined;
  /** The number of the last one. */
  _count: number;
  /** How often the hub told how its link is. */
  _news: number;
}

/** The port to the hub of these arguments. There is one of each for the whole page. */
export function hubPort(
  mode: HubConfig['mode'],
  url: string,
  protocols: string[],
  { key = '', worker, tiers, bfcache }: SharingOptions,
  rules: Rules = {},
  address?: Address,
): HubPort {
  const id = mode + ':' + __BUILD__ + ':' +
    JSON.stringify(mode === 'mux'
      ? [url, key].concat(rules.shareBy ?? []) : [url, protocols, key, rules]);
  // Written as bundlers look for them. Classic scripts that they make have no `import.meta.url`.
  const script = `${worker ?? (import.meta.url
    ? new URL('./worker.js', import.meta.url) : 'worker.js')}`;
  const module = `${mode === 'mux'
    ? import.meta.url ? new URL('./mux.' + __BUILD__ + '.wasm', import.meta.url) : ''
    : import.meta.url ? new URL('./mirror.' + __BUILD__ + '.wasm', import.meta.url) : ''}`;
  for (const hub of hubs) {
    if (hub._id === id && hub._script === script) {
      return Object.assign(hub as HubPort, { _address: address });
    }
  }
  const hub: HubPort = {
    ...newSession(),
    _id: id,
    _name: NAME + id,
    _script: script,
    // Whether there are locks is known when it starts.
    _config: {
      build: __BUILD__, mode, module, url, protocols, lock: LOCK + id, key, rules,
    } as HubConfig,
    _isMux: mode === 'mux',
    _tiers: tiers,
    _state: LinkState.Connecting,
    _tabs: 0,
    _reason: '',
    _hub: 0n,
    _phase: Phase.New,
    _runs: 0,
    _moves: 0,
    _faults: 0,
    _isShared: !tiers || tiers[0] === SHARED,
    _tried: {},
    _peers: new Map(),
    _address: address,
    _count: 0,
    _news: 0,
    _attach: attach,
    _hear: hear,
    _tell: tell,
  };
  hubs.add(hub);
  start(hub, bfcache);
  return hub;
}

/** Adds a socket, a subscription or a client and returns its number. */
export function addPeer(hub: HubPort, _receive: Receive, _wish?: Wish): number {
  const peer: Peer = { _receive, _wish, _heard: 0 };
  const number = ++hub._count;
  hub._peers.set(number, peer);
  if (hub._phase < Phase.New) subscribe(hub, number, peer);
  open(hub, number, peer);
  return number;
}

/** Forgets it. The hub is left with the last one. */
export function removePeer(hub: HubPort, number: number): void {
  hub._peers.delete(number);
  // A server that refused for good is not asked again by what this page opens later.
  if (hub._peers.size || hub._state === LinkState.Refused) return;
  leave(hub);
  hubs.delete(hub);
}

/** Sends so many bytes on a socket, or closes it. False: too much is kept. */
export function say(
  hub: HubPort,
  kind: PageKind.Send | PageKind.Close,
  number: number,
  size: number,
  ...rest: unknown[]
): boolean {
  // The hub knows nothing of a socket that it was not asked for.
  if (!hub._peers.get(number)?._isAsked) return true;
  if (kind === PageKind.Send && isFull(hub, size)) return false;
  sayNow(hub, kind, number, size, rest);
  return true;
}

function sayNow(
  hub: HubPort,
  kind: Said[0],
  number: number,
  size: number,
  rest: unknown[],
): void {
  const message = count(hub, hub._isMux, size, kind, number, rest);
  if (hub._up) post(hub, message);
}

function attach(hub: HubPort, tab: bigint): void {
  hub._up = false;
  post(hub, [PageKind.Attach, tab, hub._config, hub._claim + left(hub), ...hub._heardTo]);
  hub._peers.forEach((peer, number) => subscribe(hub, number, peer));
}

function subscribe(hub: HubPort, number: number, { _wish }: Peer): void {
  if (_wish?.[0] === PageKind.Subscribe) {
    const [kind, ...rest] = _wish;
    post(hub, [kind, number, ...rest]);
  }
}

/** Asks for a socket, once it can be. */
function open(hub: HubPort, number: number, peer: Peer): void {
  if (peer._isAsked || peer._wish?.[0] !== PageKind.Open) return;
  if (hub._up) {
    const [kind, ...rest] = peer._wish;
    peer._isAsked = true;
    sayNow(hub, kind, number, 0, rest);
  } else if (hub._state === LinkState.Full || hub._state === LinkState.Refused) {
    // Nobody has told it: it was not there.
    const { _reason } = hub;
    queueMicrotask(() => peer._receive([HubKind.Failed, _reason]));
  }
}

/** Tells all peers, those that are added meanwhile not. */
function tell(hub: HubPort, message: HubMessage): void {
  if (message[0] === HubKind.Resync) {
    hub._up = false;
    // Nobody says again what the hub before said, be it that a view is open, or closed.
    if (!hub._isMux) lose(hub, LOST, 0);
  }
  new Map(hub._peers).forEach(({ _receive }) => _receive(message));
  if (message[0] === HubKind.Failed) hub._peers.clear();
}

/** What the hub said, unless it was heard before. */
function hear(hub: HubPort, message: HubMessage): void {
  if (isOfPeer(message)) {
    hearOfPeer(hub, message);
  } else if (message[0] === HubKind.Resume || message[0] === HubKind.Renew) {
    // One of before we were away: another one comes, and one answer is all the hub waits for.
    if (!hub._phase) goOn(hub, message);
  } else if (message[0] === HubKind.Ask) {
    void answer(hub, message[2]);
  } else if (message[0] === HubKind.Check) {
    const [, , count0, count] = message;
    check(hub, [count0, count]);
    post(hub, [PageKind.Got, count0, count]);
  } else if (message[0] === HubKind.Sent) {
    hand(hub, message[2]);
    if (!hub._isMux) seen(hub, message[2]);
  } else if (message[0] === HubKind.Seen) {
    seen(hub, message[2]);
  } else if (message[0] === HubKind.Passed) {
    seen(hub, message[3], message[2]);
  } else if (message[0] === HubKind.Lost) {
    lose(hub, message[2], 0);
  } else if (message[0] === HubKind.State) {
    const [, , state, tabs, reason] = message;
    if (state !== LinkState.Connected && hub._isMux) hub._up = false;
    const mine = (hub._news += 1);
    explain(reason, hub._config.url, (reason) => {
      if (mine === hub._news) {
        show(hub, [HubKind.State, hub._hub, state, tabs, reason], state, tabs, reason);
      }
    });
  } else if (
    message[0] !== HubKind.Browser && message[0] !== HubKind.Direct ||
    !isHeard(hub, message[0] === HubKind.Direct ? Lane.Own : Lane.All, message[2])
  ) {
    tell(hub, message);
  }
}

/** Tells the hub where its link goes. */
async function answer(hub: HubPort, ask: number): Promise<void> {
  let address: string[] = [];
  let failure = '';
  try {
    address = await hub._address?.() ?? [];
  } catch (error) {
    failure = `${error}`;
  }
  post(hub, [PageKind.Answer, ask, address, failure]);
}

function hearOfPeer(hub: HubPort, message: PeerMessage): void {
  if (isCounted(message) && isHeard(hub, Lane.Own, message[3])) return;
  const number = message[2];
  const peer = hub._peers.get(number);
  peer?._receive(message);
  if (peer && message[0] === HubKind.Message && (peer._heard += message[4]) >= Limit.Credit) {
    sayNow(hub, PageKind.Credit, number, 0, [peer._heard]);
    peer._heard = 0;
  }
}

/** The other end takes what this page says. */
function goOn(hub: HubPort, message: Of<HubKind.Resume | HubKind.Renew>): void {
  if (message[0] === HubKind.Renew) {
    lose(hub, LOST, message[3]);
    // What was said before this was said in another session.
    post(hub, [PageKind.Got, 0, 0]);
  }
  left(hub, hub._claim = message.at(-1) as string);
  // In modes that count nothing in lane 0 a hub is told so that this page goes on there.
  if (!hub._isMux) hub._heardTo[0] = 1;
  seen(hub, message[2]);
  hand(hub, message[2]);
  hub._up = true;
  hub._unseen.forEach(([, message]) => post(hub, message));
  hub._peers.forEach((peer, number) => open(hub, number, peer));
}

/** The session is gone: what was open is lost, what is not yet open is asked for in the next. */
function lose(hub: HubPort, reason: string, count0: number): void {
  const hadOne = hub._claim;
  forget(hub, count0);
  hub._peers.forEach((peer) => (peer._isAsked = false));
  // Nobody knows what was said to all tabs between the two.
  if (hadOne) tell(hub, [HubKind.BrowserGap, hub._hub]);
  tell(hub, [HubKind.Lost, hub._hub, reason]);
}
