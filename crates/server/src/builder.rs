//! Putting a server together.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    Broker, Config, Error, Handshake, Refusal, Route, Server, SocketHandler, TopicRequest,
    TopicRule, Verdict,
    app::Files,
    assets::Scripts,
    files::Folder,
    gateway::Gateway,
    identity::{Identity, Secret},
    judge::{Hook, KeyOf},
    metrics::Counter,
    routes::{Factory, Routes},
    server::Namer,
    settings::Settings,
    topics::{Hook as TopicHook, TopicDesk},
    users::{LinkRequest, UserOf, by_header},
};

/// What a server is made of. Begin with [`Server::builder`](crate::Server::builder).
#[must_use]
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) routes: Routes,
    pub(crate) site: Option<PathBuf>,
    scripts: &'static [(&'static str, &'static [u8])],
    counters: Vec<Counter>,
    user: Option<UserOf>,
    judge: Option<Hook>,
    verdicts: Option<(Duration, KeyOf)>,
    broker: Option<Arc<dyn Broker>>,
    secrets: Vec<Secret>,
    topic_hook: Option<TopicHook>,
    fault: Option<Error>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            config: Config::default(),
            routes: Routes::default(),
            site: None,
            scripts: &[],
            counters: Vec::new(),
            user: None,
            judge: None,
            verdicts: None,
            broker: None,
            secrets: Vec::new(),
            topic_hook: None,
            fault: None,
        }
    }

    /// Maps the path of virtual sockets, such as `/chat`, to what makes their handlers.
    ///
    /// `{name}` in place of a part of the path is a parameter, as in `/room/{id}`, and `{*name}` at
    /// the end stands for all that follows. [`Params`](crate::Params) has what they stand for. A
    /// path without a parameter comes before one with it.
    ///
    /// ```
    /// use tabmux_server::{Ctx, Decision, Message, OpenRequest, Server, SocketHandler};
    ///
    /// struct Room;
    ///
    /// impl SocketHandler for Room {
    ///     fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
    ///         match request.params().get("id").map(str::parse::<u32>) {
    ///             Some(Ok(_)) => Decision::accept(),
    ///             _ => Decision::reject("a room has a number"),
    ///         }
    ///     }
    ///
    ///     fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
    ///         let id = ctx.params().get("id").unwrap_or_default().to_owned();
    ///         let _ = ctx.send_text(&id);
    ///     }
    /// }
    ///
    /// struct Lost;
    ///
    /// impl SocketHandler for Lost {
    ///     fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
    ///         ctx.close(4004, "there is nothing here");
    ///     }
    /// }
    ///
    /// let server = Server::builder().socket("/room/{id}", || Room).fallback(|| Lost).build()?;
    /// # Ok::<(), tabmux_server::Error>(())
    /// ```
    pub fn socket<H: SocketHandler>(
        mut self,
        path: &str,
        factory: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        let factory: Factory = Box::new(move || Box::new(factory()));
        let added = self.routes.add(path, factory);
        self.fault = self.fault.or(added.err());
        self
    }

    /// Maps all paths that no other handler serves.
    pub fn fallback<H: SocketHandler>(
        mut self,
        factory: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        let factory: Factory = Box::new(move || Box::new(factory()));
        let added = self.routes.set_fallback(factory);
        self.fault = self.fault.or(added.err());
        self
    }

    /// Has another server serve the virtual sockets below a prefix: each is a WebSocket there.
    ///
    /// ```
    /// use tabmux_server::Server;
    ///
    /// let server = Server::builder().gateway("/chat/", "ws://127.0.0.1:9000").build()?;
    /// # Ok::<(), tabmux_server::Error>(())
    /// ```
    pub fn gateway(self, prefix: impl Into<String>, upstream: impl Into<String>) -> Self {
        self.route(Route::new(prefix, upstream))
    }

    /// Adds a route to another server, with its settings.
    pub fn route(mut self, route: Route) -> Self {
        self.config.route.push(route);
        self
    }

    /// Replaces the whole configuration. Call it before the methods that change a part.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Serves the scripts and modules of this folder, which is the `dist` of the npm package:
    /// `client.js`, `tiers.js`, `worker.js`, and those whose names hold the build, such as
    /// `mux.BUILD.wasm`. Compressed copies beside them (`.br`, `.gz`) go to browsers that take
    /// them. In the place of [`scripts`](Self::scripts).
    pub fn assets(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.assets = Some(folder.into());
        self
    }

    /// Serves scripts and modules that are a part of the program: pairs of name and content, such
    /// as `("client.js", include_bytes!("client.js"))`. Give all files that
    /// [`assets`](Self::assets) would find in its folder: without the module `mux.BUILD.wasm` no
    /// page gets a link. Without both, the server serves none.
    pub fn scripts(mut self, scripts: &'static [(&'static str, &'static [u8])]) -> Self {
        self.scripts = scripts;
        self
    }

    /// Adds a number of yours to `/metrics`. `read` is called for each answer.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use tabmux_server::Server;
    ///
    /// static ORDERS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let read = || ORDERS.load(Ordering::Relaxed);
    /// let server = Server::builder().counter("shop_orders_total", "Orders.", read).build()?;
    /// # Ok::<(), tabmux_server::Error>(())
    /// ```
    pub fn counter(
        mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.counters.push(Counter { name, help, read: Box::new(read) });
        self
    }

    /// An origin that may open links besides the server's own, such as `https://example.org`;
    /// `*` allows every site to use this server in its visitors' name.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.config.allow_origins.push(origin.into());
        self
    }

    /// Names the user of a link by the request that opens it, by a cookie for example: for
    /// `limits.links_per_user`, and so that no session goes on with a link of another user. Called
    /// in the listener's tasks, so it must not block. In the place of `user_header`.
    pub fn user(
        mut self,
        user: impl Fn(&LinkRequest<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.user = Some(Box::new(move |request| Ok(user(request))));
        self
    }

    /// A folder of static files to serve at `/`. A file is in memory, whole and once, while it is
    /// being sent; keep large files elsewhere.
    pub fn site(mut self, folder: impl Into<PathBuf>) -> Self {
        self.site = Some(folder.into());
        self
    }

    /// Judges each request for a link, for as long as it takes. It is asked when the request is
    /// complete, its origin may open links and its address has room, and it has the last word on
    /// who the link's user is. It takes the place of [`user`](Self::user) and `user_header`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use tabmux_server::{Admitted, Refusal, Server};
    /// # async fn user_of(cookie: &str) -> Result<Option<String>, std::io::Error> { Ok(None) }
    ///
    /// let builder = Server::builder().judge(|request| async move {
    ///     let Some(cookie) = request.cookie("session") else {
    ///         return Err(Refusal::never("log in first"));
    ///     };
    ///     match user_of(cookie).await {
    ///         Ok(Some(user)) => Ok(Admitted::user(user).keep("accept-language")),
    ///         Ok(None) => Err(Refusal::never("log in again")),
    ///         Err(_) => Err(Refusal::retry_after(Duration::from_secs(5), "no database")),
    ///     }
    /// });
    /// # drop(builder);
    /// ```
    ///
    /// Work that the judge has begun on a blocking thread goes on when its question is withdrawn.
    /// Let that work hold a permit of yours, or `limits.judging` does not bound it: a crowd that
    /// comes and leaves would fill the threads. Clients of one address have an eighth of the calls
    /// at a time, so that others do not wait for them.
    ///
    /// In an axum app the request has the extensions that your layers set. A client that leaves
    /// withdraws its question: the future is dropped. At most `limits.judging` calls run at a time,
    /// and each has `judge_timeout_ms`. A client that gets no answer is told by HTTP when to try
    /// again. So is every client for a while after calls for 16 clients in a row came to nothing,
    /// because they panicked or took too long.
    pub fn judge<F>(mut self, judge: impl Fn(Handshake) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        self.judge = Some(Arc::new(move |handshake| Box::pin(judge(handshake))));
        self
    }

    /// Adds a rule for topics, behind those that there are. The first rule that fits a topic
    /// counts.
    ///
    /// ```
    /// use tabmux_server::{Access, Server, TopicRule};
    ///
    /// let builder = Server::builder()
    ///     .topic(TopicRule::new("inbox/{user}"))
    ///     .topic(TopicRule::new("orders/*").subscribe(Access::Users));
    /// # drop(builder);
    /// ```
    pub fn topic(mut self, rule: TopicRule) -> Self {
        self.config.topics.push(rule);
        self
    }

    /// Decides who may subscribe to topics whose rule says [`Access::Hook`](crate::Access::Hook).
    /// It is asked for each browser and topic, and again when the browser's link or its credentials
    /// are others and when the configuration is read again. A refusal ends a subscription that
    /// there is, and the page reads its text. At most `limits.judging` calls run at a time. A call
    /// that takes longer than 30 s, the wait for its turn included, refuses for now.
    ///
    /// ```
    /// use tabmux_server::{Access, Refusal, Server, TopicRule};
    /// # async fn is_member(user: &str, topic: &str) -> bool { true }
    ///
    /// let builder = Server::builder()
    ///     .topic(TopicRule::new("team/*").subscribe(Access::Hook))
    ///     .may_subscribe(|request| async move {
    ///         match request.user() {
    ///             Some(user) if is_member(user, &request.topic).await => Ok(()),
    ///             _ => Err(Refusal::never("you are not in this team")),
    ///         }
    ///     });
    /// # drop(builder);
    /// ```
    pub fn may_subscribe<F>(
        mut self,
        hook: impl Fn(TopicRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        self.topic_hook = Some(TopicHook::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Sets the secrets that make identity tags, in the place of `identity_secret_files`: `first`
    /// makes tags, and those that `second` made still count. Each has at least 16 bytes. All nodes
    /// of a server have the same.
    pub fn identity_secrets(mut self, first: &[u8], second: Option<&[u8]>) -> Self {
        self.secrets.clear();
        for secret in [Some(first), second].into_iter().flatten() {
            match Secret::new(secret, "the builder") {
                Ok(secret) => self.secrets.push(secret),
                Err(error) => self.fault = self.fault.or(Some(error)),
            }
        }
        self
    }

    /// Judges each request by a JSON Web Token, in the place of [`judge`](Self::judge) and of the
    /// section `[jwt]` of the configuration.
    #[cfg(feature = "jwt")]
    pub fn jwt(self, jwt: crate::jwt::Jwt) -> Self {
        let jwt = Arc::new(jwt);
        self.judge(move |handshake| {
            let jwt = Arc::clone(&jwt);
            async move { jwt.judge(&handshake).await }
        })
    }

    /// Takes the judge that the configuration names, if the program names none.
    #[cfg(feature = "jwt")]
    fn with_tokens(self) -> Result<Self, Error> {
        match (&self.judge, &self.config.jwt) {
            (None, Some(_)) if self.config.user_header.is_some() => Err(Error::Config(
                "user_header and [jwt] both name users: remove one of them".to_owned(),
            )),
            (None, Some(config)) => {
                let jwt = crate::jwt::Jwt::new(config)?;
                Ok(self.jwt(jwt))
            }
            (Some(_), _) | (None, None) => Ok(self),
        }
    }

    #[cfg(not(feature = "jwt"))]
    fn with_tokens(self) -> Result<Self, Error> {
        match (&self.judge, &self.config.jwt) {
            (None, Some(_)) => {
                Err(Error::Config("jwt: this program was built without the feature jwt".to_owned()))
            }
            (Some(_), _) | (None, None) => Ok(self),
        }
    }

    /// Has a broker of yours number publications and bring them here, in place of one in memory,
    /// which is for a server that has one node.
    ///
    /// ```
    /// use std::{collections::HashMap, sync::{Arc, Mutex}};
    /// use tabmux_server::{Broker, BrokerFuture, Delivery, Feed, Message, Position, Server};
    ///
    /// /// Numbers the publications of each topic, and delivers them to this node.
    /// #[derive(Default)]
    /// struct Numbering(Mutex<State>);
    ///
    /// #[derive(Default)]
    /// struct State {
    ///     feed: Option<Feed>,
    ///     offsets: HashMap<String, u64>,
    /// }
    ///
    /// /// A real broker draws it when it starts. Browsers that know another one hear of a gap.
    /// const EPOCH: u64 = 1;
    ///
    /// impl Broker for Numbering {
    ///     fn start(&self, feed: Feed) {
    ///         self.0.lock().unwrap().feed = Some(feed);
    ///     }
    ///
    ///     fn join(&self, topic: &Arc<str>) -> BrokerFuture<Position> {
    ///         let offset = self.0.lock().unwrap().offsets.get(&**topic).copied().unwrap_or(0);
    ///         Box::pin(async move { Ok(Position { epoch: EPOCH, offset }) })
    ///     }
    ///
    ///     fn leave(&self, _: &str) {}
    ///
    ///     fn publish(&self, topic: &str, message: Message<'_>) -> BrokerFuture<Position> {
    ///         // Under one lock, so that deliveries come in the order of their numbers.
    ///         let mut state = self.0.lock().unwrap();
    ///         let offset = state.offsets.entry(topic.to_owned()).or_insert(0);
    ///         let previous = Position { epoch: EPOCH, offset: *offset };
    ///         *offset += 1;
    ///         let position = Position { epoch: EPOCH, offset: *offset };
    ///         if let Some(feed) = &state.feed {
    ///             feed.deliver(&Delivery::new(topic, position, previous, message));
    ///         }
    ///         Box::pin(async move { Ok(position) })
    ///     }
    /// }
    ///
    /// let server = Server::builder().broker(Numbering::default()).build()?;
    /// # Ok::<(), tabmux_server::Error>(())
    /// ```
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Arc::new(broker));
        self
    }

    /// Remembers answers of the judge for `life`, for requests with the same key. A request without
    /// a key is always judged. Everything that the judge looks at must be in the key, such as the
    /// session's cookie. An answer is forgotten earlier when its user is sent away or asked about
    /// again. A refusal with a time to try again is not remembered.
    pub fn remember_verdicts(
        mut self,
        life: Duration,
        key: impl Fn(&Handshake) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.verdicts = Some((life, Box::new(key)));
        self
    }

    /// Returns what a server without a network is made of.
    ///
    /// # Errors
    /// When a setting has no meaning.
    pub(crate) fn into_parts(self) -> Result<(Config, Settings, Routes, Arc<TopicDesk>), Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.config.check()?;
        let settings = Settings::new(&self.config)?;
        let secret = Secret::all(&self.secrets, &self.config)?.into_iter().next();
        let topics = TopicDesk::new(&self.config, secret, self.topic_hook)?;
        Ok((self.config, settings, self.routes, topics))
    }

    /// The server.
    ///
    /// # Errors
    /// When a setting has no meaning; the text names it. When the system gives no epoll.
    pub fn build(mut self) -> Result<Server, Error> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let this = self.with_tokens()?;
        this.build_judged()
    }

    fn build_judged(mut self) -> Result<Server, Error> {
        self.config.check()?;
        let gateway = Gateway::new(&self.config)?;
        self.routes.set_gateway(gateway.table());
        if let Some(folder) = self.site.as_deref().filter(|folder| !folder.is_dir()) {
            let folder = folder.display();
            return Err(Error::Config(format!("there is no folder {folder} to serve at /")));
        }
        let scripts = match self.config.assets.clone() {
            Some(folder) => Scripts::Folder(Folder::new(folder)),
            None => Scripts::embedded(self.scripts),
        };
        let files = Files { scripts, site: self.site.map(Folder::closed), counters: self.counters };
        let settings = Settings::new(&self.config)?;
        let header = self.config.user_header.clone().map(by_header);
        let namer = match (self.judge, self.user.or(header)) {
            (Some(judge), _) => Namer::Judge(judge, self.verdicts),
            (None, Some(user)) => Namer::User(user),
            (None, None) => Namer::No,
        };
        let identity = match namer {
            Namer::No => None,
            Namer::Judge(..) | Namer::User(_) => Some(Identity::new(&self.secrets, &self.config)?),
        };
        let secret = Secret::all(&self.secrets, &self.config)?.into_iter().next();
        let topics = TopicDesk::new(&self.config, secret, self.topic_hook)?;
        let rest = (files, gateway);
        let broker = (self.broker, topics);
        Server::new(self.config, settings, self.routes, rest, (namer, identity), broker)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        debug.field("config", &self.config).field("fault", &self.fault).finish_non_exhaustive()
    }
}
