//! Bodies that are handed to their route as they come.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{
    CloseCause, Config, ConnId, Deadline, Reactor, Reply, Responder, Sim, SimClock, SimStream,
    Status,
};

use super::{answer, read_all, seconds};
use crate::support::answers;

const MILLISECOND: Duration = Duration::from_millis(1);

/// The calls of the route, in their order, and what they have brought.
#[derive(Default)]
struct Calls {
    lines: Vec<String>,
    body: Vec<u8>,
    ids: Vec<ConnId>,
    responders: Vec<Responder>,
    causes: Vec<CloseCause>,
}

fn serve() -> (Sim<Calls>, SimStream) {
    serve_with(Config::default())
}

fn serve_with(config: Config) -> (Sim<Calls>, SimStream) {
    let mut sim = Sim::with_config(config, Calls::default(), |reactor: &mut Reactor<Calls>| {
        reactor.http("0.0.0.0:80", |router| {
            router.guard(|request| match request.header("x-guard") {
                Some(_) => Err(Status::UNAUTHORIZED.into()),
                None => Ok(()),
            });
            router.post_stream("/up/:how", |upload| {
                upload.body_bytes_max(10_000_000);
                upload.on_head(|request| {
                    request.state.lines.push("head".to_owned());
                    request.state.ids.push(request.id);
                    let how = request.param("how").unwrap_or_default();
                    match how.as_ref() {
                        "refuse" => {
                            request.reply(Status::FORBIDDEN);
                        }
                        "decide" => {
                            let responder = request.decide_later();
                            request.state.responders.push(responder);
                        }
                        "later" => {
                            let responder = request.reply_later();
                            request.state.responders.push(responder);
                        }
                        "echo" => {
                            request.begin_body(Reply::new(Status::OK), None);
                        }
                        "panic" => panic!("by the test"),
                        _ => {}
                    }
                });
                upload.on_data(|upload, bytes| {
                    upload.state.body.extend_from_slice(bytes);
                    if bytes.starts_with(b"early") {
                        upload.reply("enough");
                    } else if bytes.starts_with(b"panic") {
                        panic!("by the test");
                    } else if bytes.starts_with(b"pause") {
                        upload.pause();
                    } else if bytes.starts_with(b"begin") {
                        upload.begin_body(Reply::new(Status::OK), None);
                    } else if bytes.starts_with(b"error") {
                        return Err(Status::UNPROCESSABLE_CONTENT);
                    }
                    upload.send(bytes);
                    Ok(())
                });
                upload.on_end(|upload| {
                    upload.state.lines.push("end".to_owned());
                    if upload.finish_body() == waterwheel::Sent::Gone
                        && upload.state.responders.is_empty()
                        && !upload.state.body.starts_with(b"silent")
                    {
                        let length = upload.state.body.len().to_string();
                        upload.reply(length);
                    }
                });
                upload.on_close(|upload, close| {
                    upload.state.lines.push("close".to_owned());
                    upload.state.causes.push(close.cause);
                });
            });
            router.get("/", |request| request.reply("hello"));
        })
    });
    sim.catch_panics(true);
    let client = sim.connect();
    (sim, client)
}

fn post(how: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /up/{how} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_body_is_the_same_however_it_is_cut() {
    let chunked = "POST /up/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n";
    for wire in [
        post("x", "hello"),
        post("echo", "hello"),
        chunked.to_owned(),
    ] {
        for cut in 1..wire.len() {
            let (mut sim, client) = serve();
            for piece in [&wire.as_bytes()[..cut], &wire.as_bytes()[cut..]] {
                client.write(piece);
                sim.settle();
            }
            let answered = answer(&read_all(&mut sim, &client));
            let expected = if wire.contains("echo") { "hello" } else { "5" };
            assert_eq!(answered.text(), expected, "cut at {cut}");
            assert_eq!(sim.state().lines[..], ["head", "end"], "cut at {cut}");
        }
    }
}

#[test]
fn the_next_request_follows_the_body() {
    for body in ["", "hello"] {
        let (mut sim, client) = serve();
        client.write(post("x", body) + GET);
        let both = answers(&read_all(&mut sim, &client));
        assert_eq!(both[0].text(), body.len().to_string());
        assert_eq!(both[1].text(), "hello");
        assert!(!client.is_closed());
    }
}

#[test]
fn a_refusal_comes_before_the_body_and_without_100() {
    let expect = "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let cases = [
        ("refuse", "", 403, &["head"][..]),
        ("x", "X-Guard: 1\r\n", 401, &[]),
    ];
    for (how, header, status, lines) in cases {
        let (mut sim, client) = serve();
        client.write(format!(
            "POST /up/{how} HTTP/1.1\r\nHost: h\r\n{header}{expect}"
        ));
        let answered = answer(&read_all(&mut sim, &client));
        assert_eq!((answered.status, answered.closes()), (status, true));
        assert!(client.is_closed());
        assert_eq!(sim.state().lines[..], *lines);
    }
}

