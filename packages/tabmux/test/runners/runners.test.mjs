// The tests that docs/testing.md shows, as they stand there, in the runners that it names.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { join } from 'node:path';
import { blocks, here, install, run } from './harness.mjs';

let app;
let texts;

before(async () => {
  app = await install();
  texts = await blocks('docs/testing.md');
  for (const name of [
    'Feed.jsx', 'Feed.test.jsx', 'vitest.config.js', 'tabs.test.mjs', 'feed.test.js',
  ]) {
    assert.ok(texts[name], `docs/testing.md has lost ${name}`);
    await app.write(name, texts[name]);
  }
});

after(() => app.remove());

const bin = (name) => join(here, 'node_modules', name);
const inApp = (script, args, env = {}) =>
  run(process.execPath, [script, ...args], {
    cwd: app.root, env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined, ...env },
  }).catch(({ stdout, stderr }) => assert.fail(stdout + stderr));

for (const environment of ['jsdom', 'happy-dom']) {
  test(`the component's test in Vitest with ${environment}`, async () => {
    const args = ['run', 'Feed.test.jsx', '--environment', environment, '--root', app.root];
    const { stdout } = await inApp(bin('vitest/vitest.mjs'), args);
    assert.match(stdout, /1 passed/);
  });
}

test('the test of several tabs in Node alone', async () => {
  const { stdout } = await inApp('--test', ['--test-reporter=tap', 'tabs.test.mjs']);
  assert.match(stdout, /^# pass 1$/m);
});

for (const environment of ['node', 'jsdom']) {
  test(`a test in Jest with ${environment}`, async () => {
    await app.write('jest.config.json', JSON.stringify({
      testEnvironment: environment, testMatch: ['<rootDir>/feed.test.js'], transform: {},
    }));
    const { stderr } = await inApp(bin('jest/bin/jest.js'), ['--config', 'jest.config.json'], {
      NODE_OPTIONS: '--experimental-vm-modules',
    });
    assert.match(stderr, /1 passed/);
  });
}
