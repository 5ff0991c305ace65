//! Every limit and every deadline, with safe defaults, in one place.
//!
//! `docs/limits.md` has the same fields with their defaults; a test compares the two.

use std::borrow::Cow;
use std::time::Duration;
use std::{fmt, io};

use crate::protocol::network::Network;
use crate::protocol::{http, websocket};
use crate::pubsub;

/// The smallest read buffer, in bytes.
const READ_BUFFER_BYTES_MIN: usize = 64 * 1024;

/// The highest limit of messages a second: time is counted in steps of 256 ns.
const MESSAGES_PER_SECOND_MAX: u32 = 1_000_000;

/// The least memory for all connections together, in bytes.
const MEMORY_BYTES_MIN: usize = 64 * 1024;

/// The policy for a message to a connection whose queue is above its high watermark: a slow
/// consumer.
///
/// Replies, control frames and messages of which some bytes were written are never dropped, because
/// the stream would be broken. HTTP answers are always under [`Close`](Overflow::Close): a body
/// with a hole in it would look whole. The default is `Close`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// End the connection: WebSocket close code 1013, the end of an event stream, a reset of a raw
    /// connection. Queued messages of which no byte was written are dropped.
    #[default]
    Close,
    /// Drop the new message.
    DropNewest,
    /// Drop queued messages, oldest first, until the queue is at the high watermark.
    DropOldest,
    /// Keep only the latest message of each key. A queue that comes above its high watermark drops
    /// the messages that a later one of their key supersedes. From then on a new message takes the
    /// place of the older one of its key, until the queue is below its low watermark and half of the
    /// high one. If there is no older one and no room, the oldest message is dropped. The key of a
    /// publication is its topic, the key of a message is the argument of
    /// [`send_keyed`](crate::Reactor::send_keyed).
    LatestPerKey,
}

/// Queues, policies, deadlines and limits of connections, which may differ from route to route.
///
/// A route starts with those of its listener, a listener with [`Config::options`]. A deadline
/// passes up to 67 ms late, and never early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The high watermark, in bytes: above it a connection is a slow consumer. Each message counts
    /// its bytes and [`QUEUED_MESSAGE_BYTES`]. Messages of the application fill the queue to this
    /// and one message at most; those from other connections to twice this and one message, while the
    /// loop has no time to offer the queue to the kernel. 1 MiB by default; at least 1.
    pub queue_high_bytes: usize,
    /// The low watermark, in bytes: `on_drain` is called when a queue comes below it that was above
    /// the high watermark, or during which the application paused reading. 256 KiB by default. A
    /// value above the high watermark counts as the high watermark.
    pub queue_low_bytes: usize,
    /// The policy for messages above the high watermark. [`Overflow::Close`] by default.
    pub overflow: Overflow,
    /// WebSocket frame and message limits, in bytes, and the number of fragments. 1 MiB each and no limit of
    /// fragments by default.
    pub websocket: websocket::Limits,
    /// How WebSocket messages are compressed, if the peer agrees. [`Deflate::None`](websocket::Deflate::None) by
    /// default. `websocket` limits messages as they are when they are inflated.
    #[cfg(feature = "deflate")]
    pub deflate: websocket::Deflate,
    /// The most messages that a WebSocket peer may send in a second, and as many at once after a second of
    /// rest. Above it reading pauses until the next message is allowed, up to 67 ms longer; more pings and
    /// pongs than this in a second close the connection with 1008. Messages are then delivered without the
    /// fast path. HTTP requests and raw streams are not counted. `None`, no limit, by default; from 1 to
    /// 1,000,000.
    pub messages_per_second_max: Option<u32>,
    /// Time without a complete message, a ping or a pong from a WebSocket peer after which it gets a ping; for some
    /// connections up to a quarter less, so that clients that came together are not pinged together. Each
    /// 16 KiB of a message that is coming add a second. 25 seconds by default; `None` for no pings; not zero.
    pub ping_interval: Option<Duration>,
    /// Time after a ping in which the peer must send a whole frame, or it is aborted. Does not pass
    /// while the peer is not read, because it is paused or its queue is above the high watermark;
    /// then `write_timeout` holds. 20 seconds by default; not zero.
    pub pong_timeout: Duration,
    /// Time from one comment of an event stream to the next, whether or not events are sent, so that proxies
    /// keep it open; for some connections up to a quarter less, as above. 15 seconds by default; `None` for
    /// no comments; not zero.
    pub heartbeat_interval: Option<Duration>,
    /// Time without bytes from the peer after which a raw connection is closed. Does not pass while
    /// it is paused. `None`, no limit, by default; not zero.
    pub idle_timeout: Option<Duration>,
    /// Time after which a request that was taken with `reply_later` or `decide_later` is answered with 503.
    /// 60 seconds by default; not zero.
    pub reply_timeout: Duration,
    /// Time in which a peer must take some of its queued bytes, or it is aborted. 30 seconds by
    /// default; not zero.
    pub write_timeout: Duration,
    /// The rate at which a peer must take its queued bytes at least, in bytes per second. Bytes that it takes put
    /// `write_timeout` off by as much time as this rate gives them, and no further than a whole
    /// `write_timeout`: a peer that takes a byte now and then would otherwise hold its queue for years. 256 by
    /// default; 0 for no minimum.
    pub write_bytes_per_second_min: u32,
    /// The last words to a WebSocket that ends politely, in a drain or by `age_max`. No message, and 1001, by default.
    pub goodbye: Goodbye,
    /// Time after which a connection ends politely, so that clients spread over new servers: a WebSocket by its
    /// `goodbye`, an event stream after its last whole event, a raw stream by a half close; an HTTP
    /// connection closes after its next answer. For some connections up to a quarter less, so that clients
    /// that came together do not go together. Counted from the moment at which the connection has become what
    /// it is. `None`, no limit, by default; not zero.
    pub age_max: Option<Duration>,
    /// Time from the first step of closing to the end of the socket, whatever the peer does; for
    /// HTTP, from the end of the last answer. 10 seconds by default; not zero.
    pub close_timeout: Duration,
}

