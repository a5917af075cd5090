export { connect } from './client.js';
export type {
  Client, ClientEvents, ConnectOptions, Decode, DecodeOptions, Listenable, Position, RawSchema,
  Schema, Status, Topic, TopicEvents, TopicName, TopicOptions,
} from './client.js';
export type { SharingOptions } from './port.js';
export { SharedWebSocket } from './socket.js';
export type {
  Given, Reconnect, Reset, Rules, Shared, SharedWebSocketEventMap, SharedWebSocketOptions,
  SocketErrorEvent,
} from './socket.js';
export type { Skipped, Tier } from './host.js';
