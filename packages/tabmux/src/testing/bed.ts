// A browser and a server in memory, in the place of those of this process.

import makePage from 'tabmux:page';
import type { SharedWebSocket, connect } from '../index.js';
import { makeBrowser, makeLocks } from './browser.js';
import { makeClock } from './clock.js';
import { makeServer } from './server.js';
import type { TestServer } from './server.js';

/** A tab of the test bed's browser. */
export interface TestTab {
  /** The tab goes into the back/forward cache. */
  park(): Promise<void>;
  /** It comes back from there. */
  restore(): Promise<void>;
}

/** Another tab, with a page library of its own. */
export interface OtherTab extends TestTab {
  readonly SharedWebSocket: typeof SharedWebSocket;
  readonly connect: typeof connect;
  /** The tab is closed. */
  close(): Promise<void>;
  /** It dies without a word. */
  crash(): Promise<void>;
}

/**
 * What `testBed` returns. Each promise resolves once all that follows by now has happened.
 * `await using bed = testBed()` closes it at the end of the block.
 */
export interface TestBed extends AsyncDisposable {
  readonly server: TestServer;
  /** The tab of this process, whose page library is the one that is imported. */
  readonly tab: TestTab;
  /** Opens another tab of the same browser. */
  openTab(): OtherTab;
  /** Virtual time, in milliseconds from 0. */
  readonly now: number;
  /** Lets virtual time pass: latency, redials and the ends of sessions wait for it. */
  advance(ms: number): Promise<void>;
  settled(): Promise<void>;
  /**
   * The browser is of the user with this identity tag from now on, or of nobody. Links that are
   * open stay what they are; the server of a test bed knows no users before the first call.
   */
  logIn(tag?: string): Promise<void>;
  /** All links break. Those of mux mode and of clients are back after a second of virtual time. */
  cutLinks(): Promise<void>;
  /** The browser is offline until `online`. Sessions end after 210 s of virtual time. */
  offline(): Promise<void>;
  online(): Promise<void>;
  /** The worker's process dies, and the browser starts another. */
  crashWorkers(): Promise<void>;
  /** The server is started again, and has forgotten sessions and topics. */
  restartServer(): Promise<void>;
  /** Ends all sockets and clients, and gives this process its own globals back. */
  close(): Promise<void>;
}

/** How long a cut link is away. */
const REDIAL_MS = 1000;

const STAY_OFFLINE = Infinity;

/** As `DISPOSE` of the page library. */
const ASYNC_DISPOSE: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

// The page library keeps what it finds first: these are the same for all test beds of a process.
const { navigator: ownNavigator } = globalThis as { navigator?: Navigator };
const locks = makeLocks(ownNavigator?.locks);
const events = new EventTarget();

/** Whether a test bed has replaced the globals of this process. */
let isInstalled = false;

/** Installs a browser and a server. Throws if the test bed before it was not closed. */
export function testBed({ url = 'http://localhost/' }: { url?: string } = {}): TestBed {
  if (isInstalled) throw new Error('tabmux/testing: close the test bed before another one');
  const clock = makeClock();
  const server = makeServer(clock);
  const browser = makeBrowser(clock, server);
  const { settled } = clock;
  const here = browser.makeTab();
  const tabs = [here];
  const uninstall = install({ SharedWorker: here.SharedWorker }, url);
  isInstalled = true;
  let closing: Promise<void> | undefined;
  const later = (act: () => void): Promise<void> => {
    act();
    return settled();
  };
  const end = async (): Promise<void> => {
    tabs.forEach((tab) => tab.fail('tabmux/testing: the test bed is closed'));
    await settled();
    uninstall();
    isInstalled = false;
  };
  const close = (): Promise<void> => closing ??= end();
  return {
    server,
    settled,
    tab: makeTestTab(settled, (event) => globalThis.dispatchEvent(event)),
    get now() {
      return clock.now;
    },
    openTab() {
      const parts = browser.makeTab();
      tabs.push(parts);
      return makeOtherTab(settled, parts.SharedWorker, parts.crash, url);
    },
    advance: clock.advance,
    logIn: (tag = 'nobody.') => later(() => (browser.user = tag)),
    cutLinks: () => later(() => browser.hubs.forEach((hub) => hub.cut(REDIAL_MS))),
    offline: () => later(() => {
      browser.isOnline = false;
      browser.hubs.forEach((hub) => hub.cut(STAY_OFFLINE));
    }),
    online: () => later(() => {
      browser.isOnline = true;
      browser.hubs.forEach((hub) => hub.wake());
    }),
    crashWorkers: () => later(() => browser.hubs.forEach((hub) => hub.crash())),
    restartServer: () => later(() => {
      server.restart();
      browser.hubs.forEach((hub) => hub.restart());
    }),
    close,
    [ASYNC_DISPOSE]: close,
  };
}

function makeTestTab(
  settled: () => Promise<void>,
  dispatch: (event: Event) => unknown,
): TestTab {
  const fire = (type: string, persisted: boolean): Promise<void> => {
    dispatch(Object.assign(new Event(type), { persisted }));
    return settled();
  };
  return { park: () => fire('pagehide', true), restore: () => fire('pageshow', true) };
}

function makeOtherTab(
  settled: () => Promise<void>,
  SharedWorker: unknown,
  crash: () => void,
  url: string,
): OtherTab {
  const target = new EventTarget();
  const own = {
    SharedWorker,
    Worker: class {},
    navigator: { locks: makeLocks() },
    localStorage: {},
    document: { baseURI: url },
    addEventListener: target.addEventListener.bind(target),
  };
  const page = makePage({ ...own, globalThis: Object.create(globalThis, describe(own)) });
  return {
    ...makeTestTab(settled, (event) => target.dispatchEvent(event)),
    SharedWebSocket: page.SharedWebSocket,
    connect: page.connect,
    close() {
      target.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
      return settled();
    },
    crash() {
      crash();
      return settled();
    },
  };
}

/** Puts these, and what the page library needs and this process lacks, among the globals. */
function install(own: object, url: string): () => void {
  const lacking = Object.entries({
    Worker: class {},
    TextEncoder: Utf8,
    addEventListener: events.addEventListener.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
    dispatchEvent: events.dispatchEvent.bind(events),
    ...'document' in globalThis ? {} : { location: new URL(url) },
  }).filter(([name]) => !(name in globalThis));
  const navigator = Object.create(ownNavigator ?? {}, describe({ locks, onLine: true }));
  const globals = { ...own, navigator, ...Object.fromEntries(lacking) };
  const before = Object.keys(globals).map((name) =>
    [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  Object.defineProperties(globalThis, describe(globals));
  return () => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else Reflect.deleteProperty(globalThis, name);
    }
  };
}

const describe = (values: object): PropertyDescriptorMap => Object.fromEntries(
  Object.entries(values).map(([name, value]) =>
    [name, { value, configurable: true, writable: true }]),
);

/** For Jest's jsdom, which has none. */
class Utf8 {
  encode(text: string): Uint8Array {
    const bytes = unescape(encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, '\ufffd')));
    return Uint8Array.from(bytes, (byte) => byte.charCodeAt(0));
  }
}
