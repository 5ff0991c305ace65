//! The part that server and client share, once a connection speaks its protocol: WebSocket, event streams and
//! raw streams; and datagrams, which have no such sides.

pub(crate) mod event_stream;
pub(crate) mod handler;
pub(crate) mod stream;
pub(crate) mod udp;
pub(crate) mod websocket;
