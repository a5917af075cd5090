//! The handlers of the demo, which are also the smallest examples of handlers.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/echo` | sends back what it gets; takes the first sub-protocol offered |
//! | `/demo/game` | guess a number; only the tab that asked gets the answer |
//! | `/demo/notify` | tells every tab of this browser |
//! | `/demo/stats` | tells the server's numbers whenever they change |

mod echo;
mod game;
mod notify;
mod stats;

use std::sync::Arc;

use tabmux_server::Builder;

/// Adds the demo's handlers.
pub fn install(builder: Builder) -> Builder {
    let board = Arc::new(stats::Board::default());
    builder
        .socket("/echo", echo::Echo::default)
        .socket("/demo/game", game::Game::new)
        .socket("/demo/notify", || notify::Notify)
        .socket("/demo/stats", move || stats::Numbers::new(&board))
}
