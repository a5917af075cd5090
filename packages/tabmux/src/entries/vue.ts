// `tabmux/vue`: composables. What they open is closed with the component, or the effect scope, in
// which they were called; nothing is opened on a server.

import { shallowRef, toValue, watchEffect } from 'vue';
import type { MaybeRefOrGetter, ShallowRef } from 'vue';
import type { Client, Schema, Status, TopicName } from '../index.js';
import { NOTHING, NO_STATUS, socketSource, statusSource, topicSource } from '../sources.js';
import type {
  DataOf, SocketState, Source, TopicState, UseSocketOptions, UseTopicOptions,
} from '../sources.js';

export type { SocketState, TopicState, UseSocketOptions, UseTopicOptions } from '../sources.js';

/** A socket once the component is there, and its state. Without a URL there is none. */
export const useSharedWebSocket = (
  url: MaybeRefOrGetter<string | URL | null | undefined>,
  options?: UseSocketOptions,
): Readonly<ShallowRef<SocketState>> =>
  useSource(NOTHING, () => socketSource(toValue(url), options));

/** A topic once the component is there, and its state. Without a name there is none. */
export const useTopic = <S extends Schema, N extends TopicName<S>>(
  client: Client<S>,
  name: MaybeRefOrGetter<N | null | undefined>,
  options?: UseTopicOptions<DataOf<S, N>>,
): Readonly<ShallowRef<TopicState<DataOf<S, N>>>> =>
  useSource(NOTHING, () => topicSource(client, toValue(name), options));

/** The status of a client. A server renders it as `idle`. */
export const useStatus = <S extends Schema>(client: Client<S>): Readonly<ShallowRef<Status>> =>
  useSource(NO_STATUS, () => statusSource(client));

/** A source is made once the component is there, and anew when what names it changes. */
function useSource<T>(initial: T, make: () => Source<T>): Readonly<ShallowRef<T>> {
  const state = shallowRef(initial);
  watchEffect((onCleanup) => {
    state.value = initial;
    onCleanup(make()((next) => {
      state.value = next;
    }));
  }, { flush: 'post' });
  return state;
}
