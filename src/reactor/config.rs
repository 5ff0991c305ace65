//! Every limit and every deadline, with safe defaults, in one place.

use std::time::Duration;
use std::{fmt, io};

use crate::protocol::{http, websocket};
use crate::pubsub;

/// The smallest read buffer, in bytes.
const READ_BUFFER_BYTES_MIN: usize = 64 * 1024;

/// What happens to a message for a connection whose queue is above its high watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// End the connection: WebSocket close code 1013, the end of an event stream, a reset of a
    /// raw connection. What was queued and not begun is dropped.
    #[default]
    Close,
    /// Drop the message that does not fit.
    DropNewest,
    /// Drop queued messages from the oldest on until the queue is at the watermark.
    DropOldest,
    /// Keep only the latest message of each key, in the place of the older one; when there is no
    /// older one of this key, drop the oldest. The key of a publication is its topic, that of
    /// `send_keyed` is given.
    LatestPerKey,
}

/// What may differ from route to route: queues, policies, deadlines and limits of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Above this many queued bytes a connection is a slow consumer. Each message counts its
    /// bytes and [`QUEUED_MESSAGE_BYTES`]. The queue never holds more than this and one message.
    pub queue_high_bytes: usize,
    /// Below this many queued bytes a queue that was above the high watermark, or over which reading
    /// was paused, counts as drained: `on_drain`.
    pub queue_low_bytes: usize,
    /// What happens above the high watermark.
    pub overflow: Overflow,
    /// WebSocket frame and message limits, in bytes.
    pub websocket: websocket::Limits,
    /// After this long without a whole frame from a WebSocket peer it is pinged. Each 16 KiB of a
    /// message that is coming earn a second more.
    pub ping_interval: Option<Duration>,
    /// After a ping, a peer that sends no whole frame for this long is gone. Not while it is not read:
    /// paused, or above its high watermark, where `write_timeout` holds.
    pub pong_timeout: Duration,
    /// An event stream gets a comment after this long, so that proxies keep it open.
    pub heartbeat_interval: Option<Duration>,
    /// A raw connection on which nothing came for this long is closed. Not while it is paused.
    pub idle_timeout: Option<Duration>,
    /// A request that was taken with `reply_later` is answered 503 after this long.
    pub reply_timeout: Duration,
    /// A peer that takes none of the bytes that wait for it for this long is gone.
    pub write_timeout: Duration,
    /// From the first step of closing to the end of the socket, whatever the peer does. Of HTTP,
    /// from the end of the last answer.
    pub close_timeout: Duration,
}

/// What a queued message counts beside its bytes, so that many tiny ones are bounded too.
pub const QUEUED_MESSAGE_BYTES: usize = 64;

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            queue_high_bytes: 1024 * 1024,
            queue_low_bytes: 256 * 1024,
            overflow: Overflow::Close,
            websocket: websocket::Limits::default(),
            ping_interval: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(20),
            heartbeat_interval: Some(Duration::from_secs(15)),
            idle_timeout: None,
            reply_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// Limits and deadlines of a reactor. All are on by default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size of the one read buffer of the loop, in bytes; at least 64 KiB. Also the most that one
    /// connection may leave unread while its reading is paused.
    pub read_buffer_bytes: usize,
    /// Read from one connection in one turn at the most, in bytes; the rest waits for the next.
    pub read_budget_bytes: usize,
    /// Messages of one connection are handed out for this long in one turn; the rest waits for the
    /// next. Looked at between messages. Where what goes out to many takes the loop longer than
    /// that, the messages of a turn may take as long together, and 50 ms at the most: what they
    /// lead to leaves with fewer writes.
    pub read_time_budget: Duration,
    /// Connections accepted from one listener in one turn at the most.
    pub accepts_per_turn: usize,
    /// Ticks, and arrivals from other threads, run in one turn at the most.
    pub ticks_per_turn: usize,
    /// Accepting pauses while this many connections are open.
    pub connections_max: usize,
    /// The kernel's queue of unaccepted connections, per listener.
    pub listen_backlog: u32,
    /// Several processes may listen on one port and share its connections (`SO_REUSEPORT`; Unix).
    pub reuse_port: bool,
    /// How long accepting pauses when the process is out of descriptors.
    pub accept_backoff: Duration,
    /// Limits of HTTP heads and bodies.
    pub http: http::Limits,
    /// From the first moment of a connection, or the first byte of a later request, to the end of
    /// its head.
    pub head_timeout: Duration,
    /// From the end of a head to the end of its body; each 16 KiB that come earn a second more.
    pub body_timeout: Duration,
    /// Between the end of an answer and the next request.
    pub keep_alive_timeout: Duration,
    /// Requests answered on one connection at the most.
    pub requests_per_connection_max: u32,
    /// For all addresses of a name together.
    pub connect_timeout: Duration,
    /// An address that has not answered for this long does not keep the next one from being tried
    /// beside it. Source: RFC 8305, section 5.
    pub connect_stagger: Duration,
    /// Names looked up at once at the most, each in a thread; the others wait, within their
    /// `connect_timeout`.
    pub lookups_max: usize,
    /// Names one member may subscribe to at the most.
    pub subscriptions_max: usize,
    /// Of these, patterns at the most. Each publication is compared to every pattern there is.
    pub patterns_max: usize,
    /// A callback that takes longer is logged by name.
    pub slow_callback: Duration,
    /// What routes start from.
    pub options: ConnectionOptions,
}

