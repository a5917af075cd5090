// `tabmux/svelte`: stores for `$name` in components. A store closes what it opened when its last
// subscriber leaves. On a server it opens nothing.

import { readable } from 'svelte/store';
import type { Readable } from 'svelte/store';
import type { Client, Schema, Status, TopicName } from '../index.js';
import { NOTHING, NO_STATUS, socketSource, statusSource, topicSource } from '../sources.js';
import type {
  DataOf, SocketState, TopicState, UseSocketOptions, UseTopicOptions,
} from '../sources.js';

export type { SocketState, TopicState, UseSocketOptions, UseTopicOptions } from '../sources.js';

/**
 * Opens a socket while the store has subscribers, and returns its state. Opens none if the URL is
 * missing.
 */
export const useSharedWebSocket = (
  url: string | URL | null | undefined,
  options?: UseSocketOptions,
): Readable<SocketState> => readable(NOTHING, socketSource(url, options));

/**
 * Subscribes to a topic while the store has subscribers, and returns its state. Does not subscribe
 * if the client or the name is missing.
 */
export const useTopic = <S extends Schema, N extends TopicName<S>>(
  client: Client<S> | null | undefined,
  name: N | null | undefined,
  options?: UseTopicOptions<DataOf<S, N>>,
): Readable<TopicState<DataOf<S, N>>> => readable(NOTHING, topicSource(client, name, options));

/** Returns the status of a client. It is `idle` on a server, and without a client. */
export const useStatus = <S extends Schema>(
  client: Client<S> | null | undefined,
): Readable<Status> => readable(NO_STATUS, statusSource(client));
