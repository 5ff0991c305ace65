//! Connecting: names are looked up off the loop, addresses are tried in a race, and there is one
//! outcome.
//!
//! Addresses are tried in the order in which the system's resolver returns them. When one has not
//! answered after [`Config::connect_stagger`](super::config::Config::connect_stagger), the next is
//! tried beside it, and the first to connect wins. A first address that is dead (IPv6 on a network
//! without it, say) then costs a quarter of a second instead of the connect timeout. Addresses are
//! not sorted here, because resolvers sort them. Source: RFC 8305, section 5.
//!
//! The id exists before the connection does: on a raw stream messages can be sent at once and wait,
//! and a failure comes with `on_close`, as for any other connection. So a program has one place for
//! errors.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::close::{CloseCause, Deadline};
use super::connection::Connection;
use super::connection::deadline::deadline_nanos;
use super::id::ConnId;
use super::protocol::Protocol;
use super::reactor::{Cx, Handler, Reactor};
use super::transport::Transport;
use super::transport::connect::{
    Attempt, NextAddress, Race, connect_tcp, connect_unix, has_connected,
};
use super::transport::endpoint::ConnectOptions;
use super::transport::listener::{Address, bound_send_buffer};
use super::transport::lookup::Lookup;
use super::transport::memory::MemoryStream;
use super::transport::socket::Socket;
#[cfg(feature = "tls")]
use super::transport::tls::stream::TlsStream;
use super::transport::tunnel::Tunnel;

/// The capacity of a simulated connection in each direction, in bytes.
const MEMORY_STREAM_BYTES: usize = 64 * 1024;

/// The time after which a Unix socket is tried again whose listener had no room in its queue.
const UNIX_RETRY: Duration = Duration::from_millis(20);

