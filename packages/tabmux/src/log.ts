// What this tab says to its hubs and hears of them, as lines for a developer.

import { hubs } from './library.js';
import type { Life } from './life.js';
import type { HubPort } from './port.js';
import type { PagePort } from './host.js';
import { HubKind, LinkState, PageKind } from './protocol.js';
import type { HubMessage, PageMessage } from './protocol.js';

/** Writes a line: a direction, what it concerns, what happened, and its details. */
export type Write = (...parts: unknown[]) => void;

/** One call of `log`. */
interface Writer {
  readonly write: Write;
}

const writers = new Set<Writer>();
/** Takes back what listens to all hubs while there are writers. */
let unhook: (() => void) | undefined;

const STATES: Record<LinkState, string> =
  ['idle', 'connecting', 'connected', 'waiting to dial again', 'without room', 'refused for good',
    'closed'];

/**
 * Logs what this tab's sockets, topics and clients say and hear from now on: opening, messages,
 * gaps, errors, closing, and the state of their links. `→` is what the tab says, `←` what it hears.
 * Messages may hold what users wrote.
 *
 * @returns what ends it
 */
export function log(write: Write = console.debug): () => void {
  const writer = { write };
  writers.add(writer);
  unhook ??= hook();
  return () => {
    writers.delete(writer);
    if (writers.size) return;
    unhook?.();
    unhook = undefined;
  };
}

/** Listens to all hubs, also those to come. Returns what ends it. */
function hook(): () => void {
  const ends: (() => void)[] = [];
  const add = hubs.add.bind(hubs);
  hubs.forEach((hub) => ends.push(listen(hub)));
  hubs.add = (hub) => {
    ends.push(listen(hub));
    return add(hub);
  };
  return () => {
    hubs.add = add;
    ends.splice(0).forEach((end) => end());
  };
}

function listen(life: Life): () => void {
  const hub = life as HubPort;
  const { _hear, _tell } = hub;
  let port = hub._port;
  const say = (message: PageMessage): void => print('→', said(hub, message));
  Object.defineProperties(hub, {
    _port: {
      configurable: true,
      get: () => port && withLog(port, say),
      set: (next: PagePort | undefined) => (port = next),
    },
  });
  hub._hear = (life, message) => {
    print('←', heard(hub, message));
    _hear(life, message);
  };
  hub._tell = (life, message) => {
    const [kind] = message;
    const isOwn = kind === HubKind.Attached || kind === HubKind.Resync || kind === HubKind.Failed;
    if (isOwn) print('←', heard(hub, message));
    _tell(life, message);
  };
  return () => {
    const own = { configurable: true, enumerable: true, writable: true };
    Object.defineProperties(hub, { _port: { ...own, value: port } });
    Object.assign(hub, { _hear, _tell });
  };
}

const withLog = (port: PagePort, say: (message: PageMessage) => void): PagePort => ({
  ...port._tier && { _tier: port._tier },
  onmessage: null,
  postMessage(message) {
    say(message);
    port.postMessage(message);
  },
  close: () => port.close(),
});

function print(direction: string, parts: unknown[] | undefined): void {
  if (parts) writers.forEach(({ write }) => write('tabmux', direction, ...parts));
}

/** What a socket or a subscription is called: its URL, its path or its topic. */
function nameOf({ _peers, _config }: HubPort, number: number): string {
  const wish = _peers.get(number)?._wish;
  // In mirror mode the path is the name of the tab.
  return _config.mode !== 'mirror' && wish?.[1] || (wish ? _config.url : `number ${number}`);
}

function said(hub: HubPort, message: PageMessage): unknown[] | undefined {
  switch (message[0]) {
    case PageKind.Open:
      return [nameOf(hub, message[2]), 'opens'];
    case PageKind.Send:
      return [nameOf(hub, message[2]), 'sends', message[3]];
    case PageKind.Close:
      return [nameOf(hub, message[2]), 'closes', message[3], message[4]];
    case PageKind.Subscribe:
      return [message[2], 'subscribes'];
    case PageKind.Unsubscribe:
      return [nameOf(hub, message[1]), 'unsubscribes'];
    case PageKind.Park:
      return [hub._config.url, 'goes into the back/forward cache'];
    case PageKind.Bye:
      return [hub._config.url, 'leaves'];
    case PageKind.Reconnect:
      return [hub._config.url, 'reconnects'];
    case PageKind.Logout:
      return [hub._config.url, 'logs out'];
    case PageKind.Renew:
      return [hub._config.url, 'renews'];
    case PageKind.Whose:
    case PageKind.Attach:
    case PageKind.Got:
    case PageKind.Credit:
    case PageKind.Answer:
    case PageKind.Wake:
    case PageKind.Pong:
    case PageKind.Trap:
      return undefined;
  }
}

function heard(hub: HubPort, message: HubMessage): unknown[] | undefined {
  const { url } = hub._config;
  switch (message[0]) {
    case HubKind.Opened:
    case HubKind.Joined:
      return [nameOf(hub, message[2]), 'is open'];
    case HubKind.Message:
      return [nameOf(hub, message[2]), 'message', message[5]];
    case HubKind.Mirror:
      return [url, 'message', message[2]];
    case HubKind.Closed:
      return [nameOf(hub, message[2]), 'is closed', message[4], message[6]];
    case HubKind.Ended:
      return [nameOf(hub, message[2]), 'is closed', message[3], message[5]];
    case HubKind.Error:
      return [nameOf(hub, message[2]), 'error', message[3]];
    case HubKind.Subscribed:
      return [nameOf(hub, message[2]), 'is subscribed', { epoch: message[3], offset: message[4] }];
    case HubKind.Publication:
      return [nameOf(hub, message[2]), 'message', message[5]];
    case HubKind.Gap:
      return [nameOf(hub, message[2]), 'gap', { epoch: message[3], offset: message[4] }];
    case HubKind.Unsubscribed:
      return [nameOf(hub, message[2]), 'has ended', message[3]];
    case HubKind.Attached:
    case HubKind.State:
      return [url, `link is ${STATES[message[2]]}`, { tabs: message[3] }];
    case HubKind.Browser:
      return [url, 'message to all tabs', message[3]];
    case HubKind.Direct:
      return [url, 'message to this tab', message[3]];
    case HubKind.BrowserGap:
      return [url, 'gap in the messages to all tabs'];
    case HubKind.Renew:
      return [url, 'is a new session'];
    case HubKind.Wait:
      return [url, 'waits', message[2]];
    case HubKind.Elsewhere:
      return [url, 'goes to the hub of another user'];
    case HubKind.User:
      return message[2] ? undefined : [url, 'is of the user', message[3]];
    case HubKind.Lost:
      return [url, 'the session is lost', message[2]];
    case HubKind.Resync:
      return [url, 'another hub'];
    case HubKind.Failed:
    case HubKind.OtherBuild:
    case HubKind.NotLoaded:
      return [url, 'there is no hub', message[1]];
    case HubKind.Resume:
    case HubKind.Credit:
    case HubKind.Check:
    case HubKind.Sent:
    case HubKind.Seen:
    case HubKind.Ask:
    case HubKind.Passed:
    case HubKind.Loading:
    case HubKind.Moved:
    case HubKind.Ping:
      return undefined;
  }
}
