//! Streams that handlers have watched beside the links.

use mio::Token;

use super::Sessions;
use crate::shard::service::{Moment, Ready};

impl Sessions {
    /// Tells the handler of a stream what happened to it.
    pub(super) fn stream_is_ready(&mut self, at: Moment<'_>, token: Token, ready: Ready) {
        if let Some(socket) = self.home.streams.socket(token) {
            self.call(at, socket, |handler, ctx| {
                ctx.ready = ready;
                handler.writable(ctx);
            });
        }
    }

    /// Tells all handlers that have a stream to close it.
    pub(super) fn close_streams(&mut self, at: Moment<'_>) {
        for socket in self.home.streams.sockets() {
            self.call(at, socket, |handler, ctx| {
                ctx.ready.is_stopped = true;
                handler.writable(ctx);
            });
        }
    }
}
