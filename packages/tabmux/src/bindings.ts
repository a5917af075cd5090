// What the wasm module and the worker call of each other. `crates/wasm` has the other side.
// Numbers, 64-bit integers and flags cross as they are. A text or bytes go in as the address of a
// block that the module gave, and come out as the address of where they are and how many.

import type { Data, HubKind } from './protocol.js';

/**
 * The facts that a hub is told. Each call takes the time in milliseconds first, has given all its
 * orders when it returns, and returns the moment of the next wake-up, or -1 for none. The list with
 * what each is for is `hub_methods` in crates/core/src/shell/list.rs.
 */
export interface Hub {
  attach(now: number, tab: bigint, claim: string, last0: number, last: number): number;
  got(now: number, tab: bigint, count0: number, count: number): number;
  visible(now: number, tab: bigint, isOnline: boolean): number;
  answer(now: number, tab: bigint, ask: number, failure: string, fresh: boolean): number;
  park(now: number, tab: bigint): number;
  bye(now: number, tab: bigint): number;
  open(now: number, tab: bigint, n: number, socket: number, path: string, protocols: string):
    number;
  sendText(now: number, tab: bigint, n: number, socket: number, text: string): number;
  sendBinary(now: number, tab: bigint, n: number, socket: number, bytes: Uint8Array): number;
  close(now: number, tab: bigint, n: number, socket: number, code: number, reason: string): number;
  credit(now: number, tab: bigint, n: number, socket: number, bytes: number): number;
  subscribe(now: number, tab: bigint, number: number, name: string, epoch: number, offset: number):
    number;
  unsubscribe(now: number, tab: bigint, number: number): number;
  reconnect(now: number, tab: bigint): number;
  whose(now: number, tab: bigint): number;
  logout(now: number, tab: bigint): number;
  renew(now: number, tab: bigint): number;
  tabLockGranted(now: number, tab: bigint): number;
  linkLockGranted(now: number): number;
  linkOpened(now: number, attempt: number, protocol: string, extensions: string): number;
  linkText(now: number, attempt: number, text: string): number;
  linkBinary(now: number, attempt: number, bytes: Uint8Array): number;
  linkClosed(now: number, attempt: number, code: number, reason: string, clean: boolean,
    failed: boolean): number;
  rules(now: number, replay: number, linger: number, min: number, max: number, attempts: number):
    number;
  linkTo(now: number, attempt: number, name: string, text: string): number;
  who(now: number, text: string): number;
  tagTaken(now: number): number;
  reset(now: number): number;
  networkChanged(now: number, isOnline: boolean): number;
  wake(now: number, attempt: number, buffered: number): number;
  /** Traps, as a broken invariant would. */
  trap(): void;
}

/**
 * The orders of a hub: `shell_methods` in crates/core. Bytes and numbers lie in the module's
 * memory, and are to be copied.
 */
export interface Shell {
  requestLock(): void;
  releaseLock(): void;
  openLink(attempt: number): void;
  sendLink(attempt: number, data: Data): void;
  sendShown(attempt: number, bytes: Uint8Array): void;
  closeLink(attempt: number, code: number, reason: string): void;
  askWho(): void;
  showTicket(ticket: string, path: string): void;
  takeTag(tag: string): void;
  watchTab(tab: bigint): void;
  dropTab(tab: bigint): void;
  post(tabs: BigUint64Array, kind: HubKind, numbers: Float64Array, data?: Data): void;
  log(line: string): void;
  record(entry: Uint8Array): void;
}

/** What makes a hub, in the order in which the module takes it. */
export type HubArguments = [isMux: boolean, hub: bigint, seed: bigint, url: string, asks: boolean,
  asksWho: boolean, tag: string, records: boolean];

type Exports = Record<string, (...given: unknown[]) => number> & { memory: WebAssembly.Memory };

let module: WebAssembly.Module;

/** Takes the module of the hubs to come. Throws where the browser refuses to run it. */
export function useModule(compiled: WebAssembly.Module): void {
  module = compiled;
  instantiate();
}

/** Makes a hub in an instance of its own, so that nothing of one that trapped is left. */
export function makeHub(shell: Shell, ...given: HubArguments): Hub {
  const { memory, create, block, ...calls } = instantiate(shell);
  const pass = (given: unknown[]): unknown[] => given.map((it) => {
    const bytes = typeof it === 'string' ? new TextEncoder().encode(it) : it;
    if (!(bytes instanceof Uint8Array)) return it;
    const at = block!(bytes.length) >>> 0;
    new Uint8Array(memory.buffer, at + 4).set(bytes);
    return at;
  });
  create!(...pass(given));
  for (const [name, call] of Object.entries(calls)) {
    calls[name] = (...given) => call(...pass(given));
  }
  return calls as never;
}

/** Nobody calls the shell of an instance that has no hub. */
function instantiate(shell?: Shell): Exports {
  let memory: WebAssembly.Memory;
  const array = <T>(
    Class: new (buffer: ArrayBuffer, at: number, length: number) => T,
    span: number,
  ): T => {
    const [at = 0, length] = new Uint32Array(memory.buffer, span >>> 0, 2);
    return new Class(memory.buffer, at, length as number);
  };
  const bytes = (span: number): Uint8Array => array(Uint8Array, span);
  // A new one each time: WebKit's decoders decode 2 GiB at most.
  const text = (span: number): string =>
    new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes(span) as Uint8Array<ArrayBuffer>);
  const to = shell as Shell;
  const post = (read?: (span: number) => Data) =>
    (tabs: number, kind: HubKind, numbers: number, data: number) => to.post(
      array(BigUint64Array, tabs), kind, array(Float64Array, numbers), read?.(data));
  const imports = {
    request_lock: () => to.requestLock(),
    release_lock: () => to.releaseLock(),
    open_link: (attempt: number) => to.openLink(attempt),
    send_text: (attempt: number, data: number) => to.sendLink(attempt, text(data)),
    send_binary: (attempt: number, data: number) => to.sendLink(attempt, bytes(data)),
    send_shown: (attempt: number, data: number) => to.sendShown(attempt, bytes(data)),
    close_link: (attempt: number, code: number, reason: number) =>
      to.closeLink(attempt, code, text(reason)),
    ask_who: () => to.askWho(),
    show_ticket: (ticket: number, path: number) => to.showTicket(text(ticket), text(path)),
    take_tag: (tag: number) => to.takeTag(text(tag)),
    watch_tab: (tab: bigint) => to.watchTab(BigInt.asUintN(64, tab)),
    drop_tab: (tab: bigint) => to.dropTab(BigInt.asUintN(64, tab)),
    post: post(),
    post_text: post(text),
    post_binary: post(bytes),
    log: (line: number) => to.log(text(line)),
    record: (entry: number) => to.record(bytes(entry)),
  };
  const exports = new WebAssembly.Instance(module, { shell: imports }).exports as Exports;
  ({ memory } = exports);
  return exports;
}
