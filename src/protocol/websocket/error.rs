//! Errors: the peer's against RFC 6455, and our own when a frame cannot be encoded.

use std::fmt;

use super::control::{CONTROL_BYTES_MAX, CloseCode};

/// Why the peer's bytes are not WebSocket, or are more than the limits allow.
///
/// The connection is lost: answer with [`close_code`](Error::close_code) and drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A reserved bit is set, although no extension was negotiated that gives it a meaning in this frame.
    ReservedBits,
    /// RFC 6455 does not define the opcode.
    ReservedOpcode {
        /// The opcode, 3 to 7 or 11 to 15.
        opcode: u8,
    },
    /// A control frame without the final bit.
    FragmentedControl,
    /// A control frame with more than [`CONTROL_BYTES_MAX`] bytes of payload.
    ControlTooLong,
    /// A frame length with its top bit set.
    LengthTopBit,
    /// A frame length in a longer form than it needs. Source: RFC 6455, section 5.2.
    LengthNotMinimal,
    /// A client sent a frame without a mask.
    Unmasked,
    /// A server sent a frame with a mask.
    Masked,
    /// A continuation frame while no message is in progress.
    UnexpectedContinuation,
    /// A new message before the fragments of the last one are complete.
    InterleavedMessage,
    /// A text message or a close reason that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that is not DEFLATE, or is cut off. Source: RFC 7692, section 7.2.2.
    InvalidDeflate,
    /// A close payload of one byte, which cannot hold a code.
    ClosePayloadOfOneByte,
    /// A close code that must not appear in a frame.
    BadCloseCode {
        /// The code the peer sent.
        code: u16,
    },
    /// A frame longer than [`Limits::frame_bytes_max`](super::Limits::frame_bytes_max).
    FrameTooLong {
        /// The payload length the header announced, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// A message longer than [`Limits::message_bytes_max`](super::Limits::message_bytes_max).
    MessageTooLong {
        /// The fragments so far, with the one that was just announced, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// More pings and pongs in a second than
    /// [`messages_per_second_max`](crate::ConnectionOptions::messages_per_second_max).
    TooManyControlFrames {
        /// The limit, in a second.
        max: u32,
    },
    /// A message of more frames than [`Limits::fragments_max`](super::Limits::fragments_max).
    TooManyFragments {
        /// The limit.
        max: u32,
    },
}

impl Error {
    /// The close code for the peer: 1002, 1007, 1008 or 1009.
    ///
    /// Source: RFC 6455, section 7.4.1.
    pub fn close_code(&self) -> u16 {
        let code = match self {
            Error::ReservedBits
            | Error::ReservedOpcode { .. }
            | Error::FragmentedControl
            | Error::ControlTooLong
            | Error::LengthTopBit
            | Error::LengthNotMinimal
            | Error::Unmasked
            | Error::Masked
            | Error::UnexpectedContinuation
            | Error::InterleavedMessage
            | Error::ClosePayloadOfOneByte
            | Error::BadCloseCode { .. } => CloseCode::Protocol,
            Error::InvalidUtf8 | Error::InvalidDeflate => CloseCode::Invalid,
            Error::FrameTooLong { .. } | Error::MessageTooLong { .. } => CloseCode::Size,
            // The message is not too big: 1009 would have a client try again with a shorter one.
            Error::TooManyFragments { .. } | Error::TooManyControlFrames { .. } => {
                CloseCode::Policy
            }
        };
        code.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ReservedBits => f.write_str("reserved bits are set"),
            Error::ReservedOpcode { opcode } => write!(f, "opcode {opcode} is reserved"),
            Error::FragmentedControl => f.write_str("control frame is fragmented"),
            Error::ControlTooLong => {
                write!(f, "control frame of more than {CONTROL_BYTES_MAX} bytes")
            }
            Error::LengthTopBit => f.write_str("frame length has its top bit set"),
            Error::LengthNotMinimal => f.write_str("frame length is not in its shortest form"),
            Error::Unmasked => f.write_str("frame from a client is not masked"),
            Error::Masked => f.write_str("frame from a server is masked"),
            Error::UnexpectedContinuation => f.write_str("continuation frame outside of a message"),
            Error::InterleavedMessage => f.write_str("new message before the last one is complete"),
            Error::InvalidUtf8 => f.write_str("text is not UTF-8"),
            Error::InvalidDeflate => f.write_str("compressed message is not DEFLATE"),
            Error::ClosePayloadOfOneByte => {
                f.write_str("close payload of one byte cannot hold a code")
            }
            Error::BadCloseCode { code } => write!(f, "close code {code} must not be sent"),
            Error::FrameTooLong { bytes, max } => {
                write!(f, "frame of {bytes} bytes, at most {max} are allowed")
            }
            Error::MessageTooLong { bytes, max } => {
                write!(f, "message of {bytes} bytes, at most {max} are allowed")
            }
            Error::TooManyControlFrames { max } => {
                write!(f, "more than {max} pings and pongs in a second")
            }
            Error::TooManyFragments { max } => {
                write!(f, "message of more than {max} fragments")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Why a control frame of ours could not be encoded. The output is unchanged then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload of a ping or pong is above [`CONTROL_BYTES_MAX`].
    ControlTooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::ControlTooLong { bytes } => {
                write!(
                    f,
                    "control payload of {bytes} bytes, at most {CONTROL_BYTES_MAX} fit"
                )
            }
        }
    }
}

impl std::error::Error for EncodeError {}
