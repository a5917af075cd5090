//! Credit of messages that a handler keeps.

use std::sync::{Arc, Weak};

use tabmux_core::session::SocketRef;

use crate::shard::{
    mailbox::{Mail, Mailbox},
    post::{Command, Post, Word},
};

/// The place of one message in its tab's credit, as
/// [`Ctx::hold_credit`](crate::Ctx::hold_credit) took it. Dropping it gives the credit back, from
/// any thread: keep it with the message.
///
/// ```
/// use tabmux_server::{Ctx, HeldCredit, Message, OwnedMessage, SocketHandler};
/// use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
///
/// /// Hands its messages to a task. The channel has no limit of its own: it never holds more than
/// /// the tab has credit for.
/// struct Orders(UnboundedSender<(OwnedMessage, HeldCredit)>);
///
/// impl SocketHandler for Orders {
///     fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
///         let order = (message.into(), ctx.hold_credit());
///         if self.0.send(order).is_err() {
///             ctx.close(1013, "no orders are taken any more");
///         }
///     }
/// }
///
/// let (orders, mut inbox) = unbounded_channel::<(OwnedMessage, HeldCredit)>();
/// let work = async move {
///     while let Some((order, credit)) = inbox.recv().await {
///         println!("{order:?}");
///         drop(credit);
///     }
/// };
/// # drop((orders, work));
/// ```
#[derive(Debug)]
#[must_use = "the credit is given back when it is dropped"]
pub struct HeldCredit {
    socket: SocketRef,
    cost: u64,
    mailbox: Weak<Mailbox<Word>>,
}

impl HeldCredit {
    pub(crate) fn new(socket: SocketRef, cost: u64, mailbox: &Arc<Mailbox<Word>>) -> Self {
        Self { socket, cost, mailbox: Arc::downgrade(mailbox) }
    }

    /// Returns what the message took of the credit: its bytes of payload, and 64.
    pub const fn cost(&self) -> u64 {
        self.cost
    }
}

impl Drop for HeldCredit {
    fn drop(&mut self) {
        // Without a mailbox the server is gone.
        if let Some(mailbox) = self.mailbox.upgrade()
            && self.cost > 0
        {
            let post = Post { socket: self.socket, command: Command::GiveBack { cost: self.cost } };
            // At no cost: each message is given back once, and credit limits messages.
            let _ = mailbox.push(Mail::Word(Word::Post(post)), 0);
        }
    }
}
