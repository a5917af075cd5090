//! A look at a running server, and what an application does with it from anywhere.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tabmux_core::{
    OwnedPayload,
    session::{Farewell, SendError, SessionInfo, Stats},
    wire::{Payload, Position, RefusedReason, SessionId, TabId},
};
use tokio::sync::{oneshot, watch};

use crate::{
    Config, Error, PublishError, Refusal,
    control::Control,
    shard::{
        mailbox::Mail,
        post::{Errand, Word},
    },
};

/// The time over which the hubs of a user that is asked about again spread.
const SPREAD: Duration = Duration::from_millis(500);

/// A running server, from anywhere. Cheap to clone; it keeps nothing alive.
///
/// ```no_run
/// use std::time::Duration;
/// use tabmux_server::{Message, Refusal, Server, Target};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().build()?;
/// let handle = server.handle();
/// // To all browsers of a user that are there, at most once.
/// handle.send(Target::User("ann"), Message::Text("your order is on its way"))?;
/// handle.publish("prices", Message::Text("42")).await?;
/// // All her tabs close, and may come back after a minute.
/// let why = Refusal::retry_after(Duration::from_secs(60), "your plan has changed");
/// handle.disconnect(Target::User("ann"), &why)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle {
    stats: watch::Receiver<Stats>,
    control: Weak<Control>,
}

/// For whom a message is, or who is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// All browsers of a user.
    User(&'a str),
    /// A browser, by its session.
    Browser(SessionId),
    /// A tab of a browser.
    Tab(SessionId, TabId),
}

impl ServerHandle {
    pub(crate) fn new(control: &Arc<Control>) -> Self {
        Self { stats: control.board.watch(), control: Arc::downgrade(control) }
    }

    /// Publishes a message to every browser that is subscribed to a topic. Returns its position,
    /// also when nobody is subscribed. Any name of 1 to 256 bytes is a topic.
    ///
    /// It waits while the shards' inboxes have no room, and for the broker to take the message. It
    /// waits for no browser. A future that is dropped before it is done may have published.
    ///
    /// # Errors
    /// [`PublishError::Name`], [`PublishError::TooLarge`]; [`PublishError::Broker`] when the broker
    /// did not take it, or not within `broker_timeout_ms`; [`PublishError::Closed`] when the server
    /// is gone.
    pub async fn publish(
        &self,
        topic: &str,
        message: Payload<'_>,
    ) -> Result<Position, PublishError> {
        let fanout = {
            let control = self.control.upgrade().ok_or(PublishError::Closed)?;
            Arc::clone(&control.fanout)
        };
        fanout.publish(topic, message).await
    }

