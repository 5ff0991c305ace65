//! The chat of Sinatra's README, over Server-Sent Events: `cargo run --example sse_chat`, then
//! `curl -N localhost:4567/chat` and `curl -d message=hello localhost:4567/message`.

use std::io;

use waterwheel::{Event, ListenerId, Reactor, Status};

pub fn setup(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
    reactor.http("0.0.0.0:4567", |http| {
        http.get("/chat", |request| request.event_stream().subscribe("chat"));
        http.post("/message", |request| match request.form("message") {
            Some(text) => {
                request
                    .reactor
                    .publish("chat", Event::new("message").data(text));
                request.reply("message sent")
            }
            None => request.reply(Status::BAD_REQUEST),
        });
    })
}

fn main() -> io::Result<()> {
    Reactor::run((), setup)
}
