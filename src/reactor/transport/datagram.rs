//! UDP sockets: of the kernel, or in memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::reactor::config::Config;

use super::memory_datagrams::{DatagramNet, MemoryDatagrams, parse_address};

/// The network interface of a multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MulticastInterface {
    /// The one that the system chooses.
    Any,
    /// The one with this address, for groups of IPv4.
    Address(Ipv4Addr),
    /// The one with this index, for groups of IPv6. Source: RFC 3493, section 4.
    Index(u32),
}

/// The options of a socket that is made.
#[derive(Clone)]
pub(crate) struct UdpOptions {
    pub(crate) peer: Option<String>,
    pub(crate) may_broadcast: bool,
    pub(crate) shares_port: bool,
    pub(crate) groups: Vec<(IpAddr, MulticastInterface)>,
    pub(crate) multicast_interface: MulticastInterface,
    pub(crate) multicast_ttl: Option<u32>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) datagram_bytes_max: usize,
    pub(crate) queue_bytes_max: usize,
}

/// Bytes that no datagram has: a buffer of this length shows that none was cut. Source: RFC 768, `Length`.
pub(crate) const RECEIVE_BYTES: usize = 64 * 1024 + 1;

/// A socket that is non-blocking and bound.
pub(crate) enum DatagramSocket {
    Kernel(mio::net::UdpSocket),
    Memory(MemoryDatagrams),
}

impl DatagramSocket {
    /// Makes a socket of the kernel, or in memory if there is a `net`. Names are looked up at once.
    ///
    /// # Errors
    ///
    /// When the address cannot be parsed or bound, or an option cannot be set. The text names the address.
    pub(crate) fn open(
        address: &str,
        options: &UdpOptions,
        config: &Config,
        net: Option<&Rc<DatagramNet>>,
    ) -> io::Result<(DatagramSocket, Option<SocketAddr>)> {
        let opened = match net {
            Some(net) => open_in_memory(address, options, config, net),
            None => open_in_kernel(address, options, config),
        };
        opened.map_err(|error| {
            let text = format!("cannot open a UDP socket on {address}: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    /// The address to which it is bound, with the real port.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            DatagramSocket::Kernel(socket) => socket.local_addr(),
            DatagramSocket::Memory(socket) => Ok(socket.address()),
        }
    }

    /// Has polls report that datagrams have come. There is no registry in a simulation.
    pub(crate) fn register(&mut self, registry: Option<&Registry>, token: Token) -> io::Result<()> {
        match (self, registry) {
            (DatagramSocket::Kernel(socket), Some(registry)) => {
                registry.register(socket, token, Interest::READABLE)
            }
            (DatagramSocket::Memory(socket), _) => {
                socket.register(token.0, false);
                Ok(())
            }
            (DatagramSocket::Kernel(_), None) => Ok(()),
        }
    }

    /// Has polls report room for datagrams too, or no longer.
    pub(crate) fn set_wants_writable(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        wants_writable: bool,
    ) -> io::Result<()> {
        match (self, registry) {
            (DatagramSocket::Kernel(socket), Some(registry)) => {
                let interest = match wants_writable {
                    true => Interest::READABLE | Interest::WRITABLE,
                    false => Interest::READABLE,
                };
                registry.reregister(socket, token, interest)
            }
            (DatagramSocket::Memory(socket), _) => {
                socket.register(token.0, wants_writable);
                Ok(())
            }
            (DatagramSocket::Kernel(_), None) => Ok(()),
        }
    }

    /// Ends the reports of polls. Errors are ignored: the socket is closed next.
    pub(crate) fn deregister(&mut self, registry: Option<&Registry>) {
        if let (DatagramSocket::Kernel(socket), Some(registry)) = (self, registry) {
            let _ = registry.deregister(socket);
        }
    }

    /// Takes the datagram that has waited longest. Returns its length and its sender.
    #[inline]
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            DatagramSocket::Kernel(socket) => socket.recv_from(buffer),
            DatagramSocket::Memory(socket) => socket.receive(buffer),
        }
    }

    /// Sends a datagram, to the peer of a connected socket if `to` is `None`.
    #[inline]
    pub(crate) fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let sent = match (self, to) {
            (DatagramSocket::Kernel(socket), Some(to)) => socket.send_to(bytes, to),
            (DatagramSocket::Kernel(socket), None) => socket.send(bytes),
            (DatagramSocket::Memory(socket), to) => return socket.send(bytes, to),
        };
        sent.map(|_| ())
    }

    /// Joins a group of multicast on an interface, or leaves it.
    pub(crate) fn set_member(
        &self,
        group: IpAddr,
        interface: MulticastInterface,
        joins: bool,
    ) -> io::Result<()> {
        let done = check_interface(group, interface).and_then(|()| match self {
            DatagramSocket::Memory(socket) => socket.set_member(group, joins),
            DatagramSocket::Kernel(socket) => {
                set_member(SockRef::from(socket), group, interface, joins)
            }
        });
        done.map_err(|error| {
            let verb = if joins { "join" } else { "leave" };
            io::Error::new(error.kind(), format!("cannot {verb} {group}: {error}"))
        })
    }
}

