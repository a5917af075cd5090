// A browser and a server in memory, which replace those of this process.

import makePage from 'tabmux:page';
import type { SharedWebSocket, connect } from '../index.js';
import { makeBrowser, makeLocks } from './browser.js';
import { makeClock } from './clock.js';
import { makeServer } from './server.js';
import type { TestServer } from './server.js';

/** A tab of the test bed's browser. */
export interface TestTab {
  /** Puts the tab into the back/forward cache. */
  park(): Promise<void>;
  /** Takes the tab out of the back/forward cache. */
  restore(): Promise<void>;
}

/** Another tab, with a page library of its own. */
export interface OtherTab extends TestTab {
  readonly SharedWebSocket: typeof SharedWebSocket;
  readonly connect: typeof connect;
  /** Closes the tab, which tells its hubs. */
  close(): Promise<void>;
  /** Crashes the tab, which tells its hubs nothing. */
  crash(): Promise<void>;
}

/**
 * A browser and a server in memory. Each promise resolves once everything that the call causes at
 * this virtual time has happened. `await using bed = testBed()` closes the test bed at the end of
 * the block.
 */
export interface TestBed extends AsyncDisposable {
  readonly server: TestServer;
  /** The tab of this process, whose page library is the one that is imported. */
  readonly tab: TestTab;
  /** Opens another tab of the same browser. */
  openTab(): OtherTab;
  /** Virtual time, in milliseconds from 0. */
  readonly now: number;
  /** Lets virtual time pass. Latency, redials and the ends of sessions wait for it. */
  advance(ms: number): Promise<void>;
  settled(): Promise<void>;
  /**
   * Logs a user with this identity tag in, or logs out without a tag. Open links keep their user.
   * The server of a test bed knows no users before the first call.
   */
  logIn(tag?: string): Promise<void>;
  /** Breaks all links. Those of mux mode and of clients are back after 1 s of virtual time. */
  cutLinks(): Promise<void>;
  /** Takes the browser offline until `online`. Sessions end after 210 s of virtual time. */
  offline(): Promise<void>;
  online(): Promise<void>;
  /** Ends the processes of all workers, and starts others. */
  crashWorkers(): Promise<void>;
  /** Restarts the server, which forgets sessions and topics. */
  restartServer(): Promise<void>;
  /** Ends all sockets and clients, and restores the globals of this process. */
  close(): Promise<void>;
}

/** Time after which a cut link comes back, in milliseconds. */
const REDIAL_MS = 1000;

const STAY_OFFLINE = Infinity;

/** The symbol of `await using`, as `DISPOSE` of the page library. */
const ASYNC_DISPOSE: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

// The page library keeps the globals that it finds first. They are therefore the same for all test
// beds of a process.
const { navigator: ownNavigator } = globalThis as { navigator?: Navigator };
const locks = makeLocks(ownNavigator?.locks);
const events = new EventTarget();

/** True while a test bed replaces the globals of this process. */
let isInstalled = false;

/** Installs a browser and a server in memory. Throws if an earlier test bed is not closed. */
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

/**
 * Replaces globals by those of the test bed, and adds those that the page library needs and this
 * process lacks. Returns a function that restores them.
 */
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

/** An encoder of UTF-8 for Jest's jsdom, which has none. */
class Utf8 {
  encode(text: string): Uint8Array {
    const bytes = unescape(encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, '\ufffd')));
    return Uint8Array.from(bytes, (byte) => byte.charCodeAt(0));
  }
}
