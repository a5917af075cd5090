// `tabmux/debug`: what a developer asks a browser for. No part of the page library.

/** All that one hub was told, for `cargo run -p tabmux-sim -- replay`. */
export interface Trace {
  /** The hub: 16 hexadecimal digits. */
  readonly hub: string;
  /** The trace. It holds what users sent and received. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** It was longer than it may be: this is its beginning. */
  readonly full: boolean;
}

/** The name of the BroadcastChannel on which workers are asked. */
export const CHANNEL = 'tabmux:debug';

/** What they are asked for. */
export type Question = 'traces' | 'ignored';

/**
 * The traces of all hubs of this origin whose workers record one, with those of hubs that trapped.
 * A worker records where its address has the parameter `trace`: the option `worker` is then
 * `/tabmux/worker.js?trace`, or `?trace=64` for 64 MiB of each hub instead of 8.
 *
 * @param patience - how long workers have to answer, in milliseconds: nobody knows how many there
 *   are
 */
export function traces(patience = 1000): Promise<Trace[]> {
  return ask('traces', (answer) => typeof answer === 'object' && answer !== null, patience);
}

/**
 * How many messages each worker of this origin has ignored because they had no meaning: what some
 * script posted to its port or to its BroadcastChannel.
 *
 * @param patience - as of {@link traces}
 */
export function ignored(patience = 1000): Promise<number[]> {
  return ask('ignored', (answer) => typeof answer === 'number', patience);
}

/** All answers; others may ask meanwhile, and hear and be heard. */
function ask<T>(question: Question, isMine: (answer: unknown) => boolean, patience: number):
Promise<T[]> {
  const found: T[] = [];
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }: MessageEvent<T>) => {
    if (isMine(data)) found.push(data);
  };
  channel.postMessage(question);
  return new Promise((resolve) => {
    setTimeout(() => {
      channel.close();
      resolve(found);
    }, patience);
  });
}
