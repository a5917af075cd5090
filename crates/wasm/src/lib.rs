//! The hub as a wasm module: exports [`ShellHub`](tabmux_core::shell::ShellHub) to the worker,
//! which implements the [`Shell`](tabmux_core::shell::Shell) that carries out its orders. What each
//! method does stands in [`tabmux_core::shell`].
//!
//! The bindings are our own (`abi.rs`, and `bindings.ts` of the package): what a generator makes of
//! these lists takes 1.5 kB more of the worker's script and 1 kB more of each module, compressed.

#![deny(clippy::all)]

#[cfg(target_arch = "wasm32")]
mod abi;
#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(any(target_arch = "wasm32", test))]
mod memory;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static BLOCKS: memory::Blocks<memory::Pages> = memory::Blocks::new(memory::Pages);