/// The last words to a WebSocket. Clients of some protocols decide by them when they come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// A text message, if one is sent before the close.
    pub message: Option<Cow<'static, str>>,
    /// The close code. 1001, "going away", by default. One that must not be sent goes out as 1000.
    pub code: u16,
    /// The reason for the close, in at most 123 bytes; a longer one is cut.
    pub reason: Cow<'static, str>,
}

impl Default for Goodbye {
    fn default() -> Self {
        Goodbye {
            message: None,
            code: 1001,
            reason: "going away".into(),
        }
    }
}

/// The overhead that a queued message counts beside its bytes: 64 bytes. It stands for the memory
/// of the queue itself, so that many tiny messages are bounded too.
pub const QUEUED_MESSAGE_BYTES: usize = 64;

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            queue_high_bytes: 1024 * 1024,
            queue_low_bytes: 256 * 1024,
            overflow: Overflow::Close,
            websocket: websocket::Limits::default(),
            #[cfg(feature = "deflate")]
            deflate: websocket::Deflate::None,
            messages_per_second_max: None,
            ping_interval: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(20),
            heartbeat_interval: Some(Duration::from_secs(15)),
            idle_timeout: None,
            reply_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            write_bytes_per_second_min: 256,
            goodbye: Goodbye::default(),
            age_max: None,
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// Limits and deadlines of a reactor. All are on by default, except those whose default is `None`.
///
/// [`checked`](Config::checked) refuses values with which a reactor could not work; every reactor
/// calls it at its start. A deadline passes up to 67 ms late, and never early.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size of the one read buffer of the loop, in bytes. Also the most that one connection may
    /// leave unread while its reading is paused. 256 KiB by default; at least 64 KiB.
    pub read_buffer_bytes: usize,
    /// The most that is read from one connection in one turn, in bytes; the rest waits for the next
    /// turn. 512 KiB by default; at least 1.
    pub read_budget_bytes: usize,
    /// The most time in which messages of one connection are delivered in one turn; the rest waits for
    /// the next turn. While several sources are ready, a connection has an equal share of
    /// `dispatch_time_budget`, at least 250 us and at most this. Connections that have more input are read
    /// again behind all others, with shares of their own, at least one in each turn. Callbacks are not
    /// interrupted: the clock is checked after each message that takes long, and after up to 32 that do
    /// not. After a flush that took longer, the messages of all connections together may take as long as it
    /// did, in equal shares: with fewer messages in a turn a fan-out needs more writes. 5 ms by default.
    pub read_time_budget: Duration,
    /// Time in which one turn handles sources that are ready: accepting, reading, and the callbacks
    /// of what comes. Sources that are left come first in the next turn, in the same order. The
    /// closures of other threads, the ticks and the timers of a turn have as long together, and so have the
    /// calls of `on_drain` and `on_close`. Checked between two sources or calls. 20 ms by default; not zero.
    pub dispatch_time_budget: Duration,
    /// Time in which one turn goes on with TLS handshakes; the others go on in the next turn, mostly those first
    /// whose peers have answered us. As long as 128 wait, listeners for TLS accept no others. At least one step is
    /// done in each turn. A signature takes up to a millisecond: without
    /// a share of their own, many clients that come back at once would keep those who are connected
    /// waiting. 2 ms by default; not zero.
    pub handshake_time_budget: Duration,
    /// Time for which one turn writes what is queued for connections. Connections that are left come
    /// first in the next turn. One flush offers the kernel at most 1 MiB of one connection's queue.
    /// 20 ms by default; not zero.
    pub flush_time_budget: Duration,
    /// The most connections that are accepted from one listener in one turn. 64 by default; at
    /// least 1.
    pub accepts_per_turn: usize,
    /// The most ticks that run in one turn, and the most closures of other threads. 1024 by
    /// default; at least 1.
    pub ticks_per_turn: usize,
    /// Accepting pauses while this many connections are open; new clients wait in the kernel's
    /// backlog. 1,000,000 by default; at least 1.
    pub connections_max: usize,
    /// The most bytes that all connections together may make the reactor hold: queues (a publication to
    /// many members once), messages, heads and bodies that are not complete, and subscriptions. Above seven
    /// eighths of it accepting pauses; above all of it the connections that hold most are ended, a
    /// WebSocket with 1013, a request that waits for its answer with 503. Memory of the kernel, of the
    /// state and of callbacks is not counted. `None`, no limit, by default; at least 64 KiB. Reactors of a
    /// `ReactorGroup` (feature `hub`) share one limit.
    pub memory_bytes_max: Option<usize>,
    /// The most connections of one address to the listeners of this reactor; of IPv6 the addresses of a /64
    /// count as one. One more gets 429, or on a raw stream a reset. Loopback addresses and trusted proxies are
    /// not counted. `None`, no limit, by default; not zero. The reactors of a `ReactorGroup` (feature `hub`), and
    /// those that [share their counts](crate::Reactor::share_client_counts), have one limit together.
    pub connections_per_address_max: Option<u32>,
    /// The most connections that one address may make in a second, counted and exempted as above. `None`, no
    /// limit, by default; not zero.
    pub handshakes_per_second_max: Option<u32>,
    /// The most connections that all clients together may make in a second. Above it accepting pauses, so that
    /// further clients wait in the kernel's backlog and are served in the next second. Connections of loopback
    /// addresses and of Unix sockets are not counted, unless they come to a listener with
    /// [`proxy_protocol`](crate::ListenOptions::proxy_protocol), and a listener on such an address does not
    /// pause. `None`, no limit, by default; not zero. Shared by reactors as above.
    pub handshakes_per_second_total_max: Option<u32>,
    /// Proxies whose `X-Forwarded-For` or `Forwarded` names the client, which then counts as above by its own
    /// address, and whose `X-Forwarded-Proto` or `Forwarded` says the scheme by which the client asked. The lists
    /// are read from the right, as far as their addresses are trusted proxies. A proxy may
    /// hide its client, as by `unknown`: limits by address do not hold for it. A request whose headers contradict
    /// each other or are malformed gets 400. Empty by default.
    pub trusted_proxies: Vec<Network>,
    /// Whether every peer on a Unix socket is such a proxy too. `false` by default: the headers of a Unix socket
    /// then name no client, and its clients have no address.
    pub trusts_unix_proxies: bool,
    /// The kernel's queue of unaccepted connections, for each listener. 4096 by default; at least
    /// 1. The kernel may lower it (`net.core.somaxconn` on Linux).
    pub listen_backlog: u32,
    /// Whether several reactors or processes may listen on one port and share its connections
    /// (`SO_REUSEPORT`; Unix only). Off by default, because a second program on the port by mistake
    /// would take half of the clients without an error.
    pub reuse_port: bool,
    /// Time for which accepting pauses when the process is out of file descriptors (EMFILE), or
    /// when every attempt of a turn fails. 500 ms by default; not zero.
    pub accept_backoff: Duration,
    /// Time for which a TCP peer may leave sent bytes unacknowledged, or its window closed, before the kernel
    /// ends the connection (`TCP_USER_TIMEOUT`; Linux only). Without it the kernel goes on sending to a peer
    /// that has vanished for some 15 minutes. 2 minutes by default; `None` for the kernel's own; not zero.
    pub unacknowledged_timeout: Option<Duration>,
    /// The most bytes that the kernel holds for one TCP connection until its peer has taken them
    /// (`SO_SNDBUF`). Linux doubles it for its own overhead, and allows no more than
    /// `net.core.wmem_max`. The kernel's own limit is some megabytes: small messages to a slow client would
    /// be seconds old, and many slow clients would fill the memory. A client gets at most this much in each
    /// round trip. Unix sockets keep the kernel's limit (`net.core.wmem_default`). 512 KiB by default; `None`
    /// for the kernel's own; at least 4 KiB.
    pub send_buffer_bytes_max: Option<usize>,
    /// The most bytes that the kernel takes for one TCP connection and has not sent yet
    /// (`TCP_NOTSENT_LOWAT`; Linux only). With 16 KiB, for example, messages wait in the queue, where the
    /// overflow policy can drop them, and not in the kernel; a fast connection then needs more writes.
    /// `None`, no limit, by default; at least 1.
    pub unsent_bytes_max: Option<u32>,
    /// Limits of HTTP heads and bodies. `head_bytes_max` is at least 1, and less than
    /// `read_buffer_bytes`.
    pub http: http::Limits,
    /// Time from the moment at which a connection is open, or from the first byte of a later request, to the end
    /// of the request's head. Before that, a listener's connection has as long for the header of the PROXY protocol, or
    /// for the TLS handshake, where the listener requires it, and at most twice as long for both; time that a TLS
    /// handshake waits for those of others is not counted. `Reactor::start_tls` gives a TLS handshake as long in either
    /// role. For a WebSocket client, time from the moment at which the connection is made, TLS included, to the end of
    /// the head of the server's answer. 10 seconds by default; not zero.
    pub head_timeout: Duration,
    /// Time from the end of a head to the end of its body; each 16 KiB that come add a second. 30
    /// seconds by default; not zero.
    pub body_timeout: Duration,
    /// Time between the end of an answer and the next request. 30 seconds by default; not zero.
    pub keep_alive_timeout: Duration,
    /// The most requests that are answered on one connection. 100,000 by default; at least 1.
    pub requests_per_connection_max: u32,
    /// Time for a connection to another server to be made: the look-up and all addresses of a name, the tunnel of a
    /// proxy and the TLS handshake together. [`HttpClientOptions`](crate::HttpClientOptions) has its own. 10 seconds
    /// by default; not zero.
    pub connect_timeout: Duration,
    /// Time after which the next address is tried beside one that has not answered. 250 ms by
    /// default. Source: RFC 8305, section 5.
    pub connect_stagger: Duration,
    /// The most names that are looked up at the same time, each in a thread; others wait, within
    /// their `connect_timeout`. 4 by default; at least 1.
    pub lookups_max: usize,
    /// The most threads on which operations of [`Reactor::defer`](crate::Reactor::defer) run. They are started when they
    /// are needed. 4 by default; at least 1.
    pub defer_threads_max: usize,
    /// The most operations of [`Reactor::defer`](crate::Reactor::defer) that are under way: they wait for a thread, run,
    /// or wait for their `done`. One more is refused. 1024 by default; at least 1.
    pub deferred_max: usize,
    /// The most files that answers keep open at the same time, and as many may wait until they are opened; a request
    /// for one more gets 503. A file of up to 256 KiB is not kept open. Files count against the descriptors of the process as connections do. 1024 by
    /// default; at least 1.
    pub open_files_max: usize,
    /// The most child processes of [`Reactor::process`](crate::Reactor::process) at the same time, each with up to three
    /// descriptors and a thread that waits for its end. One more is refused. 64 by default.
    pub processes_max: usize,
    /// The most topics and patterns that one member may subscribe to. 1000 by default.
    pub subscriptions_max: usize,
    /// The most subscriptions of all members of this reactor together. `None`, no limit, by default.
    pub subscriptions_total_max: Option<usize>,
    /// The most patterns that one member may subscribe to; they count as subscriptions too. Each
    /// publication is compared to every pattern that has members. 32 by default.
    pub patterns_max: usize,
    /// A callback that takes longer than this is logged by name and counted. 100 ms by default.
    pub slow_callback: Duration,
    /// WebSocket messages and publications of fewer bytes are not compressed, where
    /// [`deflate`](ConnectionOptions::deflate) is agreed: a shorter one leaves in one packet in any case, and
    /// compressing it costs as much as sending it. 1024 by default.
    #[cfg(feature = "deflate")]
    pub deflate_bytes_min: u16,
    /// The options that listeners and clients start with.
    pub options: ConnectionOptions,
}

