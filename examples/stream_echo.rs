//! The echo server of EventMachine's README: `cargo run --example stream_echo`, then `nc localhost 8081`.

use std::io;

use waterwheel::{ListenerId, Reactor};

pub fn listen(reactor: &mut Reactor<()>, address: &str) -> io::Result<ListenerId> {
    reactor.stream(address, |stream| {
        stream.on_open(|_| println!("-- someone connected to the echo server!"));
        stream.on_data(|stream, data| {
            stream.send([b">>>you sent: ", data].concat());
            if data.to_ascii_lowercase().starts_with(b"quit") {
                stream.close();
            }
        });
        stream.on_close(|_, _| println!("-- someone disconnected from the echo server!"));
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), |reactor| listen(reactor, "127.0.0.1:8081"))
}
