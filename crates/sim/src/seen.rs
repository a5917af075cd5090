//! Records which faults a run saw. A fault that never happens finds nothing, and nobody would
//! notice. Many seeds together must therefore have seen all of them.

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
    /// A script took a second or more to arrive.
    SlowScript = "a script that takes long",
    /// HTML arrived in the place of a script or a module.
    HtmlScript = "a script that arrives as HTML",
    /// The request for a script was refused.
    RefusedScript = "a script that is refused",
    /// The browser has Web Locks, and they refused.
    RefusedLocks = "locks that refuse",
    /// The browser has localStorage, and it refused.
    RefusedStorage = "storage that refuses",
    /// The browser has channels, and they refused.
    RefusedChannels = "channels that refuse",
    /// The browser has shared workers, and they refused.
    RefusedWorkers = "shared workers that refuse",
    /// All of these refused at once.
    RefusedAll = "locks, storage, channels and shared workers that refuse together",
    /// The storage was cleared while pages were open.
    Cleared = "storage cleared under open tabs",
    /// A page was blocked for 20 s or more while a worker of its browser ran.
    Blocked = "a page that is blocked while a worker runs",
    /// A timer of a page was put off to the next full minute.
    Crawled = "a timer that is aligned to the minute",
    /// A machine slept for 70 s or more.
    Slept = "a machine that sleeps for 70 s",
    /// A link swallowed what was sent, and neither end was told.
    Swallowed = "a link that swallows what is sent",
    /// A stranger claimed a session with a wrong token, and was refused.
    ForgedToken = "a claim with a wrong token",
    /// A stranger claimed a session as another user, and was refused.
    ForgedUser = "a claim of another user",
    /// A worker crashed, and messages that it had posted were lost.
    LostOnPort = "a message that a crashed worker had posted",
    /// A hub lost its session, because the session belongs to another user.
    OtherUser = "a session of a user who left",
    /// A hub asked the server for the user of its browser.
    AskedWho = "a question whose the browser is",
    /// A tab was sent to the hub of another user.
    Moved = "a tab that went to the hub of another user",
    /// A page was attached to two hubs at once.
    TwoHubs = "a page at the hubs of two users",
    /// A hub showed a ticket, and its socket went on.
    Ticket = "a ticket that was shown",
    /// Another user showed a ticket.
    StrangeTicket = "a ticket of another user",
    /// A hub showed a ticket that had been shown, or that came too late.
    SpentTicket = "a ticket that no longer counts",
    /// A socket was refused because nobody showed its ticket.
    UnshownTicket = "a ticket that nobody showed",
    /// A tab found no room at the server.
    NoRoom = "a tab too many",
    /// A socket was refused because its tab has reached the limit of sockets.
    NoSocketRoom = "a socket too many",
    /// A worker started with another build of the scripts than that of one of its pages.
    OtherWorker = "a worker of another build",
    /// A page of an earlier build loaded the other tiers.
    OtherTiers = "other tiers of another build",
    /// A page opened a socket of its own, because it found no hub.
    LastResort = "a socket of a page that had no hub",
    /// A view in mirror mode heard messages that arrived before the view opened.
    Replayed = "messages told again to a late view",
    /// A hub dialled the address that a page had given.
    AskedUrl = "an address that a page was asked for",
    /// A page took long to give the address of its connection.
    LateUrl = "an address that came late",
    /// A page could not give the address of its connection.
    NoUrl = "an address that a page did not know",
    /// A view heard a message for its tab alone.
    Routed = "a message for one tab",
    /// A view stayed open when its connection broke, and got another connection.
    Outage = "a view that outlived its connection",
    /// A page asked for another link.
    AskedForLink = "a link that a page asked for",
    /// A browser said that it is offline, and a page wanted a view.
    SaidOffline = "a view that is wanted without a network",
    /// Frames of another partition had a hub beside the hub of the pages.
    Frame = "a hub of frames",
    /// A publication was dropped for a hub that did not read, and a gap was reported.
    Dropped = "a publication dropped for a slow reader",
    /// A publication was replaced by a later one.
    Replaced = "a publication replaced for a slow reader",
    /// A subscription ended because its hub did not read.
    Slow = "a subscription that ended as slow",
    /// A hub that was away got a publication that it had missed.
    Recovered = "a publication for a hub that was away",
    /// A hub missed publications that were not kept any more.
    Overrun = "a gap in what a hub that was away gets",
}

/// The set of all sights of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// Adds a sight to the set.
    pub const fn add(&mut self, sight: Sight) {
        self.0 |= 1 << sight as u64;
    }

    /// Returns the union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if every sight was seen.
    pub fn is_all(self) -> bool {
        ALL.iter().all(|(sight, _)| self.has(*sight))
    }

    const fn has(self, sight: Sight) -> bool {
        self.0 & 1 << sight as u64 != 0
    }
}

/// Names the sights that were never seen.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = ALL.iter().filter(|(sight, _)| !self.has(*sight));
        let missing = missing.map(|(_, text)| *text).collect::<Vec<_>>();
        write!(f, "never seen: {}", missing.join(", "))
    }
}
