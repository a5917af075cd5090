// The arguments of a WebSocket's constructor, checked as https://websockets.spec.whatwg.org does.

/** Throws what a WebSocket throws: a `DOMException` of that name, or without one a `TypeError`. */
export function fault(text: string, name?: string): never {
  throw name ? new DOMException('tabmux: ' + text, name) : new TypeError('tabmux: ' + text);
}

/** What the page knows, or a function that tells it each time it is asked. */
export type Given<T> = T | (() => T | Promise<T>);

/** What was given, or what the function that was given returns. */
export const ask = async <T>(given: Given<T>): Promise<T> =>
  (typeof given === 'function' ? (given as () => T)() : given);

/** What errors show of a value that a function returned. */
export const SECRET = 'what the function returned';

/** The URL of a socket. Throws a `SyntaxError` for what cannot be one. */
export function socketUrl(given: string | URL, shown?: string): URL {
  const text = `${given}`;
  // What a relative URL is relative to: nothing outside of browsers.
  const { document, location } = globalThis as { document?: Document; location?: Location };
  let url: URL;
  try {
    url = new URL(text, document?.baseURI ?? location?.href);
    url = new URL(url.href.replace(/^http/, 'ws'));
    if (/^wss?:[^#]*$/.test(url.href)) return url;
  } catch {
    // Said below.
  }
  return fault(`${shown ?? `'${text}'`} is no WebSocket URL`, 'SyntaxError');
}

/** The sub-protocols. Throws a `SyntaxError` for what is no token, and for one given twice. */
export function subProtocols(given: string | Iterable<string>, shown?: string): string[] {
  const isList = typeof given !== 'string' && (given?.[Symbol.iterator] as unknown);
  const names = Array.from(isList ? given : [given as string], (name) => `${name}`);
  names.forEach((name, index) => {
    if (!/^[-\w!#-'*+.^`|~]+$/.test(name) || names.indexOf(name) < index) {
      fault(`bad sub-protocol ${shown ?? `'${name}'`}`, 'SyntaxError');
    }
  });
  return names;
}
