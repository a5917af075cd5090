// `tabmux/svelte`: stores, for `$name` in components. What they open is closed with the last
// subscriber; nothing is opened on a server.

import { readable } from 'svelte/store';
import type { Readable } from 'svelte/store';
import type { Client, Schema, Status, TopicName } from '../index.js';
import { NOTHING, NO_STATUS, socketSource, statusSource, topicSource } from '../sources.js';
import type {
  DataOf, SocketState, TopicState, UseSocketOptions, UseTopicOptions,
} from '../sources.js';

export type { SocketState, TopicState, UseSocketOptions, UseTopicOptions } from '../sources.js';

/** A socket while somebody subscribes, and its state. Without a URL there is none. */
export const useSharedWebSocket = (
  url: string | URL | null | undefined,
  options?: UseSocketOptions,
): Readable<SocketState> => readable(NOTHING, socketSource(url, options));

/** A topic while somebody subscribes, and its state. Without a name there is none. */
export const useTopic = <S extends Schema, N extends TopicName<S>>(
  client: Client<S>,
  name: N | null | undefined,
  options?: UseTopicOptions<DataOf<S, N>>,
): Readable<TopicState<DataOf<S, N>>> => readable(NOTHING, topicSource(client, name, options));

/** The status of a client. A server renders it as `idle`. */
export const useStatus = <S extends Schema>(client: Client<S>): Readable<Status> =>
  readable(NO_STATUS, statusSource(client));
