//! Credentials of the client's user, which a function of the application returns.

use std::{fmt, pin::Pin, sync::Arc};

use tabmux_core::wire::MAX_CREDENTIALS;

/// The result of the application's function: credentials, or the reason why there are none.
pub(crate) type Told = Result<String, String>;

/// The application's function that returns credentials.
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

    /// Calls the application's function. Fails if the credentials are longer than 8,192 bytes.
    pub(crate) async fn ask(self) -> Told {
        let credentials = (self.0)().await?;
        if credentials.len() > MAX_CREDENTIALS {
            return Err(format!("credentials may have at most {MAX_CREDENTIALS} bytes"));
        }
        Ok(credentials)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}
