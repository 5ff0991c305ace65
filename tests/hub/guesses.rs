//! Wrong tokens: how they are answered, wherever a client gives them.

use std::time::Duration;

use super::*;

/// As many wrong tokens wait for their answer at the same time.
const WAITING_MAX: usize = 256;

fn upgrade(target: &str) -> String {
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    with(&get(target), lines)
}

fn guess() -> String {
    post("/publish?topic=t&token=guess", "x")
}

fn send(sim: &mut Sim<()>, request: &str) -> SimStream {
    let stream = sim.connect();
    stream.write(request);
    sim.settle();
    stream
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_pause_grows_by_address_wherever_the_token_is() {
    let mut sim = guarded();
    let bearer = "Authorization: Bearer guess";
    let envelope = with(
        &upgrade("/ws"),
        &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{bearer}"),
    );
    let unauthorized = "HTTP/1.1 401 ";
    let opened = "HTTP/1.1 101 ";
    let cases = [
        (guess(), unauthorized),
        (get("/events?topic=a*&token=guess"), unauthorized),
        (upgrade("/ws?token=guess"), opened),
        (envelope, opened),
        (with(&get("/events?topic=a*"), bearer), unauthorized),
        (with(&post("/publish?topic=t", "x"), bearer), unauthorized),
        (upgrade("/ws?token=guess"), opened),
    ];
    let mut pause = 100;
    for (request, status) in cases {
        let stream = send(&mut sim, &request);
        sim.advance(millis(pause - 1));
        assert_eq!(stream.read_text(), "", "{request}");
        // A right token is not slowed by the wrong ones of its address.
        assert_eq!(publish(&mut sim, "t&token=secret", "x").1, 0);
        sim.advance(millis(1));
        let text = stream.read_text();
        assert!(text.starts_with(status), "{request}{text}");
        // 1008 at once for another WebSocket of an address that has given more than five.
        assert_eq!(text.contains("too many wrong tokens"), pause == 6400);
        pause *= 2;
    }
    assert_eq!(sim.reactor().stats().wrong_tokens, 7);
    // Without a token there is no guess.
    assert_eq!(ask(&mut sim, &post("/publish?topic=t", "x")).status, 401);
    assert_eq!(sim.reactor().stats().wrong_tokens, 7);
}

#[test]
fn a_wrong_token_in_the_handshake_gives_no_right() {
    // Masked with zeros.
    let text = |text: &str| {
        [
            &[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0],
            text.as_bytes(),
        ]
        .concat()
    };
    let mut sim = guarded();
    let stream = sim.connect();
    stream.write(upgrade("/ws?token=guess"));
    stream.write(text("t"));
    sim.advance(millis(100));
    assert!(stream.read_text().starts_with("HTTP/1.1 101 "));
    assert_eq!(publish(&mut sim, "t&token=secret", "x").1, 1);
    assert_eq!(stream.read(), b"\x81\x01x");
    stream.write(text("t*"));
    sim.settle();
    assert!(stream.read_text().contains("a pattern needs a token"));
}

#[test]
fn the_fifth_wrong_token_ends_a_socket() {
    let mut sim = guarded();
    let socket = envelope(&mut sim);
    // Sent at once, and answered one by one.
    for _ in 1..=6 {
        socket.send(json!({"auth": "guess"}).to_string());
    }
    sim.settle();
    let wrong = json!({"error": "wrong token", "code": "unauthorized"});
    for pause in [100, 200, 400, 800] {
        sim.advance(millis(pause - 1));
        assert_eq!(
            values(&socket),
            [Value::Null; 0],
            "in a pause of {pause} ms"
        );
        sim.advance(millis(1));
        assert_eq!(
            values(&socket),
            std::slice::from_ref(&wrong),
            "after {pause} ms"
        );
    }
    sim.advance(millis(1599));
    assert!(!socket.is_closed());
    sim.advance(millis(1));
    assert_eq!(values(&socket), [Value::Null; 0]);
    assert_eq!(socket.close_code(), Some(1008));
    assert_eq!(sim.reactor().stats().wrong_tokens, 5);
}

#[test]
fn a_wrong_token_in_the_handshake_is_the_first_of_five() {
    let mut sim = guarded();
    let request = with(
        &upgrade("/ws?token=guess"),
        &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}"),
    );
    let stream = send(&mut sim, &request);
    sim.advance(millis(100));
    assert!(stream.read_text().starts_with("HTTP/1.1 101 "));
    let text = json!({"auth": "guess"}).to_string();
    // A masked text frame with an empty mask.
    let frame = [
        &[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0],
        text.as_bytes(),
    ]
    .concat();
    stream.write(frame.repeat(5));
    sim.settle();
    for pause in [200, 400, 800, 1600] {
        sim.advance(millis(pause));
    }
    assert_eq!(sim.reactor().stats().wrong_tokens, 5);
    let received = stream.read();
    let has_policy_violation = received
        .windows(2)
        .any(|pair| pair == 1008_u16.to_be_bytes());
    assert!(has_policy_violation, "{received:?}");
}

