//! The pages of the app, and its log-in.

use axum::{
    Form, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tabmux_server::ServerHandle;

use crate::{COOKIE, database::Database};

#[derive(Clone)]
struct App {
    database: Database,
    server: ServerHandle,
}

/// The form of a log-in. This example asks only for a name. A real application must ask for more.
#[derive(Deserialize)]
struct LogIn {
    name: String,
}

pub(crate) fn router(database: Database, server: ServerHandle) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .with_state(App { database, server })
}

/// Serves the page. The user's name is the key of what the page's tabs share, so that tabs of two
/// users of one browser share nothing.
async fn page(State(app): State<App>, headers: HeaderMap) -> Response {
    let user = match cookie(&headers) {
        Some(session) => app.database.user_of(session).await,
        None => Ok(None),
    };
    match user {
        Ok(user) => {
            let key = serde_json::Value::from(user.unwrap_or_default());
            // A name must not end the script element.
            let key = key.to_string().replace('<', r"\u003c");
            Html(include_str!("page.html").replace("'the user'", &key)).into_response()
        }
        Err(error) => away(&error),
    }
}

async fn log_in(State(app): State<App>, Form(LogIn { name }): Form<LogIn>) -> Response {
    if name.is_empty() || name.len() > 40 {
        return (StatusCode::BAD_REQUEST, "a name has 1 to 40 bytes\n").into_response();
    }
    match app.database.log_in(name).await {
        Ok(session) => set_cookie(&session, 86_400),
        Err(error) => away(&error),
    }
}

/// Ends the session, and has the judge check the user's browsers again. The browser that logs out
/// is refused, and its sockets close in all of its tabs. The user's other browsers lose nothing.
async fn log_out(State(app): State<App>, headers: HeaderMap) -> Response {
    let ended = match cookie(&headers) {
        Some(session) => app.database.log_out(session).await,
        None => Ok(None),
    };
    match ended {
        Ok(user) => {
            if let Some(user) = user {
                // An error means that the server is ending.
                let _ = app.server.recheck(&user);
            }
            set_cookie("", 0)
        }
        Err(error) => away(&error),
    }
}

/// Scripts of the page cannot read this cookie, and forms of other sites do not send it.
fn set_cookie(session: &str, seconds: u32) -> Response {
    let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter();
    // Other cookies may contain bytes that are no text.
    let mut pairs = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

fn away(error: &rusqlite::Error) -> Response {
    eprintln!("the database failed: {error}");
    (StatusCode::SERVICE_UNAVAILABLE, "the database is away\n").into_response()
}
