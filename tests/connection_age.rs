//! The age at which connections end politely, on the invented clock of a simulation.

use std::time::Duration;

use waterwheel::{Config, Reactor, Received, Sim, SimSocket, SimStream};

type Log = Vec<String>;

const AGE: Duration = Duration::from_secs(1000);

/// A deadline passes up to so much late.
const LATE: Duration = Duration::from_millis(67);

fn server(age_max: Option<Duration>) -> Sim<Log> {
    let mut config = Config::default();
    config.options.age_max = age_max;
    config.keep_alive_timeout = 10 * AGE;
    Sim::with_config(config, Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("0.0.0.0:80", |http| {
            http.websocket("/ws", |ws| {
                ws.on_message(|ws, message| ws.send(message));
                ws.on_error(|ws, _| ws.state.push("error".to_owned()));
                ws.on_close(|ws, close| ws.state.push(close.to_string()));
            });
            http.get("/", |request| request.reply("page"));
            http.get("/events", |request| {
                request.event_stream().subscribe("news");
            });
        })?;
        reactor.stream("0.0.0.0:9", |stream| {
            stream.on_close(|stream, close| stream.state.push(close.to_string()));
        })
    })
}

/// Answers pings, and a close frame if one has come. Returns whether one has.
fn answer(socket: &SimSocket) -> bool {
    let mut has_goodbye = false;
    for event in socket.take_events() {
        match event {
            Received::Ping(_) => socket.pong(),
            Received::Close(code, _) => {
                assert_eq!(code, 1001);
                socket.close(1001);
                has_goodbye = true;
            }
            other => panic!("{other:?}"),
        }
    }
    has_goodbye
}

fn get(sim: &mut Sim<Log>, stream: &SimStream, path: &str) -> String {
    stream.write(format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n"));
    sim.settle();
    stream.read_text()
}

#[test]
fn websockets_that_came_together_end_over_a_quarter_of_the_age() {
    let mut sim = server(Some(AGE));
    let sockets: Vec<SimSocket> = (0..100).map(|_| sim.websocket("/ws")).collect();
    let mut goodbyes = Vec::new();
    for _ in 0..100 {
        sim.advance(AGE / 100);
        goodbyes.push(sockets.iter().filter(|socket| answer(socket)).count());
        sim.settle();
    }
    sim.advance(LATE);
    let last = sockets.iter().filter(|socket| answer(socket)).count();
    sim.settle();
    assert_eq!(goodbyes[..74].iter().sum::<usize>(), 0);
    assert!(
        goodbyes[75..].iter().all(|count| (1..=8).contains(count)),
        "{goodbyes:?}"
    );
    assert_eq!(goodbyes.iter().sum::<usize>() + last, 100);
    // The end is no error, and both sides have said goodbye.
    let close = "1001 closed by us, as old as a connection may be: going away";
    assert_eq!(*sim.state(), vec![close; 100]);
}

// Messages put off the heartbeat, which has another deadline of the same connection.
#[test]
fn messages_do_not_put_the_end_off() {
    let mut sim = server(Some(AGE));
    let socket = sim.websocket("/ws");
    for _ in 0..1010 {
        if socket.is_closed() || socket.close_code().is_some() {
            break;
        }
        socket.send("x");
        sim.advance(AGE / 1000);
        socket.received();
    }
    assert_eq!(socket.close_code(), Some(1001));
}

#[test]
fn an_event_stream_ends_after_its_last_event() {
    let mut sim = server(Some(AGE));
    let stream = sim.connect_port(80);
    get(&mut sim, &stream, "/events");
    sim.advance(AGE / 2);
    sim.reactor().publish("news", "last");
    sim.advance(AGE / 2 + LATE);
    let text = stream.read_text();
    assert!(text.contains("data: last\n\n"), "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "{text}");
    assert!(stream.is_closed());
}

#[test]
fn an_http_connection_closes_after_its_next_answer() {
    let mut sim = server(Some(AGE));
    let stream = sim.connect_port(80);
    assert!(
        !get(&mut sim, &stream, "/")
            .to_lowercase()
            .contains("connection: close")
    );
    sim.advance(AGE + LATE);
    assert!(!stream.is_closed(), "a request may be on its way");
    let answer = get(&mut sim, &stream, "/");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert!(answer.ends_with("page"), "{answer}");
    assert!(stream.is_closed());
}

// The age of the connection before it was an event stream does not count.
#[test]
fn an_event_stream_on_an_old_connection_has_an_age_of_its_own() {
    let mut sim = server(Some(AGE));
    let stream = sim.connect_port(80);
    get(&mut sim, &stream, "/");
    sim.advance(AGE + LATE);
    get(&mut sim, &stream, "/events");
    sim.advance(AGE / 2);
    assert!(!stream.is_closed());
    sim.advance(AGE / 2 + LATE);
    assert!(stream.read_text().ends_with("0\r\n\r\n"));
    assert!(stream.is_closed());
}

#[test]
fn a_raw_stream_is_half_closed() {
    let mut sim = server(Some(AGE));
    let stream = sim.connect_port(9);
    sim.advance(AGE / 2);
    assert!(!stream.is_closed());
    sim.advance(AGE / 2 + LATE);
    assert!(stream.is_closed());
    assert_eq!(
        *sim.state(),
        ["closed by us, as old as a connection may be"]
    );
}

#[test]
fn a_peer_that_does_not_answer_the_goodbye_is_cut_off() {
    let mut sim = server(Some(AGE));
    let socket = sim.websocket("/ws");
    while socket.close_code().is_none() {
        sim.advance(Duration::from_secs(1));
        for event in socket.take_events() {
            if matches!(event, Received::Ping(_)) {
                socket.pong();
            }
        }
    }
    sim.advance(Duration::from_secs(10) + LATE);
    assert!(socket.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn without_a_limit_no_connection_is_too_old() {
    let mut sim = server(None);
    let socket = sim.websocket("/ws");
    for _ in 0..1000 {
        sim.advance(AGE / 50);
        assert!(!answer(&socket));
    }
    assert!(!socket.is_closed());
}
