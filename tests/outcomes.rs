//! The values that callbacks return: an error is logged, answers a request or ends a connection, and is not lost.

#[path = "support/answer.rs"]
mod answer;
#[path = "support/log_lines.rs"]
mod log_lines;

use std::fmt::{Error as Failed, Result as FmtResult};
use std::ops::ControlFlow;
use std::time::Duration;

use answer::answer;
use waterwheel::{CloseCause, Reactor, Reply, Sim, Status};

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

type Log = Vec<String>;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n")
}

fn fails_with(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

// The error once vanished: the callback ended early, and the peer waited.
#[test]
fn an_error_of_a_websocket_callback_is_logged_and_ends_it_with_1011() {
    log_lines::capture();
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.http("127.0.0.1:4301", |http| {
            http.websocket("/rooms/:room", |ws| {
                ws.on_message(|ws, message| -> Result<(), std::num::ParseIntError> {
                    let number: u32 = message.to_string().parse()?;
                    ws.send(format!("{}", number + 1));
                    Ok(())
                });
                ws.on_error(|ws, _| ws.state.push("on_error".into()));
                ws.on_close(|ws, close| {
                    assert_eq!(close.cause, CloseCause::CallbackError);
                    ws.state.push(format!("{close}"));
                    fails_with("too late")
                });
            });
        })
    });
    let client = sim.websocket("/rooms/1");
    for message in ["1", "x", "2"] {
        client.send(message);
    }
    sim.settle();
    assert_eq!(client.received(), ["2"]);
    assert_eq!(client.close_code(), Some(1011));
    assert_eq!(*sim.state(), ["1011 a callback returned an error"]);
    let stats = sim.reactor().stats();
    assert_eq!((stats.panics, stats.callback_errors), (0, 2));
    for (callback, error) in [
        ("on_message", "invalid digit found in string"),
        ("on_close", "too late"),
    ] {
        let line = format!(
            "http 127.0.0.1:4301 websocket /rooms/:room: {callback} returned an error: {error}"
        );
        let lines = log_lines::with(&line);
        assert_eq!(lines.len(), 1, "{:?}", log_lines::with("returned an error"));
        assert!(lines[0].starts_with("ERROR conn "), "{lines:?}");
    }
}

#[test]
fn an_error_of_a_raw_stream_ends_it() {
    let mut sim = Sim::new(Log::new(), |reactor: &mut Reactor<Log>| {
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_data(|_, _| fails_with("no such command"));
            stream.on_close(|stream, close| stream.state.push(format!("{close}")));
        })
    });
    let client = sim.connect();
    client.write("x");
    sim.settle();
    assert!(client.is_closed());
    assert_eq!(*sim.state(), ["a callback returned an error"]);
}

#[test]
fn an_error_of_a_route_is_the_answer() {
    log_lines::capture();
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("127.0.0.1:4302", |http| {
            http.get("/status", |_| -> Result<(), Status> {
                Err(Status::NOT_FOUND)
            });
            http.get("/reply", |request| {
                let name = request
                    .query("name")
                    .ok_or((Status::BAD_REQUEST, "no name\n"))?;
                request.reply(format!("hello {name}"));
                Ok::<_, Reply>(())
            });
            http.get("/other", |_| fails_with("the disk is full"));
            http.get("/after", |request| {
                request.reply("answered");
                fails_with("after the answer")
            });
            http.get("/later", |request| {
                request.reply_later();
                Err::<(), _>(Status::CONFLICT)
            });
            http.get("/body", |request| {
                let id = request.stream("text/plain");
                request.reactor.send(id, "so far");
                fails_with("in the middle")
            });
            http.get("/events", |request| {
                request.event_stream();
                fails_with("in the events")
            });
        })
    });
    let cases = [
        ("/status", 404, "404 Not Found\n"),
        ("/reply", 400, "no name\n"),
        ("/reply?name=Ada", 200, "hello Ada"),
        ("/other", 500, "500 Internal Server Error\n"),
        ("/after", 200, "answered"),
        ("/later", 409, "409 Conflict\n"),
    ];
    let client = sim.connect();
    for (path, status, text) in cases {
        client.write(get(path));
        sim.settle();
        let answered = answer(&client.read());
        assert_eq!(
            (answered.status, answered.text(), answered.closes()),
            (status, text, false),
            "{path}"
        );
    }
    for (path, text) in [("/body", "so far"), ("/events", "event-stream")] {
        let client = sim.connect();
        client.write(get(path));
        sim.settle();
        let answered = client.read_text();
        assert!(answered.contains(text), "{path}: {answered}");
        assert!(!answered.ends_with("0\r\n\r\n"), "{path}: {answered}");
        assert!(client.is_closed(), "{path}");
    }
    assert_eq!(sim.reactor().stats().callback_errors, 4);
    for (path, error) in [
        ("/other", "the disk is full"),
        ("/after", "after the answer"),
        ("/body", "in the middle"),
        ("/events", "in the events"),
    ] {
        let line = format!("http 127.0.0.1:4302 GET {path}: request returned an error: {error}");
        assert_eq!(log_lines::with(&line).len(), 1, "{line}");
    }
}

