// What is taken for a message of a hub. That all messages of hubs are is shown in parity.test.mjs.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { HubKind, LinkState } from '../../src/protocol.js';
import type { HubMessage } from '../../src/protocol.js';
import { isHubMessage } from '../../src/shape.js';

test('messages of hubs, and of workers without one, are messages', () => {
  const messages: HubMessage[] = [
    [HubKind.Message, 1n, 2, 3, 65, new Uint8Array([1])],
    [HubKind.Message, 1n, 2, 3, 65, 'x'],
    [HubKind.State, 1n, LinkState.Backoff, 2, ''],
    [HubKind.Resync, 1n],
    [HubKind.Failed, 'why'],
    [HubKind.OtherBuild, 'why'],
    [HubKind.Moved, 1n],
    [HubKind.Ping],
  ];
  assert.deepEqual(messages.filter((message) => !isHubMessage(message)), []);
});

test('what has too few or too many places, another type, or no kind is none', () => {
  const garbage: unknown[] = [
    undefined, null, 5, 'x', {}, [], [[]],
    [HubKind.Resync], [HubKind.Resync, 1n, 0], [HubKind.Resync, 1], [HubKind.Resync, 0n],
    [HubKind.Message, 1n, 2, 3, 65, {}], [HubKind.Message, 1n, 2, 3, 65, [1]],
    [HubKind.Message, 1n, 2, NaN, 65, 'x'], [HubKind.Message, 1n, '2', 3, 65, 'x'],
    [HubKind.Error, 1n, 2, new Uint8Array([1])],
    [HubKind.Failed, 1n, 'why'], [HubKind.Ping, 0],
    [26, 1n], [97, 1n], [-1, 1n], [0.5, 1n], ['constructor', 1n], ['__proto__', 1n],
  ];
  assert.deepEqual(garbage.filter(isHubMessage), []);
});
