//! A proxy: the bytes of each client go to another server and back, as fast as the slower side reads.
//! `cargo run --example proxy example.com:80`, then `curl -H 'Host: example.com' localhost:7003`.

use std::io;

use waterwheel::{ListenerId, Reactor};

pub fn listen<S: 'static>(
    reactor: &mut Reactor<S>,
    address: &str,
    server: String,
) -> io::Result<ListenerId> {
    reactor.stream(address, |stream| {
        stream.on_open(move |client| {
            let upstream = client.reactor.connect_stream(&server, |_| {})?;
            client.reactor.pipe(client.id, upstream);
            client.reactor.pipe(upstream, client.id);
            io::Result::Ok(())
        })
    })
}

fn main() -> io::Result<()> {
    let server = std::env::args().nth(1).expect("HOST:PORT of a server");
    Reactor::run((), |reactor| listen(reactor, "0.0.0.0:7003", server))
}
