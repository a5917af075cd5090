// Makes a wasm module smaller than the compiler leaves it: a panic traps at once. Its message would go
// nowhere, since the module has no console, but what makes the message is some kilobytes. `cargo
// xtask dist` runs it.
//
//   node strip.mjs IN OUT

import { readFile, writeFile } from 'node:fs/promises';
import binaryen from 'binaryen';

/** The functions of Rust's libraries that panic, by what their mangled names have inside. */
const PANICS = new RegExp('4core9panicking|16slice_index_fail|13assert_failed|12handle_error|' +
  '18handle_alloc_error|17capacity_overflow|13expect_failed|13unwrap_failed');

const [from, to] = process.argv.slice(2);
const module = binaryen.readBinary(await readFile(from));
const functions = Array.from({ length: module.getNumFunctions() }, (_, index) =>
  binaryen.getFunctionInfo(module.getFunctionByIndex(index)));
const panics = functions.filter(({ name, module }) => !module && PANICS.test(name));
if (panics.length < 3) throw new Error(`${from} names no functions that panic: were the names cut off?`);
for (const { name, params, results } of panics) {
  module.removeFunction(name);
  module.addFunction(name, params, results, [], module.unreachable());
}
await writeFile(to, module.emitBinary());
