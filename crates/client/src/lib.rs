//! A client for tabmux servers: virtual sockets and topics over one link, which dials again when
//! it breaks and goes on where it was. Nothing that was sent is lost and nothing comes twice, as
//! long as the server keeps the session (210 s by default).
//!
//! ```no_run
//! use tabmux_client::{Client, TopicEvent};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("ws://127.0.0.1:3000/tabmux/ws")?;
//!
//! let mut socket = client.open("/echo", &[]).await?;
//! socket.send("hello").await?;
//! println!("{:?}", socket.next().await);
//!
//! let mut prices = client.subscribe("prices");
//! while let Some(event) = prices.next().await {
//!     match event {
//!         TopicEvent::Message { message, .. } => println!("{message:?}"),
//!         TopicEvent::Gap { .. } => println!("something was missed: fetch it anew"),
//!         other => println!("{other:?}"),
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! All decisions are those of [`tabmux_core::hub`], which browsers run as well. This crate carries
//! bytes, time and what the application says.
//!
//! # Logging in
//!
//! [`Client::builder`] takes headers, which are sent with each request for a link. The server's
//! judge reads them:
//!
//! ```no_run
//! use tabmux_client::{Client, Status};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://127.0.0.1:3000")
//!     .header("cookie", "session=7f9c")
//!     .header("authorization", "Bearer 5f0e")
//!     .connect()?;
//! let mut status = client.status();
//! let answer = status.wait_for(|status| *status != Status::Connecting).await?;
//! if let Status::Refused { reason } = &*answer {
//!     println!("the server will not have this client: {reason}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # TLS
//!
//! The feature `rustls` adds links to `wss:` addresses. They trust the certificates that the system
//! trusts. `Builder::tls` takes others.

#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]

mod client;
mod credentials;
mod destination;
mod driver;
mod error;
mod inbox;
mod link;
mod machine;
mod session;
mod socket;
mod topic;

pub use self::{
    client::{Builder, Client, Status},
    error::{ConnectError, OpenError, SendError},
    socket::{Ended, Socket},
    topic::{Broadcasts, BrowserEvent, Topic, TopicEvent},
};
#[cfg(feature = "rustls")]
pub use rustls;
pub use tabmux_core::{OwnedPayload as OwnedMessage, wire::Position};

/// The example in README.md, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
