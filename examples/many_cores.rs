//! A hub on every core: one reactor for each core, all on one port and in one group. The hub's
//! routes and one more publish to the members of all reactors. `cargo run --example many_cores`,
//! then `curl -N 'http://127.0.0.1:8083/events?topic=chat'` a few times, and
//! `curl -d hello http://127.0.0.1:8083/say`.

use std::{io, thread};

use waterwheel::hub::{Access, ReactorGroup};
use waterwheel::{Config, ListenerId, Reactor, Status};

fn main() -> io::Result<()> {
    let cores = thread::available_parallelism()?.get();
    let group = ReactorGroup::new(cores);
    let run = || {
        let config = Config {
            reuse_port: true,
            ..Config::default()
        };
        Reactor::run_with(config, (), |reactor| setup(reactor, &group))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            thread.join().expect("a reactor catches panics")?;
        }
        Ok(())
    })
}

pub fn setup(reactor: &mut Reactor<()>, group: &ReactorGroup<()>) -> io::Result<ListenerId> {
    let seat = group.join(reactor)?;
    let access = Access {
        is_loopback: true,
        ..Access::default()
    };
    reactor.http("127.0.0.1:8083", |router| {
        seat.mount(router, &access);
        router.post("/say", move |request| {
            let Some(text) = request.text() else {
                request.reply(Status::BAD_REQUEST);
                return;
            };
            let responder = request.reply_later();
            let begun = seat.publish(request.reactor, "chat", text, move |cx, published| {
                let reply = format!("{} heard it\n", published.delivered);
                cx.reactor.reply(responder, reply)
            });
            if begun.is_err() {
                request
                    .reactor
                    .reply(responder, Status::SERVICE_UNAVAILABLE);
            }
        });
    })
}
