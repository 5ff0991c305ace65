//! Protocols as pure machines: bytes in, events out, bytes out; no socket, no clock, no log.

pub mod event_stream;
pub mod http;
pub mod websocket;
