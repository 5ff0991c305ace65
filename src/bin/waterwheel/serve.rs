//! `waterwheel serve`: the hub.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use waterwheel::hub::{self, Access};
use waterwheel::{Core, ListenerId, Reactor};

use crate::arguments::Serve;

pub fn run(options: &Serve) -> io::Result<()> {
    crate::start_log(options.log);
    let mut listeners = Vec::new();
    for address in &options.listen {
        let place = Place::of(address)?;
        let access = access(options, address, &place)?;
        listeners.push((place, access));
    }
    let config = crate::config(options.max_connections);
    Reactor::run_with(config, (), |reactor| {
        // Before anybody is told of a listener, who may then end the program by a signal.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let mut bound = Vec::new();
        for (place, access) in &listeners {
            bound.push(place.listen(reactor, access)?);
        }
        crate::say_listening(reactor, &bound);
        io::Result::Ok(())
    })
}

/// Where to listen. A name is looked up once: who may what is decided by the very addresses that
/// are then listened on.
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

    /// Listens on the first address of a name that can be listened on.
    fn listen(&self, reactor: &mut Core<()>, access: &Access) -> io::Result<ListenerId> {
        let mut mount = |address: &str| reactor.http(address, |site| hub::mount(site, access));
        match self {
            Place::Unix(address) => mount(address),
            Place::Inet(addresses) => {
                let mut last = io::Error::other("the name has no address");
                for address in addresses {
                    match mount(&address.to_string()) {
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
