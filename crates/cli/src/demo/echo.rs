//! Sends back what it gets.

use std::collections::VecDeque;

use tabmux_server::{
    Ctx, Decision, Message, OpenRequest, OwnedMessage, SendError, SocketHandler, message_cost,
};

/// Keeps what cannot be sent yet: a handler that dropped it would lose it in silence. It keeps no
/// more than its tab has credit for.
#[derive(Default)]
pub(super) struct Echo {
    waiting: VecDeque<OwnedMessage>,
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
                ctx.hold_credit();
                self.waiting.push_back(message.into());
            }
            Err(error) => ctx.close(1013, &error.to_string()),
            Ok(()) => {}
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(message) = self.waiting.pop_front() {
            match ctx.send(message.as_payload()) {
                Ok(()) => ctx.return_credit(message_cost(message.len())),
                Err(SendError::Full) => return self.waiting.push_front(message),
                Err(error) => return ctx.close(1013, &error.to_string()),
            }
        }
    }
}