impl<S: 'static> Reactor<S> {
    /// Begins to connect for `handler`, and returns the connection's id at once.
    ///
    /// On a raw stream, messages that are sent before the connection is made wait in its queue. The handler then
    /// gets `open`, or `closed` when every address failed.
    ///
    /// # Errors
    ///
    /// For an address that cannot be parsed, and when the reactor has stopped. The handler is
    /// dropped.
    pub(crate) fn connect(
        &mut self,
        to: &ConnectOptions<'_>,
        handler: Box<dyn Handler<S>>,
        options: u16,
        protocol: Protocol,
    ) -> io::Result<ConnId> {
        let key = self.add_handler(handler);
        let made = self.connect_for(key, to, options, protocol);
        if made.is_err() {
            self.free_handler(key);
        }
        made
    }

    /// As [`connect`](Self::connect), for a handler that has been added already.
    pub(crate) fn connect_for(
        &mut self,
        key: u32,
        to: &ConnectOptions<'_>,
        options: u16,
        protocol: Protocol,
    ) -> io::Result<ConnId> {
        let address = to.address();
        if self.is_stopped {
            let why = format!("cannot connect to {address}: the reactor has stopped");
            return Err(io::Error::other(why));
        }
        if let Some(path) = address.strip_prefix("unix:") {
            if to.http_proxy().is_some() {
                let why =
                    format!("cannot connect to {address}: a proxy does not reach Unix sockets");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            let transport = self.pending_transport(to, "")?;
            let id = self.insert_pending(key, transport, options, protocol)?;
            if self.net.is_some() {
                self.connect_in_memory(id, &Address::Unix(path.into()));
                return Ok(id);
            }
            self.try_unix(id, path.to_owned());
            return Ok(id);
        }
        let (host, port) = split_address(address)?;
        let transport = self.pending_transport(to, host)?;
        let (host, port, tunnel) = match to.http_proxy() {
            Some(proxy) => {
                let (host, port) = split_address(proxy.address())?;
                (host, port, Some(Box::new(Tunnel::new(address, proxy)?)))
            }
            None => (host, port, None),
        };
        let id = self.insert_pending(key, transport, options, protocol)?;
        if self.net.is_some() {
            self.race_of_one(id).set_tunnel(tunnel);
            self.connect_in_memory(id, &Address::Inet(([127, 0, 0, 1], port).into()));
            return Ok(id);
        }
        let lookup = Lookup {
            id,
            host: host.to_owned(),
            port,
            from: to.from(),
            tunnel,
        };
        // An address needs no look-up, and so no thread.
        match host.parse() {
            Ok(ip) => self.race(lookup, vec![SocketAddr::new(ip, port)]),
            Err(_) => self.look_up(lookup),
        }
        Ok(id)
    }

    /// The transport of a connection to this host, before it has a socket.
    ///
    /// # Errors
    ///
    /// When no certificate can be for the host, or rustls refuses the configuration.
    #[cfg(feature = "tls")]
    fn pending_transport(&self, to: &ConnectOptions<'_>, host: &str) -> io::Result<Transport> {
        let Some(tls) = to.client_tls() else {
            return Ok(Transport::Plain(Socket::Pending));
        };
        let (config, name) = (tls.config(), tls.name_for(host)?);
        let mut stream = TlsStream::client(config, name, &self.tls_scratch)?;
        stream.begin_handshake(&[]);
        Ok(Transport::Tls(Box::new(stream)))
    }

    #[cfg(not(feature = "tls"))]
    fn pending_transport(&self, _: &ConnectOptions<'_>, _: &str) -> io::Result<Transport> {
        Ok(Transport::Plain(Socket::Pending))
    }

    fn insert_pending(
        &mut self,
        key: u32,
        transport: Transport,
        options: u16,
        protocol: Protocol,
    ) -> io::Result<ConnId> {
        let id = self.table.insert(transport, protocol, key, options)?;
        let timeout = deadline_nanos(self.config.connect_timeout);
        self.table.set_deadline(id, Deadline::Connect, timeout);
        Ok(id)
    }

    // ── addresses ────────────────────────────────────────────────────────────────────────────

    fn race(&mut self, lookup: Lookup, addresses: Vec<SocketAddr>) {
        let id = lookup.id;
        if !self.wants_transport(id) {
            return;
        }
        let mut race = Race::new(addresses.into(), lookup.from);
        race.set_tunnel(lookup.tunnel);
        self.races.insert(id, race);
        self.try_next_address(id);
    }

    /// Whether a connection still waits for a transport. One that was closed while it connects
    /// does, if messages were sent before.
    fn wants_transport(&self, id: ConnId) -> bool {
        let connection = self.table.connection(id);
        connection.is_some_and(Connection::wants_transport)
    }

    /// Tries addresses until an attempt is under way. An address whose `connect` fails at once,
    /// such as one of a network that is unreachable, does not use up the stagger.
    fn try_next_address(&mut self, id: ConnId) {
        loop {
            let Some(race) = self.races.get_mut(&id) else {
                return;
            };
            if let Some(timer) = race.take_stagger() {
                self.timers.cancel(timer);
            }
            let (address, from) = match race.next_address() {
                NextAddress::Try(address, from) => (address, from),
                NextAddress::Wait => return,
                NextAddress::Failed(error) => {
                    self.races.remove(&id);
                    return self.table.abort(id, CloseCause::Io(error));
                }
            };
            match connect_tcp(address, from) {
                Ok(stream) => {
                    self.attempt(id, Socket::Tcp(stream));
                    let stagger = self.config.connect_stagger;
                    let stagger = self.after(stagger, move |cx: &mut Cx<'_, S>| {
                        cx.reactor.try_next_address(id);
                    });
                    if let Some(race) = self.races.get_mut(&id) {
                        race.set_stagger(stagger);
                    }
                    return;
                }
                Err(error) => race.note_error(error.kind()),
            }
        }
    }

    /// Tries to connect to a Unix socket, until the queue of its listener has room.
    ///
    /// TCP says "under way" when the queue is full. A Unix socket is refused with `EAGAIN`, and no poll
    /// reports that there is room: it is tried again after a while, within `connect_timeout`.
    fn try_unix(&mut self, id: ConnId, path: String) {
        if !self.wants_transport(id) {
            return;
        }
        match connect_unix(&path) {
            Ok(socket) => self.attempt(id, socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let timer = self.after(UNIX_RETRY, move |cx: &mut Cx<'_, S>| {
                    cx.reactor.try_unix(id, path);
                });
                // With the race, so that the end of the connection cancels it.
                self.race_of_one(id).set_stagger(timer);
            }
            // With `on_close` and not as an error, as when a TCP connection is refused.
            Err(error) => self.table.abort(id, CloseCause::Io(error.kind())),
        }
    }

    /// The race of a connection that has one address: a Unix socket, or a simulation.
    fn race_of_one(&mut self, target: ConnId) -> &mut Race {
        self.races
            .entry(target)
            .or_insert_with(|| Race::new(VecDeque::new(), None))
    }

    fn attempt(&mut self, target: ConnId, socket: Socket) {
        let has_tunnel = self.race_of_one(target).has_tunnel();
        let attempt = Box::new(Attempt {
            socket,
            target,
            has_tunnel,
        });
        let index = match self.table.insert_attempt(attempt) {
            Ok(index) => index,
            Err(error) => return self.table.abort(target, CloseCause::Io(error.kind())),
        };
        self.race_of_one(target).note_attempt(index);
    }

    /// Handles a report of the poll about an attempt. Returns the connection when its handler is to
    /// open it.
    pub(super) fn attempt_ready(&mut self, index: u32) -> Option<ConnId> {
        let attempt = self.table.sources_mut().attempt_mut(index)?;
        let target = attempt.target;
        match has_connected(&attempt.socket) {
            // The kernel reports a new socket before it has connected; the attempt goes on.
            Ok(false) => None,
            Ok(true) if attempt.has_tunnel => self.progress_tunnel(index, target),
            Ok(true) => self.adopt_attempt(index, target),
            Err(error) => {
                self.table.sources_mut().remove_attempt(index);
                // A refusal is an answer: the next address is tried now and not after the stagger.
                if let Some(race) = self.races.get_mut(&target)
                    && race.note_failure(index, error.kind())
                {
                    self.try_next_address(target);
                }
                None
            }
        }
    }

    /// Makes the socket of an attempt that of its connection.
    fn adopt_attempt(&mut self, index: u32, target: ConnId) -> Option<ConnId> {
        let attempt = self.table.sources_mut().remove_attempt(index)?;
        self.cancel_attempts(target);
        self.adopt(target, attempt.socket)
    }

    /// Goes on with the exchange with a proxy. A proxy that refuses has answered for all of its addresses.
    fn progress_tunnel(&mut self, index: u32, target: ConnId) -> Option<ConnId> {
        let race = self.races.get_mut(&target)?;
        let (stagger, others) = (race.take_stagger(), race.take_others(index));
        if let Some(timer) = stagger {
            self.timers.cancel(timer);
        }
        for other in others {
            self.table.sources_mut().remove_attempt(other);
        }
        let tunnel = self.races.get_mut(&target)?.tunnel_mut()?;
        let attempt = self.table.sources_mut().attempt_mut(index)?;
        match tunnel.progress(&mut attempt.socket) {
            Ok(true) => self.adopt_attempt(index, target),
            Ok(false) => None,
            Err(cause) => {
                self.cancel_attempts(target);
                self.table.abort(target, cause);
                None
            }
        }
    }

    /// Cancels the other attempts of a connection that is made or has ended.
    pub(super) fn cancel_attempts(&mut self, target: ConnId) {
        let Some(mut race) = self.races.remove(&target) else {
            return;
        };
        if let Some(timer) = race.take_stagger() {
            self.timers.cancel(timer);
        }
        for index in race.into_attempts() {
            self.table.sources_mut().remove_attempt(index);
        }
    }

    fn adopt(&mut self, id: ConnId, socket: Socket) -> Option<ConnId> {
        if let Socket::Tcp(stream) = &socket {
            // Nagle's algorithm would keep a small message back until the one before it is
            // acknowledged. Where this fails, small messages wait a little.
            let _ = stream.set_nodelay(true);
            // Where this fails, the kernel holds more bytes.
            let _ = bound_send_buffer(&socket2::SockRef::from(stream), &self.config);
            // Where this fails, a server that has vanished is noticed later.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if self.config.unacknowledged_timeout.is_some() {
                let _ = socket2::SockRef::from(stream)
                    .set_tcp_user_timeout(self.config.unacknowledged_timeout);
            }
        }
        match self.table.adopt_socket(id, socket) {
            Ok(is_open) => is_open.then_some(id),
            Err(error) => {
                self.table.abort(id, CloseCause::Io(error.kind()));
                None
            }
        }
    }

    // ── names ────────────────────────────────────────────────────────────────────────────────

    /// Has a name looked up for a connection. With the result its addresses are tried, or it ends.
    fn look_up(&mut self, lookup: Lookup) {
        let Reactor { lookups, table, .. } = self;
        lookups.push(lookup, |id| {
            let connection = table.connection(id);
            connection.is_some_and(Connection::wants_transport)
        });
        self.start_lookups();
    }

    fn start_lookups(&mut self) {
        while self.lookups.running_count() < self.config.lookups_max {
            let Some(lookup) = self.lookups.pop() else {
                return;
            };
            let id = lookup.id;
            // It may have ended while it waited, by its connect timeout for instance.
            if !self.wants_transport(id) {
                continue;
            }
            match self.start_lookup(lookup) {
                Ok(()) => self.lookups.note_start(),
                Err(error) => self.table.abort(id, CloseCause::Io(error.kind())),
            }
        }
    }

    /// Looks a name up in a thread of its own. The system's resolver blocks and cannot be
    /// interrupted, so a thread that hangs is left behind; `lookups_max` bounds how many do.
    fn start_lookup(&mut self, lookup: Lookup) -> io::Result<()> {
        let remote = self.remote();
        let resolve = Arc::clone(self.lookups.resolver());
        let look_up = move || {
            let found = resolve(&lookup.host, lookup.port);
            // An error means that the reactor has ended, and needs no answer.
            let _ = remote.run(move |cx| cx.reactor.looked_up(lookup, found));
        };
        std::thread::Builder::new()
            .name("waterwheel-lookup".into())
            .spawn(look_up)
            .map(drop)
    }

    fn looked_up(&mut self, lookup: Lookup, found: io::Result<Vec<SocketAddr>>) {
        self.lookups.note_end();
        match found {
            Ok(addresses) if addresses.is_empty() => {
                self.fail_lookup(&lookup, &"the name has no address");
            }
            Ok(addresses) => self.race(lookup, addresses),
            Err(error) => self.fail_lookup(&lookup, &error),
        }
        self.start_lookups();
    }

    /// Ends a connection whose name was not found. The text has the name and the system's words: its
    /// errors have no kind that would say more than "other".
    fn fail_lookup(&mut self, lookup: &Lookup, error: &dyn std::fmt::Display) {
        let reason = format!("{}: {error}", lookup.host);
        self.table
            .abort_with_reason(lookup.id, CloseCause::Lookup, reason);
    }

    // ── in a simulation ──────────────────────────────────────────────────────────────────────

    /// Connects to the listener of the same simulation that is at `target`, whatever its host.
    fn connect_in_memory(&mut self, id: ConnId, target: &Address) {
        let Some(net) = self.net.clone() else { return };
        let is_it = |address: &Address| match (address, target) {
            (Address::Inet(address), Address::Inet(target)) => address.port() == target.port(),
            (address, target) => address == target,
        };
        let Some(listener) = self.memory_listener(is_it) else {
            return self
                .table
                .abort(id, CloseCause::Io(io::ErrorKind::ConnectionRefused));
        };
        let (ours, theirs) = MemoryStream::pair(&net, MEMORY_STREAM_BYTES);
        self.offer(listener, theirs);
        // It is connected already. The next turn finds that out, so that `on_open` is not called
        // before `connect` has returned the id.
        self.attempt(id, Socket::Memory(ours));
    }
}

