// Loads the wasm module of a mode, says how it goes, and names the cause if it cannot be had.

/** What this file needs of the worker. */
declare const self: EventTarget & { location: { href: string } };

/** So long may no byte of it come. */
const STALL_MS = 30_000;

/** What each wasm module begins with. */
const MAGIC = '\0asm';

/** The module is not there, or not to be had: another time it may be. */
export class NotLoaded extends Error {}

/**
 * Fetches the module from the address that the page named, or else from beside this script, and
 * compiles it. Calls `progress` with what is being loaded, and how much of it is there.
 */
export async function loadModule(
  named: string,
  mode: string,
  progress: (text: string) => unknown,
): Promise<WebAssembly.Module> {
  let failure: unknown;
  for (const address of addresses(named, mode)) {
    let bytes;
    try {
      bytes = await download(address, progress);
    } catch (error) {
      failure ??= error;
      continue;
    }
    return WebAssembly.compile(bytes);
  }
  throw failure;
}

/** A worker whose own address is that of a Blob has nothing beside it. */
function addresses(named: string, mode: string): Set<string> {
  const all = new Set<string>();
  if (named) all.add(named);
  if (!self.location.href.startsWith('blob:')) {
    all.add(new URL(`${mode}.${__BUILD__}.wasm`, self.location.href).href);
  }
  return all;
}

async function download(
  address: string,
  progress: (text: string) => unknown,
): Promise<Uint8Array<ArrayBuffer>> {
  const abort = new AbortController();
  let timer: ReturnType<typeof setTimeout>;
  let blocked = '';
  const violated = (event: Event): void => {
    blocked = (event as SecurityPolicyViolationEvent).effectiveDirective;
  };
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), STALL_MS);
  };
  const fail = (why: string): never => {
    throw new NotLoaded(`tabmux: the worker cannot load ${address}: ${why}`);
  };
  self.addEventListener('securitypolicyviolation', violated);
  progress(`tabmux: the worker loads ${address}`);
  wait();
  try {
    const response = await fetch(address, { signal: abort.signal });
    if (!response.ok) fail(`the server answered with status ${response.status}`);
    const chunks: Uint8Array[] = [];
    let size = 0;
    const reader = response.body?.getReader();
    for (let part; (part = (await reader?.read())?.value);) {
      wait();
      chunks.push(part);
      size += part.length;
      progress(`tabmux: the worker loads ${address}: ${Math.ceil(size / 1000)} kB so far`);
    }
    const bytes = new Uint8Array(size);
    // From the last: `size` is where the next one ends.
    chunks.reverse().forEach((part) => bytes.set(part, (size -= part.length)));
    const head = String.fromCharCode(...bytes.subarray(0, 16));
    if (!head.startsWith(MAGIC)) fail(`it is no WebAssembly but begins with '${head}'`);
    return bytes;
  } catch (error) {
    if (error instanceof NotLoaded) throw error;
    if (abort.signal.aborted) return fail(`no byte of it came for ${STALL_MS / 1000} s`);
    // Engines tell of a violation in a task of its own.
    if (!blocked) await new Promise((resolve) => setTimeout(resolve));
    return fail(blocked
      ? `the ${blocked} in the Content-Security-Policy of ${self.location.href} forbids it`
      : `${String(error)}. ${isForeign(address) ? FOREIGN : OFFLINE}`);
  } finally {
    clearTimeout(timer!);
    self.removeEventListener('securitypolicyviolation', violated);
  }
}

const isForeign = (address: string): boolean =>
  new URL(address).origin !== new URL(self.location.href).origin;

const OFFLINE = 'The server cannot be reached, or a Cross-Origin-Embedder-Policy forbids it';

const FOREIGN = 'Its server must send Access-Control-Allow-Origin, and it must be there';
