//! TLS for listeners and clients: [`ServerTls`] and [`ClientTls`].
//!
//! A WebSocket, a route or a raw stream over TLS has the same callbacks as without: only the
//! transport knows of it.

pub use crate::reactor::start_tls::StartTls;
pub use crate::reactor::transport::tls::client::{ClientTls, ClientTlsBuilder};
pub use crate::reactor::transport::tls::file_error::TlsConfigError;
pub use crate::reactor::transport::tls::server::{ServerCertificate, ServerTls, ServerTlsBuilder};
