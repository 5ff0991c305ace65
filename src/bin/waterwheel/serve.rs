//! `waterwheel serve`: the hub, on one reactor or on several.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};

use waterwheel::hub::{Access, GroupSeat, Hub, HubOptions, ReactorGroup, TokenSecrets, Tokens};
use waterwheel::{Address, Config, ListenOptions, ListenerId, Reactor, Router};

use crate::arguments::Serve;
use crate::descriptors;
use crate::memory;
use crate::output::{log_access, print_listeners, start_log};
use crate::reload::Files;
use crate::values::{is_short_token, short_token};

/// The messages of a hub are small and its clients many, and the bytes that the kernel holds for slow
/// clients count in a cgroup.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

pub fn run(options: &Serve) -> io::Result<()> {
    start_log(options.log)?;
    let files = Files::read(options.publish_token_file.as_deref(), &options.secrets)?;
    let (tokens, secrets) = (files.tokens(), files.secrets());
    #[cfg(unix)]
    files.reload_on_hangup()?;
    if options.publish_token.as_deref().is_some_and(is_short_token) {
        log::warn!("{}", short_token("--publish-token"));
    }
    check_private_topics(options, &tokens, &secrets)?;
    let topics = &options.topics;
    log::debug!(
        "history may take {} KiB; {:?}",
        topics.history_bytes / 1024,
        topics.rules
    );
    let mut listeners = Vec::new();
    for address in &options.listen {
        let target = ListenAddress::of(address, options.unix_mode)?;
        let access = access(options, address, &target, &tokens, &secrets)?;
        listeners.push((target, access));
    }
    let mut config = descriptors::config(options.max_connections, options.reactors)?;
    config.memory_bytes_max = options
        .memory_max
        .or_else(|| memory::default_max(options.reactors));
    let unless_zero = |limit: u32| (limit != 0).then_some(limit);
    config.connections_per_address_max = unless_zero(options.max_connections_per_address);
    config.handshakes_per_second_max = unless_zero(options.handshakes_per_second);
    options.limits.apply(&mut config);
    config.send_buffer_bytes_max = Some(SEND_BUFFER_BYTES_MAX);
    config.handshakes_per_second_total_max = unless_zero(options.handshakes_per_second_total);
    config.trusted_proxies = options.trusted_proxy.clone();
    config.trusts_unix_proxies = options.trusts_unix_proxies;
    if let Some(bytes) = config.memory_bytes_max {
        log::info!("clients may hold {} MiB", bytes / (1024 * 1024));
    }
    if 1 < options.reactors {
        return run_many(options, listeners, &config);
    }
    Reactor::run_with(config, (), |reactor| {
        // Signals are handled before the listeners are printed: a script that has read the line may
        // send one at once.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let hub = hub(reactor, options, None)?;
        let mut bound = Vec::new();
        for (target, access) in &listeners {
            bound.push(target.listen(reactor, options, |router| {
                hub.mount(router, access);
                log_requests(router, options);
            })?);
        }
        print_listeners(reactor, &bound);
        io::Result::Ok(())
    })
}

/// A reactor on a thread of its own, before it serves.
struct ReactorThread<'scope> {
    thread: ScopedJoinHandle<'scope, io::Result<()>>,
    /// Gets a message when the reactor listens, and is disconnected when it cannot.
    ready: Receiver<()>,
    /// A message starts the reactor. Without one, dropping this ends it.
    start: Sender<()>,
}

