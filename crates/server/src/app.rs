//! What the listener and the HTTP handlers share, and the one way to a link.

use std::{io, net::IpAddr, sync::Arc, time::Instant};

use axum::http::request::Parts;
use tabmux_core::{session::Farewell, wire::RefusedReason};
use tokio::net::TcpStream;

use crate::{
    Config, Handshake,
    admission::{Admission, Approach, Cause, Guest, Ticket},
    assets::Scripts,
    control::Control,
    files::Folder,
    judge::{NoVerdict, Room, Verdict},
    metrics::Counter,
    shard::{Connection, Io, Shards},
    users::{LinkRequest, UserOf},
    ws::upgrade::{Offer, Refusal},
};

/// What the listener and the HTTP handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) control: Arc<Control>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) names: Names,
    pub(crate) shards: Shards,
    pub(crate) files: Files,
}

/// What is served besides links.
pub(crate) struct Files {
    pub(crate) scripts: Scripts,
    pub(crate) site: Option<Folder>,
    /// Numbers of the application.
    pub(crate) counters: Vec<Counter>,
}

/// Who names the users of links.
pub(crate) enum Names {
    /// Nobody.
    No,
    /// A function that answers at once.
    User(UserOf),
    /// The application's judge.
    Judge(Arc<Room>),
}

/// What a handshake came to.
pub(crate) struct Opening {
    /// What was read behind it.
    pub(crate) early: Vec<u8>,
    pub(crate) ticket: Ticket,
    /// Messages may be deflated.
    pub(crate) inflates: bool,
}

/// A client whose origin, address and rate are good.
pub(crate) struct Candidate {
    approach: Approach,
    client: Option<IpAddr>,
    /// The address to keep, since the stream of the link does not tell it.
    kept: Option<IpAddr>,
    user: Option<String>,
    is_proxied: bool,
}

/// A candidate that the application has to judge.
pub(crate) struct Case {
    candidate: Candidate,
    handshake: Handshake,
    room: Arc<Room>,
}

/// How far a request has come.
pub(crate) enum Step {
    /// There is no judge: the link may open.
    Admitted(Ticket),
    /// The application is asked.
    Judge(Box<Case>),
}

impl App {
    /// Judges a request: origin and host, address and rate, the application, and at last the limits
    /// of links and of its user. `parts` makes the request that the application sees; it is called
    /// only if there is a judge. Dropping the future withdraws the question.
    ///
    /// A shard that accepts by itself can call [`approach`](Self::approach), have [`Case::ask`]
    /// asked elsewhere, and call [`settle`](Self::settle).
    ///
    /// # Errors
    /// What the client is told by HTTP. What its page must understand is in the ticket.
    pub(crate) async fn judge(
        &self,
        offer: &Offer<'_>,
        peer: Option<IpAddr>,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Ticket, Refusal> {
        match self.approach(offer, peer, true, parts)? {
            Step::Admitted(ticket) => Ok(ticket),
            Step::Judge(case) => {
                let verdict = case.ask().await;
                self.settle(*case, verdict)
            }
        }
    }

    /// Does what needs no waiting. `is_hidden` says that the stream of the link may not tell the
    /// client's address.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) fn approach(
        &self,
        offer: &Offer<'_>,
        peer: Option<IpAddr>,
        is_hidden: bool,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Step, Refusal> {
        let settings = self.control.desk.settings();
        let checked = settings.origins.check(offer);
        checked.inspect_err(|_| self.admission.count(Cause::Origin, peer))?;
        let proxies = &settings.proxies;
        let client = peer.map(|peer| proxies.client(peer, offer.forwarded.iter().copied()));
        let is_proxied = peer.is_some_and(|peer| proxies.trusts(peer.to_canonical()));
        let user = match &self.names {
            Names::No | Names::Judge(_) => None,
            Names::User(user_of) => {
                let headers = &offer.headers;
                let user = user_of(&LinkRequest { headers, client, proxied: is_proxied });
                user.inspect_err(|_| self.admission.count(Cause::UserHeader, client))?
            }
        };
        let approach = self.admission.approach(Instant::now(), client)?;
        let is_told = !is_hidden && peer.map(|peer| peer.to_canonical()) == client;
        let kept = client.filter(|_| !is_told);
        let candidate = Candidate { approach, client, kept, user, is_proxied };
        match &self.names {
            Names::No | Names::User(_) => Ok(Step::Admitted(self.admit(candidate, Vec::new())?)),
            Names::Judge(room) => {
                let handshake = Handshake::new(parts(), client, candidate.is_proxied);
                Ok(Step::Judge(Box::new(Case { candidate, handshake, room: Arc::clone(room) })))
            }
        }
    }

    /// Carries out what the application said of a case.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) fn settle(
        &self,
        case: Case,
        verdict: Result<Verdict, NoVerdict>,
    ) -> Result<Ticket, Refusal> {
        let Case { mut candidate, handshake, .. } = case;
        match verdict {
            Ok(Ok(admitted)) => {
                candidate.user = admitted.name().map(str::to_owned);
                self.admit(candidate, admitted.headers(&handshake.parts))
            }
            Ok(Err(refusal)) => {
                let Candidate { approach, client, .. } = candidate;
                let (code, retry) = (RefusedReason::Denied, refusal.retry());
                let farewell = Farewell { code, retry, message: refusal.message().into() };
                self.admission.admit_refused(approach, client, farewell)
            }
            Err(trouble) => {
                let cause = match trouble {
                    NoVerdict::Full => Cause::Judging,
                    NoVerdict::Overdue => Cause::JudgeTimeout,
                    NoVerdict::Failed => Cause::JudgeFailed,
                };
                Err(self.admission.refuse(cause, candidate.client))
            }
        }
    }

    fn admit(
        &self,
        candidate: Candidate,
        headers: Vec<(Box<str>, Box<[u8]>)>,
    ) -> Result<Ticket, Refusal> {
        let Candidate { approach, client, kept, user, .. } = candidate;
        let guest = Guest { user: user.as_deref(), address: kept, headers };
        self.admission.admit(approach, client, guest)
    }

    /// Returns where clients wait for the application, if it has a judge.
    pub(crate) fn room(&self) -> Option<&Room> {
        match &self.names {
            Names::Judge(room) => Some(room),
            Names::No | Names::User(_) => None,
        }
    }

    /// Gives a stream whose handshake is done to a shard.
    ///
    /// # Errors
    /// When the stream cannot be taken out of the runtime.
    pub(crate) fn place(&self, stream: TcpStream, opening: Opening) -> io::Result<()> {
        let Opening { early, ticket, inflates } = opening;
        let io = Io::Tcp(stream.into_std()?);
        self.shards.place(Connection { io, ticket: Some(ticket), inflates }, early);
        Ok(())
    }
}

impl Case {
    /// Asks the application. Dropping the future withdraws the question.
    pub(crate) async fn ask(&self) -> Result<Verdict, NoVerdict> {
        self.room.ask(&self.handshake).await
    }
}
