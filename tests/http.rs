//! HTTP as a server speaks it, through the whole machine: bytes in, bytes out.
//!
//! Every rule is said in RFC 9110 and RFC 9112; the tables follow their order. Whatever is in a
//! table is also sent cut in two at every place, and byte by byte, and must get the same bytes.

#[path = "support/answer.rs"]
mod support;

use std::time::Duration;

use support::{Answer, answer, answers, answers_to, get, post};
use waterwheel::{
    CloseCause, Config, Deadline, Faults, Origins, Reply, Request, Responder, Router, Sent, Sim,
    SimStream, Status,
};

const HOST: &str = "Host: h\r\n";

/// What the routes below remember.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    responders: Vec<Responder>,
    sent: Vec<Sent>,
}

impl Notes {
    fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }
}

fn routes(router: &mut Router<Notes>) {
    router.get("/", |request| request.reply("hello"));
    router.get("/where", |request| {
        let text = format!(
            "{}?{}",
            request.path(),
            request.query_string().unwrap_or("-")
        );
        request.reply(text)
    });
    router.post("/echo", |request| {
        request
            .state
            .note(format!("echo of {}", request.body().len()));
        let body = request.body().to_vec();
        request.reply((Status::OK, body))
    });
    router.get("/header", |request| {
        let value = request.header("x-value").map(|value| format!("<{value}>"));
        request.reply(value.unwrap_or_else(|| "none".to_owned()))
    });
    router.get("/204", |request| request.reply(Status::NO_CONTENT));
    router.get("/304", |request| request.reply(Status::NOT_MODIFIED));
    router.get("/later", |request| {
        request.state.note("later");
        let responder = request.reply_later();
        request.state.responders.push(responder);
        request.reactor.on_close(responder.id(), |cx, close| {
            cx.state.note(close.cause.to_string());
        });
    });
    router.get("/note/:what", |request| {
        let what = request.param("what").unwrap_or_default().into_owned();
        request.state.note(what.clone());
        request.reply(what)
    });
    router.websocket("/ws", |ws| ws.on_message(|ws, message| ws.send(message)));
}

fn server() -> Sim<Notes> {
    Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", routes)
    })
}

fn server_with(config: Config) -> Sim<Notes> {
    Sim::with_config(config, Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", routes)
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Deadlines pass up to a fifteenth of a second late, and never early.
const SLACK: Duration = Duration::from_millis(70);

/// Writes all of it, however little the socket takes at once.
fn write_all<S: 'static>(sim: &mut Sim<S>, stream: &SimStream, bytes: &[u8]) {
    let mut rest = bytes;
    // A write that faults refuse finds room later.
    for _ in 0..100 + 10 * bytes.len() {
        rest = &rest[stream.write(rest)..];
        sim.settle();
        if rest.is_empty() {
            return;
        }
    }
    panic!("the server reads no more");
}

/// Everything that comes, also what waits until there is room for it.
fn read_all<S: 'static>(sim: &mut Sim<S>, stream: &SimStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        sim.settle();
        let more = stream.read();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// What the server says to these pieces on a connection of their own, and whether it then ends.
fn exchange<S: 'static>(sim: &mut Sim<S>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let stream = sim.connect();
    for piece in pieces {
        // After its last word the server takes what comes and throws it away.
        write_all(sim, &stream, piece);
    }
    let bytes = read_all(sim, &stream);
    let is_closed = stream.is_closed();
    stream.close();
    sim.settle();
    (bytes, is_closed)
}

fn ask<S: 'static>(sim: &mut Sim<S>, request: &str) -> Answer {
    let (bytes, _) = exchange(sim, &[request.as_bytes()]);
    answer(&bytes)
}

/// The same bytes come, wherever the request is cut.
fn assert_same_when_cut<S: 'static>(sim: &mut Sim<S>, name: &str, request: &[u8]) {
    let whole = exchange(sim, &[request]);
    // Of what is thousands of bytes long, the places that are like others are left out.
    let step = if request.len() < 2000 { 1 } else { 397 };
    for cut in (1..request.len()).step_by(step) {
        let (before, after) = request.split_at(cut);
        assert_eq!(
            exchange(sim, &[before, after]),
            whole,
            "{name}, cut after {cut} bytes"
        );
    }
    if request.len() < 2000 {
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(exchange(sim, &bytes), whole, "{name}, byte by byte");
    }
}

// ── what is served ───────────────────────────────────────────────────────────────────────────

