//! The arguments of `tabmux bench`.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

/// Loads a tabmux server with links and publications, and prints what that cost it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "Memory and CPU of the server are read from /proc: on Linux, for a \
server on this machine.\nctrl-c ends the run and reports what was measured so far.")]
pub struct Options {
    /// Address of the server's WebSocket
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:3000/tabmux/ws")]
    pub url: Url,
    /// Links to open; each stands for one browser
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub links: usize,
    /// Tabs of each link
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub tabs: u32,
    /// Topics to publish to in turn; 0 to publish nothing
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub topics: usize,
    /// Topics that each link subscribes to
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub topics_per_link: usize,
    /// Publications per second, over all topics
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub rate: f64,
    /// Bytes of one publication, 40 at least
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub size: usize,
    /// Seconds to publish for
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub duration: f64,
    /// Publications in flight at once: each request publishes so many
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub burst: usize,
    /// The server's API key, for publishing
    #[arg(long, value_name = "KEY", env = "TABMUX_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Writes the result as JSON too; `-` writes only that, to stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Process id of the server; found by itself if it listens on this machine
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Seconds to keep trying while the server tells links to come back and none opens; 0 does not
    /// try again
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub patience: u64,
    /// Links to open per second [default: as many as the server accepts]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub ramp: Option<f64>,
}

/// The address of a server's WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The address and port of the server.
    pub address: SocketAddr,
    /// The path and the query of its WebSocket.
    pub path: String,
}

impl Options {
    /// Returns how long to publish.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("ws://") else {
            return Err("write it as ws://127.0.0.1:3000/tabmux/ws; for wss:// name the server \
                        behind the proxy that does TLS"
                .to_owned());
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if host.ends_with(|c: char| c.is_ascii_digit()) && host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut found = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{host} has no address"))?;
        let path = if path.is_empty() { "/tabmux/ws" } else { path };
        Ok(Self { address, path: path.to_owned() })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ws://{}{}", self.address, self.path)
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e9 => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_and_a_path() {
        for (text, address, path) in [
            ("ws://127.0.0.1:3000/tabmux/ws", "127.0.0.1:3000", "/tabmux/ws"),
            ("ws://127.0.0.1:3000", "127.0.0.1:3000", "/tabmux/ws"),
            ("ws://127.0.0.1/a?b", "127.0.0.1:80", "/a?b"),
        ] {
            let url = text.parse::<Url>().unwrap();
            assert_eq!((url.address, url.path.as_str()), (address.parse().unwrap(), path));
        }
    }

    #[test]
    fn other_schemes_are_told_the_right_one() {
        for text in ["wss://example.org/", "http://127.0.0.1:3000", "127.0.0.1:3000"] {
            assert!(text.parse::<Url>().unwrap_err().contains("ws://127.0.0.1:3000/tabmux/ws"));
        }
    }
}
