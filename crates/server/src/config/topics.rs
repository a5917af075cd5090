//! What is special about topics, and who may have them.

use std::time::Duration;

use serde::Deserialize;
use tabmux_core::feed::Keep;

use crate::{Error, topics::Pattern};

/// A rule for the topics whose names have a pattern. Of several rules the first that fits counts.
///
/// ```
/// use tabmux_server::{Access, Config, Slow, TopicRule};
///
/// let config = Config::default().topics(vec![
///     // Every user has an inbox, which nobody else may read.
///     TopicRule::new("inbox/{user}"),
///     TopicRule::new("staff/*").subscribe(Access::Granted),
///     TopicRule::new("cursors/*").slow(Slow::KeepLatest),
/// ]);
/// assert_eq!(config.topics.len(), 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TopicRule {
    /// Which topics: a name, in which `{user}` stands for the name of a user, `{anything}` in
    /// braces for one part, and `*` at the end for any rest, also an empty one. A part is what lies
    /// between two `/`, and is not empty. A user whose name is empty or has a `/` has no topics of
    /// patterns with `{user}`.
    pub pattern: String,
    /// What happens to publications while a hub does not read fast enough.
    #[serde(default)]
    pub slow: Slow,
    /// Who may subscribe. Default: `owner` if the pattern has `{user}`, and else `anyone`.
    #[serde(default)]
    pub subscribe: Option<Access>,
    /// How much is kept of each topic, for browsers that were away. Default: nothing.
    #[serde(default)]
    pub history: Option<TopicHistory>,
}

/// How much is kept of a topic. What is beyond any of the three goes, the oldest first. All topics
/// together keep `limits.history_bytes` at most.
///
/// ```
/// use tabmux_server::{TopicHistory, TopicRule};
///
/// // The last 50 messages of each room, of the last hour.
/// let rule = TopicRule::new("room/*").history(TopicHistory::default().count(50).age_s(3_600));
/// assert_eq!(rule.history.map(|history| history.count), Some(50));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TopicHistory {
    /// How many publications are kept. Default: 1,000.
    pub count: usize,
    /// Bytes of publications that are kept. Default: 1 MiB.
    pub bytes: usize,
    /// Seconds for which a publication is kept. Default: 300.
    pub age_s: u64,
}

/// Who may subscribe to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Access {
    /// Every browser that has a link.
    Anyone,
    /// Every browser that is some user's.
    Users,
    /// The user whose name stands where the pattern has `{user}`.
    Owner,
    /// Browsers that know the name with its signature, which
    /// [`ServerHandle::sign_topic`](crate::ServerHandle::sign_topic) makes.
    Signed,
    /// Browsers to which the judge granted the topic
    /// ([`Admitted::grant`](crate::Admitted::grant)), or the claim of their token that
    /// `jwt.topics_claim` names.
    Granted,
    /// Those that the application allows when it is asked
    /// ([`Builder::may_subscribe`](crate::Builder::may_subscribe)).
    Hook,
    /// No browser may subscribe.
    Nobody,
}

/// Whether browsers may have topics that no rule fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UnknownTopics {
    /// Every browser may have them.
    #[default]
    Allow,
    /// No browser may have them.
    Refuse,
}

/// What happens to publications of a topic while a hub does not read fast enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Slow {
    /// The subscription ends; the hub subscribes again from its last position a second later,
    /// and says *gap* if it missed something. What topics do without a rule.
    #[default]
    Recover,
    /// Of the publications that wait, only the latest is kept: for states.
    KeepLatest,
    /// What does not fit is dropped, and the hub is told where: *gap*.
    DropWithGap,
}

impl TopicRule {
    /// Returns a rule for the topics whose names have a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), slow: Slow::default(), subscribe: None, history: None }
    }

    /// Sets what happens to publications while a hub does not read fast enough.
    #[must_use]
    pub const fn slow(mut self, slow: Slow) -> Self {
        self.slow = slow;
        self
    }

    /// Sets how much is kept of each topic, for browsers that were away.
    #[must_use]
    pub const fn history(mut self, history: TopicHistory) -> Self {
        self.history = Some(history);
        self
    }

    /// Sets who may subscribe.
    #[must_use]
    pub const fn subscribe(mut self, access: Access) -> Self {
        self.subscribe = Some(access);
        self
    }
}

impl Default for TopicHistory {
    fn default() -> Self {
        Self { count: 1_000, bytes: 1 << 20, age_s: 300 }
    }
}

impl TopicHistory {
    /// Sets how many publications are kept.
    #[must_use]
    pub const fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Sets how many bytes of publications are kept.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets for how many seconds a publication is kept.
    #[must_use]
    pub const fn age_s(mut self, seconds: u64) -> Self {
        self.age_s = seconds;
        self
    }

    pub(crate) const fn keep(self) -> Keep {
        let Self { count, bytes, age_s } = self;
        Keep { count, bytes, age: Duration::from_secs(age_s) }
    }
}

/// Checks the rules of a configuration.
pub(crate) fn check_rules(rules: &[TopicRule]) -> Result<(), Error> {
    for (index, rule) in rules.iter().enumerate() {
        let pattern = Pattern::new(&rule.pattern)?;
        if rules[..index].iter().any(|other| other.pattern == rule.pattern) {
            return Err(Error::Config(format!("topics has two rules for {:?}", rule.pattern)));
        }
        if let Some(TopicHistory { count, bytes, age_s }) = rule.history
            && (count == 0 || bytes == 0 || age_s == 0)
        {
            let text = "count, bytes and age_s of history must be at least 1; leave history out to \
                        keep nothing";
            return Err(Error::Config(format!("topics: {:?}: {text}", rule.pattern)));
        }
        if rule.subscribe == Some(Access::Owner) && !pattern.names_user() {
            let text = "names no user: write {user} into it, or leave out subscribe = \"owner\"";
            return Err(Error::Config(format!("topics: the pattern {:?} {text}", rule.pattern)));
        }
    }
    Ok(())
}
