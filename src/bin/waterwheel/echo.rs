//! `waterwheel echo`: every message comes back, to its sender or to all.

use std::io;

use waterwheel::{Reactor, websocket};

use crate::arguments::Echo;

/// The longest message, in bytes: conformance suites and benchmarks send large ones.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub fn run(options: &Echo) -> io::Result<()> {
    crate::start_log(options.log);
    let mut config = crate::config(options.max_connections, 1)?;
    config.http.body_bytes_max = MESSAGE_BYTES_MAX;
    config.options.websocket = websocket::Limits {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
    };
    let to_all = options.to_all;
    Reactor::run_with(config, (), |reactor| {
        // Before anybody is told of a listener, who may then end the program by a signal.
        #[cfg(unix)]
        reactor.drain_on_signals(std::time::Duration::ZERO)?;
        let mut bound = Vec::new();
        for address in &options.listen {
            bound.push(reactor.http(address, |router| {
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
            })?);
        }
        crate::say_listening(reactor, &bound);
        io::Result::Ok(())
    })
}
