//! The module's imports and exports. An instance holds one hub. For another hub, the worker makes
//! another instance.

use std::cell::Cell;

use tabmux_core::{
    hub_methods,
    shell::{Shell, ShellHub},
    shell_methods,
};

use crate::abi::{Enter, Leave, Show};

/// The recorder of traces, or its stand-in in builds that cannot record any.
#[cfg(feature = "trace")]
type Tape = tabmux_core::trace::Recorder;
#[cfg(not(feature = "trace"))]
type Tape = tabmux_core::shell::Untraced;

type Hub = ShellHub<Imports, Tape>;

/// The hub of this instance. The slot is empty during a call, and after a trap.
struct Slot(Cell<Option<Box<Hub>>>);

// SAFETY: the module has one thread. The target has more only with its feature `atomics`.
unsafe impl Sync for Slot {}

static HUB: Slot = Slot(Cell::new(None));

/// The imported functions, which carry out the hub's orders.
struct Imports;

macro_rules! import {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        mod orders {
            use crate::abi::Leave;

            #[link(wasm_import_module = "shell")]
            unsafe extern "C" {
                $(
                    pub(super) safe fn $name($($arg: <$ty as Leave>::Raw),*);
                )*
            }
        }

        impl Shell for Imports {
            $(
                fn $name(&self, $($arg: $ty),*) {
                    $(let $arg = Leave::leave($arg);)*
                    orders::$name($(<$ty as Leave>::raw(&$arg)),*);
                }
            )*
        }
    };
}
shell_methods!(import);

macro_rules! export {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        mod facts {
            use super::{Enter, HUB, Show};

            $(
                #[unsafe(export_name = $js)]
                extern "C" fn $name(now: f64, $($arg: <$ty as Enter>::Raw),*) -> f64 {
                    // SAFETY: the worker passes blocks that it has just filled.
                    $(let $arg = unsafe { <$ty as Enter>::enter($arg) };)*
                    let mut hub = HUB.0.take().expect("no call comes within another, or first");
                    let wake = hub.$name(now, $($arg.show()),*);
                    HUB.0.set(Some(hub));
                    wake
                }
            )*
        }
    };
}
hub_methods!(export);

/// Makes the hub, without tabs.
///
/// - `mux`: 1 for mode mux, 0 for mirror mode.
/// - `seed`: random bits, for jitter only.
/// - `url`: the address of the link, for people.
/// - `asks`: 1 if the hub asks tabs for the address of its link.
/// - `asks_who`: 1 if the hub asks the server for the browser's user.
/// - `tag`: the identity tag in the names of the worker, if they contain one.
/// - `record`: 1 to pass all inputs to `Shell.record` before they are handled, in a build that can
///   record traces.
#[unsafe(export_name = "create")]
extern "C" fn create(
    mux: u32,
    hub: u64,
    seed: u64,
    url: *mut u8,
    asks: u32,
    asks_who: u32,
    tag: *mut u8,
    record: u32,
) {
    // SAFETY: the worker passes blocks that it has just filled.
    let [url, tag] = [url, tag].map(|text| unsafe { <&str as Enter>::enter(text) });
    let config = Hub::config(mux != 0, hub, url.show(), [asks != 0, asks_who != 0], tag.show());
    #[cfg(feature = "trace")]
    let hub = Hub::new(Imports, config, seed, record != 0);
    #[cfg(all(feature = "mux", not(feature = "trace")))]
    let hub = Hub::mux(Imports, config, seed, record != 0);
    #[cfg(not(any(feature = "mux", feature = "trace")))]
    let hub = Hub::mirror(Imports, config, seed, record != 0);
    HUB.0.set(Some(Box::new(hub)));
}

/// Traps as a broken invariant would, so that tests can see what follows.
#[unsafe(export_name = "trap")]
extern "C" fn trap() {
    panic!("a test asked for it");
}
