//! Connections that are made: WebSockets and raw streams.

pub(crate) mod stream;
pub(crate) mod websocket;
