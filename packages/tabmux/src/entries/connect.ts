// `tabmux/client`: the client of a tabmux server, and nothing else.

export { connect } from '../index.js';
export type {
  Client, ClientEvents, ConnectOptions, Listenable, Position, SharingOptions, Status, Tier, Topic,
  TopicEvents,
} from '../index.js';
