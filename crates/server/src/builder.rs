//! Putting a server together.

use std::path::PathBuf;

use crate::{
    Config, Error, Server, SocketHandler,
    files::Folder,
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
    user: Option<UserOf>,
    fault: Option<Error>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let (config, routes) = (Config::default(), Routes::default());
        Self { config, routes, site: None, user: None, fault: None }
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
    /// (`.br`, `.gz`) if browsers are to get those.
    pub fn assets(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.assets = folder.into();
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
        let site = self.site.map(Folder::new);
        let proxies = Proxies::new(&self.config.trusted_proxies)?;
        let header = self.config.user_header.clone().map(by_header);
        Server::new(self.config, origins, proxies, self.routes, site, self.user.or(header))
    }
}
