//! The hub as its clients see it: POST, WebSockets with and without the envelope, event streams.

#![cfg(feature = "hub")]

mod access;
mod back_end;
mod envelopes;
mod event_streams;
mod forced_ends;
mod guesses;
#[path = "../support/log_lines.rs"]
mod log_lines;
mod metrics;
mod notices;
mod operation;
mod order;
mod plain_sockets;
mod polls;
mod publishing;
mod resume;
#[path = "../support/answer.rs"]
mod support;
#[path = "../support/token.rs"]
mod token;
mod tokens;
mod users;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, answer, get, post};
use waterwheel::hub::{self, Access, SUBPROTOCOL};
use waterwheel::{Config, EventId, Sim, SimSocket, SimStream};

fn hub(access: Access) -> Sim<()> {
    Sim::new((), move |reactor| {
        reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
    })
}

/// A hub without a token, on which every client has all rights.
fn open() -> Sim<()> {
    open_with(Config::default())
}

fn open_with(config: Config) -> Sim<()> {
    let access = Access {
        open: true,
        ..Access::default()
    };
    Sim::with_config(config, (), move |reactor| {
        reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
    })
}

/// A hub on a public address, with a token.
fn guarded() -> Sim<()> {
    hub(Access {
        token: Some("secret".into()),
        ..Access::default()
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends on a new connection. Returns the part of the answer that has arrived.
fn ask_bytes(sim: &mut Sim<()>, pieces: &[&[u8]]) -> Answer {
    let stream = sim.connect();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let count = stream.write(rest);
            rest = &rest[count..];
            sim.settle();
        }
    }
    sim.settle();
    let mut bytes = stream.read();
    if bytes.is_empty() {
        // A wrong token is answered after a pause.
        sim.advance(seconds(21));
        bytes = stream.read();
    }
    stream.close();
    sim.settle();
    answer(&bytes)
}

fn ask(sim: &mut Sim<()>, request: &str) -> Answer {
    ask_bytes(sim, &[request.as_bytes()])
}

/// The same request with another header line.
fn with(request: &str, line: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

/// The answer to a publication: its number in the order, and the count of members that got it.
fn published(answer: &Answer) -> (u64, u64) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let value: Value = serde_json::from_str(answer.text()).expect("JSON");
    let fields = value.as_object().expect("an object");
    assert_eq!(fields.len(), 2, "{value}");
    let id = fields["id"].as_str().expect("an id");
    let (epoch, number) = id.split_once(':').expect("EPOCH:NUMBER");
    assert_eq!(epoch, "1", "one run, one epoch");
    let delivered = fields["delivered"].as_u64().expect("a count");
    (number.parse().expect("a number"), delivered)
}

fn publish(sim: &mut Sim<()>, topic: &str, body: &str) -> (u64, u64) {
    published(&ask(sim, &post(&format!("/publish?topic={topic}"), body)))
}

/// A new WebSocket with the envelope.
fn envelope(sim: &mut Sim<()>) -> SimSocket {
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let socket = sim.try_websocket("/ws", &headers).expect("an upgrade");
    let agreed = format!("\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
    assert!(socket.head().contains(&agreed), "{}", socket.head());
    socket
}

/// The received messages of the envelope. The cursors of subscriptions are left out.
fn values(socket: &SimSocket) -> Vec<Value> {
    let mut values = values_with_cursors(socket);
    for value in &mut values {
        let object = value.as_object_mut().expect("an object");
        if object.contains_key("subscribed") {
            let cursor = object.remove("cursor").expect("a cursor");
            let cursor = cursor.as_str().expect("a string").parse::<EventId>();
            assert_eq!(cursor.expect("a cursor").epoch, 1);
        }
    }
    values
}

fn values_with_cursors(socket: &SimSocket) -> Vec<Value> {
    let texts = socket.received();
    let values = texts.iter().map(|text| serde_json::from_str(text));
    values.map(|value| value.expect("JSON")).collect()
}

/// Sends a message and returns the answers.
fn say(sim: &mut Sim<()>, socket: &SimSocket, text: impl ToString) -> Vec<Value> {
    socket.send(text.to_string());
    sim.settle();
    values(socket)
}

fn subscribed(sim: &mut Sim<()>, topic: &str) -> SimSocket {
    let socket = envelope(sim);
    let said = say(sim, &socket, json!({"subscribe": topic}));
    assert_eq!(said, [json!({"subscribed": topic})]);
    socket
}

fn plain(sim: &mut Sim<()>, topics: &[&str]) -> SimSocket {
    let socket = sim.websocket("/ws");
    for topic in topics {
        socket.send(*topic);
    }
    sim.settle();
    assert_eq!(socket.take_events(), [], "subscribing is silent");
    socket
}

/// A client of an event stream.
struct Reader {
    stream: SimStream,
    bytes: Vec<u8>,
}

impl Reader {
    fn open(sim: &mut Sim<()>, target: &str) -> Reader {
        let stream = sim.connect();
        stream.write(get(target));
        sim.settle();
        let mut reader = Reader {
            stream,
            bytes: Vec::new(),
        };
        let text = reader.text();
        let first = text
            .strip_suffix("\n\n")
            .and_then(|text| text.strip_prefix("id: "));
        assert!(
            first.is_some_and(|id| id.parse::<EventId>().is_ok()),
            "{target}: {text}"
        );
        reader
    }

    fn text(&mut self) -> String {
        self.bytes.extend(self.stream.read());
        let all = answer(&self.bytes);
        assert_eq!(all.header("content-type"), Some("text/event-stream"));
        all.text().to_owned()
    }

    /// Ids and data of all events. Each has one line of data here.
    fn events(&mut self) -> Vec<(String, String)> {
        let text = self.text();
        let blocks = text.split("\n\n").filter(|block| block.contains("data: "));
        let field = |block: &str, name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a field").to_owned()
        };
        blocks
            .map(|block| (field(block, "id: "), field(block, "data: ")))
            .collect()
    }
}
