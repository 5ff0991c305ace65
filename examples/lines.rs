//! A protocol of lines, with a limit on their length, like EventMachine's `LineText2`.
//! `cargo run --example lines`, then `printf 'SET a 1\nGET a\nQUIT\n' | nc localhost 7002`.

use std::{collections::HashMap, io};

use waterwheel::{ListenerId, Reactor};

pub type Values = HashMap<Vec<u8>, Vec<u8>>;

pub fn listen(reactor: &mut Reactor<Values>, address: &str) -> io::Result<ListenerId> {
    reactor.stream(address, |stream| {
        stream.on_line(1024, |stream, line| {
            let mut words = line.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
            match (words.next().as_deref(), words.next(), words.next()) {
                (Some(b"SET"), Some(key), Some(value)) => {
                    stream.state.insert(key, value);
                    stream.send("OK\n")
                }
                (Some(b"GET"), Some(key), None) => {
                    let value = stream.state.get(&key).cloned().unwrap_or_default();
                    stream.send([&value[..], b"\n"].concat())
                }
                (Some(b"QUIT"), None, None) => stream.close(),
                _ => stream.send("ERR\n"),
            }
        })
    })
}

fn main() -> io::Result<()> {
    Reactor::run(Values::new(), |reactor| listen(reactor, "0.0.0.0:7002")).map(drop)
}
