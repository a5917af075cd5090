// The table *Inside other libraries* of README.md: each of its lines, compiled and never run.

import { Client } from '@stomp/stompjs';
import { Centrifuge } from 'centrifuge';
import { createClient } from 'graphql-ws';
import { WebSocket as PartyWebSocket } from 'partysocket';
import { Socket } from 'phoenix';
import ReconnectingWebSocket from 'reconnecting-websocket';
import { webSocket } from 'rxjs/webSocket';
import { SharedWebSocket } from 'tabmux';

export class MuxSocket extends SharedWebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols, { mode: 'mux' });
  }
}

const url = 'wss://example.org/';

export const all = [
  new PartyWebSocket(url, [], { WebSocket: SharedWebSocket }),
  new ReconnectingWebSocket(url, [], { WebSocket: SharedWebSocket }),
  webSocket({ url, WebSocketCtor: SharedWebSocket }),
  createClient({ url, webSocketImpl: MuxSocket }),
  new Centrifuge(url, { websocket: MuxSocket }),
  new Client({ webSocketFactory: () => new MuxSocket(url) }),
  new Socket(url, { transport: MuxSocket }),
];
