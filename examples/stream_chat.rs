//! The chat of EventMachine's guide, over raw streams: `cargo run --example stream_chat`, then `nc localhost 10000`
//! in several terminals. The first line is the name.

use std::io;

use waterwheel::{ConnMap, ListenerId, Reactor};

pub fn setup(reactor: &mut Reactor<ConnMap<String>>) -> io::Result<ListenerId> {
    reactor.stream("0.0.0.0:10000", |stream| {
        stream.on_open(|stream| {
            stream.send("[info] Please enter your username:\n");
            stream.subscribe("chat")
        });
        stream.on_data(|stream, data| {
            let text = String::from_utf8_lossy(data).trim().to_owned();
            match stream.state.get(stream.id) {
                Some(name) => stream.publish("chat", format!("{name}: {text}\n")),
                None => {
                    let joined = format!("[info] {text} has joined the room\n");
                    stream.state.insert(stream.id, text);
                    stream.publish("chat", joined)
                }
            }
        });
        stream.on_close(|stream, _| stream.state.remove(stream.id));
    })
}

fn main() -> io::Result<()> {
    Reactor::run(ConnMap::default(), setup).map(drop)
}