/// Splits `HOST:PORT`. An IPv6 address stands in brackets: `[::1]:80`.
fn split_address(address: &str) -> io::Result<(&str, u16)> {
    let invalid = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot connect to {address}: {why}"),
        )
    };
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| invalid("expected HOST:PORT or unix:PATH"))?;
    let port = port
        .parse()
        .map_err(|_| invalid("the port is not a number from 0 to 65535"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::reactor::EventLoop;
    use crate::reactor::config::{Config, ConnectionOptions};
    use crate::reactor::time::clock::Clock;
    use crate::session::stream::{Stream, StreamCallbacks};

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    /// A reactor on real sockets and an invented clock, which tries these addresses.
    fn racing(addresses: Vec<SocketAddr>) -> EventLoop<Vec<String>> {
        let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
        event_loop.reactor().clock = Clock::invented(Duration::ZERO);
        let resolve = move |_: &str, _| Ok(addresses.clone());
        event_loop.reactor().lookups.set_resolver(Arc::new(resolve));
        let mut handlers = StreamCallbacks::new(String::new(), true, ConnectionOptions::default());
        handlers.on_open(|stream: &mut Stream<'_, Vec<String>>| stream.state.push("open".into()));
        handlers.on_close(|stream: &mut Stream<'_, Vec<String>>, close| {
            stream.state.push(format!("{:?}", close.cause))
        });
        let handlers = Box::new(handlers);
        let reactor = event_loop.reactor();
        let made = reactor.connect(&"name:80".into(), handlers, 0, Protocol::Raw);
        made.unwrap();
        event_loop
    }

    /// Turns until something is so; gives up after a minute and a half.
    fn until(
        event_loop: &mut EventLoop<Vec<String>>,
        done: impl Fn(&EventLoop<Vec<String>>) -> bool,
    ) {
        for _ in 0..9000 {
            if done(event_loop) {
                return;
            }
            event_loop.turn(Some(MILLIS(10))).unwrap();
        }
        panic!("it does not come about: {:?}", event_loop.running().state);
    }

    #[cfg(target_os = "linux")]
    fn at(event_loop: &mut EventLoop<Vec<String>>, time: Duration) {
        event_loop.reactor().clock = Clock::invented(time);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }

    /// How many addresses are being tried, and how many are left.
    fn tried(event_loop: &EventLoop<Vec<String>>) -> Option<(usize, usize)> {
        let race = event_loop.running().reactor.races.values().next()?;
        Some(race.counts())
    }

    fn attempt_count(event_loop: &EventLoop<Vec<String>>) -> usize {
        event_loop.running().reactor.table.sources().attempt_count()
    }

    fn live() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that does not answer, as a machine that is switched off: its backlog is full, and
    /// the kernel drops further attempts.
    #[cfg(target_os = "linux")]
    fn dead() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        (listener, vec![client], address)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_next_address_is_tried_while_a_silent_one_is_pending() {
        let (_listener, _clients, dead) = dead();
        let (live, address) = live();
        let mut event_loop = racing(vec![dead, address, dead]);
        until(&mut event_loop, |event_loop| {
            tried(event_loop) == Some((1, 2))
        });
        at(&mut event_loop, MILLIS(249));
        assert_eq!(tried(&event_loop), Some((1, 2)));
        at(&mut event_loop, MILLIS(250));
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        assert_eq!(event_loop.running().state, ["open"]);
        let _accepted = live.accept().unwrap();
        // The attempt that lost is forgotten, and with it its deadline.
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
        at(&mut event_loop, MILLIS(60_000));
        assert_eq!(event_loop.running().state, ["open"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_has_the_options_of_its_reactor() {
        let (_live, address) = live();
        let mut event_loop = racing(vec![address]);
        event_loop.reactor().config.send_buffer_bytes_max = Some(8192);
        event_loop.reactor().config.unsent_bytes_max = Some(4096);
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        let timeout = event_loop.reactor().config.unacknowledged_timeout;
        let table = &event_loop.reactor().table;
        let connection = table
            .connection(table.sources().connection_ids()[0])
            .unwrap();
        let Transport::Plain(Socket::Tcp(stream)) = connection.transport() else {
            panic!("it is connected on TCP");
        };
        let socket = socket2::SockRef::from(stream);
        // Linux doubles the value.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * 8192);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 4096);
        assert_eq!(socket.tcp_user_timeout().unwrap(), timeout);
    }

    #[test]
    fn the_next_address_is_tried_at_once_after_a_refusal() {
        let refusing = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        );
        let refusing = refusing.unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        refusing.bind(&any.into()).unwrap();
        let refused = refusing.local_addr().unwrap().as_socket().unwrap();
        let (_live, address) = live();
        // The clock stands still.
        let mut event_loop = racing(vec![refused, refused, address]);
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        assert_eq!(event_loop.running().state, ["open"]);
        let mut event_loop = racing(vec![refused, refused]);
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        assert_eq!(event_loop.running().state, ["Io(ConnectionRefused)"]);
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_connect_timeout_covers_all_addresses_together() {
        let (_listener, _clients, dead) = dead();
        let mut event_loop = racing(vec![dead; 3]);
        until(&mut event_loop, |event_loop| {
            tried(event_loop) == Some((1, 2))
        });
        for time in [250, 500, 9_900] {
            at(&mut event_loop, MILLIS(time));
        }
        assert_eq!(tried(&event_loop), Some((3, 0)));
        assert!(
            event_loop.running().state.is_empty(),
            "{:?}",
            event_loop.running().state
        );
        at(&mut event_loop, MILLIS(10_100));
        assert_eq!(event_loop.running().state, ["TimedOut(Connect)"]);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
        assert_eq!(event_loop.running().reactor.connection_count(), 0);
    }

    #[test]
    fn bytes_sent_and_closed_before_the_name_is_looked_up_arrive() {
        let (listener, address) = live();
        let mut event_loop = racing(vec![address]);
        let id = event_loop
            .running()
            .reactor
            .table
            .sources()
            .connection_ids()[0];
        assert!(event_loop.reactor().send(id, "hello").is_queued());
        assert!(event_loop.reactor().close(id).is_queued());
        let reading = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut peer, &mut text).unwrap();
            text
        });
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        assert_eq!(event_loop.running().state, ["Local"]);
        assert_eq!(reading.join().unwrap(), "hello");
    }

    #[test]
    fn a_name_without_an_address_ends_in_one_close() {
        let mut event_loop = racing(Vec::new());
        until(&mut event_loop, |event_loop| {
            !event_loop.running().state.is_empty()
        });
        assert_eq!(event_loop.running().state, ["Lookup"]);
    }
}

#[cfg(test)]
mod lookup_tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;
    use crate::reactor::EventLoop;
    use crate::reactor::config::{Config, ConnectionOptions};
    use crate::reactor::time::clock::Clock;
    use crate::session::stream::StreamCallbacks;

    /// A resolver that sends each name it is asked for, and then waits for a message before it
    /// answers.
    fn slow_resolver(lookups_max: usize) -> (EventLoop<Vec<String>>, Receiver<String>, Sender<()>) {
        let config = Config {
            lookups_max,
            ..Config::default()
        };
        let mut event_loop = EventLoop::new(config, Vec::new()).unwrap();
        event_loop.reactor().clock = Clock::invented(Duration::ZERO);
        let (started, names) = mpsc::channel();
        let (let_go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let resolve = move |host: &str, _| {
            let _ = started.send(host.to_owned());
            let _ = gate.lock().unwrap().recv();
            Err(io::ErrorKind::NotFound.into())
        };
        event_loop.reactor().lookups.set_resolver(Arc::new(resolve));
        (event_loop, names, let_go)
    }

    fn connect(event_loop: &mut EventLoop<Vec<String>>, host: &str) -> ConnId {
        let mut handlers = StreamCallbacks::new(String::new(), true, ConnectionOptions::default());
        let name = host.to_owned();
        handlers.on_close(move |stream: &mut crate::Stream<'_, Vec<String>>, close| {
            stream.state.push(format!("{name}: {}", close.cause))
        });
        let address = format!("{host}:80");
        event_loop
            .reactor()
            .connect(&address.into(), Box::new(handlers), 0, Protocol::Raw)
            .unwrap()
    }

    /// Turns until something is so; gives up after a minute and a half.
    fn until(
        event_loop: &mut EventLoop<Vec<String>>,
        done: impl Fn(&EventLoop<Vec<String>>) -> bool,
    ) {
        for _ in 0..9000 {
            if done(event_loop) {
                return;
            }
            event_loop.turn(Some(Duration::from_millis(10))).unwrap();
        }
        panic!("it does not come about: {:?}", event_loop.running().state);
    }

    #[test]
    fn at_most_lookups_max_names_are_looked_up_at_once_in_order() {
        let (mut event_loop, names, let_go) = slow_resolver(2);
        let ids = ["a", "b", "c", "d", "e"].map(|host| connect(&mut event_loop, host));
        let mut first = [names.recv().unwrap(), names.recv().unwrap()];
        first.sort();
        assert_eq!(first, ["a", "b"]);
        assert_eq!(event_loop.running().reactor.lookups.running_count(), 2);
        assert_eq!(event_loop.running().reactor.lookups.waiting_count(), 3);
        // A name is not looked up for a connection that has ended.
        event_loop.reactor().reset(ids[3]);
        let_go.send(()).unwrap();
        until(&mut event_loop, |event_loop| {
            event_loop.running().reactor.lookups.waiting_count() == 2
        });
        assert_eq!(names.recv().unwrap(), "c");
        assert_eq!(event_loop.running().reactor.lookups.running_count(), 2);
        drop(let_go);
        until(&mut event_loop, |event_loop| {
            event_loop.running().state.len() == 5
        });
        assert_eq!(names.recv().unwrap(), "e");
        assert!(names.try_recv().is_err());
        assert_eq!(event_loop.running().reactor.lookups.running_count(), 0);
    }

    #[test]
    fn a_hanging_resolver_costs_the_connect_timeout_and_its_late_answer_is_ignored() {
        let (mut event_loop, names, let_go) = slow_resolver(1);
        connect(&mut event_loop, "hangs");
        connect(&mut event_loop, "waits");
        assert_eq!(names.recv().unwrap(), "hangs");
        event_loop.reactor().clock = Clock::invented(Duration::from_millis(9_900));
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert!(
            event_loop.running().state.is_empty(),
            "{:?}",
            event_loop.running().state
        );
        event_loop.reactor().clock = Clock::invented(Duration::from_millis(10_100));
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        event_loop.state().sort();
        let ends = ["hangs", "waits"].map(|host| format!("{host}: connect deadline passed"));
        assert_eq!(event_loop.running().state, ends);
        drop(let_go);
        until(&mut event_loop, |event_loop| {
            event_loop.running().reactor.lookups.running_count() == 0
        });
        assert_eq!(event_loop.running().state, ends);
        assert!(names.try_recv().is_err());
    }

    #[test]
    fn a_failed_lookup_says_which_name_and_what_failed() {
        for (found, why) in [
            (
                Err("Name or service not known"),
                "Name or service not known",
            ),
            (Ok(Vec::new()), "the name has no address"),
        ] {
            let mut event_loop = EventLoop::new(Config::default(), Vec::<String>::new()).unwrap();
            let resolve = move |_: &str, _| found.clone().map_err(io::Error::other);
            event_loop.reactor().lookups.set_resolver(Arc::new(resolve));
            let connecting = event_loop
                .reactor()
                .connect_stream("nowhere.example:80", |stream| {
                    stream.on_close(|stream, close| stream.state.push(close.to_string()));
                });
            connecting.unwrap();
            until(&mut event_loop, |event_loop| {
                !event_loop.running().state.is_empty()
            });
            let text = format!("1006 look-up failed: nowhere.example: {why}").replace("1006 ", "");
            assert_eq!(*event_loop.state(), [text]);
        }
    }

    // The deadline is for a peer that takes no bytes, and there is no peer yet.
    #[test]
    fn bytes_that_wait_for_a_connection_have_no_write_deadline() {
        let (mut event_loop, names, let_go) = slow_resolver(1);
        event_loop.reactor().config.connect_timeout = Duration::from_secs(60);
        let id = connect(&mut event_loop, "slow");
        assert_eq!(names.recv().unwrap(), "slow");
        assert!(event_loop.reactor().send(id, "early").is_queued());
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let later = |seconds| Clock::invented(Duration::from_secs(seconds));
        event_loop.reactor().clock = later(59);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert!(
            event_loop.running().state.is_empty(),
            "{:?}",
            event_loop.running().state
        );
        event_loop.reactor().clock = later(61);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(
            event_loop.running().state,
            ["slow: connect deadline passed"]
        );
        drop(let_go);
    }

    #[test]
    fn lookups_of_connections_that_gave_up_are_swept() {
        let (mut event_loop, _, let_go) = slow_resolver(1);
        for _ in 0..640 {
            let id = connect(&mut event_loop, "hangs");
            event_loop.reactor().reset(id);
        }
        let waiting = event_loop.running().reactor.lookups.waiting_count();
        assert!(waiting < 64, "{waiting} wait");
        drop(let_go);
    }
}
