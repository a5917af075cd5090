//! The rules of topics: what is special about them, and who may have them.

mod hook;
mod pattern;

use std::sync::{Arc, PoisonError, RwLock};

use tabmux_core::{
    feed::Keep,
    session::{SlowPolicy, Visitor},
    wire::MAX_TOPIC_NAME,
};

pub use self::hook::TopicRequest;
pub(crate) use self::{hook::Hook, pattern::Pattern};
use crate::{
    Access, Config, Error, Slow, UnknownTopics, broker::MemoryBroker, config::check_rules,
    identity::Secret,
};

/// What stands between the name of a topic and its signature.
const SEPARATOR: char = '~';

/// All rules of a server.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    unknown: UnknownTopics,
    /// Signs names of topics.
    secret: Option<Secret>,
}

/// A rule of a configuration, ready to be looked at.
struct Rule {
    pattern: Pattern,
    slow: SlowPolicy,
    keep: Keep,
    subscribe: Access,
}

/// Whether a browser may have a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Allowed,
    /// The application is to be asked.
    Ask,
    /// It may not, for this reason.
    Denied(&'static str),
}

impl Rules {
    /// Takes the rules out of a configuration. `secret` signs names, and `has_hook` tells whether
    /// the application can be asked.
    ///
    /// # Errors
    /// When a rule has no meaning, or needs what is not there.
    pub(crate) fn new(
        config: &Config,
        secret: Option<&Secret>,
        has_hook: bool,
    ) -> Result<Self, Error> {
        check_rules(&config.topics)?;
        let mut rules = Vec::with_capacity(config.topics.len());
        for rule in &config.topics {
            let pattern = Pattern::new(&rule.pattern)?;
            let default = if pattern.names_user() { Access::Owner } else { Access::Anyone };
            let subscribe = rule.subscribe.unwrap_or(default);
            let lacks = match subscribe {
                Access::Signed if secret.is_none() => {
                    "subscribe = \"signed\" needs a secret: set identity_secret_files"
                }
                Access::Hook if !has_hook => {
                    "subscribe = \"hook\" needs Builder::may_subscribe, which no program has called"
                }
                Access::Signed
                | Access::Hook
                | Access::Anyone
                | Access::Users
                | Access::Owner
                | Access::Granted
                | Access::Nobody => "",
            };
            if !lacks.is_empty() {
                return Err(Error::Config(format!("topics: {:?}: {lacks}", rule.pattern)));
            }
            let slow = match rule.slow {
                Slow::Recover => SlowPolicy::Recover,
                Slow::KeepLatest => SlowPolicy::KeepLatest,
                Slow::DropWithGap => SlowPolicy::DropWithGap,
            };
            let keep = rule.history.map_or(Keep::NOTHING, |history| history.keep());
            rules.push(Rule { pattern, slow, keep, subscribe });
        }
        Ok(Self { rules, unknown: config.unknown_topics, secret: secret.cloned() })
    }

    /// Returns what becomes of a topic's publications for a browser that is behind.
    pub(crate) fn slow(&self, name: &str) -> SlowPolicy {
        self.find(name).map_or(SlowPolicy::default(), |(rule, _)| rule.slow)
    }

    /// Returns how much is kept of a topic.
    pub(crate) fn keep(&self, name: &str) -> Keep {
        self.find(name).map_or(Keep::NOTHING, |(rule, _)| rule.keep)
    }

