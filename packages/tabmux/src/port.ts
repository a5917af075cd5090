// One hub as this page sees it: its sockets, subscriptions and clients, what each of them wants and
// hears, over the page's part in the session (session.ts) and the life of the hub (life.ts).
//
// Functions over a record, and no class: a minifier shortens their names.

import { HubKind, Limit, LinkState, PageKind, isCounted, isOfPeer } from './protocol.js';
import type { HubConfig, HubMessage, Of, PeerMessage, Rules } from './protocol.js';
import {
  Phase, SHARED, explain, fail, hubs, leave, move, order, post, rename, show, start,
} from './life.js';
import type { Life } from './life.js';
import {
  Lane, check, forget, hand, isFull, isHeard, left, newSession, number as count, seen,
} from './session.js';
import type { Said, Session } from './session.js';
import type { Tier } from './host.js';
import { ask } from './url.js';
import type { Given } from './url.js';

const LOST = 'tabmux: the connection is lost';
const CHANGED = 'tabmux: the user changed';

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

/** What a page shows a tabmux server, in a form of the application's choice. */
export type Credentials = Given<string> | undefined;

/** What sharing depends on, besides URL and sub-protocols. */
export interface SharingOptions {
  /**
   * Who the user is. Two keys never share a connection. In mirror mode, give one wherever people
   * log in: without it the pages of two users of one browser share the connection of the first. In
   * mux mode a server that names users keeps their pages apart. Default: the empty text.
   */
  key?: string | undefined;
  /**
   * The identity tag of the user, as the server's `ServerHandle::identity` returns it: for an
   * application that writes it into its HTML (clients and mux mode). Then the server is not asked
   * whose the browser is. If the link is of somebody else, the socket fails and the client is
   * `closed`, both for good, with the reason "the user changed".
   */
  identity?: string | undefined;
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

/** Whether it is known that a socket or a client is of the user whose the link is. */
const enum Doubt {
  None,
  /** It came after the page had attached: somebody may have logged in since. */
  New,
  /** The same, and the hub is asking the server for it. */
  Asked,
}

/** A socket, a subscription or a client. */
export interface Peer {
  _hub: HubPort;
  /** Its number there. */
  _number: number;
  _doubt: Doubt;
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
  /** Who the user is, as the last of them tells the server. */
  _credentials: Credentials;
  /** The number of the last one. */
  _count: number;
  /** How often the hub told how its link is. */
  _news: number;
  /** The reason that the hub gave last, before a cause was found. */
  _raw?: string;
  /** Why the hub is refused for good, if it is. */
  _refusal?: string | false;
  /** The address and the credentials that a hub was told last. */
  _told?: string;
  /** Whose the link is, as names have it. Missing where the server knows no users. */
  _user: string | undefined;
  /** The tag that the page gave. */
  readonly _identity: string | undefined;
  /** Whether the server is to be asked for what comes later. */
  readonly _asks: boolean;
  /** Whether it is being asked. */
  _isAsking: boolean;
}

/** The port to the hub of these arguments. There is one of each for the whole page. */
export function hubPort(
  mode: HubConfig['mode'],
  url: string,
  protocols: string[],
  { key = '', worker, tiers, bfcache, identity }: SharingOptions,
  rules: Rules = {},
  address?: Address,
  credentials?: Credentials,
): HubPort {
  const shows = credentials !== undefined;
  const id = mode + ':' + __BUILD__ + ':' +
    JSON.stringify(mode === 'mux'
      ? shows ? [url, key, rules.shareBy, 1] : [url, key].concat(rules.shareBy ?? [])
      : [url, protocols, key, rules]);
  // Written as bundlers look for them. Classic scripts that they make have no `import.meta.url`.
  const script = `${worker ?? (import.meta.url
    ? new URL('./worker.js', import.meta.url) : 'worker.js')}`;
  const module = `${mode === 'mux'
    ? import.meta.url ? new URL('./mux.' + __BUILD__ + '.wasm', import.meta.url) : ''
    : import.meta.url ? new URL('./mirror.' + __BUILD__ + '.wasm', import.meta.url) : ''}`;
  // The last is that of who logged in last.
  const known = ([...hubs] as HubPort[]).reverse().find((hub) =>
    hub._id === id && hub._script === script &&
      (identity ? hub._config.tag === identity : !hub._identity));
  if (known) return Object.assign(known, { _address: address, _credentials: credentials });
  return begin({
    _id: id,
    _script: script,
    // Whether there are locks is known when it starts.
    _config: { build: __BUILD__, mode, module, url, protocols, key, rules, shows } as HubConfig,
    _isMux: mode === 'mux',
    _tiers: tiers,
    _address: address,
    _credentials: credentials,
    _identity: identity,
    _asks: !key && !identity,
  }, identity, bfcache);
}

/** Starts the hub of this user, or that of anybody. */
function begin(
  parts: Pick<HubPort, '_id' | '_script' | '_config' | '_isMux' | '_tiers' | '_address' |
    '_credentials' | '_identity' | '_asks'>,
  user = '',
  bfcache?: 'prefer',
): HubPort {
  const hub = {
    ...parts,
    ...newSession(),
    _state: LinkState.Connecting,
    _tabs: 0,
    _reason: '',
    _hub: 0n,
    _phase: Phase.New,
    _runs: 0,
    _moves: 0,
    _faults: 0,
    _isShared: !parts._tiers || parts._tiers[0] === SHARED,
    _tried: {},
    _peers: new Map(),
    _count: 0,
    _news: 0,
    _isAsking: false,
    _attach: attach,
    _hear: hear,
    _tell: tell,
    _move: goTo,
  } as unknown as HubPort;
  rename(hub, user);
  hubs.add(hub);
  start(hub, bfcache);
  return hub;
}

/** Adds a socket, a client, or a subscription `of` a client, whose user is that of the client. */
export function addPeer(hub: HubPort, _receive: Receive, _wish?: Wish, of?: Peer): Peer {
  const _doubt = of?._doubt ??
    (hub._asks && (hub._claim || hub._phase < Phase.New) ? Doubt.New : Doubt.None);
  const peer: Peer = { _hub: hub, _number: 0, _receive, _wish, _heard: 0, _doubt };
  join(hub, peer);
  return peer;
}

function join(hub: HubPort, peer: Peer): void {
  peer._hub = hub;
  hub._peers.set(peer._number = ++hub._count, peer);
  if (hub._phase < Phase.New) subscribe(peer);
  open(peer);
  askWhose(hub);
}

/** Forgets it. The hub is left with the last one. */
export function removePeer({ _hub, _number }: Peer): void {
  _hub._peers.delete(_number);
  leaveIfEmpty(_hub);
}

function leaveIfEmpty(hub: HubPort): void {
  // A server that refused for good is not asked again by what this page opens later.
  if (hub._peers.size || hub._state === LinkState.Refused) return;
  leave(hub);
  hubs.delete(hub);
}

/** Sends so many bytes on a socket, or closes it. False: too much is kept. */
export function say(
  peer: Peer,
  kind: PageKind.Send | PageKind.Close,
  size: number,
  ...rest: unknown[]
): boolean {
  // The hub knows nothing of a socket that it was not asked for.
  if (!peer._isAsked) return true;
  if (kind === PageKind.Send && isFull(peer._hub, size)) return false;
  sayNow(peer, kind, size, rest);
  return true;
}

function sayNow({ _hub, _number }: Peer, kind: Said[0], size: number, rest: unknown[]): void {
  const message = count(_hub, _hub._isMux, size, kind, _number, rest);
  if (_hub._up) post(_hub, message);
}

function attach(hub: HubPort, tab: bigint): void {
  hub._up = hub._isAsking = false;
  // The next hub is not to ask a server that refused the one before for good.
  const claim = hub._refusal ? '!' + hub._refusal : hub._claim + left(hub);
  post(hub, [PageKind.Attach, tab, hub._config, claim, ...hub._heardTo]);
  hub._peers.forEach(subscribe);
}

function subscribe({ _hub, _number, _wish, _doubt }: Peer): void {
  if (_wish?.[0] === PageKind.Subscribe && !_doubt) {
    const [kind, ...rest] = _wish;
    post(_hub, [kind, _number, ...rest]);
  }
}

/** Asks for a socket, once it can be. */
function open(peer: Peer): void {
  const { _hub: hub } = peer;
  if (peer._isAsked || peer._wish?.[0] !== PageKind.Open) return;
  if (hub._up) {
    if (peer._doubt) return;
    const [kind, ...rest] = peer._wish;
    peer._isAsked = true;
    sayNow(peer, kind, 0, rest);
  } else if (hub._state === LinkState.Full || hub._state === LinkState.Refused) {
    // Nobody has told it: it was not there.
    const { _reason } = hub;
    queueMicrotask(() => peer._receive([HubKind.Failed, _reason]));
  }
}

/** Has the hub ask whose the browser is, for what came since the page attached. */
function askWhose(hub: HubPort): void {
  if (!hub._up || hub._isAsking) return;
  const came = [...hub._peers.values()].filter(({ _doubt }) => _doubt);
  if (!came[0]) return;
  // Where nobody logs in nothing is asked.
  if (!hub._user) return came.forEach((peer) => trust(peer, hub));
  hub._isAsking = true;
  came.forEach((peer) => (peer._doubt = Doubt.Asked));
  post(hub, [PageKind.Whose]);
}

/** It is of the user of this hub: it goes there, and asks for what it wants. */
function trust(peer: Peer, hub: HubPort): void {
  peer._doubt = Doubt.None;
  if (hub === peer._hub) {
    subscribe(peer);
    return open(peer);
  }
  peer._hub._peers.delete(peer._number);
  join(hub, peer);
  peer._receive([HubKind.Resync, hub._hub]);
}

/** The hub of this user, if the page has it. */
const hubOf = ({ _id, _script }: HubPort, user: string): HubPort | undefined =>
  ([...hubs] as HubPort[]).find((hub) =>
    hub._id === _id && hub._script === _script && hub._config.tag === user);

/** Goes to the hub of this user with all there is, or to that of anybody. */
function goTo(hub: HubPort, user: string): void {
  if (user && hub._user && user !== hub._user) lose(hub, CHANGED, 0);
  if (user) isOf(hub, user);
  // Sockets that were lost may have been all that this page had.
  if (!hub._peers.size) return;
  const other = hubOf(hub, user);
  if (!other || other === hub) return move(hub, user);
  new Map(hub._peers).forEach((peer) => trust(peer, other));
  leaveIfEmpty(hub);
}

/** The link is of this user. What a topic said to another one says nothing of what is to come. */
function isOf(hub: HubPort, user: string): void {
  const before = hub._user;
  if (before === user) return;
  if (hub._identity && user !== hub._identity) return fail(hub, CHANGED);
  hub._user = user;
  if (before) {
    hub._peers.forEach(({ _wish, _receive }, number) => {
      if (_wish?.[0] === PageKind.Subscribe && _wish[2] >= 0) {
        _receive([HubKind.Gap, hub._hub, number, _wish[2], _wish[3]]);
      }
    });
  }
  tell(hub, [HubKind.User, hub._hub, 0, user]);
}

/** Tells all peers, those that are added meanwhile not. */
function tell(hub: HubPort, message: HubMessage): void {
  if (message[0] === HubKind.Resync) {
    hub._up = false;
    // Nobody says again what the hub before said, be it that a view is open, or closed.
    if (!hub._isMux) lose(hub, LOST, 0);
  }
  new Map(hub._peers).forEach(({ _doubt, _receive }) => {
    const isOfUser = message[0] >= HubKind.Browser && message[0] <= HubKind.BrowserGap;
    if (!_doubt || !isOfUser) _receive(message);
  });
  if (message[0] === HubKind.Failed) hub._peers.clear();
}

/** What the hub said, unless it was heard before. */
function hear(hub: HubPort, message: HubMessage): void {
  // Without lanes all of these are counted together, from the 1 of `Renew`.
  if (!hub._isMux && (isOfPeer(message) || message[0] === HubKind.Mirror)) hub._heardTo[0] += 1;
  if (isOfPeer(message)) {
    hearOfPeer(hub, message);
  } else if (message[0] === HubKind.Resume || message[0] === HubKind.Renew) {
    // One of before we were away: another one comes, and one answer is all the hub waits for.
    if (!hub._phase) goOn(hub, message);
  } else if (message[0] === HubKind.Ask) {
    void answer(hub, message[2], message[3]);
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
  } else if (message[0] === HubKind.User) {
    const [, , answers, user] = message;
    if (answers) told(hub, user);
    else isOf(hub, user);
  } else if (message[0] === HubKind.Lost) {
    lose(hub, message[2], 0);
  } else if (message[0] === HubKind.State) {
    const [, , state, tabs, reason] = message;
    if (state !== LinkState.Connected && hub._isMux) hub._up = false;
    hub._refusal = state === LinkState.Refused && reason;
    const mine = (hub._news += 1);
    const say = (text: string): void => {
      if (mine !== hub._news) return;
      hub._raw = reason;
      show(hub, [HubKind.State, hub._hub, state, tabs, text], state, tabs, text);
    };
    // A new dial has the cause of the last one. A page that looked for it would miss a short dial.
    if (state === LinkState.Connecting && reason === hub._raw) say(hub._reason);
    else explain(reason, hub._config.url, say);
  } else if (
    message[0] !== HubKind.Browser && message[0] !== HubKind.Direct ||
    !isHeard(hub, message[0] === HubKind.Direct ? Lane.Own : Lane.All, message[2])
  ) {
    tell(hub, message);
  }
}

/** The browser is of this user now. */
function told(hub: HubPort, user: string): void {
  hub._isAsking = false;
  const asked = [...hub._peers.values()].filter(({ _doubt }) => _doubt === Doubt.Asked);
  if (!asked[0]) return;
  const { _id, _script, _config, _isMux, _tiers, _address, _credentials, _identity, _asks } = hub;
  const to = user === hub._user ? hub : hubOf(hub, user) ?? begin({
    _id, _script, _config: { ..._config }, _isMux, _tiers, _address, _credentials, _identity,
    _asks,
  }, user);
  asked.forEach((peer) => trust(peer, to));
  askWhose(hub);
  leaveIfEmpty(hub);
}

/** Ends the session for all tabs, and removes the word of it. */
export function logOut(hub?: HubPort): void {
  if (!hub) return;
  left(hub, '', true);
  order(hub, PageKind.Logout);
}

/** Tells the hub where its link goes, unless that was not asked, and what the credentials are. */
async function answer(hub: HubPort, id: number, what: number): Promise<void> {
  let address: string[] = [];
  let failure = '';
  let shown = '';
  try {
    if (!what) address = await hub._address?.() ?? [];
    shown += await ask(hub._credentials) ?? '';
    // The server refused this for good. Only something else is of use, perhaps that of another tab.
    if (hub._told === (hub._told = address + shown)) failure = hub._refusal || '';
  } catch (error) {
    failure = `${error}`;
  }
  post(hub, [PageKind.Answer, id, address, failure, shown]);
}

function hearOfPeer(hub: HubPort, message: PeerMessage): void {
  if (isCounted(message) && isHeard(hub, Lane.Own, message[3])) return;
  const number = message[2];
  const peer = hub._peers.get(number);
  peer?._receive(message);
  if (peer && message[0] === HubKind.Message && (peer._heard += message[4]) >= Limit.Credit) {
    sayNow(peer, PageKind.Credit, 0, [peer._heard]);
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
  seen(hub, message[2]);
  hand(hub, message[2]);
  hub._up = true;
  hub._moves = 0;
  hub._unseen.forEach(([, message]) => post(hub, message));
  hub._peers.forEach(open);
  askWhose(hub);
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
