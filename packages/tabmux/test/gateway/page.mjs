// The page: thirteen libraries, each with `TabSocket` in the place of `WebSocket`. The line behind
// `// NAME:` is the one of the table in README.md and docs/gateway.md (table.mjs).

import { createConsumer, adapters } from '@rails/actioncable';
import { HttpTransportType, HubConnectionBuilder, LogLevel } from '@microsoft/signalr';
import { Client } from '@stomp/stompjs';
import { createTRPCClient, createWSClient, wsLink } from '@trpc/client';
import { Centrifuge } from 'centrifuge';
import { createClient } from 'graphql-ws';
import mqtt from 'mqtt';
import { WebSocket as PartyWebSocket } from 'partysocket';
import { Socket } from 'phoenix';
import ReconnectingWebSocket from 'reconnecting-websocket';
import { webSocket } from 'rxjs/webSocket';
import { io } from 'socket.io-client';
import { WebSocket as Transport } from 'engine.io-client';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';
import { SharedWebSocket } from '/tabmux/client.js';

const classes = { native: WebSocket, mux: SharedWebSocket.with({ mode: 'mux' }) };

const soon = (event) => new Promise((resolve, reject) => {
  event(resolve);
  setTimeout(() => reject(new Error('nothing came')), 20_000);
});

/** Each opens its library, and returns what talks, and what closes. */
const libraries = {
  graphql(url, TabSocket) {
    // graphql-ws:
    const client = createClient({ url, webSocketImpl: TabSocket });
    const all = (query, variables) => soon((resolve) => {
      const heard = [];
      const next = ({ data }) => heard.push(data);
      client.subscribe({ query, variables }, { next, error: () => {}, complete: () => resolve(heard) });
    });
    return {
      talk: async (tab) => [
        await all('query ($tab: Int) { hello(tab: $tab) }', { tab }),
        await all('subscription { count }'),
      ],
      close: () => client.dispose(),
    };
  },
  phoenix(url, TabSocket) {
    const query = { params: params(url) };
    // Phoenix:
    const socket = new Socket(base(url), { transport: TabSocket, ...query });
    socket.connect();
    return {
      async talk(tab) {
        const channel = socket.channel('room');
        await soon((resolve) => channel.join().receive('ok', resolve));
        return soon((resolve) => channel.push('ask', { tab }).receive('ok', resolve));
      },
      close: () => socket.disconnect(),
    };
  },
  stomp(url, TabSocket) {
    // stompjs:
    const client = new Client({ webSocketFactory: () => new TabSocket(url, ['v12.stomp']) });
    client.reconnectDelay = 500;
    const connected = soon((resolve) => (client.onConnect = resolve));
    connected.catch(() => {});
    client.activate();
    return {
      async talk(tab) {
        await connected;
        return soon((resolve) => {
          client.subscribe('/a', ({ body }) => resolve(body));
          client.publish({ destination: '/a', body: `${tab}` });
        });
      },
      close: () => client.deactivate(),
    };
  },
  centrifuge(url, TabSocket) {
    // centrifuge:
    const client = new Centrifuge(url, { websocket: TabSocket });
    client.connect();
    return { talk: async (tab) => (await client.rpc('ask', tab)).data, close: () => client.disconnect() };
  },
  socketio(url, TabSocket) {
    // Socket.IO:
    class TabTransport extends Transport { createSocket(uri, names) { return new TabSocket(uri, names); } }
    const { origin } = new URL(url.replace('ws', 'http'));
    const socket = io(origin, { path: '/socketio/', query: params(url), transports: [TabTransport] });
    return { talk: (tab) => soon((resolve) => socket.emit('ask', tab, resolve)), close: () => socket.disconnect() };
  },
  mqtt(url, TabSocket) {
    // MQTT.js:
    const client = mqtt.connect(url, { createWebsocket: (url, names) => new TabSocket(url, names) });
    client.on('error', () => {});
    return {
      async talk(tab) {
        await client.subscribeAsync(`tab/${tab}`);
        const heard = soon((resolve) => client.on('message', (topic, text) => resolve(`${topic} ${text}`)));
        await client.publishAsync(`tab/${tab}`, 'hello');
        return heard;
      },
      close: () => client.end(),
    };
  },
  rxjs(url, TabSocket) {
    // rxjs:
    const subject = webSocket({ url, WebSocketCtor: TabSocket });
    const heard = soon((resolve) => subject.subscribe({ next: resolve, error: () => {} }));
    heard.catch(() => {});
    return { talk: (tab) => { subject.next({ tab }); return heard; }, close: () => subject.complete() };
  },
  reconnecting(url, TabSocket) {
    // reconnecting-websocket:
    const socket = new ReconnectingWebSocket(url, [], { WebSocket: TabSocket, ...fast });
    return reconnecting(socket);
  },
  partysocket(url, TabSocket) {
    // partysocket:
    const socket = new PartyWebSocket(url, [], { WebSocket: TabSocket, ...fast });
    return reconnecting(socket);
  },
  yjs(url, TabSocket) {
    const doc = new Y.Doc();
    const alone = { disableBc: true, params: params(url) };
    // y-websocket:
    const provider = new WebsocketProvider(base(url), 'doc', doc, { WebSocketPolyfill: TabSocket, ...alone });
    const map = doc.getMap('tabs');
    return {
      async talk(tab) {
        map.set(`${tab}`, 'here');
        await soon((resolve) => {
          const look = () => map.size === 3 && resolve();
          doc.on('update', look);
          look();
        });
        return map.toJSON();
      },
      close: () => provider.destroy(),
    };
  },
  signalr(url, TabSocket) {
    const { WebSockets } = HttpTransportType;
    // SignalR:
    const options = { skipNegotiation: true, transport: WebSockets, WebSocket: TabSocket };
    const hub = new HubConnectionBuilder().withUrl(url.replace('ws', 'http'), options).configureLogging(LogLevel.None).build();
    const started = hub.start();
    started.catch(() => {});
    return { talk: async (tab) => { await started; return hub.invoke('ask', tab); }, close: () => hub.stop() };
  },
  trpc(url, TabSocket) {
    // tRPC:
    const wsClient = createWSClient({ url, WebSocket: TabSocket });
    const client = createTRPCClient({ links: [wsLink({ client: wsClient })] });
    return {
      talk: async (tab) => [
        await client.hello.query(tab),
        await soon((resolve) => {
          const heard = [];
          client.count.subscribe(undefined, { onData: (n) => heard.push(n), onComplete: () => resolve(heard) });
        }),
      ],
      close: () => wsClient.close(),
    };
  },
  cable(url, TabSocket) {
    // Action Cable:
    adapters.WebSocket = TabSocket;
    const consumer = createConsumer(url);
    let received = () => {};
    const connected = soon((resolve) => {
      const channel = consumer.subscriptions.create('Room', {
        connected: () => resolve(channel),
        received: (message) => received(message),
      });
    });
    connected.catch(() => {});
    return {
      async talk(tab) {
        const channel = await connected;
        return soon((resolve) => {
          received = resolve;
          channel.perform('ask', { what: tab });
        });
      },
      close: () => consumer.disconnect(),
    };
  },
};

