// Sockets, clients and topics are closed by `close()`, by an `AbortSignal`, and by `using`.

/** What `using` calls. Where engines lack it, this is the key that bundlers' helpers look for. */
export const DISPOSE: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for('Symbol.dispose');

/**
 * Calls `close` when one of the signals aborts, at once if it has, until `left` aborts. Throws for
 * a signal that is none: it is called before anything is opened.
 */
export function closeOn(
  close: () => void,
  left: AbortController,
  ...signals: (AbortSignal | undefined)[]
): void {
  for (const signal of signals) {
    signal?.addEventListener('abort', close, left);
    if (signal?.aborted) close();
  }
}
