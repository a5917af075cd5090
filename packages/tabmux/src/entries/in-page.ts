// `tabmux/in-page.js`, a classic script for tests. The page runs the worker itself, so that tools
// which see the sockets of pages see those of tabmux. The page shares nothing with other pages.

/** The globals of a SharedWorker that the worker script uses. */
interface Scope {
  onconnect: ((event: { ports: MessagePort[] }) => void) | null;
}

const scopes = new Map<string, Promise<Scope>>();

/**
 * Matches the names of the locks of links. The hub of one page must not wait for the hub of
 * another.
 */
const LINK = /^tabmux:socket:/;

class InPageWorker extends EventTarget {
  onerror: ((event: Event) => void) | null = null;
  readonly port: MessagePort;

  constructor(url: string | URL, options: { name?: string } = {}) {
    super();
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const script = new URL(`${url}`, document.baseURI);
    const key = `${script} ${options.name}`;
    const scope = scopes.get(key) ?? start(script, options.name ?? '');
    scopes.set(key, scope);
    scope.then(({ onconnect }) => onconnect?.({ ports: [port2] })).catch((error: unknown) => {
      console.error(`tabmux/in-page.js: ${script} did not start in this page`, error);
      this.onerror?.(new Event('error'));
    });
  }
}

async function start(script: URL, name: string): Promise<Scope> {
  const response = await fetch(script);
  if (!response.ok) throw new Error(`status ${response.status}`);
  const suffix = `:${Math.random()}`;
  const scope = {
    onconnect: null,
    name: name + suffix,
    location: script,
    navigator: { locks: navigator.locks && locksOf(navigator.locks, suffix) },
    addEventListener: addEventListener.bind(globalThis),
    close: () => undefined,
  };
  new Function('self', await response.text())(scope);
  return scope;
}

function locksOf(locks: LockManager, suffix: string): Pick<LockManager, 'request' | 'query'> {
  const request = (name: string, ...rest: unknown[]): Promise<unknown> =>
    (locks.request as (...all: unknown[]) => Promise<unknown>).call(
      locks, LINK.test(name) ? name + suffix : name, ...rest);
  return { request: request as LockManager['request'], query: () => locks.query() };
}

Object.assign(globalThis, { SharedWorker: InPageWorker });
