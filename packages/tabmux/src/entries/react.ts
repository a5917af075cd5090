// `tabmux/react`: hooks for React. A hook closes what it opened when its component is unmounted. On
// a server it opens nothing.

import { useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import type { Client, Schema, Status, TopicName } from '../index.js';
import { NOTHING, NO_STATUS, socketSource, statusSource, topicSource } from '../sources.js';
import type {
  DataOf, MessageOf, SocketState, Source, TopicState, UseSocketOptions, UseTopicOptions,
} from '../sources.js';

export type { SocketState, TopicState, UseSocketOptions, UseTopicOptions } from '../sources.js';

/**
 * Opens a socket while the component is mounted, and returns its state. Opens none if the URL is
 * missing.
 */
export const useSharedWebSocket = (
  url: string | URL | null | undefined,
  options?: UseSocketOptions,
): SocketState => useSource<SocketState, MessageEvent>(
  NOTHING,
  (onMessage) => socketSource(url, { ...options, onMessage }),
  options?.onMessage,
  JSON.stringify([url, options]),
);

/**
 * Subscribes to a topic while the component is mounted, and returns its state. Does not subscribe
 * if the client or the name is missing.
 */
export const useTopic = <S extends Schema, N extends TopicName<S>>(
  client: Client<S> | null | undefined,
  name: N | null | undefined,
  options?: UseTopicOptions<DataOf<S, N>>,
): TopicState<DataOf<S, N>> => useSource<TopicState<DataOf<S, N>>, MessageOf<DataOf<S, N>>>(
  NOTHING,
  (onMessage) => topicSource(client, name, { onMessage }),
  options?.onMessage,
  client,
  name,
);

/** Returns the status of a client. It is `idle` on a server, and without a client. */
export const useStatus = <S extends Schema>(client: Client<S> | null | undefined): Status =>
  useSource(NO_STATUS, () => statusSource(client), undefined, client);

/**
 * Returns the state of the source that `make` makes from these dependencies. The source calls the
 * listener of the last rendering.
 */
function useSource<T, E>(
  initial: T,
  make: (listener: (event: E) => void) => Source<T>,
  listener: ((event: E) => void) | undefined,
  ...dependencies: unknown[]
): T {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  const [subscribe, get] = useMemo(() => {
    let state = initial;
    const open = make((event) => latest.current?.(event));
    return [
      (changed: () => void) => open((next) => {
        state = next;
        changed();
      }),
      () => state,
    ] as const;
  }, dependencies);
  return useSyncExternalStore(subscribe, get, () => initial);
}
