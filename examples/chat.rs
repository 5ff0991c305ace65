//! Cramp's chat, with shared state and without a `RefCell`: `cargo run --example chat`.

use std::collections::HashSet;

use waterwheel::{ConnId, Reactor};

#[derive(Default)]
struct Chat {
    users: HashSet<ConnId>,
}

fn main() -> std::io::Result<()> {
    let chat = Reactor::run(Chat::default(), |reactor| {
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
    });
    chat.map(drop)
}