/// A value of a [`Config`], or of [`ConnectionOptions`], with which a reactor could not work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The field, such as `ticks_per_turn` or `http.head_bytes_max`.
    pub field: &'static str,
    /// The value of the field.
    pub value: String,
    /// The range that was expected, such as `at least 1`.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            field,
            value,
            expected,
        } = self;
        write!(f, "{field} is {value}: expected {expected}")
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

pub(crate) fn at_least(field: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
    if least <= value {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: value.to_string(),
        expected: format!("at least {least}"),
    })
}

pub(crate) fn not_zero(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    if !value.is_zero() {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: format!("{value:?}"),
        expected: "more than zero".to_owned(),
    })
}

impl ConnectionOptions {
    /// Returns the same options if every value is possible. A listener and a client check theirs
    /// when they are made.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that is refused: `queue_high_bytes` below 1, a timeout or
    /// interval of zero, or a limit that is given and zero.
    pub fn checked(self) -> Result<ConnectionOptions, ConfigError> {
        at_least("queue_high_bytes", self.queue_high_bytes, 1)?;
        not_zero("write_timeout", self.write_timeout)?;
        not_zero("close_timeout", self.close_timeout)?;
        not_zero("reply_timeout", self.reply_timeout)?;
        not_zero("pong_timeout", self.pong_timeout)?;
        if let Some(fragments) = self.websocket.fragments_max {
            at_least("websocket.fragments_max", fragments as usize, 1)?;
        }
        if let Some(messages) = self.messages_per_second_max {
            at_least("messages_per_second_max", messages as usize, 1)?;
            if MESSAGES_PER_SECOND_MAX < messages {
                return Err(ConfigError {
                    field: "messages_per_second_max",
                    value: messages.to_string(),
                    expected: format!("at most {MESSAGES_PER_SECOND_MAX}"),
                });
            }
        }
        let intervals = [
            ("ping_interval", self.ping_interval),
            ("heartbeat_interval", self.heartbeat_interval),
            ("idle_timeout", self.idle_timeout),
            ("age_max", self.age_max),
        ];
        for (field, interval) in intervals {
            if let Some(interval) = interval {
                not_zero(field, interval)?;
            }
        }
        Ok(self)
    }
}

