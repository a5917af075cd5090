//! Putting a server together.

use std::path::PathBuf;

use crate::{
    Config, Error, Server, SocketHandler,
    app::Files,
    assets::Scripts,
    files::Folder,
    metrics::Counter,
    origin::Origins,
    proxies::Proxies,
    routes::{Factory, Routes},
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
            fault: None,
        }
    }

    /// Maps the path of virtual sockets, such as `/chat`, to what makes their handlers.
    ///
    /// `{name}` in place of a part of the path is a parameter, as in `/room/{id}`, and `{*name}` at
    /// the end stands for all that follows. [`Params`](crate::Params) has what they stand for. A
    /// path without a parameter comes before one with it.
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

    /// Replaces the whole configuration. Call it before the methods that change a part.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The folder with `client.js`, `tiers.js` and `worker.js`, and with compressed copies of them
    /// (`.br`, `.gz`) if browsers are to get those. In the place of [`scripts`](Self::scripts).
    pub fn assets(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.assets = Some(folder.into());
        self
    }

    /// The scripts, where they are a part of the program: pairs of name and content, such as
    /// `("client.js", include_bytes!("client.js"))`. Names and compressed copies are those that
    /// [`assets`](Self::assets) would find in its folder. Without both, the server serves none.
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
    ///
    /// The pages need a `key` for each user all the same: pages with the same `key` share a link,
    /// which is of the user who opened it.
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

    /// The server.
    ///
    /// # Errors
    /// When a setting has no meaning; the text names it. When the system gives no epoll.
    pub fn build(self) -> Result<Server, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.config.check()?;
        let origins = Origins::new(&self.config.allow_origins)?;
        if let Some(folder) = self.site.as_deref().filter(|folder| !folder.is_dir()) {
            let folder = folder.display();
            return Err(Error::Config(format!("there is no folder {folder} to serve at /")));
        }
        let scripts = match self.config.assets.clone() {
            Some(folder) => Scripts::Folder(Folder::new(folder)),
            None => Scripts::embedded(self.scripts),
        };
        let files = Files { scripts, site: self.site.map(Folder::new), counters: self.counters };
        let proxies = Proxies::new(&self.config.trusted_proxies)?;
        let header = self.config.user_header.clone().map(by_header);
        Server::new(self.config, origins, proxies, self.routes, files, self.user.or(header))
    }
}
