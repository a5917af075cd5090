//! The tabmux server: an axum router whose links carry the virtual sockets of many tabs, each
//! served by a handler of yours.
//!
//! ```no_run
//! use tabmux_server::{Ctx, Message, Server, SocketHandler};
//!
//! struct Echo;
//!
//! impl SocketHandler for Echo {
//!     fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
//!         if let Err(error) = ctx.send(message) {
//!             ctx.close(1013, &error.to_string());
//!         }
//!     }
//! }
//!
//! # async fn serve() -> Result<(), tabmux_server::Error> {
//! let server = Server::builder().socket("/echo", || Echo).build()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! server.run(listener, std::future::pending()).await
//! # }
//! ```
//!
//! All protocol logic is in [`tabmux_core::session`]; this crate reads and writes sockets, calls
//! handlers, and speaks HTTP. [`Server::router`] mounts it inside an axum app of yours.

#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]
// These macros panic where stdout or stderr cannot be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod accept;
mod admission;
mod api;
mod app;
mod assets;
mod bridge;
mod broker;
mod builder;
mod config;
#[doc(hidden)]
pub mod conformance;
mod context;
mod control;
mod credit;
mod decision;
mod descriptors;
mod encoding;
mod error;
mod face;
mod files;
#[doc(hidden)]
pub mod gateway;
mod handle;
mod handler;
mod handshake;
mod histogram;
mod hosts;
mod http;
mod identity;
mod incoming;
mod judge;
#[cfg(feature = "jwt")]
pub mod jwt;
mod listeners;
mod logs;
mod metrics;
mod origin;
mod patience;
mod places;
mod proxies;
mod proxy_header;
mod pulse;
mod replay;
mod routes;
mod sender;
mod server;
mod settings;
mod shard;
#[cfg(unix)]
mod socket_file;
mod task;
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod users;
mod web;
mod who;
mod ws;

pub use self::{
    broker::{Broker, BrokerError, BrokerFuture, Delivery, Feed},
    builder::Builder,
    config::{
        Access, ApiKey, ApiKeyFile, Config, Cookies, Deflate, JwtConfig, Limits, Listen,
        ListenAddress, LogLevel, Parked, Route, Slow, TlsConfig, TopicHistory, TopicRule,
        UnknownTopics, listen_address,
    },
    context::Ctx,
    credit::HeldCredit,
    decision::Decision,
    descriptors::raise_descriptor_limit,
    error::{Error, PublishError},
    handle::{ServerHandle, Target},
    handler::{CloseInfo, OpenRequest, SocketHandler},
    judge::{Admitted, Handshake, Refusal, Verdict},
    listeners::{Listeners, listen},
    routes::Params,
    sender::{OpenAnswer, SocketSender},
    server::Server,
    task::{Ended, Opening, TaskHandler, TaskReader, TaskSocket, TaskWriter, task, task_opening},
    topics::TopicRequest,
    users::LinkRequest,
};
pub use tabmux_core::{
    OwnedPayload as OwnedMessage,
    feed::{Keeping, Kept, Recalled},
    session::{SendError, SessionInfo, SocketRef, Stats, User},
    wire::{Payload as Message, Position, SessionId, TabId, message_cost},
};

/// The examples in docs/server.md, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/server.md")]
struct Guide;

/// The examples in docs/users.md, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/users.md")]
struct UsersGuide;

/// The example in README.md, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
