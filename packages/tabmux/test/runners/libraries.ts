// The table *Inside other libraries* of README.md: those of its lines whose types matter, compiled.
// The tests of the gateway run them.

import { Client } from '@stomp/stompjs';
import { Centrifuge } from 'centrifuge';
import { createClient } from 'graphql-ws';
import { WebSocket as PartyWebSocket } from 'partysocket';
import { Socket } from 'phoenix';
import ReconnectingWebSocket from 'reconnecting-websocket';
import { webSocket } from 'rxjs/webSocket';
import { SharedWebSocket } from 'tabmux';

export class TabSocket extends SharedWebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols, { mode: 'exclusive' });
  }
}

const url = 'wss://example.org/';

export const all = [
  new PartyWebSocket(url, [], { WebSocket: TabSocket }),
  new ReconnectingWebSocket(url, [], { WebSocket: TabSocket }),
  webSocket({ url, WebSocketCtor: TabSocket }),
  createClient({ url, webSocketImpl: TabSocket }),
  new Centrifuge(url, { websocket: TabSocket }),
  new Client({ webSocketFactory: () => new TabSocket(url, ['v12.stomp']) }),
  new Socket(url, { transport: TabSocket }),
];
