//! The least that a server can do: one loop over epoll that answers upgrades, and on command
//! writes the same finished bytes to every socket, one write each. `POST /publish?size=N` carries
//! messages of N bytes, one after another; several go out joined, in one write.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const LISTENER: Token = Token(usize::MAX);

/// What a connection is.
enum Peer {
    /// Its request is not whole yet.
    Asking(TcpStream, Vec<u8>),
    /// A WebSocket: what is read from it is thrown away.
    Link(TcpStream),
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let mut listener = TcpListener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], port)))?;
    println!("floor: serving http://{}/", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1_024);
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut peers)?;
            } else {
                serve(event.token().0, &mut peers, &mut buffer);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, peers: &mut Vec<Option<Peer>>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let token = Token(peers.len());
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                peers.push(Some(Peer::Asking(stream, Vec::new())));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn serve(index: usize, peers: &mut [Option<Peer>], buffer: &mut [u8]) {
    let Some(peer) = peers[index].take() else {
        return;
    };
    let (mut stream, mut held) = match peer {
        Peer::Link(mut stream) => {
            loop {
                match stream.read(buffer) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Ok(0) | Err(_) => return,
                }
            }
            peers[index] = Some(Peer::Link(stream));
            return;
        }
        Peer::Asking(stream, held) => (stream, held),
    };
    loop {
        match stream.read(buffer) {
            Ok(len @ 1..) => held.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Ok(0) | Err(_) => return,
        }
    }
    let mut link = false;
    while let Some((answer, used)) = answer(&held, peers) {
        link = answer.starts_with("HTTP/1.1 101");
        held.drain(..used);
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
    peers[index] = Some(if link { Peer::Link(stream) } else { Peer::Asking(stream, held) });
}

/// What is answered to a whole request, and its length.
fn answer(bytes: &[u8], peers: &mut [Option<Peer>]) -> Option<(String, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else {
        return None;
    };
    let path = request.path.unwrap_or_default().to_owned();
    let header = |name: &str| {
        headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    if let Some(key) = header("sec-websocket-key") {
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let accept = STANDARD.encode(digest);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        return Some((answer, head));
    }
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let len = number(std::str::from_utf8(header("content-length")?).ok()?)?;
    let size = path.rsplit_once("size=").and_then(|(_, size)| number(size)).unwrap_or(len);
    let body = bytes.get(head..head + len)?;
    let frames = body.chunks(size.max(1)).flat_map(frame).collect::<Vec<_>>();
    for peer in peers.iter_mut().flatten() {
        if let Peer::Link(stream) = peer {
            // Nothing is kept for a socket that is full: the figures would show what is missing.
            let _ = stream.write(&frames);
        }
    }
    Some(("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), head + len))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}
