//! The role of connections that this side makes: WebSockets and raw streams.

pub(crate) mod connect;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod websocket;