#[test]
fn valid_requests_are_served_and_the_connection_stays() {
    let long_query = "q".repeat(8000 - "/where?".len());
    let cases: &[(&str, String, u16, &str)] = &[
        ("plain", get("/"), 200, "hello"),
        (
            "an empty line before",
            format!("\r\n{}", get("/")),
            200,
            "hello",
        ),
        ("two of them", format!("\r\n\r\n{}", get("/")), 200, "hello"),
        (
            "a target of 8000 octets",
            get(&format!("/where?{long_query}")),
            200,
            &format!("/where?{long_query}"),
        ),
        (
            "any case of a header's name",
            "GET /header HTTP/1.1\r\nhOST: h\r\nX-VALUE: v\r\n\r\n".into(),
            200,
            "<v>",
        ),
        (
            "white space around a value",
            format!("GET /header HTTP/1.1\r\n{HOST}X-Value: \t a\tb \t\r\n\r\n"),
            200,
            "<a\tb>",
        ),
        (
            "an empty value",
            format!("GET /header HTTP/1.1\r\n{HOST}X-Value:\r\n\r\n"),
            200,
            "<>",
        ),
        (
            "a value beyond ASCII",
            format!("GET /header HTTP/1.1\r\n{HOST}X-Value: caf\u{e9}\r\n\r\n"),
            200,
            "<caf\u{e9}>",
        ),
        (
            "a host with a port",
            "GET / HTTP/1.1\r\nHost: example.org:8080\r\n\r\n".into(),
            200,
            "hello",
        ),
        (
            "an IPv6 host",
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into(),
            200,
            "hello",
        ),
        (
            "absolute form",
            "GET http://example.org/where?a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            200,
            "/where?a",
        ),
        (
            "absolute form without a path",
            "GET http://example.org HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            200,
            "hello",
        ),
        ("a body with its length", post("/echo", "abc"), 200, "abc"),
        (
            "an empty body",
            format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n"),
            200,
            "",
        ),
        (
            "leading zeros in a length",
            format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 003\r\n\r\nabc"),
            200,
            "abc",
        ),
        (
            "chunks",
            format!(
                "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n"
            ),
            200,
            "abc0123456789",
        ),
        (
            "extensions and trailers, which are dropped",
            format!(
                "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n\
                 3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\nX-Value: smuggled\r\n\r\n"
            ),
            200,
            "abc",
        ),
        (
            "another protocol to upgrade to",
            format!(
                "GET / HTTP/1.1\r\n{HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ),
            200,
            "hello",
        ),
        (
            "a body that nobody wants, on a GET",
            format!("GET / HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"),
            200,
            "hello",
        ),
        ("no such path", get("/nowhere"), 404, "404 Not Found\n"),
    ];
    let mut sim = server();
    for (name, request, status, body) in cases {
        // A second request shows that the first ended where it should.
        let both = format!("{request}{}", get("/note/next"));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        let all = answers(&bytes);
        assert_eq!(all.len(), 2, "{name}");
        assert_eq!((all[0].status, all[0].text()), (*status, *body), "{name}");
        assert!(!all[0].closes() && all[0].is_whole, "{name}");
        assert_eq!(all[1].text(), "next", "{name}");
        assert!(!is_closed, "{name}");
        assert_same_when_cut(&mut sim, name, both.as_bytes());
    }
}

/// Requests that must not be served, with the status that says so.
fn refusals() -> Vec<(&'static str, String, u16)> {
    let mut cases = vec![
        // The request line.
        (
            "a request line that is too long",
            get(&format!("/{}", "a".repeat(8192))),
            414,
        ),
        (
            "a request line without an end",
            format!("GET /{}", "a".repeat(20_000)),
            414,
        ),
        (
            "an unknown method",
            format!("BREW / HTTP/1.1\r\n{HOST}\r\n"),
            501,
        ),
        (
            "a method in lower case",
            format!("get / HTTP/1.1\r\n{HOST}\r\n"),
            501,
        ),
        ("HTTP/2.0", format!("GET / HTTP/2.0\r\n{HOST}\r\n"), 505),
        (
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            505,
        ),
        (
            "HTTP/0.9 with its number",
            format!("GET / HTTP/0.9\r\n{HOST}\r\n"),
            505,
        ),
        (
            "another protocol",
            format!("GET / RTSP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "a version in lower case",
            format!("GET / http/1.1\r\n{HOST}\r\n"),
            400,
        ),
        ("no version", format!("GET /\r\n{HOST}\r\n"), 400),
        ("two spaces", format!("GET  / HTTP/1.1\r\n{HOST}\r\n"), 400),
        (
            "a space at the end",
            format!("GET / HTTP/1.1 \r\n{HOST}\r\n"),
            400,
        ),
        (
            "junk before the method",
            format!("\u{1}GET / HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "a space before the method",
            format!(" GET / HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "a method that is no token",
            format!("G(T / HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "a target that is no path",
            format!("GET a HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "an asterisk for a GET",
            format!("GET * HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        (
            "authority form for a GET",
            format!("GET h:80 HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        ("a fragment", format!("GET /#a HTTP/1.1\r\n{HOST}\r\n"), 400),
        (
            "a target beyond ASCII",
            format!("GET /\u{e9} HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        // Line ends.
        (
            "a bare line feed behind the request line",
            format!("GET / HTTP/1.1\n{HOST}\r\n"),
            400,
        ),
        (
            "a bare line feed behind a header",
            "GET / HTTP/1.1\r\nHost: h\n\r\n".into(),
            400,
        ),
        (
            "a bare line feed at the end",
            format!("GET / HTTP/1.1\r\n{HOST}\n"),
            400,
        ),
        ("a bare line feed in front", format!("\n{}", get("/")), 400),
        (
            "a bare carriage return in a value",
            format!("GET / HTTP/1.1\r\n{HOST}A: b\rc\r\n\r\n"),
            400,
        ),
        (
            "a bare carriage return in the target",
            format!("GET /\ra HTTP/1.1\r\n{HOST}\r\n"),
            400,
        ),
        // Host.
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        (
            "two hosts",
            format!("GET / HTTP/1.1\r\n{HOST}{HOST}\r\n"),
            400,
        ),
        (
            "two different hosts",
            format!("GET / HTTP/1.1\r\n{HOST}Host: i\r\n\r\n"),
            400,
        ),
        (
            "an empty host",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(),
            400,
        ),
        (
            "an empty host with an http target",
            "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n".into(),
            400,
        ),
        (
            "a host with a space",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
            400,
        ),
        (
            "a host with a user",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".into(),
            400,
        ),
        (
            "a host with a path",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(),
            400,
        ),
        (
            "a host with a port that is none",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n".into(),
            400,
        ),
        (
            "two hosts in one",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(),
            400,
        ),
        // Header lines.
        (
            "a space before a colon",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n".into(),
            400,
        ),
        (
            "a name that is no token",
            format!("GET / HTTP/1.1\r\n{HOST}A(b): c\r\n\r\n"),
            400,
        ),
        (
            "a name beyond ASCII",
            format!("GET / HTTP/1.1\r\n{HOST}\u{e9}: c\r\n\r\n"),
            400,
        ),
        (
            "no name",
            format!("GET / HTTP/1.1\r\n{HOST}: c\r\n\r\n"),
            400,
        ),
        (
            "no colon",
            format!("GET / HTTP/1.1\r\n{HOST}abc\r\n\r\n"),
            400,
        ),
        (
            "a space before the first header",
            format!("GET / HTTP/1.1\r\n {HOST}\r\n"),
            400,
        ),
        (
            "a folded line",
            format!("GET / HTTP/1.1\r\n{HOST}A: b\r\n c\r\n\r\n"),
            400,
        ),
        (
            "a line folded with a tab",
            format!("GET / HTTP/1.1\r\n{HOST}A: b\r\n\tc\r\n\r\n"),
            400,
        ),
        (
            "a NUL in a value",
            format!("GET / HTTP/1.1\r\n{HOST}A: b\0\r\n\r\n"),
            400,
        ),
        (
            "a control character in a value",
            format!("GET / HTTP/1.1\r\n{HOST}A: \u{1b}\r\n\r\n"),
            400,
        ),
        (
            "DEL in a value",
            format!("GET / HTTP/1.1\r\n{HOST}A: \u{7f}\r\n\r\n"),
            400,
        ),
        (
            "a head of more than 16 KiB",
            format!(
                "GET / HTTP/1.1\r\n{HOST}A: {}\r\n\r\n",
                "a".repeat(20 * 1024)
            ),
            431,
        ),
        (
            "more than a hundred header lines",
            format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "A: b\r\n".repeat(100)),
            431,
        ),
        // Framing.
        (
            "both lengths",
            format!(
                "POST /echo HTTP/1.1\r\n{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                 0\r\n\r\n"
            ),
            400,
        ),
        (
            "both lengths, the other way round",
            format!(
                "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
                 0\r\n\r\n"
            ),
            400,
        ),
        (
            "chunks in HTTP/1.0",
            "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        (
            "another expectation",
            format!("POST /echo HTTP/1.1\r\n{HOST}Expect: tea\r\nContent-Length: 1\r\n\r\nx"),
            417,
        ),
        // Not HTTP at all.
        ("TLS", "\u{16}\u{3}\u{1}\u{1}\u{0}".into(), 400),
        (
            "a PROXY header",
            format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n{}", get("/")),
            400,
        ),
        (
            "a PROXY header of version 2",
            "\r\n\r\n\0\r\nQUIT\n!".into(),
            400,
        ),
    ];
    let lengths = [
        ("a length that is negative", "-1"),
        ("a length with a sign", "+3"),
        ("a length that is hexadecimal", "0x3"),
        ("a length with a fraction", "3.0"),
        ("a length that overflows", "18446744073709551616"),
        ("no length", ""),
        ("a length with a space", "3 3"),
        ("two lengths in one line", "3, 4"),
        ("two lengths in two lines", "3\r\nContent-Length: 4"),
    ];
    for (name, length) in lengths {
        let request = format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\nabc");
        cases.push((name, request, 400));
    }
    let codings = [
        ("a coding that is not chunked", "gzip", 400),
        ("chunked not last", "chunked, gzip", 400),
        ("chunked twice", "chunked, chunked", 400),
        (
            "chunked twice, in two lines",
            "chunked\r\nTransfer-Encoding: chunked",
            400,
        ),
        ("an unknown coding before chunked", "gzip, chunked", 501),
        ("no coding", "", 400),
        ("identity", "identity", 400),
        ("chunked in quotes", "\"chunked\"", 400),
        ("something like chunked", "xchunked", 400),
        ("chunked with a parameter", "chunked;a=b", 400),
    ];
    for (name, coding, status) in codings {
        let request =
            format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        cases.push((name, request, status));
    }
    let chunks = [
        ("a chunk's size that is not hexadecimal", "g\r\n"),
        ("a chunk's size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk's size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk without a size", "\r\nabc\r\n0\r\n\r\n"),
        ("a space before a chunk's size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk's size that overflows", "10000000000000000\r\n"),
        (
            "a bare line feed behind a chunk's size",
            "3\nabc\r\n0\r\n\r\n",
        ),
        ("a bare line feed behind a chunk", "3\r\nabc\n0\r\n\r\n"),
        ("a chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a bare line feed behind the last chunk", "0\r\n\n"),
        (
            "a control character in an extension",
            "3;a=\0\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a carriage return in an extension",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
        ),
        ("a trailer without a colon", "0\r\nabc\r\n\r\n"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ];
    for (name, chunks) in chunks {
        let request =
            format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        cases.push((name, request, 400));
    }
    for (name, overhead) in [
        ("endless extensions", format!("3;{}", "a".repeat(9000))),
        (
            "endless trailers",
            format!("0\r\n{}", "A: b\r\n".repeat(3000)),
        ),
        ("endless zeros", "0".repeat(9000)),
    ] {
        let request =
            format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{overhead}");
        cases.push((name, request, 400));
    }
    cases
}

#[test]
fn invalid_requests_are_refused_and_the_connection_ends() {
    let mut sim = server();
    for (name, request, status) in refusals() {
        // What follows is not looked at: nobody knows where it begins.
        let both = format!("{request}{}", get("/note/smuggled"));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        let all = answers(&bytes);
        assert_eq!(all.len(), 1, "{name}");
        assert_eq!(all[0].status, status, "{name}");
        assert!(all[0].closes() && all[0].is_whole, "{name}");
        assert!(all[0].header("date").is_some(), "{name}");
        assert!(all[0].text().starts_with(&status.to_string()), "{name}");
        assert!(is_closed, "{name}");
        assert_same_when_cut(&mut sim, name, request.as_bytes());
    }
    let notes = &sim.state().lines;
    assert!(notes.is_empty(), "a route was called: {notes:?}");
}

#[test]
fn tls_and_proxy_headers_on_a_plain_port_are_counted() {
    let mut sim = server();
    exchange(&mut sim, &[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]);
    exchange(&mut sim, &[b"nonsense\r\n\r\n"]);
    exchange(&mut sim, &[b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"]);
    exchange(&mut sim, &[b"\r\n\r\n\x00\r\nQUIT\n"]);
    let stats = sim.reactor().stats();
    assert_eq!((stats.tls_on_plain_port, stats.proxy_headers), (1, 2));
}

// ── HTTP/1.0, HEAD, answers without a body ───────────────────────────────────────────────────

#[test]
fn http_1_0_closes_unless_asked_to_stay_and_never_gets_chunks() {
    let mut sim = server();
    let (bytes, is_closed) = exchange(&mut sim, &[b"GET / HTTP/1.0\r\n\r\n"]);
    let closing = answer(&bytes);
    assert_eq!((closing.status, closing.text()), (200, "hello"));
    assert!(closing.closes() && is_closed);

    let stays = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let (bytes, is_closed) = exchange(&mut sim, &[stays.as_bytes(), stays.as_bytes()]);
    let all = answers(&bytes);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].header("connection"), Some("keep-alive"));
    assert!(!is_closed);
    assert_same_when_cut(&mut sim, "HTTP/1.0", stays.as_bytes());
}

#[test]
fn connection_close_gets_its_answer_and_then_the_end() {
    let mut sim = server();
    for option in ["close", "Close", "x, close"] {
        let request = format!("GET / HTTP/1.1\r\n{HOST}Connection: {option}\r\n\r\n");
        let both = format!("{request}{}", get("/note/late"));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        assert!(answer(&bytes).closes() && is_closed, "{option}");
    }
    assert!(sim.state().lines.is_empty());
}

#[test]
fn head_gets_the_headers_of_get_and_no_body() {
    let mut sim = server();
    let paths = ["/", "/nowhere", "/204", "/304", "/where?a"];
    for path in paths {
        let head = get(path).replacen("GET", "HEAD", 1);
        let both = format!("{head}{}", get(path));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        let all = answers_to(&["HEAD", "GET"], &bytes);
        assert_eq!(all.len(), 2, "{path}");
        let with_body = Answer {
            body: Vec::new(),
            ..all[1].clone()
        };
        let path_is_echoed = path.starts_with("/where");
        assert_eq!(all[0].headers, with_body.headers, "{path}");
        assert_eq!(all[0].status, with_body.status, "{path}");
        assert!(!path_is_echoed || all[0].header("content-length") == Some("8"));
        assert!(!is_closed, "{path}");
        assert_same_when_cut(&mut sim, path, both.as_bytes());
    }
}

// An error behind a HEAD was once answered without its body, but with the body's length.
#[test]
fn a_refusal_behind_a_head_has_its_body() {
    let mut sim = server();
    let head = get("/").replacen("GET", "HEAD", 1);
    let (bytes, _) = exchange(&mut sim, &[head.as_bytes(), b"nonsense\r\n\r\n"]);
    let all = answers_to(&["HEAD"], &bytes);
    assert_eq!((all.len(), all[1].status), (2, 400));
    assert!(all[1].is_whole, "the body that its length promises");
}

#[test]
fn a_status_without_a_body_has_no_length_and_no_body() {
    let mut sim = server();
    for (path, status) in [("/204", 204), ("/304", 304)] {
        let (bytes, _) = exchange(&mut sim, &[get(path).as_bytes(), get("/").as_bytes()]);
        let all = answers(&bytes);
        assert_eq!((all.len(), all[0].status), (2, status));
        for absent in ["content-length", "transfer-encoding", "content-type"] {
            assert_eq!(all[0].header(absent), None, "{path}");
        }
    }
}

// ── bodies ───────────────────────────────────────────────────────────────────────────────────

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
    // What the client was sending all the same is taken, so that no reset destroys the answer.
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

    // One byte more.
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

    // The body is there already: nobody waits.
    let (bytes, _) = exchange(&mut sim, &[format!("{}abc", head("3")).as_bytes()]);
    assert_eq!(answer(&bytes).text(), "abc");

    let (bytes, is_closed) = exchange(&mut sim, &[head("1048577").as_bytes()]);
    assert!(answer(&bytes).status == 413 && is_closed);

    // Nothing is expected where there is no body, and HTTP/1.0 does not know the word.
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

// ── pipelining ───────────────────────────────────────────────────────────────────────────────

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

    // The fourth is a request of its own: the first responder is not its.
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
        assert!(sent < 1024 * 1024, "it takes everything");
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

// ── deadlines ────────────────────────────────────────────────────────────────────────────────

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

/// Sends a body of a megabyte, so many bytes a second. The answer, and how many seconds it took.
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
    assert!(30 < took, "it is the rate that saved it");

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
        // 64 KiB, which is what the simulated socket holds, in five seconds.
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

// ── later replies ────────────────────────────────────────────────────────────────────────────

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
fn a_client_that_leaves_before_its_later_reply_is_noticed() {
    type Leave = fn(&SimStream);
    let ways: [(&str, Leave); 3] = [
        ("ends its side", SimStream::finish),
        ("closes", SimStream::close),
        ("resets", SimStream::reset),
    ];
    for (name, leave) in ways {
        let mut sim = server();
        let stream = sim.connect();
        stream.write(get("/later"));
        sim.settle();
        leave(&stream);
        sim.settle();
        assert_eq!(sim.state().lines, ["later", "closed by peer"], "{name}");
        let responder = sim.state().responders[0];
        assert_eq!(sim.reactor().reply(responder, "late"), Sent::Gone, "{name}");
        assert!(!sim.reactor().is_open(responder.id()), "{name}");
        assert_eq!(sim.reactor().connection_count(), 0, "{name}");
    }
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
    assert_eq!(ask(&mut sim, &get("/twice")).text(), "one");
    assert_eq!(sim.state().sent, [Sent::Queued, Sent::Gone]);
    sim.state().sent.clear();
    assert_eq!(ask(&mut sim, &get("/both")).text(), "then");
    assert_eq!(sim.state().sent, [Sent::Gone, Sent::Queued, Sent::Gone]);
    sim.state().sent.clear();

    // The connection goes on, and nothing is owed on it.
    let stream = sim.connect();
    stream.write(get("/after").repeat(2));
    sim.advance(seconds(61));
    let all = answers(&stream.read());
    assert!(all.len() == 2 && all.iter().all(|answer| answer.text() == "now"));
    assert_eq!(sim.state().sent, [Sent::Gone, Sent::Gone]);

    // Who neither answers nor takes it for later has forgotten it: the client need not wait.
    let (bytes, is_closed) = exchange(&mut sim, &[get("/never").as_bytes()]);
    assert!(answer(&bytes).status == 500 && !is_closed);

    let (bytes, is_closed) = exchange(&mut sim, &[get("/panic").repeat(2).as_bytes()]);
    assert!(answer(&bytes).status == 500 && is_closed);
    assert_eq!(sim.reactor().stats().panics, 1);
    assert_eq!(ask(&mut sim, &get("/twice")).text(), "one", "others go on");
}

// ── streamed bodies ──────────────────────────────────────────────────────────────────────────

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
    assert_eq!(sim.state().sent, [Sent::Gone, Sent::Gone], "behind its end");
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
    let (bytes, is_closed) = exchange(&mut sim, &[get("/fail").as_bytes()]);
    let cut = answer(&bytes);
    assert_eq!(cut.status, 200);
    assert!(!cut.is_whole && is_closed);

    // The same of a client that does not read.
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

// ── routes ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_unsupported_method_is_405_with_the_allowed_ones() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/a", |request| request.reply("got"));
            router.post("/a", |request| request.reply("posted"));
            router.method("DELETE", "/b/:id", |request| request.reply("deleted"));
            router.websocket("/ws", |_| {});
            router.method("*", "/any", |request| {
                let method = request.method().to_owned();
                request.reply(method)
            });
        })
    });
    let cases = [
        ("DELETE", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
        ("PUT", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
        ("GET", "/b/1", 405, Some("DELETE, OPTIONS")),
        ("DELETE", "/b/1", 200, None),
        ("DELETE", "/c", 404, None),
        ("OPTIONS", "/a", 204, Some("GET, POST, HEAD, OPTIONS")),
        ("OPTIONS", "*", 204, Some("OPTIONS")),
        ("OPTIONS", "/c", 404, None),
        ("CONNECT", "h:80", 405, Some("OPTIONS")),
        ("PATCH", "/any", 200, None),
        ("OPTIONS", "/any", 200, None),
        ("POST", "/ws", 405, Some("GET, HEAD, OPTIONS")),
        ("OPTIONS", "/ws", 204, Some("GET, HEAD, OPTIONS")),
        ("GET", "/ws", 426, None),
        ("TRACE", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
    ];
    for (method, target, status, allow) in cases {
        let request = format!("{method} {target} HTTP/1.1\r\n{HOST}\r\n");
        let (bytes, is_closed) = exchange(&mut sim, &[request.as_bytes()]);
        let answered = answer(&bytes);
        assert_eq!(answered.status, status, "{method} {target}");
        assert_eq!(answered.header("allow"), allow, "{method} {target}");
        assert!(!is_closed, "{method} {target}");
    }
}

#[test]
fn one_port_serves_parameters_and_several_protocols() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", |request| request.reply("page"));
            router.get("/chat", |request| request.event_stream().subscribe("chat"));
            router.get("/rooms/:room/users/:user", |request| {
                let text = format!(
                    "{:?} {:?} {:?}",
                    request.param("room"),
                    request.param("user"),
                    request.param("other")
                );
                request.reply(text)
            });
            router.get("/files/*", |request| {
                let path = request.path().to_owned();
                request.reply(path)
            });
            router.websocket("/ws", |ws| {
                ws.on_message(|ws, message| ws.publish("chat", message));
            });
            router.websocket("/cable/:name", |ws| {
                ws.on_open(|ws, handshake| {
                    ws.send(handshake.param("name").unwrap_or_default().into_owned())
                });
            });
        })
    });
    let cases = [
        ("/", 200, "page"),
        ("/rooms/7/users/ann", 200, "Some(\"7\") Some(\"ann\") None"),
        (
            "/rooms/a%2Fb/users/%C3%A9+x",
            200,
            "Some(\"a/b\") Some(\"\u{e9}+x\") None",
        ),
        ("/rooms/7/users/%ff", 200, "Some(\"7\") None None"),
        ("/rooms/7/users/", 404, "404 Not Found\n"),
        ("/rooms/7/users/ann/more", 404, "404 Not Found\n"),
        ("/files/a/b.txt", 200, "/files/a/b.txt"),
        ("/nothing", 404, "404 Not Found\n"),
    ];
    for (path, status, text) in cases {
        let answered = ask(&mut sim, &get(path));
        assert_eq!((answered.status, answered.text()), (status, text), "{path}");
    }
    let reader = sim.connect();
    reader.write(get("/chat"));
    sim.settle();
    let socket = sim.websocket("/ws");
    socket.send("hi");
    sim.settle();
    assert!(answer(&reader.read()).text().ends_with("data: hi\n\n"));
    let cable = sim.websocket("/cable/b%20c");
    assert_eq!(cable.received(), ["b c"]);
}

#[test]
fn queries_and_forms_are_decoded() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/query", |request| {
                let all: Vec<_> = request.queries("t").collect();
                let text = format!("{:?} {:?} {all:?}", request.query("a"), request.query("b"));
                request.reply(text)
            });
            router.post("/form", |request| {
                let text = format!("{:?} {:?}", request.form("message"), request.text());
                request.reply(text)
            });
        })
    });
    let queries = [
        ("/query?a=1&b=2", "Some(\"1\") Some(\"2\") []"),
        ("/query?a=b%20c+d&a=second", "Some(\"b c d\") None []"),
        (
            "/query?t=1&t=2&t=&t",
            "None None [\"1\", \"2\", \"\", \"\"]",
        ),
        ("/query?a=%C3%A9&b=%2", "Some(\"\u{e9}\") Some(\"%2\") []"),
        ("/query?a=%ff", "None None []"),
        ("/query", "None None []"),
    ];
    for (target, text) in queries {
        assert_eq!(ask(&mut sim, &get(target)).text(), text, "{target}");
    }
    let forms = [
        (
            "message=a%20b+c",
            "Some(\"a b c\") Some(\"message=a%20b+c\")",
        ),
        (
            "x=1&message=%E2%82%AC",
            "Some(\"\u{20ac}\") Some(\"x=1&message=%E2%82%AC\")",
        ),
        ("other=1", "None Some(\"other=1\")"),
        ("", "None Some(\"\")"),
    ];
    for (body, text) in forms {
        assert_eq!(ask(&mut sim, &post("/form", body)).text(), text, "{body}");
    }
    let head = format!("POST /form HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\n");
    let (bytes, _) = exchange(&mut sim, &[head.as_bytes(), b"message=\xff"]);
    assert_eq!(answer(&bytes).text(), "None None", "not UTF-8");
}

