//! `Router::after_reply` is called once for each answer, refusals too.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{Answered, Config, ListenOptions, Router, Sim};

use crate::support::get;
use crate::{HOST, Notes, exchange, routes, seconds};

type Lines = Rc<RefCell<Vec<String>>>;

/// The routes, and a line for each answer: method, path, status, length of the body, and time.
fn recorded(router: &mut Router<Notes>, lines: &Lines) {
    routes(router);
    router.get("/events", |request| request.event_stream().subscribe("t"));
    let lines = Rc::clone(lines);
    router.after_reply(move |answered: &Answered<'_>| {
        let [method, path] = [answered.method, answered.path].map(|text| text.unwrap_or("-"));
        let (status, bytes) = (answered.status.code(), answered.body_bytes);
        let millis = answered.time.as_millis();
        lines
            .borrow_mut()
            .push(format!("{method} {path} {status} {bytes} {millis}"));
    });
}

fn recorded_server(config: Config) -> (Sim<Notes>, Lines) {
    let lines = Lines::default();
    let sim = Sim::with_config(config, Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router| recorded(router, &lines))
    });
    (sim, lines)
}

#[test]
fn each_answer_is_reported_once_when_it_begins() {
    let (mut sim, lines) = recorded_server(Config::default());
    for request in [
        get("/?token=secret"),
        get("/").replacen("GET", "HEAD", 1),
        get("/none"),
        get("/events"),
    ] {
        exchange(&mut sim, &[request.as_bytes()]);
    }
    let _socket = sim.websocket("/ws");
    let later = sim.connect();
    later.write(get("/later"));
    sim.advance(seconds(3));
    let responder = sim.state().responders[0];
    sim.reactor().reply(responder, "done");
    sim.settle();
    let expected = [
        "GET / 200 5 0",
        "HEAD / 200 0 0",
        "GET /none 404 14 0",
        "GET /events 200 0 0",
        "GET /ws 101 0 0",
        "GET /later 200 4 3000",
    ];
    assert_eq!(*lines.borrow(), expected);
}

#[test]
fn each_refusal_is_reported_once_with_what_is_known_of_the_request() {
    let config = Config::default();
    let length_max = config.http.body_bytes_max + 1;
    let cases = [
        ("nonsense\r\n\r\n".to_owned(), "- - 400 16 0"),
        (
            format!("GET /a?token=secret HTTP/1.1\r\n{HOST}Bad Name: 1\r\n\r\n"),
            "GET /a 400 16 0",
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: {length_max}\r\n\r\n"),
            "POST /echo 413 22 0",
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nx\r\n"),
            "POST /echo 400 16 0",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(20_000)),
            "414",
        ),
        (
            format!("GET /a HTTP/1.1\r\n{HOST}X: {}\r\n\r\n", "x".repeat(40_000)),
            "GET /a 431 36 0",
        ),
        (
            format!("GET /?token=secret HTTP/1.1\r\n{HOST}\r\nnonsense\r\n\r\n"),
            "GET / 200 5 0, - - 400 16 0",
        ),
    ];
    for (request, expected) in cases {
        let (mut sim, lines) = recorded_server(config.clone());
        exchange(&mut sim, &[request.as_bytes()]);
        let seen = lines.borrow().join(", ");
        if expected == "414" {
            assert!(
                seen.starts_with("GET /xxx") && seen.ends_with(" 414 17 0"),
                "{seen}"
            );
        } else {
            assert_eq!(seen, expected, "{request:?}");
        }
        drop(sim);
        assert_eq!(lines.borrow().join(", "), seen, "{request:?}");
    }
}

#[test]
fn requests_that_come_too_slowly_are_reported() {
    let cases = [
        ("", ""),
        ("GET /a?x HTTP/1.1\r\nHo", "GET /a 408 20"),
        ("G", "- - 408 20"),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell",
            "POST /echo 408 20",
        ),
    ];
    for (request, expected) in cases {
        let (mut sim, lines) = recorded_server(Config::default());
        let client = sim.connect();
        client.write(request);
        sim.advance(seconds(200));
        let seen = lines.borrow().join(", ");
        let (seen, _time) = seen.rsplit_once(' ').unwrap_or_default();
        assert_eq!(seen, expected, "{request:?}");
    }
}

#[test]
fn a_panic_and_a_client_that_is_gone_are_reported_as_they_were_answered() {
    let lines = Lines::default();
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/panic", |_| panic!("of a test"));
            recorded(router, &lines);
        })
    });
    sim.catch_panics(true);
    exchange(&mut sim, &[get("/panic").as_bytes()]);
    // Its client gets no answer.
    let gone = sim.connect();
    gone.write(get("/later"));
    sim.settle();
    gone.reset();
    sim.settle();
    assert_eq!(*lines.borrow(), ["GET /panic 500 26 0"]);
}

#[test]
fn connections_above_the_limit_of_an_address_are_reported() {
    let lines = Lines::default();
    let config = Config {
        connections_per_address_max: Some(1),
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, Notes::default(), |reactor| {
        let options = ListenOptions::new("0.0.0.0:80").proxy_protocol(true);
        reactor.http(options, |router| recorded(router, &lines))
    });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = sim.connect();
        client.write("PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".to_owned() + &get("/"));
        sim.settle();
        clients.push(client);
    }
    assert_eq!(*lines.borrow(), ["GET / 200 5 0", "- - 429 22 0"]);
}

#[test]
fn the_time_is_read_from_the_clock_and_counts_the_callback() {
    let lines = Lines::default();
    let mut sim = Sim::new(Notes::default(), |_| ());
    let clock = sim.clock();
    let listening = sim.reactor().http("0.0.0.0:80", |router| {
        router.get("/slow", move |request| {
            clock.advance(Duration::from_millis(40));
            request.reply("slow")
        });
        recorded(router, &lines);
    });
    assert!(listening.is_ok());
    exchange(&mut sim, &[get("/slow").as_bytes()]);
    assert_eq!(*lines.borrow(), ["GET /slow 200 4 40"]);
}
