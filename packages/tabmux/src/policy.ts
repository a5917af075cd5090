// What the policy on this worker's own response forbids. The browser tells this worker alone; all
// other causes of a failed dial are the page's to find.

/** What this file needs of the worker. */
declare const self: EventTarget & { location: { protocol: string } };

/** The origins that the policy forbids. There are few: each was dialled. */
const forbidden = new Set<string>();

self.addEventListener('securitypolicyviolation', (event) => {
  const { blockedURI, effectiveDirective } = event as SecurityPolicyViolationEvent;
  if (effectiveDirective === 'connect-src') forbid(blockedURI);
});

/**
 * Called when the constructor of a WebSocket throws. WebKit says no more where the policy forbids
 * the connection. Engines throw for mixed content as well.
 */
export function refused(url: string): void {
  if (self.location.protocol !== 'https:' || url.startsWith('wss')) forbid(url);
}

function forbid(url: string): void {
  if (URL.canParse(url)) forbidden.add(new URL(url).origin);
}

/** Leaves out of a text what is no cause where the policy is. */
export const withPolicy = (text: string): string =>
  ([...forbidden].some((origin) => text.includes(origin))
    ? text.replace(/the server is not there, it .*?, or /, '') : text);
