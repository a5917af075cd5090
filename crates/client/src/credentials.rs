//! Who the user of a client is, as a function of the application tells it.

use std::{fmt, pin::Pin, sync::Arc};

use tabmux_core::wire::MAX_CREDENTIALS;

/// What the function of the application returns.
pub(crate) type Told = Result<String, String>;

/// The function that knows the credentials.
#[derive(Clone)]
pub(crate) struct Source(Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Told> + Send>> + Send + Sync>);

impl Source {
    pub(crate) fn new<F, E>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        Self(Arc::new(move || {
            let asked = ask();
            Box::pin(async move { asked.await.map_err(|error| error.to_string()) })
        }))
    }

    /// Asks the application.
    pub(crate) async fn ask(self) -> Told {
        let credentials = (self.0)().await?;
        if credentials.len() > MAX_CREDENTIALS {
            return Err(format!("credentials have {MAX_CREDENTIALS} bytes at most"));
        }
        Ok(credentials)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}
