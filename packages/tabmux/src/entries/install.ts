// `tabmux/install`: shares sockets that other code opens. The import replaces the global
// `WebSocket`. Import it before libraries that keep a reference to `WebSocket`. All sockets are the
// browser's own while there is no rule, and where there are no workers.

import { SharedWebSocket } from '../index.js';
import type { SharedWebSocketOptions } from '../index.js';

/** Selects the sockets that are shared: those whose `ws:` or `wss:` URL matches. */
export type Match = RegExp | ((url: URL) => boolean);

type Rule = [matches: (url: URL) => boolean, options: SharedWebSocketOptions | undefined];

const Native = globalThis.WebSocket;
const rules = new Set<Rule>();

const ruleFor = (given: unknown): Rule | undefined => {
  let url: URL;
  try {
    url = new URL(`${given}`, globalThis.document?.baseURI ?? location.href);
  } catch {
    // The browser's own class throws the error.
    return;
  }
  url.protocol = url.protocol.replace('http', 'ws');
  return [...rules].find(([matches]) => matches(url));
};

const isInstance = (value: unknown): boolean =>
  value instanceof Native || value instanceof SharedWebSocket;

const Replacement: typeof WebSocket = Native && new Proxy(Native, {
  construct(target, given, newTarget) {
    // A class that extends this one extends the browser's class.
    const rule = newTarget === Replacement && ruleFor(given[0]);
    return rule ? new SharedWebSocket(given[0], given[1], rule[1])
      : Reflect.construct(target, given, newTarget === Replacement ? target : newTarget);
  },
  get: (target, key) =>
    key === Symbol.hasInstance ? isInstance : target[key as never],
});

if (globalThis.Worker && Native) globalThis.WebSocket = Replacement;

/**
 * Shares the sockets that match from now on, with these options. The first rule that matches
 * decides. If a rule throws, `new WebSocket` throws. Open sockets do not change.
 *
 * @returns a function that removes the rule
 * @throws TypeError for a rule that is neither a RegExp nor a function
 */
export function install(match: Match, options?: SharedWebSocketOptions): () => void {
  const matches = match instanceof RegExp ? (url: URL) => url.href.search(match) >= 0 : match;
  if (typeof matches !== 'function') throw TypeError('tabmux: no RegExp');
  const rule: Rule = [matches, options];
  rules.add(rule);
  return () => void rules.delete(rule);
}

/** Removes all rules, and restores the browser's class unless other code has replaced it since. */
export function uninstall(): void {
  rules.clear();
  if (globalThis.WebSocket === Replacement) globalThis.WebSocket = Native;
}