// ── answers ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_answer_has_exactly_these_bytes() {
    let mut sim = server();
    let (bytes, _) = exchange(&mut sim, &[get("/").as_bytes()]);
    // The simulation began at 1,000,000,000 seconds after 1970.
    let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    sim.advance(seconds(61));
    let (bytes, _) = exchange(&mut sim, &[b"junk\r\n\r\n"]);
    let expected = "HTTP/1.1 400 Bad Request\r\nDate: Sun, 09 Sep 2001 01:47:41 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n\
                    Connection: close\r\n\r\n400 Bad Request\n";
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[test]
fn a_header_that_would_split_the_answer_is_an_error() {
    let bad = [
        ("X-A", "a\r\nX-B: c"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X-A\r\nX-B", "c"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("CONNECTION", "close"),
        ("Date", "today"),
    ];
    for (name, value) in bad {
        assert!(
            Reply::new(Status::OK).header(name, value).is_err(),
            "{name:?} {value:?}"
        );
        assert!(
            Reply::check_header(name, value).is_err(),
            "{name:?} {value:?}"
        );
    }
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/type", |request| {
                request.reply(Reply::from("fine").content_type("a/b\r\nSet-Cookie: c"))
            });
            router.get("/", |request| {
                let value = request.query("value").unwrap_or_default();
                match Reply::new(Status::OK).header("X-Value", value) {
                    Ok(reply) => request.reply(reply.body("fine")),
                    Err(error) => request.reply((Status::BAD_REQUEST, error.to_string())),
                }
            });
        })
    });
    let fine = ask(&mut sim, &get("/?value=a%09b%C3%A9"));
    assert_eq!(
        (fine.status, fine.header("x-value")),
        (200, Some("a\tb\u{e9}"))
    );
    let refused = ask(&mut sim, &get("/?value=a%0d%0aSet-Cookie:%20b"));
    assert_eq!((refused.status, refused.header("set-cookie")), (400, None));
    let untyped = ask(&mut sim, &get("/type"));
    assert_eq!(
        (untyped.text(), untyped.header("set-cookie")),
        ("fine", None)
    );
}

