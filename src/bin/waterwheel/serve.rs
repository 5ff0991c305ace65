//! `waterwheel serve`: the hub, on one reactor or on several.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::SystemTime;

use waterwheel::hub::{Access, GroupSeat, Hub, HubOptions, ReactorGroup, TokenSecrets, Tokens};
use waterwheel::{Address, Config, ListenerId, Reactor, Router};

use crate::arguments::Serve;
use crate::descriptors;
use crate::listen_address::{ListenAddress, Listening, Scheme};
use crate::memory;
use crate::output::{log_access, print_listeners, start_log};
use crate::redirect::redirect;
use crate::reload::Files;
use crate::tls::{WARNING_INTERVAL, warn_of_expiry};
use crate::values::{is_short_token, short_token};

/// The messages of a hub are small and its clients many, and the bytes that the kernel holds for slow
/// clients count in a cgroup.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

pub fn run(options: &Serve) -> io::Result<()> {
    start_log(options.log)?;
    let read_tls = options.tls.read()?;
    let tls = read_tls.as_ref().map(|read| read.tls.clone());
    let files = Files::read(options.publish_token_file.as_deref(), &options.secrets)?;
    let files = files.with_tls(read_tls);
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
        let target = ListenAddress::of(address)?;
        let access = access(options, address, &target, &tokens, &secrets)?;
        listeners.push((target, access));
    }
    let mut redirects = Vec::new();
    for address in &options.redirect {
        redirects.push(ListenAddress::of(address)?);
    }
    let serving = Serving {
        options,
        listening: Listening {
            tls: tls.as_ref(),
            unix_mode: options.unix_mode,
            proxy_protocol: options.proxy_protocol,
        },
        redirects,
    };
    let mut config = descriptors::config(options.max_connections, options.reactors)?;
    config.memory_bytes_max = options
        .memory_max
        .or_else(|| memory::default_max(options.reactors));
    let unless_zero = |limit: u32| (limit != 0).then_some(limit);
    config.connections_per_address_max = unless_zero(options.max_connections_per_address);
    config.handshakes_per_second_max = unless_zero(options.handshakes_per_second);
    options.limits.apply(&mut config);
    config.options.deflate = options.deflate;
    config.send_buffer_bytes_max = Some(SEND_BUFFER_BYTES_MAX);
    config.handshakes_per_second_total_max = unless_zero(options.handshakes_per_second_total);
    config.trusted_proxies = options.trusted_proxy.clone();
    config.trusts_unix_proxies = options.trusts_unix_proxies;
    if let Some(bytes) = config.memory_bytes_max {
        log::info!("clients may hold {} MiB", bytes / (1024 * 1024));
    }
    if 1 < options.reactors {
        return run_many(&serving, listeners, &config);
    }
    Reactor::run_with(config, (), |reactor| {
        // Signals are handled before the listeners are printed: a script that has read the line may
        // send one at once.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let hub = serving.hub(reactor, None)?;
        let bound = serving.listen(reactor, &hub, &listeners)?;
        serving.redirect(reactor, &bound)?;
        print_listeners(reactor, &bound);
        io::Result::Ok(())
    })
}

/// How the hub is served.
struct Serving<'o> {
    options: &'o Serve,
    listening: Listening<'o>,
    /// The addresses of `--redirect`.
    redirects: Vec<ListenAddress<'o>>,
}

