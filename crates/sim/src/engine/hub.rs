//! The native hub behind the bindings that `worker.js` calls. It has the same list of methods as
//! the exports of the WebAssembly module.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
};

use tabmux_core::{
    Timestamp,
    hub::{Event, Hub, HubMessage, Output},
    hub_methods,
    shell::{Shell, ShellHub},
    shell_methods,
    wire::{HubId, ServerFrame, SessionId, TabId},
};

use crate::{
    credit::CREDIT,
    invariant::{Broken, Checked, Invariant::NoError},
    oracle::HubView,
};

/// An argument that goes from or to a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// A number of JavaScript.
    Number(f64),
    /// A 64-bit integer, as a BigInt.
    Big(u64),
    /// A text, as a string.
    Text(String),
    /// Bytes, as a Uint8Array.
    Bytes(Vec<u8>),
    /// A boolean of JavaScript.
    Flag(bool),
    /// An array of 64-bit integers.
    Bigs(Vec<u64>),
    /// An array of JavaScript numbers.
    Numbers(Vec<f64>),
}

/// An order of a hub: the method of its shell to call, and the arguments.
pub type Order = (&'static str, Vec<Arg>);

/// What a hub did or was told, and the world must know.
#[derive(Clone, Debug)]
pub enum Note {
    /// A tab attached, and showed this claim.
    Attached(TabId, String),
    /// The hub is part of a session now.
    Welcomed {
        /// The id of the session.
        session: SessionId,
        /// True if the session existed before.
        resumed: bool,
    },
    /// The hub no longer has a link.
    LinkDown,
    /// The hub gave a tab up. The result says whether it was allowed to, although the tab lives.
    TabGone(TabId, Checked<&'static str>),
    /// Too many messages waited for a tab.
    Overflow(TabId),
    /// A tab resumes a session, or begins anew in it.
    Resumes {
        /// The id of the tab.
        tab: TabId,
        /// The claim that the tab shows from now on.
        claim: String,
        /// True if the session goes on for the tab.
        continues: bool,
    },
    /// A tab was told that its session is lost.
    Lost(TabId),
    /// A tab was sent to the hub of another user.
    Moved,
}

/// Collects the orders of a hub.
#[derive(Default)]
pub struct Orders {
    orders: RefCell<Vec<Order>>,
    watch: RefCell<Watch>,
}

/// Checks what a hub does.
#[derive(Default)]
struct Watch {
    view: HubView,
    notes: Vec<Note>,
    broken: Option<Broken>,
    clock: Timestamp,
}

/// A type that becomes an argument.
trait Give {
    fn give(self) -> Arg;
}

/// A type that an argument becomes.
trait Take<'a>: Sized {
    fn take(arg: Option<&'a Arg>) -> Option<Self>;
}

macro_rules! give {
    ($($from:ty => |$it:ident| $arg:expr;)*) => {
        $(impl Give for $from {
            fn give(self) -> Arg {
                let $it = self;
                $arg
            }
        })*
    };
}

give! {
    u8 => |it| Arg::Number(it.into());
    u16 => |it| Arg::Number(it.into());
    u32 => |it| Arg::Number(it.into());
    f64 => |it| Arg::Number(it);
    u64 => |it| Arg::Big(it);
    bool => |it| Arg::Flag(it);
    &str => |it| Arg::Text(it.to_owned());
    &[u8] => |it| Arg::Bytes(it.to_vec());
    &[u64] => |it| Arg::Bigs(it.to_vec());
    &[f64] => |it| Arg::Numbers(it.to_vec());
}

macro_rules! take {
    ($($to:ty => $($pattern:pat => $value:expr),*;)*) => {
        $(impl<'a> Take<'a> for $to {
            fn take(arg: Option<&'a Arg>) -> Option<Self> {
                match arg? {
                    $($pattern => Some($value),)*
                    _ => None,
                }
            }
        })*
    };
}

#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "as wasm-bindgen does")]
mod takes {
    use super::{Arg, Take};

    take! {
        f64 => Arg::Number(it) => *it;
        u32 => Arg::Number(it) => *it as i64 as u32;
        u16 => Arg::Number(it) => *it as i64 as u16;
        u64 => Arg::Big(it) => *it;
        bool => Arg::Flag(it) => *it;
        &'a str => Arg::Text(it) => it;
        &'a [u8] => Arg::Bytes(it) => it;
    }
}

macro_rules! collect {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        $(
            fn $name(&self, $($arg: $ty),*) {
                self.orders.borrow_mut().push(($js, vec![$(Give::give($arg)),*]));
            }
        )*
    };
}

impl Shell for Orders {
    shell_methods!(collect);

    fn output(&self, output: &Output) {
        self.watch.borrow_mut().output(output);
    }
}

/// A hub that runs natively.
pub struct NativeHub {
    inner: ShellHub<Orders>,
    id: HubId,
    is_mux: bool,
    dead: bool,
}

/// The reason why a call of a hub failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The hub has no such method, or the method has other arguments.
    NoSuchCall(String),
    /// The hub trapped, as a test wanted.
    Trapped,
    /// The hub panicked, which no test wanted.
    Panicked,
}

