//! A running server, behind a network that a test can break.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tabmux_client::{Client, OwnedMessage, Socket};
use tabmux_server::{Builder, Error, ServerHandle, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// Waits for `future`. Fails the test if it takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// A server on a free port, which ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn start(builder: Builder) -> Self {
        Self::start_at(builder, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(builder: Builder, address: SocketAddr) -> Self {
        let server = builder.build().unwrap();
        let listener = listen(address).unwrap();
        let (address, handle) = (listener.local_addr().unwrap(), server.handle());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // The sender is dropped at the end of the test, which stops the server.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let run = tokio::spawn(server.run(listener, shutdown));
        Self { address, handle, stop, run }
    }

    /// Ends the server as SIGTERM does, and waits until it has ended.
    pub(crate) async fn end(self) {
        self.stop.send(()).unwrap();
        soon("the end of the server", self.run).await.unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(url(self.address)).unwrap()
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("ws://{address}/tabmux/ws")
}

/// Returns the next message, which must be text.
pub(crate) async fn text(socket: &mut Socket) -> String {
    match soon("a message", socket.next()).await {
        Some(OwnedMessage::Text(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

/// A network between client and server that breaks connections and swallows bytes.
#[derive(Clone)]
pub(crate) struct Network(Arc<State>);

struct State {
    address: SocketAddr,
    /// Connections that were made in an earlier epoch break.
    epoch: watch::Sender<u64>,
    is_down: AtomicBool,
    dials: AtomicU64,
}

impl Network {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(State {
            address: listener.local_addr().unwrap(),
            epoch: watch::channel(0).0,
            is_down: AtomicBool::new(false),
            dials: AtomicU64::new(0),
        });
        let network = Self(Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.dials.fetch_add(1, Ordering::Relaxed);
                if !state.is_down.load(Ordering::Relaxed) {
                    tokio::spawn(carry(stream, server, state.epoch.subscribe()));
                }
            }
        });
        network
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.url()).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        url(self.0.address)
    }

    /// Breaks all connections in both directions. Bytes on their way are lost.
    pub(crate) fn cut(&self) {
        self.0.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// If `is_down` is true, new connections break at once from now on.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.0.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Returns how often a client has dialled.
    pub(crate) fn dials(&self) -> u64 {
        self.0.dials.load(Ordering::Relaxed)
    }
}

async fn carry(stream: TcpStream, server: SocketAddr, mut epoch: watch::Receiver<u64>) {
    let Ok(onward) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) =
        (stream.into_split(), onward.into_split());
    epoch.mark_unchanged();
    tokio::select! {
        () = copy(from_client, to_server) => {}
        () = copy(from_server, to_client) => {}
        _ = epoch.changed() => {}
    }
}

/// Copies in small parts, so that a cut falls within frames.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut bytes = [0; 700];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
