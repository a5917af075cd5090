// A key that is a function: the page asks who the user is.

/**
 * Asks for the key of a socket, and joins its connection. Asks again when the page comes back from
 * the back/forward cache, and fails the socket if another user is there then. Ends with the signal.
 */
export function askKey(
  key: () => string | Promise<string>,
  join: (key: string) => void,
  fail: (text: string) => void,
  signal: AbortSignal,
): void {
  let known: string | undefined;
  const ask = async (): Promise<void> => {
    try {
      const now = await key();
      if (known === undefined) join(known = now);
      else if (known !== now) fail('tabmux: the key is another one');
    } catch (error) {
      fail(`tabmux: the key is not known: ${error}`);
    }
  };
  // No such events outside of pages.
  globalThis.addEventListener?.('pageshow', ({ persisted }) => persisted && ask(), { signal });
  void ask();
}
