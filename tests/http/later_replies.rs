//! Replies that are given after the callback has returned.

use std::rc::Rc;

use waterwheel::{CloseCause, Deadline, Request, Router, Sent, Sim};

use crate::support::{answer, answers, get};
use crate::{Notes, SLACK, ask, exchange, seconds, server};

#[test]
fn a_later_reply_is_sent_when_it_is_given() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/later", |request: &mut Request<'_, '_, Notes>| {
                let responder = request.reply_later();
                request
                    .reactor
                    .after(seconds(2), move |cx| cx.reactor.reply(responder, "done"));
            });
        })
    });
    let stream = sim.connect();
    stream.write(get("/later").repeat(2));
    sim.advance(seconds(2) - SLACK);
    assert_eq!(stream.read_text(), "");
    sim.advance(SLACK);
    assert_eq!(answer(&stream.read()).text(), "done");
    sim.advance(seconds(2));
    assert_eq!(answer(&stream.read()).text(), "done");
    assert!(!stream.is_closed());
}

#[test]
fn a_client_that_resets_before_its_later_reply_is_noticed() {
    let ways = [("resets", false), ("ends its side, then resets", true)];
    for (name, ends_first) in ways {
        let mut sim = server();
        let stream = sim.connect();
        stream.write(get("/later"));
        sim.settle();
        if ends_first {
            stream.finish();
            sim.settle();
        }
        stream.reset();
        sim.settle();
        assert_eq!(sim.state().lines, ["later", "closed by peer"], "{name}");
        let responder = sim.state().responders[0];
        assert_eq!(sim.reactor().reply(responder, "late"), Sent::Gone, "{name}");
        assert!(!sim.reactor().is_open(responder.id()), "{name}");
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

// An end of stream alone does not say whether the client still reads.
#[test]
fn a_client_that_ends_its_side_gets_its_later_replies() {
    for is_pipelined in [false, true] {
        let mut sim = server();
        let stream = sim.connect();
        let count = if is_pipelined { 3 } else { 1 };
        stream.write(get("/later").repeat(count));
        stream.finish();
        for n in 0..count {
            sim.advance(seconds(10));
            assert_eq!(stream.read_text(), "");
            assert!(!stream.is_closed());
            let responder = sim.state().responders[n];
            assert_eq!(sim.reactor().reply(responder, "late"), Sent::Queued);
            sim.settle();
            assert_eq!(answer(&stream.read()).text(), "late");
        }
        assert!(stream.is_closed());
        assert_eq!(sim.reactor().connection_count(), 0);
        assert_eq!(sim.state().lines.last().unwrap(), "closed by peer");
    }
}

#[test]
fn a_client_that_ends_its_side_waits_for_its_later_reply_until_the_deadline() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(get("/later"));
    stream.finish();
    sim.advance(seconds(60));
    assert_eq!(stream.read_text(), "");
    sim.advance(SLACK);
    assert_eq!(answer(&stream.read()).status, 503);
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_client_that_closes_before_its_later_reply_is_noticed_when_the_reply_is_written() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(get("/later"));
    stream.close();
    sim.settle();
    assert_eq!(sim.state().lines, ["later"]);
    let responder = sim.state().responders[0];
    assert_eq!(sim.reactor().reply(responder, "late"), Sent::Queued);
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(sim.state().lines.len(), 2);
}

#[test]
fn a_missing_later_reply_is_503_after_the_deadline() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(get("/later"));
    sim.advance(seconds(60));
    assert_eq!(stream.read_text(), "");
    sim.advance(SLACK);
    let failed = answer(&stream.read());
    assert!(failed.status == 503 && failed.closes() && failed.is_whole);
    assert!(stream.is_closed());
    let reason = CloseCause::TimedOut(Deadline::Reply);
    assert_eq!(sim.state().lines, ["later".to_owned(), reason.to_string()]);
    let responder = sim.state().responders[0];
    assert_eq!(sim.reactor().reply(responder, "late"), Sent::Gone);
    sim.settle();
    assert_eq!(stream.read_text(), "");
}