#[test]
fn a_guard_runs_before_every_route_and_for_unknown_paths() {
    let mut sim = Sim::new(Notes::default(), |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.guard(|request| match request.query("who").as_deref() {
                Some("stranger") => Err((Status::UNAUTHORIZED, "who are you?").into()),
                Some("known") => {
                    request.reply("at the door");
                    Ok(())
                }
                _ => Ok(()),
            });
            router.get("/", |request| {
                request.state.note("called");
                request.reply("inside")
            });
        })
    });
    let cases = [
        ("/", 200, "inside"),
        ("/?who=stranger", 401, "who are you?"),
        ("/?who=known", 200, "at the door"),
        ("/nowhere?who=known", 200, "at the door"),
        ("/nowhere", 404, "404 Not Found\n"),
    ];
    for (target, status, text) in cases {
        let stream = sim.connect();
        stream.write(get(target).repeat(2));
        sim.settle();
        let answers = answers_to(&[], &stream.read());
        assert_eq!(answers.len(), 2, "{target}");
        for answer in answers {
            assert_eq!((answer.status, answer.text()), (status, text), "{target}");
        }
    }
    assert_eq!(sim.state().lines, ["called"; 2]);
}

// ── origins ──────────────────────────────────────────────────────────────────────────────────

fn router_with_origins(absent: bool) -> Sim<Notes> {
    Sim::new(Notes::default(), move |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Notes>| {
            router.origins(Origins::Listed {
                origins: vec![
                    "https://app.example.org".into(),
                    "http://other:3000/".into(),
                ],
                absent,
            });
            router.get("/", |request| {
                request.state.note("called");
                request.reply("hello")
            });
            router.post("/publish", |request| request.reply("published"));
            router.get("/later", |request| {
                let responder = request.reply_later();
                request
                    .reactor
                    .next_tick(move |cx| cx.reactor.reply(responder, "at last"));
            });
            router.get("/never", |request| request.reply_later());
            router.get("/panic", |_| panic!("of a test"));
            router.get("/forgotten", |_| ());
            router.get("/events", |request| request.event_stream().subscribe("t"));
            router.get("/ticks", |request| request.stream("text/plain"));
            router.websocket("/ws", |_| {});
        })
    })
}

