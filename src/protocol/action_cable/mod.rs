//! ActionCable, the protocol `actioncable-v1-json`, as messages and signatures: no socket and no clock.
//!
//! ```text
//!   message   messages of clients, and those for them
//!   hook      calls of the application, and its answers
//!   signed    texts that Rails has signed: names of streams
//! ```
//!
//! Source: Rails 8.1, `actioncable/` and `ActiveSupport::MessageVerifier`.

pub mod hook;
pub mod message;
pub mod signed;

/// The subprotocol that client and server agree on.
pub const SUBPROTOCOL: &str = "actioncable-v1-json";

/// That of the extended protocol, with history, presence and whispers.
///
/// Source: AnyCable's documentation, "Reliable streams", "Presence" and "Signed streams"; its client for JavaScript, 1.1.
pub const EXTENDED_SUBPROTOCOL: &str = "actioncable-v1-ext-json";

/// The longest message of a client, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
