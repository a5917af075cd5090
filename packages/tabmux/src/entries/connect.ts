// `tabmux/client`: the client of a tabmux server, and nothing else.

export { connect } from '../index.js';
export type {
  Client, ClientEvents, ConnectOptions, Decode, DecodeOptions, Listenable, Position, RawSchema,
  Schema, SharingOptions, Skipped, Status, Tier, Topic, TopicEvents, TopicName,
  TopicOptions,
} from '../index.js';
