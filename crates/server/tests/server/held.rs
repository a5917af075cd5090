//! Credit of messages that handlers keep.

use tabmux_core::wire::{Alias, Payload, ServerFrame};
use tabmux_server::{Ctx, HeldCredit, Message, Server, SocketHandler};
use tokio::sync::mpsc;

use super::support::{Hub, Running, frame, soon};

const TAB: Alias = Alias(1);
/// A third of the credit of a tab.
const THIRD: usize = (256 << 10) / 3 - 64;

/// Hands the credit of its messages to the test, but for those that say so.
struct Keeper(mpsc::UnboundedSender<HeldCredit>);

impl SocketHandler for Keeper {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        match message {
            Message::Text("twice") => {
                self.0.send(ctx.hold_credit()).unwrap();
                self.0.send(ctx.hold_credit()).unwrap();
            }
            Message::Text("lose") => ctx.close(1006, ""),
            Message::Text("panic") => {
                self.0.send(ctx.hold_credit()).unwrap();
                panic!("on request");
            }
            _ => self.0.send(ctx.hold_credit()).unwrap(),
        }
    }
}

async fn running() -> (Running, Hub, mpsc::UnboundedReceiver<HeldCredit>) {
    let (sender, held) = mpsc::unbounded_channel();
    let builder = Server::builder().socket("/keep", move || Keeper(sender.clone()));
    let server = Running::start(builder).await;
    let hub = Hub::with_socket(server.address, "/keep").await;
    (server, hub, held)
}

#[tokio::test]
async fn credit_comes_back_when_its_guard_is_dropped_on_any_thread() {
    let (_server, mut hub, mut held) = running().await;
    let mut guards = Vec::new();
    for _ in 0..3 {
        hub.send(TAB, 1, Payload::Binary(&[0; THIRD])).await;
        guards.push(soon("a guard", held.recv()).await.unwrap());
    }
    assert!(guards.iter().all(|guard| guard.cost() == THIRD as u64 + 64));
    hub.quiet().await;
    assert_eq!(hub.given.get(&(TAB, 1)), None, "all is held");
    std::thread::spawn(move || drop(guards)).join().unwrap();
    // The credit is seen with the next frame, and comes once it is half of all.
    let back = async {
        while !hub.given.contains_key(&(TAB, 1)) {
            hub.quiet().await;
        }
    };
    soon("credit", back).await;
    assert!(hub.given[&(TAB, 1)] >= 2 * (THIRD as u64 + 64), "{:?}", hub.given);
}

#[tokio::test]
async fn a_second_guard_for_one_message_holds_nothing() {
    let (_server, mut hub, mut held) = running().await;
    hub.send(TAB, 1, Payload::Text("twice")).await;
    let costs = [held.recv().await, held.recv().await].map(|guard| guard.unwrap().cost());
    assert_eq!(costs, [64 + 5, 0]);
}

#[tokio::test]
async fn a_guard_outlives_its_socket_and_its_server() {
    let (mut server, mut hub, mut held) = running().await;
    hub.send(TAB, 1, Payload::Text("panic")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1011, .. }));
    drop(soon("a guard", held.recv()).await);
    hub.open(TAB, 2, "/keep", &[]).await;
    hub.send(TAB, 2, Payload::Text("kept")).await;
    let guard = soon("a guard", held.recv()).await;
    hub.send(TAB, 2, Payload::Text("lose")).await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Close { code: 1006, reason: "", .. }));
    server.stop();
    drop(hub);
    soon("the end", server.ended()).await.unwrap();
    drop(guard);
}