impl Config {
    /// Returns the same configuration if every value is possible. Every reactor checks its own at
    /// its start.
    ///
    /// With a budget of zero the loop would spin for ever, with a timeout of zero each connection
    /// would end at once, and a head that is longer than the read buffer could never be parsed.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that is refused. `docs/limits.md` lists the ranges.
    pub fn checked(self) -> Result<Config, ConfigError> {
        at_least(
            "read_buffer_bytes",
            self.read_buffer_bytes,
            READ_BUFFER_BYTES_MIN,
        )?;
        at_least("read_budget_bytes", self.read_budget_bytes, 1)?;
        not_zero("dispatch_time_budget", self.dispatch_time_budget)?;
        not_zero("handshake_time_budget", self.handshake_time_budget)?;
        not_zero("flush_time_budget", self.flush_time_budget)?;
        at_least("accepts_per_turn", self.accepts_per_turn, 1)?;
        at_least("ticks_per_turn", self.ticks_per_turn, 1)?;
        at_least("connections_max", self.connections_max, 1)?;
        if let Some(bytes) = self.memory_bytes_max {
            at_least("memory_bytes_max", bytes, MEMORY_BYTES_MIN)?;
        }
        let by_address = [
            (
                "connections_per_address_max",
                self.connections_per_address_max,
            ),
            ("handshakes_per_second_max", self.handshakes_per_second_max),
            (
                "handshakes_per_second_total_max",
                self.handshakes_per_second_total_max,
            ),
        ];
        for (field, limit) in by_address {
            if let Some(limit) = limit {
                at_least(field, limit as usize, 1)?;
            }
        }
        at_least("listen_backlog", self.listen_backlog as usize, 1)?;
        at_least("lookups_max", self.lookups_max, 1)?;
        at_least("defer_threads_max", self.defer_threads_max, 1)?;
        at_least("deferred_max", self.deferred_max, 1)?;
        at_least("open_files_max", self.open_files_max, 1)?;
        at_least(
            "requests_per_connection_max",
            self.requests_per_connection_max as usize,
            1,
        )?;
        at_least("http.head_bytes_max", self.http.head_bytes_max, 1)?;
        // A head that fills the buffer leaves no room to read on, nor for what comes behind it.
        if self.read_buffer_bytes <= self.http.head_bytes_max {
            return Err(ConfigError {
                field: "http.head_bytes_max",
                value: self.http.head_bytes_max.to_string(),
                expected: format!(
                    "less than read_buffer_bytes, which is {}",
                    self.read_buffer_bytes
                ),
            });
        }
        not_zero("head_timeout", self.head_timeout)?;
        not_zero("body_timeout", self.body_timeout)?;
        not_zero("keep_alive_timeout", self.keep_alive_timeout)?;
        not_zero("connect_timeout", self.connect_timeout)?;
        not_zero("accept_backoff", self.accept_backoff)?;
        if let Some(bytes) = self.send_buffer_bytes_max {
            at_least("send_buffer_bytes_max", bytes, 4096)?;
        }
        if let Some(bytes) = self.unsent_bytes_max {
            at_least("unsent_bytes_max", bytes as usize, 1)?;
        }
        if let Some(timeout) = self.unacknowledged_timeout {
            not_zero("unacknowledged_timeout", timeout)?;
        }
        Ok(Config {
            options: self.options.checked()?,
            ..self
        })
    }

