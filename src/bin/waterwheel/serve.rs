//! `waterwheel serve`: the hub, on one reactor or on several.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::SystemTime;

use waterwheel::hub::{
    Access, GroupSeat, Hub, HubOptions, MercureOptions, ReactorGroup, TokenSecrets, Tokens,
};
use waterwheel::{Config, Reactor, Router};

use crate::arguments::Serve;
use crate::descriptors;
use crate::listen_address::{Bound, ListenAddress, Listening, Part, Scheme};
use crate::memory;
use crate::output::{log_access, print_listeners, start_log};
use crate::redirect::redirect;
use crate::reload::Files;
use crate::sockets::{SocketNames, Sockets};
use crate::succession::Succession;
use crate::tls::{WARNING_INTERVAL, warn_of_expiry};
use crate::values::{is_short_token, short_token};

/// The messages of a hub are small and its clients many, and the bytes that the kernel holds for slow
/// clients count in a cgroup.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

pub fn run(options: &Serve) -> io::Result<()> {
    let mut sockets = Sockets::of_environment();
    start_log(options.log)?;
    let read_tls = options.tls.read()?;
    let tls = read_tls.as_ref().map(|read| read.tls.clone());
    let token_file = options.publish_token_file.as_deref();
    let files = Files::read(token_file, &options.secrets, &options.mercure)?;
    let files = files.with_tls(read_tls);
    let (tokens, secrets) = (files.tokens(), files.secrets());
    let mercure = mercure(options, files.mercure_keys());
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
    let mut succession = Succession::begin(options, &mut sockets)?;
    let mut names = SocketNames::default();
    let mut listeners = Vec::new();
    for address in &options.listen {
        let name = names.name(address);
        let target = ListenAddress::of(address, &name, &mut sockets)?;
        let access = access(options, address, &target, &tokens, &secrets)?;
        listeners.push(Target {
            name,
            address: target,
            access,
        });
    }
    let mut redirects = Vec::new();
    for address in &options.redirect {
        let name = names.name(address);
        let target = ListenAddress::of(address, &name, &mut sockets)?;
        redirects.push((name, target));
    }
    sockets.warn_of_left();
    succession.take_predecessor(&mut sockets);
    let serving = Serving {
        options,
        listening: Listening {
            tls: tls.as_ref(),
            unix_mode: options.unix_mode,
            proxy_protocol: options.proxy_protocol,
        },
        mercure,
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
        run_many(&serving, listeners, redirects, &config, &mut succession)?;
        return succession.end();
    }
    Reactor::run_with(config, (), |reactor| {
        // Signals are handled before the listeners are printed: a script that has read the line may
        // send one at once.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let hub = serving.hub(reactor, None)?;
        // Moved, because a socket of another process that stayed there would listen after the drain.
        let (targets, redirects) = (listeners, redirects);
        let bound = serving.listen(reactor, &hub, &targets, Part::WHOLE)?;
        succession.offer(reactor, &bound);
        let redirects = serving.redirect(reactor, &bound, &redirects)?;
        succession.offer(reactor, &redirects);
        succession.start(reactor, &hub)?;
        print_listeners(reactor, &bound);
        io::Result::Ok(())
    })?;
    succession.end()
}

/// How the hub is served.
struct Serving<'o> {
    options: &'o Serve,
    listening: Listening<'o>,
    mercure: Option<MercureOptions>,
}

/// The Mercure hub, where there is a key for it.
fn mercure(options: &Serve, keys: [TokenSecrets; 2]) -> Option<MercureOptions> {
    let [publisher_secrets, subscriber_secrets] = keys;
    let mut mercure = MercureOptions::default();
    mercure.publisher_secrets = publisher_secrets;
    mercure.subscriber_secrets = subscriber_secrets;
    mercure.is_anonymous = options.mercure.is_anonymous;
    mercure.has_subscriptions = options.mercure.has_subscriptions;
    options.mercure.is_on().then_some(mercure)
}

/// The addresses of `--redirect`, with their names for a successor.
type Redirects<'o> = Vec<(String, ListenAddress<'o>)>;

/// An address of `--listen`.
#[derive(Clone)]
struct Target<'o> {
    /// Its name for a successor.
    name: String,
    address: ListenAddress<'o>,
    access: Access,
}

