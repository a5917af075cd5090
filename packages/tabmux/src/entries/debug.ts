// `tabmux/debug`: what a developer asks a browser for. No part of the page library.

import { CHANNEL } from '../questions.js';
import type { Question, Trace } from '../questions.js';

export { log } from '../log.js';
export type { Write } from '../log.js';
export type { Trace } from '../questions.js';

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
