//! Sends back what it gets.

use std::collections::VecDeque;

use tabmux_core::session::SendError;

use crate::{Ctx, Decision, Message, OpenRequest, OwnedMessage, SocketHandler};

/// How many bytes wait for a browser that reads more slowly than it sends.
const LIMIT: usize = 16 << 20;

/// Keeps what cannot be sent yet: a handler that dropped it would lose it in silence.
#[derive(Default)]
pub(super) struct Echo {
    waiting: VecDeque<OwnedMessage>,
    bytes: usize,
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
            Err(SendError::Full) if self.bytes + message.as_bytes().len() <= LIMIT => {
                self.bytes += message.as_bytes().len();
                self.waiting.push_back(message.into());
            }
            Err(error) => ctx.close(1013, &error.to_string()),
            Ok(()) => {}
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(message) = self.waiting.pop_front() {
            match ctx.send(message.as_payload()) {
                Ok(()) => self.bytes -= message.len(),
                Err(SendError::Full) => return self.waiting.push_front(message),
                Err(error) => return ctx.close(1013, &error.to_string()),
            }
        }
    }
}
