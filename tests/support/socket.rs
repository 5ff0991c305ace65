//! Sockets that a stopped machine does not break.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;

use super::PATIENCE;

/// A blocking TCP connection whose reads and writes begin again after an interruption.
///
/// Linux ends a read that has a time limit with `EINTR` when the process was stopped and goes on,
/// even without a signal handler (signal(7), "Interruption of system calls by stop signals"). The
/// machine of a test may be stopped at any time, and tungstenite takes the error for the end.
pub struct Socket(TcpStream);

impl Socket {
    /// Connects. A read or a write that takes longer than [`PATIENCE`] fails.
    pub fn connect(address: SocketAddr) -> io::Result<Socket> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Socket(stream))
    }

    /// A second handle of the same connection.
    pub fn try_clone(&self) -> io::Result<Socket> {
        self.0.try_clone().map(Socket)
    }
}

/// For what needs no data: addresses, shutdown, modes.
impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
