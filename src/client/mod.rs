//! The role of connections that this side makes: WebSockets and raw streams.

pub(crate) mod connect;
pub(crate) mod websocket;
