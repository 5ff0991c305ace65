//! The longest payload of a control frame, and the close codes.
//!
//! They stand below the frames, the closes and the errors, which all need them.

pub use tungstenite::protocol::frame::coding::CloseCode;

/// Longest payload of a control frame, in bytes. Source: RFC 6455, section 5.5.
pub const CONTROL_BYTES_MAX: usize = 125;
