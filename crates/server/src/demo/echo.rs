//! Sends back what it gets.

use crate::{Ctx, Decision, Message, OpenRequest, SocketHandler};

pub(super) struct Echo;

impl SocketHandler for Echo {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        Decision::accept_protocol(request.protocols.first().cloned().unwrap_or_default())
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        // An echo that waited would have to keep what it could not send.
        if let Err(error) = ctx.send(message) {
            ctx.close(1013, &error.to_string());
        }
    }
}
