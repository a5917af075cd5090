// Type tests: compiled, never run.

import { useSharedWebSocket, useTopic } from '../src/entries/react.js';
import { useTopic as useVueTopic } from '../src/entries/vue.js';
import { useTopic as useSvelteTopic } from '../src/entries/svelte.js';
import { SharedWebSocket, connect } from '../src/index.js';
import type { Client, Position, SharedWebSocketOptions, Status, Tier } from '../src/index.js';

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const proven = <T extends true>(): T | undefined => undefined;

// A drop-in: goes wherever a WebSocket goes, also as a constructor.
export const socket: WebSocket = new SharedWebSocket('ws://x');
export const Class: new (url: string | URL, protocols?: string | string[]) => WebSocket =
  SharedWebSocket;
export const constants: Pick<typeof WebSocket, 'CONNECTING' | 'OPEN' | 'CLOSING' | 'CLOSED'> =
  SharedWebSocket;

const shared = new SharedWebSocket(new URL('ws://x'), ['one'], { mode: 'mux', key: 'me' });
shared.addEventListener('close', ({ code, reason, wasClean }) => [code, reason, wasClean]);
shared.addEventListener('message', ({ data }: MessageEvent<string>) => data);
shared.onclose = ({ code }) => code;
shared.onmessage = function handler({ data }) {
  this.send(data);
};
shared.send(new Uint8Array(1));
shared.send(new Blob([]));
proven<Same<typeof shared.tier, Tier>>();
proven<Same<typeof shared.shared.tabs, number>>();
// @ts-expect-error the state is read-only
shared.readyState = 1;
// @ts-expect-error no number is sent
shared.send(1);
// @ts-expect-error a mode that does not exist
new SharedWebSocket('ws://x', [], { mode: 'both' });
// @ts-expect-error an option that does not exist
new SharedWebSocket('ws://x', [], { colour: 'red' });
export const options: SharedWebSocketOptions = { worker: new URL('http://x/w.js'), endpoint: '/' };

const client: Client = connect('/', { signal: new AbortController().signal });
const off = client.on('status', (status) => proven<Same<typeof status, Status>>());
proven<Same<typeof off, () => void>>();
client.on('message', ({ data }) => proven<Same<typeof data, string | Uint8Array>>(), {});
// @ts-expect-error an event that does not exist
client.on('noise', () => undefined);
// @ts-expect-error the status is read-only
client.status = client.status;

// `this` is the socket itself, with what a WebSocket does not have.
shared.onopen = function handler() {
  const { tabs } = this.shared;
  proven<Same<typeof tabs, number>>();
};
shared.addEventListener('close', function listener() {
  const { tier } = this;
  proven<Same<typeof tier, Tier>>();
});
shared.onerror = ({ message }) => proven<Same<typeof message, string>>();
shared.addEventListener('error', ({ message }) => proven<Same<typeof message, string>>());

// What can be closed is closed by a signal, and by `using`.
const { signal } = new AbortController();
new SharedWebSocket('ws://x', [], { signal });
export const closables: Disposable[] = [shared, client, client.topic('news', { signal })];

// Without `decode`, data is what travels.
client.topic('news').on('message', ({ data, position }) => {
  proven<Same<typeof data, string | Uint8Array>>();
  proven<Same<typeof position, Position>>();
});
// @ts-expect-error nothing makes numbers of what travels
connect<{ topics: { temperature: number } }>('/');

// With `decode`, one schema has the types of all messages.
interface App {
  message: { readonly motd: string };
  topics: { prices: { readonly cents: number }; news: string };
}
const app = connect<App>('/', { decode: JSON.parse });
app.on('message', ({ data }) => proven<Same<typeof data, { readonly motd: string }>>());
app.topic('prices').on('message', ({ data }) => proven<Same<typeof data.cents, number>>());
app.topic('news').on('message', ({ data }) => proven<Same<typeof data, string>>());
// @ts-expect-error a topic that does not exist
app.topic('weather');

/** A loop is told of gaps, which have no data. */
export async function loop(): Promise<void> {
  for await (const event of app.topic('prices')) {
    // @ts-expect-error it may be a gap
    event.data;
    if (event.type === 'gap') proven<Same<typeof event.position, Position>>();
    else proven<Same<typeof event.data, { readonly cents: number }>>();
  }
}

/** Hooks have the types of the client's schema. */
export function component(): unknown {
  const { message, gap } = useTopic(app, 'prices', {
    onMessage: ({ data }) => proven<Same<typeof data, { readonly cents: number }>>(),
  });
  if (message) proven<Same<typeof message.data.cents, number>>();
  if (gap) proven<Same<typeof gap.position, Position>>();
  useVueTopic(app, () => 'news').value.message?.data satisfies string | undefined;
  useSvelteTopic(app, 'news')
    .subscribe(({ message }) => message?.data satisfies string | undefined);
  // @ts-expect-error a topic that does not exist
  useTopic(app, 'weather');
  return useSharedWebSocket('/feed', { key: 'me' }).error?.message satisfies string | undefined;
}
