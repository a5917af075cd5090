//! One HTTP exchange per connection, which is enough for the drivers and the server's statistics.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::Result;

/// Status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code of the answer.
    pub status: u16,
    /// The whole body of the answer.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("answer {} is no JSON: {error}", self.status))
    }
}

/// Sends one request and reads the whole answer; the connection is closed afterwards.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    timeout: Duration,
) -> Result<Answer> {
    exchange(address, method, path, "", body, timeout)
        .map_err(|error| format!("{method} http://{address}{path}: {error}"))
}

/// Does the same with an API that needs a key.
pub fn post_with_key(
    address: SocketAddr,
    path: &str,
    key: &str,
    body: &Value,
    timeout: Duration,
) -> Result<Answer> {
    let header = format!("authorization: Bearer {key}\r\n");
    exchange(address, "POST", path, &header, Some(body), timeout)
        .map_err(|error| format!("POST http://{address}{path}: {error}"))
}

/// Reads from an API that needs a key.
pub fn get_with_key(
    address: SocketAddr,
    path: &str,
    key: &str,
    timeout: Duration,
) -> Result<Answer> {
    let header = format!("authorization: Bearer {key}\r\n");
    exchange(address, "GET", path, &header, None, timeout)
        .map_err(|error| format!("GET http://{address}{path}: {error}"))
}

/// Reads the head of a request, to its empty line.
pub(crate) fn read_head(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(())
}

fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&Value>,
    timeout: Duration,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(timeout))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    read_answer(&mut BufReader::new(stream))
}

fn read_answer(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("no HTTP status in {line:?}")))?;
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => reader.take(length).read_to_end(&mut body)?,
        None => reader.read_to_end(&mut body)?,
    };
    Ok(Answer { status, body })
}