impl Serving<'_> {
    /// The hub of a reactor: with Redis that of all nodes.
    fn hub(&self, reactor: &mut Reactor<()>, seat: Option<&GroupSeat<()>>) -> io::Result<Hub<()>> {
        let redis = &self.options.redis;
        let hub_options = HubOptions {
            rules: self.options.topics.rules.clone(),
            history_bytes_max: self.options.topics.history_bytes,
            tls: self.listening.tls.cloned(),
            ..HubOptions::default()
        };
        let prefix = redis.prefix.as_deref();
        let made = match (&redis.url, seat) {
            (None, None) => return Ok(Hub::new(hub_options)),
            (None, Some(seat)) => return Ok(Hub::of_group(seat, hub_options)),
            (Some(url), None) => Hub::of_redis(reactor, url, prefix, hub_options),
            (Some(url), Some(seat)) => {
                Hub::of_redis_in_group(reactor, seat, url, prefix, hub_options)
            }
        };
        made.map_err(|error| io::Error::new(error.kind(), format!("--redis: {error}")))
    }

    /// Listens for clients of the hub.
    fn listen(
        &self,
        reactor: &mut Reactor<()>,
        hub: &Hub<()>,
        listeners: &[(ListenAddress<'_>, Access)],
    ) -> io::Result<Vec<(ListenerId, Scheme)>> {
        let mut bound = Vec::new();
        for (target, access) in listeners {
            let listener = target.listen(reactor, self.listening, |router| {
                hub.mount(router, access);
                log_requests(router, self.options);
            })?;
            bound.push((listener, target.scheme()));
        }
        Ok(bound)
    }

    /// Listens for clients that shall come by https, and looks now and then whether a certificate ends soon.
    fn redirect(
        &self,
        reactor: &mut Reactor<()>,
        bound: &[(ListenerId, Scheme)],
    ) -> io::Result<()> {
        let secured = bound.iter().find(|(_, scheme)| *scheme == Scheme::Https);
        let Some((listener, _)) = secured else {
            return Ok(());
        };
        if let Some(tls) = self.listening.tls.cloned() {
            let mut last = SystemTime::now();
            reactor.every(WARNING_INTERVAL, move |_| {
                warn_of_expiry(&tls, Some(last));
                last = SystemTime::now();
            });
        }
        let Some(Address::Inet(address)) = reactor.local_addr(*listener) else {
            return Ok(());
        };
        let port = self.options.redirect_port.unwrap_or(address.port());
        for target in &self.redirects {
            // Also by this program, whose reactors share their ports.
            let target = match self.options.reactors {
                1 => target.clone(),
                _ => target.clone().without_taken()?,
            };
            let listener = target.listen(reactor, self.listening, |router| {
                redirect(router, port);
                log_requests(router, self.options);
            })?;
            if let Some(address) = reactor.local_addr(listener) {
                log::info!("{address} sends clients to https");
            }
        }
        Ok(())
    }
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
    serving: &Serving<'_>,
    listeners: Vec<(ListenAddress<'_>, Access)>,
    config: &Config,
) -> io::Result<()> {
    let options = serving.options;
    let mut untaken = Vec::new();
    for (target, access) in listeners {
        untaken.push((target.without_taken()?, access));
    }
    let group = ReactorGroup::new(options.reactors);
    thread::scope(|scope| {
        let mut others = Vec::new();
        let first = run_one(config, options, &group, 0, |reactor, group| {
            let bound = listen(reactor, group, serving, &untaken)?;
            serving.redirect(reactor, &bound)?;
            // The others use the ports that the first got for port 0. A Unix socket cannot be shared.
            let mut shared = Vec::new();
            for ((listener, _), (target, access)) in bound.iter().zip(&untaken) {
                if let Some(Address::Inet(address)) = reactor.local_addr(*listener) {
                    shared.push((target.at(address), access.clone()));
                }
            }
            for index in 1..options.reactors {
                let listeners = shared.clone();
                let other = spawn(scope, config, serving, group, index, listeners)?;
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
    serving: &'scope Serving<'_>,
    group: &ReactorGroup<()>,
    index: usize,
    listeners: Vec<(ListenAddress<'static>, Access)>,
) -> io::Result<ReactorThread<'scope>> {
    let group = group.clone();
    let (is_ready, ready) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let run = move || {
        run_one(config, serving.options, &group, index, |reactor, group| {
            listen(reactor, group, serving, &listeners)?;
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
    serving: &Serving<'_>,
    listeners: &[(ListenAddress<'_>, Access)],
) -> io::Result<Vec<(ListenerId, Scheme)>> {
    let options = serving.options;
    let seat = group.join(reactor)?;
    // Each reactor registers handlers of its own, and a signal calls all of them.
    #[cfg(unix)]
    reactor.drain_on_signals(options.drain_window)?;
    let hub = serving.hub(reactor, Some(&seat))?;
    serving.listen(reactor, &hub, listeners)
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
        is_unix: target.is_unix(),
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
