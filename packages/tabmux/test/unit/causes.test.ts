// What a socket that could not be opened says of the cause.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';

import { withCause } from '../../src/causes.js';

const TEXT = "tabmux: could not connect to X: the server is not there, it refused this page's " +
  "origin, or the connect-src of the policy on worker.js's own response forbids it";

/** What becomes of the text on a page at that address. */
function on(page: string, url: string): Promise<string> {
  Object.assign(globalThis, {
    location: new URL(page),
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  });
  return withCause(TEXT, url);
}

test('a page of https: may not open ws:, but on its own machine', async () => {
  assert.match(await on('https://page.test/', 'ws://host.test/'), /X: this is a page of https:/);
  assert.doesNotMatch(await on('https://page.test/', 'ws://localhost:1/'), /page of https:/);
});

test('a server that is not there', async () => {
  assert.equal(await on('http://page.test/', 'ws://127.0.0.1:1/'),
    'tabmux: could not connect to X: the server is not there');
});

for (const [status, says] of [
  [403, /is there, and refused the WebSocket \(status 403\): .* none from http:/],
  [404, /nothing at this address/], [503, /in trouble \(status 503\)/], [426, /is there/],
] as const) {
  test(`an answer of status ${status}`, async () => {
    const server = createServer((_, response) => response.writeHead(status).end());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const at = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    assert.match(await on(`http://${at}/page`, `ws://${at}/feed`), says);
    server.close();
  });
}

test('where nothing is known the text stays', async () => {
  assert.equal(await on('http://page.test/', 'feed'), TEXT);
});
