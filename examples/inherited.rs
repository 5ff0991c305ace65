//! Serves on a socket that another program has opened, such as systemd:
//! `systemfd --no-pid -s tcp::4321 -- cargo run --example inherited`, then `nc localhost 4321`.

use std::error::Error;
use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use waterwheel::{ListenerId, Reactor};

pub fn listen(reactor: &mut Reactor<()>, listener: TcpListener) -> io::Result<ListenerId> {
    reactor.stream(listener, |stream| {
        stream.on_data(|stream, bytes| stream.send(bytes));
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = ListenFd::from_env().take_tcp_listener(0)?;
    let listener = listener.ok_or("no socket was handed over in LISTEN_FDS")?;
    Reactor::run((), |reactor| listen(reactor, listener))?;
    Ok(())
}