#[test]
fn a_second_answer_to_one_request_returns_gone() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/twice", |request| {
                for text in ["one", "two"] {
                    let sent = request.reply(text);
                    request.state.sent.push(sent);
                }
            });
            router.get("/both", |request| {
                let responder = request.reply_later();
                let sent = [
                    request.reply("now"),
                    request.reactor.reply(responder, "then"),
                    request.reactor.reply(responder, "and again"),
                ];
                request.state.sent.extend(sent);
            });
            router.get("/after", |request| {
                request.reply("now");
                let responder = request.reply_later();
                let sent = request.reactor.reply(responder, "then");
                request.state.sent.push(sent);
            });
            router.get("/never", |_| ());
            router.get("/panic", |_| panic!("of a test"));
        })
    });
    sim.catch_panics(true);
    assert_eq!(ask(&mut sim, &get("/twice")).text(), "one");
    assert_eq!(sim.state().sent, [Sent::Queued, Sent::Gone]);
    sim.state().sent.clear();
    assert_eq!(ask(&mut sim, &get("/both")).text(), "then");
    assert_eq!(sim.state().sent, [Sent::Gone, Sent::Queued, Sent::Gone]);
    sim.state().sent.clear();

    // The connection stays open, and no reply deadline is left.
    let stream = sim.connect();
    stream.write(get("/after").repeat(2));
    sim.advance(seconds(61));
    let all = answers(&stream.read());
    assert!(all.len() == 2 && all.iter().all(|answer| answer.text() == "now"));
    assert_eq!(sim.state().sent, [Sent::Gone, Sent::Gone]);

    // A route that neither replies nor takes a responder is faulty, so the client gets 500 at once.
    let (bytes, is_closed) = exchange(&mut sim, &[get("/never").as_bytes()]);
    assert!(answer(&bytes).status == 500 && !is_closed);

    let (bytes, is_closed) = exchange(&mut sim, &[get("/panic").repeat(2).as_bytes()]);
    assert!(answer(&bytes).status == 500 && is_closed);
    assert_eq!(sim.reactor().stats().panics, 1);
    assert_eq!(
        ask(&mut sim, &get("/twice")).text(),
        "one",
        "other connections go on"
    );
}

#[test]
fn a_panic_after_the_answer_sends_no_second_answer() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/", |request| {
                request.reply("the answer");
                if request.path() == "/" {
                    panic!("after the answer");
                }
            });
        })
    });
    sim.catch_panics(true);
    let client = sim.connect();
    // The second request is never looked at, and gets no answer.
    client.write([get("/"), get("/")].concat());
    sim.settle();
    let answered = answer(&client.read());
    assert_eq!((answered.status, answered.text()), (200, "the answer"));
    assert!(client.is_closed());
}

/// A server whose routes ask to hear of the end of the client.
fn server_that_asks_for_ends() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/answered", |request| {
                let id = request.id;
                request.reply("x".repeat(500_000));
                request
                    .reactor
                    .on_close(id, |cx, close| cx.state.note(close.cause.to_string()));
            });
            router.get("/later", |request| {
                let responder = request.reply_later();
                request.state.responders.push(responder);
                request.reactor.on_gone(responder, |cx, close| {
                    cx.state.note(format!("gone: {close}"))
                });
            });
            router.get("/stale", |request| {
                request.reply("now");
                let responder = request.reply_later();
                request
                    .reactor
                    .on_gone(responder, |cx, _| cx.state.note("stale"));
            });
        })
    })
}

#[test]
fn on_close_that_is_set_behind_the_last_answer_is_called() {
    for connection in ["keep-alive", "close"] {
        let mut sim = server_that_asks_for_ends();
        let client = sim.connect();
        client.write(format!(
            "GET /answered HTTP/1.1\r\nHost: h\r\nConnection: {connection}\r\n\r\n"
        ));
        assert_eq!(answer(&crate::read_all(&mut sim, &client)).status, 200);
        client.close();
        sim.advance(seconds(60));
        assert_eq!(sim.reactor().connection_count(), 0);
        assert_eq!(sim.state().lines.len(), 1, "{connection}");
    }
}

#[test]
fn on_gone_is_called_when_the_client_has_gone_and_forgotten_with_the_answer() {
    let mut sim = server_that_asks_for_ends();
    let client = sim.connect();
    for _ in 0..3 {
        client.write(get("/later"));
        sim.settle();
        let responder = sim.state().responders.pop().unwrap();
        assert_eq!(sim.reactor().reply(responder, "done"), Sent::Queued);
        sim.settle();
    }
    client.write(get("/stale"));
    sim.settle();
    assert_eq!(answers(&client.read()).len(), 4);
    // The request that is not answered has one callback, and those before it none.
    client.write(get("/later"));
    sim.settle();
    client.reset();
    sim.settle();
    assert_eq!(sim.state().lines, ["gone: closed by peer"]);
}

#[test]
fn a_callback_of_on_gone_is_dropped_by_the_answer() {
    struct Bomb(Rc<()>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let held = Rc::new(());
    let bomb = Rc::clone(&held);
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/", move |request| {
                let responder = request.reply_later();
                let bomb = Bomb(Rc::clone(&bomb));
                request.reactor.on_gone(responder, move |_, _| {
                    let _ = &bomb.0;
                });
                request.reactor.reply(responder, "done")
            });
        })
    });
    sim.catch_panics(true);
    let client = sim.connect();
    client.write(get("/").repeat(2));
    sim.settle();
    let all = answers(&client.read());
    assert!(all.iter().all(|answer| answer.text() == "done"));
    assert_eq!(all.len(), 2);
    assert_eq!(Rc::strong_count(&held), 2);
    assert_eq!(sim.reactor().stats().panics, 2);
}
