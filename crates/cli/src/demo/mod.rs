//! The handlers of the demo. They are also the smallest examples of handlers.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/echo` | sends back each message; chooses the first sub-protocol that is offered |
//! | `/demo/game` | a game: guess a number; only the tab that guesses gets the answer |
//! | `/demo/notify` | sends a notification to every tab of this browser |
//! | `/demo/stats` | sends the server's numbers whenever they change |

mod echo;
mod game;
mod notify;
mod stats;

use std::sync::Arc;

use tabmux_server::Builder;

/// Adds the handlers of the demo.
pub fn install(builder: Builder) -> Builder {
    let board = Arc::new(stats::Board::default());
    builder
        .socket("/echo", echo::Echo::default)
        .socket("/demo/game", game::Game::new)
        .socket("/demo/notify", || notify::Notify)
        .socket("/demo/stats", move || stats::Numbers::new(&board))
}
