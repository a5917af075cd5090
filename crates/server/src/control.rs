//! What handles reach of a running server.

use std::sync::{Arc, PoisonError, RwLock};

use tabmux_core::wire::SessionId;
use tracing::warn;

use crate::{
    Config, Error,
    admission::Admission,
    descriptors,
    identity::Identity,
    judge::Room,
    settings::Settings,
    shard::{
        board::Board,
        fanout::Fanout,
        mailbox::{Mail, Mailbox},
        node::Node,
        post::{Errand, Word},
    },
};

/// A running server, without its threads.
pub(crate) struct Control {
    pub(crate) board: Arc<Board>,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) mailboxes: Arc<[Arc<Mailbox<Word>>]>,
    pub(crate) node: Node,
    pub(crate) desk: Desk,
}

/// Who decides what, and by what settings.
pub(crate) struct Desk {
    pub(crate) admission: Arc<Admission>,
    pub(crate) room: Option<Arc<Room>>,
    /// Makes the tags of users; nothing if the server knows none.
    pub(crate) identity: Option<Identity>,
    settings: RwLock<Arc<Settings>>,
    /// What the server began with, of which a part stays until it ends.
    started: Config,
}

/// What a reload replaces. `log` is the binary's affair.
const RELOADED: [&str; 10] = [
    "allow_origins",
    "hosts",
    "trusted_proxies",
    "api_key",
    "api_keys",
    "tls",
    "topics",
    "unknown_topics",
    "log",
    "limits",
];
/// The same, of `limits`.
const RELOADED_LIMITS: [&str; 7] = [
    "links",
    "links_per_ip",
    "links_per_user",
    "handshakes_per_s",
    "handshakes",
    "http_connections",
    "http_per_ip",
];

impl Desk {
    pub(crate) fn new(
        admission: Arc<Admission>,
        room: Option<Arc<Room>>,
        identity: Option<Identity>,
        settings: Settings,
        started: Config,
    ) -> Self {
        let settings = RwLock::new(Arc::new(settings));
        Self { admission, room, identity, settings, started }
    }

    /// Returns the settings of this moment.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the keys that differ from those that the server began with and that no reload
    /// replaces.
    fn kept(&self, config: &Config) -> Vec<String> {
        let keys = self.started.differences(config).into_iter();
        let keys = keys.filter(|key| !RELOADED.contains(key)).map(str::to_owned);
        let limits = self.started.limits.differences(&config.limits).into_iter();
        let limits = limits.filter(|key| !RELOADED_LIMITS.contains(key));
        keys.chain(limits.map(|key| format!("limits.{key}"))).collect()
    }

    /// Makes sure that a user is judged anew who was judged before, or is being judged.
    pub(crate) fn forget_user(&self, user: &str) {
        match &self.room {
            Some(room) => room.end_user(user),
            None => self.admission.tickets().end_user(user),
        }
    }
}

impl Control {
    /// Takes what can change out of a configuration: all of it, or nothing.
    ///
    /// # Errors
    /// When a setting has no meaning.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), Error> {
        config.check()?;
        let settings = Arc::new(Settings::new(config)?);
        let rules = self.fanout.desk.prepare(config)?;
        let quota = descriptors::quota(config, self.mailboxes.len());
        self.desk.admission.set_quota(quota);
        self.fanout.desk.set(rules);
        *self.desk.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        for mailbox in &*self.mailboxes {
            // A shard that failed has no subscriptions.
            let _ = mailbox.push(Mail::Word(Word::Review), 0);
        }
        let kept = self.desk.kept(config);
        if !kept.is_empty() {
            let keys = kept.join(", ");
            warn!("other values of {keys} take effect when the server starts again");
        }
        Ok(())
    }

    /// Runs an errand in every shard. A shard that failed has nobody.
    pub(crate) fn run(&self, errand: impl Fn() -> Errand) {
        for mailbox in &*self.mailboxes {
            let _ = mailbox.push(Mail::Word(Word::People(errand())), 0);
        }
    }

    /// Returns the inbox of the shard that a session's id names. Returns nothing if the id names
    /// another node, or a shard that this node has not.
    pub(crate) fn home(&self, session: SessionId) -> Option<&Mailbox<Word>> {
        self.mailboxes.get(self.node.shard(session)?).map(|mailbox| &**mailbox)
    }
}
