//! A peer that says bytes: for what no WebSocket library would say.

use std::net::SocketAddr;

use tabmux_core::wire::{
    Hello, HubFrame, HubId, NEWEST_VERSION, OLDEST_VERSION, Resume, SessionId, Term, Token,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::support::soon;

pub(crate) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to it.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The lines of a good handshake.
pub(crate) fn lines(address: SocketAddr) -> Vec<String> {
    let host = format!("Host: {address}");
    let lines = [&host, "Upgrade: websocket", "Connection: Upgrade", KEY];
    let mut lines = lines.map(str::to_owned).to_vec();
    lines.push("Sec-WebSocket-Version: 13".to_owned());
    lines
}

pub(crate) fn head(lines: &[String]) -> String {
    format!("GET /tabmux/ws HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// A binary message of a client, in one frame.
pub(crate) fn masked(payload: &[u8]) -> Vec<u8> {
    masked_as(0x82, payload)
}

/// A frame of a client that begins with this byte.
pub(crate) fn masked_as(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 217];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        len @ ..=125 => bytes.push(0x80 | len as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// HELLO, of a hub that had this session before if there is one.
pub(crate) fn hello(session: Option<[u8; 16]>) -> Vec<u8> {
    masked(&hello_frame(session))
}

/// The same, in no frame of a WebSocket.
pub(crate) fn hello_frame(session: Option<[u8; 16]>) -> Vec<u8> {
    let resume = session.map(|session| Resume {
        session: SessionId(session),
        token: Token([1; 16]),
        term: Term(1),
        have0: None,
    });
    let (min_version, max_version, hub) = (OLDEST_VERSION, NEWEST_VERSION, HubId(1));
    let hello = Hello { min_version, max_version, hub, resume, credentials: "" };
    HubFrame::Hello(hello).to_bytes()
}

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// A link whose handshake is done.
    pub(crate) async fn link(address: SocketAddr) -> Self {
        let mut raw = Self::dial(address).await;
        raw.say(head(&lines(address)).as_bytes()).await;
        assert_eq!(raw.head().await.0, 101);
        raw
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        soon("bytes to be sent", self.0.write_all(bytes)).await.unwrap();
    }

    /// Status and text of a response's head.
    pub(crate) async fn head(&mut self) -> (u16, String) {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(soon("a head", self.0.read_u8()).await.unwrap());
        }
        let text = String::from_utf8(text).unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    /// The payload of the next frame, which must be a whole binary message.
    pub(crate) async fn message(&mut self) -> Vec<u8> {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x82);
        payload
    }

    /// The first byte and the payload of the next frame.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = soon("a frame", self.0.read_u8()).await.unwrap();
        let len = match self.0.read_u8().await.unwrap() {
            126 => self.0.read_u16().await.unwrap().into(),
            127 => self.0.read_u64().await.unwrap().try_into().unwrap(),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        soon("a payload", self.0.read_exact(&mut payload)).await.unwrap();
        (first, payload)
    }

    /// Code of the close that must come next, and then the end of the stream.
    pub(crate) async fn closed(&mut self) -> u16 {
        assert_eq!(soon("a close", self.0.read_u8()).await.unwrap(), 0x88);
        let len = self.0.read_u8().await.unwrap();
        let mut payload = vec![0; len.into()];
        self.0.read_exact(&mut payload).await.unwrap();
        let mut rest = Vec::new();
        soon("the end", self.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// Asks for a file, reads the first byte of the answer, and then nothing more.
async fn stops_reading(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // Little fits on the way.
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = soon("a connection", socket.connect(address)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(soon("an answer", stream.read_u8()).await.unwrap(), b'H');
    stream
}

/// So many peers of that kind, which come at once.
pub(crate) async fn crowd(address: SocketAddr, path: &'static str, count: usize) -> Vec<TcpStream> {
    let peers = (0..count).map(|_| tokio::spawn(stops_reading(address, path)));
    let mut streams = Vec::new();
    for peer in peers.collect::<Vec<_>>() {
        streams.push(peer.await.unwrap());
    }
    streams
}
