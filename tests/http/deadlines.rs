//! Deadlines of heads, bodies, answers and idle connections.

use std::time::Duration;

use waterwheel::{Config, Reply, Router, Sim, Status};

use crate::support::{Answer, answer, answers, get};
use crate::{HOST, Notes, SLACK, exchange, read_all, seconds, server, server_with, write_all};

#[test]
fn a_silent_connection_is_closed_without_an_answer_after_ten_seconds() {
    let mut sim = server();
    let stream = sim.connect();
    sim.advance(seconds(10));
    assert!(!stream.is_closed());
    sim.advance(SLACK);
    assert_eq!(stream.read_text(), "");
    assert!(stream.is_closed());
}

#[test]
fn an_incomplete_head_gets_408_after_ten_seconds() {
    let head = get("/");
    for length in 1..head.len() {
        let mut sim = server();
        let stream = sim.connect();
        stream.write(&head[..length]);
        sim.advance(seconds(10));
        assert!(!stream.is_closed() && stream.read().is_empty(), "{length}");
        sim.advance(SLACK);
        let refused = answer(&stream.read());
        assert!(refused.status == 408 && refused.closes(), "{length}");
        assert!(stream.is_closed(), "{length}");
    }
}

#[test]
fn single_bytes_do_not_postpone_the_deadline_of_a_head() {
    let mut sim = server();
    let stream = sim.connect();
    for byte in get("/").as_bytes().iter().take(20) {
        assert!(!stream.is_closed());
        stream.write([*byte]);
        sim.advance(Duration::from_millis(500));
    }
    sim.advance(SLACK);
    assert_eq!(answer(&stream.read()).status, 408);
}

#[test]
fn an_idle_kept_connection_closes_without_an_answer_after_thirty_seconds() {
    let mut sim = server();
    let stream = sim.connect();
    sim.advance(seconds(9));
    stream.write(get("/"));
    sim.settle();
    assert_eq!(answer(&stream.read()).status, 200);
    sim.advance(seconds(29));
    stream.write(get("/"));
    sim.settle();
    assert_eq!(answer(&stream.read()).status, 200);
    sim.advance(seconds(30));
    assert!(!stream.is_closed());
    sim.advance(SLACK);
    assert_eq!(stream.read_text(), "");
    assert!(stream.is_closed());
}

#[test]
fn a_later_head_has_ten_seconds_from_its_first_byte() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(get("/"));
    sim.advance(seconds(20));
    stream.read();
    stream.write("GET");
    sim.advance(seconds(10));
    assert!(!stream.is_closed());
    sim.advance(SLACK);
    assert_eq!(answer(&stream.read()).status, 408);
    assert!(stream.is_closed());
}

#[test]
fn a_missing_body_gets_408() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut sim = server();
        let stream = sim.connect();
        stream.write(format!(
            "POST /echo HTTP/1.1\r\n{HOST}{framing}\r\n\r\n5\r\nab"
        ));
        sim.advance(seconds(30));
        assert!(!stream.is_closed() && stream.read().is_empty(), "{framing}");
        sim.advance(SLACK);
        let refused = answer(&stream.read());
        assert!(refused.status == 408 && refused.closes(), "{framing}");
        assert!(stream.is_closed(), "{framing}");
    }
}

/// Sends a body of a megabyte at this rate. Returns the answer and the seconds until it came.
fn send_slowly(bytes_per_second: usize) -> (Answer, u64) {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(format!(
        "POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n"
    ));
    let mut left = 1_000_000;
    for second in 0.. {
        let piece = vec![b'x'; bytes_per_second.min(left)];
        left -= piece.len();
        write_all(&mut sim, &stream, &piece);
        let bytes = read_all(&mut sim, &stream);
        if !bytes.is_empty() {
            return (answer(&bytes), second);
        }
        assert!(left != 0, "no answer to a whole body");
        sim.advance(seconds(1));
    }
    unreachable!("the body ends")
}

#[test]
fn a_body_at_sixteen_kibibytes_a_second_is_read_to_its_end() {
    let (served, took) = send_slowly(16 * 1024);
    assert_eq!((served.status, served.body.len()), (200, 1_000_000));
    assert!(30 < took, "the rate has extended the deadline");

    let (refused, took) = send_slowly(4 * 1024);
    assert_eq!(refused.status, 408);
    assert!(took < 60, "{took} seconds");
}

// An answer was once cut off when the deadline of the next request passed.
#[test]
fn a_slowly_read_answer_is_sent_to_its_end() {
    const PAGE_BYTES: usize = 2 * 1024 * 1024;
    let requests = [
        ("kept", get("/"), false),
        (
            "close",
            format!("GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
            false,
        ),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".to_owned(), false),
        ("the client has ended its side", get("/"), true),
    ];
    for (name, request, finishes) in requests {
        let mut sim = Sim::new((), |reactor| {
            reactor.http("0.0.0.0:80", |router| {
                router.get("/", |request| {
                    request.reply(Reply::new(Status::OK).body(vec![b'x'; PAGE_BYTES]))
                });
            })
        });
        let stream = sim.connect();
        stream.write(&request);
        if finishes {
            stream.finish();
        }
        sim.settle();
        // The client reads 64 KiB, all that the simulated socket holds, every five seconds.
        let mut bytes = Vec::new();
        for _ in 0..=PAGE_BYTES / (64 * 1024) {
            bytes.extend(stream.read());
            sim.advance(seconds(5));
        }
        assert_eq!(answer(&bytes).body.len(), PAGE_BYTES, "{name}");
        assert_eq!(stream.is_closed(), name != "kept", "{name}");
        sim.advance(seconds(40));
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
}

#[test]
fn a_client_that_reads_nothing_of_its_answer_is_removed_after_thirty_seconds() {
    for option in ["keep-alive", "close"] {
        let mut sim = Sim::new(Notes::default(), |reactor| {
            reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
                router.get("/", |request| {
                    request.reactor.on_close(request.id, |cx, close| {
                        cx.state.note(close.cause.to_string());
                    });
                    request.reply(Reply::new(Status::OK).body(vec![b'x'; 1_000_000]))
                });
            })
        });
        let stream = sim.connect();
        stream.write(format!(
            "GET / HTTP/1.1\r\n{HOST}Connection: {option}\r\n\r\n"
        ));
        sim.advance(seconds(30));
        assert_eq!(sim.reactor().connection_count(), 1, "{option}");
        sim.advance(SLACK);
        assert_eq!(sim.reactor().connection_count(), 0, "{option}");
        assert_eq!(sim.state().lines.len(), 1, "{option}");
    }
}

#[test]
fn the_last_allowed_request_of_a_connection_is_answered_with_close() {
    let mut sim = server_with(Config {
        requests_per_connection_max: 3,
        ..Config::default()
    });
    let (bytes, is_closed) = exchange(&mut sim, &[get("/note/x").repeat(5).as_bytes()]);
    let closes: Vec<bool> = answers(&bytes).iter().map(Answer::closes).collect();
    assert_eq!(closes, [false, false, true]);
    assert!(is_closed);
    assert_eq!(sim.state().lines.len(), 3);
}

#[test]
fn after_a_refusal_the_client_has_ten_seconds_to_end_its_side() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write("nonsense\r\n\r\n");
    sim.advance(seconds(9));
    assert_eq!(answer(&stream.read()).status, 400);
    assert_eq!(sim.reactor().connection_count(), 1);
    sim.advance(seconds(1) + SLACK);
    assert_eq!(sim.reactor().connection_count(), 0);
}
