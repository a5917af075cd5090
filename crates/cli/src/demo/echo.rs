//! A handler that sends back each message that it gets.

use std::collections::VecDeque;

use tabmux_server::{
    Ctx, Decision, HeldCredit, Message, OpenRequest, OwnedMessage, SendError, SocketHandler,
};

/// Keeps messages that cannot be sent yet, because dropping one would lose it in silence. It keeps
/// no more than the tab has credit for.
#[derive(Default)]
pub(super) struct Echo {
    waiting: VecDeque<(OwnedMessage, HeldCredit)>,
}

impl SocketHandler for Echo {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        Decision::accept_protocol(request.protocols.first().cloned().unwrap_or_default())
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let outcome = match self.waiting.is_empty() {
            true => ctx.send(message),
            false => Err(SendError::Full),
        };
        match outcome {
            Err(SendError::Full) => {
                self.waiting.push_back((message.into(), ctx.hold_credit()));
            }
            Err(error) => ctx.close(1013, &error.to_string()),
            Ok(()) => {}
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        while let Some((message, credit)) = self.waiting.pop_front() {
            match ctx.send(message.as_payload()) {
                Ok(()) => drop(credit),
                Err(SendError::Full) => return self.waiting.push_front((message, credit)),
                Err(error) => return ctx.close(1013, &error.to_string()),
            }
        }
    }
}
