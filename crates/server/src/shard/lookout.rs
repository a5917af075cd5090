//! What a shard learns of the memory that the others hold.

use tabmux_core::{
    Timestamp,
    session::{Input, Registry},
};

use super::{board::EVERY, home::Home, mailbox::Mail, post::Word};

/// When a shard looks at the others.
#[derive(Default)]
pub(super) struct Lookout {
    due: Timestamp,
}

impl Lookout {
    /// Looks if it is time. A shard that has nothing to do is told to look when the server comes
    /// near its limit.
    pub(super) fn look_if_due(&mut self, now: Timestamp, home: &Home, registry: &mut Registry) {
        if now >= self.due {
            self.look(now, home, registry);
        }
    }

    pub(super) fn look(&mut self, now: Timestamp, home: &Home, registry: &mut Registry) {
        self.due = now + EVERY;
        let Home { index, board, control, .. } = home;
        if control.mailboxes.len() < 2 {
            return;
        }
        let shares = board.shares(*index);
        registry.handle_input(now, Input::Shares(shares));
        board.heaviest_is(*index, registry.heaviest());
        let held = shares.others + registry.stats().charged.bytes();
        if held <= registry.config().memory_bytes / 2 || !board.tells_all(now) {
            return;
        }
        for (shard, mailbox) in control.mailboxes.iter().enumerate() {
            if shard != *index {
                // A shard that failed holds nothing.
                let _ = mailbox.push(Mail::Word(Word::Shares), 0);
            }
        }
    }
}