fn with_origin(request: &str, origin: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"), 1)
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let mut sim = router_with_origins(true);
    let cases = [
        ("https://app.example.org", 200),
        ("HTTPS://APP.example.org", 200),
        ("http://other:3000", 200),
        ("http://h", 200),
        ("https://h", 200),
        ("https://evil.example.org", 403),
        ("https://app.example.org.evil.net", 403),
        ("http://app.example.org", 403),
        ("https://app.example.org:8443", 403),
        ("http://h:81", 403),
        ("null", 403),
        ("", 403),
        ("\u{e9}", 403),
        ("ftp://h", 403),
    ];
    for (origin, status) in cases {
        for request in [get("/"), post("/publish", "x")] {
            let answered = ask(&mut sim, &with_origin(&request, origin));
            assert_eq!(answered.status, status, "{origin:?}");
            assert_eq!(answered.closes(), status == 403, "{origin:?}");
            let allowed = (status == 200).then_some(origin);
            assert_eq!(answered.header("access-control-allow-origin"), allowed);
            assert_eq!(answered.header("vary"), allowed.map(|_| "Origin"));
        }
        for path in ["/events", "/ticks"] {
            let (bytes, _) = exchange(&mut sim, &[with_origin(&get(path), origin).as_bytes()]);
            let answered = answer(&bytes);
            assert_eq!(answered.status, status, "{path} {origin:?}");
            let allowed = (status == 200).then_some(origin);
            assert_eq!(answered.header("access-control-allow-origin"), allowed);
        }
    }
    let called = cases.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(
        sim.state().lines.len(),
        called,
        "a refused request reaches no route"
    );

    assert!(
        sim.try_websocket("/ws", &[("Origin", "https://app.example.org")])
            .is_ok()
    );
    assert!(
        sim.try_websocket("/ws", &[("Origin", "http://sim")])
            .is_ok()
    );
    assert!(sim.try_websocket("/ws", &[]).is_ok());
    let refused = sim.try_websocket("/ws", &[("Origin", "https://evil.example.org")]);
    assert!(refused.is_err_and(|answer| answer.starts_with("HTTP/1.1 403")));
}

