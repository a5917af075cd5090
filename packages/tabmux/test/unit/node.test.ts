// The package where there is no browser: importable, and inert.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SharedWebSocket, connect } from '../../src/index.js';
import { event, untilClosed } from './rig.js';

test('a socket fails with an error that says why', async () => {
  const socket = new SharedWebSocket('ws://host.test/');
  const error = event<ErrorEvent>(socket, 'error');
  const closed = event<CloseEvent>(socket, 'close');
  assert.deepEqual(await untilClosed(socket), ['error', 'close']);
  assert.match((await error).message, /no Worker/);
  assert.equal((await closed).code, 1006);
});

test('a wrong URL is a SyntaxError', () => {
  for (const url of ['/relative', 'ftp://host.test/']) {
    assert.throws(() => new SharedWebSocket(url), { name: 'SyntaxError' });
  }
});

test('a client is inert and closed', () => {
  const client = connect('/', { worker: '/worker.js' });
  client.on('status', () => assert.fail('nothing changes'))();
  client.close();
  const { state, reason } = client.status;
  assert.equal(state, 'closed');
  assert.match(reason, /no Worker/);
});
