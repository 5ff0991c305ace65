//! `waterwheel echo`: sends every message back to its sender, or to all clients.

use std::io;

use waterwheel::{Reactor, websocket};

use crate::arguments::Echo;
use crate::descriptors;
use crate::listen_address::{Bound, ListenAddress, Listening, Part};
use crate::memory;
use crate::output::{print_listeners, start_log};
#[cfg(unix)]
use crate::reload::Files;
use crate::sockets::Sockets;

/// The longest message, in bytes. Conformance suites and benchmarks send large ones.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub fn run(options: &Echo) -> io::Result<()> {
    let mut sockets = Sockets::of_environment();
    start_log(options.log)?;
    let mut config = descriptors::config(options.max_connections, 1)?;
    config.memory_bytes_max = memory::default_max(1);
    config.http.body_bytes_max = MESSAGE_BYTES_MAX;
    config.options.websocket = websocket::Limits {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: None,
    };
    config.options.deflate = options.deflate;
    let read_tls = options.tls.read()?;
    let tls = read_tls.as_ref().map(|read| read.tls.clone());
    let listening = Listening {
        tls: tls.as_ref(),
        ..Listening::default()
    };
    // Without a handler HUP would end the process.
    #[cfg(unix)]
    Files::default().with_tls(read_tls).reload_on_hangup()?;
    let to_all = options.to_all;
    Reactor::run_with(config, (), |reactor| {
        // Signals are handled before the listeners are printed: a script that has read the line may
        // send one at once.
        #[cfg(unix)]
        reactor.drain_on_signals(std::time::Duration::ZERO)?;
        let mut bound = Vec::new();
        for address in &options.listen {
            let target = ListenAddress::of(address, address, &mut sockets)?;
            let listeners = target.listen(reactor, listening, Part::WHOLE, |router| {
                router.websocket("*", |ws| {
                    if to_all {
                        ws.on_open(|ws, _| ws.subscribe("all"));
                        ws.on_message(|ws, message| ws.publish("all", message));
                    } else {
                        ws.on_message(|ws, message| ws.send(message));
                    }
                });
                router.method("*", "*", |request| {
                    let body = request.body().to_vec();
                    request.reply((waterwheel::Status::OK, body))
                });
            })?;
            bound.push(Bound {
                name: address.clone(),
                sockets: listeners,
                scheme: target.scheme(),
            });
        }
        print_listeners(reactor, &bound);
        io::Result::Ok(())
    })
}
