//! A reply from a timer, like Rack's `async.callback`: the loop serves other requests meanwhile.
//! `cargo run --example later`, then `curl localhost:4568/later`.

use std::io;
use std::time::Duration;

use waterwheel::{ListenerId, Reactor};

pub fn setup(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
    reactor.http("0.0.0.0:4568", |http| {
        http.get("/later", |request| {
            let responder = request.reply_later();
            request.reactor.after(Duration::from_secs(2), move |cx| {
                cx.reactor.reply(responder, "done")
            });
            request
                .reactor
                .on_gone(responder, |_, close| println!("gone: {close}"));
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), setup)
}
