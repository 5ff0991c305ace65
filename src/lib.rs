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
//! [`Reactor::run`] takes your state and a setup. The setup gets the [`Reactor`] and tells it where to listen:
//! [`Reactor::websocket`] for WebSockets alone, [`Reactor::http`] for routes, event streams, later answers and
//! WebSockets on one port, [`Reactor::stream`] for raw bytes. The closures that you pass are your callbacks. A
//! callback runs once for each event and never inside another. Its first argument has three public fields:
//! `state` (yours), `reactor` (send, publish, timers, connect) and `id` (the connection). Timers, ticks and
//! closures from other threads get a [`Cx`], which has no `id`.
//!
//! Ids are `Copy` and can be stored anywhere: sending to a connection that is gone returns [`Sent::Gone`].
//! [`ConnMap`] stores a value for each connection, by its id.
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
//! The loop above uses `ws.reactor.send(*user, ..)`: `ws.send` borrows all of `ws`, so the compiler refuses it
//! (E0502) while `ws.state` is borrowed. The fields can be borrowed side by side.
//!
//! One port can serve several protocols, and a publication reaches the members of its topic over each of them, in
//! the same order:
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
//!     http.files("/static", "public");
//! }))?;
//! # std::io::Result::Ok(())
//! ```
//!
//! Callbacks that need data of their own are the methods of one object: a [`WebSocketHandler`], given to
//! [`WebSocketCallbacks::handler`].
//!
//! The client's side is the same with `connect` in its name: [`Reactor::connect_websocket`] and
//! [`Reactor::connect_stream`] return an id at once. Later `on_open` is called, or, if connecting failed,
//! `on_close` with the cause. A WebSocket client then gets `on_error` before `on_close`.
//! [`Reactor::http_client`] sends HTTP requests, each with a callback for its answer.
//!
//! Two clients come back by themselves after each end, with random pauses that grow ([`Backoff`]):
//! [`Reactor::websocket_link`] for a WebSocket, and [`Reactor::event_source`], which goes on behind the last event that
//! came:
//!
//! ```
//! # use std::time::Duration;
//! # use waterwheel::{Backoff, KeepLimits, Reactor, Sim};
//! # fn setup(reactor: &mut Reactor<()>) -> std::io::Result<()> {
//! let link = reactor.websocket_link("ws://localhost:8080/ws", |ws| {
//!     ws.reconnect(Backoff { max: Duration::from_secs(5), ..Backoff::default() });
//!     ws.keep_while_away(KeepLimits::default());
//!     ws.on_message(|_, message| println!("{message}"));
//!     ws.on_reconnect(|_, next| println!("attempt {} in {:?}: {}", next.attempt, next.pause, next.close));
//! })?;
//! // Kept until there is a connection, up to the limits.
//! link.send(reactor, "chat");
//!
//! reactor.event_source("http://localhost:8080/events?topic=chat", |events| {
//!     events.on_event(|_, event| println!("{}: {}", event.name, event.data));
//! })?;
//!
//! let client = reactor.http_client();
//! client.get(reactor, "http://localhost:8080/healthz", |_, answer| match answer {
//!     Ok(answer) => println!("{}", answer.status),
//!     Err(error) => println!("{error}"),
//! });
//! # Ok(())
//! # }
//! # let mut sim = Sim::new((), setup);
//! # sim.settle();
//! ```
//!
//! # TLS
//!
//! With the feature `tls`, [`ListenOptions`] gives a listener certificates from PEM files. A WebSocket, a route or a raw
//! stream on it has the same callbacks as without TLS:
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # fn main() -> std::io::Result<()> {
//! use waterwheel::tls::ServerTls;
//! use waterwheel::{ListenOptions, Reactor};
//!
//! let tls = ServerTls::builder().pair("fullchain.pem", "privkey.pem").build()?;
//! Reactor::run((), |reactor| {
//!     // `tls.replace(..)` gives later connections what was read anew.
//!     let address = ListenOptions::new("0.0.0.0:443").tls(tls.clone());
//!     reactor.websocket(address, |ws| ws.on_message(|ws, message| ws.send(message)))
//! })
//! # }
//! # #[cfg(not(feature = "tls"))]
//! # fn main() {}
//! ```
//!
//! Clients of `wss://` and `https://` URLs need no option: they trust the authorities of the system and check the
//! server's name. An authority of your own, or a pinned certificate, is part of a [`ClientTransport`], which each client
//! takes:
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # fn main() -> std::io::Result<()> {
//! # use waterwheel::Reactor;
//! use waterwheel::tls::ClientTls;
//! use waterwheel::{ClientTransport, CloseCause, HttpClientOptions};
//!
//! let tls = ClientTls::builder().ca("ca.pem").build()?;
//! let transport = ClientTransport::default().tls(tls);
//! Reactor::run((), |reactor| {
//!     let options = HttpClientOptions { transport: transport.clone(), ..HttpClientOptions::default() };
//!     let client = reactor.http_client_with(options)?;
//!     client.get(reactor, "https://localhost:8443/healthz", |_, answer| println!("{answer:?}"));
//!
//!     reactor.event_source("https://localhost:8443/events?topic=chat", |events| {
//!         events.transport(transport.clone());
//!         events.on_event(|_, event| println!("{}", event.data));
//!     })?;
//!
//!     reactor.websocket_link("wss://localhost:8443/ws", |ws| {
//!         ws.transport(transport);
//!         // Without this a certificate that is not trusted is tried again for ever. It stands in place of the rules
//!         // of the link for close codes: 1000 says that the server is done.
//!         ws.reconnect_if(|close| close.code != 1000 && !matches!(close.cause, CloseCause::Tls(_)));
//!         ws.on_close(|_, close| println!("{close}"));
//!     })
//! })
//! # }
//! # #[cfg(not(feature = "tls"))]
//! # fn main() {}
//! ```
//!
//! `Reactor::start_tls` begins TLS on a raw stream that is open.
//!
//! # Accepting a WebSocket
//!
//! [`WebSocketRoute::before_open`] decides whether a client is accepted, while it is still an HTTP request.
//! `request.id` there is the same id as `ws.id` in `on_open`, so a map in your state hands over what was found
//! out:
//!
//! ```
//! use waterwheel::{ConnMap, ListenerId, Reactor, Sim, Status};
//!
//! #[derive(Default)]
//! struct App {
//!     names: ConnMap<String>,
//! }
//!
//! fn setup(reactor: &mut Reactor<App>) -> std::io::Result<ListenerId> {
//!     reactor.websocket("0.0.0.0:8080", |ws| {
//!         ws.before_open(|request| {
//!             let name = request.query("name").ok_or(Status::UNAUTHORIZED)?;
//!             request.state.names.insert(request.id, name.into_owned());
//!             Ok(())
//!         });
//!         ws.on_open(|ws, _| {
//!             let name = ws.state.names.get(ws.id).map_or("nobody", String::as_str);
//!             ws.reactor.send(ws.id, format!("Hello {name}"))
//!         });
//!         ws.on_close(|ws, _| ws.state.names.remove(ws.id));
//!     })
//! }
//!
//! let mut sim = Sim::new(App::default(), setup);
//! let ada = sim.websocket("/?name=Ada");
//! assert_eq!(ada.received(), ["Hello Ada"]);
//! ```
//!
//! A decision that needs an answer from elsewhere may come in a later event: [`Request::decide_later`].
//!
//! # Rules
//!
//! * **No re-entry.** No method of the reactor calls one of your callbacks. A call such as `send` is queued
//!   or changes plain data, so your state needs no `RefCell`.
//! * **Once and last.** For each connection `on_open` is called once, then the messages in wire order. `on_error`
//!   follows if the peer broke the protocol, a deadline passed or the transport failed. `on_close` is called exactly
//!   once and last, with a [`Close`] that says who ended the connection and why. A server calls none of
//!   them for a handshake that it refused.
//! * **Bounded queues, with a policy.** `send` means accepted into a bounded queue. Above the queue's high
//!   watermark the [`Overflow`] policy of the route decides. Below the low watermark `on_drain` is called,
//!   also if the application paused reading while the queue was above that mark. With [`Overflow::Close`]
//!   reading from a connection pauses while its own queue is above the high watermark.
//! * **One slow member delays nobody.** A publication is encoded once for each wire format, and its bytes are shared.
//!   The cost of reaching one member does not depend on the queues of the others.
//! * **Every wait of a connection has a deadline, every queue of it a limit.** Most are fields of [`Config`] and
//!   [`ConnectionOptions`]; `docs/limits.md` lists the others. The queues of [`Remote`] and of
//!   [`Reactor::next_tick`] have no limit, because only the program fills them.
//! * **A panic ends one connection,** with close code 1011 or status 500. It is logged with the route and the
//!   callback, and counted. Timers and the loop go on. (Not under `panic = "abort"`.)
//! * **Fair turns.** The bytes and the time that one connection gets in a turn are limited, and so is the
//!   time of the turn as a whole; the rest waits for the next turn.
//! * **Idle means asleep.** A loop without work makes no wake-ups. When the process is out of descriptors,
//!   the loop pauses accepting and logs that.
//! * **The loop never blocks.** Names are looked up in other threads. A callback that takes longer than
//!   [`Config::slow_callback`] is logged with its route and its name.
//! * **One order.** All members of a topic get its messages in the same order, over every protocol and on every reactor
//!   of a `hub::ReactorGroup`.
//! * **Polite ends.** [`Reactor::stop`] ends the loop after the current callback. [`Reactor::drain`] stops accepting,
//!   spreads goodbyes over a window in the words of each protocol, flushes, and has a deadline.
//! * **Network input never panics.** A peer that breaks a protocol gets the right status or close code. A mistake of the
//!   program gets an error value.
//! * **No unsafe code:** `#![forbid(unsafe_code)]`.
//!
//! # In tests
//!
//! [`Sim`] runs the same program on memory streams and an invented clock. [`websocket::Driver`] is the WebSocket
//! protocol alone, for any I/O.
//!
//! # Other threads and other loops
//!
//! [`Reactor::process`] starts a child process, whose standard streams are connections.
//!
//! [`Remote`] runs closures on the loop from any thread, and [`Remote::call`] waits for their value. [`Reactor::defer`]
//! runs what blocks on other threads, and then its callback on the loop. Several reactors, one for each core, become one hub with a
//! `hub::ReactorGroup`.
//!
//! An [`EventLoop`] made by [`EventLoop::new`] runs one turn at a time and says when it needs the next. The outer loop
//! watches its descriptor:
//!
//! ```no_run
//! # #[cfg(unix)]
//! # mod unix {
//! use std::os::fd::{AsRawFd, RawFd};
//! use std::time::Duration;
//! use waterwheel::{Config, EventLoop};
//!
//! /// Returns when `descriptor` is readable or the time is over: poll, epoll, mio, a GUI's loop.
//! fn wait(descriptor: RawFd, timeout: Option<Duration>) { /* .. */ }
//!
//! fn main() -> std::io::Result<()> {
//!     let mut event_loop = EventLoop::new(Config::default(), ())?;
//!     event_loop.reactor().websocket("127.0.0.1:8082", |ws| ws.on_message(|ws, message| ws.send(message)))?;
//!     while event_loop.turn(Some(Duration::ZERO))? {
//!         wait(event_loop.as_raw_fd(), event_loop.next_wakeup());
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Coming from another library
//!
//! The page [`coming_from`] has the names of EventMachine, em-websocket, Faye, Cramp, Sinatra, Rack, tokio-tungstenite and axum beside ours.
//!
//! # Platforms
//!
//! Linux is tested; macOS and Windows compile. Windows has no Unix sockets (`unix:PATH` is an error of kind
//! `Unsupported`), no child processes, no `Reactor::drain_on_signals`, no [`Config::reuse_port`], and its [`EventLoop`] has no descriptor
//! to watch from another loop.
//!
//! # Features
//!
//! `hub` adds the module `hub`, whose `mount` gives a [`Router`] the routes of the program: topics over WebSocket,
//! event streams and POST. `redis` adds `Redis`, a client of Redis servers, and to
//! `hub` the hub of several nodes. `tls` adds the module `tls`: TLS for listeners and clients. `deflate` adds
//! compression of WebSocket messages. `signals` adds `Reactor::drain_on_signals` on Unix. `serve` adds what the binary needs except its load tool, and `program`, the default, the load
//! tool too: a program that embeds the library wants `default-features = false`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// The code in the README and in docs/ is compiled, and run unless it is marked `no_run`. Only on Unix and with the hub
// and TLS, because some of it needs them.
#[cfg(all(doctest, unix, feature = "hub", feature = "tls"))]
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

