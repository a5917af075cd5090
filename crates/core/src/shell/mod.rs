//! A hub as JavaScript sees it: turns calls with plain arguments into inputs of
//! [`hub::Hub`](crate::hub::Hub), and its orders into calls of a [`Shell`]. No logic, no clock, no
//! state of its own.
//!
//! Every method of [`ShellHub`] takes the time in milliseconds, carries out all orders before it
//! returns, and returns the moment of the next wake-up in milliseconds, or -1 for none.

mod list;
mod tape;

pub use self::tape::{Tape, Untraced};

use tabmux_wire::{HubId, Payload, Position, SocketId, TabId};

use crate::{
    OwnedPayload, Timestamp,
    hub::{
        AskId, AttemptId, Event, Hub, HubConfig, HubMessage, Input, Mode, Output, PortMessage,
        Rules, SubscriptionId, TabMessage,
    },
    shell_methods,
    trace::Recorder,
};

macro_rules! declare {
    ($($(#[$doc:meta])* $name:ident = $js:literal($($arg:ident: $ty:ty),*);)*) => {
        /// What carries out a hub's orders.
        pub trait Shell {
            $(
                $(#[$doc])*
                fn $name(&self, $($arg: $ty),*);
            )*

            /// Sees what the hub orders, before that is carried out. The browser has no use for it.
            fn output(&self, _output: &Output) {}
        }
    };
}
shell_methods!(declare);

/// A hub and the shell that carries out its orders.
#[expect(missing_debug_implementations, reason = "its formatting would go into the wasm module")]
pub struct ShellHub<S, T = Recorder> {
    hub: Hub,
    shell: S,
    /// Where a trace is wanted.
    recorder: Option<T>,
}

impl<S: Shell, T: Tape> ShellHub<S, T> {
    /// A hub without tabs. `record`: all it is told goes to [`Shell::record`], before it is told,
    /// if its tape keeps a trace.
    pub fn new(shell: S, config: HubConfig, seed: u64, record: bool) -> Self {
        let recorder = Self::recorder(&shell, &config, seed, record);
        Self { hub: Hub::new(config, seed), shell, recorder }
    }

    /// The same in mux mode, without the code of the mirror machine: see [`Hub::mux`].
    pub fn mux(shell: S, config: HubConfig, seed: u64, record: bool) -> Self {
        let recorder = Self::recorder(&shell, &config, seed, record);
        Self { hub: Hub::mux(config, seed), shell, recorder }
    }

    /// The same in mirror mode, without the code of the mux machine: see [`Hub::mirror`].
    pub fn mirror(shell: S, config: HubConfig, seed: u64, record: bool) -> Self {
        let recorder = Self::recorder(&shell, &config, seed, record);
        Self { hub: Hub::mirror(config, seed), shell, recorder }
    }

    fn recorder(shell: &S, config: &HubConfig, seed: u64, record: bool) -> Option<T> {
        let (recorder, head) = record.then(|| T::begin(config, seed)).flatten()?;
        shell.record(&head);
        Some(recorder)
    }

    /// What JavaScript says of a hub: its mode, its id, which must be random, and what it dials.
    /// `asks`: a tab is asked where the link goes before each dial. Then `url` is what people call
    /// the link. `asks_who`: the server is asked whose the browser is. `tag`: whose hub it is, if
    /// its names hold that.
    pub fn config(
        mux: bool,
        hub: u64,
        url: &str,
        [asks, asks_who]: [bool; 2],
        tag: &str,
    ) -> HubConfig {
        let mode = if mux { Mode::Mux } else { Mode::Mirror };
        // What people call a link has no secret in it, nor has its trace.
        let url = url.split('?').next().unwrap_or_default();
        HubConfig { asks, asks_who, tag: tag.to_owned(), ..HubConfig::new(mode, HubId(hub), url) }
    }

    /// The hub itself.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The shell.
    pub const fn shell(&self) -> &S {
        &self.shell
    }

    /// A tab attached; it shows what it was told to show, and how much it has.
    pub fn attach(&mut self, now: f64, tab: u64, claim: &str, last0: f64, last: f64) -> f64 {
        let (last0, last) = (count(last0), count(last));
        self.tab(now, tab, TabMessage::Attach { claim, last0, last })
    }

    /// A tab has heard so much.
    pub fn got(&mut self, now: f64, tab: u64, count0: f64, frames: f64) -> f64 {
        self.tab(now, tab, TabMessage::Got { count0: count(count0), count: count(frames) })
    }

    /// A tab is visible.
    pub fn visible(&mut self, now: f64, tab: u64, online: bool) -> f64 {
        self.tab(now, tab, TabMessage::Visible { online })
    }

    /// A tab answered a question. `failure` says why not, and is empty if it did. `fresh` says
    /// whether the answer is another than that of before.
    pub fn answer(&mut self, now: f64, tab: u64, id: u32, failure: &str, fresh: bool) -> f64 {
        let answer = if failure.is_empty() { Ok(fresh) } else { Err(failure) };
        self.tab(now, tab, TabMessage::Answer { id: AskId(id), answer })
    }

    /// A tab asks for its credentials to be renewed.
    pub fn renew(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Renew)
    }

    /// A tab parked.
    pub fn park(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Park)
    }

    /// A tab said bye.
    pub fn bye(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Bye)
    }

    /// A tab opens a socket; `protocols` are separated by commas, which none can contain. `n` is
    /// the number of this message of the tab, as in those that follow.
    pub fn open(
        &mut self,
        now: f64,
        tab: u64,
        n: f64,
        socket: u32,
        path: &str,
        protocols: &str,
    ) -> f64 {
        let protocols = protocols.split(',').filter(|name| !name.is_empty()).collect();
        let (n, socket) = (count(n), SocketId(socket));
        self.tab(now, tab, TabMessage::Open { n, socket, path, protocols })
    }

    /// A tab sends text.
    pub fn send_text(&mut self, now: f64, tab: u64, n: f64, socket: u32, text: &str) -> f64 {
        let (n, socket, payload) = (count(n), SocketId(socket), Payload::Text(text));
        self.tab(now, tab, TabMessage::Send { n, socket, payload })
    }

    /// A tab sends bytes.
    pub fn send_binary(&mut self, now: f64, tab: u64, n: f64, socket: u32, bytes: &[u8]) -> f64 {
        let (n, socket, payload) = (count(n), SocketId(socket), Payload::Binary(bytes));
        self.tab(now, tab, TabMessage::Send { n, socket, payload })
    }

    /// A tab closes a socket.
    pub fn close(
        &mut self,
        now: f64,
        tab: u64,
        n: f64,
        socket: u32,
        code: u16,
        reason: &str,
    ) -> f64 {
        let (n, socket) = (count(n), SocketId(socket));
        self.tab(now, tab, TabMessage::Close { n, socket, code, reason })
    }

    /// A tab lets the server send more on a socket.
    pub fn credit(&mut self, now: f64, tab: u64, n: f64, socket: u32, bytes: f64) -> f64 {
        let (n, socket, bytes) = (count(n), SocketId(socket), count(bytes));
        self.tab(now, tab, TabMessage::Credit { n, socket, bytes })
    }

    /// A tab wants a topic, which it left at this position; at an epoch below 0 if never heard.
    pub fn subscribe(
        &mut self,
        now: f64,
        tab: u64,
        number: u32,
        name: &str,
        epoch: f64,
        offset: f64,
    ) -> f64 {
        let since = (epoch >= 0.0).then(|| position(epoch, offset));
        let subscription = SubscriptionId(number);
        self.tab(now, tab, TabMessage::Subscribe { subscription, name, since })
    }

    /// A tab wants a topic no more.
    pub fn unsubscribe(&mut self, now: f64, tab: u64, number: u32) -> f64 {
        self.tab(now, tab, TabMessage::Unsubscribe { subscription: SubscriptionId(number) })
    }

    /// A tab asks for a new link.
    pub fn reconnect(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Reconnect)
    }

    /// A tab asks whose the browser is.
    pub fn whose(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Whose)
    }

    /// A tab ends the session.
    pub fn logout(&mut self, now: f64, tab: u64) -> f64 {
        self.tab(now, tab, TabMessage::Logout)
    }

    /// The lock of a tab was granted.
    pub fn tab_lock_granted(&mut self, now: f64, tab: u64) -> f64 {
        self.input(now, Input::TabLockGranted { tab: TabId(tab) })
    }

    /// The lock of the link was granted.
    pub fn link_lock_granted(&mut self, now: f64) -> f64 {
        self.input(now, Input::LinkLockGranted)
    }

    /// The link is open.
    pub fn link_opened(&mut self, now: f64, attempt: u32, protocol: &str, extensions: &str) -> f64 {
        let attempt = AttemptId(attempt);
        self.input(now, Input::LinkOpened { attempt, protocol, extensions })
    }

    /// Text came on the link.
    pub fn link_text(&mut self, now: f64, attempt: u32, text: &str) -> f64 {
        let payload = Payload::Text(text);
        self.input(now, Input::LinkMessage { attempt: AttemptId(attempt), payload })
    }

    /// Bytes came on the link.
    pub fn link_binary(&mut self, now: f64, attempt: u32, bytes: &[u8]) -> f64 {
        let payload = Payload::Binary(bytes);
        self.input(now, Input::LinkMessage { attempt: AttemptId(attempt), payload })
    }

    /// The link is closed. `failed`: the browser said that it failed it.
    pub fn link_closed(
        &mut self,
        now: f64,
        attempt: u32,
        code: u16,
        reason: &str,
        clean: bool,
        failed: bool,
    ) -> f64 {
        let attempt = AttemptId(attempt);
        self.input(now, Input::LinkClosed { attempt, code, reason, clean, failed })
    }

    /// How a shared connection behaves, told before anything else.
    pub fn rules(
        &mut self,
        now: f64,
        replay: f64,
        linger: f64,
        min: f64,
        max: f64,
        attempts: f64,
    ) -> f64 {
        let (replay_last, linger_ms, attempts) = (count(replay), count(linger), count(attempts));
        let (min_ms, max_ms) = (count(min), count(max));
        self.input(now, Input::Rules(Rules { replay_last, linger_ms, min_ms, max_ms, attempts }))
    }

    /// Text came on the link that names a tab.
    pub fn link_to(&mut self, now: f64, attempt: u32, name: &str, text: &str) -> f64 {
        self.input(now, Input::LinkMessageTo { attempt: AttemptId(attempt), name, text })
    }

    /// The server said whose the browser is. `text` is what it said, or `refused`, or empty.
    pub fn who(&mut self, now: f64, text: &str) -> f64 {
        self.input(now, Input::Who { text })
    }

    /// Another hub has the lock of the key and tag.
    pub fn tag_taken(&mut self, now: f64) -> f64 {
        self.input(now, Input::TagTaken)
    }

    /// The shared connection ends for all tabs.
    pub fn reset(&mut self, now: f64) -> f64 {
        self.input(now, Input::Reset)
    }

    /// The network came or went.
    pub fn network_changed(&mut self, now: f64, online: bool) -> f64 {
        self.input(now, Input::NetworkChanged { online })
    }

    /// Time has passed; the link still holds so many bytes.
    pub fn wake(&mut self, now: f64, attempt: u32, buffered: f64) -> f64 {
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
        let bytes = buffered as u64;
        self.tell(now, Input::LinkBuffered { attempt: AttemptId(attempt), bytes });
        if let Some(recorder) = &mut self.recorder {
            self.shell.record(recorder.timeout(time(now)));
        }
        self.hub.handle_timeout(time(now));
        self.carry_out()
    }

    fn tab(&mut self, now: f64, tab: u64, message: TabMessage<'_>) -> f64 {
        self.input(now, Input::TabMessage { tab: TabId(tab), message })
    }

    fn input(&mut self, now: f64, input: Input<'_>) -> f64 {
        self.tell(now, input);
        self.carry_out()
    }

    fn tell(&mut self, now: f64, input: Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            self.shell.record(recorder.input(time(now), &input));
        }
        self.hub.handle_input(time(now), input);
    }

    fn carry_out(&mut self) -> f64 {
        while let Some(output) = self.hub.poll_output() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(&output);
            }
            self.order(output);
        }
        let wake = self.hub.poll_timeout();
        if let Some(recorder) = &mut self.recorder {
            self.shell.record(recorder.drained(wake.map(|(at, _)| at)));
        }
        match wake {
            #[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
            Some((at, _)) => at.as_micros() as f64 / 1000.0,
            None => -1.0,
        }
    }

    fn order(&self, output: Output) {
        let shell = &self.shell;
        shell.output(&output);
        match output {
            Output::AskWho => shell.ask_who(),
            Output::ShowTicket { ticket, path } => shell.show_ticket(&ticket, &path),
            Output::TakeTag { tag } => shell.take_tag(&tag),
            Output::RequestLinkLock => shell.request_lock(),
            Output::ReleaseLinkLock => shell.release_lock(),
            Output::OpenLink { attempt } => shell.open_link(attempt.0),
            Output::SendLink { attempt, payload: OwnedPayload::Text(text) } => {
                shell.send_text(attempt.0, &text);
            }
            Output::SendLink { attempt, payload: OwnedPayload::Binary(bytes) } => {
                shell.send_binary(attempt.0, &bytes);
            }
            Output::ShowCredentials(attempt, frame) => shell.send_shown(attempt.0, &frame),
            Output::CloseLink { attempt, code, reason } => {
                shell.close_link(attempt.0, code, &reason);
            }
            Output::PostToTab { tab, message } => self.post(&[tab.0], message),
            Output::PostToTabs { tabs, message } => {
                let tabs: Vec<u64> = tabs.iter().map(|tab| tab.0).collect();
                self.post(&tabs, message);
            }
            Output::WatchTab { tab } => shell.watch_tab(tab.0),
            Output::DropTab { tab } => shell.drop_tab(tab.0),
            Output::Event(event) => self.log(&event),
        }
    }

    fn post(&self, tabs: &[u64], message: HubMessage) {
        let PortMessage { kind, numbers, data } = message.into();
        let (kind, numbers) = (kind as u8, numbers.as_slice());
        match data {
            None => self.shell.post(tabs, kind, numbers),
            Some(OwnedPayload::Text(data)) => self.shell.post_text(tabs, kind, numbers, &data),
            Some(OwnedPayload::Binary(data)) => self.shell.post_binary(tabs, kind, numbers, &data),
        }
    }

    fn log(&self, event: &Event) {
        match event {
            Event::LinkDown(why) => self.shell.log(why),
            Event::BadFrame(_)
            | Event::BadTabMessage(_)
            | Event::Overflow(_)
            | Event::Dialled(_)
            | Event::Welcomed { .. }
            | Event::TabAttached(_)
            | Event::TabParked(_)
            | Event::TabGone(_) => {}
        }
    }
}

#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
const fn position(epoch: f64, offset: f64) -> Position {
    Position { epoch: epoch as u64, offset: offset as u64 }
}

#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
const fn count(number: f64) -> u64 {
    number as u64
}

fn time(millis: f64) -> Timestamp {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
    Timestamp::from_micros((millis * 1000.0) as u64)
}
