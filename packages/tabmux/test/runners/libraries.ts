// The table *Inside other libraries* of README.md: each of its lines, compiled and never run.

import { Client } from '@stomp/stompjs';
import { Centrifuge } from 'centrifuge';
import { createClient } from 'graphql-ws';
import { WebSocket as PartyWebSocket } from 'partysocket';
import { Socket } from 'phoenix';
import ReconnectingWebSocket from 'reconnecting-websocket';
import { webSocket } from 'rxjs/webSocket';
import { SharedWebSocket } from 'tabmux';

export class ExclusiveSocket extends SharedWebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols, { mode: 'exclusive' });
  }
}

const url = 'wss://example.org/';

export const all = [
  new PartyWebSocket(url, [], { WebSocket: SharedWebSocket }),
  new ReconnectingWebSocket(url, [], { WebSocket: SharedWebSocket }),
  webSocket({ url, WebSocketCtor: SharedWebSocket }),
  createClient({ url, webSocketImpl: ExclusiveSocket }),
  new Centrifuge(url, { websocket: ExclusiveSocket }),
  new Client({ webSocketFactory: () => new ExclusiveSocket(url) }),
  new Socket(url, { transport: ExclusiveSocket }),
];
