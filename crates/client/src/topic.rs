//! Topics, and messages to all tabs of a browser.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tabmux_core::{OwnedPayload, wire::Position};
use tokio::sync::mpsc;

use crate::{driver::Command, inbox::Inbox};

/// A subscription to a topic. It is a [`Stream`] of events. Dropping it ends the subscription.
///
/// A broken link does not end the subscription. The reader gets [`TopicEvent::Gap`] if publications
/// were missed, because the link was away for too long or because 1,024 events waited for the
/// reader.
#[derive(Debug)]
pub struct Topic {
    pub(crate) number: u32,
    pub(crate) inbox: Inbox<TopicEvent>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

/// An event of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicEvent {
    /// The subscription has begun. All publications after this position will arrive.
    Subscribed {
        /// The position of the topic now.
        position: Position,
    },
    /// A publication of the topic.
    Message {
        /// The publication's position in the topic.
        position: Position,
        /// The message that was published.
        message: OwnedPayload,
    },
    /// Publications are missing here. The application should fetch its state anew.
    Gap {
        /// The last position up to which publications may be missing.
        position: Position,
    },
    /// The subscription has ended. No further event follows.
    End {
        /// The reason why it ended.
        reason: String,
    },
}

/// Messages to all tabs of a browser. To the server this client is a browser with one tab. It is a
/// [`Stream`] of events.
#[derive(Debug)]
pub struct Broadcasts {
    pub(crate) inbox: Inbox<BrowserEvent>,
}

/// A message that the server sends to all tabs of a browser, or to this client alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrowserEvent {
    /// A message, text or binary.
    Message(OwnedPayload),
    /// One or more messages are missing here.
    Gap,
}

impl Topic {
    /// Returns the next event, or `None` after [`TopicEvent::End`].
    pub async fn next(&mut self) -> Option<TopicEvent> {
        poll_fn(|context| self.inbox.poll(context)).await
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // Sending fails only if the client is closed.
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
    /// Returns the gap that stands for this event if the event is left out.
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
    /// Returns the next event, or `None` once the client is closed.
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
