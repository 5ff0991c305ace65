//! `waterwheel serve`: the hub.

use std::io;
use std::net::ToSocketAddrs;

use waterwheel::Reactor;
use waterwheel::hub::{self, Access};

use crate::arguments::Serve;

pub fn run(options: &Serve) -> io::Result<()> {
    crate::start_log(options.log);
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push((address, access(options, address)?));
    }
    let config = crate::config(options.max_connections);
    Reactor::run_with(config, (), |reactor| {
        // Before anybody is told of a listener, who may then end the program by a signal.
        #[cfg(unix)]
        reactor.drain_on_signals(options.drain_window)?;
        let mut bound = Vec::new();
        for (address, access) in &listeners {
            bound.push(reactor.http(address, |site| hub::mount(site, access))?);
        }
        crate::say_listening(reactor, &bound);
        io::Result::Ok(())
    })
}

/// Who may what on one listener.
///
/// # Errors
///
/// When the listener could be reached from elsewhere and nobody said who may publish.
fn access(options: &Serve, address: &str) -> io::Result<Access> {
    let access = Access {
        token: options.publish_token.clone(),
        open: options.open,
        origins: options.allow_origin.clone(),
        is_loopback: is_loopback(address),
        is_unix: address.starts_with("unix:"),
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

fn is_loopback(address: &str) -> bool {
    // A name without an address fails when it is listened on, with its own words.
    !address.starts_with("unix:")
        && address
            .to_socket_addrs()
            .is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback()))
}
