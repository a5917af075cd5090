//! What the listener and the HTTP handlers share, and the one way to a link.

use std::{io, net::IpAddr, sync::Arc, time::Instant};

use axum::http::request::Parts;
use tabmux_core::{
    session::Farewell,
    wire::{IdentityTag, RefusedReason},
};
use tokio::sync::Semaphore;

use crate::{
    Admitted, Config, Handshake,
    admission::{Admission, Approach, Cause, Guest, Ticket},
    api,
    assets::Scripts,
    control::Control,
    files::Folder,
    gateway::Gateway,
    hosts::Door,
    identity,
    incoming::Incoming,
    judge::{Answer, NoVerdict, Room},
    logs::rarely,
    metrics::Counter,
    shard::{Connection, Shards},
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
    pub(crate) api: api::Counts,
    pub(crate) gateway: Gateway,
    /// Clients that are told whose their browser is, at one time.
    pub(crate) answering: Arc<Semaphore>,
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

/// Headers that are kept of a request, with their names in lower case.
pub(crate) type Headers = Vec<(Box<str>, Box<[u8]>)>;

/// The way by which a request came.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// Who is at the other end, or who a trusted proxy there says that it speaks for.
    pub(crate) peer: Option<IpAddr>,
    /// The stream of a link may not tell the peer's address.
    pub(crate) is_hidden: bool,
    /// It is TLS of this server.
    pub(crate) is_encrypted: bool,
}

/// What is known of a request that opens no link.
pub(crate) struct Glimpse {
    pub(crate) whose: Whose,
    /// The client's address.
    pub(crate) address: Option<IpAddr>,
    /// What the request tells other servers.
    pub(crate) headers: Headers,
}

/// Whose a browser is, by a request of it.
pub(crate) enum Whose {
    /// This user's, or nobody's.
    User(Option<String>),
    /// Credentials tell it, and the request has none.
    Undecided,
    /// The browser may have no link.
    Refused,
}

/// A client whose origin, address and rate are good.
pub(crate) struct Candidate {
    approach: Approach,
    client: Option<IpAddr>,
    /// The address to keep, since the stream of the link does not tell it.
    kept: Option<IpAddr>,
    user: Option<String>,
    /// The identity tag that its hub shows.
    shown: Option<Box<str>>,
    is_proxied: bool,
    /// What the request tells other servers.
    passed_on: Headers,
}

/// A candidate that the application has to judge.
pub(crate) struct Case {
    candidate: Candidate,
    handshake: Handshake,
    room: Arc<Room>,
}

/// What became of a case.
pub(crate) enum Settled {
    /// The link may open.
    Admitted(Ticket),
    /// The user was ended since the application was asked: it is to be asked again.
    Outdated(Box<Case>),
}

/// What is known of a request before the application is asked.
enum Known {
    /// Everything: there is no judge.
    Whole(Candidate),
    /// The application has to judge it.
    Case(Box<Case>),
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
    /// asked elsewhere, and call [`settle`](Self::settle), or leave both to
    /// [`decide`](Self::decide).
    ///
    /// # Errors
    /// What the client is told by HTTP. What its page must understand is in the ticket.
    pub(crate) async fn judge(
        &self,
        offer: &Offer<'_>,
        way: Way,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Ticket, Refusal> {
        match self.approach(offer, way, parts)? {
            Step::Admitted(ticket) => Ok(ticket),
            Step::Judge(case) => self.decide(case).await,
        }
    }

    /// Has the application judge a case, and carries out what it says. Dropping the future
    /// withdraws the question.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) async fn decide(&self, mut case: Box<Case>) -> Result<Ticket, Refusal> {
        loop {
            let answer = case.ask().await;
            match self.settle(*case, answer)? {
                Settled::Admitted(ticket) => return Ok(ticket),
                Settled::Outdated(again) => case = again,
            }
        }
    }

    /// Does what needs no waiting.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) fn approach(
        &self,
        offer: &Offer<'_>,
        way: Way,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Step, Refusal> {
        match self.look(offer, way, parts)? {
            Known::Whole(candidate) => Ok(Step::Admitted(self.admit(candidate)?)),
            Known::Case(case) => Ok(Step::Judge(case)),
        }
    }