#[test]
fn serving_requests_without_an_origin_is_configurable() {
    for (absent, status) in [(true, 200), (false, 403)] {
        let mut sim = router_with_origins(absent);
        let answered = ask(&mut sim, &get("/"));
        assert_eq!(answered.status, status);
        assert_eq!(answered.header("access-control-allow-origin"), None);
        assert_eq!(sim.try_websocket("/ws", &[]).is_ok(), absent);
    }
}

#[test]
fn the_host_of_an_absolute_target_overrides_the_header() {
    let mut sim = router_with_origins(true);
    let request = "GET http://h/ HTTP/1.1\r\nHost: evil\r\nOrigin: http://evil\r\n\r\n";
    assert_eq!(ask(&mut sim, request).status, 403);
    let request = "GET http://h/ HTTP/1.1\r\nHost: evil\r\nOrigin: http://h\r\n\r\n";
    assert_eq!(ask(&mut sim, request).status, 200);
}

#[test]
fn a_foreign_origin_is_refused_before_its_body_is_read() {
    let mut sim = router_with_origins(true);
    let request = format!("POST /publish HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\n");
    let stream = sim.connect();
    stream.write(with_origin(&request, "https://evil.example.org"));
    sim.settle();
    let refused = answer(&stream.read());
    assert!(refused.status == 403 && refused.closes());
}

