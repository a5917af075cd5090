//! What a shard does with users, browsers and tabs for the application.

use tabmux_core::{Timestamp, session::Registry};

use super::post::Errand;

/// Runs an errand. What is said to nobody who is there is lost.
pub(super) fn run(registry: &mut Registry, now: Timestamp, errand: Errand) {
    match errand {
        Errand::TellUser { user, message } => {
            registry.tell_user(now, &user, message.as_payload());
        }
        Errand::TellBrowser { session, message } => {
            let _ = registry.broadcast(now, session, message.as_payload());
        }
        Errand::TellTab { session, tab, message } => {
            let _ = registry.tell_tab(now, session, tab, message.as_payload());
        }
        Errand::EndUser { user, farewell } => {
            registry.end_user(now, &user, &farewell);
        }
        Errand::EndBrowser { session, farewell } => {
            let _ = registry.end_session(now, session, &farewell);
        }
        Errand::EndTab { session, tab, farewell } => {
            let _ = registry.end_tab(now, session, tab, &farewell);
        }
        Errand::Recheck { user, spread } => {
            registry.recheck_user(now, &user, spread);
        }
        Errand::List { user, answer } => {
            let sessions = match user {
                Some(user) => registry.sessions_of(&user),
                None => registry.sessions().collect(),
            };
            // Whoever asked may be gone.
            let _ = answer.send(sessions);
        }
    }
}
