//! Protocols as pure machines: bytes in, events out, bytes out; no socket, no clock, no log.
//!
//! Randomness is the one thing that is taken from outside. A WebSocket client needs it for the
//! masks of its frames ([`websocket::random_mask`]) and for the key of its handshake
//! ([`http::upgrade::random_key`]); both come from the thread's cryptographic generator. The
//! functions that encode frames and requests take the mask or the key as an argument.

#[cfg(feature = "cable")]
pub mod action_cable;
pub(crate) mod base64;
pub(crate) mod digits;
pub mod event_stream;
pub mod framing;
pub mod http;
#[cfg(feature = "hub")]
pub(crate) mod json;
#[cfg(feature = "mercure")]
pub mod mercure;
pub mod network;
pub mod proxy_header;
#[cfg(feature = "pusher")]
pub mod pusher;
#[cfg(feature = "redis")]
pub mod resp;
pub(crate) mod split;
pub mod websocket;
