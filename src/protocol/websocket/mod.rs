//! WebSocket frames, messages and closes, and the whole protocol as a [`Driver`].
//!
//! Pure: bytes in, events out, bytes out; no socket, no clock, no log. The masks of a client, and
//! the key of its handshake, are random. Two layers:
//!
//! * [`Machine`] is for a server or client that runs many connections, one for each: 16 bytes,
//!   which own heap only while a message is incomplete. It turns the bytes that were read into
//!   [`Event`]s that borrow from the read buffer. The caller decides what to answer and when; the
//!   `encode_…` functions write it, and [`Closing`] has the rules of the closing handshake.
//! * [`Driver`] is the whole protocol for any other I/O (threads, tests): handshake, frames,
//!   automatic pongs and close replies over byte slices.
//!
//! Both are strict: a violation of RFC 6455 is an [`Error`], which knows its close code. The one extension is
//! compression, with the feature `deflate`; a reserved bit that was not negotiated is an error too.
//!
//! Source: RFC 6455, RFC 7692.

mod close;
mod closing;
mod control;
#[cfg(feature = "deflate")]
pub(crate) mod deflate;
mod driver;
mod error;
mod frame;
mod machine;
mod message;
mod role;
mod spare;
mod utf8;

pub use close::CLOSE_REASON_BYTES_MAX;
pub(crate) use close::cut_reason;
pub use control::{CONTROL_BYTES_MAX, CloseCode};
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
pub use driver::{Driver, DriverError};
pub use error::{EncodeError, Error};
#[cfg(feature = "deflate")]
pub(crate) use frame::encode_compressed;
pub use machine::{Event, Limits};
pub(crate) use machine::{Link, next_short_message};
pub use message::{Message, ToMessage};

// For the roles, and for the tests and the benchmarks of this repository. Their names may change in any version.
#[doc(hidden)]
pub use close::encode_close;
#[doc(hidden)]
pub use closing::Closing;
#[doc(hidden)]
pub use frame::{
    Control, Data, OpCode, apply_mask, encode_header, encode_message, encode_message_header,
    encode_ping, encode_pong, random_mask,
};
#[doc(hidden)]
pub use machine::Machine;
#[doc(hidden)]
pub use role::Role;
#[doc(hidden)]
pub use spare::Spare;
