//! UDP sockets: the callbacks of datagrams.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::Location;

use mio::Registry;

use crate::reactor::SetupResult;
use crate::reactor::close::Sent;
use crate::reactor::datagrams::UdpEvent;
use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, NextStep, Reactor, Watched};
use crate::reactor::transport::datagram::{MulticastInterface, UdpOptions};
use crate::reactor::transport::memory::Readiness;
use crate::reactor::udp::UdpId;

/// The argument of the callbacks of a UDP socket.
#[non_exhaustive]
pub struct Udp<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sending, publishing, timers, connecting.
    pub reactor: &'a mut Reactor<S>,
    /// The id of the socket that this callback was called for.
    pub id: UdpId,
    from: Option<SocketAddr>,
}

impl<S: 'static> Udp<'_, S> {
    /// Sends a datagram to the sender of the one that `on_datagram` has got, and in other callbacks to the peer of a
    /// connected socket.
    ///
    /// # Errors
    ///
    /// As [`Reactor::send_to`].
    pub fn reply(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Sent> {
        match self.from {
            Some(from) => self.reactor.send_to(self.id, bytes, from),
            None => self.reactor.send_datagram(self.id, bytes),
        }
    }

    /// Sends a datagram; see [`Reactor::send_to`].
    ///
    /// # Errors
    ///
    /// As [`Reactor::send_to`].
    pub fn send_to(&mut self, bytes: impl AsRef<[u8]>, address: SocketAddr) -> io::Result<Sent> {
        self.reactor.send_to(self.id, bytes, address)
    }

    /// Closes this socket; see [`Reactor::close_udp`].
    pub fn close(&mut self) -> bool {
        self.reactor.close_udp(self.id)
    }
}

type OnDatagram<S> = Box<dyn FnMut(&mut Udp<'_, S>, &[u8], SocketAddr)>;
type OnError<S> = Box<dyn FnMut(&mut Udp<'_, S>, &io::Error)>;
type OnDrain<S> = Box<dyn FnMut(&mut Udp<'_, S>)>;

/// The callbacks and options of a UDP socket.
pub struct UdpCallbacks<S> {
    options: UdpOptions,
    made_at: &'static Location<'static>,
    on_datagram: Option<OnDatagram<S>>,
    on_error: Option<OnError<S>>,
    on_drain: Option<OnDrain<S>>,
}

impl<S: 'static> UdpCallbacks<S> {
    /// Called with each datagram and the address of its sender, which anybody may forge. A datagram may be empty.
    ///
    /// A panic or an error of a callback is logged and counted, and the socket goes on with the next datagram.
    pub fn on_datagram<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Udp<'_, S>, &[u8], SocketAddr) -> R + 'static,
    ) {
        self.on_datagram = Some(Box::new(move |udp, bytes, from| {
            let outcome = call(udp, bytes, from);
            udp.reactor.note_outcome(outcome);
        }));
    }

    /// Called when a datagram is lost and the kernel says so. The socket goes on.
    ///
    /// That is a datagram that came and is longer than [`datagram_bytes_max`](Self::datagram_bytes_max) (of kind
    /// [`InvalidData`](io::ErrorKind::InvalidData)), one that waited in the queue and cannot be sent, and on a connected
    /// socket one that the peer's machine has refused by ICMP
    /// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused)). Without this callback they are logged at the level of
    /// debugging.
    pub fn on_error<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Udp<'_, S>, &io::Error) -> R + 'static,
    ) {
        self.on_error = Some(Box::new(move |udp, error| {
            let outcome = call(udp, error);
            udp.reactor.note_outcome(outcome);
        }));
    }

    /// Called when the queue is empty again, after it was full and refused a datagram.
    pub fn on_drain<R: Outcome>(&mut self, mut call: impl FnMut(&mut Udp<'_, S>) -> R + 'static) {
        self.on_drain = Some(Box::new(move |udp| {
            let outcome = call(udp);
            udp.reactor.note_outcome(outcome);
        }));
    }

    /// Connects the socket to `HOST:PORT`: it receives only from there, [`Reactor::send_datagram`] sends there, and
    /// `on_error` hears of datagrams that were refused. A name is looked up at once, which may block.
    pub fn connect(&mut self, address: impl Into<String>) {
        self.options.peer = Some(address.into());
    }

    /// Sets the longest datagram that is delivered, in bytes; a longer one is told to `on_error` and never cut. No limit
    /// but UDP's own, of 65,507 bytes or a little more, by default.
    pub fn datagram_bytes_max(&mut self, bytes: usize) {
        self.options.datagram_bytes_max = bytes;
    }

    /// Sets the most bytes that wait for room in the kernel; each datagram counts
    /// [`QUEUED_MESSAGE_BYTES`](crate::QUEUED_MESSAGE_BYTES) more than it has. A full queue drops the newest. As
    /// [`queue_high_bytes`](crate::ConnectionOptions::queue_high_bytes) of the reactor's options by default.
    pub fn queue_bytes_max(&mut self, bytes: usize) {
        self.options.queue_bytes_max = bytes;
    }

    /// Sets the bytes that the kernel keeps of datagrams that have come (`SO_RCVBUF`); those that come to a full buffer
    /// are lost. The kernel counts its own overhead too, of some hundred bytes for each datagram, and may allow less
    /// (`net.core.rmem_max` on Linux). The kernel's own by default. Not in a simulation, where it is 1 MiB.
    pub fn receive_buffer_bytes(&mut self, bytes: usize) {
        self.options.receive_buffer_bytes = Some(bytes);
    }

    /// Allows the socket to send to addresses of broadcast.
    pub fn broadcast(&mut self) {
        self.options.may_broadcast = true;
    }

    /// Lets other sockets have the same port, if they allow it too (`SO_REUSEADDR`, and on Unix `SO_REUSEPORT`): for
    /// groups of multicast, whose datagrams all of them get. A datagram to the address of a single host comes to only one of them.
    ///
    /// [`Config::reuse_port`](crate::Config::reuse_port) lets several reactors or processes share the clients of a port.
    pub fn share_port(&mut self) {
        self.options.shares_port = true;
    }

    /// Makes the socket a member of a group of multicast; see [`Reactor::join_group`].
    pub fn join_group(&mut self, group: impl Into<IpAddr>, interface: MulticastInterface) {
        self.options.groups.push((group.into(), interface));
    }

    /// Sets the network interface on which datagrams to groups of multicast go out. The system chooses by default.
    pub fn multicast_interface(&mut self, interface: MulticastInterface) {
        self.options.multicast_interface = interface;
    }

    /// Sets how many routers a datagram to a group of multicast may pass, plus one: 0 to 255. 1, the local network, by
    /// default.
    pub fn multicast_ttl(&mut self, ttl: u8) {
        self.options.multicast_ttl = Some(ttl.into());
    }

    fn handle(&mut self, udp: &mut Udp<'_, S>, event: UdpEvent, buffer: &[u8]) {
        match event {
            UdpEvent::Datagram { length, from } => {
                if let Some(call) = &mut self.on_datagram {
                    udp.reactor.note_callback("on_datagram");
                    call(udp, &buffer[..length], from);
                }
            }
            UdpEvent::Error(error) | UdpEvent::ReceiveError(error) => match &mut self.on_error {
                Some(call) => {
                    udp.reactor.note_callback("on_error");
                    call(udp, &error);
                }
                None => log::debug!("udp {}: {error}", udp.id.0),
            },
            UdpEvent::Drained => {
                if let Some(call) = &mut self.on_drain {
                    udp.reactor.note_callback("on_drain");
                    call(udp);
                }
            }
        }
    }
}

impl<S: 'static> Watched<S> for UdpCallbacks<S> {
    fn made_at(&self) -> (&'static str, &'static Location<'static>) {
        ("UDP socket", self.made_at)
    }

    fn ready(&mut self, cx: &mut Cx<'_, S>, id: ConnId, readiness: Readiness) -> NextStep {
        let id = UdpId(id);
        let (mut turn, mut buffer) = cx.reactor.begin_udp_turn(id, readiness);
        while let Some(event) = cx.reactor.next_udp_event(id, &mut turn, &mut buffer) {
            let from = match &event {
                UdpEvent::Datagram { from, .. } => Some(*from),
                UdpEvent::Error(_) | UdpEvent::ReceiveError(_) | UdpEvent::Drained => None,
            };
            let mut udp = Udp {
                state: cx.state,
                reactor: cx.reactor,
                id,
                from,
            };
            self.handle(&mut udp, event, &buffer);
        }
        cx.reactor.end_udp_turn(buffer);
        NextStep::Wait
    }

    fn after_panic(&mut self, reactor: &mut Reactor<S>, id: ConnId) -> NextStep {
        reactor.continue_udp(UdpId(id));
        NextStep::Wait
    }

    // The reactor has the socket, and takes it out of the poll when it closes it.
    fn deregister(&mut self, _: &Registry) {}

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// # Datagrams
impl<S: 'static> Reactor<S> {
    /// Opens a UDP socket on `HOST:PORT` (port 0 picks one; `0.0.0.0:0` for one that only sends and gets answers); `setup`
    /// names its callbacks and options, and runs once.
    ///
    /// The socket is open until [`close_udp`](Self::close_udp), or until the loop ends. A [drain](Self::drain) does not
    /// wait for it and does not close it, so that callbacks of connections that end can still send. In one turn a socket
    /// delivers at most 64 datagrams, and for as long as one connection may take, so that it keeps no other source waiting.
    ///
    /// ```
    /// use waterwheel::{Reactor, Sim};
    ///
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.udp("0.0.0.0:7", |udp| {
    ///         udp.on_datagram(|udp, bytes, _from| udp.reply(bytes));
    ///     })
    /// });
    /// let client = sim.udp("192.0.2.1:4711");
    /// client.send_to("hello", "127.0.0.1:7".parse().unwrap());
    /// sim.settle();
    /// assert_eq!(client.received_text(), ["hello"]);
    /// ```
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened or an option cannot be set, or the reactor has stopped; the message names the
    /// address. The error of `setup`. Names are looked up at once, which may block: within a callback of a program with
    /// other clients, give addresses.
    #[track_caller]
    pub fn udp<R: SetupResult>(
        &mut self,
        address: &str,
        setup: impl FnOnce(&mut UdpCallbacks<S>) -> R,
    ) -> io::Result<UdpId> {
        let mut callbacks = UdpCallbacks {
            options: UdpOptions {
                peer: None,
                may_broadcast: false,
                shares_port: false,
                groups: Vec::new(),
                multicast_interface: MulticastInterface::Any,
                multicast_ttl: None,
                receive_buffer_bytes: None,
                datagram_bytes_max: usize::MAX,
                queue_bytes_max: self.config().options.queue_high_bytes,
            },
            made_at: Location::caller(),
            on_datagram: None,
            on_error: None,
            on_drain: None,
        };
        setup(&mut callbacks).into_result()?;
        let options = callbacks.options.clone();
        self.open_udp(address, &options, Box::new(callbacks))
    }
}
