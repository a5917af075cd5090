// The wasm module does to the byte what the native build does: traces of a native hub, made from
// seeds, are told to the module, and what it records of itself must be the same trace. In that are
// the digests of all orders after each step.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const generated = join(root, 'src/generated');
const STEPS = 4000;
/** The odd ones are of mirror mode, and the last two ask their tabs where the link goes. */
const SEEDS = [0, 1, 2, 3];

/** `HubKind.Failed`, of which no hub is named. */
const FAILED = 24;

let makeHub;
let isHubMessage;
let traces;
/** The kinds that hubs have posted, and what no page would take for a message of a hub. */
const kinds = new Set();
const strange = [];

before(async () => {
  assert.ok(existsSync(generated), 'src/generated is missing: run `cargo xtask dist`');
  const bindings = await import(join(root, 'node_modules/.tabmux-test/src/bindings.mjs'));
  // The one that records: the others differ in that alone.
  bindings.useModule(await WebAssembly.compile(await readFile(join(generated, 'trace.wasm'))));
  ({ makeHub } = bindings);
  ({ isHubMessage } = await import(join(root, 'node_modules/.tabmux-test/src/shape.mjs')));
  traces = await Promise.all(SEEDS.map(record));
});

for (const seed of SEEDS) {
  test(`a hub of seed ${seed} in wasm is the hub there is natively`, () => {
    const native = traces[seed];
    const wasm = tell(native);
    const at = native.findIndex((byte, index) => byte !== wasm[index]);
    const advice = `differs at byte ${at} of ${native.length}, ${wasm.length} in wasm: if the ` +
      'sources changed since `cargo xtask dist`, run it again';
    assert.ok(at === -1 && wasm.length === native.length, advice);
  });
}

test('what hubs post has the shape that pages expect of its kind', () => {
  assert.deepEqual(strange, []);
  // The traces hold most of what hubs can say.
  assert.ok(kinds.size > 15, `only kinds ${[...kinds]}`);
});

test('another hub is found out', () => {
  const native = traces[2];
  // Another seed draws other waits.
  assert.ok(!native.equals(tell(native, 5n)));
});

/** A trace that the native build makes. */
async function record(seed) {
  const folder = await mkdtemp(join(tmpdir(), 'tabmux-'));
  const file = join(folder, 'trace.bin');
  const args = ['run', '-q', '-p', 'tabmux-trace', '--', 'record', `${seed}`, `${STEPS}`, file];
  try {
    execFileSync(process.env.CARGO ?? 'cargo', args, { cwd: root, stdio: 'inherit' });
    const trace = await readFile(file);
    assert.ok(trace.length > 10 * STEPS, 'it holds something');
    return trace;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Tells a hub in wasm what is in a trace, and returns the trace it records meanwhile. */
function tell(trace, otherSeed) {
  const read = reader(trace);
  read.bytes(13);
  const [isMux, asks, asksWho] = [read.byte(), read.byte(), read.byte()].map((it) => it === 1);
  const tag = text(read.bytes(read.number()));
  const url = text(read.bytes(read.number()));
  const [id, seed] = [read.big(), read.big()];
  for (let limits = 22; limits > 0; limits -= 1) read.big();
  const recorded = [];
  const shell = {
    requestLock() {}, releaseLock() {}, openLink() {}, sendLink() {}, sendShown() {}, closeLink() {},
    askWho() {}, showTicket() {}, takeTag() {}, watchTab() {}, dropTab() {}, log() {},
    post(_, kind, numbers, data) {
      // As worker.ts makes it.
      const message = kind === FAILED ? [kind] : [kind, 1n, ...numbers];
      if (data !== undefined) message.push(data);
      if (!isHubMessage(message)) strange.push(message);
      kinds.add(kind);
    },
    record: (bytes) => recorded.push(bytes.slice()),
  };
  const hub = makeHub(shell, isMux, id, otherSeed ?? seed, url, asks, asksWho, tag, true);
  let buffered;
  while (read.more()) {
    const kind = read.byte();
    if (kind === 0) {
      read.bytes(4);
      continue;
    }
    const now = read.number() / 1000;
    if (kind === 1) {
      hub.wake(now, ...buffered);
      continue;
    }
    const [a, b, c, d, e] = [read.big(), ...Array.from({ length: 4 }, read.number)];
    const [first, second] = [read.bytes(read.number()), read.bytes(read.number())];
    const tell = {
      2: () => hub.attach(now, a, text(first), b, c),
      3: () => hub.park(now, a),
      4: () => hub.bye(now, a),
      5: () => hub.open(now, a, b, c, text(first), names(second)),
      6: () => (d ? hub.sendText(now, a, b, c, text(first)) : hub.sendBinary(now, a, b, c, first)),
      7: () => hub.close(now, a, b, c, d, text(first)),
      8: () => hub.subscribe(now, a, b, text(first), c ? d : -1, e),
      9: () => hub.unsubscribe(now, a, b),
      10: () => hub.got(now, a, b, c),
      11: () => hub.tabLockGranted(now, a),
      12: () => hub.linkLockGranted(now),
      13: () => hub.linkOpened(now, Number(a), text(first), text(second)),
      14: () => (b ? hub.linkText(now, Number(a), text(first))
        : hub.linkBinary(now, Number(a), first)),
      15: () => hub.linkClosed(now, Number(a), b, text(first), c === 1, d === 1),
      // The time passes right after it, in the same call.
      16: () => (buffered = [Number(a), b]),
      17: () => hub.networkChanged(now, a === 1n),
      18: () => hub.credit(now, a, b, c, d),
      23: () => hub.visible(now, a, b === 1),
      24: () => hub.answer(now, a, b, text(first), d === 1),
      25: () => hub.who(now, text(first)),
      26: () => hub.tagTaken(now),
      27: () => hub.whose(now, a),
      28: () => hub.logout(now, a),
      29: () => hub.renew(now, a),
    }[kind];
    assert.ok(tell, `kind ${kind}`);
    tell();
  }
  return Buffer.concat(recorded);
}

function reader(trace) {
  let at = 0;
  const byte = () => trace[at++];
  const big = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const bits = byte();
      value |= BigInt(bits & 0x7f) << shift;
      if (bits < 0x80) return value;
    }
  };
  return {
    byte,
    big,
    number: () => Number(big()),
    bytes: (length) => trace.subarray(at, (at += length)),
    more: () => at < trace.length,
  };
}

const text = (bytes) => Buffer.from(bytes).toString();

/** Texts with their lengths before them, as the module takes them. */
function names(bytes) {
  const read = reader(bytes);
  const all = [];
  while (read.more()) all.push(text(read.bytes(read.number())));
  return all.join();
}