/// Runs the hub on several reactors: the first on this thread, each other on its own. The kernel
/// distributes the connections of a port over them.
///
/// Clients are served when all reactors listen, not before. When one reactor fails, all end.
fn run_many(
    options: &Serve,
    listeners: Vec<(ListenAddress<'_>, Access)>,
    config: &Config,
) -> io::Result<()> {
    let mut untaken = Vec::new();
    for (target, access) in listeners {
        untaken.push((target.without_taken()?, access));
    }
    let group = ReactorGroup::new(options.reactors);
    thread::scope(|scope| {
        let mut others = Vec::new();
        let first = run_one(config, options, &group, 0, |reactor, group| {
            let bound = listen(reactor, group, options, &untaken)?;
            // The others use the ports that the first got for port 0. A Unix socket cannot be shared.
            let mut shared = Vec::new();
            for (listener, (_, access)) in bound.iter().zip(&untaken) {
                if let Some(Address::Inet(address)) = reactor.local_addr(*listener) {
                    shared.push((ListenAddress::Inet(vec![address]), access.clone()));
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
                // This fails when the thread has ended since; joining it below returns its error.
                let _ = other.start.send(());
            }
            print_listeners(reactor, &bound);
            Ok(())
        });
        let mut outcome = Ok(());
        for ReactorThread { thread, start, .. } in others {
            drop(start);
            outcome = outcome.and(match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            });
        }
        // An error of another reactor comes first: it made the first reactor fail.
        outcome.and(first)
    })
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    config: &'scope Config,
    options: &'scope Serve,
    group: &ReactorGroup<()>,
    index: usize,
    listeners: Vec<(ListenAddress<'static>, Access)>,
) -> io::Result<ReactorThread<'scope>> {
    let group = group.clone();
    let (is_ready, ready) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let run = move || {
        run_one(config, options, &group, index, |reactor, group| {
            listen(reactor, group, options, &listeners)?;
            let _ = is_ready.send(());
            if started.recv().is_err() {
                reactor.stop();
            }
            Ok(())
        })
    };
    let thread = thread::Builder::new()
        .name(format!("reactor {index}"))
        .spawn_scoped(scope, run)?;
    Ok(ReactorThread {
        thread,
        ready,
        start,
    })
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
        subscriptions_total_max: config
            .subscriptions_total_max
            .map(|total| share(total, options.reactors, index)),
        reuse_port: true,
        ..config.clone()
    };
    let mut guard = StopAllOnFailure(Some(group));
    let outcome = Reactor::run_with(config, (), |reactor| setup(reactor, group));
    if outcome.is_ok() {
        guard.0 = None;
    }
    outcome
}

/// Stops all reactors when one ends by an error or a panic. A hub of which only a part runs could
/// go unnoticed.
struct StopAllOnFailure<'g>(Option<&'g ReactorGroup<()>>);

