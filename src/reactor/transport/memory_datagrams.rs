//! Datagrams in memory: they stand in for the kernel's UDP sockets in a simulation.
//!
//! A datagram that is sent is in the receiver's inbox at once, or nowhere: none is reordered. As in the kernel, a datagram
//! to a socket whose inbox is full is dropped without a word, one to an address without a socket is answered by an ICMP
//! message, which only a connected sender hears, and a connected socket receives from its peer alone. A group of multicast
//! is delivered to each socket of its port that has joined, the sender included, whatever the interface.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::reactor::config::QUEUED_MESSAGE_BYTES;

use super::memory::{Net, Readiness};

/// The first port that a simulation gives to a socket on port 0. Source: RFC 6335, section 6, the dynamic ports.
const FIRST_PORT: u16 = 49_152;

/// The most bytes of an inbox; each datagram counts as in a queue.
const INBOX_BYTES_MAX: usize = 1024 * 1024;

/// The longest datagram of IPv4, in bytes. Source: RFC 768, and RFC 791, section 3.1.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_507;

/// One end, and what has come for it.
struct End {
    address: SocketAddr,
    peer: Option<SocketAddr>,
    groups: Vec<IpAddr>,
    may_broadcast: bool,
    shares_port: bool,
    token: Option<usize>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    inbox_bytes: usize,
    /// The error of an earlier datagram, which the next operation returns.
    error: Option<io::ErrorKind>,
}

impl End {
    fn receive(&mut self, net: &Net, from: SocketAddr, bytes: &[u8]) {
        let counted_bytes = bytes.len() + QUEUED_MESSAGE_BYTES;
        if self.peer.is_some_and(|peer| peer != from)
            || INBOX_BYTES_MAX < self.inbox_bytes + counted_bytes
        {
            return;
        }
        self.inbox_bytes += counted_bytes;
        self.inbox.push_back((from, bytes.to_vec()));
        self.notify(net, Readiness::READABLE);
    }

    fn notify(&self, net: &Net, readiness: Readiness) {
        if let Some(token) = self.token {
            net.notify(token, readiness);
        }
    }
}

/// The network that all sockets of one simulation share.
pub(crate) struct DatagramNet {
    net: Rc<Net>,
    ends: RefCell<Vec<Rc<RefCell<End>>>>,
}

impl DatagramNet {
    pub(crate) fn new(net: &Rc<Net>) -> Rc<DatagramNet> {
        Rc::new(DatagramNet {
            net: Rc::clone(net),
            ends: RefCell::default(),
        })
    }

    /// Makes a socket with this address; port 0 chooses one.
    ///
    /// # Errors
    ///
    /// When another socket has the address, unless both share it.
    pub(crate) fn bind(
        self: &Rc<Self>,
        wanted: SocketAddr,
        shares_port: bool,
    ) -> io::Result<MemoryDatagrams> {
        let is_free = |address: &SocketAddr| {
            let ends = self.ends.borrow();
            ends.iter().all(|end| {
                let end = end.borrow();
                end.address != *address || end.shares_port && shares_port
            })
        };
        let at = |port| SocketAddr::new(reachable(wanted.ip()), port);
        let address = match wanted.port() {
            0 => (FIRST_PORT..=u16::MAX).map(at).find(is_free),
            port => Some(at(port)).filter(is_free),
        };
        let end = Rc::new(RefCell::new(End {
            address: address.ok_or(io::ErrorKind::AddrInUse)?,
            peer: None,
            groups: Vec::new(),
            may_broadcast: false,
            shares_port,
            token: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            error: None,
        }));
        self.ends.borrow_mut().push(Rc::clone(&end));
        Ok(MemoryDatagrams {
            shared: Rc::clone(self),
            end,
        })
    }

    /// Brings a datagram to the first end for which `is_it` returns `true`, or to all of them. Returns whether there was
    /// one.
    fn deliver(
        &self,
        from: SocketAddr,
        bytes: &[u8],
        to_all: bool,
        is_it: impl Fn(&End) -> bool,
    ) -> bool {
        let mut was_there = false;
        for end in self.ends.borrow().iter() {
            let mut end = end.borrow_mut();
            if is_it(&end) {
                was_there = true;
                end.receive(&self.net, from, bytes);
                if !to_all {
                    break;
                }
            }
        }
        was_there
    }
}

/// The address at which others reach a socket that is bound to this one.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Reads `HOST:PORT`. A host that is a name is this machine: a simulation has no other.
///
/// # Errors
///
/// `InvalidInput` for anything else.
pub(crate) fn parse_address(address: &str) -> io::Result<SocketAddr> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let parts = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty());
    let port = parts.and_then(|(_, port)| port.parse().ok());
    let expected = || io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT");
    port.map(|port: u16| (Ipv4Addr::LOCALHOST, port).into())
        .ok_or_else(expected)
}

