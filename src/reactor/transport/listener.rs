//! Sockets that accept.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use mio::{Interest, Registry, Token};

use crate::reactor::config::Config;
use crate::reactor::log_limit::{LogLimit, Suppressed};
use crate::reactor::transport::memory::{MemoryListener, MemoryStream};
use crate::reactor::transport::socket::{Peer, Socket};
#[cfg(feature = "tls")]
use crate::reactor::transport::tls::server::ServerTls;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// An internet address, with the real port.
    Inet(SocketAddr),
    /// A Unix socket. On other systems listening on one, or connecting to one, is an error of kind
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    Unix(PathBuf),
}

impl Address {
    /// Returns the port of an internet address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Inet(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(crate) enum Acceptor {
    Tcp(mio::net::TcpListener),
    /// With the identity of its file, if that could be found out.
    #[cfg(unix)]
    Unix(mio::net::UnixListener, Option<FileId>),
    /// A simulation's.
    Memory(MemoryListener),
}

/// Whether a listener accepts when the poll reports that a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// Yes.
    Ready,
    /// Not now: it is listed, and accepts in the next turn without a report.
    Queued,
    /// No: there are as many connections as allowed.
    Full,
    /// No: for example, the process is out of file descriptors. A timer will try again.
    BackingOff,
    /// No: the application has paused it. Only the application resumes it.
    Held,
}

