// `tabmux/socket`: the drop-in for WebSocket, and nothing else.

export { SharedWebSocket } from '../index.js';
export type {
  Given, Reconnect, Reset, Rules, Shared, SharedWebSocketEventMap, SharedWebSocketOptions,
  SharingOptions, Skipped, SocketErrorEvent, Tier,
} from '../index.js';
