//! Pusher Channels, protocols 5 to 7, as messages, names and signatures: no socket and no clock.
//!
//! ```text
//!   channel      names of channels, and their kinds
//!   signature    who may subscribe, sign in, and call the HTTP API
//!   message      messages of clients, and those for them
//!   webhook      requests to the backend
//! ```
//!
//! Source: the documentation of Pusher Channels, and the clients `pusher-js` 8 and `pusher-http-node` 5.

pub mod channel;
pub mod message;
pub mod signature;
pub mod webhook;

/// The codes of errors, which are also codes of closed WebSockets. A client does not connect again after 4000 to
/// 4099, after a second at 4100 to 4199, and at once at 4200 to 4299.
pub mod code {
    /// The app demands TLS. The client tries again with `wss:` at once.
    pub const TLS_ONLY: u16 = 4000;
    /// There is no app with this key.
    pub const UNKNOWN_APP: u16 = 4001;
    /// The app is disabled.
    pub const DISABLED_APP: u16 = 4003;
    /// The app has as many connections as it may.
    pub const OVER_QUOTA: u16 = 4004;
    /// There is nothing at this path.
    pub const UNKNOWN_PATH: u16 = 4005;
    /// The version of the protocol is no number.
    pub const BAD_VERSION: u16 = 4006;
    /// The version of the protocol is not supported.
    pub const UNSUPPORTED_VERSION: u16 = 4007;
    /// The client has named no version of the protocol.
    pub const NO_VERSION: u16 = 4008;
    /// The connection has no right to be there: a wrong signature at sign-in, a foreign origin, or the application
    /// has ended the connections of its user.
    pub const UNAUTHORIZED: u16 = 4009;
    /// The server is full, or drains.
    pub const OVER_CAPACITY: u16 = 4100;
    /// The client has not answered a ping.
    pub const NO_PONG: u16 = 4201;
    /// A client event is refused. Sent as an error alone: a connection that is closed with it does not come back.
    pub const CLIENT_EVENT: u16 = 4301;
    /// The watchlist is too long. Sent as an error alone.
    pub const WATCHLIST: u16 = 4302;
}

/// The oldest and the newest version of the protocol that clients may ask for.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 5..=7;
