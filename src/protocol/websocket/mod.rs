//! WebSocket frames, messages and closes, and the whole protocol as a [`Driver`].
//!
//! Pure: bytes in, events out, bytes out; no socket, no clock, no log. Two layers:
//!
//! * [`Machine`] is what a server embeds, one for each connection: 16 bytes which own heap only
//!   while a message is incomplete. It turns what was read into [`Event`]s that borrow from the
//!   read buffer. What to answer, and when, is the caller's business; `encode_…` writes it.
//! * [`Driver`] is the protocol alone for any other I/O (threads, tests): handshake, frames,
//!   automatic pongs and close replies over byte slices.
//!
//! Both are strict: what RFC 6455 forbids is an [`Error`], which names its close code. No
//! extension is negotiated, so reserved bits are an error too.
//!
//! Source: RFC 6455.

mod close;
mod closing;
mod control;
mod driver;
mod error;
mod frame;
mod machine;
mod message;
mod role;
mod spare;
mod utf8;

pub(crate) use close::cut_reason;
pub use close::{CLOSE_REASON_BYTES_MAX, encode_close};
pub use closing::Closing;
pub use control::{CONTROL_BYTES_MAX, CloseCode};
pub use driver::{Driver, DriverError};
pub use error::{EncodeError, Error};
pub use frame::{
    Control, Data, OpCode, apply_mask, encode_header, encode_message, encode_message_header,
    encode_ping, encode_pong, random_mask,
};
pub(crate) use machine::next_short_message;
pub use machine::{Event, Limits, Machine};
pub use message::{Message, ToMessage};
pub use role::Role;
pub use spare::Spare;