    /// Returns where a topic is now. A page that is rendered with what the topic was until then
    /// goes on from there: give it the position, and let it say
    /// `client.topic(name, { since: position })`. Then it hears what was published since.
    ///
    /// ```no_run
    /// # use tabmux_server::{PublishError, ServerHandle};
    /// # async fn render(server: &ServerHandle) -> Result<String, PublishError> {
    /// // The position comes first. What is published while the state is read may then come twice,
    /// // and is not missed.
    /// let position = server.position("room/5").await?;
    /// let state = "…";
    /// # Ok(format!("{state} {position:?}"))
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError::Name`]; [`PublishError::Broker`] when the broker cannot tell, or not within
    /// `broker_timeout_ms`; [`PublishError::Closed`] when the server is gone.
    pub async fn position(&self, topic: &str) -> Result<Position, PublishError> {
        let fanout = {
            let control = self.control.upgrade().ok_or(PublishError::Closed)?;
            Arc::clone(&control.fanout)
        };
        fanout.position(topic).await
    }

    /// Returns the identity tag of a user. An application that writes it into its HTML spares the
    /// page the question whose it is. Returns nothing when the server knows no users, or is gone.
    pub fn identity(&self, user: &str) -> Option<String> {
        let control = self.control.upgrade()?;
        control.desk.identity.as_ref().map(|identity| identity.tag(user).into())
    }

    /// Returns the name of a topic with a signature of this server, for pages that may have the
    /// topic: write it into their HTML, or answer a request with it. Where the rule of the topic
    /// says [`Access::Signed`](crate::Access::Signed), no browser can subscribe without it, and
    /// a message that is published to `topic` reaches all who have the signed name. The same name
    /// always has the same signature, which counts until the first secret of the server is another.
    ///
    /// Returns nothing when the server has no secret or is gone, or when the signed name would be
    /// longer than 256 bytes: the signature takes 23.
    pub fn sign_topic(&self, topic: &str) -> Option<String> {
        self.control.upgrade()?.fanout.desk.rules().sign(topic)
    }

    /// Sends a message to all tabs of a user's browsers, to all tabs of one browser, or to one tab,
    /// at most once: what does not fit on a link is lost, and so is what is sent to nobody who is
    /// there. Pages hear it as `message` of their client. A tab whose hub speaks version 1 of the
    /// protocol is not told.
    ///
    /// # Errors
    /// [`SendError::Full`] when a shard's inbox is full. [`SendError::TooLarge`] when the message
    /// is larger than `limits.message_bytes`, of which the frame takes up to 48.
    /// [`SendError::Closed`] when the server is gone, or the shard of the browser.
    pub fn send(&self, target: Target<'_>, message: Payload<'_>) -> Result<(), SendError> {
        let control = self.control.upgrade().ok_or(SendError::Closed)?;
        if !control.fanout.fits(message.len()) {
            return Err(SendError::TooLarge);
        }
        let message = OwnedPayload::from(message);
        match target {
            Target::User(user) => {
                let (user, message) = (Arc::<str>::from(user), Arc::new(message));
                let errand =
                    || Errand::TellUser { user: Arc::clone(&user), message: Arc::clone(&message) };
                let cost = errand().cost();
                if !control.mailboxes.iter().all(|mailbox| mailbox.has_room(cost)) {
                    return Err(SendError::Full);
                }
                for mailbox in &*control.mailboxes {
                    mailbox.force(Mail::Word(Word::People(errand())), cost);
                }
                Ok(())
            }
            Target::Browser(session) => {
                let errand = Errand::TellBrowser { session, message };
                let cost = errand.cost();
                let mailbox = control.home(session).ok_or(SendError::Closed)?;
                mailbox.push(Mail::Word(Word::People(errand)), cost)
            }
            Target::Tab(session, tab) => {
                let errand = Errand::TellTab { session, tab, message };
                let cost = errand.cost();
                let mailbox = control.home(session).ok_or(SendError::Closed)?;
                mailbox.push(Mail::Word(Word::People(errand)), cost)
            }
        }
    }

    /// Sends a user, a browser or a tab away. The page reads the text of the refusal, and tries
    /// again when it says so. Sockets close with 1006 after an `error` event. Answers of the judge
    /// that name the user and were given or asked for before count no more. A user or a tab that is
    /// not there is not told. The hub of the browser keeps a tab away; a page that is loaded again
    /// is another tab.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the server is gone, or the shard of the browser.
    pub fn disconnect(&self, target: Target<'_>, refusal: &Refusal) -> Result<(), SendError> {
        let control = self.control.upgrade().ok_or(SendError::Closed)?;
        let (code, retry) = (RefusedReason::Ended, refusal.retry());
        let farewell = Farewell { code, retry, message: refusal.message().into() };
        let (session, errand) = match target {
            Target::User(user) => {
                control.desk.forget_user(user);
                let (user, farewell) = (Arc::<str>::from(user), Arc::new(farewell));
                control.run(|| Errand::EndUser {
                    user: Arc::clone(&user),
                    farewell: Arc::clone(&farewell),
                });
                return Ok(());
            }
            Target::Browser(session) => (session, Errand::EndBrowser { session, farewell }),
            Target::Tab(session, tab) => (session, Errand::EndTab { session, tab, farewell }),
        };
        let mailbox = control.home(session).ok_or(SendError::Closed)?;
        mailbox.push(Mail::Word(Word::People(errand)), 0)
    }

    /// Asks again what a user may do: the user's browsers dial anew within half a second, and the
    /// judge sees their requests as they are then. Who comes back as the same user goes on with the
    /// same session, and loses nothing. Answers of the judge that name the user and were given or
    /// asked for before count no more.
    ///
    /// ```
    /// use tabmux_server::{SendError, ServerHandle};
    ///
    /// /// The session of one browser has ended in the database. The judge refuses that browser,
    /// /// and lets the user's other browsers go on.
    /// fn logged_out(server: &ServerHandle, user: &str) -> Result<(), SendError> {
    ///     server.recheck(user)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`] when the server is gone.
    pub fn recheck(&self, user: &str) -> Result<(), SendError> {
        let control = self.control.upgrade().ok_or(SendError::Closed)?;
        control.desk.forget_user(user);
        let user = Arc::<str>::from(user);
        control.run(|| Errand::Recheck { user: Arc::clone(&user), spread: SPREAD });
        Ok(())
    }

