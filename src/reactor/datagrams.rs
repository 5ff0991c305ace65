//! The UDP sockets of a reactor: what each has queued, and what its callbacks are to be told.
//!
//! A datagram goes to the kernel at once. Those that the kernel has no room for wait in a queue of their socket, in their
//! order, until the poll reports that there is room; a queue that is full refuses the newest. The callbacks are kept
//! apart, in `reactor::watched`, so that a callback may send on its own socket, and close it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use mio::Token;

use super::close::Sent;
use super::config::{Config, QUEUED_MESSAGE_BYTES};
use super::connection::table::Table;
use super::id::ConnId;
use super::stats::Stats;
use super::transport::datagram::{DatagramSocket, MulticastInterface, RECEIVE_BYTES, UdpOptions};
use super::transport::memory::Net;
use super::transport::memory_datagrams::DatagramNet;

/// An event of a socket, for its callbacks.
pub(crate) enum UdpEvent {
    /// A datagram of so many bytes stands at the beginning of the buffer.
    Datagram { length: usize, from: SocketAddr },
    /// A datagram was not sent, or not delivered; the socket goes on.
    Error(io::Error),
    /// The kernel has returned an error instead of a datagram; the socket goes on.
    ReceiveError(io::Error),
    /// The queue is empty, after a datagram was refused.
    Drained,
}

/// A datagram that waits for room.
struct Unsent {
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
}

struct Socket {
    socket: DatagramSocket,
    address: SocketAddr,
    peer: Option<SocketAddr>,
    datagram_bytes_max: usize,
    unsent: VecDeque<Unsent>,
    unsent_bytes: usize,
    unsent_bytes_max: usize,
    /// The poll has reported room, and the queue was not offered since.
    is_writable: bool,
    /// The queue has refused a datagram, and `on_drain` was not called since.
    has_refused: bool,
    /// The error of an earlier datagram, for `on_error`.
    error: Option<io::Error>,
    /// Events between two readings of the clock; see `reactor::budget`.
    pace: u8,
}

impl Socket {
    /// Sends a datagram. A connected socket may return the error of an earlier one, which an ICMP message has brought;
    /// that error is kept for `on_error`, and the datagram is offered again.
    fn offer(&mut self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let error = match self.socket.send(bytes, to) {
            Err(error) if self.peer.is_some() && error.kind() != io::ErrorKind::WouldBlock => error,
            result => return result,
        };
        match self.socket.send(bytes, to) {
            Err(again) if again.kind() == error.kind() => Err(again),
            result => {
                self.error = Some(error);
                result
            }
        }
    }

    /// Queues a datagram for which the kernel has no room.
    fn queue(&mut self, bytes: &[u8], to: Option<SocketAddr>) -> Sent {
        let counted_bytes = bytes.len() + QUEUED_MESSAGE_BYTES;
        if self.unsent_bytes_max < self.unsent_bytes + counted_bytes {
            self.has_refused = true;
            return Sent::Full;
        }
        self.unsent_bytes += counted_bytes;
        let bytes = bytes.to_vec();
        self.unsent.push_back(Unsent { to, bytes });
        Sent::Queued
    }

    /// Sends what is queued, until the kernel has no more room.
    ///
    /// # Errors
    ///
    /// That of a datagram, which is dropped. Those behind it are still queued.
    fn flush(&mut self, stats: &mut Stats) -> io::Result<()> {
        while let Some(Unsent { to, bytes }) = self.unsent.pop_front() {
            match self.offer(&bytes, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent.push_front(Unsent { to, bytes });
                    break;
                }
                result => {
                    self.unsent_bytes -= bytes.len() + QUEUED_MESSAGE_BYTES;
                    result?;
                    count_sent(stats, bytes.len());
                }
            }
        }
        self.is_writable = false;
        Ok(())
    }

    /// Has polls report room, or no longer.
    fn set_wants_writable(&mut self, table: &Table, id: ConnId, wants: bool) -> io::Result<()> {
        let token = Token(id.index as usize);
        self.socket
            .set_wants_writable(table.registry(), token, wants)
    }
}

