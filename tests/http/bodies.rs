//! Bodies of requests: limits, framing, `Expect`, early ends.

use std::time::Duration;

use waterwheel::{Router, Sim, Status};

use crate::Notes;
use crate::support::{answer, answers, get, post};
use crate::{HOST, ask, exchange, server, write_all};

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let mut sim = server();
    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1048577\r\n\r\n");
    let stream = sim.connect();
    stream.write(&head);
    sim.settle();
    let refused = answer(&stream.read());
    assert_eq!(refused.status, 413);
    assert!(refused.closes());
    // The server reads the body that the client is still sending. Otherwise the kernel would reset
    // the connection and the client might lose the answer.
    for _ in 0..17 {
        write_all(&mut sim, &stream, &[b'x'; 64 * 1024]);
    }
    stream.close();
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    assert!(sim.state().lines.is_empty());
}

#[test]
fn a_body_at_the_limit_is_served_however_it_is_framed() {
    let mut sim = server();
    let body = vec![b'x'; 1024 * 1024];
    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1048576\r\n\r\n");
    let (bytes, _) = exchange(&mut sim, &[head.as_bytes(), &body]);
    assert_eq!(answer(&bytes).body, body);

    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    let (first, second) = body.split_at(700_000);
    let pieces: [&[u8]; 6] = [
        head.as_bytes(),
        b"aae60\r\n",
        first,
        b"\r\n551a0\r\n",
        second,
        b"\r\n0\r\n\r\n",
    ];
    let (bytes, _) = exchange(&mut sim, &pieces);
    assert_eq!(answer(&bytes).body, body);

    // One byte above the limit.
    let pieces: [&[u8]; 6] = [
        head.as_bytes(),
        b"aae60\r\n",
        first,
        b"\r\n551a1\r\n",
        second,
        b"x\r\n0\r\n\r\n",
    ];
    let (bytes, is_closed) = exchange(&mut sim, &pieces);
    let refused = answer(&bytes);
    assert!(refused.status == 413 && refused.closes() && is_closed);
}

