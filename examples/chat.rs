//! The chat of Cramp's README, with shared state and without a `RefCell`: `cargo run --example chat`.

use std::collections::HashSet;
use std::io;

use waterwheel::{ConnId, ListenerId, Reactor};

#[derive(Default)]
pub struct Chat {
    pub users: HashSet<ConnId>,
}

pub fn setup(reactor: &mut Reactor<Chat>) -> io::Result<ListenerId> {
    reactor.websocket("0.0.0.0:3000", |ws| {
        ws.on_open(|ws, _| ws.state.users.insert(ws.id));
        ws.on_close(|ws, _| ws.state.users.remove(&ws.id));
        ws.on_message(|ws, message| {
            println!("connected users: {}", ws.state.users.len());
            for user in &ws.state.users {
                ws.reactor.send(*user, message);
            }
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run(Chat::default(), setup).map(drop)
}