/// A socket that accepts, with the handler and the options of its connections.
pub(crate) struct Listener {
    acceptor: Acceptor,
    address: Address,
    generation: u32,
    handler: u32,
    options: u16,
    pauses: LogLimit,
    /// The last pause was for memory.
    has_paused_for_memory: bool,
    accepting: Accepting,
    accepts_while_draining: bool,
    has_proxy_protocol: bool,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl Listener {
    /// A listener whose connections belong to a handler, and have these options.
    pub(crate) fn new(
        acceptor: Acceptor,
        address: Address,
        handler: u32,
        options: u16,
    ) -> Listener {
        Listener {
            acceptor,
            address,
            generation: 0,
            handler,
            options,
            pauses: LogLimit::default(),
            has_paused_for_memory: false,
            accepting: Accepting::Ready,
            accepts_while_draining: false,
            has_proxy_protocol: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    pub(crate) fn accepts_while_draining(&self) -> bool {
        self.accepts_while_draining
    }

    pub(crate) fn set_accepts_while_draining(&mut self) {
        self.accepts_while_draining = true;
    }

    /// Whether its connections begin with a header of the PROXY protocol.
    pub(crate) fn has_proxy_protocol(&self) -> bool {
        self.has_proxy_protocol
    }

    pub(crate) fn set_proxy_protocol(&mut self, required: bool) {
        self.has_proxy_protocol = required;
    }

    /// The TLS that its connections speak.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set_tls(&mut self, tls: Option<ServerTls>) {
        self.tls = tls;
    }

    /// Whether all of its clients are on this machine, and none of them is a proxy that names another.
    pub(crate) fn is_local(&self) -> bool {
        !self.has_proxy_protocol
            && match &self.address {
                Address::Inet(address) => address.ip().is_loopback(),
                Address::Unix(_) => true,
            }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Tells it from earlier sources at the same index.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    pub(crate) fn handler(&self) -> u32 {
        self.handler
    }

    pub(crate) fn options(&self) -> u16 {
        self.options
    }

    pub(crate) fn accepting(&self) -> Accepting {
        self.accepting
    }

    pub(crate) fn set_accepting(&mut self, accepting: Accepting) {
        self.accepting = accepting;
    }

    /// Notes that accepting pauses. `Some` when this may be logged now: a client that comes to a full server
    /// and goes causes a pause.
    pub(crate) fn note_pause(&mut self, now: Duration) -> Option<Suppressed> {
        self.pauses.allow_line(now)
    }

    /// Notes whether memory is short now. Returns whether it was when this was last called.
    pub(crate) fn replace_memory_pause(&mut self, is_short: bool) -> bool {
        std::mem::replace(&mut self.has_paused_for_memory, is_short)
    }

    /// A simulated client connects.
    pub(crate) fn offer(&mut self, stream: MemoryStream) {
        if let Acceptor::Memory(listener) = &mut self.acceptor {
            listener.offer(stream);
        }
    }

    /// Accepts one connection, with its peer; `WouldBlock` when there is none.
    pub(crate) fn accept(&mut self) -> io::Result<(Socket, Peer)> {
        let accepted = match &mut self.acceptor {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // On Linux an accepted socket inherits this from its listener, which saves a system
                // call for each connection; on other systems it does not.
                if !cfg!(target_os = "linux") {
                    stream.set_nodelay(true)?;
                }
                (Socket::Tcp(stream), Peer::Inet(peer))
            }
            #[cfg(unix)]
            Acceptor::Unix(listener, _) => (Socket::Unix(listener.accept()?.0), Peer::Unix),
            Acceptor::Memory(listener) => (Socket::Memory(listener.accept()?), Peer::Memory),
        };
        Ok(accepted)
    }

    /// Has the kernel refuse every `accept` from now on.
    #[cfg(all(test, unix))]
    pub(crate) fn shut_down(&self) {
        if let Acceptor::Tcp(listener) = &self.acceptor {
            let socket = socket2::SockRef::from(listener);
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// Ends the reports of polls. Closing the socket does not end them while another process has it too. Errors
    /// are ignored: the socket is closed next.
    pub(crate) fn deregister(&mut self, registry: Option<&Registry>) {
        let _ = match (&mut self.acceptor, registry) {
            (Acceptor::Tcp(listener), Some(registry)) => registry.deregister(listener),
            #[cfg(unix)]
            (Acceptor::Unix(listener, _), Some(registry)) => registry.deregister(listener),
            (Acceptor::Memory(_), _) | (_, None) => Ok(()),
        };
    }

    /// Another descriptor of the same socket.
    #[cfg(unix)]
    pub(crate) fn duplicate(&self) -> io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        match &self.acceptor {
            Acceptor::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Acceptor::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
            Acceptor::Memory(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulation has no descriptors",
            )),
        }
    }

    /// Leaves the file of a Unix socket where it is when this is dropped: another process listens there.
    #[cfg(unix)]
    pub(crate) fn leave_file(&mut self) {
        if let Acceptor::Unix(_, file) = &mut self.acceptor {
            *file = None;
        }
    }

    /// Removes the file of a Unix socket when this is dropped. Returns `false` when there is none.
    #[cfg(unix)]
    pub(crate) fn adopt_file(&mut self) -> bool {
        let (Acceptor::Unix(_, file), Address::Unix(path)) = (&mut self.acceptor, &self.address)
        else {
            return false;
        };
        *file = FileId::of(path).ok();
        file.is_some()
    }

    /// Has polls report that connections wait. There is no registry in a simulation.
    pub(crate) fn register(&mut self, registry: Option<&Registry>, token: Token) -> io::Result<()> {
        match (&mut self.acceptor, registry) {
            (Acceptor::Tcp(listener), Some(registry)) => {
                registry.register(listener, token, Interest::READABLE)
            }
            #[cfg(unix)]
            (Acceptor::Unix(listener, _), Some(registry)) => {
                registry.register(listener, token, Interest::READABLE)
            }
            (Acceptor::Memory(listener), _) => {
                listener.register(token.0);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }
}

#[cfg(unix)]
impl Drop for Listener {
    fn drop(&mut self) {
        let (Acceptor::Unix(_, Some(file)), Address::Unix(path)) = (&self.acceptor, &self.address)
        else {
            return;
        };
        // Another process may have removed our file and may listen on this path now. The inode
        // number tells: no other file gets ours while our socket is open.
        if FileId::of(path).is_ok_and(|now| now == *file) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The identity of a file, whatever its path.
#[cfg(unix)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
impl FileId {
    fn of(path: &std::path::Path) -> io::Result<FileId> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// A parsed address to listen on. Host names are not looked up yet.
pub(crate) enum Wanted<'a> {
    /// The path of a Unix socket.
    Unix(&'a str),
    /// A port of the machine; 0 for any.
    Tcp(u16),
}

impl Wanted<'_> {
    /// Reads `HOST:PORT` or `unix:PATH`, for sockets and for a simulation alike.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for anything else.
    pub(crate) fn parse(address: &str) -> io::Result<Wanted<'_>> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Wanted::Unix(path));
        }
        address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse().ok())
            .map(Wanted::Tcp)
            .ok_or_else(|| {
                let expected = "expected HOST:PORT or unix:PATH";
                io::Error::new(io::ErrorKind::InvalidInput, expected)
            })
    }
}

/// The error of a listener that could not be made, with its address.
pub(crate) fn cannot_listen(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Binds `address`: `HOST:PORT` (port 0 picks one), or `unix:PATH`.
pub(crate) fn bind(address: &str, config: &Config) -> io::Result<(Acceptor, Address)> {
    Wanted::parse(address)
        .and_then(|wanted| match wanted {
            Wanted::Unix(path) => bind_unix(path, config),
            Wanted::Tcp(_) => bind_tcp(address, config),
        })
        .map_err(|error| cannot_listen(address, &error))
}

fn bind_tcp(address: &str, config: &Config) -> io::Result<(Acceptor, Address)> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in address.to_socket_addrs()? {
        match bind_one(address, config) {
            Ok(listener) => {
                let address = Address::Inet(listener.local_addr()?);
                return Ok((Acceptor::Tcp(listener), address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr, config: &Config) -> io::Result<mio::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Allows a restarted server to bind its port while connections of the last run are in
    // TIME_WAIT. On Windows the same option would let two processes take each other's port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_tcp_options(&socket, config)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(config.listen_backlog.min(i32::MAX as u32) as i32)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// Sets the options of a listening socket that accepted sockets inherit.
pub(crate) fn set_tcp_options(socket: &socket2::Socket, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if config.unacknowledged_timeout.is_some() {
        socket.set_tcp_user_timeout(config.unacknowledged_timeout)?;
    }
    bound_send_buffer(socket, config)
}

/// Bounds the bytes that the kernel holds for a connection. Accepted sockets inherit it.
pub(crate) fn bound_send_buffer(socket: &socket2::Socket, config: &Config) -> io::Result<()> {
    if let Some(bytes) = config.send_buffer_bytes_max {
        socket.set_send_buffer_size(bytes)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(bytes) = config.unsent_bytes_max {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    Ok(())
}

#[cfg(unix)]
fn bind_unix(path: &str, config: &Config) -> io::Result<(Acceptor, Address)> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    use socket2::{Domain, SockAddr, Socket, Type};
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        // Checked first, because connecting to a file of any other kind is refused as well, and the
        // file would be taken for an old socket and removed.
        if !metadata.file_type().is_socket() {
            let why = format!("{path} exists and is not a socket");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        // A socket file to which connecting is refused was left by a process that has ended. Not
        // blocking: a server whose backlog is full would let a blocking connect wait.
        if mio::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            std::fs::remove_file(path)?;
        }
    }
    // Not `UnixListener::bind`, which chooses the backlog itself.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(config.listen_backlog.min(i32::MAX as u32) as i32)?;
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let listener = mio::net::UnixListener::from_std(listener);
    let file = FileId::of(path.as_ref()).ok();
    Ok((Acceptor::Unix(listener, file), Address::Unix(path.into())))
}

#[cfg(not(unix))]
fn bind_unix(_: &str, _: &Config) -> io::Result<(Acceptor, Address)> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Unix sockets need a Unix system",
    ))
}

/// Whether an error of `accept` means that the process or the system has run out of file
/// descriptors or memory. Other errors are about one connection, and the next may be accepted.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE and ENFILE have the same numbers on all Unix systems, ENOBUFS has not. ENOMEM has an
    // `ErrorKind` of its own.
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    const WSAEMFILE: i32 = 10024;
    matches!(
        error.raw_os_error(),
        Some(EMFILE | ENFILE | ENOBUFS | WSAEMFILE)
    ) || error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        for (timeout, send_buffer_bytes_max, unsent_bytes_max) in [
            (None, None, None),
            (Some(Duration::from_secs(7)), Some(8192), Some(4096)),
        ] {
            let config = Config {
                unacknowledged_timeout: timeout,
                send_buffer_bytes_max,
                unsent_bytes_max,
                ..Config::default()
            };
            let (acceptor, address) = bind("127.0.0.1:0", &config).unwrap();
            let Address::Inet(inet) = address else {
                panic!("a listener on TCP has an address");
            };
            let _client = std::net::TcpStream::connect(inet).unwrap();
            let mut listener = Listener::new(acceptor, address, 0, 0);
            let began = Instant::now();
            let accepted = loop {
                match listener.accept() {
                    Ok((socket, _)) => break socket,
                    Err(_) => assert!(began.elapsed() < Duration::from_secs(60)),
                }
            };
            let Socket::Tcp(stream) = accepted else {
                panic!("it was accepted on TCP");
            };
            let socket = socket2::SockRef::from(&stream);
            assert_eq!(socket.tcp_user_timeout().unwrap(), timeout);
            // Linux doubles the value.
            let bytes = socket.send_buffer_size().unwrap();
            assert_eq!(
                bytes == 2 * 8192,
                send_buffer_bytes_max.is_some(),
                "{bytes}"
            );
            let unsent = socket.tcp_notsent_lowat().unwrap();
            assert_eq!(unsent == 4096, unsent_bytes_max.is_some(), "{unsent}");
        }
    }
}
