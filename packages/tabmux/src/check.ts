// What a page posts is checked before it reaches the wasm module: any script of the origin can post
// to the port, and what one page says wrong must not cost the others their hub.

import { PageKind } from './protocol.js';
import type { HubConfig, PageMessage, Rules } from './protocol.js';

/** Whether a port may say this to a hub of that mode, or of any where there is no hub yet. */
export function isPageMessage(
  message: unknown,
  mode?: HubConfig['mode'],
): message is PageMessage {
  if (!Array.isArray(message)) return false;
  const [kind, a, b, c, d, e] = message as unknown[];
  switch (kind) {
    case PageKind.Attach:
      return typeof a === 'bigint' && a === BigInt.asUintN(64, a) && isConfig(b) &&
        typeof c === 'string' && isNumber(d) && isNumber(e);
    case PageKind.Park:
    case PageKind.Bye:
    case PageKind.Reconnect:
    case PageKind.Whose:
    case PageKind.Logout:
    case PageKind.Renew:
    case PageKind.Trap:
      return true;
    case PageKind.Open:
      return isNumber(a) && isBelow(2 ** 32, b) && isPath(c, mode) && isTokens(d);
    case PageKind.Send:
      return isNumber(a) && isBelow(2 ** 32, b) &&
        (typeof c === 'string' || c instanceof Uint8Array);
    case PageKind.Close:
      return isNumber(a) && isBelow(2 ** 32, b) && isBelow(2 ** 16, c) && typeof d === 'string';
    case PageKind.Credit:
      return isNumber(a) && isBelow(2 ** 32, b) && isNumber(c);
    case PageKind.Answer:
      return isBelow(2 ** 32, a) && typeof c === 'string' && typeof d === 'string' &&
        (c ? true : isAddress(b));
    case PageKind.Got:
      return isNumber(a) && isNumber(b);
    case PageKind.Subscribe:
      return isBelow(2 ** 32, a) && typeof b === 'string' && isNumber(c) && isNumber(d);
    case PageKind.Wake:
      return typeof a === 'boolean';
    case PageKind.Unsubscribe:
      return isBelow(2 ** 32, a);
    default:
      return false;
  }
}

function isConfig(value: unknown): value is HubConfig {
  if (typeof value !== 'object' || value === null) return false;
  const { build, mode, module, url, protocols, lock, tag, locks, rules } =
    value as Record<keyof HubConfig, unknown>;
  const isMode = mode === 'mirror' || mode === 'mux' || mode === 'exclusive';
  return build === __BUILD__ && isMode && typeof module === 'string' &&
    typeof url === 'string' && isTokens(protocols) &&
    typeof lock === 'string' && typeof tag === 'string' &&
    typeof locks === 'boolean' && isRules(rules);
}

function isRules(value: unknown): value is Rules {
  if (typeof value !== 'object' || value === null) return false;
  const { shareBy, routeBy, replayLast = 0, linger = 0, reconnect } =
    value as Record<keyof Rules, unknown>;
  const { minMs = 0, maxMs = 0, attempts = 0 } = Object(reconnect) as Record<string, unknown>;
  return [shareBy, routeBy].every((it) => it === undefined || typeof it === 'string') &&
    [replayLast, linger, minMs, maxMs, attempts].every((it) => typeof it === 'number');
}

/** Whether it is `Attach` of a page of another build, whatever else such a page says. */
export function isOtherBuild(message: unknown): boolean {
  if (!Array.isArray(message) || message[0] !== PageKind.Attach) return false;
  const { build } = Object(message[2]) as { build?: unknown };
  return typeof build === 'string' && build !== __BUILD__;
}

const isNumber = (value: unknown): boolean => Number.isFinite(value);

const isBelow = (limit: number, value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < limit;

const PATHS: Record<HubConfig['mode'], RegExp> = {
  mirror: /^\w{0,64}$/,
  mux: /^\//,
  exclusive: /^wss?:/,
};

/** In mirror mode it is the name of the tab, and in mode `exclusive` it is a URL. */
const isPath = (value: unknown, mode?: HubConfig['mode']): boolean =>
  typeof value === 'string' && (!mode || PATHS[mode].test(value));

/** A URL, and sub-protocols behind it; or nothing. */
const isAddress = (value: unknown): boolean =>
  Array.isArray(value) && (!value.length || isPath(value[0], 'exclusive')) &&
    isTokens(value.slice(1));

/** Sub-protocols: tokens, as RFC 6455 (4.1) and RFC 7230 (3.2.6) have them. */
const isTokens = (value: unknown): value is string[] =>
  Array.isArray(value) &&
  value.every((text) => typeof text === 'string' && /^[-\w!#-'*+.^`|~]+$/.test(text));
