//! Broadcasts of a backend over HTTP, in AnyCable's words.

use waterwheel::hub::{Access, CableOptions};

use super::*;

/// printf broadcast-cable | openssl dgst -sha256 -hmac secret
const KEY: &str = "fc20575eaa046c555be789f7a9df5111d64eb17e4956597597c3220c1ad14739";

fn serve_broadcasts() -> World {
    let cable = CableOptions {
        secrets: vec!["secret".to_owned()],
        ..options()
    };
    serve_with(1, cable, &Access::default())
}

impl World {
    fn broadcast(&mut self, key: &str, body: &str) -> u16 {
        let request = format!(
            "POST /_broadcast HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.request(&request).status
    }
}

#[test]
fn a_broadcast_reaches_the_stream() {
    let mut world = serve_broadcasts();
    let client = world.subscriber(&signed(CHAT));
    let one = r#"{"stream":"chat/2024","data":"{\"x\":1}"}"#;
    assert_eq!(world.broadcast(KEY, one), 201);
    assert_eq!(client.received(), [message(&signed(CHAT), r#"{"x":1}"#)]);
    let two = r#" [{"stream":"chat/2024","data":"a"},{"stream":"chat/2024","data":"2","meta":{}}]"#;
    assert_eq!(world.broadcast(KEY, two), 201);
    let expected = [
        message(&signed(CHAT), r#""a""#),
        message(&signed(CHAT), "2"),
    ];
    assert_eq!(client.received(), expected);
}

#[test]
fn a_broadcast_needs_the_key() {
    let mut world = serve_broadcasts();
    let client = world.subscriber(&signed(CHAT));
    let body = r#"{"stream":"chat/2024","data":"1"}"#;
    for key in ["", "secret", &KEY[1..], &KEY.to_uppercase()] {
        assert_eq!(world.broadcast(key, body), 401, "{key}");
    }
    assert_eq!(client.received(), [""; 0]);
    // Without a key the rights are those of the hub's backend.
    let mut closed = serve();
    assert_eq!(closed.broadcast("", body), 401);
    let access = Access {
        token: Some("the token of the backend".into()),
        ..Access::default()
    };
    let mut world = serve_with(1, options(), &access);
    assert_eq!(world.broadcast("", body), 401);
    assert_eq!(world.broadcast("the token of the backend", body), 201);
}

#[test]
fn a_broadcast_that_is_not_valid_is_refused_whole() {
    let mut world = serve_broadcasts();
    let client = world.subscriber(&signed(CHAT));
    let deep = format!(
        r#"{{"stream":"a","data":"1","meta":{}1{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let many = format!(
        "[{}0]",
        r#"{"stream":"chat/2024","data":"1"},"#.repeat(1001)
    );
    for body in [
        "",
        "{}",
        "[7]",
        r#"{"stream":"chat/2024"}"#,
        r#"{"stream":"chat/2024","data":{}}"#,
        r#"{"stream":"","data":"1"}"#,
        r#"{"stream":7,"data":"1"}"#,
        r#"{"stream":"chat/2024","stream":"x","data":"1"}"#,
        r#"[{"stream":"chat/2024","data":"1"},{"stream":"chat/2024"}]"#,
        r#"{"command":"disconnect"}"#,
        r#"{"command":"disconnect","payload":{}}"#,
        &deep,
        &many,
    ] {
        assert_eq!(world.broadcast(KEY, body), 400, "{body:.80}");
    }
    assert_eq!(client.received(), [""; 0]);
}

#[test]
fn an_order_to_disconnect_comes_the_same_way() {
    let mut world = serve_broadcasts();
    let order = r#"{"command":"disconnect","payload":{"identifier":"{\"user\":\"u1\"}","reconnect":false}}"#;
    assert_eq!(world.broadcast(KEY, order), 201);
}
