//! An echo server for the Autobahn cases, on the codec and the loop that carry links:
//! `cargo run --release -p tabmux-server --example autobahn -- 127.0.0.1:9001`, then, with
//! `kosoku` of the Python package index, `kosoku -x '12.*' -x '13.*' 127.0.0.1:9001`.

use std::{io, net::TcpListener};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("echo on ws://{}/", listener.local_addr()?);
    tabmux_server::conformance::echo(&listener)
}
