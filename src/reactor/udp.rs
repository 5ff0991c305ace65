//! UDP: datagrams from anywhere with a reactor. The callbacks of a socket stand in `session::udp`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::close::Sent;
use super::datagrams::UdpEvent;
use super::id::ConnId;
use super::outcome::{Outcome, Sealed};
use super::reactor::{Reactor, Watched};
use super::transport::datagram::{MulticastInterface, UdpOptions};
use super::transport::memory::Readiness;
use super::transport::memory_datagrams::MemoryDatagrams;

/// The most datagrams of one socket in one turn.
const DATAGRAMS_PER_TURN: u32 = 64;

/// Names one UDP socket of a reactor, and no later one. `Copy`, eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UdpId(pub(crate) ConnId);

impl Sealed for UdpId {}
impl Outcome for UdpId {}

/// The part of a turn that one socket may use.
pub(crate) struct UdpTurn {
    events_left: u32,
    /// Receiving has failed, and the socket had no other event.
    only_fails: bool,
}

/// # Datagrams
impl<S: 'static> Reactor<S> {
    /// Sends a datagram on a UDP socket, from any callback.
    ///
    /// The kernel gets it at once. [`Sent::Queued`] says that the kernel has it, or that it waits in the queue of the
    /// socket until the kernel has room. This does not say whether it arrives. A full queue drops it: [`Sent::Full`], and
    /// [`Stats::datagrams_dropped`](crate::Stats::datagrams_dropped). [`Sent::Gone`] says that the socket is closed.
    ///
    /// # Errors
    ///
    /// The kernel's: a datagram that is longer than 65,507 bytes (`EMSGSIZE`; a little more for IPv6), an address that
    /// has no route or is of the other family, a broadcast without [`UdpCallbacks::broadcast`](crate::UdpCallbacks::broadcast). On a connected socket each
    /// address but that of its peer.
    pub fn send_to(
        &mut self,
        id: UdpId,
        bytes: impl AsRef<[u8]>,
        address: SocketAddr,
    ) -> io::Result<Sent> {
        self.datagrams
            .send(&mut self.table, id.0, bytes.as_ref(), Some(address))
    }

    /// Sends a datagram to the peer of a connected UDP socket; otherwise as [`send_to`](Self::send_to).
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to), and when the socket is not connected.
    pub fn send_datagram(&mut self, id: UdpId, bytes: impl AsRef<[u8]>) -> io::Result<Sent> {
        self.datagrams
            .send(&mut self.table, id.0, bytes.as_ref(), None)
    }

    /// Returns the address of a UDP socket, with the port that the kernel chose for port 0. `None` when the socket is
    /// closed.
    pub fn udp_address(&self, id: UdpId) -> Option<SocketAddr> {
        self.datagrams.address(id.0)
    }

    /// Bytes of datagrams that the kernel had no room for. Each datagram counts
    /// [`QUEUED_MESSAGE_BYTES`](crate::QUEUED_MESSAGE_BYTES) more than it has. Zero for a closed socket.
    pub fn udp_queued_bytes(&self, id: UdpId) -> usize {
        self.datagrams.queued_bytes(id.0)
    }

    /// Makes a UDP socket a member of a group of multicast, on one network interface.
    ///
    /// # Errors
    ///
    /// The kernel's, such as for an address that is no group, a group that was joined before, or a machine without such
    /// an interface; an interface that is named in the way of the other family; a closed socket.
    pub fn join_group(
        &mut self,
        id: UdpId,
        group: impl Into<IpAddr>,
        interface: MulticastInterface,
    ) -> io::Result<()> {
        self.datagrams
            .set_member(id.0, group.into(), interface, true)
    }

    /// Ends the membership of a UDP socket in a group of multicast, on one network interface.
    ///
    /// # Errors
    ///
    /// As [`join_group`](Self::join_group), and when the socket is no member.
    pub fn leave_group(
        &mut self,
        id: UdpId,
        group: impl Into<IpAddr>,
        interface: MulticastInterface,
    ) -> io::Result<()> {
        self.datagrams
            .set_member(id.0, group.into(), interface, false)
    }

    /// Closes a UDP socket. Datagrams that wait in its queue are dropped, and no callback of it is called any more.
    /// Returns `false` when the socket was closed before.
    pub fn close_udp(&mut self, id: UdpId) -> bool {
        let was_open = self.datagrams.close(&self.table, id.0);
        // While one of its callbacks runs they are dropped behind it.
        self.remove_watched(id.0);
        was_open
    }

    // ── for its callbacks ────────────────────────────────────────────────────────────────────

    /// Opens a socket, whose callbacks `make` returns.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened; the text names the address. When the reactor has stopped.
    pub(crate) fn open_udp(
        &mut self,
        address: &str,
        options: &UdpOptions,
        callbacks: Box<dyn Watched<S>>,
    ) -> io::Result<UdpId> {
        if self.is_stopped {
            let why = format!("cannot open a UDP socket on {address}: the reactor has stopped");
            return Err(io::Error::other(why));
        }
        let id = self.table.sources_mut().insert_watched();
        let (table, config) = (&self.table, &self.config);
        match self.datagrams.open(table, id, (address, options), config) {
            Ok(address) => {
                log::info!("receiving datagrams on {address}");
                self.watched.insert(id.index, callbacks);
                Ok(UdpId(id))
            }
            Err(error) => {
                self.table.sources_mut().remove_watched(id);
                Err(error)
            }
        }
    }

    /// Begins the part of a turn in which a socket is handled. Returns it, with the buffer for its datagrams, which
    /// [`end_udp_turn`](Self::end_udp_turn) gets back.
    pub(crate) fn begin_udp_turn(&mut self, id: UdpId, readiness: Readiness) -> (UdpTurn, Vec<u8>) {
        if readiness.writable {
            self.datagrams.note_writable(id.0);
        }
        self.budget
            .begin(self.table.now(), self.datagrams.pace(id.0));
        let turn = UdpTurn {
            events_left: DATAGRAMS_PER_TURN,
            only_fails: true,
        };
        (turn, self.datagrams.take_buffer())
    }

    /// Returns the next event of a socket. When the socket has used its part of the turn, the rest waits for the next
    /// turn.
    pub(crate) fn next_udp_event(
        &mut self,
        id: UdpId,
        turn: &mut UdpTurn,
        buffer: &mut [u8],
    ) -> Option<UdpEvent> {
        if self.is_stopped {
            return None;
        }
        if turn.events_left == 0 || self.is_udp_turn_over(id) {
            // A socket that only fails is not asked again before the poll reports it, or it could fail for ever.
            if 0 < turn.events_left || !turn.only_fails {
                self.table.handle_watched_again(id.0);
            }
            return None;
        }
        turn.events_left -= 1;
        let event = self.datagrams.next_event(&mut self.table, id.0, buffer);
        turn.only_fails &= matches!(event, Some(UdpEvent::ReceiveError(_)));
        event
    }

    /// Counts an event. Returns whether the socket has used its time.
    fn is_udp_turn_over(&mut self, id: UdpId) -> bool {
        if !self.budget.charge_message() {
            return false;
        }
        let now = self.read_clock();
        let pace = self.budget.note_clock(now);
        self.datagrams.set_pace(id.0, pace);
        self.budget.is_used(now)
    }

    pub(crate) fn end_udp_turn(&mut self, buffer: Vec<u8>) {
        self.datagrams.give_back_buffer(buffer);
    }

    /// A callback of a socket has panicked. Datagrams behind the one that it was called for wait for the next turn.
    pub(crate) fn continue_udp(&mut self, id: UdpId) {
        self.table.handle_watched_again(id.0);
    }

    /// A socket of a peer outside, in a simulation.
    ///
    /// # Panics
    ///
    /// When another socket has the address, or there is a kernel.
    pub(super) fn simulated_peer(&self, address: SocketAddr) -> Rc<MemoryDatagrams> {
        let net = self.datagrams.net().expect("a simulation has a network");
        let bound = net.bind(address, false);
        Rc::new(bound.expect("the address is free"))
    }
}
