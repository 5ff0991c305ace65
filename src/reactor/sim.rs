//! A simulation: the same program on streams in memory and an invented clock.
//!
//! [`Sim`] runs the setup that [`Reactor::run`] would run. Every socket is replaced by memory, and
//! time stands still until [`Sim::advance`] lets it pass. A test of thirty seconds takes a
//! millisecond, and one seed of faults gives the same run on every machine.
//!
//! ```
//! use std::time::Duration;
//! use waterwheel::Sim;
//!
//! let mut sim = Sim::new((), |reactor| {
//!     reactor.websocket("0.0.0.0:8080", |ws| {
//!         ws.on_message(|ws, message| ws.send(format!("Pong: {message}")));
//!     })
//! });
//! let alice = sim.websocket("/");
//! alice.send("hi");
//! sim.advance(Duration::from_secs(1));
//! assert_eq!(alice.received(), ["Pong: hi"]);
//! ```
//!
//! A panic in a callback, such as a failing `assert!`, goes on in the call that ran the turn, so that
//! the test fails. [`Sim::catch_panics`] lets the simulation go on as [`Reactor::run`] does.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::websocket::{self, Machine, Role, ToMessage};

use crate::reactor::config::Config;
use crate::reactor::connection::table::Table;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::reactor::{Parts, Reactor};
use crate::reactor::time::clock::{Clock, SIM_NANOS_MAX, SimClock, nanos};
use crate::reactor::transport::memory::{Faults, MemoryStream, Net};
use crate::reactor::transport::memory_datagrams::MemoryDatagrams;
use crate::reactor::{EventLoop, SetupResult};

/// The capacity of a simulated socket in each direction, in bytes.
const CAPACITY_BYTES: usize = 64 * 1024;

/// The number of turns without time passing after which `settle` panics.
const TURNS_MAX: usize = 100_000;

/// Runs a program on a simulated network and clock, for tests.
///
/// Its kernel is edge-triggered as epoll is. Messages and timers run in [`settle`](Sim::settle) and
/// [`advance`](Sim::advance), on the thread of the test, so a test needs no sleep and no port.
pub struct Sim<S: 'static> {
    event_loop: EventLoop<S>,
    net: Rc<Net>,
    clock: SimClock,
    capacity_bytes: usize,
    running: bool,
}