    /// Returns the sessions of all browsers, those that wait for a link included, in no order. On a
    /// server with many it takes time and memory. A shard that failed has none.
    pub async fn sessions(&self) -> Vec<SessionInfo> {
        self.list(None).await
    }

    /// Returns the sessions of a user's browsers.
    pub async fn sessions_of(&self, user: &str) -> Vec<SessionInfo> {
        self.list(Some(user.into())).await
    }

    /// Returns the names of the users who have a session, sorted.
    pub async fn users(&self) -> Vec<String> {
        let sessions = self.sessions().await;
        let users = sessions.iter().filter_map(|info| Some(info.user.as_ref()?.name().to_owned()));
        let mut users = users.collect::<Vec<_>>();
        users.sort_unstable();
        users.dedup();
        users
    }

    async fn list(&self, user: Option<Arc<str>>) -> Vec<SessionInfo> {
        let mut answers = Vec::new();
        if let Some(control) = self.control.upgrade() {
            for mailbox in &*control.mailboxes {
                let (answer, answered) = oneshot::channel();
                let errand = Errand::List { user: user.clone(), answer };
                if mailbox.push(Mail::Word(Word::People(errand)), 0).is_ok() {
                    answers.push(answered);
                }
            }
        }
        let mut sessions = Vec::new();
        for answered in answers {
            sessions.extend(answered.await.unwrap_or_default());
        }
        sessions
    }

    /// Takes what can change while the server runs out of a configuration: all of it, or nothing if
    /// a part has no meaning. That is `allow_origins`, `hosts`, `trusted_proxies`, `api_key`,
    /// `api_keys`, `tls`, `topics` and `unknown_topics` (browsers that may not have a topic any
    /// more lose it; `slow` is for topics that a shard joins from now on), and of `limits` `links`,
    /// `links_per_ip`, `links_per_user`, `handshakes_per_s`, `handshakes`, `http_connections` and
    /// `http_per_ip`. Everything else stays as it is until the server starts again, and a warning
    /// in the log names it. Lower limits end nobody.
    ///
    /// ```
    /// use tabmux_server::{Config, Error, ServerHandle};
    ///
    /// fn let_more_in(server: &ServerHandle, config: &mut Config) -> Result<(), Error> {
    ///     config.limits.links_per_user *= 2;
    ///     server.reload(config)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] when a setting has no meaning; [`Error::Gone`] when the server is gone.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        self.control.upgrade().ok_or(Error::Gone)?.reload(config)
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    /// Tells when links, tabs, parked tabs or sockets change. Changes that come faster than they
    /// are looked at are one change.
    pub fn watch(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// How long the server exists; `None` when it is gone.
    pub fn uptime(&self) -> Option<Duration> {
        self.control.upgrade().map(|control| control.board.uptime())
    }
}
