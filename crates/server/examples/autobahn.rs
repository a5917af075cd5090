//! An echo server for the Autobahn cases, on the codec and the loop that carry links.
//! `cargo xtask autobahn` starts it and runs the cases; by hand:
//! `cargo run -p tabmux-server --example autobahn -- 127.0.0.1:9001`.

use std::{io, net::TcpListener, process, thread};

fn main() -> io::Result<()> {
    let mut address = "127.0.0.1:9001".to_owned();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Whoever started it may be gone without a word.
            "--until-input-ends" => drop(thread::spawn(|| {
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                process::exit(0);
            })),
            _ => address = argument,
        }
    }
    let listener = TcpListener::bind(address)?;
    println!("echo on ws://{}/", listener.local_addr()?);
    tabmux_server::conformance::echo(&listener)
}
