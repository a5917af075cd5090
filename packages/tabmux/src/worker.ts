// The worker: a shell that answers at once, and loads what it needs of WebAssembly when a page says
// which mode it wants. Mode `exclusive` needs none.
//
// A classic script on purpose: nothing is awaited before `onconnect` is installed, since a port
// that arrives earlier is lost for ever, in every engine.

import { useModule } from './bindings.js';
import { resync } from './bus.js';
import { isOtherBuild, isPageMessage } from './check.js';
import { ignore } from './garbage.js';
import { Host } from './hosting.js';
import type { HostWorld } from './hosting.js';
import { NotLoaded, loadModule } from './module.js';
import { openPorts } from './ports.js';
import type { Port } from './ports.js';
import { HubKind, PageKind } from './protocol.js';
import type { HubConfig, HubMessage, PageMessage } from './protocol.js';
import { listenForResets } from './resets.js';
import { openTapes } from './tape.js';

declare const self: WorkerGlobalScope & typeof globalThis;

/** A hub that traps so often in so short a time is not started again: something makes it trap. */
const MAX_TRAPS = 5;
const TRAPS_WITHIN_MS = 60_000;

/** So many messages may wait for the module. Pages post few before their hub has answered. */
const MAX_EARLY = 65_536;

/** How often pages that wait for the module hear how it goes. */
const PROGRESS_MS = 1000;

/** What came before the module, and who deals with it then. */
interface Early {
  readonly port: Port;
  deal(): void;
}

/** How far the worker is. */
type Stage =
  | { readonly is: 'empty' }
  | { readonly is: 'loading'; readonly early: Early[]; progress: string }
  | { readonly is: 'ready' }
  | { readonly is: 'failed'; readonly reason: string };

let stage: Stage = { is: 'empty' };
let traps: number[] = [];
let host: Host | undefined;
let served = 0;

const ports = openPorts(serve, () => host?.end(), () => host?.move());
const world: HostWorld = { hold: ports.hold, record: openTapes(self.location.search), trapped };

listenForResets((url, key) => {
  const { mode, url: mine, key: own } = host?.config ?? {};
  if (mode === 'mirror' && url === mine && key === own) host?.reset();
});

for (const type of ['online', 'offline']) {
  self.addEventListener(type, () => host?.tellNetwork());
}

/** Listens to a port. What it said before now was kept by the port. */
function serve(port: Port): void {
  const age = (served += 1);
  let tab: bigint | undefined;
  const deal = (message: PageMessage): void => {
    if (stage.is === 'failed') {
      port.postMessage([HubKind.Failed, stage.reason]);
    } else if (message[0] === PageKind.Attach) {
      tab = message[1];
      host ??= new Host(message[2], world);
      host.attach(port, age, message);
    } else if (tab !== undefined && host?.tabs.get(tab)?.[0] === port) {
      host.message(tab, message);
    } else {
      // A port of an earlier run of this script, or of a tab that was given up.
      port.postMessage(host ? [HubKind.Resync, host.id] : resync());
    }
  };
  port.onmessage = ({ data: message }) => {
    if (isOtherBuild(message)) {
      const text = `tabmux: the page and ${self.location.href} are of two builds; load it again`;
      return port.postMessage([HubKind.OtherBuild, text]);
    }
    if (!isPageMessage(message, host?.config.mode)) return ignore();
    if (stage.is === 'empty' && message[0] === PageKind.Attach) void prepare(message[2]);
    if (stage.is !== 'loading') return deal(message);
    if (stage.early.length >= MAX_EARLY) return ignore();
    stage.early.push({ port, deal: () => deal(message) });
    if (message[0] === PageKind.Attach) port.postMessage([HubKind.Loading, stage.progress]);
  };
}

/** Loads what this mode needs, and deals with what came meanwhile. */
async function prepare({ mode, module }: HubConfig): Promise<void> {
  if (mode === 'exclusive') {
    stage = { is: 'ready' };
    return;
  }
  const early: Early[] = [];
  const loading = { is: 'loading' as const, early, progress: `tabmux: the worker loads ${mode}` };
  const tell = (news: HubMessage): void =>
    new Set(early.map(({ port }) => port)).forEach((port) => port.postMessage(news));
  const timer = setInterval(() => tell([HubKind.Loading, loading.progress]), PROGRESS_MS);
  stage = loading;
  let next: Stage = { is: 'ready' };
  try {
    // WebKit compiles what it then refuses to instantiate.
    const progress = (text: string): unknown => (loading.progress = text);
    useModule(await (world.record ? loadModule('', 'trace', progress)
      : loadModule(module, mode, progress)));
  } catch (error) {
    if (error instanceof NotLoaded) tell([HubKind.NotLoaded, error.message]);
    next = error instanceof NotLoaded ? { is: 'empty' } : { is: 'failed', reason: refused(error) };
  }
  clearInterval(timer);
  stage = next;
  if (next.is === 'empty') return;
  tell([HubKind.Loading, '']);
  early.forEach(({ deal }) => deal());
  // What pages said of the network may be old.
  if (self.navigator.onLine === false) host?.tellNetwork();
}

const refused = (error: unknown): string =>
  `tabmux: the browser refused the WebAssembly of ${self.location.href} (${String(error)}). ` +
  "Serve it with a Content-Security-Policy whose script-src has 'wasm-unsafe-eval'.";

/** A trap leaves an instance in an unknown state: throw it away and start another hub. */
function trapped(old: Host, error: unknown): void {
  console.error('tabmux: the hub trapped and is replaced', error);
  const now = performance.now();
  traps = [...traps.filter((trap) => now - trap < TRAPS_WITHIN_MS), now];
  host = undefined;
  let news: HubMessage;
  try {
    if (traps.length > MAX_TRAPS) throw error;
    host = new Host(old.config, world);
    news = [HubKind.Resync, host.id];
  } catch {
    const reason = `tabmux: the hub trapped and cannot be started again (${String(error)})`;
    stage = { is: 'failed', reason };
    news = [HubKind.Failed, reason];
  }
  old.tellAll(news);
}
