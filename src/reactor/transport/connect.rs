//! Connecting: names looked up off the loop, every address tried, one outcome.
//!
//! Addresses are tried in the order the system gives them. When one has neither failed nor
//! succeeded after [`Config::connect_stagger`](crate::reactor::config::Config::connect_stagger), the next is
//! tried beside it, and the first to answer wins, so a dead first address costs a quarter of a
//! second. Source: RFC 8305, section 5.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::Interest;

use crate::reactor::close::{CloseCause, Deadline};
use crate::reactor::connection::Flags;
use crate::reactor::connection::Protocol;
use crate::reactor::connection::table::Source;
use crate::reactor::handler::{Cx, Handler};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::reactor::time::timers::TimerId;
use crate::reactor::transport::Transport;
use crate::reactor::transport::listener::Address;
use crate::reactor::transport::lookup::Lookup;

/// One address being tried.
pub(crate) struct Attempt {
    pub(crate) transport: Transport,
    pub(crate) target: ConnId,
}

/// The addresses of one connection to be made.
pub(crate) struct Race {
    left: VecDeque<SocketAddr>,
    from: Option<IpAddr>,
    running: Vec<u32>,
    error: io::ErrorKind,
    stagger: Option<TimerId>,
}

impl<S: 'static> Reactor<S> {
    /// Makes a connection to `HOST:PORT` or `unix:PATH` for `handler`, and returns its id at once;
    /// from an address where one is asked for.
    ///
    /// What is sent before it is made waits in its queue. The one outcome is `open` or `closed`.
    pub(crate) fn connect(
        &mut self,
        address: &str,
        from: Option<IpAddr>,
        handler: Box<dyn Handler<S>>,
        options: u16,
        protocol: Protocol,
    ) -> io::Result<ConnId> {
        let key = self.add_handler(handler);
        let made = self.connect_for(key, address, from, options, protocol);
        if made.is_err() {
            self.free_handler(key);
        }
        made
    }

    /// As [`connect`](Self::connect), for a handler that is there already.
    pub(crate) fn connect_for(
        &mut self,
        key: u32,
        address: &str,
        from: Option<IpAddr>,
        options: u16,
        protocol: Protocol,
    ) -> io::Result<ConnId> {
        if self.stopped {
            let why = format!("cannot connect to {address}: the reactor has stopped");
            return Err(io::Error::other(why));
        }
        if let Some(path) = address.strip_prefix("unix:") {
            let id = self
                .table
                .insert(Transport::Pending, protocol, key, options)?;
            if self.table.registry.is_none() {
                self.connect_in_memory(id, &Address::Unix(path.into()));
                return Ok(id);
            }
            self.table
                .wait(id, Deadline::Connect, self.table.config.connect_timeout);
            match connect_unix(path) {
                Ok(transport) => self.attempt(id, transport),
                Err(error) => self.table.abort(id, CloseCause::Io(error.kind())),
            }
            return Ok(id);
        }
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot connect to {address}: expected HOST:PORT or unix:PATH"),
            ));
        };
        let port: u16 = port.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot connect to {address}: the port is not a number from 0 to 65535"),
            )
        })?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let id = self
            .table
            .insert(Transport::Pending, protocol, key, options)?;
        if self.table.registry.is_none() {
            self.connect_in_memory(id, &Address::Inet(([127, 0, 0, 1], port).into()));
            return Ok(id);
        }
        self.table
            .wait(id, Deadline::Connect, self.table.config.connect_timeout);
        match host.parse() {
            Ok(ip) => self.race(id, vec![SocketAddr::new(ip, port)], from),
            Err(_) => self.look_up(Lookup {
                id,
                host,
                port,
                from,
            }),
        }
        Ok(id)
    }

    pub(crate) fn race(&mut self, id: ConnId, addresses: Vec<SocketAddr>, from: Option<IpAddr>) {
        if self.table.open_mut(id).is_none() {
            return;
        }
        let race = Race {
            left: addresses.into(),
            from,
            running: Vec::new(),
            error: io::ErrorKind::AddrNotAvailable,
            stagger: None,
        };
        self.races.insert(id, race);
        self.next_address(id);
    }

    fn next_address(&mut self, id: ConnId) {
        loop {
            let Some(race) = self.races.get_mut(&id) else {
                return;
            };
            if let Some(timer) = race.stagger.take() {
                self.timers.cancel(timer);
            }
            let Some(address) = race.left.pop_front() else {
                if race.running.is_empty() {
                    let error = race.error;
                    self.races.remove(&id);
                    self.table.abort(id, CloseCause::Io(error));
                }
                return;
            };
            match connect_tcp(address, race.from) {
                Ok(stream) => {
                    self.attempt(id, Transport::Tcp(stream));
                    let stagger = self.table.config.connect_stagger;
                    let stagger = self.after(stagger, move |cx: &mut Cx<'_, S>| {
                        cx.reactor.next_address(id)
                    });
                    if let Some(race) = self.races.get_mut(&id) {
                        race.stagger = Some(stagger);
                    }
                    return;
                }
                Err(error) => race.error = error.kind(),
            }
        }
    }

    fn attempt(&mut self, target: ConnId, mut transport: Transport) {
        let entry = self.table.sources.vacant_entry();
        let index = entry.key();
        if let Some(registry) = &self.table.registry
            && let Err(error) = transport.register(registry, mio::Token(index), Interest::WRITABLE)
        {
            return self.table.abort(target, CloseCause::Io(error.kind()));
        }
        entry.insert(Source::Attempt(Box::new(Attempt { transport, target })));
        match self.races.get_mut(&target) {
            Some(race) => race.running.push(index as u32),
            None => {
                let race = Race {
                    left: VecDeque::new(),
                    from: None,
                    running: vec![index as u32],
                    error: io::ErrorKind::NotConnected,
                    stagger: None,
                };
                self.races.insert(target, race);
            }
        }
    }

    /// The kernel says something of an attempt. Returns the connection when it is made.
    pub(crate) fn attempt_ready(&mut self, index: u32) -> Option<ConnId> {
        let Some(Source::Attempt(attempt)) = self.table.sources.get(index as usize) else {
            return None;
        };
        let target = attempt.target;
        match outcome(&attempt.transport) {
            Ok(false) => None,
            Ok(true) => {
                let Some(Source::Attempt(attempt)) = self.table.vacate(index as usize) else {
                    return None;
                };
                self.end_race(target, index);
                self.adopt(target, attempt.transport)
            }
            Err(error) => {
                self.table.vacate(index as usize);
                if let Some(race) = self.races.get_mut(&target) {
                    race.running.retain(|running| *running != index);
                    race.error = error.kind();
                    if race.running.is_empty() || !race.left.is_empty() {
                        self.next_address(target);
                    }
                }
                None
            }
        }
    }

    /// As [`attempt`](Self::attempt), in a simulation: made already, and found so in the next turn.
    pub(crate) fn attempt_in_memory(
        &mut self,
        target: ConnId,
        stream: crate::reactor::transport::memory::MemoryStream,
    ) {
        self.attempt(target, Transport::Memory(stream));
        if let (Some(race), Some(net)) = (self.races.get(&target), &self.net)
            && let Some(index) = race.running.first()
        {
            net.notify(
                *index as usize,
                crate::reactor::transport::memory::Readiness {
                    writable: true,
                    ..Default::default()
                },
            );
        }
    }

    /// Forgets what else was tried for a connection that is made, or gone.
    pub(crate) fn end_race(&mut self, target: ConnId, winner: u32) {
        let Some(race) = self.races.remove(&target) else {
            return;
        };
        if let Some(timer) = race.stagger {
            self.timers.cancel(timer);
        }
        for index in race.running.into_iter().filter(|index| *index != winner) {
            self.table.vacate(index as usize);
        }
    }

    fn adopt(&mut self, id: ConnId, mut transport: Transport) -> Option<ConnId> {
        if let Transport::Tcp(stream) = &transport {
            // Not every system has it for every socket; then small messages may wait a little.
            let _ = stream.set_nodelay(true);
        }
        if let Some(registry) = &self.table.registry
            && let Err(error) =
                transport.reregister(registry, mio::Token(id.index as usize), Interest::READABLE)
        {
            self.table.abort(id, CloseCause::Io(error.kind()));
            return None;
        }
        let connection = self.table.open_mut(id)?;
        connection.transport = transport;
        connection.flags.clear(Flags::BLOCKED);
        connection.write_deadline = crate::reactor::time::coarse::Tick::NEVER;
        connection.flags.set(Flags::READABLE);
        if let Transport::Memory(stream) = &mut connection.transport {
            stream.register(id.index as usize);
        }
        self.table.wait_for_nothing(id);
        self.table.stats.connected += 1;
        self.table.flush(id);
        Some(id)
    }
}

