//! What is special about topics.

use serde::Deserialize;

use crate::Error;

/// Topics by the beginning of their names, and what is special about them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TopicRule {
    /// Which topics: those whose name begins so. Of several rules the longest counts.
    pub prefix: String,
    /// What happens to publications while a hub does not read fast enough.
    pub slow: Slow,
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
    /// Returns a rule for the topics whose name begins with `prefix`.
    pub fn new(prefix: impl Into<String>, slow: Slow) -> Self {
        Self { prefix: prefix.into(), slow }
    }
}

/// Checks the rules of a configuration.
pub(crate) fn check_rules(rules: &[TopicRule]) -> Result<(), Error> {
    let mut prefixes = rules.iter().map(|rule| &rule.prefix).collect::<Vec<_>>();
    prefixes.sort();
    match prefixes.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Config(format!("topics has two rules for {:?}", pair[0]))),
        None => Ok(()),
    }
}