#[test]
fn a_preflight_is_answered_with_the_allowed_methods_and_headers() {
    let mut sim = router_with_origins(true);
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /publish HTTP/1.1\r\n{HOST}Origin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization\r\n\r\n"
        )
    };
    let allowed = ask(&mut sim, &preflight("https://app.example.org"));
    assert_eq!(allowed.status, 204);
    let headers = [
        ("access-control-allow-origin", "https://app.example.org"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "authorization"),
    ];
    for (name, value) in headers {
        assert_eq!(allowed.header(name), Some(value), "{name}");
    }
    let refused = ask(&mut sim, &preflight("https://evil.example.org"));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-methods"), None);
}

#[test]
fn a_later_reply_allows_the_origin_of_its_request() {
    let mut sim = router_with_origins(true);
    let origin = "https://app.example.org";
    let answered = ask(&mut sim, &with_origin(&get("/later"), origin));
    assert_eq!(answered.body, b"at last");
    assert_eq!(answered.header("access-control-allow-origin"), Some(origin));
    assert_eq!(answered.header("vary"), Some("Origin"));
    let answered = ask(&mut sim, &get("/later"));
    assert_eq!(answered.header("access-control-allow-origin"), None);
}

#[test]
fn a_failure_answer_allows_the_origin_of_its_request() {
    let mut sim = router_with_origins(true);
    let origin = "https://app.example.org";
    for (path, status) in [("/never", 503), ("/panic", 500), ("/forgotten", 500)] {
        let stream = sim.connect();
        stream.write(with_origin(&get(path), origin));
        sim.advance(seconds(61));
        let failed = answer(&stream.read());
        assert_eq!(failed.status, status, "{path}");
        assert_eq!(
            failed.header("access-control-allow-origin"),
            Some(origin),
            "{path}"
        );
    }
    // What its body cannot be, and that its body never comes, is said to the page too.
    let post = |length: usize| {
        let request = format!("POST /publish HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n");
        with_origin(&request, origin)
    };
    for (request, status) in [(post(1 << 30), 413), (post(9), 408)] {
        let stream = sim.connect();
        stream.write(request);
        sim.advance(seconds(120));
        let failed = answer(&stream.read());
        assert_eq!(failed.status, status);
        assert_eq!(failed.header("access-control-allow-origin"), Some(origin));
    }
    // What is no request is nobody's.
    let answered = ask(&mut sim, &with_origin("nonsense\r\n", origin));
    assert_eq!(answered.header("access-control-allow-origin"), None);
}

