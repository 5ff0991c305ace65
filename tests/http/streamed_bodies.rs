//! Answers whose body is sent piece by piece.

use std::io;

use waterwheel::{CloseCause, ConnId, Cx, ListenerId, Reactor, Reply, Router, Sent, Sim, Status};

use crate::support::{answer, answers, answers_to, get};
use crate::{Notes, assert_same_when_cut, exchange, read_all, seconds};

fn streaming() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/ticks/:count", |request| {
                let count = request.param("count").and_then(|count| count.parse().ok());
                let id = request.stream("text/plain");
                request.reactor.on_close(id, |cx, close| {
                    cx.state.note(close.cause.to_string());
                });
                let mut left: u32 = count.unwrap_or(u32::MAX);
                request.reactor.every(seconds(1), move |cx| {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    let sent = cx.reactor.send(id, "tick\n");
                    cx.state.sent.push(sent);
                    if left == 0 {
                        let sent = cx.reactor.finish_body(id);
                        cx.state.sent.push(sent);
                    }
                });
            });
            router.get("/bytes", |request| {
                let id = request.stream("application/octet-stream");
                for piece in [&b"\x00\xff"[..], b"", b"\r\n0\r\n\r\n", &[b'x'; 300]] {
                    request.reactor.send(id, piece);
                }
                request.reactor.finish_body(id);
                let sent = [
                    request.reactor.finish_body(id),
                    request.reactor.send(id, "late"),
                ];
                request.state.sent.extend(sent);
            });
            router.get("/fail", |request| {
                let id = request.stream("text/plain");
                request.reactor.send(id, "so far");
                panic!("of a test");
            });
            router.get("/", |request| request.reply("hello"));
        })
    })
}

#[test]
fn a_streamed_body_is_sent_in_chunks_and_the_connection_stays() {
    let mut sim = streaming();
    let stream = sim.connect();
    stream.write(get("/ticks/3") + &get("/"));
    sim.settle();
    let mut bytes = stream.read();
    let begun = answer(&bytes);
    assert_eq!(begun.header("transfer-encoding"), Some("chunked"));
    assert_eq!(begun.header("content-type"), Some("text/plain"));
    assert_eq!(begun.header("content-length"), None);
    assert!(!begun.is_whole && !begun.closes());
    sim.advance(seconds(1));
    assert_eq!(stream.read_text(), "5\r\ntick\n\r\n");
    sim.advance(seconds(2));
    let rest = stream.read();
    assert!(rest.starts_with(b"5\r\ntick\n\r\n5\r\ntick\n\r\n0\r\n\r\nHTTP/1.1 200"));
    bytes.extend(rest);
    let all = answers(&bytes);
    assert_eq!(
        (all.len(), all[1].text()),
        (2, "hello"),
        "the next had to wait"
    );
    assert!(!stream.is_closed());
}

#[test]
fn no_streamed_bytes_end_the_body() {
    let mut sim = streaming();
    let both = get("/bytes") + &get("/");
    let (bytes, _) = exchange(&mut sim, &[both.as_bytes()]);
    let all = answers(&bytes);
    assert_eq!(all.len(), 2);
    let expected = [&b"\x00\xff\r\n0\r\n\r\n"[..], &[b'x'; 300]].concat();
    assert_eq!(all[0].body, expected);
    assert_eq!(all[0].chunks.len(), 3);
    assert!(all[0].is_whole);
    assert_eq!(
        sim.state().sent,
        [Sent::Gone, Sent::Gone],
        "after the end of the body"
    );
    assert_same_when_cut(&mut sim, "streamed", both.as_bytes());
}

#[test]
fn a_streamed_body_for_http_1_0_ends_with_the_connection() {
    let mut sim = streaming();
    let request = "GET /bytes HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (bytes, is_closed) = exchange(&mut sim, &[request.as_bytes()]);
    let all = answer(&bytes);
    assert_eq!(all.header("transfer-encoding"), None);
    assert!(all.closes() && is_closed);
    let expected = [&b"\x00\xff\r\n0\r\n\r\n"[..], &[b'x'; 300]].concat();
    assert_eq!(all.body, expected);
}

#[test]
fn head_of_a_streamed_body_gets_no_body() {
    let mut sim = streaming();
    let both = get("/bytes").replacen("GET", "HEAD", 1) + &get("/");
    let (bytes, _) = exchange(&mut sim, &[both.as_bytes()]);
    let all = answers_to(&["HEAD"], &bytes);
    assert_eq!((all.len(), all[1].text()), (2, "hello"));
    assert_eq!(all[0].header("transfer-encoding"), Some("chunked"));
}