impl<S: 'static> Sim<S> {
    /// Returns a simulation with the default [`Config`], after running `setup` as [`Reactor::run`]
    /// does.
    ///
    /// # Panics
    ///
    /// When `setup` returns an error, because a simulation is a test.
    pub fn new<R: SetupResult>(state: S, setup: impl FnOnce(&mut Reactor<S>) -> R) -> Sim<S> {
        Self::with_config(Config::default(), state, setup)
    }

    /// As [`new`](Self::new), with limits of your own.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), and when [`Config::checked`] refuses `config`.
    pub fn with_config<R: SetupResult>(
        config: Config,
        state: S,
        setup: impl FnOnce(&mut Reactor<S>) -> R,
    ) -> Sim<S> {
        let net = Rc::new(Net::default());
        let clock = SimClock::default();
        let config = config
            .checked()
            .expect("the configuration of a simulation is possible");
        let parts = Parts {
            // A fixed date, so that a run is the same on every day.
            table: Table::new(&config, None, 1_000_000_000),
            mailbox: Mailbox::new(None),
            clock: Clock::Invented(clock.clone()),
            net: Some(Rc::clone(&net)),
            epoch: 1,
        };
        let reactor = Reactor::new(config, parts);
        let mut event_loop = EventLoop::assemble(state, reactor, None);
        event_loop.reactor().panics.keep_first(true);
        setup(event_loop.reactor())
            .into_result()
            .expect("the setup of a simulation succeeds");
        Sim {
            event_loop,
            net,
            clock,
            capacity_bytes: CAPACITY_BYTES,
            running: true,
        }
    }

    /// Lets operations fail from now on as `faults` says, at random as `seed` determines. The same
    /// seed and the same calls give the same run.
    pub fn faults(&mut self, seed: u64, faults: Faults) {
        self.net.set_faults(seed, faults);
    }

    /// Sets the seed of what the program does at random, such as the pauses of clients that connect again. 1 by
    /// default. The same seed and the same calls give the same run.
    pub fn seed(&mut self, seed: u64) {
        self.event_loop.reactor().random = seed;
    }

    /// Lets each read and write of the program take this long on the [`clock`](Self::clock), from now
    /// on, as system calls do. No time by default.
    pub fn socket_time(&mut self, time: Duration) {
        self.net.set_operation_time(self.clock.clone(), time);
    }

    /// Sets the capacity of sockets that are made from now on, in bytes for each direction: as much
    /// is taken before the peer has read. 64 KiB by default.
    pub fn socket_bytes(&mut self, bytes: usize) {
        self.capacity_bytes = bytes;
    }

    /// Sets whether a panic in a callback stays in the loop, which logs and counts it and ends the
    /// connection, as under [`Reactor::run`]. `false` by default: [`turn`](Self::turn),
    /// [`settle`](Self::settle) and [`advance`](Self::advance) finish the turn and then panic with
    /// it, so that an `assert!` in a callback fails the test.
    pub fn catch_panics(&mut self, catches: bool) {
        self.event_loop.reactor().panics.keep_first(!catches);
    }

    /// Your state.
    pub fn state(&mut self) -> &mut S {
        self.event_loop.state()
    }

    /// The reactor that callbacks get as `reactor`.
    pub fn reactor(&mut self) -> &mut Reactor<S> {
        self.event_loop.reactor()
    }

    /// Returns a clone of the clock, for callbacks that take time.
    pub fn clock(&self) -> SimClock {
        self.clock.clone()
    }

    /// Whether the loop still runs: the reactor was not stopped and has not drained.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Runs turns until there is no more to do at this moment. No time passes.
    ///
    /// # Panics
    ///
    /// When the loop is still busy after 100,000 turns, as with a tick that queues itself again, and
    /// as [`turn`](Self::turn).
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.running || self.event_loop.next_wakeup() != Some(Duration::ZERO) {
                // Here the loop would sleep. Bytes that are on their way arrive meanwhile.
                self.event_loop.running_mut().give_back_memory();
                self.net.give_back_memory();
                self.net.arrive();
                return;
            }
            self.turn();
        }
        panic!("the loop was still busy after {TURNS_MAX} turns");
    }

    /// Runs one turn.
    ///
    /// # Panics
    ///
    /// With the first panic of a callback, or of a value that the loop drops, unless
    /// [`catch_panics`](Self::catch_panics) was called with `true`.
    pub fn turn(&mut self) {
        if self.running {
            // An error is impossible: it would come from the poll, and there is none.
            self.running = self.event_loop.turn(Some(Duration::ZERO)).unwrap_or(false);
            self.event_loop.reactor().panics.resume();
        }
    }

    /// Lets time pass, and stops at every moment at which a timer or a deadline is due. Time that
    /// callbacks take meanwhile (see [`clock`](Self::clock)) is part of it, and may make it longer.
    ///
    /// The clock stops after four years.
    ///
    /// # Panics
    ///
    /// As [`settle`](Self::settle).
    pub fn advance(&mut self, time: Duration) {
        self.settle();
        let end = self.now().saturating_add(nanos(time)).min(SIM_NANOS_MAX);
        while self.running {
            let Some(wakeup) = self.event_loop.next_wakeup() else {
                break;
            };
            let due = self.now().saturating_add(nanos(wakeup));
            if end < due {
                break;
            }
            self.set_now(due);
            self.turn();
            self.settle();
        }
        // A callback may have taken longer than until `end`.
        self.set_now(end.max(self.now()));
    }

    fn now(&self) -> u64 {
        self.event_loop.running().reactor.clock.now()
    }

    fn set_now(&mut self, now: u64) {
        self.clock.set(now);
        let now = self.now();
        self.event_loop.reactor().table.set_now(now);
    }

    /// Connects to the first listener, which accepts, and returns the client's end.
    ///
    /// # Panics
    ///
    /// When there is no listener.
    pub fn connect(&mut self) -> SimStream {
        let listener = self.first_listener();
        self.connect_to(listener)
    }

    /// Connects to the listener on `port`, which accepts, and returns the client's end.
    ///
    /// # Panics
    ///
    /// When there is no listener on this port.
    pub fn connect_port(&mut self, port: u16) -> SimStream {
        let listener = self
            .event_loop
            .running()
            .reactor
            .memory_listener(|address| address.port() == Some(port))
            .expect("the setup listens on this port");
        self.connect_to(listener)
    }

    /// Connects to the first listener without a turn of the loop: the client waits in its backlog.
    ///
    /// # Panics
    ///
    /// When there is no listener.
    pub fn dial(&mut self) -> SimStream {
        let listener = self.first_listener();
        self.dial_to(listener)
    }

    fn connect_to(&mut self, listener: u32) -> SimStream {
        let client = self.dial_to(listener);
        self.settle();
        client
    }

    fn dial_to(&mut self, listener: u32) -> SimStream {
        let (ours, theirs) = MemoryStream::pair(&self.net, self.capacity_bytes);
        self.event_loop.reactor().offer(listener, theirs);
        SimStream {
            stream: Rc::new(RefCell::new(Some(ours))),
        }
    }

    fn first_listener(&self) -> u32 {
        let first = self.event_loop.running().reactor.memory_listener(|_| true);
        first.expect("the setup listens")
    }

    /// Opens a UDP socket outside of the program, with an address such as `192.0.2.1:4711`; port 0 chooses one.
    ///
    /// # Panics
    ///
    /// When this is no address, or it is in use.
    pub fn udp(&mut self, address: &str) -> SimUdp {
        let address = address.parse().expect("an address with a port");
        SimUdp {
            socket: self.event_loop.reactor().simulated_peer(address),
        }
    }

    /// Connects to the first listener and returns a WebSocket on `path`.
    ///
    /// # Panics
    ///
    /// When there is no listener, or the server refuses; [`try_websocket`](Self::try_websocket)
    /// returns a refusal.
    pub fn websocket(&mut self, path: &str) -> SimSocket {
        let stream = self.connect();
        self.become_websocket(stream, path)
    }

    /// Connects to the listener on `port` and returns a WebSocket on `path`.
    ///
    /// # Panics
    ///
    /// When there is no listener on this port, or the server refuses.
    pub fn websocket_port(&mut self, port: u16, path: &str) -> SimSocket {
        let stream = self.connect_port(port);
        self.become_websocket(stream, path)
    }

    fn become_websocket(&mut self, stream: SimStream, path: &str) -> SimSocket {
        match self.shake_hands(stream, path, &[]) {
            Ok(socket) => socket,
            Err(answer) => panic!("refused: {answer}"),
        }
    }

    /// Connects to the first listener and asks for a WebSocket on `path`, with further headers,
    /// given as name and value.
    ///
    /// # Errors
    ///
    /// The server's whole answer, when its status is not 101.
    ///
    /// # Panics
    ///
    /// When there is no listener.
    pub fn try_websocket(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<SimSocket, String> {
        let stream = self.connect();
        self.shake_hands(stream, path, headers)
    }

    fn shake_hands(
        &mut self,
        stream: SimStream,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<SimSocket, String> {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut answer = Vec::new();
        let mut rest = request.as_bytes();
        // With faults this takes several rounds. A round in which no byte moved is the last one.
        for _ in 0..TURNS_MAX {
            let before = (rest.len(), answer.len());
            rest = &rest[stream.write(rest)..];
            self.settle();
            answer.extend(stream.read());
            self.settle();
            let is_whole = answer.windows(4).any(|window| window == b"\r\n\r\n");
            let is_stuck = rest.is_empty() && before == (rest.len(), answer.len());
            if is_whole || is_stuck || stream.is_closed() {
                break;
            }
        }
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map_or(answer.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        if !head.starts_with("HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        let peer = SimPeer {
            machine: Machine::new(Role::Client),
            input: answer.split_off(end),
            output: Vec::new(),
            close: None,
        };
        Ok(SimSocket {
            stream,
            peer: Rc::new(RefCell::new(peer)),
            head,
        })
    }
}

/// The client's end of a simulated connection, for raw bytes. Clones share it.
#[derive(Clone)]
pub struct SimStream {
    /// `None` after it was closed.
    stream: Rc<RefCell<Option<MemoryStream>>>,
}

impl SimStream {
    /// Writes as many bytes as there is room for, and returns how many. Zero after the end or a
    /// reset.
    pub fn write(&self, bytes: impl AsRef<[u8]>) -> usize {
        self.stream
            .borrow_mut()
            .as_mut()
            .and_then(|stream| stream.write(bytes.as_ref()).ok())
            .unwrap_or(0)
    }

    /// Takes and returns all bytes that have come.
    pub fn read(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        if let Some(stream) = self.stream.borrow_mut().as_mut() {
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
            }
        }
        all
    }

    /// As [`read`](Self::read), as text; bytes that are not UTF-8 are replaced.
    pub fn read_text(&self) -> String {
        String::from_utf8_lossy(&self.read()).into_owned()
    }

    /// Ends the client's side of the stream (half close); the server may still send.
    pub fn finish(&self) {
        if let Some(stream) = self.stream.borrow_mut().as_mut() {
            stream.shutdown_write();
        }
    }

    /// Closes the stream. With bytes that were not read this is a reset, as with sockets.
    pub fn close(&self) {
        *self.stream.borrow_mut() = None;
    }

    /// Resets the connection: bytes that are on their way are lost.
    pub fn reset(&self) {
        if let Some(mut stream) = self.stream.borrow_mut().take() {
            stream.reset();
        }
    }

    /// Whether the server has ended its side and all its bytes were read, or the connection was
    /// reset.
    pub fn is_closed(&self) -> bool {
        self.stream
            .borrow()
            .as_ref()
            .is_none_or(MemoryStream::is_at_end)
    }
}

/// A UDP socket outside of a simulated program. Clones share it.
#[derive(Clone)]
pub struct SimUdp {
    socket: Rc<MemoryDatagrams>,
}

impl SimUdp {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Sends a datagram. To an address without a socket it is lost; so is one that finds 1 MiB of datagrams that were not
    /// received.
    pub fn send_to(&self, bytes: impl AsRef<[u8]>, address: SocketAddr) {
        self.socket.bring(bytes.as_ref(), address);
    }

    /// Takes and returns the datagrams that have come, with their senders.
    pub fn received(&self) -> Vec<(Vec<u8>, SocketAddr)> {
        let datagrams = std::iter::from_fn(|| self.socket.take());
        datagrams.map(|(from, bytes)| (bytes, from)).collect()
    }

    /// As [`received`](Self::received), as text without the senders; bytes that are not UTF-8 are replaced.
    pub fn received_text(&self) -> Vec<String> {
        let received = self.received();
        let texts = received.iter();
        texts
            .map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

struct SimPeer {
    machine: Machine,
    input: Vec<u8>,
    /// Bytes that the stream has not taken yet.
    output: Vec<u8>,
    close: Option<(u16, String)>,
}

/// The client's end of a simulated WebSocket. Clones share it.
///
/// It answers no ping and no close by itself, so that a test can play a peer that does not answer.
/// Bytes that the server does not take at once wait here. They are sent before anything else at the
/// next call that sends or takes events.
#[derive(Clone)]
pub struct SimSocket {
    stream: SimStream,
    peer: Rc<RefCell<SimPeer>>,
    head: String,
}

/// A message or control frame that the server sent on a simulated WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close, with its code (1005 for none) and reason.
    Close(u16, String),
}

/// The mask of every frame of a simulated client, fixed so that runs are alike.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl SimSocket {
    /// The head of the server's answer to the handshake.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The stream below, for reading and writing bytes that are not frames.
    pub fn stream(&self) -> &SimStream {
        &self.stream
    }

    /// Sends a message.
    pub fn send(&self, message: impl ToMessage) {
        self.put(|out| websocket::encode_message(Some(MASK), message.to_message(), out));
    }

    /// Sends a close frame with a code; a code that must not be sent is sent as 1000.
    pub fn close(&self, code: u16) {
        self.put(|out| {
            websocket::encode_close(Some(MASK), Some(code.into()), "", out);
        });
    }

    /// Sends a pong, as the answer to a ping would be.
    pub fn pong(&self) {
        self.put(|out| {
            let _ = websocket::encode_pong(Some(MASK), b"", out);
        });
    }

    /// Sends a ping. Sends none when the payload has more than 125 bytes.
    pub fn ping(&self, payload: &[u8]) {
        self.put(|out| {
            let _ = websocket::encode_ping(Some(MASK), payload, out);
        });
    }

    /// Sends bytes unchanged, after those that were sent before: for frames that break the
    /// protocol.
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) {
        self.put(|out| out.extend_from_slice(bytes.as_ref()));
    }

    /// How many bytes the server has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.peer.borrow().output.len()
    }

    fn put(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let output = &mut self.peer.borrow_mut().output;
        encode(output);
        let taken = self.stream.write(&*output);
        output.drain(..taken);
    }

    /// Takes and returns the messages and control frames that have come.
    ///
    /// # Panics
    ///
    /// When the server broke the protocol.
    pub fn take_events(&self) -> Vec<Received> {
        self.put(|_| {});
        let mut peer = self.peer.borrow_mut();
        let SimPeer {
            machine,
            input,
            close,
            ..
        } = &mut *peer;
        input.extend(self.stream.read());
        let limits = websocket::Limits {
            frame_bytes_max: usize::MAX,
            message_bytes_max: usize::MAX,
            fragments_max: None,
        };
        let mut events = Vec::new();
        let mut rest = input.as_mut_slice();
        while let Some(event) = machine
            .next_event(&mut rest, &limits)
            .expect("the server keeps to the protocol")
        {
            events.push(match event {
                websocket::Event::Text(text) => Received::Text(text.into_owned()),
                websocket::Event::Binary(bytes) => Received::Binary(bytes.into_owned()),
                websocket::Event::Ping(payload) => Received::Ping(payload.to_vec()),
                websocket::Event::Pong(payload) => Received::Pong(payload.to_vec()),
                websocket::Event::Close(code, reason) => {
                    let code = code.map_or(1005, u16::from);
                    *close = Some((code, reason.to_owned()));
                    Received::Close(code, reason.to_owned())
                }
            });
        }
        let left = rest.len();
        input.drain(..input.len() - left);
        events
    }

    /// Takes everything that has come, and returns the text messages of it.
    ///
    /// # Panics
    ///
    /// When the server broke the protocol.
    pub fn received(&self) -> Vec<String> {
        let texts = self
            .take_events()
            .into_iter()
            .filter_map(|event| match event {
                Received::Text(text) => Some(text),
                Received::Binary(_)
                | Received::Ping(_)
                | Received::Pong(_)
                | Received::Close(..) => None,
            });
        texts.collect()
    }

    /// The server's close code, after [`take_events`](Self::take_events) or
    /// [`received`](Self::received) has taken its close frame.
    pub fn close_code(&self) -> Option<u16> {
        self.peer.borrow().close.as_ref().map(|(code, _)| *code)
    }

    /// Closes the stream without a close frame.
    pub fn vanish(&self) {
        self.stream.close();
    }

    /// Whether the server has ended the stream.
    pub fn is_closed(&self) -> bool {
        self.stream.is_closed()
    }
}