/// The panic message of a trap that a test wanted.
const TRAP: &str = "trap";

/// Returns the names by which scripts call a hub's methods.
pub fn methods() -> Vec<&'static str> {
    macro_rules! names {
        ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
            vec![$($js,)* TRAP]
        };
    }
    hub_methods!(names)
}

impl NativeHub {
    /// Returns a hub without tabs. If `asks`, it asks a tab for the address of its link. If `who`,
    /// it asks the server for the browser's user. If `small`, its limits are small, so that
    /// messages wait in its outbox and acknowledgements become due.
    pub fn new(
        mux: bool,
        id: u64,
        seed: u64,
        url: &str,
        tag: &str,
        [asks, who, record, small]: [bool; 4],
    ) -> Self {
        let mut config = ShellHub::<Orders>::config(mux, id, url, [asks, who], tag);
        if small {
            config.link_bytes = 256;
            config.credit_bytes = CREDIT.into();
            config.ack_frames = 4;
            config.ack_bytes = 200;
        }
        let inner = ShellHub::new(Orders::default(), config, seed, record);
        Self { inner, id: HubId(id), is_mux: mux, dead: false }
    }

    /// Returns the id of the hub.
    pub const fn id(&self) -> HubId {
        self.id
    }

    /// Returns true if the hub is in mode mux, with a tabmux server.
    pub const fn is_mux(&self) -> bool {
        self.is_mux
    }

    /// Returns the hub of the core.
    pub const fn hub(&self) -> &Hub {
        self.inner.hub()
    }

    /// Makes the next call of the hub trap, as a broken invariant would.
    pub const fn will_trap(&mut self) {
        self.dead = true;
    }

    /// Returns true if the hub has not trapped.
    pub const fn lives(&self) -> bool {
        !self.dead
    }

    /// Calls `look` with what the hub was told of its tabs.
    pub fn with_view<T>(&self, look: impl FnOnce(&mut HubView) -> T) -> T {
        look(&mut self.inner.shell().watch.borrow_mut().view)
    }

    /// Returns the notes since the last call.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.inner.shell().watch.borrow_mut().notes)
    }

    /// Checks that the hub broke no invariant since the last call.
    ///
    /// # Errors
    /// Returns the invariant that it broke.
    pub fn take_broken(&self) -> Checked {
        self.inner.shell().watch.borrow_mut().broken.take().map_or(Ok(()), Err)
    }

    /// Returns the orders of the hub since the last call.
    pub fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut self.inner.shell().orders.borrow_mut())
    }

    /// Calls a method of the hub. Returns the time of its next timeout in milliseconds, or -1 for
    /// none.
    ///
    /// # Errors
    /// Returns an error if there is no such method, or if the hub trapped.
    pub fn call(&mut self, method: &str, args: &[Arg]) -> Result<f64, CallError> {
        if self.dead {
            return Err(CallError::Trapped);
        }
        if method == TRAP {
            self.dead = true;
            return Err(CallError::Trapped);
        }
        let Some(Arg::Number(now)) = args.first() else {
            return Err(CallError::NoSuchCall(format!("{method} without a time")));
        };
        self.inner.shell().watch.borrow_mut().begin(*now, method, &args[1..]);
        let inner = &mut self.inner;
        let called = panic::catch_unwind(AssertUnwindSafe(|| dispatch(inner, method, *now, args)));
        match called {
            Ok(Some(wake)) => {
                let mut watch = self.inner.shell().watch.borrow_mut();
                let Watch { view, broken, .. } = &mut *watch;
                if broken.is_none() {
                    *broken = view.agrees(self.inner.hub()).err();
                }
                Ok(wake)
            }
            Ok(None) => Err(CallError::NoSuchCall(format!("{method} with {args:?}"))),
            Err(_) => {
                self.dead = true;
                Err(CallError::Panicked)
            }
        }
    }
}