/// A UDP socket in memory. Dropping it closes it.
pub(crate) struct MemoryDatagrams {
    shared: Rc<DatagramNet>,
    end: Rc<RefCell<End>>,
}

impl MemoryDatagrams {
    /// Has polls report by `token` that datagrams have come, and if `wants_writable` that there is room.
    pub(crate) fn register(&self, token: usize, wants_writable: bool) {
        let mut end = self.end.borrow_mut();
        end.token = Some(token);
        if wants_writable {
            end.notify(&self.shared.net, Readiness::WRITABLE);
        }
        if !end.inbox.is_empty() {
            end.notify(&self.shared.net, Readiness::READABLE);
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.end.borrow().address
    }

    pub(crate) fn set_broadcast(&self) {
        self.end.borrow_mut().may_broadcast = true;
    }

    /// Connects to a peer. Returns its address as the sender of its datagrams.
    pub(crate) fn connect(&self, peer: SocketAddr) -> SocketAddr {
        let peer = SocketAddr::new(reachable(peer.ip()), peer.port());
        self.end.borrow_mut().peer = Some(peer);
        peer
    }

    /// Joins a group of multicast, or leaves it.
    ///
    /// # Errors
    ///
    /// When the address is no group; when the socket is a member already, or is none.
    pub(crate) fn set_member(&self, group: IpAddr, joins: bool) -> io::Result<()> {
        if !group.is_multicast() {
            let why = "the address is no group of multicast";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let groups = &mut self.end.borrow_mut().groups;
        match (groups.iter().position(|joined| *joined == group), joins) {
            (None, true) => groups.push(group),
            (Some(index), false) => _ = groups.remove(index),
            (Some(_), true) => return Err(io::ErrorKind::AddrInUse.into()),
            (None, false) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }
        Ok(())
    }

    /// Takes the datagram that has waited longest, as far as `buffer` has room. Returns its length, and its sender.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; that of an earlier datagram.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.shared.net.begin_datagram();
        if let Some(error) = self.end.borrow_mut().error.take() {
            return Err(error.into());
        }
        let (from, bytes) = self.take().ok_or(io::ErrorKind::WouldBlock)?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok((length, from))
    }

    /// Takes the datagram that has waited longest.
    pub(crate) fn take(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let mut end = self.end.borrow_mut();
        let (from, bytes) = end.inbox.pop_front()?;
        end.inbox_bytes -= bytes.len() + QUEUED_MESSAGE_BYTES;
        Some((from, bytes))
    }

    /// Sends a datagram, to the peer if `to` is `None`.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub(crate) fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let net = &self.shared.net;
        if let Some(error) = self.end.borrow_mut().error.take() {
            return Err(error.into());
        }
        if net.begin_datagram() {
            self.end.borrow().notify(net, Readiness::WRITABLE);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if DATAGRAM_BYTES_MAX < bytes.len() {
            let why = "the datagram is longer than 65,507 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let peer = self.end.borrow().peer;
        let to = to.or(peer).ok_or(io::ErrorKind::NotConnected)?;
        if self.address().is_ipv4() && to.is_ipv6() {
            let why = "the socket is of IPv4, and the address of IPv6";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if to.ip() == Ipv4Addr::BROADCAST && !self.end.borrow().may_broadcast {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if !self.bring(bytes, to) && peer.is_some() {
            let mut end = self.end.borrow_mut();
            end.error = Some(io::ErrorKind::ConnectionRefused);
            end.notify(net, Readiness::READABLE);
        }
        Ok(())
    }

    /// Brings a datagram to the sockets that have this address. Returns `false` if one of them had to be there.
    pub(crate) fn bring(&self, bytes: &[u8], to: SocketAddr) -> bool {
        let (host, port) = (to.ip(), to.port());
        let to = SocketAddr::new(reachable(host), port);
        let is_broadcast = host == Ipv4Addr::BROADCAST;
        let to_all = is_broadcast || host.is_multicast();
        self.shared
            .deliver(self.address(), bytes, to_all, |end| match to_all {
                true if is_broadcast => end.address.port() == port && end.address.is_ipv4(),
                true => end.address.port() == port && end.groups.contains(&host),
                false => end.address == to,
            })
            || to_all
    }
}

impl Drop for MemoryDatagrams {
    fn drop(&mut self) {
        if let Some(token) = self.end.borrow().token {
            self.shared.net.forget(token);
        }
        let mut ends = self.shared.ends.borrow_mut();
        ends.retain(|end| !Rc::ptr_eq(end, &self.end));
    }
}
