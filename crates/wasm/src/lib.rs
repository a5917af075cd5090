//! The hub as a wasm module: exports [`ShellHub`] to `worker.ts`, which implements the [`Shell`]
//! that carries out its orders. What each method does stands in [`tabmux_core::shell`].

// wasm-bindgen's generated code and the allocator are the only unsafe code of the browser's side.
#![deny(clippy::all)]

#[cfg(any(target_arch = "wasm32", test))]
mod memory;

use tabmux_core::{
    hub_methods,
    shell::{Shell, ShellHub},
    shell_methods,
};
use wasm_bindgen::prelude::wasm_bindgen;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static BLOCKS: memory::Blocks<memory::Pages> = memory::Blocks::new(memory::Pages);

macro_rules! import {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        #[wasm_bindgen]
        extern "C" {
            /// What carries out a hub's orders.
            pub type JsShell;

            $(
                #[wasm_bindgen(method, js_name = $js)]
                fn $name(this: &JsShell, $($arg: $ty),*);
            )*
        }

        impl Shell for JsShell {
            $(
                fn $name(&self, $($arg: $ty),*) {
                    // The imported function, which comes before the trait's.
                    Self::$name(self, $($arg),*);
                }
            )*
        }
    };
}
shell_methods!(import);

/// A hub and the shell that carries out its orders.
#[wasm_bindgen]
pub struct Hub(ShellHub<JsShell>);

macro_rules! export {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        #[wasm_bindgen]
        impl Hub {
            $(
                $(#[$doc])*
                #[wasm_bindgen(js_name = $js)]
                pub fn $name(&mut self, now: f64, $($arg: $ty),*) -> f64 {
                    self.0.$name(now, $($arg),*)
                }
            )*
        }
    };
}
hub_methods!(export);

#[wasm_bindgen]
impl Hub {
    /// A hub without tabs. `seed` is for jitter only. `asks`: tabs say where its link goes, and
    /// `url` is what people call it. `asks_who`: the server is asked whose the browser is.
    /// `record`: all it is told goes to `Shell.record`, before it is told.
    #[wasm_bindgen(constructor)]
    #[expect(clippy::too_many_arguments, reason = "scripts pass no record of arguments cheaply")]
    pub fn new(
        shell: JsShell,
        mux: bool,
        hub: u64,
        seed: u64,
        url: &str,
        asks: bool,
        asks_who: bool,
        record: bool,
    ) -> Self {
        let config = ShellHub::<JsShell>::config(mux, hub, url, asks, asks_who);
        #[cfg(feature = "mux")]
        let hub = ShellHub::new(shell, config, seed, record);
        #[cfg(not(feature = "mux"))]
        let hub = ShellHub::mirror(shell, config, seed, record);
        Self(hub)
    }

    /// Traps, as a broken invariant would: so that tests can see what follows.
    pub fn trap(&self) {
        panic!("a test asked for it");
    }
}
