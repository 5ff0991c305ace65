//! HTTP as a server speaks it, through the whole reactor: bytes in, bytes out.
//!
//! The rules are those of RFC 9110 and RFC 9112, and the tables follow their order. Each request of
//! a table is also sent cut in two at every place, and byte by byte, and must get the same answer.

mod after_reply;
mod bodies;
mod deadlines;
mod later_replies;
mod origins;
mod pipelining;
mod pulled_bodies;
mod replies;
mod requests;
mod routing;
mod streamed_bodies;
#[path = "../support/answer.rs"]
mod support;
mod upgrades;
mod uploads;
mod versions;

use std::time::Duration;

use support::{Answer, answer};
use waterwheel::{Config, Responder, Router, Sent, Sim, SimStream, Status};

const HOST: &str = "Host: h\r\n";

/// The state of the routes below.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    responders: Vec<Responder>,
    sent: Vec<Sent>,
}

impl Notes {
    fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }
}

fn routes(router: &mut Router<Notes>) {
    router.get("/", |request| request.reply("hello"));
    router.get("/where", |request| {
        let text = format!(
            "{}?{}",
            request.path(),
            request.query_string().unwrap_or("-")
        );
        request.reply(text)
    });
    router.post("/echo", |request| {
        request
            .state
            .note(format!("echo of {}", request.body().len()));
        let body = request.body().to_vec();
        request.reply((Status::OK, body))
    });
    router.get("/header", |request| {
        let value = request.header("x-value").map(|value| format!("<{value}>"));
        request.reply(value.unwrap_or_else(|| "none".to_owned()))
    });
    router.get("/204", |request| request.reply(Status::NO_CONTENT));
    router.get("/304", |request| request.reply(Status::NOT_MODIFIED));
    router.get("/later", |request| {
        request.state.note("later");
        let responder = request.reply_later();
        request.state.responders.push(responder);
        request.reactor.on_close(responder.id(), |cx, close| {
            cx.state.note(close.cause.to_string());
        });
    });
    router.get("/note/:what", |request| {
        let what = request.param("what").unwrap_or_default().into_owned();
        request.state.note(what.clone());
        request.reply(what)
    });
    router.websocket("/ws", |ws| ws.on_message(|ws, message| ws.send(message)));
}

fn server() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", routes)
    })
}

fn server_with(config: Config) -> Sim<Notes> {
    Sim::with_config(config, Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", routes)
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Deadlines pass up to a fifteenth of a second late, and never early.
const SLACK: Duration = Duration::from_millis(70);

/// Writes all bytes, however few the socket takes at once.
fn write_all<S: 'static>(sim: &mut Sim<S>, stream: &SimStream, bytes: &[u8]) {
    let mut rest = bytes;
    // A write that was refused by an injected fault is tried again.
    for _ in 0..100 + 10 * bytes.len() {
        rest = &rest[stream.write(rest)..];
        sim.settle();
        if rest.is_empty() {
            return;
        }
    }
    panic!("the server reads no more");
}

/// Reads all bytes, also those that wait until the socket has room for them.
fn read_all<S: 'static>(sim: &mut Sim<S>, stream: &SimStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        sim.settle();
        let more = stream.read();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// The bytes with which the server answers these pieces on a new connection, and whether it then
/// closes the connection.
fn exchange<S: 'static>(sim: &mut Sim<S>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let stream = sim.connect();
    for piece in pieces {
        // After its last answer the server reads and discards the rest.
        write_all(sim, &stream, piece);
    }
    let bytes = read_all(sim, &stream);
    let is_closed = stream.is_closed();
    stream.close();
    sim.settle();
    (bytes, is_closed)
}

fn ask<S: 'static>(sim: &mut Sim<S>, request: &str) -> Answer {
    let (bytes, _) = exchange(sim, &[request.as_bytes()]);
    answer(&bytes)
}

/// Asserts that the answer is the same wherever the request is cut.
fn assert_same_when_cut<S: 'static>(sim: &mut Sim<S>, name: &str, request: &[u8]) {
    let whole = exchange(sim, &[request]);
    // Requests of thousands of bytes repeat one character, so most of the cuts are left out.
    let step = if request.len() < 2000 { 1 } else { 397 };
    for cut in (1..request.len()).step_by(step) {
        let (before, after) = request.split_at(cut);
        assert_eq!(
            exchange(sim, &[before, after]),
            whole,
            "{name}, cut after {cut} bytes"
        );
    }
    if request.len() < 2000 {
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(exchange(sim, &bytes), whole, "{name}, byte by byte");
    }
}
