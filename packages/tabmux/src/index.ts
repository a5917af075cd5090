export { connect } from './client.js';
export type {
  Client, ClientEvents, ConnectOptions, Listenable, Position, Status, Topic, TopicEvents,
} from './client.js';
export type { SharingOptions } from './port.js';
export { SharedWebSocket } from './socket.js';
export type { Shared, SharedWebSocketOptions } from './socket.js';
export type { Tier } from './host.js';
