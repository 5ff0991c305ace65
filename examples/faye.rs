//! faye-websocket's README: WebSockets and event streams inside an HTTP application, and a client of each.
//! `cargo run --example faye`, then `curl localhost:9292/`.

use std::{io, time::Duration};

use waterwheel::{ListenerId, Reactor};

pub fn setup(reactor: &mut Reactor<Vec<String>>) -> io::Result<ListenerId> {
    reactor.every(Duration::from_secs(1), |cx| {
        cx.reactor.publish("hello", "Hello")
    });
    let listener = reactor.http("0.0.0.0:9292", |http| {
        http.get("/sse", |request| request.event_stream().subscribe("hello"));
        http.websocket("/", |ws| ws.on_message(|ws, message| ws.send(message)));
        http.get("/", |request| request.reply("Hello"));
    })?;
    reactor.connect_websocket("ws://127.0.0.1:9292/", |ws| {
        ws.on_open(|ws, _| ws.send("Hello, world!"));
        ws.on_message(|ws, message| ws.state.push(format!("message {message}")));
    })?;
    reactor.event_source("http://127.0.0.1:9292/sse", |events| {
        events.on_event(|cx, event| cx.state.push(format!("event {}", event.data)));
    })?;
    Ok(listener)
}

fn main() -> io::Result<()> {
    Reactor::run(Vec::new(), setup).map(drop)
}