/** A URL without its query. */
const base = (url) => url.split('?')[0];
/** Connecting again without long pauses. */
const fast = { minReconnectionDelay: 100 };
const params = (url) => Object.fromEntries(new URL(url).searchParams);

/** A socket that connects again: it is told to end, and talks on the next connection. */
function reconnecting(socket) {
  const say = (text) => soon((resolve) => {
    socket.addEventListener('message', ({ data }) => resolve(data), { once: true });
    socket.send(text);
  });
  return {
    async talk(tab) {
      const first = await say(`${tab}`);
      const closed = soon((resolve) => socket.addEventListener('close', resolve, { once: true }));
      socket.send('end');
      const { code, reason } = await closed;
      return [first, code, reason, await say('again')];
    },
    close: () => socket.close(1000, 'bye'),
  };
}

/** Opens a library, talks, and closes it. Returns what it heard. */
globalThis.talk = async (name, mode, origin, tab) => {
  const library = libraries[name](`${origin}/${name}?tab=${tab}`, classes[mode]);
  const heard = await library.talk(tab);
  await library.close();
  return heard;
};

/** Opens a library, which is refused. */
globalThis.attempt = (name, mode, origin) => {
  // The same pauses between attempts in both modes.
  Math.random = () => 0.5;
  const library = libraries[name](`${origin}/${name}?tab=0`, classes[mode]);
  // Some dial only when there is something to say.
  Promise.resolve().then(() => library.talk(0)).catch(() => {});
};

globalThis.names = Object.keys(libraries);