    /// Returns whether a browser may have a topic.
    pub(crate) fn right(&self, visitor: Option<&Visitor>, name: &str) -> Right {
        let Some((rule, base)) = self.find(name) else {
            return match self.unknown {
                UnknownTopics::Allow => Right::Allowed,
                UnknownTopics::Refuse => Right::Denied("no rule of this server allows this topic"),
            };
        };
        let user = visitor.and_then(|visitor| visitor.user()).map(|user| user.name());
        let (is_allowed, reason) = match rule.subscribe {
            Access::Anyone => (true, ""),
            Access::Users => (user.is_some(), "this topic is for users; log in first"),
            Access::Owner => {
                let is_owner = user.is_some_and(|user| rule.pattern.is_of(name, user));
                (is_owner, "this topic is another user's")
            }
            Access::Signed => {
                let is_signed = base.len() < name.len() && self.sign(base).as_deref() == Some(name);
                (is_signed, "the name of this topic needs a signature of this server")
            }
            Access::Granted => {
                let mut granted = visitor.into_iter().flat_map(Visitor::granted);
                let is_granted = granted.any(|it| Pattern::new(it).is_ok_and(|it| it.fits(name)));
                (is_granted, "this topic is not granted to this browser")
            }
            Access::Hook => return Right::Ask,
            Access::Nobody => (false, "no browser may have this topic"),
        };
        if is_allowed { Right::Allowed } else { Right::Denied(reason) }
    }

    /// Returns the name under which hubs know a topic, if it is not the same: the signed one, if a
    /// rule wants a signature.
    pub(crate) fn public_name(&self, name: &str) -> Option<String> {
        let (rule, base) = self.find(name)?;
        let is_bare = rule.subscribe == Access::Signed && base.len() == name.len();
        if is_bare { self.sign(name) } else { None }
    }

    /// Returns a name with its signature; nothing if the server has no secret, or the name would be
    /// too long.
    pub(crate) fn sign(&self, name: &str) -> Option<String> {
        let signature = self.secret.as_ref()?.sign_topic(name);
        let signed = format!("{name}{SEPARATOR}{signature}");
        (signed.len() <= MAX_TOPIC_NAME).then_some(signed)
    }

    /// Returns the rule of a name, and the name without its signature if the rule wants one.
    fn find<'a>(&self, name: &'a str) -> Option<(&Rule, &'a str)> {
        if let Some((base, _)) = name.rsplit_once(SEPARATOR)
            && let Some(rule) = self.fitting(base)
            && rule.subscribe == Access::Signed
        {
            return Some((rule, base));
        }
        self.fitting(name).map(|rule| (rule, name))
    }

    fn fitting(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.fits(name))
    }
}

/// The rules of this moment, and what other rules would need.
pub(crate) struct TopicDesk {
    rules: RwLock<Arc<Rules>>,
    secret: Option<Secret>,
    pub(crate) hook: Option<Hook>,
}

impl TopicDesk {
    /// Takes the rules out of a configuration.
    ///
    /// # Errors
    /// When a rule has no meaning, or needs a secret or a hook that is not there.
    pub(crate) fn new(
        config: &Config,
        secret: Option<Secret>,
        hook: Option<Hook>,
    ) -> Result<Arc<Self>, Error> {
        let rules = Rules::new(config, secret.as_ref(), hook.is_some())?;
        let hook = hook.map(|hook| hook.at_a_time(config.limits.judging));
        Ok(Arc::new(Self { rules: RwLock::new(Arc::new(rules)), secret, hook }))
    }

    /// Returns what a configuration would make of the rules.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn prepare(&self, config: &Config) -> Result<Arc<Rules>, Error> {
        Ok(Arc::new(Rules::new(config, self.secret.as_ref(), self.hook.is_some())?))
    }

    /// Makes a broker in memory, which keeps what the rules of the moment say.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(crate) fn memory_broker(
        self: &Arc<Self>,
        config: &Config,
    ) -> std::io::Result<MemoryBroker> {
        let desk = Arc::clone(self);
        let policy = Box::new(move |name: &str| desk.rules().keep(name));
        MemoryBroker::new(config.limits.topics, config.limits.history_bytes, policy)
    }

    /// Replaces the rules. Shards look at the subscriptions that there are when they are told to.
    pub(crate) fn set(&self, rules: Arc<Rules>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Returns the rules of this moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}
