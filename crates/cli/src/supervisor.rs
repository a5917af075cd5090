//! The interface to a supervisor such as systemd: listeners that it passes, and states that it is
//! told.

use tabmux_server::{Config, Error, Listeners};
use tracing::warn;

/// Takes the listeners that a supervisor passed (`LISTEN_FDS`). Opens those of the configuration if
/// it passed none.
///
/// # Errors
/// Returns an error if a listener cannot be used.
#[cfg(unix)]
pub(crate) fn listeners(config: &Config) -> Result<Listeners, Error> {
    let mut passed = listenfd::ListenFd::from_env();
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    for index in 0..passed.len() {
        if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
            tcp.push(listener);
        } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            unix.push(listener);
        } else {
            warn!("descriptor {} of LISTEN_FDS is no listener and is ignored", index + 3);
        }
    }
    if tcp.is_empty() && unix.is_empty() {
        Listeners::open(config)
    } else {
        Listeners::passed(config, tcp, unix)
    }
}

#[cfg(not(unix))]
pub(crate) fn listeners(config: &Config) -> Result<Listeners, Error> {
    Listeners::open(config)
}

/// Tells the supervisor the state of the server, if it wants to know (`NOTIFY_SOCKET`).
#[cfg(target_os = "linux")]
pub(crate) fn tell(state: &str) {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    };

    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = || {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&path),
        }?;
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = told() {
        warn!("the supervisor cannot be told {state}: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tell(_: &str) {}
