//! The hub as a WebAssembly module. It exports [`ShellHub`](tabmux_core::shell::ShellHub) to the
//! worker and imports a [`Shell`](tabmux_core::shell::Shell), which carries out the hub's orders.
//! [`tabmux_core::shell`] describes each method.
//!
//! The bindings are written by hand (`abi.rs`, and `bindings.ts` of the package). Generated
//! bindings for these lists are larger: 1.5 kB more of the worker's script and 1 kB more of each
//! module, compressed.

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
