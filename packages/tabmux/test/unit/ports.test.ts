// Ports of a SharedWorker: what is posted at once, and what together.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import type { Port } from '../../src/ports.js';
import { HubKind, MAX_BATCH, PageKind, SEVERAL } from '../../src/protocol.js';
import type { HubMessage, PortData } from '../../src/protocol.js';

/** What the worker is to the code under test. */
const scope = {
  onconnect: null as ((event: { ports: unknown[] }) => void) | null,
  name: '',
  location: { href: 'http://page.test/worker.js' },
  navigator: { locks: {} },
};
Object.defineProperty(globalThis, 'self', { value: scope, configurable: true });

let now = 0;

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout'] });
  mock.method(performance, 'now', () => now);
});
afterEach(() => {
  // What was begun is over before the next test.
  tick();
  tick();
  mock.timers.reset();
  mock.restoreAll();
});

/** Lets a millisecond of test time pass. */
function tick(): void {
  now += 1;
  mock.timers.tick(1);
}

/** The page's end of a port, which keeps what it was posted. */
interface Page {
  posted: PortData[];
  onmessage: ((event: { data: unknown }) => void) | null;
  postMessage(data: PortData): void;
}

/** Ports of so many pages, and the pages. What the worker said of itself is left out. */
async function connect(count: number): Promise<[Port, Page][]> {
  const { openPorts } = await import('../../src/ports.js');
  const served: Port[] = [];
  openPorts((port) => served.push(port), () => undefined);
  const pages = Array.from({ length: count }, () => {
    const page: Page = {
      posted: [], onmessage: null, postMessage: (data) => page.posted.push(structuredClone(data)),
    };
    scope.onconnect?.({ ports: [page] });
    page.posted = [];
    return page;
  });
  return pages.map((page, index) => [served[index] as Port, page]);
}

const says = (count: number): HubMessage => [HubKind.Browser, 7n, count, 'text'];
const turn = (): Promise<void> => new Promise((resolve) => queueMicrotask(resolve));

test('what is posted in one task goes together, and at once', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  port.postMessage(says(1));
  await turn();
  assert.deepEqual(page.posted, [says(1)]);
  port.postMessage(says(2));
  port.postMessage(says(3));
  await turn();
  assert.deepEqual(page.posted, [says(1), [SEVERAL, [says(2), says(3)]]]);
});

test('a burst is posted once in a millisecond, in order', async () => {
  const [[port, page], [other, quiet]] = await connect(2) as [[Port, Page], [Port, Page]];
  for (let count = 1; count <= 9; count += 1) {
    port.postMessage(says(count));
    await turn();
  }
  other.postMessage(says(1));
  await turn();
  assert.deepEqual(page.posted, [1, 2, 3, 4].map(says));
  assert.deepEqual(quiet.posted, []);
  tick();
  assert.deepEqual(page.posted.slice(4), [[SEVERAL, [5, 6, 7, 8, 9].map(says)]]);
  assert.deepEqual(quiet.posted, [says(1)]);
  port.postMessage(says(10));
  await turn();
  assert.equal(page.posted.length, 5);
  tick();
  assert.deepEqual(page.posted.slice(5), [says(10)]);
});

test('where the timer is late, what waits is posted with what comes later', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  for (let count = 1; count <= 5; count += 1) {
    port.postMessage(says(count));
    await turn();
  }
  now += 1;
  port.postMessage(says(6));
  await turn();
  assert.deepEqual(page.posted.slice(4), [[SEVERAL, [5, 6].map(says)]]);
});

test('what waits is posted, also where the timer of what waited before is over', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  const post = async (from: number, to: number): Promise<void> => {
    for (let count = from; count <= to; count += 1) {
      port.postMessage(says(count));
      await turn();
    }
  };
  await post(1, 5);
  now += 1;
  await post(6, 9);
  mock.timers.tick(1);
  await post(10, 11);
  tick();
  const heard = page.posted.flatMap((data) => (data[0] === SEVERAL ? data[1] : [data]));
  assert.deepEqual(heard, Array.from({ length: 11 }, (_, index) => says(index + 1)));
});

test('a page that asks in a burst is answered at once', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  for (let count = 1; count <= 5; count += 1) {
    port.postMessage(says(count));
    await turn();
  }
  assert.equal(page.posted.length, 4);
  page.onmessage?.({ data: [PageKind.Got, 0, 0] });
  port.postMessage(says(6));
  await turn();
  assert.deepEqual(page.posted.slice(4), [[SEVERAL, [5, 6].map(says)]]);
});

test('no more is posted together than a page deals with at once', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  const all = Array.from({ length: MAX_BATCH + 2 }, (_, index) => says(index + 1));
  all.forEach((message) => port.postMessage(message));
  await turn();
  assert.deepEqual(page.posted, [
    [SEVERAL, all.slice(0, MAX_BATCH)], [SEVERAL, all.slice(MAX_BATCH)],
  ]);
});

test('a page that enters the back/forward cache is told before, and nothing after', async () => {
  const [[port, page]] = await connect(1) as [[Port, Page]];
  for (let count = 1; count <= 6; count += 1) {
    port.postMessage(says(count));
    await turn();
  }
  page.onmessage?.({ data: [PageKind.Park] });
  assert.deepEqual(page.posted.slice(4), [[SEVERAL, [says(5), says(6)]]]);
  tick();
  assert.equal(page.posted.length, 5);
});
