//! An event machine: one thread, one poll, one slab of non-blocking connections, your closures.
//!
//! ```no_run
//! use waterwheel::Reactor;
//!
//! fn main() -> std::io::Result<()> {
//!     Reactor::run((), |reactor| {
//!         reactor.websocket("0.0.0.0:8080", |ws| {
//!             ws.on_open(|ws, handshake| ws.send(format!("Hello Client, you connected to {}", handshake.path())));
//!             ws.on_message(|ws, message| ws.send(format!("Pong: {message}")));
//!             ws.on_close(|_, close| println!("Connection closed: {close}"));
//!         })
//!     })
//! }
//! ```
//!
//! # A guide in one page
//!
//! [`Reactor::run`] takes your state and a setup. The setup gets the reactor, a
//! [`Reactor`], and asks it to listen: [`Reactor::websocket`] for WebSockets alone, [`Reactor::http`] for
//! routes, event streams, later answers and WebSockets on one port, [`Reactor::stream`] for raw bytes.
//! The closures given there are your callbacks. Each runs once per event, never inside another,
//! and gets what it is about with three public fields: `state` (yours), `reactor` (everything a
//! callback may ask for) and `id` (the connection).
//!
//! Ids are `Copy`, can be kept anywhere, and never dangle: on a connection that is gone an
//! operation answers [`Sent::Gone`]. [`ConnMap`] keeps something for each connection, by its id.
//!
//! ```no_run
//! # use std::collections::HashSet;
//! # use waterwheel::{ConnId, Reactor};
//! #[derive(Default)]
//! struct Chat { users: HashSet<ConnId> }
//!
//! Reactor::run(Chat::default(), |reactor| reactor.websocket("0.0.0.0:3000", |ws| {
//!     ws.on_open(|ws, _| ws.state.users.insert(ws.id));
//!     ws.on_close(|ws, _| ws.state.users.remove(&ws.id));
//!     ws.on_message(|ws, message| for user in &ws.state.users { ws.reactor.send(*user, message); });
//! }))?;
//! # std::io::Result::Ok(())
//! ```
//!
//! One port may serve all of it, and topics reach every transport with the same bytes in the same
//! order:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use waterwheel::{Event, Reactor, Status};
//! Reactor::run((), |reactor| reactor.http("0.0.0.0:4567", |http| {
//!     http.get("/", |request| request.reply("Hello world!"));
//!     http.get("/chat", |request| request.event_stream().subscribe("chat"));
//!     http.post("/message", |request| match request.form("message") {
//!         Some(text) => {
//!             request.reactor.publish("chat", Event::new("message").data(text));
//!             request.reply("message sent")
//!         }
//!         None => request.reply(Status::BAD_REQUEST),
//!     });
//!     http.get("/later", |request| {
//!         let responder = request.reply_later();
//!         request.reactor.after(Duration::from_secs(2), move |cx| cx.reactor.reply(responder, "done"));
//!     });
//!     http.websocket("/ws", |ws| ws.on_message(|ws, message| ws.publish("chat", message)));
//! }))?;
//! # std::io::Result::Ok(())
//! ```
//!
//! Callbacks that share more than closures can hold are one object: a [`WebSocketHandler`], given to
//! [`WebSocketCallbacks::handler`].
//!
//! The other side is the same with `connect` in its name: [`Reactor::connect_websocket`] and
//! [`Reactor::connect_stream`] return an id at once, and the one outcome is `on_open` or `on_close`.
//!
//! # What is promised
//!
//! * Callbacks never nest, so none of the above needs a `RefCell`.
//! * `on_open` once, messages in wire order, `on_close` exactly once and last, with a [`Close`]
//!   that says who ended it and why.
//! * Memory for one client is bounded. Above the high watermark of its queue the route's
//!   [`Overflow`] policy decides, and reading from it pauses; see [`ConnectionOptions`].
//! * Every wait has a deadline, and every queue a limit: see [`Config`].
//! * A panic in a callback ends that connection and nothing else. (Not under `panic = "abort"`.)
//! * An idle loop makes no wake-ups.
//!
//! # Without the network
//!
//! [`Sim`] runs the same program on memory streams and an invented clock; [`websocket::Driver`] is
//! the protocol alone, on any I/O.
//!
//! # From other threads, and inside other loops
//!
//! [`Remote`] runs closures on the loop from any thread. An [`EventLoop`] made by [`EventLoop::new`]
//! runs a turn at a time, and says when it wants the next. Several reactors, one a core, are one
//! hub with a `hub::ReactorGroup`.
//!
//! # Platforms
//!
//! Tested on Linux; compiles for macOS and Windows. Windows has no Unix sockets (`unix:PATH` is an
//! error of kind `Unsupported`), no `Reactor::drain_on_signals`, no [`Config::reuse_port`], and its
//! [`EventLoop`] has no descriptor to watch from another loop.
//!
//! # Features
//!
//! `hub` adds the module `hub`, whose `mount` gives a [`Router`] the routes of the program: topics over
//! WebSocket, event streams and POST. `signals` adds `Reactor::drain_on_signals` on Unix; `program`, the default,
//! adds what the binary needs. An embedder wants `default-features = false`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// The code in the README and in docs/ is compiled, and run unless it is marked `no_run`. Only on Unix and with the hub,
// because some of it needs both.
#[cfg(all(doctest, unix, feature = "hub"))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/hub.md")]
    struct Hub;
    #[doc = include_str!("../docs/limits.md")]
    struct Limits;
    #[doc = include_str!("../docs/deploy.md")]
    struct Deploy;
    #[doc = include_str!("../docs/measure.md")]
    struct Measure;
}

