//! Sends the server's numbers whenever they change. All sockets share one task, which runs while
//! there is any socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{sync::watch, time::sleep};

use tabmux_server::{CloseInfo, Ctx, Message, SocketHandler, SocketRef, SocketSender, Stats};

/// Changes within this time are sent together.
const PAUSE: Duration = Duration::from_millis(20);

/// The sockets that watch the numbers.
#[derive(Default)]
pub(super) struct Board(Mutex<Watchers>);

#[derive(Default)]
struct Watchers {
    senders: BTreeMap<SocketRef, SocketSender>,
    /// True while the shared task runs.
    told: bool,
}

/// The handler of one socket that watches the numbers.
pub(super) struct Numbers {
    board: Arc<Board>,
}

impl Numbers {
    pub(super) fn new(board: &Arc<Board>) -> Self {
        Self { board: Arc::clone(board) }
    }
}

impl SocketHandler for Numbers {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.send_text(&text(&ctx.stats())).is_err() {
            ctx.close(1013, "too much waits to be written to this browser");
            return;
        }
        let mut watchers = self.board.watchers();
        watchers.senders.insert(ctx.socket(), ctx.sender());
        if !std::mem::replace(&mut watchers.told, true) {
            tokio::spawn(tell(Arc::clone(&self.board), ctx.server().watch()));
        }
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}

    fn close(&mut self, ctx: &mut Ctx<'_>, _: &CloseInfo<'_>) {
        self.board.watchers().senders.remove(&ctx.socket());
    }
}

impl Board {
    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends every change to every watcher, until there is no watcher.
async fn tell(board: Arc<Board>, mut stats: watch::Receiver<Stats>) {
    while stats.changed().await.is_ok() {
        let text = text(&stats.borrow_and_update());
        {
            let mut watchers = board.watchers();
            if watchers.senders.is_empty() {
                watchers.told = false;
                return;
            }
            for watcher in watchers.senders.values() {
                // Sending fails only if the socket or the server is closing.
                let _ = watcher.send_text(&text);
            }
        }
        sleep(PAUSE).await;
    }
}

fn text(stats: &Stats) -> String {
    let (tabs, sockets) = (&stats.tabs, &stats.sockets);
    json!({
        "links": stats.links.open,
        "tabs": tabs.attached,
        "parked": tabs.parked,
        "sockets": sockets.open,
    })
    .to_string()
}