#[test]
fn a_right_token_after_a_wrong_one_is_taken() {
    let mut sim = guarded();
    let socket = envelope(&mut sim);
    socket.send(json!({"auth": "guess"}).to_string());
    socket.send(json!({"auth": "secret"}).to_string());
    socket.send(json!({"subscribe": "a*"}).to_string());
    sim.settle();
    assert_eq!(values(&socket), [Value::Null; 0]);
    sim.advance(millis(100));
    let answers = values(&socket);
    assert_eq!(answers[0]["code"], "unauthorized");
    let expected = [json!({"authorized": {}}), json!({"subscribed": "a*"})];
    assert_eq!(answers[1..], expected);
}

#[test]
fn a_bounded_number_of_wrong_tokens_waits() {
    let mut sim = guarded();
    let fill =
        |sim: &mut Sim<()>| -> Vec<_> { (0..WAITING_MAX).map(|_| send(sim, &guess())).collect() };
    let waiting = fill(&mut sim);
    assert!(waiting.iter().all(|stream| stream.read().is_empty()));
    let envelope = envelope(&mut sim);
    for request in [guess(), upgrade("/ws?token=guess")] {
        let stream = send(&mut sim, &request);
        let text = stream.read_text();
        assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        stream.close();
    }
    say(&mut sim, &envelope, json!({"auth": "guess"}));
    assert_eq!(envelope.close_code(), Some(1008));
    // Those that have gone do not count.
    for stream in waiting {
        stream.reset();
    }
    sim.settle();
    let waiting = fill(&mut sim);
    sim.advance(seconds(21));
    assert!(waiting.iter().all(|stream| !stream.read().is_empty()));
    let stream = send(&mut sim, &guess());
    assert_eq!(stream.read_text(), "");
}

#[test]
fn a_socket_that_has_gone_leaves_its_place_to_others() {
    let mut sim = guarded();
    for _ in 0..2 * WAITING_MAX {
        let socket = envelope(&mut sim);
        assert_eq!(
            say(&mut sim, &socket, json!({"auth": "guess"})),
            [Value::Null; 0]
        );
        assert!(!socket.is_closed());
        socket.vanish();
        sim.settle();
    }
}

#[test]
fn a_drain_does_not_wait_for_wrong_tokens() {
    let mut sim = guarded();
    for _ in 0..12 {
        // The pause of the last one is 20 seconds.
        send(&mut sim, &guess());
    }
    let finished = send(&mut sim, &guess());
    finished.finish();
    let upgrade = send(&mut sim, &upgrade("/ws?token=guess"));
    sim.settle();
    assert_eq!(finished.read_text(), "");
    sim.reactor().drain(seconds(5));
    sim.advance(millis(100));
    assert!(finished.read_text().starts_with("HTTP/1.1 401 "));
    assert!(upgrade.read_text().starts_with("HTTP/1.1 503 "));
    let late = send(&mut sim, &guess());
    assert!(late.read_text().starts_with("HTTP/1.1 401 "));
}

#[test]
fn the_page_does_not_depend_on_the_token() {
    let mut sim = guarded();
    let mut bodies = Vec::new();
    for token in ["secret", "secreT"] {
        let lines = [
            get(&format!("/?token={token}")),
            with(&get("/"), &format!("Authorization: Bearer {token}")),
        ];
        for request in lines {
            bodies.push(ask(&mut sim, &request).text().to_owned());
        }
    }
    bodies.push(ask(&mut sim, &get("/")).text().to_owned());
    assert!(bodies[0].contains("data-publishing=\"token\""));
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    let page = ask(&mut open(), &get("/"));
    assert!(page.text().contains("data-publishing=\"open\""));
}
