//! What holds for every control frame: how long it may be, and the codes of a close.
//!
//! Stands below the frames, the closes and the errors, which all need it.

pub use tungstenite::protocol::frame::coding::CloseCode;

/// Longest payload of a control frame, in bytes. Source: RFC 6455, section 5.5.
pub const CONTROL_BYTES_MAX: usize = 125;