/// Whether a non-blocking connect has come to its end, and how.
fn outcome(transport: &Transport) -> io::Result<bool> {
    let error = match transport {
        Transport::Tcp(stream) => {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                Ok(_) => return Ok(true),
                Err(error) => error,
            }
        }
        #[cfg(unix)]
        Transport::Unix(stream) => match stream.take_error()? {
            Some(error) => return Err(error),
            None => return Ok(true),
        },
        Transport::Memory(_) | Transport::Pending => return Ok(true),
    };
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(false),
        _ => Err(error),
    }
}

/// Begins to connect, from an address where one is asked for; its port is the system's choice.
fn connect_tcp(address: SocketAddr, from: Option<IpAddr>) -> io::Result<mio::net::TcpStream> {
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
fn connect_unix(path: &str) -> io::Result<Transport> {
    mio::net::UnixStream::connect(path).map(Transport::Unix)
}

#[cfg(not(unix))]
fn connect_unix(_: &str) -> io::Result<Transport> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Unix sockets need a Unix system",
    ))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::reactor::config::{Config, ConnectionOptions};
    use crate::reactor::time::clock::Clock;
    use crate::reactor::{Duration, EventLoop};
    use crate::session::stream::{Stream, StreamCallbacks};

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    /// A reactor on real sockets and an invented clock, which tries these addresses.
    fn racing(addresses: Vec<SocketAddr>) -> EventLoop<Vec<String>> {
        let mut event_loop = EventLoop::new(Config::default(), Vec::new()).unwrap();
        event_loop.reactor.clock = Clock::Invented(0);
        event_loop.reactor.lookups.resolve = Arc::new(move |_, _| Ok(addresses.clone()));
        let mut handlers = StreamCallbacks::new(String::new(), true, ConnectionOptions::default());
        handlers.on_open(|stream: &mut Stream<'_, Vec<String>>| stream.state.push("open".into()));
        handlers.on_close(|stream: &mut Stream<'_, Vec<String>>, close| {
            stream.state.push(format!("{:?}", close.cause))
        });
        let handlers = Box::new(handlers);
        let reactor = &mut event_loop.reactor;
        let made = reactor.connect("name:80", None, handlers, 0, Protocol::Raw);
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
        panic!("it does not come about: {:?}", event_loop.state);
    }

    #[cfg(target_os = "linux")]
    fn at(event_loop: &mut EventLoop<Vec<String>>, time: Duration) {
        event_loop.reactor.clock = Clock::Invented(crate::reactor::time::clock::nanos(time));
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }

    /// How many addresses are being tried, and how many are left.
    fn tried(event_loop: &EventLoop<Vec<String>>) -> Option<(usize, usize)> {
        let race = event_loop.reactor.races.values().next()?;
        Some((race.running.len(), race.left.len()))
    }

    fn attempt_count(event_loop: &EventLoop<Vec<String>>) -> usize {
        let sources = event_loop.reactor.table.sources.iter();
        sources
            .filter(|(_, source)| matches!(source, Source::Attempt(_)))
            .count()
    }

    fn live() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that says nothing, as a machine that is switched off: its queue is full, and
    /// what comes then is dropped.
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

    // C5
    #[test]
    #[cfg(target_os = "linux")]
    fn beside_an_address_that_is_silent_the_next_is_tried_and_wins() {
        let (_listener, _clients, dead) = dead();
        let (live, address) = live();
        let mut event_loop = racing(vec![dead, address, dead]);
        until(&mut event_loop, |event_loop| {
            tried(event_loop) == Some((1, 2))
        });
        at(&mut event_loop, MILLIS(249));
        assert_eq!(tried(&event_loop), Some((1, 2)));
        at(&mut event_loop, MILLIS(250));
        until(&mut event_loop, |event_loop| !event_loop.state.is_empty());
        assert_eq!(event_loop.state, ["open"]);
        let _accepted = live.accept().unwrap();
        // The attempt that lost is forgotten, and with it its deadline.
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
        at(&mut event_loop, MILLIS(60_000));
        assert_eq!(event_loop.state, ["open"]);
    }

    // C5
    #[test]
    fn a_refusal_is_not_waited_for() {
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
        until(&mut event_loop, |event_loop| !event_loop.state.is_empty());
        assert_eq!(event_loop.state, ["open"]);
        let mut event_loop = racing(vec![refused, refused]);
        until(&mut event_loop, |event_loop| !event_loop.state.is_empty());
        assert_eq!(event_loop.state, ["Io(ConnectionRefused)"]);
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
    }

    // C5, C8
    #[test]
    #[cfg(target_os = "linux")]
    fn all_addresses_together_have_the_connect_timeout() {
        let (_listener, _clients, dead) = dead();
        let mut event_loop = racing(vec![dead; 3]);
        until(&mut event_loop, |event_loop| {
            tried(event_loop) == Some((1, 2))
        });
        for time in [250, 500, 9_900] {
            at(&mut event_loop, MILLIS(time));
        }
        assert_eq!(tried(&event_loop), Some((3, 0)));
        assert!(event_loop.state.is_empty(), "{:?}", event_loop.state);
        at(&mut event_loop, MILLIS(10_100));
        assert_eq!(event_loop.state, ["TimedOut(Connect)"]);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!((tried(&event_loop), attempt_count(&event_loop)), (None, 0));
        assert_eq!(event_loop.reactor.connection_count(), 0);
    }

    // C5
    #[test]
    fn a_name_without_an_address_ends_in_one_close() {
        let mut event_loop = racing(Vec::new());
        until(&mut event_loop, |event_loop| !event_loop.state.is_empty());
        assert_eq!(event_loop.state, ["Io(AddrNotAvailable)"]);
    }
}