#[test]
fn a_client_that_leaves_during_a_streamed_body_is_noticed_at_once() {
    for name in ["closes", "resets"] {
        let mut sim = streaming();
        let stream = sim.connect();
        stream.write(get("/ticks/9"));
        sim.advance(seconds(2));
        assert_eq!(sim.state().sent, [Sent::Queued; 2]);
        stream.read();
        match name {
            "closes" => stream.close(),
            _ => stream.reset(),
        }
        sim.settle();
        assert_eq!(sim.state().lines, ["closed by peer"], "{name}");
        sim.advance(seconds(1));
        assert_eq!(sim.state().sent.last(), Some(&Sent::Gone), "{name}");
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

#[test]
fn a_streamed_body_that_is_cut_short_has_no_last_chunk() {
    let mut sim = streaming();
    sim.catch_panics(true);
    let (bytes, is_closed) = exchange(&mut sim, &[get("/fail").as_bytes()]);
    let cut = answer(&bytes);
    assert_eq!(cut.status, 200);
    assert!(!cut.is_whole && is_closed);

    // The same holds for a client that does not read.
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/flood", |request| {
                let id = request.stream("text/plain");
                request
                    .reactor
                    .on_close(id, |cx, close| cx.state.note(close.cause.to_string()));
                for _ in 0..100 {
                    let sent = request.reactor.send(id, vec![b'x'; 64 * 1024].as_slice());
                    request.state.sent.push(sent);
                }
            });
        })
    });
    sim.catch_panics(true);
    let stream = sim.connect();
    stream.write(get("/flood"));
    sim.settle();
    let sent = &sim.state().sent;
    let queued = sent.iter().filter(|sent| sent.is_queued()).count();
    assert!(
        (16..20).contains(&queued),
        "{queued} of 64 KiB in a queue of 1 MiB"
    );
    assert_eq!(sent[queued], Sent::Full);
    let bytes = read_all(&mut sim, &stream);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200 OK") && !text.ends_with("0\r\n\r\n"));
    assert!(stream.is_closed());
    assert_eq!(sim.state().lines, [CloseCause::SlowConsumer.to_string()]);
}

// A publication has no HTTP framing, so it must not enter an answer.
#[test]
fn an_http_connection_cannot_subscribe() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/", |request| {
                let joined = [
                    request.reactor.subscribe(request.id, "t"),
                    request.reactor.subscribe_pattern(request.id, "*"),
                ];
                assert_eq!(joined, [Ok(false), Ok(false)]);
                request.reply("hello")
            });
            router.get("/stream", |request| {
                let id = request.stream("text/plain");
                assert_eq!(request.reactor.subscribe(id, "t"), Ok(false));
            });
        })
    });
    for path in ["/", "/stream"] {
        let stream = sim.connect();
        stream.write(get(path));
        sim.settle();
        assert_eq!(answer(&stream.read()).status, 200, "{path}");
        assert_eq!(sim.reactor().publish("t", "news").delivered, 0, "{path}");
        sim.settle();
        assert_eq!(stream.read_text(), "", "{path}");
    }
}

fn parts() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.get("/part", |request| {
                let head = Reply::new(Status::PARTIAL_CONTENT)
                    .content_type("a/b")
                    .header("X-A", "1")
                    .body("first ");
                let id = request.begin_body(head, Some(12));
                let sent = [
                    request.reactor.send(id, "second"),
                    request.reactor.send(id, "one more"),
                    request.reactor.finish_body(id),
                ];
                request.state.sent.extend(sent);
            });
            router.get("/short", |request| {
                let id = request.begin_body("first", Some(12));
                let sent = request.reactor.finish_body(id);
                request.state.sent.push(sent);
            });
            router.get("/empty", |request| {
                let id = request.begin_body(Status::NO_CONTENT, None);
                request.reactor.send(id, "not sent");
                request.reactor.finish_body(id)
            });
            router.get("/later", |request| {
                let responder = request.reply_later();
                request
                    .reactor
                    .on_gone(responder, |cx, _| cx.state.note("gone"));
                request.reactor.after(seconds(1), move |cx| {
                    let sent = [
                        cx.reactor
                            .begin_body(responder, Reply::new(Status::OK), None),
                        cx.reactor
                            .begin_body(responder, Reply::new(Status::OK), None),
                        cx.reactor.reply(responder, "late"),
                        cx.reactor.send(responder.id(), "at last"),
                        cx.reactor.finish_body(responder.id()),
                    ];
                    cx.state.sent.extend(sent);
                });
            });
            router.get("/events", |request| {
                let responder = request.reply_later();
                request.reactor.after(seconds(1), move |cx| {
                    assert!(cx.reactor.event_stream(responder).is_some());
                    assert!(cx.reactor.event_stream(responder).is_none());
                    cx.reactor.subscribe(responder.id(), "t")
                });
            });
            router.get("/", |request| request.reply("hello"));
        })
    })
}

