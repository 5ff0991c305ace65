//! Answers whose body is sent piece by piece.

use waterwheel::{CloseCause, Router, Sent, Sim};

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
