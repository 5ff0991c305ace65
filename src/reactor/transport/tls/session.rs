//! One connection of rustls, in either role: ciphertext in, ciphertext and plaintext out.
//!
//! No socket here. [`Session::process`] is given all ciphertext that is not consumed yet, and says
//! how much of it to drop.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{ClientConfig, Error, HandshakeKind, ServerConfig};

/// Ciphertext for the socket: a buffer that may be longer than its contents.
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    filled: usize,
}

impl Outgoing {
    pub(super) fn new(buffer: Vec<u8>) -> Outgoing {
        Outgoing { buffer, filled: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Appends what `encrypt` writes, in as much room as it asks for.
    fn append(
        &mut self,
        mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        loop {
            match encrypt(self.room(0)) {
                Ok(count) => {
                    self.filled += count;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(size)) => {
                    self.room(size.required_size);
                }
                Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
            }
        }
    }

    /// The place behind the contents, of at least so many bytes.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.filled + bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.filled..]
    }
}

/// Plaintext, or our goodbye, to be encrypted once the session can.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    Nothing,
    Plaintext(&'a [u8]),
    CloseNotify,
}

/// The result of processing records.
pub(super) struct Processed {
    /// How many bytes of the ciphertext are to be dropped from its front.
    pub(super) discarded: usize,
    /// The order was carried out. Not so during the handshake, or after our end.
    pub(super) is_done: bool,
    /// The peer has ended its side with close_notify.
    pub(super) is_peer_closed: bool,
}

/// A connection of rustls.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Session {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Session, Error> {
        UnbufferedServerConnection::new(config).map(Session::Server)
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Session, Error> {
        UnbufferedClientConnection::new(config, name).map(Session::Client)
    }

    pub(super) fn is_server(&self) -> bool {
        matches!(self, Session::Server(_))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Session::Server(session) => session.is_handshaking(),
            Session::Client(session) => session.is_handshaking(),
        }
    }

    /// Whether the sides have agreed on a version of TLS, and so on keys or on how to make them.
    pub(super) fn has_agreed(&self) -> bool {
        let version = match self {
            Session::Server(session) => session.protocol_version(),
            Session::Client(session) => session.protocol_version(),
        };
        version.is_some()
    }

    /// Whether the handshake has resumed an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        let kind = match self {
            Session::Server(session) => session.handshake_kind(),
            Session::Client(session) => session.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Processes the records in `incoming`, gives their plaintext to `plaintext`, carries out
    /// `order`, and appends what is to be sent to `outgoing`.
    ///
    /// `incoming` is all ciphertext that was not discarded. A call without any is right only when
    /// there is none.
    ///
    /// # Errors
    ///
    /// The peer's fault. `outgoing` then ends with the alert, and the session must not be asked again.
    pub(super) fn process(
        &mut self,
        incoming: &mut [u8],
        order: Order<'_>,
        outgoing: &mut Outgoing,
        plaintext: impl FnMut(&[u8]),
    ) -> Result<Processed, Error> {
        match self {
            Session::Server(session) => {
                process(&mut **session, incoming, order, outgoing, plaintext)
            }
            Session::Client(session) => {
                process(&mut **session, incoming, order, outgoing, plaintext)
            }
        }
    }
}

/// The step of a connection that the two roles have apart, because rustls has no trait for it.
trait Records {
    type Data;

    fn next_state<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether the next state has something to encode.
    fn has_output(&self) -> bool;
}

impl Records for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn next_state<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

impl Records for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn next_state<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

fn process<R: Records>(
    session: &mut R,
    incoming: &mut [u8],
    order: Order<'_>,
    outgoing: &mut Outgoing,
    mut plaintext: impl FnMut(&[u8]),
) -> Result<Processed, Error> {
    let mut processed = Processed {
        discarded: 0,
        is_done: false,
        is_peer_closed: false,
    };
    let mut failed = None;
    loop {
        let status = session.next_state(&mut incoming[processed.discarded..]);
        let mut discarded = status.discard;
        let mut is_last = false;
        let state = match status.state {
            Ok(state) => state,
            Err(error) => {
                failed = Some(error);
                processed.discarded += discarded;
                // The session must not look at the faulty record again, so it is asked only while it
                // has an alert to encode, which comes first.
                match session.has_output() {
                    true => continue,
                    false => break,
                }
            }
        };
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discarded += record.discard;
                    plaintext(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(mut data) => loop {
                match data.encode(outgoing.room(0)) {
                    Ok(count) => {
                        outgoing.filled += count;
                        break;
                    }
                    Err(EncodeError::InsufficientSize(size)) => {
                        outgoing.room(size.required_size);
                    }
                    Err(EncodeError::AlreadyEncoded) => break,
                }
            },
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => processed.is_peer_closed = true,
            ConnectionState::WriteTraffic(mut traffic) => {
                is_last = true;
                match order {
                    Order::Nothing => {}
                    Order::Plaintext(bytes) => {
                        outgoing.append(|room| traffic.encrypt(bytes, room))?;
                        processed.is_done = true;
                    }
                    Order::CloseNotify => {
                        outgoing.append(|room| traffic.queue_close_notify(room))?;
                        processed.is_done = true;
                    }
                }
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => is_last = true,
            // Early data is switched off in each configuration.
            ConnectionState::ReadEarlyData(_) | _ => {
                return Err(Error::General("a state that was not asked for".into()));
            }
        }
        processed.discarded += discarded;
        if is_last || failed.is_some() && !session.has_output() {
            break;
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(processed),
    }
}