#[test]
fn a_streamed_body_has_a_status_headers_and_a_length() {
    let mut sim = parts();
    let (bytes, closes) = exchange(&mut sim, &[(get("/part") + &get("/")).as_bytes()]);
    let all = answers(&bytes);
    assert_eq!((all.len(), closes), (2, false));
    let part = &all[0];
    assert_eq!((part.status, part.text()), (206, "first second"));
    assert_eq!(part.header("content-length"), Some("12"));
    assert_eq!(part.header("content-type"), Some("a/b"));
    assert_eq!(part.header("x-a"), Some("1"));
    assert_eq!(part.header("transfer-encoding"), None);
    let expected = [Sent::Queued, Sent::Gone, Sent::Queued];
    assert_eq!(
        sim.state().sent,
        expected,
        "a piece beyond the length is refused"
    );

    let head = get("/part").replacen("GET", "HEAD", 1);
    let (bytes, closes) = exchange(&mut sim, &[head.as_bytes()]);
    let part = &answers_to(&["HEAD"], &bytes)[0];
    assert_eq!((part.header("content-length"), closes), (Some("12"), false));

    let (bytes, closes) = exchange(&mut sim, &[(get("/empty") + &get("/")).as_bytes()]);
    let all = answers(&bytes);
    assert_eq!((all.len(), all[0].status, closes), (2, 204, false));
    assert_eq!(all[0].header("transfer-encoding"), None);
}

#[test]
fn a_body_that_is_shorter_than_its_length_ends_the_connection() {
    let mut sim = parts();
    let (bytes, closes) = exchange(&mut sim, &[(get("/short") + &get("/")).as_bytes()]);
    let answered = answer(&bytes);
    assert_eq!((answered.is_whole, closes), (false, true));
    assert_eq!(sim.state().sent, [Sent::Gone]);
}

#[test]
fn a_stream_begins_in_a_later_event() {
    let mut sim = parts();
    let client = sim.connect();
    client.write(get("/later") + &get("/"));
    sim.advance(seconds(2));
    let all = answers(&client.read());
    assert_eq!(all[0].text(), "at last");
    assert_eq!(all[1].text(), "hello");
    use Sent::{Gone, Queued};
    assert_eq!(sim.state().sent, [Queued, Gone, Gone, Queued, Queued]);
    client.close();
    sim.settle();
    assert!(sim.state().lines.is_empty(), "{:?}", sim.state().lines);

    let client = sim.connect();
    client.write(get("/events"));
    sim.advance(seconds(2));
    let head = client.read_text();
    assert!(
        head.contains("\r\nContent-Type: text/event-stream\r\n"),
        "{head}"
    );
    assert_eq!(sim.reactor().publish("t", "news").delivered, 1);
    sim.settle();
    assert!(client.read_text().contains("data: news\n"));
    // The end of the client is heard: reading goes on.
    client.close();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
}

// A download once needed a timer that asked `queued_bytes` each millisecond.
#[test]
fn on_drain_tells_when_the_next_piece_has_room() {
    fn send_more(reactor: &mut Reactor<usize>, id: ConnId, mut pieces: u32) {
        while 0 < pieces && reactor.has_room(id) {
            reactor.send(id, vec![b'x'; 10_000]);
            pieces -= 1;
        }
        if pieces == 0 {
            reactor.finish_body(id);
            return;
        }
        reactor.on_drain(id, move |cx| {
            *cx.state += 1;
            send_more(cx.reactor, id, pieces);
        });
    }
    let mut sim = Sim::new(0, |reactor: &mut Reactor<usize>| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", |request| {
                let id = request.begin_body(Reply::new(Status::OK), Some(2_000_000));
                // Below the mark, it is called in the next turn.
                request
                    .reactor
                    .on_drain(id, move |cx| send_more(cx.reactor, id, 200));
            });
        })
    });
    let client = sim.connect();
    client.write(get("/"));
    sim.settle();
    // The client does not read, so the rest is not produced.
    let before = *sim.state();
    sim.advance(seconds(1));
    assert_eq!(*sim.state(), before);
    let answered = answer(&read_all(&mut sim, &client));
    assert_eq!((answered.is_whole, answered.body.len()), (true, 2_000_000));
    assert!(before + 5 < *sim.state());
    assert!(!client.is_closed());
}

#[test]
fn a_panic_or_an_error_of_on_drain_ends_the_connection() {
    fn listen(reactor: &mut Reactor<()>) -> io::Result<ListenerId> {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/panic", |request| {
                let id = request.begin_body(Reply::new(Status::OK), Some(2_000_000));
                let call = |_: &mut Cx<'_, ()>| panic!("a panic of a test");
                request.reactor.on_drain(id, call);
            });
            router.get("/error", |request| {
                let id = request.begin_body(Reply::new(Status::OK), Some(2_000_000));
                request.reactor.on_drain(id, |_| Err::<(), _>("no more"));
            });
        })
    }
    for (path, panics, errors) in [("/panic", 1, 0), ("/error", 0, 1)] {
        let mut sim = Sim::new((), listen);
        sim.catch_panics(true);
        let client = sim.connect();
        client.write(get(path));
        let answered = answer(&read_all(&mut sim, &client));
        assert!(!answered.is_whole && client.is_closed(), "{path}");
        let stats = sim.reactor().stats();
        assert_eq!((stats.panics, stats.callback_errors), (panics, errors));
    }
}