/// A value of a [`Config`], or of [`ConnectionOptions`], that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The field, such as `ticks_per_turn` or `http.head_bytes_max`.
    pub field: &'static str,
    /// The value that it has.
    pub value: String,
    /// What was expected instead.
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

fn at_least(field: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
    if least <= value {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: value.to_string(),
        expected: format!("at least {least}"),
    })
}

fn not_zero(field: &'static str, value: Duration) -> Result<(), ConfigError> {
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
    /// The same options, when a connection can have them.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field whose value cannot be.
    pub fn checked(self) -> Result<ConnectionOptions, ConfigError> {
        at_least("queue_high_bytes", self.queue_high_bytes, 1)?;
        not_zero("write_timeout", self.write_timeout)?;
        not_zero("close_timeout", self.close_timeout)?;
        not_zero("reply_timeout", self.reply_timeout)?;
        not_zero("pong_timeout", self.pong_timeout)?;
        let intervals = [
            ("ping_interval", self.ping_interval),
            ("heartbeat_interval", self.heartbeat_interval),
            ("idle_timeout", self.idle_timeout),
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
    /// The same configuration, when a reactor can have it: a budget of zero would spin for ever, and a
    /// head that is longer than the read buffer could never be parsed. Every reactor checks this at its
    /// start.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field whose value cannot be.
    pub fn checked(self) -> Result<Config, ConfigError> {
        at_least(
            "read_buffer_bytes",
            self.read_buffer_bytes,
            READ_BUFFER_BYTES_MIN,
        )?;
        at_least("read_budget_bytes", self.read_budget_bytes, 1)?;
        at_least("accepts_per_turn", self.accepts_per_turn, 1)?;
        at_least("ticks_per_turn", self.ticks_per_turn, 1)?;
        at_least("connections_max", self.connections_max, 1)?;
        at_least("listen_backlog", self.listen_backlog as usize, 1)?;
        at_least("lookups_max", self.lookups_max, 1)?;
        at_least(
            "requests_per_connection_max",
            self.requests_per_connection_max as usize,
            1,
        )?;
        at_least("http.head_bytes_max", self.http.head_bytes_max, 1)?;
        if self.read_buffer_bytes < self.http.head_bytes_max {
            return Err(ConfigError {
                field: "http.head_bytes_max",
                value: self.http.head_bytes_max.to_string(),
                expected: format!(
                    "at most read_buffer_bytes, which is {}",
                    self.read_buffer_bytes
                ),
            });
        }
        not_zero("head_timeout", self.head_timeout)?;
        not_zero("body_timeout", self.body_timeout)?;
        not_zero("keep_alive_timeout", self.keep_alive_timeout)?;
        not_zero("connect_timeout", self.connect_timeout)?;
        not_zero("accept_backoff", self.accept_backoff)?;
        Ok(Config {
            options: self.options.checked()?,
            ..self
        })
    }

    pub(crate) fn subscription_limits(&self) -> pubsub::Limits {
        pubsub::Limits {
            subscriptions_max: self.subscriptions_max,
            patterns_max: self.patterns_max,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            read_buffer_bytes: 256 * 1024,
            read_budget_bytes: 512 * 1024,
            read_time_budget: Duration::from_millis(5),
            accepts_per_turn: 64,
            ticks_per_turn: 1024,
            connections_max: 1_000_000,
            listen_backlog: 4096,
            reuse_port: false,
            accept_backoff: Duration::from_millis(500),
            http: http::Limits::default(),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(30),
            requests_per_connection_max: 100_000,
            connect_timeout: Duration::from_secs(10),
            connect_stagger: Duration::from_millis(250),
            lookups_max: 4,
            subscriptions_max: 1000,
            patterns_max: 32,
            slow_callback: Duration::from_millis(100),
            options: ConnectionOptions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be() {
        assert!(Config::default().checked().is_ok());
        assert!(ConnectionOptions::default().checked().is_ok());
    }

    #[test]
    fn a_value_that_cannot_be_is_named_with_what_was_expected() {
        let cases: [(fn(&mut Config), &str); 9] = [
            (
                |config| config.ticks_per_turn = 0,
                "ticks_per_turn is 0: expected at least 1",
            ),
            (
                |config| config.accepts_per_turn = 0,
                "accepts_per_turn is 0: expected at least 1",
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
                |config| config.read_buffer_bytes = 4096,
                "read_buffer_bytes is 4096: expected at least 65536",
            ),
            (
                |config| config.http.head_bytes_max = 1024 * 1024,
                "http.head_bytes_max is 1048576: expected at most read_buffer_bytes, which is 262144",
            ),
            (
                |config| config.head_timeout = Duration::ZERO,
                "head_timeout is 0ns: expected more than zero",
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
            assert_eq!(error.to_string(), expected);
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
        }
    }
}
