//! What a run came to see. A fault that never happens finds nothing, and says nothing of that: so
//! many seeds together must have seen all there is.

use std::fmt;

macro_rules! sights {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that a run may see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sight {
            $($(#[$doc])* $name,)*
        }

        const ALL: &[(Sight, &str)] = &[$((Sight::$name, $text),)*];
    };
}

sights! {
    /// A script took a second or more.
    SlowScript = "a script that takes long",
    /// What came in the place of a script, or of a module, was HTML.
    HtmlScript = "a script that arrives as HTML",
    /// A script was refused.
    RefusedScript = "a script that is refused",
    /// Locks were there, and refused.
    RefusedLocks = "locks that refuse",
    /// Storage was there, and refused.
    RefusedStorage = "storage that refuses",
    /// Channels were there, and refused.
    RefusedChannels = "channels that refuse",
    /// Shared workers were there, and refused.
    RefusedWorkers = "shared workers that refuse",
    /// All of these refused at once.
    RefusedAll = "locks, storage, channels and shared workers that refuse together",
    /// Storage was cleared, and pages were there.
    Cleared = "storage cleared under open tabs",
    /// A page did one thing for 20 s or more, and a worker of its browser ran.
    Blocked = "a page that is blocked while a worker runs",
    /// A timer of a page was put off to the next minute.
    Crawled = "a timer that is aligned to the minute",
    /// A machine slept for 70 s or more.
    Slept = "a machine that sleeps for 70 s",
    /// What was sent on a link was swallowed, and neither end was told.
    Swallowed = "a link that swallows what is sent",
    /// A stranger claimed a session with a wrong token, and was refused.
    ForgedToken = "a claim with a wrong token",
    /// A stranger claimed a session as another user, and was refused.
    ForgedUser = "a claim of another user",
    /// A worker crashed, and what it had posted was lost.
    LostOnPort = "a message that a crashed worker had posted",
    /// A hub lost its session, which is another user's.
    OtherUser = "a session of a user who left",
    /// A hub asked whose its browser is.
    AskedWho = "a question whose the browser is",
    /// A tab was sent to the hub of another user.
    Moved = "a tab that went to the hub of another user",
    /// A page was at two hubs.
    TwoHubs = "a page at the hubs of two users",
    /// A tab found no room at the server.
    NoRoom = "a tab too many",
    /// A socket was refused since its tab has as many as it may.
    NoSocketRoom = "a socket too many",
    /// A worker started with the script of another build than a page of it has.
    OtherWorker = "a worker of another build",
    /// A page of an earlier build loaded the other tiers.
    OtherTiers = "other tiers of another build",
    /// A page opened a socket of its own, since it found no hub.
    LastResort = "a socket of a page that had no hub",
    /// A view in mirror mode heard messages that came before it.
    Replayed = "messages told again to a late view",
    /// A hub dialled where a page had said.
    AskedUrl = "an address that a page was asked for",
    /// A page took long to say where its connection goes.
    LateUrl = "an address that came late",
    /// A page could not say where its connection goes.
    NoUrl = "an address that a page did not know",
    /// A view heard what was for its tab alone.
    Routed = "a message for one tab",
    /// A view stayed open when its connection broke, and had another one.
    Outage = "a view that outlived its connection",
    /// A page asked for another link.
    AskedForLink = "a link that a page asked for",
    /// A browser said that it is offline, and a page wanted a view.
    SaidOffline = "a view that is wanted without a network",
    /// Frames of another partition had a hub beside that of the pages.
    Frame = "a hub of frames",
    /// A publication was dropped for a hub that did not read, and a gap told.
    Dropped = "a publication dropped for a slow reader",
    /// A publication was replaced by a later one.
    Replaced = "a publication replaced for a slow reader",
    /// A subscription ended since its hub did not read.
    Slow = "a subscription that ended as slow",
}

/// All that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// This was seen.
    pub const fn add(&mut self, sight: Sight) {
        self.0 |= 1 << sight as u64;
    }

    /// All that either saw.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if there is nothing that was never seen.
    pub fn is_all(self) -> bool {
        ALL.iter().all(|(sight, _)| self.has(*sight))
    }

    const fn has(self, sight: Sight) -> bool {
        self.0 & 1 << sight as u64 != 0
    }
}

/// Names what was never seen.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = ALL.iter().filter(|(sight, _)| !self.has(*sight));
        let missing = missing.map(|(_, text)| *text).collect::<Vec<_>>();
        write!(f, "never seen: {}", missing.join(", "))
    }
}
