//! Topics, and messages to all tabs.

use tabmux_client::{BrowserEvent, TopicEvent};
use tabmux_server::{Config, Message, Server, TopicHistory, TopicRule, task};

use super::support::{Network, Running, soon};

async fn next(topic: &mut tabmux_client::Topic) -> TopicEvent {
    soon("an event", topic.next()).await.unwrap()
}

#[tokio::test]
async fn publications_come_in_order_with_their_positions() {
    let server = Running::start(Server::builder()).await;
    let client = server.client();
    let mut topic = client.subscribe("prices");
    let TopicEvent::Subscribed { position: start } = next(&mut topic).await else {
        panic!("not subscribed")
    };
    for text in ["1", "2"] {
        server.handle.publish("prices", Message::Text(text)).await.unwrap();
    }
    for (text, offset) in [("1", 1), ("2", 2)] {
        let event = next(&mut topic).await;
        let TopicEvent::Message { position, message } = event else { panic!("{event:?}") };
        assert_eq!((message, position.offset), (text.into(), start.offset + offset));
    }
    // An invalid name ends the subscription.
    let mut none = client.subscribe("");
    let event = next(&mut none).await;
    assert!(matches!(event, TopicEvent::End { .. }), "{event:?}");
    assert_eq!(none.next().await, None);
}

#[tokio::test]
async fn a_topic_goes_on_over_a_link_that_breaks() {
    let server = Running::start(Server::builder()).await;
    let network = Network::to(server.address).await;
    let client = network.client();
    let mut topic = client.subscribe("prices");
    assert!(matches!(next(&mut topic).await, TopicEvent::Subscribed { .. }));
    server.handle.publish("prices", Message::Text("before")).await.unwrap();
    assert!(matches!(next(&mut topic).await, TopicEvent::Message { .. }));
    network.cut();
    server.handle.publish("prices", Message::Text("meanwhile")).await.unwrap();
    let event = next(&mut topic).await;
    let TopicEvent::Message { message, .. } = event else { panic!("{event:?}") };
    assert_eq!(message, "meanwhile".into());
}

#[tokio::test]
async fn a_topic_goes_on_from_a_position() {
    let rule = TopicRule::new("prices").history(TopicHistory::default());
    let server = Running::start(Server::builder().topic(rule)).await;
    let since = server.handle.position("prices").await.unwrap();
    for text in ["1", "2"] {
        server.handle.publish("prices", Message::Text(text)).await.unwrap();
    }
    let client = server.client();
    let mut topic = client.subscribe_since("prices", since);
    assert_eq!(next(&mut topic).await, TopicEvent::Subscribed { position: since });
    // A second one goes on from the history of the client.
    let mut late = client.subscribe_since("prices", since);
    for topic in [&mut topic, &mut late] {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let event = next(topic).await;
            if let TopicEvent::Message { message, .. } = event {
                heard.push(message);
            } else {
                assert_eq!(event, TopicEvent::Subscribed { position: since });
            }
        }
        assert_eq!(heard, ["1".into(), "2".into()]);
    }
}

#[tokio::test]
async fn what_is_published_while_a_server_forgets_the_session_is_recovered() {
    let rule = TopicRule::new("prices").history(TopicHistory::default());
    let config = Config::default().detached_ms(0).topics(vec![rule]);
    let server = Running::start(Server::builder().config(config)).await;
    let network = Network::to(server.address).await;
    let client = network.client();
    let mut topic = client.subscribe("prices");
    assert!(matches!(next(&mut topic).await, TopicEvent::Subscribed { .. }));
    network.cut();
    for number in 0..100 {
        server.handle.publish("prices", Message::Text(&number.to_string())).await.unwrap();
    }
    for number in 0..100 {
        let event = next(&mut topic).await;
        let TopicEvent::Message { message, .. } = event else { panic!("{event:?}") };
        assert_eq!(message, number.to_string().as_str().into());
    }
}

#[tokio::test]
async fn a_reader_that_is_behind_gets_a_gap_between_what_came_before_and_after() {
    let server = Running::start(Server::builder()).await;
    let client = server.client();
    let mut topic = client.subscribe("prices");
    assert!(matches!(next(&mut topic).await, TopicEvent::Subscribed { .. }));
    let mut witness = client.subscribe("prices");
    assert!(matches!(next(&mut witness).await, TopicEvent::Subscribed { .. }));
    // More messages than wait for a reader, which are 1,024. The witness shows when all have
    // arrived.
    for number in 0..1_100 {
        server.handle.publish("prices", Message::Text(&number.to_string())).await.unwrap();
        assert!(matches!(next(&mut witness).await, TopicEvent::Message { .. }));
    }
    for number in 0..1_024 {
        let event = next(&mut topic).await;
        let TopicEvent::Message { message, .. } = event else { panic!("{event:?}") };
        assert_eq!(message, number.to_string().into());
    }
    assert!(matches!(next(&mut topic).await, TopicEvent::Gap { .. }));
    server.handle.publish("prices", Message::Text("after")).await.unwrap();
    let event = next(&mut topic).await;
    let TopicEvent::Message { message, .. } = event else { panic!("{event:?}") };
    assert_eq!(message, "after".into());
}

#[tokio::test]
async fn messages_to_all_tabs_come() {
    let server = Running::start(
        Server::builder().socket("/w", || Loud).socket("/q", task(|_| std::future::ready(()))),
    )
    .await;
    let client = server.client();
    let mut all = client.broadcasts();
    let socket = soon("a socket", client.open("/w", &[])).await.unwrap();
    socket.send("hear").await.unwrap();
    assert_eq!(soon("it", all.next()).await, Some(BrowserEvent::Message("hear".into())));
}

struct Loud;

impl tabmux_server::SocketHandler for Loud {
    fn message(&mut self, ctx: &mut tabmux_server::Ctx<'_>, message: Message<'_>) {
        ctx.broadcast(message).unwrap();
    }
}
