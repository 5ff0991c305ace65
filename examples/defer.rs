//! A computation that takes long on another thread, while the loop serves others.
//! `cargo run --example defer`, then `curl localhost:4569/primes/30000`.

use std::io;

use waterwheel::{ListenerId, Reactor, Status};

pub fn setup(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
    reactor.http("0.0.0.0:4569", |http| {
        http.get("/primes/:below", |request| {
            let below = request.param("below").and_then(|text| text.parse().ok());
            let below: u32 = below.ok_or(Status::BAD_REQUEST)?;
            let responder = request.reply_later();
            let count = move || (2..below).filter(|n| (2..*n).all(|d| n % d != 0)).count();
            let deferred = request.reactor.defer(count, move |cx, count| match count {
                Ok(count) => cx.reactor.reply(responder, count.to_string()),
                Err(_) => cx.reactor.reply(responder, Status::INTERNAL_SERVER_ERROR),
            });
            deferred.map_err(|_| Status::SERVICE_UNAVAILABLE)
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), setup)
}
