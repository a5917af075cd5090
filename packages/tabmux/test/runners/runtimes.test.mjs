// The package where there are no pages: importing it is safe, and what it opens says why it cannot.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { here, install, run } from './harness.mjs';

const SCRIPT = `
  import { SharedWebSocket, connect } from 'tabmux';
  const { state, reason } = connect('/').status;
  const socket = new SharedWebSocket('wss://example.org/feed');
  socket.onclose = ({ code }) => console.log([state, reason, code].join());
`;
const RUNTIMES = {
  Node: [process.execPath],
  Bun: [join(here, 'node_modules/.bin/bun'), 'run'],
  Deno: [join(here, 'node_modules/.bin/deno'), 'run', '--node-modules-dir=manual'],
};

let app;

before(async () => {
  app = await install();
  await app.write('server.mjs', SCRIPT);
});

after(() => app.remove());

for (const [name, [command, ...args]] of Object.entries(RUNTIMES)) {
  test(`in ${name} clients are closed, and sockets fail with a reason`, async () => {
    const { stdout } = await run(command, [...args, 'server.mjs'], { cwd: app.root })
      .catch(({ stdout, stderr }) => assert.fail(stdout + stderr));
    assert.equal(stdout.trim(), 'closed,tabmux: no Worker: connect() needs a page, or a dedicated worker,1006');
  });
}