/// Checks that an interface is named in the way of the group's family.
fn check_interface(group: IpAddr, interface: MulticastInterface) -> io::Result<()> {
    match (group, interface) {
        (IpAddr::V4(_), MulticastInterface::Index(_)) => Err(other_interface("an address")),
        (IpAddr::V6(_), MulticastInterface::Address(_)) => Err(other_interface("an index")),
        _ => Ok(()),
    }
}

fn set_member(
    socket: SockRef<'_>,
    group: IpAddr,
    interface: MulticastInterface,
    joins: bool,
) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            let address = match interface {
                MulticastInterface::Address(address) => address,
                MulticastInterface::Any | MulticastInterface::Index(_) => Ipv4Addr::UNSPECIFIED,
            };
            match joins {
                true => socket.join_multicast_v4(&group, &address),
                false => socket.leave_multicast_v4(&group, &address),
            }
        }
        IpAddr::V6(group) => {
            let index = match interface {
                MulticastInterface::Index(index) => index,
                MulticastInterface::Any | MulticastInterface::Address(_) => 0,
            };
            match joins {
                true => socket.join_multicast_v6(&group, index),
                false => socket.leave_multicast_v6(&group, index),
            }
        }
    }
}

fn other_interface(expected: &str) -> io::Error {
    let text = format!("the interface must be named by {expected}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn open_in_memory(
    address: &str,
    options: &UdpOptions,
    config: &Config,
    net: &Rc<DatagramNet>,
) -> io::Result<(DatagramSocket, Option<SocketAddr>)> {
    let shares_port = options.shares_port || config.reuse_port;
    let address = parse_address(address)?;
    check_interface(address.ip(), options.multicast_interface)?;
    let socket = net.bind(address, shares_port)?;
    if options.may_broadcast {
        socket.set_broadcast();
    }
    let peer = options.peer.as_deref().map(parse_address).transpose()?;
    let peer = peer.map(|peer| socket.connect(peer));
    let socket = DatagramSocket::Memory(socket);
    for (group, interface) in &options.groups {
        socket.set_member(*group, *interface, true)?;
    }
    Ok((socket, peer))
}

fn open_in_kernel(
    address: &str,
    options: &UdpOptions,
    config: &Config,
) -> io::Result<(DatagramSocket, Option<SocketAddr>)> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in address.to_socket_addrs()? {
        match open_one(address, options, config) {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_one(
    address: SocketAddr,
    options: &UdpOptions,
    config: &Config,
) -> io::Result<(DatagramSocket, Option<SocketAddr>)> {
    use socket2::{Domain, Protocol, Socket, Type};
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if options.shares_port {
        socket.set_reuse_address(true)?;
    }
    #[cfg(unix)]
    if options.shares_port || config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = config;
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if options.may_broadcast {
        socket.set_broadcast(true)?;
    }
    if let Some(ttl) = options.multicast_ttl {
        match address {
            SocketAddr::V4(_) => socket.set_multicast_ttl_v4(ttl)?,
            SocketAddr::V6(_) => socket.set_multicast_hops_v6(ttl)?,
        }
    }
    check_interface(address.ip(), options.multicast_interface)?;
    match options.multicast_interface {
        MulticastInterface::Any => {}
        MulticastInterface::Address(interface) => socket.set_multicast_if_v4(&interface)?,
        MulticastInterface::Index(index) => socket.set_multicast_if_v6(index)?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let peer = match &options.peer {
        None => None,
        Some(name) => Some(connect(&socket, address, name).map_err(|error| {
            let text = format!("connecting to {name}: {error}");
            io::Error::new(error.kind(), text)
        })?),
    };
    let socket = DatagramSocket::Kernel(mio::net::UdpSocket::from_std(socket.into()));
    for (group, interface) in &options.groups {
        socket.set_member(*group, *interface, true)?;
    }
    Ok((socket, peer))
}

/// Connects a socket to the first address of a name that is of the family of `local`.
fn connect(socket: &socket2::Socket, local: SocketAddr, name: &str) -> io::Result<SocketAddr> {
    let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut addresses = name.to_socket_addrs()?;
    let peer = addresses.find(|address| address.is_ipv4() == local.is_ipv4());
    let peer = peer.ok_or_else(|| {
        let text = format!("the name has no address of {family}, as the socket");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    socket.connect(&peer.into())?;
    // The sender of its answers: not the same for an unspecified address.
    let connected = socket.peer_addr()?;
    Ok(connected.as_socket().unwrap_or(peer))
}
