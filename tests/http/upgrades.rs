//! Upgrades to a WebSocket on a port that serves HTTP.

use waterwheel::{Sent, SimStream};

use crate::support::{answer, get};
use crate::{assert_same_when_cut, exchange, seconds, server};

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
    // A drain ends connections in the order in which they came, so the last one has time to ask.
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
