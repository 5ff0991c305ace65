//! A tunnel through a proxy, while it is made: the request is written and the answer read, and not a byte of what
//! follows it.
//!
//! This comes after the connect and before the socket becomes a connection's, so it holds for every protocol, and TLS
//! begins inside of the tunnel.

use std::io;

use crate::protocol::http::{TunnelAnswer, TunnelError, encode_connect};
use crate::reactor::close::CloseCause;

use super::proxy::HttpProxy;
use super::socket::Socket;

/// The exchange with the proxy.
pub(crate) struct Tunnel {
    request: Vec<u8>,
    written_bytes: usize,
    answer: TunnelAnswer,
}

impl Tunnel {
    /// A tunnel to `address`, which is `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// When the address or the credentials cannot be part of a request.
    pub(crate) fn new(address: &str, proxy: &HttpProxy) -> io::Result<Tunnel> {
        let mut request = Vec::new();
        encode_connect(address, proxy.authorization(), &mut request).map_err(|error| {
            let why = format!("cannot connect to {address} through a proxy: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        Ok(Tunnel {
            request,
            written_bytes: 0,
            answer: TunnelAnswer::default(),
        })
    }

    /// Goes on, with a socket that has connected. Returns whether the tunnel is made.
    ///
    /// # Errors
    ///
    /// The cause for `on_close`.
    pub(crate) fn progress(&mut self, socket: &mut Socket) -> Result<bool, CloseCause> {
        while self.written_bytes < self.request.len() {
            match socket.write(&self.request[self.written_bytes..]) {
                Ok(count) => self.written_bytes += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(false),
                    kind => return Err(CloseCause::Io(kind)),
                },
            }
        }
        let mut buffer = [0; 4];
        loop {
            let wanted = self.answer.missing_bytes().min(buffer.len());
            match socket.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(CloseCause::Tunnel(TunnelError::Closed)),
                Ok(count) => match self.answer.take(&buffer[..count]) {
                    Ok(false) => {}
                    Ok(true) => return Ok(true),
                    Err(error) => return Err(CloseCause::Tunnel(error)),
                },
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(false),
                    kind => return Err(CloseCause::Io(kind)),
                },
            }
        }
    }
}
