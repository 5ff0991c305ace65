//! Which requests are served and which are refused.

use crate::support::{answer, answers, get, post};
use crate::{HOST, assert_same_when_cut, exchange, server};

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
        // The answer to a second request shows that the first ended at the right byte.
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

/// Requests that must be refused, with their status.
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
        // Bytes behind an invalid request are not parsed, since its end is unknown.
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

#[test]
fn a_header_that_is_no_text_counts_as_present() {
    let mut sim = server();
    let request = [b"GET /header HTTP/1.1\r\nHost: h\r\nX-Value: caf\xe9\r\n\r\n".as_slice()];
    let (bytes, _) = exchange(&mut sim, &request);
    assert_eq!(answer(&bytes).text(), "<\u{fffd}>");
}
