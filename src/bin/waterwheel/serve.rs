//! `waterwheel serve`: the hub, on one reactor or on several.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};

use waterwheel::hub::{self, Access, ReactorGroup};
use waterwheel::{Address, Config, ListenerId, Reactor, Router};

use crate::arguments::Serve;

pub fn run(options: &Serve) -> io::Result<()> {
    crate::start_log(options.log);
    let mut listeners = Vec::new();
    for address in &options.listen {
        let place = Place::of(address)?;
        let access = access(options, address, &place)?;
        listeners.push((place, access));
    }
    let config = crate::config(options.max_connections, options.reactors)?;
    if 1 < options.reactors {
        return run_many(options, listeners, &config);
    }
    Reactor::run_with(config, (), |reactor| {
        // Before anybody is told of a listener, who may then end the program by a signal.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let mut bound = Vec::new();
        for (place, access) in &listeners {
            bound.push(place.listen(reactor, |router| hub::mount(router, access))?);
        }
        crate::say_listening(reactor, &bound);
        io::Result::Ok(())
    })
}

/// A reactor beside the first, before it serves.
struct Other<'scope> {
    thread: ScopedJoinHandle<'scope, io::Result<()>>,
    /// Hangs up when it could not listen.
    ready: Receiver<()>,
    /// Hung up, it ends.
    go: Sender<()>,
}

/// The hub on several reactors: the first on this thread, the others each on one of their own. The
/// kernel spreads the connections of a port over them.
///
/// Nobody is served before all listen. When one fails, all end.
fn run_many(
    options: &Serve,
    listeners: Vec<(Place<'_>, Access)>,
    config: &Config,
) -> io::Result<()> {
    let mut free = Vec::new();
    for (place, access) in listeners {
        free.push((place.free()?, access));
    }
    let group = ReactorGroup::new(options.reactors);
    thread::scope(|scope| {
        let mut others = Vec::new();
        let first = run_one(config, options, &group, 0, |reactor, group| {
            let bound = listen(reactor, group, options, &free)?;
            // With the real ports; a Unix socket cannot be shared.
            let mut shared = Vec::new();
            for (listener, (_, access)) in bound.iter().zip(&free) {
                if let Some(Address::Inet(address)) = reactor.local_addr(*listener) {
                    shared.push((Place::Inet(vec![address]), access.clone()));
                }
            }
            for index in 1..options.reactors {
                let listeners = shared.clone();
                let other = spawn(scope, config, options, group, index, listeners)?;
                others.push(other);
            }
            for other in &others {
                let failed = |_| io::Error::other("another reactor cannot listen");
                other.ready.recv().map_err(failed)?;
            }
            for other in &others {
                // One that has ended since is found when it is joined.
                let _ = other.go.send(());
            }
            crate::say_listening(reactor, &bound);
            Ok(())
        });
        let mut outcome = Ok(());
        for Other { thread, go, .. } in others {
            drop(go);
            outcome = outcome.and(match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            });
        }
        // What went wrong on another is why the first has failed.
        outcome.and(first)
    })
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    config: &'scope Config,
    options: &'scope Serve,
    group: &ReactorGroup<()>,
    index: usize,
    listeners: Vec<(Place<'static>, Access)>,
) -> io::Result<Other<'scope>> {
    let group = group.clone();
    let (is_ready, ready) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let run = move || {
        run_one(config, options, &group, index, |reactor, group| {
            listen(reactor, group, options, &listeners)?;
            let _ = is_ready.send(());
            if wait.recv().is_err() {
                reactor.stop();
            }
            Ok(())
        })
    };
    let thread = thread::Builder::new()
        .name(format!("reactor {index}"))
        .spawn_scoped(scope, run)?;
    Ok(Other { thread, ready, go })
}

/// Runs one of several reactors to its end.
fn run_one(
    config: &Config,
    options: &Serve,
    group: &ReactorGroup<()>,
    index: usize,
    setup: impl FnOnce(&mut Reactor<()>, &ReactorGroup<()>) -> io::Result<()>,
) -> io::Result<()> {
    let config = Config {
        connections_max: share(config.connections_max, options.reactors, index),
        reuse_port: true,
        ..config.clone()
    };
    let mut end_all = EndAll(Some(group));
    let outcome = Reactor::run_with(config, (), |reactor| setup(reactor, group));
    if outcome.is_ok() {
        end_all.0 = None;
    }
    outcome
}

