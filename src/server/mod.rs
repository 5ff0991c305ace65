//! The role of accepted connections: HTTP with routes, WebSockets, event streams, raw streams.
//!
//! From the top: `listen` makes a listener of a `router`, which a setup fills. Its `http_handler`
//! finds the one of the `routes` that takes a request, and calls it with a `request`, which is
//! answered with a `reply` or an `event_stream`, or opens a `websocket`; `refusals` answers the
//! others; `files` sends what is on a disk. Below them are `path` and `origins`, which know nothing of connections.

pub(crate) mod answered;
pub(crate) mod body_sender;
pub(crate) mod event_stream;
pub(crate) mod files;
mod http_handler;
mod listen;
pub(crate) mod origins;
pub(crate) mod path;
mod pieces;
mod refusals;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod router;
mod routes;
mod streaming;
pub(crate) mod upload;
pub(crate) mod websocket;