#[test]
fn a_decision_comes_later_and_with_it_100() {
    for accepts in [true, false] {
        let (mut sim, client) = serve();
        client.write(
            "POST /up/decide HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        );
        sim.settle();
        assert_eq!(client.read_text(), "");
        let responder = sim.state().responders.pop().unwrap();
        if accepts {
            sim.reactor().accept(responder, ());
            sim.settle();
            assert_eq!(client.read_text(), "HTTP/1.1 100 Continue\r\n\r\n");
            client.write("hello");
            assert_eq!(answer(&read_all(&mut sim, &client)).text(), "5");
            assert_eq!(sim.state().lines[..], ["head", "end"]);
        } else {
            sim.reactor().reply(responder, Status::FORBIDDEN);
            let answered = answer(&read_all(&mut sim, &client));
            assert_eq!((answered.status, answered.closes()), (403, true));
            assert_eq!(sim.state().lines[..], ["head"]);
        }
    }
}

#[test]
fn an_answer_may_come_later_or_never() {
    let (mut sim, client) = serve();
    client.write(post("later", "hello"));
    sim.settle();
    assert_eq!(sim.state().lines[..], ["head", "end"]);
    let responder = sim.state().responders.pop().unwrap();
    sim.reactor().reply(responder, "done");
    assert_eq!(answer(&read_all(&mut sim, &client)).text(), "done");
    // A route that forgets the answer.
    client.write(post("x", "silent"));
    assert_eq!(answer(&read_all(&mut sim, &client)).text().len(), 2);
    let (mut sim, client) = serve();
    client.write(post("x", "silent"));
    assert_eq!(answer(&read_all(&mut sim, &client)).status, 500);
}

#[test]
fn an_early_answer_ends_the_connection() {
    for (body, status) in [("early", 200), ("error", 422)] {
        let (mut sim, client) = serve();
        client.write(&post("x", &format!("{body}{}", "x".repeat(100)))[..100]);
        let answered = answer(&read_all(&mut sim, &client));
        assert_eq!((answered.status, answered.closes()), (status, true));
        assert!(client.is_closed());
        assert_eq!(sim.state().lines[..], ["head"]);
    }
}

#[test]
fn a_body_that_never_completes_is_told_once() {
    let head = "POST /up/x HTTP/1.1\r\nHost: h\r\n";
    let too_long = waterwheel::protocol::http::HttpError::BodyTooLong;
    let cases: &[(&str, &str, CloseCause)] = &[
        ("Content-Length: 9\r\n\r\nhell", "", CloseCause::Peer),
        (
            "Content-Length: 9\r\n\r\nhell",
            "408",
            CloseCause::TimedOut(Deadline::Body),
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n",
            "413",
            CloseCause::Http(too_long),
        ),
        (
            "Content-Length: 9\r\n\r\npanic",
            "500",
            CloseCause::Panicked,
        ),
    ];
    for (rest, status, cause) in cases {
        let (mut sim, client) = serve();
        client.write(format!("{head}{rest}"));
        sim.settle();
        if status.is_empty() {
            client.finish();
        }
        sim.advance(seconds(40));
        assert_eq!(sim.state().lines[..], ["head", "close"], "{cause:?}");
        assert_eq!(sim.state().causes[..], [*cause]);
        let text = client.read_text();
        assert!(text.contains(status), "{text}");
    }
    let (mut sim, client) = serve();
    client.write(post("panic", "hello"));
    assert_eq!(answer(&read_all(&mut sim, &client)).status, 500);
    assert_eq!(sim.state().lines[..], ["head", "close"]);
}

#[test]
fn a_paused_route_holds_little_and_its_client_is_not_slow() {
    let (mut sim, client) = serve();
    client.write("POST /up/x HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\npause");
    sim.settle();
    let id = sim.state().ids[0];
    let mut left = 10_000_000 - 5;
    for _ in 0..100 {
        left -= client.write(vec![b'x'; left.min(1_000_000)]);
        sim.settle();
    }
    assert!(0 < left);
    assert!(sim.reactor().memory_bytes() < 200_000);
    assert!(sim.state().body.len() < 200_000);
    // Far longer than the time for a body.
    sim.advance(seconds(600));
    assert!(sim.reactor().is_open(id));
    sim.reactor().resume(id);
    sim.advance(seconds(20));
    for _ in 0..1000 {
        left -= client.write(vec![b'x'; left.min(1_000_000)]);
        sim.settle();
    }
    assert_eq!(left, 0, "{:?}", sim.state().causes);
    assert_eq!(answer(&read_all(&mut sim, &client)).text(), "10000000");
}

// The end needs no further byte, so no report of the kernel brings it.
#[test]
fn a_pause_at_the_last_byte_keeps_the_end() {
    let (mut sim, client) = serve();
    client.write(post("x", "pause"));
    sim.settle();
    assert_eq!(sim.state().lines[..], ["head"]);
    let id = sim.state().ids[0];
    sim.reactor().resume(id);
    assert_eq!(answer(&read_all(&mut sim, &client)).text(), "5");
}

#[test]
fn an_echo_goes_as_fast_as_its_client_reads() {
    let (mut sim, client) = serve();
    client.write("POST /up/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n");
    let mut left = 9_000_000;
    for _ in 0..100 {
        left -= client.write(vec![b'x'; left.min(1_000_000)]);
        sim.settle();
    }
    // The client has read nothing, so the queue is full and the body is not read.
    assert!(0 < left);
    assert!(sim.reactor().memory_bytes() < 3_000_000);
    let mut bytes = Vec::new();
    while 0 < left {
        bytes.extend(client.read());
        left -= client.write(vec![b'x'; left.min(1_000_000)]);
        sim.settle();
    }
    bytes.extend(read_all(&mut sim, &client));
    let answered = answer(&bytes);
    assert_eq!((answered.is_whole, answered.body.len()), (true, 9_000_000));
}

#[test]
fn an_answer_that_begins_with_a_piece_lets_the_body_go_on() {
    let (mut sim, client) = serve();
    let wire = post("x", "begin and end");
    let (first, rest) = wire.split_at(wire.len() - 4);
    client.write(first);
    sim.settle();
    client.write(rest);
    let answered = answer(&read_all(&mut sim, &client));
    assert_eq!(
        (answered.is_whole, answered.text()),
        (true, "begin and end")
    );
    assert_eq!(sim.state().lines[..], ["head", "end"]);
}

#[test]
fn a_refusal_of_a_request_without_a_body_keeps_the_connection() {
    let (mut sim, client) = serve();
    for length in ["Content-Length: 0\r\n", ""] {
        client.write(format!(
            "POST /up/refuse HTTP/1.1\r\nHost: h\r\n{length}\r\n"
        ));
        sim.settle();
        let answer = client.read_text().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 403 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    assert!(!client.is_closed());
}

// A turn that is used up is our affair, but the client of the next one is as slow as it was.
#[test]
fn a_client_that_trickles_runs_out_of_time_also_when_the_loop_is_busy() {
    let clock = Rc::new(OnceCell::<SimClock>::new());
    let busy = Rc::clone(&clock);
    let mut sim = Sim::new(None, move |reactor: &mut Reactor<Option<CloseCause>>| {
        reactor.http("0.0.0.0:80", |router| {
            router.post_stream("/", |upload| {
                upload.on_data(move |_, _| busy.get().unwrap().advance(5 * MILLISECOND));
                upload.on_close(|upload, close| *upload.state = Some(close.cause));
            });
        })
    });
    let _ = clock.set(sim.clock());
    let client = sim.connect();
    client.write("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..40 {
        client.write("1\r\nx\r\n".repeat(100));
        sim.advance(seconds(1));
    }
    let timed_out = CloseCause::TimedOut(Deadline::Body);
    assert_eq!(*sim.state(), Some(timed_out));
}

#[test]
fn a_file_as_the_answer_to_a_body_that_still_comes_takes_its_time() {
    let path = std::env::temp_dir().join(format!("waterwheel-answer-{}", std::process::id()));
    std::fs::write(&path, vec![b'x'; 2_000_000]).unwrap();
    let file = path.clone();
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |router| {
            router.post_stream("/", |upload| {
                upload.on_data(move |upload, _| upload.reply(Reply::file(file.as_path())));
            });
        })
    });
    sim.socket_bytes(16 * 1024);
    let client = sim.connect();
    client.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nsome of it");
    let mut bytes = Vec::new();
    while bytes.len() < 2_000_000 && !client.is_closed() {
        sim.advance(seconds(4));
        bytes.extend(client.read());
    }
    std::fs::remove_file(&path).unwrap();
    let answer = answer(&bytes);
    assert!(answer.is_whole && answer.body.len() == 2_000_000);
}
