// What the tabs of one hub say to each other by: a BroadcastChannel, or where there is none the
// events that a change of localStorage causes in all other tabs.

import type { HubFrame, TabFrame } from './bus.js';

/** One end of the bus. */
export interface Wire {
  _post(frame: TabFrame | HubFrame): void;
  _close(): void;
}

/** Opens the bus. `hear` gets what others post, `fail` is called when a message does not fit. */
export function openWire(
  name: string,
  hasChannel: boolean,
  hear: (frame: unknown) => void,
  fail: () => void,
): Wire {
  if (!hasChannel) return openStorageWire(name, hear, fail);
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => hear(data);
  return {
    _post: (frame) => channel.postMessage(frame),
    _close: () => channel.close(),
  };
}

function openStorageWire(name: string, hear: (frame: unknown) => void, fail: () => void): Wire {
  const prefix = name + ':' + Math.random() + ':';
  let count = 0;
  const onStorage = ({ key, newValue }: StorageEvent): void => {
    if (newValue !== null && key?.startsWith(name + ':')) hear(decode(newValue));
  };
  addEventListener('storage', onStorage);
  return {
    _post(frame) {
      const key = prefix + (count += 1);
      try {
        localStorage.setItem(key, encode(frame));
        // The event carries the value: nothing needs to stay.
        localStorage.removeItem(key);
      } catch {
        fail();
      }
    },
    _close: () => removeEventListener('storage', onStorage),
  };
}

/** Frames as JSON: an id is `{n: hexadecimal}`, bytes are `{b: base64}`. */
function encode(frame: unknown): string {
  return JSON.stringify(frame, (_, value: unknown) => {
    if (typeof value === 'bigint') return { n: value.toString(16) };
    if (value instanceof Uint8Array) {
      let text = '';
      for (const byte of value) text += String.fromCharCode(byte);
      return { b: btoa(text) };
    }
    return value;
  });
}

function decode(text: string): unknown {
  try {
    return JSON.parse(text, (_, value: { n?: unknown; b?: unknown } | null) => {
      if (typeof value?.n === 'string') return BigInt('0x' + value.n);
      if (typeof value?.b === 'string') {
        return Uint8Array.from(atob(value.b), (c) => c.charCodeAt(0));
      }
      return value;
    });
  } catch {
    return undefined;
  }
}
