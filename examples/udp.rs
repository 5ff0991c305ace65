//! Sends each datagram back, as EventMachine's `EM.open_datagram_socket` in its documentation:
//! `cargo run --example udp`, then `nc -u 127.0.0.1 8080`.

use std::io;

use waterwheel::{Reactor, UdpId};

pub fn setup(reactor: &mut Reactor<()>, address: &str) -> io::Result<UdpId> {
    reactor.udp(address, |udp| {
        udp.on_datagram(|udp, bytes, _from| udp.reply(bytes));
        udp.on_error(|_, error| println!("{error}"));
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), |reactor| setup(reactor, "0.0.0.0:8080"))
}
