//! Rooms in which people write notes: an axum app with log-in by cookie, a database, and tabmux.
//!
//! - `POST /login` makes a session and sets a cookie. The judge of tabmux reads it, so handlers
//!   know who writes.
//! - The virtual socket `/room/{id}` sends the notes of a room and takes new ones (`room`).
//! - A note is stored first, and then published to the topic `room:{id}`, which all browsers in
//!   the room hear.
//! - At the end links are sent away before axum stops ([`serve`]).

#![forbid(unsafe_code)]

mod database;
mod room;
mod web;

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use tabmux_server::{Admitted, Config, Handshake, Refusal, Server, Verdict, task_opening};
use tokio::{net::TcpListener, sync::oneshot};

pub use self::database::Database;

/// The cookie that names the session of a log-in.
const COOKIE: &str = "rooms-session";

/// Serves the app until `shutdown` is done. Then the links leave, for one second at most, and the
/// requests that are under way end.
///
/// # Errors
/// When the server cannot be built, or the listener fails.
pub async fn serve(
    listener: TcpListener,
    database: Database,
    scripts: PathBuf,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let server = tabmux(&database, scripts)?;
    let app = web::router(database, server.handle()).merge(server.router());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let (left, all_left) = oneshot::channel();
    let leave = async move {
        shutdown.await;
        // New links are refused from here on, and pages dial again elsewhere.
        server.leave().await;
        // An error means that axum has ended already.
        let _ = left.send(());
    };
    let leaving = tokio::spawn(leave);
    let stop = async {
        // An error means that the task is gone: time to stop as well.
        let _ = all_left.await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    leaving.await?;
    Ok(())
}

fn tabmux(database: &Database, scripts: PathBuf) -> Result<Server, tabmux_server::Error> {
    let (for_judge, for_rooms) = (database.clone(), database.clone());
    let config = Config { drain_ms: 1_000, ..Config::default() };
    Server::builder()
        .config(config)
        .assets(scripts)
        .judge(move |request| judge(request, for_judge.clone()))
        .socket("/room/{id}", task_opening(move |opening| room::run(opening, for_rooms.clone())))
        .build()
}

/// Lets in who has logged in.
async fn judge(request: Handshake, database: Database) -> Verdict {
    let Some(session) = request.cookie(COOKIE) else {
        return Err(Refusal::never("log in first"));
    };
    match database.user_of(session).await {
        Ok(Some(user)) => Ok(Admitted::user(user)),
        Ok(None) => Err(Refusal::never("log in again")),
        Err(_) => Err(Refusal::retry_after(Duration::from_secs(5), "the database is away")),
    }
}