    /// Checks by which name a request calls the server.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) fn check_host(
        &self,
        host: Option<&[u8]>,
        door: Door,
        client: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        if self.control.desk.settings().hosts.allow(host, door) {
            return Ok(());
        }
        self.admission.count(Cause::Host, client);
        let host = String::from_utf8_lossy(host.unwrap_or_default()).into_owned();
        let text = format!(
            "{host} is no name of this server; if it is, put it into hosts of the configuration"
        );
        // A wrong setting looks like this, but any page on the web can cause it.
        rarely!(warn, "a request is refused: {text}");
        Err(Refusal::new(421, &text))
    }

    /// Returns the number of an address whose connections for HTTP are counted.
    pub(crate) fn http_client(&self, peer: IpAddr) -> Option<u32> {
        let is_proxy = self.control.desk.settings().proxies.trusts(peer.to_canonical());
        self.admission.tickets().peer(peer).filter(|_| !is_proxy)
    }

    /// Looks at origin, address and rate, and at the user where no judge names it.
    fn look(
        &self,
        offer: &Offer<'_>,
        Way { peer, is_hidden, is_encrypted }: Way,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Known, Refusal> {
        let settings = self.control.desk.settings();
        let checked = settings.origins.check(offer);
        checked.inspect_err(|_| self.admission.count(Cause::Origin, peer))?;
        let proxies = &settings.proxies;
        let client = peer.map(|peer| proxies.client(peer, offer.forwarded.iter().copied()));
        let is_proxied = peer.is_some_and(|peer| proxies.trusts(peer.to_canonical()));
        let headers = &offer.headers;
        let request = LinkRequest { headers, client, proxied: is_proxied, is_encrypted };
        let user = match &self.names {
            Names::No | Names::Judge(_) => None,
            Names::User(user_of) => {
                let user = user_of(&request);
                user.inspect_err(|_| self.admission.count(Cause::UserHeader, client))?
            }
        };
        let approach = self.admission.approach(Instant::now(), client)?;
        let is_told = !is_hidden && peer.map(|peer| peer.to_canonical()) == client;
        let kept = client.filter(|_| !is_told);
        let shown = identity::shown(offer.target).map(Box::from);
        let passed_on = self.gateway.keep(&request);
        let candidate = Candidate { approach, client, kept, user, shown, is_proxied, passed_on };
        Ok(match &self.names {
            Names::No | Names::User(_) => Known::Whole(candidate),
            Names::Judge(room) => {
                let handshake = Handshake::new(parts(), client, candidate.is_proxied);
                Known::Case(Box::new(Case { candidate, handshake, room: Arc::clone(room) }))
            }
        })
    }

    /// Tells whose the browser is that sent a request, or why it may have no link. The request
    /// takes a place in the limits of its address and of the second, and no place of a link.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) async fn identify(
        &self,
        offer: &Offer<'_>,
        way: Way,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Result<IdentityTag, crate::Refusal>, Refusal> {
        let (user, shown) = match self.look(offer, way, parts)? {
            Known::Whole(Candidate { user, shown, .. }) => (user, shown),
            Known::Case(case) => {
                let client = case.candidate.client;
                let answer = case.ask().await.map_err(|trouble| self.unjudged(trouble, client))?;
                let answer = match &answer.verdict {
                    Ok(admitted) if admitted.is_undecided() => {
                        let bare = case.handshake.clone().with_credentials("");
                        let answer = case.room.ask(&bare).await;
                        answer.map_err(|trouble| self.unjudged(trouble, client))?
                    }
                    Ok(_) | Err(_) => answer,
                };
                let is_outdated = match &answer.verdict {
                    Ok(admitted) => {
                        admitted.name().is_some_and(|name| answer.asking.is_outdated(name))
                    }
                    Err(_) => false,
                };
                // The user was ended meanwhile: the answer is one of before.
                let answer = if is_outdated {
                    case.ask().await.map_err(|trouble| self.unjudged(trouble, client))?
                } else {
                    answer
                };
                let verdict = answer.verdict.and_then(Admitted::decided);
                match verdict.and_then(Admitted::unexpired) {
                    Ok(admitted) => (admitted.name().map(str::to_owned), case.candidate.shown),
                    Err(refusal) => {
                        self.admission.count(Cause::Judged, client);
                        return Ok(Err(refusal));
                    }
                }
            }
        };
        Ok(Ok(match (&self.names, self.tag(user.as_deref(), shown.as_deref())) {
            (Names::No, _) => IdentityTag::NoUsers,
            (Names::User(_) | Names::Judge(_), None) => IdentityTag::Nobody,
            (Names::User(_) | Names::Judge(_), Some(tag)) => IdentityTag::User(tag),
        }))
    }

    /// Looks at a request that opens no link, as it looks at one that does. The request takes a
    /// place in the limits of its address and of the second, and no place of a link.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) async fn glimpse(
        &self,
        offer: &Offer<'_>,
        way: Way,
        parts: impl FnOnce() -> Parts,
    ) -> Result<Glimpse, Refusal> {
        let known = self.look(offer, way, parts)?;
        let (whose, address, is_proxied) = match known {
            Known::Whole(Candidate { user, client, is_proxied, .. }) => {
                (Whose::User(user), client, is_proxied)
            }
            Known::Case(case) => {
                let Candidate { client, is_proxied, .. } = case.candidate;
                let answer = case.ask().await.map_err(|trouble| self.unjudged(trouble, client))?;
                let whose = match answer.verdict {
                    Ok(admitted) if admitted.is_undecided() => Whose::Undecided,
                    Ok(admitted) => Whose::User(admitted.name().map(str::to_owned)),
                    Err(_) => {
                        self.admission.count(Cause::Judged, client);
                        Whose::Refused
                    }
                };
                (whose, client, is_proxied)
            }
        };
        let (headers, is_encrypted) = (&offer.headers, way.is_encrypted);
        let request = LinkRequest { headers, client: address, proxied: is_proxied, is_encrypted };
        Ok(Glimpse { whose, address, headers: self.gateway.look(&request) })
    }

    /// Carries out what the application said of a case.
    ///
    /// # Errors
    /// What the client is told by HTTP.
    pub(crate) fn settle(
        &self,
        case: Case,
        answer: Result<Answer, NoVerdict>,
    ) -> Result<Settled, Refusal> {
        let Case { candidate, handshake, room } = case;
        let Candidate { approach, client, kept, user: _, shown, is_proxied, passed_on } = candidate;
        let answer = answer.map_err(|trouble| self.unjudged(trouble, client));
        let Answer { verdict, asking } = answer?;
        let admitted = match verdict.and_then(Admitted::unexpired) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let retry = refusal.retry();
                // To a hub that claims a session, `Denied` with a time means that the claim is
                // wrong, and it gives the session up. Who is to come back later goes on with it.
                let code = retry.map_or(RefusedReason::Denied, |_| RefusedReason::Limit);
                let farewell = Farewell { code, retry, message: refusal.message().into() };
                let ticket = self.admission.admit_refused(approach, client, farewell)?;
                return Ok(Settled::Admitted(ticket));
            }
        };
        let mut headers = admitted.headers(&handshake.parts);
        let is_new = |(name, _): &&(Box<str>, _)| !admitted.keeps(name);
        headers.extend(passed_on.iter().filter(is_new).cloned());
        let tag = self.tag(admitted.name(), shown.as_deref());
        let until = admitted.lives().map(|lives| self.shards.board().now() + lives);
        let is_undecided = admitted.is_undecided();
        let user = admitted.name();
        let granted = admitted.granted();
        let guest = Guest { user, tag, until, address: kept, headers, granted, is_undecided };
        Ok(match self.admission.admit_judged(approach, client, guest, &asking)? {
            Ok(ticket) => Settled::Admitted(ticket.with(handshake)),
            Err(approach) => {
                let user = None;
                let candidate =
                    Candidate { approach, client, kept, user, shown, is_proxied, passed_on };
                Settled::Outdated(Box::new(Case { candidate, handshake, room }))
            }
        })
    }

    fn admit(&self, candidate: Candidate) -> Result<Ticket, Refusal> {
        let Candidate { approach, client, kept, user, shown, is_proxied: _, passed_on } = candidate;
        let (user, headers) = (user.as_deref(), passed_on);
        let tag = self.tag(user, shown.as_deref());
        let (until, address, is_undecided) = (None, kept, false);
        let granted = Box::default();
        let guest = Guest { user, tag, until, address, headers, granted, is_undecided };
        self.admission.admit(approach, client, guest)
    }

    /// Refuses a client that the judge gave no answer about.
    fn unjudged(&self, trouble: NoVerdict, client: Option<IpAddr>) -> Refusal {
        self.admission.refuse(trouble.cause(), client)
    }

    /// Returns the identity tag of a user, for a hub that shows the one that it knows.
    fn tag(&self, user: Option<&str>, shown: Option<&str>) -> Option<Box<str>> {
        let identity = self.control.desk.identity.as_ref()?;
        Some(identity.tag_for(user?, shown))
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
    pub(crate) fn place(&self, stream: Incoming, opening: Opening) -> io::Result<()> {
        let Opening { early, ticket, inflates } = opening;
        let io = stream.into_io()?;
        self.shards.place(Connection { io, ticket: Some(ticket), inflates }, early);
        Ok(())
    }
}

