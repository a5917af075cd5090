// A page that leaves for the back/forward cache, and is back, before the chunk of its tier is
// there. It does without locks, as Firefox does where a page prefers the cache: then nothing waits
// for one.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SharedWebSocket } from '../../src/index.js';
import { PageKind } from '../../src/protocol.js';
import { browser, install } from './rig.js';

install();

/** What was posted to the worker of the tier. */
const posted: unknown[][] = [];

Object.assign(globalThis, {
  mozInnerScreenX: 0,
  Worker: class {
    postMessage(message: unknown[]): void {
      posted.push(message);
    }
    terminate(): void {}
  },
});

test('back from the cache before its tier is loaded, a page attaches once', async () => {
  const socket = new SharedWebSocket('ws://host.test/', [], {
    mode: 'mux', tiers: ['direct'], bfcache: 'prefer',
  });
  browser.page('pagehide', true);
  browser.page('pageshow', true);
  const isAttach = (message: unknown[]): boolean =>
    (message[1] as unknown[] | undefined)?.[0] === PageKind.Attach;
  for (let turns = 0; turns < 100 && !posted.some(isAttach); turns += 1) {
    await new Promise((wake) => setImmediate(wake));
  }
  assert.equal(posted.filter(isAttach).length, 1);
  socket.close();
});
