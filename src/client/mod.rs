//! The role of connections that this side makes: WebSockets, HTTP requests and raw streams.

pub(crate) mod client_transport;
pub(crate) mod connect;
pub(crate) mod event_source;
mod header;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod reconnect;
pub(crate) mod reconnection;
#[cfg(feature = "redis")]
#[cfg_attr(
    not(feature = "hub"),
    allow(
        dead_code,
        unused_imports,
        reason = "the hub uses the rest of the client"
    )
)]
pub(crate) mod redis;
mod retry_after;
mod target;
pub(crate) mod websocket;
pub(crate) mod websocket_link;
