//! Handshakes and requests that wait: the application accepts, refuses or answers in a later event.

#[path = "support/answer.rs"]
mod answer;

use std::rc::Rc;
use std::time::Duration;

use answer::answer;
use waterwheel::{Accept, Config, Reactor, Responder, Sent, Sim, Status};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The responders of requests that wait, and notes of what has happened.
#[derive(Default)]
struct Desk {
    waiting: Vec<Responder>,
    notes: Vec<String>,
}

const UPGRADE: &str = "GET /ws/7?a=b HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v1, v2, v3\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked text frame with an empty mask.
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend(text.as_bytes());
    frame
}

fn setup(reactor: &mut Reactor<Desk>) -> std::io::Result<waterwheel::ListenerId> {
    reactor.http("0.0.0.0:80", |http| {
        http.guard(|request| {
            if request.header("x-guard").is_some() {
                let responder = request.decide_later();
                request.state.waiting.push(responder);
            }
            Ok(())
        });
        http.websocket("/ws/:room", |ws| {
            ws.subprotocols(["v1"]);
            ws.before_open(|request| {
                let responder = request.decide_later();
                request.state.waiting.push(responder);
                Ok(())
            });
            ws.on_open(|ws, handshake| {
                ws.state.notes.push(format!(
                    "open {} {} {}",
                    handshake.param("room").unwrap_or_default(),
                    handshake.query("a").unwrap_or_default(),
                    handshake.subprotocol().unwrap_or("none"),
                ))
            });
            ws.on_message(|ws, message| ws.send(message));
            ws.on_close(|ws, close| ws.state.notes.push(format!("close {close}")));
        });
        http.websocket("/chosen", |ws| {
            ws.before_open(|request| {
                let accept = Accept::new().subprotocol("v3").header("X-Node", "7");
                request.accept_with(accept);
                Ok(())
            });
        });
        http.post("/upload/*", |request| {
            let text = request.text().unwrap_or("no text").to_owned();
            let rest = request.param("*").unwrap_or_default();
            request.state.notes.push(format!("{rest}: {text}"));
            request.reply(text)
        });
        http.get("/later", |request| {
            let responder = request.decide_later();
            request.state.waiting.push(responder);
        });
    })
}

/// Runs `call` with the one request that waits, in another event.
fn decide(sim: &mut Sim<Desk>, call: impl Fn(&mut Reactor<Desk>, Responder) -> Sent + 'static) {
    let responder = sim.state().waiting.pop().expect("a request waits");
    sim.reactor().after(millis(50), move |cx| {
        assert_eq!(call(cx.reactor, responder), Sent::Queued);
        assert_eq!(call(cx.reactor, responder), Sent::Gone, "decided already");
        assert_eq!(cx.reactor.reply(responder, "late"), Sent::Gone);
    });
    sim.advance(millis(100));
}

// A handshake could only be refused later, and no client could be let in by an answer from elsewhere.
#[test]
fn a_handshake_is_accepted_later_with_headers_and_a_subprotocol() {
    let mut sim = Sim::new(Desk::default(), setup);
    let client = sim.connect();
    // A client may send frames before it has the answer.
    client.write([UPGRADE.as_bytes(), &text_frame("early")].concat());
    sim.settle();
    assert_eq!(client.read_text(), "");
    client.write(text_frame("also early"));
    sim.settle();
    assert!(sim.state().notes.is_empty());
    decide(&mut sim, |reactor, responder| {
        let accept = Accept::new()
            .subprotocol("v2")
            .header("Set-Cookie", "seen=1");
        reactor.accept(responder, accept)
    });
    let bytes = client.read();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(
        text.contains("\r\nSec-WebSocket-Protocol: v2\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nSet-Cookie: seen=1\r\n"), "{text}");
    assert!(text.contains("\x05early") && text.contains("\x0aalso early"));
    client.close();
    sim.settle();
    assert_eq!(sim.state().notes.len(), 2);
    assert_eq!(sim.state().notes[0], "open 7 b v2");
}

#[test]
fn the_route_chooses_the_subprotocol_if_the_program_does_not() {
    let mut sim = Sim::new(Desk::default(), setup);
    for (accept, agreed) in [
        (Accept::new(), "v1"),
        (Accept::new().subprotocol("not offered"), "v1"),
        (Accept::new().subprotocol("v3"), "v3"),
    ] {
        let client = sim.connect();
        client.write(UPGRADE);
        sim.settle();
        decide(&mut sim, move |reactor, responder| {
            reactor.accept(responder, accept.clone())
        });
        let head = client.read_text();
        let line = format!("\r\nSec-WebSocket-Protocol: {agreed}\r\n");
        assert!(head.contains(&line), "{head}");
    }
    let client = sim
        .try_websocket("/chosen", &[("Sec-WebSocket-Protocol", "v1, v3")])
        .unwrap();
    let head = client.head();
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: v3\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nX-Node: 7\r\n"), "{head}");
}

