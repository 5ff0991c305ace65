//! What accepted connections are for: HTTP with routes, WebSockets, event streams, raw streams.

pub(crate) mod event_stream;
mod listen;
pub(crate) mod log_limit;
pub(crate) mod origins;
pub(crate) mod path;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod router;
pub(crate) mod websocket;
