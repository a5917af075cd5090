// `tabmux/install`: what its rules may be.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { install as installPage, tidy } from './rig.js';

installPage();
/** The browser's own class. */
class Native extends EventTarget {}
Object.assign(globalThis, { WebSocket: Native });
const { install, uninstall } = await import('../../src/entries/install.js');

afterEach(tidy);

test('what is neither a RegExp nor a function is refused', () => {
  for (const match of ['/feed', undefined, null, {}]) {
    assert.throws(() => install(match as never), { name: 'TypeError', message: /RegExp/ });
  }
});

test('the exception of a rule is one of the constructor', () => {
  const remove = install(() => {
    throw new RangeError('a fault of the rule');
  });
  assert.throws(() => new WebSocket('ws://host.test/'), RangeError);
  remove();
  assert.ok(new WebSocket('ws://host.test/') instanceof Native);
});

test('a URL that is none is left to the class of the browser', () => {
  const remove = install(/./g);
  assert.ok(new WebSocket('ws://[') instanceof Native);
  assert.ok(!(new WebSocket('ws://host.test/') instanceof Native));
  remove();
  uninstall();
  assert.equal(globalThis.WebSocket as unknown, Native);
});
