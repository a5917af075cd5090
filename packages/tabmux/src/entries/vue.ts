// `tabmux/vue`: composables for Vue. A composable closes what it opened when its component or
// effect scope ends. On a server it opens nothing.

import { computed, shallowRef, toValue, watchEffect } from 'vue';
import type { MaybeRefOrGetter, ShallowRef } from 'vue';
import type { Client, Schema, Status, TopicName } from '../index.js';
import { NOTHING, NO_STATUS, socketSource, statusSource, topicSource } from '../sources.js';
import type {
  DataOf, SocketState, Source, TopicState, UseSocketOptions, UseTopicOptions,
} from '../sources.js';

export type { SocketState, TopicState, UseSocketOptions, UseTopicOptions } from '../sources.js';

/**
 * Opens a socket after the component is mounted, and returns its state. Opens another one when the
 * text of the URL changes. Opens none if the URL is missing.
 */
export const useSharedWebSocket = (
  url: MaybeRefOrGetter<string | URL | null | undefined>,
  options?: UseSocketOptions,
): Readonly<ShallowRef<SocketState>> =>
  useSource(NOTHING, () => {
    const to = toValue(url);
    return to && String(to);
  }, (to) => socketSource(to, options));

/**
 * Subscribes to a topic after the component is mounted, and returns its state. Subscribes to
 * another one when the name changes. Does not subscribe if the client or the name is missing.
 */
export const useTopic = <S extends Schema, N extends TopicName<S>>(
  client: Client<S> | null | undefined,
  name: MaybeRefOrGetter<N | null | undefined>,
  options?: UseTopicOptions<DataOf<S, N>>,
): Readonly<ShallowRef<TopicState<DataOf<S, N>>>> =>
  useSource(NOTHING, () => toValue(name), (topic) => topicSource(client, topic, options));

/** Returns the status of a client. It is `idle` on a server, and without a client. */
export const useStatus = <S extends Schema>(
  client: Client<S> | null | undefined,
): Readonly<ShallowRef<Status>> => useSource(NO_STATUS, () => client, statusSource);

/** Makes a source after the component is mounted, and another one when the name changes. */
function useSource<T, N>(
  initial: T,
  getName: () => N,
  make: (name: N) => Source<T>,
): Readonly<ShallowRef<T>> {
  const state = shallowRef(initial);
  // An effect runs again only if the value of `computed` has changed, not whenever it is computed
  // again.
  const name = computed(getName);
  watchEffect((onCleanup) => {
    state.value = initial;
    onCleanup(make(name.value)((next) => {
      state.value = next;
    }));
  }, { flush: 'post' });
  return state;
}
