// What the hooks of all frameworks are made of.

import { SharedWebSocket } from './index.js';
import type {
  Client, Position, Schema, SharedWebSocketOptions, SocketErrorEvent, Status, TopicEvents,
  TopicName,
} from './index.js';

/** Opens something and shows its state after each change, until the returned function is called. */
export type Source<T> = (show: (state: T) => void) => () => void;

/** The state of a socket: the newest event of each type. */
export interface SocketState {
  /** The socket: nothing before the component is there, on a server, and without a URL. */
  readonly socket?: SharedWebSocket;
  readonly open?: Event;
  readonly message?: MessageEvent;
  readonly error?: SocketErrorEvent;
  readonly close?: CloseEvent;
}

/** The options of `useSharedWebSocket`. */
export interface UseSocketOptions extends SharedWebSocketOptions {
  /** Sub-protocols to offer. */
  protocols?: string | string[];
  /** Called for each message. Of messages that come together only the newest is rendered. */
  onMessage?: (event: MessageEvent) => void;
}

/** The state of a topic: the newest event of each type. */
export interface TopicState<D> {
  /** Where the topic was when the server took the subscription. */
  readonly ready?: Position;
  readonly message?: TopicEvents<D>['message'];
  /** Publications up to this place may be missing: fetch the state of things anew. */
  readonly gap?: TopicEvents<D>['gap'];
  /** Why the subscription was refused or has ended. */
  readonly end?: TopicEvents<D>['end'];
}

/** The options of `useTopic`. */
export interface UseTopicOptions<D> {
  /** Called for each message. Of messages that come together only the newest is rendered. */
  onMessage?: (event: TopicEvents<D>['message']) => void;
}

/** The data of a schema's topic. */
export type DataOf<S extends Schema, N extends TopicName<S>> =
  NonNullable<S['topics']>[N & keyof S['topics']];

/** A publication of a topic. */
export type MessageOf<D> = TopicEvents<D>['message'];

/** The state of a socket or a topic that is not there yet. */
export const NOTHING = {};

/** The status that a server renders. */
export const NO_STATUS: Status = {
  state: 'idle', tier: 'shared-worker', hubId: '', tabs: 0, tried: [], reason: '',
};

/** A socket, if there is a URL. */
export const socketSource = (
  url: string | URL | null | undefined,
  options?: UseSocketOptions,
): Source<SocketState> => source<SocketState, string | URL>(NOTHING, url, (to, set) => {
  const socket = new SharedWebSocket(to, options?.protocols, options);
  for (const type of ['open', 'message', 'error', 'close']) {
    socket.addEventListener(type, (event) => {
      set({ [type]: event });
      if (type === 'message') options?.onMessage?.(event as MessageEvent);
    });
  }
  set({ socket });
  return () => socket.close();
});

/** A topic, if there is a client and a name. */
export const topicSource = <S extends Schema, N extends TopicName<S>>(
  client: Client<S> | null | undefined,
  name: N | null | undefined,
  options?: UseTopicOptions<DataOf<S, N>>,
): Source<TopicState<DataOf<S, N>>> => source(NOTHING, name && client, (to, set) => {
  const topic = to.topic(name as N);
  for (const type of ['message', 'gap', 'end'] as const) {
    topic.on(type, (event) => {
      set({ [type]: event });
      if (type === 'message') options?.onMessage?.(event as MessageOf<DataOf<S, N>>);
    });
  }
  topic.ready.then(
    (ready) => set({ ready }),
    (error) => set({ end: { type: 'end', reason: error.message } }),
  );
  return () => topic.close();
});

/** The status of a client. */
export const statusSource = <S extends Schema>(
  client: Client<S> | null | undefined,
): Source<Status> =>
  source(NO_STATUS, client, (to, _, show) => {
    show(to.status);
    return to.on('status', show);
  });

/** Opens what `from` names, in a page only. */
const source = <T extends object, From>(
  initial: T,
  from: From | null | undefined,
  open: (from: From, set: (part: Partial<T>) => void, show: (state: T) => void) => () => void,
): Source<T> => (show) => {
  if (!from || !globalThis.document) return () => undefined;
  let state: T | undefined = initial;
  const close = open(from, (part) => state && show(state = { ...state, ...part }), show);
  return () => {
    state = undefined;
    close();
  };
};
