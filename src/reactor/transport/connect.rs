//! One address of a connection that is being made, and the race of several.
//!
//! Data and system calls only; `reactor::connect` decides which address is tried when.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::socket::Socket;
use super::tunnel::Tunnel;
use crate::reactor::id::ConnId;
use crate::reactor::time::timers::TimerId;

/// One address being tried.
pub(crate) struct Attempt {
    pub(crate) socket: Socket,
    pub(crate) target: ConnId,
    /// A tunnel through a proxy is made before the socket is the connection's.
    pub(crate) has_tunnel: bool,
}

/// The addresses of one connection to be made.
pub(crate) struct Race {
    left: VecDeque<SocketAddr>,
    from: Option<IpAddr>,
    /// Indexes of the attempts that are under way.
    running: Vec<u32>,
    /// The error of the last attempt that failed.
    error: io::ErrorKind,
    /// The timer after which the next address is tried beside those that are under way.
    stagger: Option<TimerId>,
    /// The exchange with the proxy, which follows the connect.
    tunnel: Option<Box<Tunnel>>,
}

/// The next step of a race.
pub(crate) enum NextAddress {
    /// Try the first address, from the second one, which belongs to this machine.
    Try(SocketAddr, Option<IpAddr>),
    /// Wait for the attempts that are under way.
    Wait,
    /// Every address has failed, the last one with this error.
    Failed(io::ErrorKind),
}

impl Race {
    pub(crate) fn new(left: VecDeque<SocketAddr>, from: Option<IpAddr>) -> Race {
        Race {
            left,
            from,
            running: Vec::new(),
            error: io::ErrorKind::AddrNotAvailable,
            stagger: None,
            tunnel: None,
        }
    }

    /// Sets the exchange with the proxy, whose addresses these are.
    pub(crate) fn set_tunnel(&mut self, tunnel: Option<Box<Tunnel>>) {
        self.tunnel = tunnel;
    }

    pub(crate) fn tunnel_mut(&mut self) -> Option<&mut Tunnel> {
        self.tunnel.as_deref_mut()
    }

    pub(crate) fn has_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Ends the race with this attempt, which has connected. Returns the others.
    pub(crate) fn take_others(&mut self, index: u32) -> Vec<u32> {
        self.left.clear();
        let others = self.running.extract_if(.., |running| *running != index);
        others.collect()
    }

    /// The address to try next.
    pub(crate) fn next_address(&mut self) -> NextAddress {
        match self.left.pop_front() {
            Some(address) => NextAddress::Try(address, self.from),
            None if self.running.is_empty() => NextAddress::Failed(self.error),
            None => NextAddress::Wait,
        }
    }

    /// Notes an attempt that is under way.
    pub(crate) fn note_attempt(&mut self, index: u32) {
        self.running.push(index);
    }

    /// Notes the error of an address that could not be tried.
    pub(crate) fn note_error(&mut self, error: io::ErrorKind) {
        self.error = error;
    }

    /// Notes that an attempt has failed. Returns whether the next address is to be tried now.
    pub(crate) fn note_failure(&mut self, index: u32, error: io::ErrorKind) -> bool {
        self.running.retain(|running| *running != index);
        self.error = error;
        self.running.is_empty() || !self.left.is_empty()
    }

    /// Keeps the timer that tries the next address, so that it can be cancelled.
    pub(crate) fn set_stagger(&mut self, stagger: TimerId) {
        self.stagger = Some(stagger);
    }

    pub(crate) fn take_stagger(&mut self) -> Option<TimerId> {
        self.stagger.take()
    }

    /// Returns the attempts that are under way, when the race is over.
    pub(crate) fn into_attempts(self) -> Vec<u32> {
        self.running
    }

    /// How many addresses are being tried, and how many are left.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.left.len())
    }
}

/// Returns whether a non-blocking connect has succeeded; `false` while it is under way.
///
/// `SO_ERROR` alone does not tell success from "under way", so the peer's address is asked as well.
///
/// # Errors
///
/// The error of a connect that has failed.
pub(crate) fn has_connected(socket: &Socket) -> io::Result<bool> {
    let error = match socket {
        Socket::Tcp(stream) => {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                Ok(_) => return Ok(true),
                Err(error) => error,
            }
        }
        #[cfg(unix)]
        Socket::Unix(stream) => match stream.take_error()? {
            Some(error) => return Err(error),
            None => return Ok(true),
        },
        #[cfg(unix)]
        Socket::PipeWriter(_) | Socket::PipeReader(_) => return Ok(true),
        Socket::Memory(_) | Socket::Pending => return Ok(true),
    };
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(false),
        _ => Err(error),
    }
}

/// Begins to connect, from the address `from` if given; the system chooses the port.
pub(crate) fn connect_tcp(
    address: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<mio::net::TcpStream> {
    use socket2::{Domain, Protocol, Socket, Type};

    let Some(from) = from else {
        return mio::net::TcpStream::connect(address);
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

fn is_under_way(error: &io::Error) -> bool {
    /// `EINPROGRESS` on Linux and on systems of BSD's family.
    const EINPROGRESS: [i32; 2] = [115, 36];
    error.kind() == io::ErrorKind::WouldBlock
        || cfg!(unix)
            && error
                .raw_os_error()
                .is_some_and(|code| EINPROGRESS.contains(&code))
}

#[cfg(unix)]
pub(crate) fn connect_unix(path: &str) -> io::Result<Socket> {
    mio::net::UnixStream::connect(path).map(Socket::Unix)
}

#[cfg(not(unix))]
pub(crate) fn connect_unix(_: &str) -> io::Result<Socket> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Unix sockets need a Unix system",
    ))
}