impl Serving<'_> {
    /// The hub of a reactor: with Redis that of all nodes.
    fn hub(&self, reactor: &mut Reactor<()>, seat: Option<&GroupSeat<()>>) -> io::Result<Hub<()>> {
        let redis = &self.options.redis;
        let hub_options = HubOptions {
            rules: self.options.topics.rules.clone(),
            history_bytes_max: self.options.topics.history_bytes,
            pusher_apps: self.options.pusher.apps()?,
            cable: self.options.cable.options()?,
            mercure: self.mercure.clone(),
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
        targets: &[Target<'_>],
        part: Part,
    ) -> io::Result<Vec<Bound>> {
        let mut bound = Vec::new();
        for target in targets {
            let listening = self.listening;
            let sockets = target.address.listen(reactor, listening, part, |router| {
                hub.mount(router, &target.access);
                log_requests(router, self.options);
            })?;
            bound.push(Bound {
                name: target.name.clone(),
                sockets,
                scheme: target.address.scheme(),
            });
        }
        Ok(bound)
    }

    /// Listens for clients that shall come by https, and looks now and then whether a certificate ends soon. Returns
    /// the listeners of each address.
    fn redirect(
        &self,
        reactor: &mut Reactor<()>,
        bound: &[Bound],
        targets: &Redirects<'_>,
    ) -> io::Result<Vec<Bound>> {
        let mut redirects = Vec::new();
        let secured = bound.iter().find(|bound| bound.scheme == Scheme::Https);
        let Some(listener) = secured.and_then(|bound| bound.sockets.first()) else {
            return Ok(redirects);
        };
        if let Some(tls) = self.listening.tls.cloned() {
            let mut last = SystemTime::now();
            reactor.every(WARNING_INTERVAL, move |_| {
                warn_of_expiry(&tls, Some(last));
                last = SystemTime::now();
            });
        }
        let address = reactor.local_addr(*listener);
        let port = address.and_then(|address| address.port());
        let Some(port) = self.options.redirect_port.or(port) else {
            return Ok(redirects);
        };
        for (name, target) in targets {
            // Also by this program, whose reactors share their ports.
            let target = match self.options.reactors {
                1 => target.clone(),
                _ => target.clone().without_taken()?,
            };
            let sockets = target.listen(reactor, self.listening, Part::WHOLE, |router| {
                redirect(router, port);
                log_requests(router, self.options);
            })?;
            if let Some(address) = reactor.local_addr(sockets[0]) {
                log::info!("{address} sends clients to https");
            }
            redirects.push(Bound {
                name: name.clone(),
                sockets,
                scheme: Scheme::Http,
            });
        }
        Ok(redirects)
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
    targets: Vec<Target<'_>>,
    redirects: Redirects<'_>,
    config: &Config,
    succession: &mut Succession,
) -> io::Result<()> {
    let options = serving.options;
    let mut untaken = Vec::new();
    for target in targets {
        untaken.push(Target {
            address: target.address.without_taken()?,
            ..target
        });
    }
    let group = ReactorGroup::new(options.reactors);
    let succession = Mutex::new(succession);
    let succession = &succession;
    thread::scope(|scope| {
        let mut others = Vec::new();
        let first = run_one(config, options, &group, 0, |reactor, group| {
            // Moved, as with one reactor.
            let (untaken, redirects) = (untaken, redirects);
            let (hub, bound) = listen(reactor, group, serving, &untaken, 0)?;
            lock(succession).offer(reactor, &bound);
            let redirects = serving.redirect(reactor, &bound, &redirects)?;
            lock(succession).offer(reactor, &redirects);
            // The others use the ports that the first got for port 0. A Unix socket cannot be shared.
            let mut shared = Vec::new();
            for (bound, target) in bound.iter().zip(&untaken) {
                let address = reactor.local_addr(bound.sockets[0]);
                if let Some(address) = address.and_then(|address| target.address.shared(&address)) {
                    let (name, access) = (target.name.clone(), target.access.clone());
                    shared.push(Target {
                        name,
                        address,
                        access,
                    });
                }
            }
            for index in 1..options.reactors {
                let listeners = shared.clone();
                let other = spawn(scope, config, serving, group, index, listeners, succession)?;
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
            lock(succession).start(reactor, &hub)?;
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
    targets: Vec<Target<'static>>,
    succession: &'scope Mutex<&mut Succession>,
) -> io::Result<ReactorThread<'scope>> {
    let group = group.clone();
    let (is_ready, ready) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let run = move || {
        run_one(config, serving.options, &group, index, |reactor, group| {
            let targets = targets;
            let (_, bound) = listen(reactor, group, serving, &targets, index)?;
            lock(succession).offer(reactor, &bound);
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
    targets: &[Target<'_>],
    index: usize,
) -> io::Result<(Hub<()>, Vec<Bound>)> {
    let options = serving.options;
    let seat = group.join(reactor)?;
    // Each reactor registers handlers of its own, and a signal calls all of them.
    #[cfg(unix)]
    reactor.drain_on_signals(options.drain_window)?;
    let hub = serving.hub(reactor, Some(&seat))?;
    let count = options.reactors;
    let bound = serving.listen(reactor, &hub, targets, Part { index, count })?;
    Ok((hub, bound))
}

/// The succession of the process, to which each reactor adds its listeners.
fn lock<'g, 's>(succession: &'g Mutex<&'s mut Succession>) -> MutexGuard<'g, &'s mut Succession> {
    succession.lock().unwrap_or_else(PoisonError::into_inner)
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
    // With ActionCable signed names of streams grant them.
    let has_credential =
        options.publish_token.is_some() || !tokens.is_empty() || !secrets.is_empty();
    if has_credential || options.cable.is_wanted() {
        return Ok(());
    }
    // Tokens of subscribers of Mercure grant its own topics.
    let is_granted = |it: &str| options.mercure.is_on() && it.starts_with("mercure");
    let mut patterns = options.topics.private_patterns();
    let Some(pattern) = patterns.find(|it| !is_granted(it)) else {
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
    // The keys of Mercure are such a rule, and nothing else is open beside what they grant.
    let has_rule = has_token || options.mercure.is_on();
    let is_closed = !has_rule && !access.open && !access.is_loopback && !access.is_unix;
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