#[cfg(doc)]
#[doc = include_str!("../docs/coming_from.md")]
pub mod coming_from {}

mod client;
#[cfg(feature = "hub")]
pub mod hub;
pub mod protocol;
pub mod pubsub;
mod reactor;
mod server;
mod session;

#[doc(inline)]
pub use client::websocket::{WebSocketClient, WebSocketClientId};
#[doc(inline)]
pub use protocol::http::Status;
#[doc(inline)]
pub use protocol::websocket;
#[doc(inline)]
pub use protocol::websocket::{Message, ToMessage};
#[doc(inline)]
pub use pubsub::{Event, EventId, TopicError, WireFormat};
#[doc(inline)]
pub use reactor::close::{Close, CloseCause, Deadline, Sent};
pub use reactor::config::{Config, ConfigError, ConnectionOptions, Overflow, QUEUED_MESSAGE_BYTES};
pub use reactor::id::{ConnId, ConnMap, ListenerId};
pub use reactor::reactor::{Cx, Reactor};
pub use reactor::remote::{ReactorEnded, Remote};
#[doc(inline)]
pub use reactor::sim::{Received, Sim, SimSocket, SimStream};
#[doc(inline)]
pub use reactor::stats::{Histogram, Stats};
#[doc(inline)]
pub use reactor::time::timers::TimerId;
pub use reactor::topics::Published;
pub use reactor::transport::Peer;
pub use reactor::transport::endpoint::{ConnectOptions, ListenOptions};
pub use reactor::transport::listener::Address;
#[doc(inline)]
pub use reactor::transport::memory::Faults;
#[doc(inline)]
pub use reactor::{EventLoop, SetupResult};
#[doc(inline)]
pub use server::origins::Origins;
#[doc(inline)]
pub use server::reply::{Body, HeaderError, Reply, Responder};
#[doc(inline)]
pub use server::request::{EventStream, Request};
#[doc(inline)]
pub use server::router::Router;
#[doc(inline)]
pub use server::websocket::WebSocketRoute;
#[doc(inline)]
pub use session::stream::{Stream, StreamCallbacks};
#[doc(inline)]
pub use session::websocket::{Handshake, WebSocketCallbacks, WebSocketHandler, Ws};
