//! Several requests on one connection: order, back-pressure, cut bytes.

use waterwheel::{Faults, Reply, Request, Sent, Sim, Status};

use crate::support::{Answer, answer, answers, answers_to, get, post};
use crate::{HOST, assert_same_when_cut, exchange, read_all, seconds, server};

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut sim = server();
    let all = [
        get("/note/a"),
        post("/echo", "b"),
        get("/nowhere"),
        get("/note/c").replacen("GET", "HEAD", 1),
        get("/note/d"),
    ];
    let requests = all.concat();
    let (bytes, is_closed) = exchange(&mut sim, &[requests.as_bytes()]);
    let answered = answers_to(&["GET", "POST", "GET", "HEAD", "GET"], &bytes);
    let bodies: Vec<&str> = answered.iter().map(Answer::text).collect();
    assert_eq!(bodies, ["a", "b", "404 Not Found\n", "", "d"]);
    assert!(!is_closed);
    assert_eq!(sim.state().lines, ["a", "echo of 1", "c", "d"]);
    assert_same_when_cut(&mut sim, "pipelined", requests.as_bytes());
}

// A long answer is sent from its own buffer, which must not overtake short ones that are copied
// together.
#[test]
fn pipelined_answers_of_any_length_keep_the_order_of_their_requests() {
    let lengths = [5, 20_000, 0, 300_000, 1, 70_000, 70_000, 3];
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/:length", |request| {
                let length = request.param("length").unwrap().parse().unwrap();
                request.reply("x".repeat(length))
            });
        })
    });
    let requests = lengths.map(|length| get(&format!("/{length}"))).concat();
    let (bytes, _) = exchange(&mut sim, &[requests.as_bytes()]);
    let answered: Vec<usize> = answers(&bytes).iter().map(|it| it.body.len()).collect();
    assert_eq!(answered, lengths);
}

#[test]
fn pipelined_requests_wait_for_a_later_reply() {
    let mut sim = server();
    let stream = sim.connect();
    let all = [get("/note/a"), get("/later"), get("/note/c"), get("/later")];
    stream.write(all.concat());
    sim.advance(seconds(5));
    assert_eq!(answer(&stream.read()).text(), "a");
    assert_eq!(sim.state().lines, ["a", "later"]);

    let responder = sim.state().responders[0];
    assert_eq!(sim.reactor().reply(responder, "b"), Sent::Queued);
    sim.settle();
    let answered = answers(&stream.read());
    assert_eq!([answered[0].text(), answered[1].text()], ["b", "c"]);
    assert_eq!(sim.state().lines, ["a", "later", "c", "later"]);

    // The responder of the second request does not answer the fourth.
    assert_eq!(sim.reactor().reply(responder, "again"), Sent::Gone);
    let responder = sim.state().responders[1];
    assert_eq!(sim.reactor().reply(responder, "d"), Sent::Queued);
    assert_eq!(sim.reactor().reply(responder, "e"), Sent::Gone);
    sim.settle();
    assert_eq!(answer(&stream.read()).text(), "d");
}

// A client that sends requests and never reads once made its answers pile up without a limit.
#[test]
fn pipelined_requests_wait_while_their_client_does_not_read() {
    const PAGE_BYTES: usize = 500_000;
    let mut sim = Sim::new(0, |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", |request: &mut Request<'_, '_, usize>| {
                *request.state = (*request.state).max(request.reactor.queued_bytes(request.id));
                request.reply(Reply::new(Status::OK).body(vec![b'x'; PAGE_BYTES]))
            });
        })
    });
    let stream = sim.connect();
    let requests = get("/").repeat(100);
    stream.write(&requests);
    sim.settle();
    let most = *sim.state();
    let limit = 1024 * 1024 + PAGE_BYTES;
    assert!(most <= limit, "{most} bytes were queued, {limit} may be");

    let bytes = read_all(&mut sim, &stream);
    let all = answers(&bytes);
    assert_eq!(all.len(), 100, "none is lost");
    assert!(all.iter().all(|answer| answer.body.len() == PAGE_BYTES));
}

#[test]
fn bytes_behind_a_later_reply_are_read_up_to_a_limit() {
    let mut sim = server();
    let stream = sim.connect();
    stream.write(get("/later"));
    sim.settle();
    let mut sent = 0;
    loop {
        let count = stream.write([b'x'; 32 * 1024]);
        sent += count;
        sim.settle();
        if count == 0 {
            break;
        }
        assert!(sent < 1024 * 1024, "the server reads without a limit");
    }
    let read = sim.reactor().stats().received_bytes;
    assert!(read < 64 * 1024, "{read} bytes of it were read");
}

#[test]
fn short_reads_and_writes_change_no_answer() {
    let requests = [
        get("/note/a"),
        post("/echo", &"b".repeat(3000)),
        format!(
            "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        ),
        get("/nowhere"),
        get("/note/c"),
        "nonsense\r\n\r\n".to_owned(),
    ]
    .concat();
    let expected = exchange(&mut server(), &[requests.as_bytes()]);
    assert_eq!(answers(&expected.0).len(), 6);
    for seed in 1..=100 {
        let mut sim = server();
        sim.socket_bytes(1000);
        let faults = Faults {
            short_reads_percent: 50,
            short_writes_percent: 50,
            refused_writes_percent: 30,
            ..Faults::default()
        };
        sim.faults(seed, faults);
        let seen = exchange(&mut sim, &[requests.as_bytes()]);
        assert_eq!(seen, expected, "seed {seed}");
    }
}

#[test]
fn a_bad_head_after_an_answer_is_answered_too() {
    let cases = [
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\n\r\n", 400),
    ];
    for (second, status) in cases {
        let mut sim = server();
        let client = sim.connect();
        client.write(get("/"));
        client.write(second);
        sim.settle();
        let statuses: Vec<u16> = answers(&client.read()).iter().map(|a| a.status).collect();
        assert_eq!(statuses, [200, status], "{second}");
    }
}