impl Case {
    /// Asks the application. Dropping the future withdraws the question.
    pub(crate) async fn ask(&self) -> Result<Answer, NoVerdict> {
        self.room.ask(&self.handshake).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
    };

    use axum::http;

    use super::*;
    use crate::{Admitted, Server, Target, ws::upgrade};

    /// A server whose judge lets everybody in as Ann, and how often it was asked.
    fn server(remembers: bool) -> (Server, Arc<AtomicUsize>) {
        let asked = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&asked);
        let mut builder = Server::builder().judge(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(Admitted::user("ann")) }
        });
        if remembers {
            let life = std::time::Duration::from_secs(60);
            builder = builder.remember_verdicts(life, |_| Some("all".to_owned()));
        }
        (builder.build().unwrap(), asked)
    }

    fn case(app: &App) -> Box<Case> {
        let head = b"GET /tabmux/ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\
            connection: upgrade\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        let Some(Ok((offer, _))) = upgrade::parse(head, 0) else { panic!("no offer") };
        let parts = || http::Request::new(()).into_parts().0;
        let way = Way { peer: None, is_hidden: false, is_encrypted: false };
        match app.approach(&offer, way, parts) {
            Ok(Step::Judge(case)) => case,
            Ok(Step::Admitted(_)) => panic!("nobody was asked"),
            Err(refusal) => panic!("{}", refusal.text),
        }
    }

    fn end_ann(server: &Server) {
        let refusal = crate::Refusal::never("logged out");
        server.handle().disconnect(Target::User("ann"), &refusal).unwrap();
    }

    #[tokio::test]
    async fn an_answer_counts_no_more_when_its_user_is_ended_before_the_link_has_its_place() {
        for remembers in [false, true] {
            let (server, asked) = server(remembers);
            let app = &*server.app;
            if remembers {
                drop(app.decide(case(app)).await);
            }
            let case = case(app);
            let answer = case.ask().await;
            end_ann(&server);
            let asked_before = asked.load(Ordering::Relaxed);
            let Ok(Settled::Outdated(case)) = app.settle(*case, answer) else {
                panic!("an outdated answer let a link in")
            };
            assert!(app.decide(case).await.is_ok());
            assert_eq!(asked.load(Ordering::Relaxed), asked_before + 1);
        }
    }

    #[tokio::test]
    async fn an_answer_to_a_question_of_before_the_end_is_not_remembered() {
        let (server, asked) = server(true);
        let app = &*server.app;
        let case_of_before = case(app);
        let asks = case_of_before.ask();
        tokio::pin!(asks);
        // Polled once: the judge's task has begun, and has not run.
        let begins = std::future::poll_fn(|context| Poll::Ready(asks.as_mut().poll(context)));
        assert!(begins.await.is_pending());
        end_ann(&server);
        drop(asks.await);
        drop(app.decide(case(app)).await);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