    pub(crate) fn subscription_limits(&self) -> pubsub::Limits {
        pubsub::Limits {
            subscriptions_max: self.subscriptions_max,
            patterns_max: self.patterns_max,
            total_max: self.subscriptions_total_max.unwrap_or(usize::MAX),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            read_buffer_bytes: 256 * 1024,
            read_budget_bytes: 512 * 1024,
            read_time_budget: Duration::from_millis(5),
            dispatch_time_budget: Duration::from_millis(20),
            handshake_time_budget: Duration::from_millis(2),
            flush_time_budget: Duration::from_millis(20),
            accepts_per_turn: 64,
            ticks_per_turn: 1024,
            connections_max: 1_000_000,
            memory_bytes_max: None,
            connections_per_address_max: None,
            handshakes_per_second_max: None,
            handshakes_per_second_total_max: None,
            trusted_proxies: Vec::new(),
            trusts_unix_proxies: false,
            listen_backlog: 4096,
            reuse_port: false,
            accept_backoff: Duration::from_millis(500),
            unacknowledged_timeout: Some(Duration::from_secs(120)),
            send_buffer_bytes_max: Some(512 * 1024),
            unsent_bytes_max: None,
            http: http::Limits::default(),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(30),
            requests_per_connection_max: 100_000,
            connect_timeout: Duration::from_secs(10),
            connect_stagger: Duration::from_millis(250),
            lookups_max: 4,
            defer_threads_max: 4,
            deferred_max: 1024,
            open_files_max: 1024,
            processes_max: 64,
            subscriptions_max: 1000,
            subscriptions_total_max: None,
            patterns_max: 32,
            slow_callback: Duration::from_millis(100),
            #[cfg(feature = "deflate")]
            deflate_bytes_min: 1024,
            options: ConnectionOptions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        assert!(Config::default().checked().is_ok());
        assert!(ConnectionOptions::default().checked().is_ok());
    }

    #[test]
    fn a_refused_value_is_named_with_the_expected_range() {
        let cases: &[(fn(&mut Config), &str)] = &[
            (
                |config| config.memory_bytes_max = Some(0),
                "memory_bytes_max is 0: expected at least 65536",
            ),
            (
                |config| config.ticks_per_turn = 0,
                "ticks_per_turn is 0: expected at least 1",
            ),
            (
                |config| config.accepts_per_turn = 0,
                "accepts_per_turn is 0: expected at least 1",
            ),
            (
                |config| config.send_buffer_bytes_max = Some(4095),
                "send_buffer_bytes_max is 4095: expected at least 4096",
            ),
            (
                |config| config.unsent_bytes_max = Some(0),
                "unsent_bytes_max is 0: expected at least 1",
            ),
            (
                |config| config.read_budget_bytes = 0,
                "read_budget_bytes is 0: expected at least 1",
            ),
            (
                |config| config.connections_max = 0,
                "connections_max is 0: expected at least 1",
            ),
            (
                |config| config.lookups_max = 0,
                "lookups_max is 0: expected at least 1",
            ),
            (
                |config| config.defer_threads_max = 0,
                "defer_threads_max is 0: expected at least 1",
            ),
            (
                |config| config.deferred_max = 0,
                "deferred_max is 0: expected at least 1",
            ),
            (
                |config| config.open_files_max = 0,
                "open_files_max is 0: expected at least 1",
            ),
            (
                |config| config.read_buffer_bytes = 4096,
                "read_buffer_bytes is 4096: expected at least 65536",
            ),
            (
                |config| config.http.head_bytes_max = 1024 * 1024,
                "http.head_bytes_max is 1048576: expected less than read_buffer_bytes, which is 262144",
            ),
            (
                |config| config.head_timeout = Duration::ZERO,
                "head_timeout is 0ns: expected more than zero",
            ),
            (
                |config| config.options.websocket.fragments_max = Some(0),
                "websocket.fragments_max is 0: expected at least 1",
            ),
            (
                |config| config.options.messages_per_second_max = Some(0),
                "messages_per_second_max is 0: expected at least 1",
            ),
            (
                |config| config.options.messages_per_second_max = Some(2_000_000),
                "messages_per_second_max is 2000000: expected at most 1000000",
            ),
            (
                |config| config.options.age_max = Some(Duration::ZERO),
                "age_max is 0ns: expected more than zero",
            ),
            (
                |config| config.options.ping_interval = Some(Duration::ZERO),
                "ping_interval is 0ns: expected more than zero",
            ),
        ];
        for (change, expected) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.checked().unwrap_err();
            assert_eq!(error.to_string(), *expected);
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
        }
    }
}
