// `tabmux/install`: shares sockets that other code opens. Importing it replaces the global
// `WebSocket`, so import it before libraries that keep a reference to that. Without a rule, and
// where there are no workers, all sockets are the browser's.

import { SharedWebSocket } from '../index.js';
import type { SharedWebSocketOptions } from '../index.js';

/** Which sockets are shared: those whose URL, `ws:` or `wss:`, matches. */
export type Match = RegExp | ((url: URL) => boolean);

type Rule = [matches: (url: URL) => boolean, options: SharedWebSocketOptions | undefined];

const Native = globalThis.WebSocket;
const rules = new Set<Rule>();

const ruleFor = (given: unknown): Rule | undefined => {
  let url: URL;
  try {
    url = new URL(`${given}`, globalThis.document?.baseURI ?? location.href);
  } catch {
    // The browser's own class says what is wrong with it.
    return;
  }
  url.protocol = url.protocol.replace('http', 'ws');
  return [...rules].find(([matches]) => matches(url));
};

const isInstance = (value: unknown): boolean =>
  value instanceof Native || value instanceof SharedWebSocket;

const Replacement: typeof WebSocket = Native && new Proxy(Native, {
  construct(target, given, newTarget) {
    // A class that extends this one extends the browser's.
    const rule = newTarget === Replacement && ruleFor(given[0]);
    return rule ? new SharedWebSocket(given[0], given[1], rule[1])
      : Reflect.construct(target, given, newTarget === Replacement ? target : newTarget);
  },
  get: (target, key) =>
    key === Symbol.hasInstance ? isInstance : target[key as never],
});

if (globalThis.Worker && Native) globalThis.WebSocket = Replacement;

/**
 * From now on sockets that match are shared, with these options; the first rule that matches
 * decides. An exception of a rule is one of `new WebSocket`. Open sockets stay as they are.
 *
 * @returns what takes the rule back
 * @throws TypeError for a rule that is neither a RegExp nor a function
 */
export function install(match: Match, options?: SharedWebSocketOptions): () => void {
  const matches = match instanceof RegExp ? (url: URL) => url.href.search(match) >= 0 : match;
  if (typeof matches !== 'function') throw TypeError('tabmux: no RegExp');
  const rule: Rule = [matches, options];
  rules.add(rule);
  return () => void rules.delete(rule);
}

/** Takes all rules back, and puts the browser's class in its place, unless another is there. */
export function uninstall(): void {
  rules.clear();
  if (globalThis.WebSocket === Replacement) globalThis.WebSocket = Native;
}
