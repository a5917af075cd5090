// `tabmux/socket`: the drop-in for WebSocket, and nothing else.

export { SharedWebSocket } from '../index.js';
export type { Shared, SharedWebSocketOptions, SharingOptions, Tier } from '../index.js';
