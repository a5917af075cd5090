//! Which handler serves a path.

use std::fmt;

use matchit::{InsertError, Router};

use crate::{Error, SocketHandler, gateway::RouteTable};

/// Makes the handler of a new socket.
pub(crate) type Factory = Box<dyn Fn() -> Box<dyn SocketHandler> + Send + Sync>;

/// The handlers of a server, by path.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Factory>,
    /// What another server serves.
    gateway: RouteTable,
    fallback: Option<Factory>,
}

/// The parameters of a path, such as `id` of `/room/{id}`.
#[derive(Clone, Default)]
pub struct Params<'a>(Vec<(&'a str, &'a str)>);

impl Routes {
    /// Adds a route.
    ///
    /// # Errors
    /// When the path is none, or leads where another route leads.
    pub(crate) fn add(&mut self, path: &str, factory: Factory) -> Result<(), Error> {
        let fault = |text: String| Err(Error::Config(text));
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return fault(format!("the path {path:?} must begin with / and have no ? or #"));
        }
        // Other routers, and axum before 0.8, write parameters so. Here it would be a path that no
        // page asks for.
        if let Some(part) = path.split('/').find(|part| part.starts_with([':', '*'])) {
            let name = &part[1..];
            return fault(format!(
                "the path {path:?} cannot be a route: write {{{name}}} for one part of the path, \
                 and {{*{name}}} for all that follows, in the place of {part}"
            ));
        }
        match self.router.insert(path, factory) {
            Ok(()) => Ok(()),
            Err(InsertError::Conflict { with }) if with == path => {
                fault(format!("the path {path} has two handlers"))
            }
            Err(InsertError::Conflict { with }) => fault(format!(
                "the paths {path} and {with} have two handlers for the same sockets; change one"
            )),
            Err(error) => fault(format!(
                "the path {path:?} cannot be a route: {error}; a parameter is a whole part of the \
                 path, as in /room/{{id}}, and {{*rest}} may stand at the end"
            )),
        }
    }

    /// Sets what serves the paths that no route leads to.
    ///
    /// # Errors
    /// When there is a fallback already.
    pub(crate) fn set_fallback(&mut self, factory: Factory) -> Result<(), Error> {
        if self.fallback.is_some() {
            return Err(Error::Config("the server has two fallbacks; leave one out".to_owned()));
        }
        self.fallback = Some(factory);
        Ok(())
    }

    /// Sets what other servers serve. Handlers of this one come first.
    pub(crate) fn set_gateway(&mut self, gateway: RouteTable) {
        self.gateway = gateway;
    }

    /// Returns what makes the handler of a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Factory> {
        match self.router.at(path) {
            Ok(found) => Some(found.value),
            Err(_) => self.gateway.find(path).or(self.fallback.as_ref()),
        }
    }

    /// Returns the parameters of a path. A path that only the fallback serves has none.
    pub(crate) fn params<'a>(&'a self, path: &'a str) -> Params<'a> {
        let found = self.router.at(path).ok();
        Params(found.map(|found| found.params.iter().collect()).unwrap_or_default())
    }
}

impl<'a> Params<'a> {
    /// Returns the parameter of this name, as it stands in the path: percent-encoding is not
    /// decoded.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Returns all parameters, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().copied()).finish()
    }
}