fn count_sent(stats: &mut Stats, length: usize) {
    stats.datagrams_sent += 1;
    stats.sent_bytes += length as u64;
}

/// All UDP sockets of a reactor.
pub(crate) struct Datagrams {
    sockets: HashMap<ConnId, Socket>,
    /// Shared by all sockets; empty until the first receives, and while callbacks read it.
    buffer: Vec<u8>,
    /// Where the sockets of a simulation are.
    net: Option<Rc<DatagramNet>>,
}

impl Datagrams {
    pub(crate) fn new(net: Option<&Rc<Net>>) -> Datagrams {
        Datagrams {
            sockets: HashMap::new(),
            buffer: Vec::new(),
            net: net.map(DatagramNet::new),
        }
    }

    /// The network of a simulation.
    pub(crate) fn net(&self) -> Option<&Rc<DatagramNet>> {
        self.net.as_ref()
    }

    // ── in and out ───────────────────────────────────────────────────────────────────────────

    /// Opens a socket at a place of the table, and registers it with the poll.
    ///
    /// # Errors
    ///
    /// As [`DatagramSocket::open`], or the poll's.
    pub(crate) fn open(
        &mut self,
        table: &Table,
        id: ConnId,
        (address, options): (&str, &UdpOptions),
        config: &Config,
    ) -> io::Result<SocketAddr> {
        let opened = DatagramSocket::open(address, options, config, self.net.as_ref())?;
        let (mut socket, peer) = opened;
        let address = socket.address()?;
        socket.register(table.registry(), Token(id.index as usize))?;
        let socket = Socket {
            socket,
            address,
            peer,
            datagram_bytes_max: options.datagram_bytes_max,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            unsent_bytes_max: options.queue_bytes_max,
            is_writable: false,
            has_refused: false,
            error: None,
            pace: 1,
        };
        self.sockets.insert(id, socket);
        Ok(address)
    }

    /// Closes a socket. Datagrams in its queue are dropped. `false` when it was closed before.
    pub(crate) fn close(&mut self, table: &Table, id: ConnId) -> bool {
        let Some(mut socket) = self.sockets.remove(&id) else {
            return false;
        };
        socket.socket.deregister(table.registry());
        if self.sockets.is_empty() {
            self.buffer = Vec::new();
        }
        true
    }

    /// Closes all sockets.
    pub(crate) fn close_all(&mut self) {
        self.sockets.clear();
        self.buffer = Vec::new();
    }

    // ── events ───────────────────────────────────────────────────────────────────────────────