fn dispatch(hub: &mut ShellHub<Orders>, method: &str, now: f64, args: &[Arg]) -> Option<f64> {
    let mut args = args[1..].iter();
    macro_rules! call {
        ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
            match method {
                $($js => {
                    $(let $arg = <$ty as Take>::take(args.next())?;)*
                    Some(hub.$name(now, $($arg),*))
                })*
                _ => None,
            }
        };
    }
    hub_methods!(call)
}

impl Watch {
    /// Called before the hub gets an input.
    fn begin(&mut self, now: f64, method: &str, args: &[Arg]) {
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
        let clock = Timestamp::from_micros((now * 1000.0) as u64);
        self.clock = clock;
        if let ("linkBinary", Some(Arg::Bytes(bytes))) = (method, args.get(1))
            && let Ok(ServerFrame::Welcome(welcome)) = ServerFrame::decode(bytes)
        {
            welcome.tabs.iter().for_each(|listed| self.view.listed(listed.tab, clock));
        }
        let Some(Arg::Big(tab)) = args.first() else { return };
        let tab = TabId(*tab);
        match method {
            "attach" => {
                self.view.attached(tab);
                if let Some(Arg::Text(claim)) = args.get(1) {
                    self.notes.push(Note::Attached(tab, claim.clone()));
                }
            }
            "park" => self.view.parked(tab, clock),
            "bye" => self.view.left(tab),
            "tabLockGranted" => self.view.freed(tab, clock),
            _ => {}
        }
    }

    fn output(&mut self, output: &Output) {
        let checked = self.look_at(output);
        if self.broken.is_none() {
            self.broken = checked.err();
        }
    }

    fn look_at(&mut self, output: &Output) -> Checked {
        match output {
            Output::PostToTab { tab, message } => return self.posted(*tab, message),
            Output::PostToTabs { tabs, message } => {
                tabs.iter().try_for_each(|tab| self.posted(*tab, message))?;
            }
            Output::DropTab { tab } => self.view.dropped(*tab),
            Output::Event(event) => return self.event(event),
            Output::RequestLinkLock
            | Output::ReleaseLinkLock
            | Output::OpenLink { .. }
            | Output::SendLink { .. }
            | Output::ShowCredentials(..)
            | Output::CloseLink { .. }
            | Output::AskWho
            | Output::ShowTicket { .. }
            | Output::TakeTag { .. }
            | Output::WatchTab { .. } => {}
        }
        Ok(())
    }

    fn posted(&mut self, tab: TabId, message: &HubMessage) -> Checked {
        match message {
            HubMessage::Resume { claim, continues, .. } => {
                let (claim, continues) = (claim.clone(), *continues);
                self.notes.push(Note::Resumes { tab, claim, continues });
            }
            HubMessage::Lost { .. } => self.notes.push(Note::Lost(tab)),
            HubMessage::Elsewhere { .. } => self.notes.push(Note::Moved),
            // The tab attaches again once the hub knows the browser's user.
            HubMessage::Wait { .. } => self.view.dropped(tab),
            _ => {}
        }
        self.view.may_post(tab, message)
    }

    fn event(&mut self, event: &Event) -> Checked {
        match event {
            Event::BadFrame(_) => {
                return NoError.broken(format!("a hub: {event:?}"));
            }
            Event::Overflow(tab) => self.notes.push(Note::Overflow(*tab)),
            Event::TabGone(tab) => {
                let why = self.view.may_give_up(*tab, self.clock);
                self.notes.push(Note::TabGone(*tab, why));
            }
            Event::Welcomed { session, resumed } => {
                self.notes.push(Note::Welcomed { session: *session, resumed: *resumed });
            }
            Event::LinkDown(_) => self.notes.push(Note::LinkDown),
            Event::BadTabMessage(_)
            | Event::Dialled(_)
            | Event::TabAttached(_)
            | Event::TabParked(_) => {}
        }
        Ok(())
    }
}
