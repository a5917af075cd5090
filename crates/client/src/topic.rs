//! What comes to all: topics, and messages to all tabs of a browser.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tabmux_core::{OwnedPayload, wire::Position};
use tokio::sync::mpsc;

use crate::{driver::Command, inbox::Inbox};

/// A subscription to a topic: a [`Stream`] of events. Dropping it ends the subscription.
///
/// A link that breaks does not end it. Publications that were missed because it was away for too
/// long, or because up to 1,024 events waited to be taken, are a [`TopicEvent::Gap`].
#[derive(Debug)]
pub struct Topic {
    pub(crate) number: u32,
    pub(crate) inbox: Inbox<TopicEvent>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

/// What a topic tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicEvent {
    /// All that is published after this position will come.
    Subscribed {
        /// Where the topic is.
        position: Position,
    },
    /// A publication.
    Message {
        /// Its place in the topic.
        position: Position,
        /// The message.
        message: OwnedPayload,
    },
    /// Publications are missing here: fetch the state of things anew.
    Gap {
        /// Up to where they may be missing.
        position: Position,
    },
    /// The subscription has ended. Nothing follows.
    End {
        /// Why.
        reason: String,
    },
}

/// Messages to all tabs of a browser, of which this client counts as one: a [`Stream`].
#[derive(Debug)]
pub struct Broadcasts {
    pub(crate) inbox: Inbox<BrowserEvent>,
}

/// What the server says to all tabs of a browser, or to this client alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrowserEvent {
    /// A message.
    Message(OwnedPayload),
    /// Messages are missing here.
    Gap,
}

impl Topic {
    /// Returns the next event; `None` after [`TopicEvent::End`].
    pub async fn next(&mut self) -> Option<TopicEvent> {
        poll_fn(|context| self.inbox.poll(context)).await
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // Where that fails the client is closed.
        let _ = self.commands.send(Command::Unsubscribe { topic: self.number });
    }
}

impl Stream for Topic {
    type Item = TopicEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TopicEvent>> {
        self.inbox.poll(context)
    }
}

impl TopicEvent {
    /// Returns the gap that is left where this event is left out.
    pub(crate) fn into_gap(self) -> Self {
        match self {
            Self::Subscribed { position }
            | Self::Message { position, .. }
            | Self::Gap { position } => Self::Gap { position },
            end @ Self::End { .. } => end,
        }
    }
}

impl Broadcasts {
    /// Returns the next event; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<BrowserEvent> {
        poll_fn(|context| self.inbox.poll(context)).await
    }
}

impl Stream for Broadcasts {
    type Item = BrowserEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BrowserEvent>> {
        self.inbox.poll(context)
    }
}
