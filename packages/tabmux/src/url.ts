// The arguments of a WebSocket's constructor, checked as https://websockets.spec.whatwg.org does.

/** A `DOMException`, the error a WebSocket throws for everything but a wrong type. */
export const fault = (name: string, text: string): DOMException =>
  new DOMException('tabmux: ' + text, name);

/** What a relative URL is relative to; nothing outside of browsers. */
const base = (): string | undefined => {
  const { document, location } = globalThis as { document?: Document; location?: Location };
  return document?.baseURI ?? location?.href;
};

/** The URL of a socket. Throws a `SyntaxError` for what cannot be one. */
export function socketUrl(text: string | URL): URL {
  const input = `${text}`;
  let url: URL | undefined;
  try {
    url = new URL(new URL(input, base()).href.replace(/^http/, 'ws'));
  } catch {
    // Said below.
  }
  if (!url || !/^wss?:[^#]*$/.test(url.href)) {
    throw fault('SyntaxError', `'${input}' is no URL of a WebSocket`);
  }
  return url;
}

/** The sub-protocols. Throws a `SyntaxError` for what is no token, and for one given twice. */
export function subProtocols(given: unknown): string[] {
  const isList = given && typeof given === 'object' && Symbol.iterator in given;
  const list = Array.from(isList ? (given as Iterable<unknown>) : [given], (name) => `${name}`);
  list.forEach((name, index) => {
    if (!/^[-\w!#-'*+.^`|~]+$/.test(name) || list.indexOf(name) < index) {
      throw fault('SyntaxError', `'${name}' cannot be a sub-protocol, or is given twice`);
    }
  });
  return list;
}
