//! The role of accepted connections: HTTP with routes, WebSockets, event streams, raw streams.
//!
//! From the top: `listen` makes a listener of a `router`. The router calls routes with a `request`, which is
//! answered with a `reply` or an `event_stream`, or it opens a `websocket`. Below them are `path` and
//! `origins`, which know nothing of connections.

pub(crate) mod answered;
pub(crate) mod event_stream;
mod listen;
pub(crate) mod origins;
pub(crate) mod path;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod router;
mod streaming;
pub(crate) mod websocket;
