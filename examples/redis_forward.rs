//! Messages of Redis in web pages: `cargo run --example redis_forward`, then open http://localhost:8081
//! and `redis-cli PUBLISH new-users Ada`.

use std::io;

use waterwheel::{ListenerId, Reactor, Redis, Reply, Status};

pub fn setup(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
    let redis = Redis::connect(reactor, "redis://127.0.0.1:6379")?;
    reactor.http("0.0.0.0:8081", move |http| {
        let page = Reply::new(Status::OK).content_type("text/html; charset=utf-8");
        let page = page.body(include_str!("redis_forward.html"));
        http.get("/", move |request| request.reply(page.clone()));
        // The browser sends "new-users", or "notifications.*".
        http.websocket("/messages", move |ws| {
            let redis = redis.clone();
            ws.on_message(move |ws, name| redis.forward(ws.reactor, name.to_string(), ws.id));
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), setup)
}
