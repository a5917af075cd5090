// Firefox by Marionette, with as much of playwright's face as the tests use: playwright drives no
// Firefox but its own. One command runs at a time, so pages are asked again and again for results.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long Firefox may take to start, and a page to give a result, in milliseconds. */
const START = 60_000;
const RESULT = 60_000;

/** Starts Firefox without a window. */
export async function launch(executable, port) {
  const profile = await mkdtemp(join(tmpdir(), 'tabmux-firefox-'));
  await writeFile(join(profile, 'user.js'), `user_pref('marionette.port', ${port});\n`);
  const process = spawn(executable, ['--headless', '--marionette', '--no-remote', '--profile', profile],
    { stdio: 'ignore', env: { ...globalThis.process.env, MOZ_HEADLESS: '1' } });
  const session = new Session(await listening(port));
  await session.greeted;
  await session.command('WebDriver:NewSession', {});
  return {
    newContext: async () => {
      const pages = [];
      return {
        newPage: async () => {
          const page = await session.newPage();
          pages.push(page);
          return page;
        },
        close: () => session.alone(async () => {
          for (const { handle } of pages) {
            await session.switchTo(handle);
            await session.command('WebDriver:CloseWindow', {});
          }
        }),
      };
    },
    close: async () => {
      session.end();
      process.kill();
      await once(process, 'exit');
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** A connection to Marionette, once it listens. */
async function listening(port) {
  for (const end = Date.now() + START; ; await sleep(200)) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

class Session {
  #socket;
  #last = 0;
  #answers = new Map();
  #greet;
  #turn = Promise.resolve();
  greeted = new Promise((resolve) => (this.#greet = resolve));

  constructor(socket) {
    this.#socket = socket;
    let rest = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      for (;;) {
        const colon = rest.indexOf(':');
        const length = Number(rest.subarray(0, colon));
        if (colon < 0 || rest.length < colon + 1 + length) return;
        const message = JSON.parse(rest.subarray(colon + 1, colon + 1 + length));
        rest = rest.subarray(colon + 1 + length);
        if (!Array.isArray(message)) this.#greet();
        else this.#answers.get(message[1])(message);
      }
    });
  }

  /** Runs what needs several commands without others in between. */
  alone(run) {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async command(name, parameters) {
    const id = (this.#last += 1);
    const text = JSON.stringify([0, id, name, parameters]);
    const answered = new Promise((resolve) => this.#answers.set(id, resolve));
    this.#socket.write(`${Buffer.byteLength(text)}:${text}`);
    const [, , error, result] = await answered;
    this.#answers.delete(id);
    if (error) throw new Error(`${name}: ${error.message}`);
    return result;
  }

  switchTo(handle) {
    return this.command('WebDriver:SwitchToWindow', { handle, focus: false });
  }

  newPage() {
    return this.alone(async () => {
      // The tab of the last command may be closed, and no command works there.
      const [home] = await this.command('WebDriver:GetWindowHandles', {});
      await this.switchTo(home);
      const { handle } = await this.command('WebDriver:NewWindow', { type: 'tab', focus: false });
      return new Page(this, handle);
    });
  }

  end() {
    this.#socket.destroy();
  }
}

class Page {
  #session;
  #calls = 0;

  constructor(session, handle) {
    this.#session = session;
    this.handle = handle;
  }

  goto(url) {
    return this.#here(() => this.#session.command('WebDriver:Navigate', { url }));
  }

  async waitForFunction(look) {
    for (const end = Date.now() + RESULT; !(await this.#run(`return Boolean((${look})());`)); await sleep(50)) {
      if (Date.now() > end) throw new Error(`waited too long for ${look}`);
    }
  }

  /** Calls a function in the page, and waits for what it returns. */
  async evaluate(call, args) {
    const name = `result${(this.#calls += 1)}`;
    await this.#run(`window.${name} = {};
      (async () => (${call})(...arguments))().then(
        (value) => (window.${name} = { value, done: true }),
        (error) => (window.${name} = { error: String(error), done: true }));`, [args]);
    for (const end = Date.now() + RESULT; ; await sleep(50)) {
      const { done, error, value } = await this.#run(`return window.${name};`);
      if (error) throw new Error(error);
      if (done) return value;
      if (Date.now() > end) throw new Error('the page gave no result');
    }
  }

  #here(run) {
    return this.#session.alone(async () => {
      await this.#session.switchTo(this.handle);
      return run();
    });
  }

  /** Runs a script in the page's own world. */
  async #run(script, args = []) {
    const { value } = await this.#here(() =>
      this.#session.command('WebDriver:ExecuteScript', { script, args, sandbox: null }));
    return value;
  }
}
