//! The echo server of em-websocket's README: `cargo run --example echo`, then
//! `websocat ws://127.0.0.1:8080`.

use std::io;

use waterwheel::{ListenerId, Reactor};

pub fn setup(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
    reactor.websocket("0.0.0.0:8080", |ws| {
        ws.on_open(|ws, handshake| {
            ws.send(format!(
                "Hello Client, you connected to {}",
                handshake.path()
            ))
        });
        ws.on_message(|ws, message| ws.send(format!("Pong: {message}")));
        ws.on_close(|_, close| println!("Connection closed: {close}"));
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), setup)
}
