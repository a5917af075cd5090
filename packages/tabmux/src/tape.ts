// What the hubs of this worker are told, kept for `tabmux/debug` where the worker's address has the
// parameter `trace`; and the answers to whoever asks there.

import { openChannel } from './bus.js';
import { CHANNEL } from './questions.js';
import type { Question, Trace } from './questions.js';
import { ignored } from './garbage.js';
import { hex } from './protocol.js';

/** How long the trace of one hub may be, in MiB, unless the address says. */
const MIB = 8;

/** How many hubs are kept: this one, and those before it, which trapped. */
const HUBS = 3;

interface Tape {
  bytes: Uint8Array<ArrayBuffer>;
  size: number;
  full: boolean;
}

/** Appends an entry to the trace of a hub. */
export type Record = (hub: bigint, entry: Uint8Array) => void;

/** Answers; and where the address of the worker asks for traces: a function that keeps them. */
export function openTapes(search: string): Record | undefined {
  const tapes = new Map<bigint, Tape>();
  answer(tapes);
  const wanted = new URLSearchParams(search).get('trace');
  if (wanted === null) return undefined;
  const limit = (Number(wanted) || MIB) * 2 ** 20;
  return (hub, entry) => {
    let tape = tapes.get(hub);
    if (!tape) {
      tapes.set(hub, (tape = { bytes: new Uint8Array(2 ** 16), size: 0, full: false }));
      if (tapes.size > HUBS) tapes.delete(tapes.keys().next().value ?? hub);
    }
    const size = tape.size + entry.length;
    // What is beyond the limit, and all after it: a trace with a hole is none.
    if ((tape.full ||= size > limit)) return;
    if (size > tape.bytes.length) {
      const { bytes } = tape;
      tape.bytes = new Uint8Array(Math.max(size, 2 * bytes.length));
      tape.bytes.set(bytes);
    }
    tape.bytes.set(entry, tape.size);
    tape.size = size;
  };
}

function answer(tapes: Map<bigint, Tape>): void {
  const channel = openChannel(CHANNEL);
  if (!channel) return;
  channel.onmessage = ({ data }: MessageEvent<Question>) => {
    if (data === 'ignored') channel.postMessage(ignored);
    if (data !== 'traces') return;
    tapes.forEach(({ bytes, size, full }, hub) => {
      channel.postMessage({ hub: hex(hub), bytes: bytes.slice(0, size), full } satisfies Trace);
    });
  };
}
