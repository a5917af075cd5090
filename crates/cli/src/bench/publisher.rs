//! Publishes over HTTP/1.1, with one request at a time on one connection.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest time that a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The form in which a server takes publications.
#[derive(Clone, Debug)]
pub enum Form {
    /// A tabmux server: `POST /tabmux/api/publish`.
    Tabmux {
        /// The API key of the server, if it has one.
        key: Option<String>,
        /// The names of the topics, by index.
        topics: Vec<String>,
    },
    /// Another server: `POST /publish?size=N`. The body holds messages of N bytes, one after
    /// another, which go to every link.
    Plain,
}

/// A server's answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of the HTTP response.
    pub status: u16,
    /// The body of the HTTP response.
    pub text: String,
}

/// A connection to publish on. It is made anew when the server has closed it.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    form: Form,
    stream: Option<TcpStream>,
}

impl Publisher {
    /// Returns a publisher that has no connection yet.
    #[must_use]
    pub const fn new(address: SocketAddr, form: Form) -> Self {
        Self { address, form, stream: None }
    }

    /// Publishes messages, each with the index of its topic, in one request. A message must be text
    /// that needs no escapes in JSON.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or does not answer in time.
    pub fn publish(&mut self, messages: &[(usize, String)]) -> io::Result<Answer> {
        let request = self.request(messages);
        let fresh = self.stream.is_none();
        match self.ask(request.as_bytes()) {
            // The server may have closed a connection that was idle for a while.
            Err(_) if !fresh => self.ask(request.as_bytes()),
            result => result,
        }
    }

    fn request(&self, messages: &[(usize, String)]) -> String {
        let (path, kind, key, body) = match &self.form {
            Form::Plain => {
                let size = messages.first().map_or(0, |(_, text)| text.len());
                let body = messages.iter().map(|(_, text)| text.as_str()).collect::<String>();
                (format!("/publish?size={size}"), "text/plain", None, body)
            }
            Form::Tabmux { key, topics } => {
                let path = "/tabmux/api/publish".to_owned();
                (path, "application/json", key.as_ref(), json(messages, topics))
            }
        };
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        if let Some(key) = key {
            // Writing to a string cannot fail.
            let _ = write!(head, "Authorization: Bearer {key}\r\n");
        }
        head + "\r\n" + &body
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(request)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some((answer, keep)) = response(&bytes)? {
                self.stream = keep.then_some(stream);
                return Ok(answer);
            }
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => bytes.extend_from_slice(&buffer[..len]),
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Returns one JSON object for one message, and an array for several.
fn json(messages: &[(usize, String)], topics: &[String]) -> String {
    let object = |(place, text): &(usize, String)| {
        let topic = topics.get(*place).map_or("", String::as_str);
        serde_json::json!({ "topic": topic, "text": text })
    };
    match messages {
        [one] => object(one).to_string(),
        several => serde_json::Value::Array(several.iter().map(object).collect()).to_string(),
    }
}

/// Returns a whole response, and true if the connection may be used again. Returns `None` until the
/// response is whole.
fn response(bytes: &[u8]) -> io::Result<Option<(Answer, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::other(format!("the answer is no HTTP: {error}"))),
    };
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let len = header("content-length").and_then(|text| text.trim().parse::<usize>().ok());
    let len = len.ok_or_else(|| io::Error::other("the answer has no Content-Length"))?;
    let keep = !header("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    let body = bytes.get(head..head.saturating_add(len));
    Ok(body.map(|body| {
        let text = String::from_utf8_lossy(body).into_owned();
        (Answer { status: response.code.unwrap_or(0), text }, keep)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_when_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for len in 0..text.len() {
            assert_eq!(response(&text[..len]).unwrap(), None);
        }
        let answer = Answer { status: 200, text: "ok".to_owned() };
        assert_eq!(response(text).unwrap(), Some((answer, true)));
        let text = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer = Answer { status: 403, text: String::new() };
        assert_eq!(response(text).unwrap(), Some((answer, false)));
        assert!(response(b"SSH-2.0-x\r\n").is_err());
    }

    #[test]
    fn one_message_is_an_object_and_several_are_an_array() {
        let topics = ["a".to_owned(), "b".to_owned()];
        let messages = [(0, "x".to_owned()), (1, "y".to_owned())];
        assert_eq!(json(&messages[..1], &topics), r#"{"text":"x","topic":"a"}"#);
        let both = r#"[{"text":"x","topic":"a"},{"text":"y","topic":"b"}]"#;
        assert_eq!(json(&messages, &topics), both);
    }
}
