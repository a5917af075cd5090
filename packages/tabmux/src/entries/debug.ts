// `tabmux/debug`: functions that a developer calls in a browser. They are no part of the page
// library.

import { CHANNEL } from '../questions.js';
import type { Question, Trace } from '../questions.js';

export { log } from '../log.js';
export type { Write } from '../log.js';
export type { Trace } from '../questions.js';

/**
 * Returns the traces of all hubs of this origin whose workers record one, and those of hubs that
 * trapped. A worker records a trace if its address has the parameter `trace`. The option `worker`
 * is then `/tabmux/worker.js?trace`, or `?trace=64` for 64 MiB of each hub instead of 8.
 *
 * @param patience - how long to wait for answers, in milliseconds; the number of workers is not
 * known
 */
export function traces(patience = 1000): Promise<Trace[]> {
  return ask('traces', (answer) => typeof answer === 'object' && answer !== null, patience);
}

/**
 * Returns how many messages each worker of this origin has ignored because they had no meaning.
 * Some script posted them to the worker's port or to its BroadcastChannel.
 *
 * @param patience - how long to wait for answers, in milliseconds
 */
export function ignored(patience = 1000): Promise<number[]> {
  return ask('ignored', (answer) => typeof answer === 'number', patience);
}

/**
 * Returns all answers that arrive in time. They may include answers to another script that asks the
 * same question meanwhile.
 */
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
