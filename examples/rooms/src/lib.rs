//! Rooms in which people write notes: an axum app with log-in by cookie, a database, and tabmux.
//!
//! - `POST /login` makes a session and sets a cookie. The judge of tabmux reads it, so handlers
//!   know who writes.
//! - The virtual socket `/room/{id}` sends the newest notes of a room and takes new ones (`room`).
//! - A note is stored first, and then published to the topic `room:{id}`, to which each page of
//!   the room is subscribed.
//! - The page (`page.html`) subscribes first and opens the socket then, so it misses no note. It
//!   shows a note that comes both ways once.
//! - Topics are not guarded: each user who has logged in may subscribe to each room.
//! - At the end links are sent away before axum stops ([`serve`]).

#![forbid(unsafe_code)]

mod database;
mod room;
mod web;

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use tabmux_server::{Admitted, Config, Handshake, Refusal, Server, Verdict, task_opening};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};

pub use self::database::Database;

/// The cookie that names the session of a log-in.
const COOKIE: &str = "rooms-session";
/// Time that requests may take to end after the links have left.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Serves the app until `shutdown` resolves. Then the server sends the links away within a second,
/// and running requests have two more seconds to end.
///
/// # Errors
/// Returns an error if the server cannot be built, or if the listener fails.
pub async fn serve(
    listener: TcpListener,
    database: Database,
    scripts: PathBuf,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let server = tabmux(&database, scripts)?;
    let app = web::router(database, server.handle()).merge(server.router());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel();
    let leave = async move {
        shutdown.await;
        // From here on new links are refused, and pages dial another server.
        server.leave().await;
        // An error means that axum has ended already.
        let _ = stop.send(());
        // A client that never ends its request must not keep the process alive.
        sleep(LAST_WAIT).await;
    };
    let stopped = async {
        // An error means that the task has ended, so that the app must stop as well.
        let _ = stopped.await;
    };
    let serving = axum::serve(listener, app).with_graceful_shutdown(stopped);
    tokio::select! {
        served = serving => served?,
        () = leave => {}
    }
    Ok(())
}

fn tabmux(database: &Database, scripts: PathBuf) -> Result<Server, tabmux_server::Error> {
    let (for_judge, for_rooms) = (database.clone(), database.clone());
    let config = Config::default().drain_ms(1_000);
    Server::builder()
        .config(config)
        .assets(scripts)
        .judge(move |request| judge(request, for_judge.clone()))
        .socket("/room/{id}", task_opening(move |opening| room::run(opening, for_rooms.clone())))
        .build()
}

/// Admits a user who has logged in.
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
