//! axum's WebSocket with its defaults, in the shape of axum's own chat example: a broadcast
//! channel for all links, and two tasks for each. What has come to the channel at once goes out in
//! one write.
//! `POST /publish?size=N` carries messages of N bytes, one after another.

#![forbid(unsafe_code)]

use axum::{
    Router,
    body::Bytes,
    extract::{
        Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::{any, post},
};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast;

/// More than is published at once: nobody lags.
const CAPACITY: usize = 64;

type Channel = broadcast::Sender<Bytes>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (sender, _) = broadcast::channel::<Bytes>(CAPACITY);
    let app = Router::new()
        .route("/ws", any(open))
        .route("/publish", post(publish))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(sender);
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("axum: serving http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await
}

async fn open(upgrade: WebSocketUpgrade, State(channel): State<Channel>) -> Response {
    upgrade.on_upgrade(move |socket| serve(socket, channel.subscribe()))
}

async fn serve(socket: WebSocket, mut channel: broadcast::Receiver<Bytes>) {
    let (mut sink, mut stream) = socket.split();
    let writer = tokio::spawn(async move {
        while let Ok(bytes) = channel.recv().await {
            sink.feed(Message::Binary(bytes)).await?;
            while let Ok(bytes) = channel.try_recv() {
                sink.feed(Message::Binary(bytes)).await?;
            }
            sink.flush().await?;
        }
        Ok::<(), axum::Error>(())
    });
    while let Some(Ok(_)) = stream.next().await {}
    writer.abort();
}

async fn publish(
    State(channel): State<Channel>,
    Query(query): Query<Vec<(String, usize)>>,
    body: Bytes,
) {
    let size = query.first().map_or(body.len(), |(_, size)| *size).max(1);
    for start in (0..body.len()).step_by(size) {
        // An error means that there is no link.
        let _ = channel.send(body.slice(start..body.len().min(start + size)));
    }
}