    /// Notes that the poll has reported room.
    pub(crate) fn note_writable(&mut self, id: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.is_writable = true;
        }
    }

    pub(crate) fn pace(&self, id: ConnId) -> u8 {
        self.sockets.get(&id).map_or(1, |socket| socket.pace)
    }

    pub(crate) fn set_pace(&mut self, id: ConnId, pace: u8) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.pace = pace;
        }
    }

    /// Takes the buffer out, so that callbacks can read it while they have the reactor.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        // The first time, and after a callback has panicked.
        buffer.resize(RECEIVE_BYTES, 0);
        buffer
    }

    pub(crate) fn give_back_buffer(&mut self, buffer: Vec<u8>) {
        if !self.sockets.is_empty() {
            self.buffer = buffer;
        }
    }

    /// Returns the next event of a socket; a datagram is put into `buffer`. `None` when there is none, or no socket.
    pub(crate) fn next_event(
        &mut self,
        table: &mut Table,
        id: ConnId,
        buffer: &mut [u8],
    ) -> Option<UdpEvent> {
        let socket = self.sockets.get_mut(&id)?;
        if let Some(error) = socket.error.take() {
            return Some(UdpEvent::Error(error));
        }
        if socket.is_writable {
            if let Err(error) = socket.flush(table.stats_mut()) {
                return Some(UdpEvent::Error(error));
            }
            if socket.unsent.is_empty() {
                if let Err(error) = socket.set_wants_writable(table, id, false) {
                    return Some(UdpEvent::Error(error));
                }
                if std::mem::take(&mut socket.has_refused) {
                    return Some(UdpEvent::Drained);
                }
            }
            // The kernel tells of an earlier datagram when a later one is sent.
            if let Some(error) = socket.error.take() {
                return Some(UdpEvent::Error(error));
            }
        }
        loop {
            return match socket.socket.receive(buffer) {
                Ok((length, from)) if socket.datagram_bytes_max < length => {
                    let most = socket.datagram_bytes_max;
                    let text = format!(
                        "a datagram of {from} has {length} bytes, and `datagram_bytes_max` is {most}"
                    );
                    let error = io::Error::new(io::ErrorKind::InvalidData, text);
                    Some(UdpEvent::Error(error))
                }
                Ok((length, from)) => {
                    let stats = table.stats_mut();
                    stats.datagrams_received += 1;
                    stats.received_bytes += length as u64;
                    Some(UdpEvent::Datagram { length, from })
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(UdpEvent::ReceiveError(error)),
            };
        }
    }

    // ── orders of the application ────────────────────────────────────────────────────────────

    /// Sends a datagram, or queues it behind others; to the peer of a connected socket if `to` is `None`.
    ///
    /// # Errors
    ///
    /// The kernel's; when `to` does not fit the socket.
    pub(crate) fn send(
        &mut self,
        table: &mut Table,
        id: ConnId,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<Sent> {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return Ok(Sent::Gone);
        };
        let to = match (socket.peer, to) {
            (None, None) => {
                let why = "the socket is not connected, so the datagram needs an address";
                return Err(io::Error::new(io::ErrorKind::NotConnected, why));
            }
            (Some(peer), Some(to)) if peer != to => {
                let why = format!("the socket is connected to {peer}, and cannot send to {to}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            // Some systems refuse an address on a connected socket (EISCONN).
            (Some(_), _) => None,
            (None, to) => to,
        };
        let mut sent = Ok(Sent::Queued);
        if socket.unsent.is_empty() {
            match socket.offer(bytes, to) {
                Ok(()) => count_sent(table.stats_mut(), bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sent = Ok(socket.queue(bytes, to));
                    socket.set_wants_writable(table, id, true)?;
                }
                Err(error) => sent = Err(error),
            }
            if socket.error.is_some() {
                table.handle_watched_again(id);
            }
        } else {
            sent = Ok(socket.queue(bytes, to));
        }
        if matches!(sent, Ok(Sent::Full)) {
            table.stats_mut().datagrams_dropped += 1;
        }
        sent
    }

    /// Joins a group of multicast on an interface, or leaves it.
    ///
    /// # Errors
    ///
    /// The kernel's; when the socket is closed.
    pub(crate) fn set_member(
        &self,
        id: ConnId,
        group: IpAddr,
        interface: MulticastInterface,
        joins: bool,
    ) -> io::Result<()> {
        match self.sockets.get(&id) {
            Some(socket) => socket.socket.set_member(group, interface, joins),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the socket is closed",
            )),
        }
    }

    // ── questions ────────────────────────────────────────────────────────────────────────────

    pub(crate) fn address(&self, id: ConnId) -> Option<SocketAddr> {
        self.sockets.get(&id).map(|socket| socket.address)
    }

    /// Bytes that wait for room; each datagram counts [`QUEUED_MESSAGE_BYTES`] more than it has.
    pub(crate) fn queued_bytes(&self, id: ConnId) -> usize {
        self.sockets
            .get(&id)
            .map_or(0, |socket| socket.unsent_bytes)
    }
}