#[test]
fn expect_100_gets_an_interim_or_the_final_answer() {
    let mut sim = server();
    let head = |length: &str| {
        format!(
            "POST /echo HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let stream = sim.connect();
    stream.write(head("3"));
    sim.settle();
    assert_eq!(stream.read_text(), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write("abc");
    sim.settle();
    assert_eq!(answer(&stream.read()).text(), "abc");

    // The body has arrived with the head, so no interim answer is needed.
    let (bytes, _) = exchange(&mut sim, &[format!("{}abc", head("3")).as_bytes()]);
    assert_eq!(answer(&bytes).text(), "abc");

    let (bytes, is_closed) = exchange(&mut sim, &[head("1048577").as_bytes()]);
    assert!(answer(&bytes).status == 413 && is_closed);

    // Requests without a body, and of HTTP/1.0, get no interim answer.
    let none = format!("GET / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n\r\n");
    assert_eq!(ask(&mut sim, &none).text(), "hello");
    let old = b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (bytes, _) = exchange(&mut sim, &[old, b"abc"]);
    assert_eq!(answer(&bytes).text(), "abc");
    let old = b"POST /echo HTTP/1.0\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc";
    let (bytes, _) = exchange(&mut sim, &[old]);
    assert_eq!(answer(&bytes).text(), "abc");
}

#[test]
fn a_body_cut_short_by_its_client_reaches_no_route() {
    let mut sim = server();
    for framing in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let stream = sim.connect();
        stream.write(format!("POST /echo HTTP/1.1\r\n{HOST}{framing}"));
        stream.finish();
        sim.settle();
        assert_eq!(stream.read_text(), "", "{framing}");
        assert!(stream.is_closed(), "{framing}");
    }
    assert!(sim.state().lines.is_empty());
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(format!("{}{}", get("/"), post("/echo", "abc")));
    stream.finish();
    sim.settle();
    let all = answers(&stream.read());
    assert_eq!([all[0].text(), all[1].text()], ["hello", "abc"]);
    assert!(stream.is_closed());
    assert_eq!(sim.reactor().connection_count(), 0);
}

#[test]
fn a_chunk_above_the_limit_is_refused_at_its_size() {
    let mut sim = server();
    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    let max = sim.reactor().config().http.body_bytes_max;
    for size in [
        "7FFFFFFFFFFFFFFF\r\n".to_owned(),
        format!("{:x};a=b\r\n", max + 1),
    ] {
        for before in ["", "1\r\na\r\n"] {
            let (bytes, is_closed) =
                exchange(&mut sim, &[format!("{head}{before}{size}").as_bytes()]);
            assert_eq!(answer(&bytes).status, 413, "{before}{size}");
            assert!(is_closed);
        }
    }
    // Together they are above it.
    let size = format!("1\r\na\r\n{max:x}\r\n");
    let (bytes, _) = exchange(&mut sim, &[format!("{head}{size}").as_bytes()]);
    assert_eq!(answer(&bytes).status, 413);
    // A chunk at the limit is waited for.
    let (bytes, is_closed) = exchange(&mut sim, &[format!("{head}{max:x}\r\n").as_bytes()]);
    assert!(bytes.is_empty() && !is_closed);
    assert!(sim.state().lines.is_empty());
}

// Five hundred strangers' bodies were once kept whole, and then refused.
#[test]
fn a_request_that_will_be_refused_is_refused_by_its_head() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.guard(|request| {
                request.state.note("guard");
                match request.header("x-who") {
                    Some("stranger") => Err((Status::FORBIDDEN, "not you").into()),
                    Some("answered") => {
                        request.reply("at the door");
                        Ok(())
                    }
                    _ => Ok(()),
                }
            });
            router.post("/echo", |request| {
                let body = request.body().to_vec();
                request.reply((Status::OK, body))
            });
            router.websocket("/ws", |_| {});
        })
    });
    let cases = [
        ("POST /echo", "X-Who: stranger", 403),
        ("POST /echo", "X-Who: answered", 200),
        ("POST /nowhere", "X: y", 404),
        ("PUT /echo", "X: y", 405),
        ("POST /ws", "X: y", 405),
        ("GET /ws", "X: y", 426),
    ];
    for (line, header, status) in cases {
        for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let stream = sim.connect();
            stream.write(format!(
                "{line} HTTP/1.1\r\n{HOST}{header}\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
            ));
            sim.settle();
            let refused = stream.read_text();
            let first = format!("HTTP/1.1 {status} ");
            assert!(refused.starts_with(&first), "{line} {header}: {refused}");
            assert!(refused.contains("\r\nConnection: close\r\n"), "{refused}");
            assert!(!refused.contains(" 100 "), "{line} {header}: {refused}");
            // A body that looks like a request is none.
            stream.write("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
            sim.settle();
            assert_eq!(stream.read_text(), "", "{line} {header}");
        }
    }
    sim.state().lines.clear();
    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\n");
    let (bytes, is_closed) = exchange(&mut sim, &[head.as_bytes(), b"abc"]);
    assert!(answer(&bytes).text() == "abc" && !is_closed);
    assert_eq!(sim.state().lines, ["guard"], "it is asked once");
}

#[test]
fn a_guard_that_decides_later_reads_the_body_afterwards() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.guard(|request| {
                let is_let_in = request.header("x-who").is_none();
                let responder = request.decide_later();
                request
                    .reactor
                    .after(Duration::from_millis(50), move |cx| match is_let_in {
                        true => cx.reactor.accept(responder, ()),
                        false => cx.reactor.reply(responder, Status::FORBIDDEN),
                    });
                Ok(())
            });
            router.post("/echo", |request| {
                let body = request.body().to_vec();
                request.reply((Status::OK, body))
            });
        })
    });
    for (header, status, text) in [("X: y", 200, "abcdef"), ("X-Who: s", 403, "")] {
        let stream = sim.connect();
        stream.write(format!(
            "POST /echo HTTP/1.1\r\n{HOST}{header}\r\nContent-Length: 6\r\n\r\nabc"
        ));
        sim.settle();
        assert_eq!(stream.read_text(), "");
        sim.advance(Duration::from_secs(1));
        stream.write("def");
        sim.settle();
        let answer = answer(&stream.read());
        assert_eq!((answer.status, answer.closes()), (status, status == 403));
        assert!(status == 403 || answer.text() == text);
    }
}