// rustdoc shows the methods of `Reactor` in the order of these lines: first those that listen, then those that
// connect. The empty lines keep rustfmt from sorting them.
mod server;

mod client;

#[cfg(feature = "hub")]
pub mod hub;
pub mod protocol;
pub mod pubsub;
mod reactor;
mod session;
#[cfg(feature = "tls")]
pub mod tls;

#[doc(inline)]
pub use client::client_transport::ClientTransport;
#[doc(inline)]
pub use client::connect::WebSocketClientId;
#[doc(inline)]
pub use client::event_source::{
    EventSource, EventSourceError, EventSourceReconnect, EventSourceSetup,
};
#[doc(inline)]
pub use client::http::{
    HttpClient, HttpClientOptions, HttpPart, HttpRequest, HttpRequestError, HttpRequestId,
    HttpResponse, HttpStep, ResponseHeaders,
};
#[doc(inline)]
pub use client::process::{Process, ProcessCallbacks};
pub use client::reconnect::Backoff;
#[doc(inline)]
pub use client::reconnection::{KeepLimits, Reconnect};
#[doc(inline)]
#[cfg(feature = "redis")]
pub use client::redis::{Redis, RedisError, RedisMessage, RedisSubscription, RedisUrlError};
pub use client::websocket::WebSocketClient;
#[doc(inline)]
pub use client::websocket_link::WebSocketLink;
#[doc(inline)]
pub use protocol::framing::{FramingError, LengthPrefix};
#[doc(inline)]
pub use protocol::http::{Accept, Status, TunnelError};
#[doc(inline)]
pub use protocol::network::{Network, NetworkError};

