//! Counts the bytes of a client that ends its side before it reads:
//! `cargo run --example half_close`, then `printf hello | nc -N localhost 4322`.

use std::collections::HashMap;
use std::io;

use waterwheel::{ConnId, ListenerId, Reactor};

pub type Counts = HashMap<ConnId, usize>;

pub fn listen(reactor: &mut Reactor<Counts>, address: &str) -> io::Result<ListenerId> {
    reactor.stream(address, |stream| {
        stream.on_data(|stream, bytes| *stream.state.entry(stream.id).or_default() += bytes.len());
        stream.on_end(|stream| {
            let count = stream.state.remove(&stream.id).unwrap_or_default();
            stream.send(format!("{count}\n"));
            stream.close()
        });
        stream.on_close(|stream, _| {
            stream.state.remove(&stream.id);
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run(Counts::new(), |reactor| listen(reactor, "0.0.0.0:4322")).map(drop)
}
