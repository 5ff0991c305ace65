//! Answers that are as long as their clients read: from an iterator on the loop, and from a thread that may block.
//! `cargo run --example stream_out`, then `curl -N --limit-rate 1M localhost:4572/iterator`, and `/thread`.

use std::{io, thread};

use waterwheel::{ListenerId, Reactor, Reply, Sent, Status};

pub const LINE_COUNT: u32 = 1_000_000;

pub fn listen(reactor: &mut Reactor<()>, address: &str) -> io::Result<ListenerId> {
    reactor.http(address, |http| {
        http.get("/iterator", |request| {
            let lines = (0..LINE_COUNT).map(|number| Ok(format!("line {number}\n")));
            request.send_pieces(Reply::new(Status::OK), None, lines)
        });
        http.get("/thread", |request| {
            let sender = request.body_sender(Reply::new(Status::OK), None);
            thread::spawn(move || {
                let mut lines = (0..LINE_COUNT).map(|number| format!("line {number}\n"));
                // It waits while the client does, and ends when the client has gone. A program bounds how many there are.
                let is_whole = lines.all(|line| sender.send(line) != Sent::Gone);
                is_whole.then(|| sender.finish())
            });
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), |reactor| listen(reactor, "0.0.0.0:4572")).map(drop)
}
