// How the worker loads its module: what it tells meanwhile, and the cause it names if it cannot.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { NotLoaded, loadModule } from '../../src/module.js';

/** The smallest module there is. */
const EMPTY = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);

const scope = Object.assign(new EventTarget(), {
  location: { href: 'http://page.test/tabmux/worker.js' },
});
Object.defineProperty(globalThis, 'self', { value: scope, configurable: true });

/** What a server, or a browser, answers for each address. Anything else is not found. */
let answers: Record<string, (signal: AbortSignal) => Response | Promise<Response>>;
let asked: string[];

beforeEach(() => {
  answers = {};
  asked = [];
  scope.location.href = 'http://page.test/tabmux/worker.js';
  globalThis.fetch = (async (address: string, { signal }: { signal: AbortSignal }) => {
    asked.push(address);
    return answers[address]?.(signal) ?? new Response('no such page', { status: 404 });
  }) as typeof fetch;
});

const NAMED = 'http://cdn.test/mux-hash.wasm';
const BESIDE = 'http://page.test/tabmux/mux.unit-test.wasm';

async function failure(named = NAMED): Promise<string> {
  const error = await loadModule(named, 'mux', () => undefined).catch((error: unknown) => error);
  assert.ok(error instanceof NotLoaded, String(error));
  return error.message;
}

test('it is loaded from where the page says, and the page hears how far it is', async () => {
  answers[NAMED] = () => new Response(EMPTY);
  const said: string[] = [];
  const module = await loadModule(NAMED, 'mux', (text) => said.push(text));
  assert.ok(module instanceof WebAssembly.Module);
  assert.deepEqual(asked, [NAMED]);
  assert.match(said[0] ?? '', /the worker loads http:\/\/cdn\.test/);
  assert.match(said.at(-1) ?? '', /1 kB so far/);
});

test('what comes in parts is put together', async () => {
  const parts = [EMPTY.slice(0, 3), EMPTY.slice(3, 5), EMPTY.slice(5)];
  answers[NAMED] = () => new Response(new ReadableStream({
    pull(stream) {
      const part = parts.shift();
      if (part) stream.enqueue(part);
      else stream.close();
    },
  }));
  assert.ok(await loadModule(NAMED, 'mux', () => undefined) instanceof WebAssembly.Module);
});

test('where there is nothing, it is looked for beside the worker', async () => {
  answers[BESIDE] = () => new Response(EMPTY);
  await loadModule(NAMED, 'mux', () => undefined);
  assert.deepEqual(asked, [NAMED, BESIDE]);
  asked = [];
  await loadModule('', 'mux', () => undefined);
  assert.deepEqual(asked, [BESIDE]);
});

test('a worker of a Blob has nothing beside it', async () => {
  scope.location.href = 'blob:http://page.test/1-2-3';
  assert.match(await failure(), /status 404/);
  assert.deepEqual(asked, [NAMED]);
});

test('the cause is named: a status', async () => {
  assert.match(await failure(), /mux-hash\.wasm: the server answered with status 404/);
});

test('the cause is named: a page of HTML', async () => {
  answers[NAMED] = () => new Response('<!doctype html><title>app</title>');
  assert.match(await failure(), /no WebAssembly but begins with '<!doctype html>/);
});

test('the cause is named: the policy of the worker', async () => {
  answers[NAMED] = () => {
    const violation = new Event('securitypolicyviolation');
    scope.dispatchEvent(Object.assign(violation, { effectiveDirective: 'connect-src' }));
    throw new TypeError('Failed to fetch');
  };
  assert.match(await failure(), /the connect-src in the Content-Security-Policy of .*worker\.js/);
});

test('the cause is named: another origin, or none that can be reached', async () => {
  answers[NAMED] = answers[BESIDE] = () => {
    throw new TypeError('Failed to fetch');
  };
  assert.match(await failure(), /Its server must send Access-Control-Allow-Origin/);
  assert.match(await failure(''), /or a Cross-Origin-Embedder-Policy forbids it/);
});

test('the cause is named: silence', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  answers[NAMED] = (signal) => new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });
  const failed = failure();
  context.mock.timers.tick(30_000);
  assert.match(await failed, /no byte of it came for 30 s/);
});
