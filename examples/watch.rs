//! Publishes what comes on standard input to all WebSockets: `ping localhost | cargo run --example watch`, then
//! `websocat ws://127.0.0.1:8080`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use waterwheel::{Interest, ListenerId, Reactor};

pub fn setup(
    reactor: &mut Reactor<()>,
    address: &str,
    input: impl AsFd + Read + 'static,
) -> io::Result<ListenerId> {
    reactor.watch(input, Interest::Readable, |watch| {
        let mut buffer = [0; 4096];
        match watch.descriptor.read(&mut buffer)? {
            0 => watch.reactor.stop(),
            count => _ = watch.reactor.publish("input", &buffer[..count]),
        }
        io::Result::Ok(())
    })?;
    reactor.websocket(address, |ws| ws.on_open(|ws, _| ws.subscribe("input")))
}

fn main() -> io::Result<()> {
    // `Stdin` reads ahead into a buffer, of which the kernel does not know.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    Reactor::run((), |reactor| setup(reactor, "0.0.0.0:8080", input))
}
