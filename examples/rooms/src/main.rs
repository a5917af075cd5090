//! Runs the app: `cargo run -p tabmux-example-rooms -- 127.0.0.1:3000 rooms.sqlite SCRIPTS`.
//! `SCRIPTS` is the folder with the scripts of the npm package, such as `packages/tabmux/dist`.

#![forbid(unsafe_code)]

use std::{error::Error, path::PathBuf};

use rooms::{Database, serve};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let file = arguments.next().unwrap_or_else(|| "rooms.sqlite".to_owned());
    let scripts = arguments.next().unwrap_or_else(|| "packages/tabmux/dist".to_owned());
    let (mut stop, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("rooms at http://{}/", listener.local_addr()?);
    let shutdown = async move {
        tokio::select! {
            _ = stop.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, Database::open(&PathBuf::from(file))?, PathBuf::from(scripts), shutdown).await
}
