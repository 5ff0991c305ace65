//! Connections that are made: WebSockets and raw streams.

pub(crate) mod connect;
pub(crate) mod websocket;
