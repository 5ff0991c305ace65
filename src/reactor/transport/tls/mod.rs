//! TLS beside the sockets: a stream that encrypts what it is given, over any of them.
//!
//! The protocol is rustls, by its interface without buffers: a connection that is idle owns no
//! buffer, and the ciphertext of all connections of a reactor passes through one [`Scratch`].
//!
//! ```text
//!  server client         for a listener or a client: ServerTls, ClientTls, and their builders
//!  validity              the time for which a certificate is valid
//!  provider file_error   the cryptography; files in PEM
//!  stream                TlsStream: handshake, read, write, close_notify, over a socket
//!  session               one connection of rustls, of either role: records in, records and
//!                        plaintext out
//!  failure               errors of rustls as errors of ours
//!  scratch               the buffers that all streams of a reactor share
//! ```
//!
//! Source: RFC 8446 (1.3), RFC 5246 (1.2).

pub(crate) mod client;
mod failure;
pub(crate) mod file_error;
mod provider;
pub(crate) mod scratch;
pub(crate) mod server;
mod session;
pub(crate) mod stream;
mod validity;
