//! Messages kept for a tab that is in the back/forward cache, where nothing may be posted to it.

use crate::hub::io::HubMessage;

/// The messages that wait for one parked tab, oldest first.
#[derive(Debug, Default)]
pub(in crate::hub) struct Held {
    messages: Vec<HubMessage>,
    bytes: usize,
}

impl Held {
    /// Keeps a message. Returns false if that would be more than `limit` bytes: then all that was
    /// kept is dropped.
    pub(in crate::hub) fn push(&mut self, message: &HubMessage, limit: usize) -> bool {
        if self.bytes + message.cost() > limit {
            *self = Self::default();
            return false;
        }
        self.bytes += message.cost();
        self.messages.push(message.clone());
        true
    }

    /// Keeps a message whatever the limit. There is one for each socket at most.
    pub(in crate::hub) fn push_always(&mut self, message: HubMessage) {
        self.messages.push(message);
    }

    /// Returns the lane-0 count of the newest message to all tabs, or `u64::MAX` if word that some
    /// are missing is newer than that. Returns 0 if there is neither.
    pub(super) fn newest_to_all(&self) -> u64 {
        let mut newest = 0;
        for message in &self.messages {
            if let HubMessage::Browser { count0, .. } = message {
                newest = *count0;
            } else if matches!(message, HubMessage::BrowserGap) {
                newest = u64::MAX;
            }
        }
        newest
    }

    /// Returns the messages, oldest first.
    pub(in crate::hub) fn into_messages(self) -> Vec<HubMessage> {
        self.messages
    }
}