#[test]
fn an_error_of_a_timer_a_tick_or_an_arrival_is_logged() {
    log_lines::capture();
    let mut sim = Sim::new(0, |reactor: &mut Reactor<u32>| {
        reactor.after(secs(1), |_| fails_with("of the timer"));
        reactor.every(secs(1), |cx| {
            *cx.state += 1;
            fails_with("of the period")
        });
        reactor.next_tick(|_| fails_with("of the tick"));
        reactor
            .remote()
            .run(|_| fails_with("of the arrival"))
            .unwrap();
        reactor.stream("0.0.0.0:1", |stream| {
            stream.on_open(|stream| {
                stream
                    .reactor
                    .on_close(stream.id, |_, _| fails_with("of the registered end"));
            });
        })
    });
    sim.connect().close();
    sim.advance(secs(3));
    assert_eq!(*sim.state(), 3, "a periodic timer goes on");
    for (error, count) in [
        ("of the timer", 1),
        // An error of each call would fill the disk.
        ("of the period", 1),
        ("of the tick", 1),
        ("of the arrival", 1),
        ("of the registered end", 1),
    ] {
        let lines = log_lines::with(&format!("returned an error: {error}"));
        assert_eq!(lines.len(), count, "{lines:?}");
    }
    assert_eq!(sim.reactor().stats().callback_errors, 7);
    sim.advance(secs(60));
    let lines = log_lines::with("of the period; 59 more since the last line");
    assert_eq!(lines.len(), 1, "{lines:?}");
}

// Any client may be able to cause an error with each message.
#[test]
fn errors_of_one_callback_are_logged_once_a_minute() {
    log_lines::capture();
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("127.0.0.1:4310", |router| {
            router.websocket("/noisy", |ws| {
                ws.on_message(|_, _| fails_with("of a noisy client"));
            });
            router.websocket("/other", |ws| {
                ws.on_message(|_, _| fails_with("of another route"));
            });
        })
    });
    let mut fail = |path: &str, count: usize| {
        for _ in 0..count {
            let client = sim.websocket(path);
            client.send("x");
            sim.settle();
        }
        sim.advance(secs(60));
    };
    fail("/noisy", 100);
    fail("/other", 1);
    fail("/noisy", 1);
    let lines = log_lines::with("returned an error: of a noisy client");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].ends_with("; 99 more since the last line"));
    assert_eq!(log_lines::with("of another route").len(), 1);
    assert_eq!(sim.reactor().stats().callback_errors, 102);
}

#[test]
fn a_periodic_timer_ends_itself() {
    let mut sim = Sim::new(0, |reactor: &mut Reactor<u32>| {
        reactor.every(secs(1), |cx| {
            *cx.state += 1;
            if *cx.state == 3 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    });
    sim.advance(secs(10));
    assert_eq!(*sim.state(), 3);
}

// Each of these must compile without a type that is written out.
#[test]
fn callbacks_may_end_with_what_the_reactor_returns() {
    let mut sim = Sim::new(None::<String>, |reactor: &mut Reactor<Option<String>>| {
        reactor.next_tick(|cx| cx.state.take());
        reactor.next_tick(|cx| cx.state.is_some());
        reactor.next_tick(|cx| cx.reactor.publish("t", "x"));
        reactor.next_tick(|cx| cx.reactor.after(secs(1), |_| ()));
        reactor.next_tick(|cx| cx.reactor.connect_stream("sim:1", |_| ()));
        reactor.next_tick(|cx| cx.reactor.websocket_client(|_| ()));
        reactor.next_tick(|_| -> FmtResult { Err(Failed) });
        reactor.every(secs(1), |_| std::process::exit(1));
        reactor.http("0.0.0.0:1", |http| {
            http.get("/", |request| request.reply_later());
            http.get("/events", |request| request.event_stream().subscribe("t"));
            http.websocket("/", |ws| {
                ws.on_open(|ws, _| ws.subscribe("t"));
                ws.on_message(|ws, message| ws.send(message));
                ws.on_error(|_, _| unreachable!());
            });
        })
    });
    sim.settle();
    assert!(sim.is_running());
}