/// Ends all reactors where one ends by an error or a panic: half a hub could go unnoticed.
struct EndAll<'f>(Option<&'f ReactorGroup<()>>);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            group.run_on_all(|cx| cx.reactor.stop());
        }
    }
}

/// Joins the group and listens.
fn listen(
    reactor: &mut Reactor<()>,
    group: &ReactorGroup<()>,
    options: &Serve,
    listeners: &[(Place<'_>, Access)],
) -> io::Result<Vec<ListenerId>> {
    let seat = group.join(reactor)?;
    // Each has handlers of its own, and all are called.
    #[cfg(unix)]
    reactor.drain_on_signals(options.drain_window)?;
    #[cfg(not(unix))]
    let _ = options;
    let mut bound = Vec::new();
    for (place, access) in listeners {
        bound.push(place.listen(reactor, |router| seat.mount(router, access))?);
    }
    Ok(bound)
}

/// The part of one of so many.
fn share(total: usize, count: usize, index: usize) -> usize {
    (total / count + usize::from(index < total % count)).max(1)
}

/// Where to listen. A name is looked up once: who may what is decided by the very addresses that
/// are then listened on.
#[derive(Clone)]
enum Place<'o> {
    Inet(Vec<SocketAddr>),
    /// With the `unix:` in front.
    Unix(&'o str),
}

impl<'o> Place<'o> {
    /// # Errors
    ///
    /// When the name has no address.
    fn of(address: &'o str) -> io::Result<Place<'o>> {
        if address.starts_with("unix:") {
            return Ok(Place::Unix(address));
        }
        let why = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        };
        let addresses: Vec<_> = address.to_socket_addrs().map_err(why)?.collect();
        if addresses.is_empty() {
            return Err(why(io::Error::other("the name has no address")));
        }
        Ok(Place::Inet(addresses))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Place::Inet(addresses) => addresses.iter().all(|it| it.ip().is_loopback()),
            Place::Unix(_) => false,
        }
    }

    /// The addresses on which nobody listens. A port that is shared could otherwise be shared with
    /// another hub too, which would get a part of the connections.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn free(self) -> io::Result<Place<'o>> {
        let Place::Inet(mut addresses) = self else {
            return Ok(self);
        };
        let mut outcome = Ok(());
        addresses.retain(|address| match TcpListener::bind(address) {
            Ok(_) => true,
            Err(error) => {
                let why = format!("cannot listen on {address}: {error}");
                outcome = Err(io::Error::new(error.kind(), why));
                false
            }
        });
        if addresses.is_empty() {
            outcome?;
        }
        Ok(Place::Inet(addresses))
    }

    /// Listens on the first address of a name that can be listened on.
    fn listen(
        &self,
        reactor: &mut Reactor<()>,
        mount: impl Fn(&mut Router<()>),
    ) -> io::Result<ListenerId> {
        match self {
            Place::Unix(address) => reactor.http(address, mount),
            Place::Inet(addresses) => {
                let mut last = io::Error::other("the name has no address");
                for address in addresses {
                    match reactor.http(&address.to_string(), &mount) {
                        Ok(listener) => return Ok(listener),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// Who may what on one listener.
///
/// # Errors
///
/// When the listener could be reached from elsewhere and nobody said who may publish.
fn access(options: &Serve, address: &str, place: &Place<'_>) -> io::Result<Access> {
    let access = Access {
        token: options.publish_token.clone(),
        open: options.open,
        origins: options.allow_origin.clone(),
        is_loopback: place.is_loopback(),
        is_unix: matches!(place, Place::Unix(_)),
    };
    let is_closed =
        access.token.is_none() && !access.open && !access.is_loopback && !access.is_unix;
    if is_closed {
        let why = format!(
            "--listen {address} can be reached from other machines, and nobody could publish there: \
             --publish-token TOKEN (or WATERWHEEL_PUBLISH_TOKEN) says who may, --open lets anyone"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_shares_add_up_and_are_never_zero() {
        for (total, count) in [(10, 1), (10, 3), (3, 3), (1_000_000, 7)] {
            let shares: Vec<_> = (0..count).map(|index| share(total, count, index)).collect();
            assert_eq!(shares.iter().sum::<usize>(), total, "{shares:?}");
            assert!(shares[0] - shares[count - 1] <= 1, "{shares:?}");
        }
        assert_eq!(share(1, 2, 1), 1);
    }
}
