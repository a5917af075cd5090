//! Traces at a desk: [`replay`](mod@replay) tells a hub again what one in a browser was told, and
//! [`record`](mod@record) makes traces from seeds, for comparing the native build with the wasm.
//! The format is `tabmux_core::trace`.

#![forbid(unsafe_code)]

pub mod record;
pub mod replay;
mod rng;
