// Why a connection could not be opened. Browsers hide it from scripts. What is known of the page,
// and a request to the same address, tell more.

/** How long the server may take to answer. */
const PATIENCE_MS = 800;

/** The causes that the worker cannot tell apart, in its words. */
const CAUSES = /the server is not there, it .* forbids it/;

const LOCAL = /^(localhost|127\..*|\[::1])$/;

/** Returns the text with the true cause in the place of those that there may be. */
export async function withCause(text: string, url: string): Promise<string> {
  const cause = await causeOf(url).catch(() => undefined);
  return cause ? text.replace(CAUSES, cause) : text;
}

/** Returns the cause, or nothing where it cannot be told. */
async function causeOf(url: string): Promise<string | undefined> {
  let to = new URL(url);
  if (location.protocol === 'https:' && to.protocol === 'ws:' && !LOCAL.test(to.hostname)) {
    return 'this is a page of https:, and so the browser opens wss: only (mixed content)';
  }
  to = new URL(url.replace(/^ws/, 'http'));
  const isOwn = to.origin === location.origin;
  let blocked = '';
  const violated = ({ effectiveDirective }: SecurityPolicyViolationEvent): void => {
    blocked = effectiveDirective;
  };
  addEventListener('securitypolicyviolation', violated);
  try {
    const { status } = await fetch(to, {
      mode: isOwn ? 'same-origin' : 'no-cors',
      cache: 'no-store',
      credentials: 'omit',
      redirect: isOwn ? 'manual' : 'follow',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return answered(status);
  } catch (error) {
    // Engines tell of a violation in a task of its own.
    await new Promise((resolve) => setTimeout(resolve));
    if (blocked) return;
    return (error as Error).name === 'TimeoutError' ? 'the server does not answer'
      // A page that is isolated from other origins is refused their answers.
      : globalThis.crossOriginIsolated && !isOwn ? undefined : 'the server is not there';
  } finally {
    removeEventListener('securitypolicyviolation', violated);
  }
}

/** What the status of an answer without a WebSocket says. 0: it is hidden. */
function answered(status: number): string {
  if (status === 404) return 'there is nothing at this address (status 404)';
  if (status > 499) return `the server, or what is behind it, is in trouble (status ${status})`;
  const shown = status === 401 || status === 403 ? ` (status ${status})` : '';
  return `the server is there, and refused the WebSocket${shown}: it takes none at this address, ` +
    `or none from ${location.origin}, or the policy of worker.js (connect-src) forbids it`;
}
