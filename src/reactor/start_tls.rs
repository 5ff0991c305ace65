//! TLS on a raw stream that is open: `STARTTLS` and its like.

use std::io;

use super::close::Deadline;
use super::id::ConnId;
use super::reactor::Reactor;
use super::transport::socket::Socket;
use super::transport::tls::client::ClientTls;
use super::transport::tls::server::ServerTls;
use super::transport::tls::stream::TlsStream;

/// The role in which a stream begins to speak TLS, and its rules: made from a [`ServerTls`] or a
/// [`ClientTls`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StartTls {
    /// The peer begins the handshake.
    Server(ServerTls),
    /// We begin the handshake. The configuration needs a [`server_name`](ClientTls::server_name).
    Client(ClientTls),
}

impl From<ServerTls> for StartTls {
    fn from(tls: ServerTls) -> Self {
        StartTls::Server(tls)
    }
}

impl From<ClientTls> for StartTls {
    fn from(tls: ClientTls) -> Self {
        StartTls::Client(tls)
    }
}

/// # TLS
impl<S: 'static> Reactor<S> {
    /// Begins to speak TLS on a raw stream that is open, in the role of `tls`.
    ///
    /// Bytes that were sent before leave as they are, and bytes that were not delivered yet belong
    /// to the handshake. A peer that does not wait for the answer may send the beginning of its handshake together
    /// with the command in front of it: give that to [`start_tls_with`](Self::start_tls_with), and refuse any
    /// other bytes behind the command, because they came without protection. From here on everything is encrypted: messages wait until the handshake is
    /// done, which [`on_tls`](crate::StreamCallbacks::on_tls) tells, within
    /// [`head_timeout`](crate::Config::head_timeout).
    ///
    /// # Errors
    ///
    /// When the stream is not open, is not a raw one or speaks TLS already, or when the
    /// configuration of a client has no name. The stream stays as it is then.
    pub fn start_tls(&mut self, id: ConnId, tls: impl Into<StartTls>) -> io::Result<()> {
        self.start_tls_with(id, tls, &[])
    }

    /// As [`start_tls`](Self::start_tls), with bytes of the peer's handshake that
    /// [`on_data`](crate::StreamCallbacks::on_data) has got already.
    ///
    /// # Errors
    ///
    /// As [`start_tls`](Self::start_tls). Bytes that are no handshake are an error of the connection, and not of
    /// this call.
    pub fn start_tls_with(
        &mut self,
        id: ConnId,
        tls: impl Into<StartTls>,
        received: &[u8],
    ) -> io::Result<()> {
        let scratch = &self.tls_scratch;
        let stream = match tls.into() {
            StartTls::Server(tls) => TlsStream::server(Socket::Pending, tls.config(), scratch)?,
            StartTls::Client(tls) => TlsStream::client(tls.config(), tls.name_for("")?, scratch)?,
        };
        if !self.table.start_tls(id, Box::new(stream), received) {
            let why = "TLS can begin only on an open raw stream without it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.set_deadline(id, Deadline::Handshake, self.config.head_timeout);
        Ok(())
    }
}