#[test]
fn a_handshake_is_refused_later() {
    let mut sim = Sim::new(Desk::default(), setup);
    let client = sim.connect();
    client.write(UPGRADE);
    sim.settle();
    decide(&mut sim, |reactor, responder| {
        reactor.reply(responder, Status::UNAUTHORIZED)
    });
    let answered = answer(&client.read());
    assert_eq!((answered.status, answered.closes()), (401, false));
    assert!(sim.state().notes.is_empty());
}

#[test]
fn a_decision_has_a_deadline_and_its_client_may_go() {
    let mut config = Config::default();
    config.options.reply_timeout = Duration::from_secs(5);
    let mut sim = Sim::with_config(config, Desk::default(), setup);
    let client = sim.connect();
    client.write(UPGRADE);
    sim.settle();
    sim.advance(Duration::from_secs(6));
    assert_eq!(answer(&client.read()).status, 503);
    let late = sim.state().waiting.pop().unwrap();
    assert_eq!(sim.reactor().accept(late, ()), Sent::Gone);
    client.close();

    let client = sim.connect();
    client.write(UPGRADE);
    sim.settle();
    let gone = sim.state().waiting.pop().unwrap();
    sim.reactor().on_gone(gone, |cx, close| {
        cx.state.notes.push(format!("gone: {close}"));
    });
    client.reset();
    sim.settle();
    assert_eq!(sim.reactor().accept(gone, ()), Sent::Gone);
    assert_eq!(sim.state().notes.len(), 1, "{:?}", sim.state().notes);
    assert!(sim.state().notes[0].starts_with("gone: "));
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn an_accepted_handshake_drops_what_waits_for_the_client_to_go() {
    let mut sim = Sim::new(Desk::default(), setup);
    let client = sim.connect();
    client.write(UPGRADE);
    sim.settle();
    let responder = sim.state().waiting.pop().unwrap();
    let held = Rc::new(());
    let holds = Rc::clone(&held);
    sim.reactor().on_gone(responder, move |cx, _| {
        let _ = &holds;
        cx.state.notes.push("gone".into());
    });
    assert_eq!(sim.reactor().accept(responder, ()), Sent::Queued);
    assert_eq!(Rc::strong_count(&held), 1);
    sim.settle();
    assert_eq!(answer(&client.read()).status, 101);
    client.reset();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    assert!(!sim.state().notes.contains(&"gone".to_owned()));
}

#[test]
fn a_guard_lets_a_request_and_its_body_go_on_later() {
    let mut sim = Sim::new(Desk::default(), setup);
    let head = "POST /upload/a/b HTTP/1.1\r\nHost: sim\r\nX-Guard: 1\r\nContent-Length: 4\r\n\r\n";
    // With the body behind the head, and with a body that comes in pieces.
    for pieces in [[head, "body"].concat().as_str(), head] {
        let client = sim.connect();
        client.write(pieces);
        sim.settle();
        if pieces == head {
            client.write("body");
            sim.settle();
        }
        // The next request waits for the answer to this one.
        client.write("GET /nowhere HTTP/1.1\r\nHost: sim\r\n\r\n");
        sim.settle();
        assert_eq!(client.read_text(), "");
        decide(&mut sim, |reactor, responder| reactor.accept(responder, ()));
        let answered = answer::answers(&client.read());
        assert_eq!(answered.len(), 2);
        assert_eq!((answered[0].status, answered[0].text()), (200, "body"));
        assert_eq!(answered[1].status, 404);
    }
    assert_eq!(sim.state().notes, ["a/b: body", "a/b: body"]);
}

#[test]
fn both_checks_may_wait_one_after_the_other() {
    let mut sim = Sim::new(Desk::default(), setup);
    let client = sim.connect();
    client.write(UPGRADE.replacen("Host: sim", "Host: sim\r\nX-Guard: 1", 1));
    sim.settle();
    for _ in 0..2 {
        assert_eq!(client.read_text(), "");
        decide(&mut sim, |reactor, responder| reactor.accept(responder, ()));
    }
    assert!(client.read_text().starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_route_has_nothing_to_accept() {
    let mut sim = Sim::new(Desk::default(), setup);
    let client = sim.connect();
    client.write("GET /later HTTP/1.1\r\nHost: sim\r\n\r\n");
    sim.settle();
    let responder = sim.state().waiting.pop().unwrap();
    assert_eq!(sim.reactor().accept(responder, ()), Sent::Gone);
    assert_eq!(sim.reactor().reply(responder, "answered"), Sent::Queued);
    sim.settle();
    assert_eq!(answer(&client.read()).text(), "answered");
}
