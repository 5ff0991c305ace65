//! Clients that come back: a WebSocket and an event stream, each over as many connections as it takes.
//!
//! ```text
//! waterwheel serve --listen 127.0.0.1:8080 &
//! cargo run --example reconnect
//! curl -d hello 'http://127.0.0.1:8080/publish?topic=chat'
//! ```
//!
//! Stop the server and start it again: both clients find it, after pauses that are longer each time.

use std::time::Duration;

use waterwheel::{Backoff, KeepLimits, Reactor};

fn main() -> std::io::Result<()> {
    let backoff = Backoff {
        max: Duration::from_secs(5),
        ..Backoff::default()
    };
    Reactor::run((), |reactor| {
        let link = reactor.websocket_link("ws://127.0.0.1:8080/ws", |ws| {
            ws.reconnect(backoff);
            // A topic to subscribe to: the first message of each connection.
            ws.on_open(|ws, _| ws.send("chat"));
            ws.on_message(|_, message| println!("websocket: {message}"));
            ws.on_reconnect(|_, next| {
                println!(
                    "websocket: {}; attempt {} in {:?}",
                    next.close, next.attempt, next.pause
                );
            });
            ws.on_give_up(|_, close| println!("websocket: gave up: {close}"));
            ws.keep_while_away(KeepLimits::default());
        })?;
        // Kept until there is a connection.
        link.send(reactor, "news");
        reactor.event_source("http://127.0.0.1:8080/events?topic=chat", |events| {
            events.reconnect(backoff);
            events.retries_server_errors(true);
            events.on_event(|_, event| println!("event {}: {}", event.id, event.data));
            events.on_reconnect(|_, next| {
                println!(
                    "events: {}; attempt {} in {:?}",
                    next.error, next.attempt, next.pause
                );
            });
        })?;
        std::io::Result::Ok(())
    })
}
