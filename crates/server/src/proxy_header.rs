//! The PROXY protocol, version 2, by which a proxy that passes bytes on says who called it.
//!
//! <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>, section 2.2. Only what a proxy
//! writes that is trusted is read, and only on listeners for it: nothing is guessed.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What it begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header that is read, without its first 16 bytes. Proxies append certificates and
/// the like, none of which is looked at.
const MAX_LEN: usize = 4 << 10;

/// Reads the header, and nothing behind it. Returns the client's address, or nothing if the proxy
/// speaks for itself.
///
/// # Errors
/// When the stream breaks, or does not begin with such a header.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    // What is no such header says nothing of a length.
    if head[..12] != *SIGNATURE {
        return Err(wrong("is missing: is `proxy_protocol` set for a proxy that sends none?"));
    }
    let [.., high, low] = head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_LEN {
        return Err(wrong("is too long"));
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await?;
    parse(&head, &rest)
}

fn parse(head: &[u8; 16], rest: &[u8]) -> io::Result<Option<SocketAddr>> {
    match (head[12], head[13]) {
        // The proxy looks whether the server is there.
        (0x20, _) => Ok(None),
        // TCP over IPv4: both addresses, both ports.
        (0x21, 0x11) => match rest {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                let address = Ipv4Addr::new(*a, *b, *c, *d);
                Ok(Some((address, u16::from_be_bytes([*high, *low])).into()))
            }
            _ => Err(wrong("is too short for its addresses")),
        },
        // TCP over IPv6.
        (0x21, 0x21) => {
            let address = rest.first_chunk::<16>().copied().map(Ipv6Addr::from);
            let port = rest.get(32..34).map(|port| u16::from_be_bytes([port[0], port[1]]));
            match (address, port, rest.len() >= 36) {
                (Some(address), Some(port), true) => Ok(Some((address, port).into())),
                _ => Err(wrong("is too short for its addresses")),
            }
        }
        // A client without an address: over a Unix socket, for example.
        (0x21, 0x00 | 0x31) => Ok(None),
        (0x21, _) => Err(wrong("is not of TCP")),
        _ => Err(wrong("is of another version than 2")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the header of the PROXY protocol {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    async fn client(bytes: &[u8]) -> io::Result<(Option<SocketAddr>, usize)> {
        let mut stream = bytes;
        let client = read(&mut stream).await?;
        Ok((client, stream.len()))
    }

    #[tokio::test]
    async fn the_client_is_who_the_proxy_says_and_what_follows_is_left_alone() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&[0, 9]);
        let more = [&v4[..], &[4, 0, 2, 7, 7]].concat();
        for (bytes, expected) in [
            (header(0x21, 0x11, &v4), Some("192.0.2.1:4660")),
            (header(0x21, 0x11, &more), Some("192.0.2.1:4660")),
            (header(0x21, 0x21, &v6), Some("[2001:db8::7]:9")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &v4), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ] {
            let (client, left) = client(&[&bytes[..], b"GET"].concat()).await.unwrap();
            assert_eq!((client, left), (expected.map(|it| it.parse().unwrap()), 3));
        }
    }

    #[tokio::test]
    async fn what_is_no_such_header_is_an_error() {
        for (bytes, what) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "is missing"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "is missing"),
            (header(0x11, 0x11, &[0; 12]), "another version"),
            (header(0x22, 0x11, &[0; 12]), "another version"),
            (header(0x21, 0x12, &[0; 12]), "not of TCP"),
            (header(0x21, 0x11, &[0; 11]), "too short"),
            (header(0x21, 0x21, &[0; 35]), "too short"),
            (header(0x21, 0x11, &[0; 5_000]), "too long"),
        ] {
            let error = client(&bytes).await.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(client(&header(0x21, 0x11, &[0; 12])[..20]).await.is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_a_panic(
            head in proptest::array::uniform16(any::<u8>()),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = parse(&head, &rest);
            let mut head = head;
            head[12] = 0x20 | head[12] & 1;
            let _ = parse(&head, &rest);
        }
    }
}
