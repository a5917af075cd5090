//! What an application implements.

use std::{fmt, net::IpAddr, sync::Arc};

use tabmux_core::{
    session::{AskId, SocketRef, Visitor},
    wire::{Payload, SessionId, TabId},
};

use crate::{
    Ctx, Decision, OpenAnswer, Params,
    routes::Routes,
    shard::{mailbox::Mailbox, post::Word},
};

/// Serves one virtual socket: one tab's own stream of messages.
///
/// A value is made for each socket, by the factory given to
/// [`Builder::socket`](crate::Builder::socket); one without fields takes no memory. Its methods
/// are called by its shard's thread, one at a time, and must not block: the other links of the
/// shard wait meanwhile. To answer later, or from a task, keep a [`Ctx::sender`]; `tokio::spawn`
/// works inside, in the runtime that serves.
///
/// A handler that panics loses its socket, which closes with 1011, and no other.
pub trait SocketHandler: Send + 'static {
    /// A tab wants to open the socket. Nothing can be sent yet. By default it is accepted,
    /// without a sub-protocol. [`OpenRequest::answer_later`] is for a handler that has to ask
    /// somebody else first.
    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        let _ = (ctx, request);
        Decision::accept()
    }

    /// The socket is open: the first moment to send.
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        let _ = ctx;
    }

    /// A message came. It is dealt with when this returns, and the tab may send as much again,
    /// unless [`Ctx::hold_credit`] says otherwise.
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>);

    /// There is room again after [`SendError::Full`](crate::SendError::Full).
    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        let _ = ctx;
    }

    /// There may be room again after [`Ctx::publish`] returned
    /// [`PublishError::Full`](crate::PublishError::Full).
    fn publishable(&mut self, ctx: &mut Ctx<'_>) {
        let _ = ctx;
    }

    /// The tab entered the back/forward cache (`true`), where it hears nothing, or is back
    /// (`false`). What is sent meanwhile waits for it.
    fn parked(&mut self, ctx: &mut Ctx<'_>, parked: bool) {
        let _ = (ctx, parked);
    }

    /// The socket is closed, by either end or because the link broke. Comes once for each
    /// socket that was accepted; nothing can be sent any more.
    fn close(&mut self, ctx: &mut Ctx<'_>, close: &CloseInfo<'_>) {
        let _ = (ctx, close);
    }
}

/// What a tab asked for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct OpenRequest<'a> {
    /// Path and query, as in `/chat?room=7`.
    pub target: &'a str,
    /// The sub-protocols offered, best first.
    pub protocols: &'a [String],
    /// The tab.
    pub tab: TabId,
    /// The session of its browser.
    pub session: SessionId,
    pub(crate) question: Question<'a>,
    pub(crate) asker: Asker<'a>,
}

/// Whose tab it is that asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) visitor: Option<&'a Visitor>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) routes: &'a Routes,
}

impl fmt::Debug for OpenRequest<'_> {
    // Headers hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("OpenRequest");
        debug.field("target", &self.target).field("protocols", &self.protocols);
        debug.field("tab", &self.tab).field("session", &self.session);
        debug.field("user", &self.user()).field("address", &self.address());
        debug.finish_non_exhaustive()
    }
}

/// Where the answer to an open goes.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) ask: AskId,
    pub(crate) socket: SocketRef,
    pub(crate) mailbox: &'a Arc<Mailbox<Word>>,
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ask.fmt(f)
    }
}

impl<'a> OpenRequest<'a> {
    /// Returns what answers this request later, from any task or thread. Return
    /// [`Decision::Later`] then. The tab waits meanwhile, for 30 s at most, and after that the
    /// socket is refused. A handler whose tab goes before is dropped, and its answer comes to
    /// nothing.
    ///
    /// ```no_run
    /// # use tabmux_server::{Ctx, Decision, Message, OpenRequest, SocketHandler};
    /// # async fn may_enter(target: String) -> bool { target.is_empty() }
    /// struct Room;
    ///
    /// impl SocketHandler for Room {
    ///     fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
    ///         let (answer, target) = (request.answer_later(), request.target.to_owned());
    ///         tokio::spawn(async move {
    ///             if may_enter(target).await {
    ///                 answer.accept();
    ///             } else {
    ///                 answer.reject("this room is not yours");
    ///             }
    ///         });
    ///         Decision::Later
    ///     }
    ///
    ///     fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
    /// }
    /// ```
    pub fn answer_later(&self) -> OpenAnswer {
        let Question { ask, socket, mailbox } = self.question;
        OpenAnswer::new(ask, socket, mailbox)
    }

    /// Returns the user of the browser. See [`Ctx::user`].
    pub fn user(&self) -> Option<&'a str> {
        Some(self.asker.visitor?.user()?.name())
    }

    /// Returns the first value of a header that the judge had the server keep. See [`Ctx::header`].
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let kept = self.asker.visitor.map_or(&[][..], kept_headers);
        let found = kept.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// Returns the address of the browser's link, behind `trusted_proxies`. See [`Ctx::address`].
    pub const fn address(&self) -> Option<IpAddr> {
        self.asker.address
    }

    /// Returns the parameters of the path.
    pub fn params(&self) -> Params<'a> {
        self.asker.routes.params(self.path())
    }

    /// The path without the query.
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query, empty when there is none.
    pub fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseInfo<'a> {
    /// The close code: 1005 when none was given, 1006 when the link broke or the tab is gone.
    pub code: u16,
    /// The close reason.
    pub reason: &'a str,
    /// Whether one end closed it on purpose.
    pub clean: bool,
}

/// Returns the headers that are kept of a request.
pub(crate) fn kept_headers(visitor: &Visitor) -> &[(Box<str>, Box<[u8]>)] {
    match visitor {
        Visitor::Admitted(admitted) => &admitted.headers,
        Visitor::Refused(_) | Visitor::Undecided(_) => &[],
    }
}
