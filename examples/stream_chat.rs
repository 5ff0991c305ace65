//! The chat of EventMachine's guide, over raw streams: `cargo run --example stream_chat`, then `nc localhost 10000`
//! in several terminals. The first line is the name.

use std::io;

use waterwheel::{ConnMap, ListenerId, Reactor};

pub type Names = ConnMap<String>;

pub fn listen(reactor: &mut Reactor<Names>, address: &str) -> io::Result<ListenerId> {
    reactor.stream(address, |stream| {
        stream.on_open(|stream| {
            stream.send("[info] Please enter your username:\n");
            stream.subscribe("chat")
        });
        stream.on_data(|stream, data| {
            let text = String::from_utf8_lossy(data).trim().to_owned();
            if let Some(name) = stream.state.get(stream.id) {
                return stream.publish("chat", format!("{name}: {text}\n"));
            }
            let joined = format!("[info] {text} has joined the room\n");
            stream.state.insert(stream.id, text);
            stream.publish("chat", joined)
        });
        stream.on_close(|stream, _| stream.state.remove(stream.id));
    })
}

fn main() -> io::Result<()> {
    Reactor::run(Names::default(), |reactor| listen(reactor, "0.0.0.0:10000"))?;
    Ok(())
}