#[test]
fn a_router_for_any_origin_answers_with_an_asterisk() {
    let mut sim = server();
    let answered = ask(&mut sim, &with_origin(&get("/"), "https://anyone"));
    assert_eq!(answered.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        ask(&mut sim, &get("/")).header("access-control-allow-origin"),
        None
    );
}

// ── upgrades ─────────────────────────────────────────────────────────────────────────────────

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn an_invalid_upgrade_is_refused_with_the_status_of_its_fault() {
    let change = |from: &str, to: &str| {
        assert!(UPGRADE.contains(from), "{from}");
        UPGRADE.replacen(from, to, 1)
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13";
    let cases = [
        ("as it should be", UPGRADE.to_owned(), 101),
        (
            "tokens in any case, in lists",
            change(
                "Connection: Upgrade\r\nUpgrade: websocket",
                "Connection: keep-alive, upGRADE\r\nUpgrade: h2c, WebSocket",
            ),
            101,
        ),
        (
            "tokens in several lines",
            change(
                "Connection: Upgrade",
                "Connection: keep-alive\r\nConnection: Upgrade",
            ),
            101,
        ),
        ("a POST", change("GET", "POST"), 400),
        ("no Connection", change("Connection: Upgrade\r\n", ""), 400),
        (
            "a Connection without upgrade",
            change("Connection: Upgrade", "Connection: upgrades"),
            400,
        ),
        ("no key", change(key, ""), 400),
        ("two keys", change(key, &key.repeat(2)), 400),
        (
            "a short key",
            change("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            400,
        ),
        (
            "a key that is not base64",
            change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j*Q=="),
            400,
        ),
        (
            "no version",
            change("Sec-WebSocket-Version: 13\r\n", ""),
            426,
        ),
        ("a draft", change(version, "Sec-WebSocket-Version: 8"), 426),
        (
            "hixie 76",
            change(
                "Sec-WebSocket-Version: 13\r\n",
                "Sec-WebSocket-Key1: 1 2\r\nSec-WebSocket-Key2: 3 4\r\n",
            ),
            426,
        ),
        (
            "a body",
            change("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"),
            400,
        ),
        (
            "a body in chunks",
            change(
                "\r\n\r\n",
                "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            400,
        ),
        ("another path", change("/ws", "/elsewhere"), 404),
        ("no upgrade at all", get("/ws"), 426),
        ("HTTP/1.0", change("HTTP/1.1", "HTTP/1.0"), 426),
        ("no Upgrade", change("Upgrade: websocket\r\n", ""), 426),
    ];
    let mut sim = server();
    for (name, request, status) in cases {
        let (bytes, is_closed) = exchange(&mut sim, &[request.as_bytes()]);
        let answered = answer(&bytes);
        assert_eq!(answered.status, status, "{name}");
        assert_eq!(is_closed, status == 400 || name == "HTTP/1.0", "{name}");
        let mut options = answered.headers.iter();
        let says_close = options.any(|(name, value)| name == "connection" && value == "close");
        assert_eq!(says_close, is_closed, "{name}");
        if status == 426 {
            assert_eq!(
                answered.header("sec-websocket-version"),
                Some("13"),
                "{name}"
            );
            assert_eq!(answered.header("upgrade"), Some("websocket"), "{name}");
            let options = answered
                .headers
                .iter()
                .filter(|(name, _)| name == "connection");
            assert!(
                options.clone().any(|(_, value)| value == "Upgrade"),
                "{name}"
            );
        }
        assert_same_when_cut(&mut sim, name, request.as_bytes());
    }
}

#[test]
fn bytes_behind_an_upgrade_belong_to_the_websocket() {
    // "Hello", masked. Source: RFC 6455, section 5.7.
    let frame = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let mut sim = server();
    let request = [UPGRADE.as_bytes(), &frame, &frame].concat();
    let (bytes, is_closed) = exchange(&mut sim, &[&request]);
    let echo = b"\x81\x05Hello";
    assert!(bytes.starts_with(b"HTTP/1.1 101 "));
    assert!(bytes.ends_with(&echo.repeat(2)));
    assert!(!is_closed);
    assert_same_when_cut(&mut sim, "frames behind the upgrade", &request);
}

#[test]
fn while_draining_upgrades_get_503_and_answers_close() {
    let mut sim = server();
    let waits = sim.connect();
    waits.write(get("/later"));
    sim.settle();
    // Goodbyes are said in the order in which connections came: the last has time to ask.
    let others: Vec<SimStream> = (0..20).map(|_| sim.connect()).collect();
    sim.reactor().drain(seconds(10));
    let last = others.last().expect("twenty");
    last.write(UPGRADE);
    sim.advance(seconds(1));
    let refused = answer(&last.read());
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some() && refused.closes());

    let responder = sim.state().responders[0];
    assert_eq!(sim.reactor().reply(responder, "done"), Sent::Queued);
    sim.settle();
    let done = answer(&waits.read());
    assert!(done.text() == "done" && done.closes());
}
