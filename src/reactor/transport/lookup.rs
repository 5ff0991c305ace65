//! Names, looked up off the loop.
//!
//! The system's resolver blocks for as long as it likes, so each look-up has a thread. At most
//! [`Config::lookups_max`](crate::reactor::config::Config::lookups_max) run at once, the others wait in their
//! order; a resolver that hangs costs those who wait their `connect_timeout`, and no more threads.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::reactor::close::CloseCause;
use crate::reactor::connection::table::BURST;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// What knows the addresses of names.
pub(crate) type Resolve = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// At this many that wait, those whose connection has gone meanwhile are thrown away.
const SWEEP_MIN: usize = 64;

/// A connection to be made by name.
pub(crate) struct Lookup {
    pub(crate) id: ConnId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) from: Option<IpAddr>,
}

/// The look-ups that run, and those that wait.
pub(crate) struct Lookups {
    pub(crate) resolve: Resolve,
    running_count: usize,
    waiting: VecDeque<Lookup>,
    sweep_at: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        let system = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
        Lookups {
            resolve: Arc::new(system),
            running_count: 0,
            waiting: VecDeque::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

impl<S: 'static> Reactor<S> {
    /// Has a name looked up for a connection; [`race`](Self::race) is next, or its end.
    pub(crate) fn look_up(&mut self, lookup: Lookup) {
        let Reactor { lookups, table, .. } = self;
        lookups.waiting.push_back(lookup);
        // Twice as many as connections at the most, without a search for each that ends.
        if lookups.sweep_at <= lookups.waiting.len() {
            lookups
                .waiting
                .retain(|lookup| table.open_mut(lookup.id).is_some());
            lookups.sweep_at = SWEEP_MIN.max(2 * lookups.waiting.len());
        }
        self.start_lookups();
    }

    fn start_lookups(&mut self) {
        let max = self.table.config.lookups_max.max(1);
        while self.lookups.running_count < max {
            let Some(lookup) = self.lookups.waiting.pop_front() else {
                if BURST < self.lookups.waiting.capacity() {
                    self.lookups.waiting = VecDeque::new();
                }
                return;
            };
            let id = lookup.id;
            if self.table.open_mut(id).is_none() {
                continue;
            }
            match self.start_lookup(lookup) {
                Ok(()) => self.lookups.running_count += 1,
                Err(error) => self.table.abort(id, CloseCause::Io(error.kind())),
            }
        }
    }

    fn start_lookup(&mut self, lookup: Lookup) -> io::Result<()> {
        let remote = self.remote();
        let resolve = Arc::clone(&self.lookups.resolve);
        let look_up = move || {
            let found = resolve(&lookup.host, lookup.port);
            // The reactor may have ended meanwhile; then nobody waits for the answer.
            let _ = remote.run(move |cx| cx.reactor.looked_up(&lookup, found));
        };
        std::thread::Builder::new()
            .name("waterwheel-lookup".into())
            .spawn(look_up)
            .map(drop)
    }

    fn looked_up(&mut self, lookup: &Lookup, found: io::Result<Vec<SocketAddr>>) {
        self.lookups.running_count -= 1;
        match found {
            Ok(addresses) => self.race(lookup.id, addresses, lookup.from),
            Err(error) => self.table.abort(lookup.id, CloseCause::Io(error.kind())),
        }
        self.start_lookups();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;
    use crate::reactor::config::{Config, ConnectionOptions};
    use crate::reactor::connection::Protocol;
    use crate::reactor::time::clock::{Clock, nanos};
    use crate::reactor::{Duration, EventLoop};
    use crate::session::stream::StreamCallbacks;

    /// A resolver that says which name it was asked for, and then waits to be let go.
    fn slow_resolver(lookups_max: usize) -> (EventLoop<Vec<String>>, Receiver<String>, Sender<()>) {
        let config = Config {
            lookups_max,
            ..Config::default()
        };
        let mut event_loop = EventLoop::new(config, Vec::new()).unwrap();
        event_loop.reactor.clock = Clock::Invented(0);
        let (started, names) = mpsc::channel();
        let (let_go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        event_loop.reactor.lookups.resolve = Arc::new(move |host, _| {
            let _ = started.send(host.to_owned());
            let _ = gate.lock().unwrap().recv();
            Err(io::ErrorKind::NotFound.into())
        });
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
            .reactor
            .connect(&address, None, Box::new(handlers), 0, Protocol::Raw)
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
        panic!("it does not come about: {:?}", event_loop.state);
    }

    // C5
    #[test]
    fn so_many_names_are_looked_up_at_once_and_the_others_in_their_order() {
        let (mut event_loop, names, let_go) = slow_resolver(2);
        let ids = ["a", "b", "c", "d", "e"].map(|host| connect(&mut event_loop, host));
        let mut first = [names.recv().unwrap(), names.recv().unwrap()];
        first.sort();
        assert_eq!(first, ["a", "b"]);
        assert_eq!(event_loop.reactor.lookups.running_count, 2);
        assert_eq!(event_loop.reactor.lookups.waiting.len(), 3);
        // Who has gone meanwhile is not looked up any more.
        event_loop.reactor.reset(ids[3]);
        let_go.send(()).unwrap();
        until(&mut event_loop, |event_loop| {
            event_loop.reactor.lookups.waiting.len() == 2
        });
        assert_eq!(names.recv().unwrap(), "c");
        assert_eq!(event_loop.reactor.lookups.running_count, 2);
        drop(let_go);
        until(&mut event_loop, |event_loop| event_loop.state.len() == 5);
        assert_eq!(names.recv().unwrap(), "e");
        assert!(names.try_recv().is_err());
        assert_eq!(event_loop.reactor.lookups.running_count, 0);
    }

    // C5, C8
    #[test]
    fn a_resolver_that_hangs_costs_the_connect_timeout_and_its_late_answer_is_nothing() {
        let (mut event_loop, names, let_go) = slow_resolver(1);
        connect(&mut event_loop, "hangs");
        connect(&mut event_loop, "waits");
        assert_eq!(names.recv().unwrap(), "hangs");
        event_loop.reactor.clock = Clock::Invented(nanos(Duration::from_millis(9_900)));
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert!(event_loop.state.is_empty(), "{:?}", event_loop.state);
        event_loop.reactor.clock = Clock::Invented(nanos(Duration::from_millis(10_100)));
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        event_loop.state.sort();
        let ends = ["hangs", "waits"].map(|host| format!("{host}: connect deadline passed"));
        assert_eq!(event_loop.state, ends);
        drop(let_go);
        until(&mut event_loop, |event_loop| {
            event_loop.reactor.lookups.running_count == 0
        });
        assert_eq!(event_loop.state, ends);
        assert!(names.try_recv().is_err());
    }

    // Rule 2
    #[test]
    fn connections_that_gave_up_do_not_wait_for_ever() {
        let (mut event_loop, _, let_go) = slow_resolver(1);
        for _ in 0..10 * SWEEP_MIN {
            let id = connect(&mut event_loop, "hangs");
            event_loop.reactor.reset(id);
        }
        let waiting = event_loop.reactor.lookups.waiting.len();
        assert!(waiting < SWEEP_MIN, "{waiting} wait");
        drop(let_go);
    }
}
