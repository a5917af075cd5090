// Type tests: compiled, never run.

import { SharedWebSocket, connect } from '../src/index.js';
import type { Client, SharedWebSocketOptions, Status, Tier } from '../src/index.js';

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