pub use protocol::websocket;
#[doc(inline)]
pub use protocol::websocket::{Message, ToMessage};
#[doc(inline)]
pub use pubsub::{Event, EventId, TopicError, WireFormat};
#[doc(inline)]
pub use reactor::addresses::ClientCounts;
#[doc(inline)]
pub use reactor::child::{ProcessExit, ProcessId};
#[doc(inline)]
pub use reactor::close::{Close, CloseCause, Deadline, Sent};
#[doc(inline)]
pub use reactor::close_counts::CloseCounts;
pub use reactor::config::{
    Config, ConfigError, ConnectionOptions, Goodbye, Overflow, QUEUED_MESSAGE_BYTES,
};
#[doc(inline)]
pub use reactor::defer::{DeferError, OperationPanicked};
pub use reactor::id::{ConnId, ConnMap, ListenerId};
pub use reactor::outcome::{EveryOutcome, Outcome};
pub use reactor::published::Published;
pub use reactor::reactor::{Cx, Reactor};
pub use reactor::remote::{CallError, ReactorEnded, Remote, RemoteCall};
#[doc(inline)]
pub use reactor::sim::{Received, Sim, SimSocket, SimStream, SimUdp};
pub use reactor::stats::{
    ConnectionCounts, Gauges, Histogram, RefusedHandshakes, Stats, TlsFailures,
};
#[doc(inline)]
pub use reactor::time::clock::SimClock;
#[doc(inline)]
pub use reactor::time::timers::TimerId;
pub use reactor::tls_error::TlsError;
pub use reactor::transport::datagram::MulticastInterface;
pub use reactor::transport::endpoint::{ConnectOptions, ListenOptions};
pub use reactor::transport::listener::Address;
#[doc(inline)]
pub use reactor::transport::memory::Faults;
pub use reactor::transport::proxy::HttpProxy;
pub use reactor::transport::socket::Peer;
pub use reactor::udp::UdpId;
#[cfg(unix)]
#[doc(inline)]
pub use reactor::watch::{Interest, Watch, WatchId};
#[doc(inline)]
pub use reactor::{EventLoop, SetupResult};
#[doc(inline)]
pub use server::answered::Answered;
#[doc(inline)]
pub use server::body_sender::BodySender;
#[doc(inline)]
pub use server::event_stream::{EventStream, Names};
pub use server::files::FilesOptions;
#[doc(inline)]
pub use server::origins::Origins;
#[doc(inline)]
pub use server::reply::{Body, HeaderError, Reply, Responder};
#[doc(inline)]
pub use server::request::Request;
pub use server::router::Router;
#[doc(inline)]
pub use server::upload::{Upload, UploadRoute};
#[doc(inline)]
pub use server::websocket::WebSocketRoute;
#[doc(inline)]
pub use session::handler::{Handshake, WebSocketHandler, Ws};
#[doc(inline)]
pub use session::stream::{Stream, StreamCallbacks, StreamHandler};
#[doc(inline)]
pub use session::udp::{Udp, UdpCallbacks};
#[doc(inline)]
pub use session::websocket::WebSocketCallbacks;
