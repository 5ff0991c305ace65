//! What server and client connections share once they speak: WebSocket and raw streams.

pub(crate) mod event_stream;
pub(crate) mod stream;
pub(crate) mod websocket;
