//! Connections that are made: WebSockets and raw streams.

pub(crate) mod tcp;
pub(crate) mod websocket;