impl Drop for StopAllOnFailure<'_> {
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
    listeners: &[(ListenAddress<'_>, Access)],
) -> io::Result<Vec<ListenerId>> {
    let seat = group.join(reactor)?;
    // Each reactor registers handlers of its own, and a signal calls all of them.
    #[cfg(unix)]
    reactor.drain_on_signals(options.drain_window)?;
    let hub = hub(reactor, options, Some(&seat))?;
    let mut bound = Vec::new();
    for (target, access) in listeners {
        bound.push(target.listen(reactor, options, |router| {
            hub.mount(router, access);
            log_requests(router, options);
        })?);
    }
    Ok(bound)
}

/// The hub of a reactor: with Redis that of all nodes.
fn hub(
    reactor: &mut Reactor<()>,
    options: &Serve,
    seat: Option<&GroupSeat<()>>,
) -> io::Result<Hub<()>> {
    let (hub_options, prefix) = (hub_options(options), options.redis.prefix.as_deref());
    let made = match (&options.redis.url, seat) {
        (None, None) => return Ok(Hub::new(hub_options)),
        (None, Some(seat)) => return Ok(Hub::of_group(seat, hub_options)),
        (Some(url), None) => Hub::of_redis(reactor, url, prefix, hub_options),
        (Some(url), Some(seat)) => Hub::of_redis_in_group(reactor, seat, url, prefix, hub_options),
    };
    made.map_err(|error| io::Error::new(error.kind(), format!("--redis: {error}")))
}

/// The rules of topics and the limits of their history.
fn hub_options(options: &Serve) -> HubOptions {
    HubOptions {
        rules: options.topics.rules.clone(),
        history_bytes_max: options.topics.history_bytes,
        ..HubOptions::default()
    }
}

/// Logs each request with its answer, where `--access-log` asks for it.
fn log_requests(router: &mut Router<()>, options: &Serve) {
    if options.access_log {
        router.after_reply(log_access);
    }
}

/// The part of `total` that belongs to one of `count` reactors. At least 1.
fn share(total: usize, count: usize, index: usize) -> usize {
    (total / count + usize::from(index < total % count)).max(1)
}

/// An address to listen on. A name is resolved once, so that the access rules are decided from the
/// same addresses that the listener binds.
#[derive(Clone)]
enum ListenAddress<'o> {
    Inet(Vec<SocketAddr>),
    /// With the `unix:` in front, and the permissions of the socket.
    Unix(&'o str, Option<u32>),
}

impl<'o> ListenAddress<'o> {
    /// # Errors
    ///
    /// When the name has no address.
    fn of(address: &'o str, unix_mode: Option<u32>) -> io::Result<ListenAddress<'o>> {
        if address.starts_with("unix:") {
            return Ok(ListenAddress::Unix(address, unix_mode));
        }
        let why = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        };
        let addresses: Vec<_> = address.to_socket_addrs().map_err(why)?.collect();
        if addresses.is_empty() {
            return Err(why(io::Error::other("the name has no address")));
        }
        Ok(ListenAddress::Inet(addresses))
    }

    fn is_loopback(&self) -> bool {
        match self {
            ListenAddress::Inet(addresses) => addresses.iter().all(|it| it.ip().is_loopback()),
            ListenAddress::Unix(..) => false,
        }
    }

    /// Keeps the addresses that no other program listens on. With a shared port the bind would
    /// succeed beside another hub, which would then get a part of the connections.
    ///
    /// # Errors
    ///
    /// When none is left.
    fn without_taken(self) -> io::Result<ListenAddress<'o>> {
        let ListenAddress::Inet(mut addresses) = self else {
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
        Ok(ListenAddress::Inet(addresses))
    }

    /// Listens on the first address that can be bound.
    fn listen(
        &self,
        reactor: &mut Reactor<()>,
        options: &Serve,
        mount: impl Fn(&mut Router<()>),
    ) -> io::Result<ListenerId> {
        let at = |address: &str| {
            ListenOptions::new(address.to_owned()).proxy_protocol(options.proxy_protocol)
        };
        match self {
            ListenAddress::Unix(address, mode) => {
                let listener = reactor.http(at(address), mount)?;
                if let Some(mode) = mode {
                    set_mode(address, *mode)?;
                }
                Ok(listener)
            }
            ListenAddress::Inet(addresses) => {
                let mut last = io::Error::other("the name has no address");
                for address in addresses {
                    match reactor.http(at(&address.to_string()), &mount) {
                        Ok(listener) => return Ok(listener),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// Sets the permissions of a Unix socket. Clients need the right to write.
#[cfg(unix)]
fn set_mode(address: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let path = address.trim_start_matches("unix:");
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("--unix-mode {mode:o}: {path}: {error}"),
        )
    })
}

#[cfg(not(unix))]
fn set_mode(_: &str, _: u32) -> io::Result<()> {
    Ok(())
}

/// # Errors
///
/// When a topic is private and no client could get the right to subscribe to it.
fn check_private_topics(
    options: &Serve,
    tokens: &Tokens,
    secrets: &TokenSecrets,
) -> io::Result<()> {
    if options.publish_token.is_some() || !tokens.is_empty() || !secrets.is_empty() {
        return Ok(());
    }
    let Some(pattern) = options.topics.private_pattern() else {
        return Ok(());
    };
    let why = format!(
        "--topic {pattern}: a private topic needs a credential that grants it: --token-secret SECRET accepts \
         tokens that do, and --publish-token TOKEN grants every topic"
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// The access rules of one listener.
///
/// # Errors
///
/// When other machines can reach the listener, and neither a token nor `--open` is given.
fn access(
    options: &Serve,
    address: &str,
    target: &ListenAddress<'_>,
    tokens: &Tokens,
    secrets: &TokenSecrets,
) -> io::Result<Access> {
    let access = Access {
        token: options.publish_token.clone(),
        tokens: tokens.clone(),
        token_secrets: secrets.clone(),
        open: options.open,
        origins: options.allow_origin.clone(),
        is_loopback: target.is_loopback(),
        is_unix: matches!(target, ListenAddress::Unix(..)),
        has_proxy: !options.trusted_proxy.is_empty()
            || options.trusts_unix_proxies
            || options.proxy_protocol,
        origins_setting: Some("--allow-origin"),
    };
    let has_token =
        access.token.is_some() || !access.tokens.is_empty() || !access.token_secrets.is_empty();
    let is_closed = !has_token && !access.open && !access.is_loopback && !access.is_unix;
    if is_closed {
        let why = format!(
            "--listen {address} can be reached from other machines, so publishing needs a rule: \
             --publish-token TOKEN (or WATERWHEEL_PUBLISH_TOKEN) requires a token, --token-secret SECRET (or WATERWHEEL_TOKEN_SECRET) accepts tokens that grant it, \
             --open allows everyone"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if !has_token && !access.open && !access.is_open_locally() {
        log::warn!(
            "--listen {address}: publishing and patterns are refused, because a proxy stands in front \
             (--trusted-proxy, --proxy-protocol, or --allow-origin names another machine) and there is no \
             --publish-token and no --token-secret"
        );
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
