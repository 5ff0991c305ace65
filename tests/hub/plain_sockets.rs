//! WebSockets without a subprotocol: each text is a topic or a pattern.

use serde_json::json;
use waterwheel::Config;

use crate::{open, open_with, plain, publish, say};

#[test]
fn each_text_of_a_plain_socket_is_a_topic_or_a_pattern() {
    let mut sim = open();
    let socket = plain(&mut sim, &["one", "user:*", "h[ae]llo", "back\\*slash"]);
    for (topic, text) in [
        ("one", "1"),
        ("two", "2"),
        ("user:7", "3"),
        ("hello", "4"),
        ("hillo", "5"),
        ("back*slash", "6"),
        ("backxslash", "7"),
        ("one", "8"),
    ] {
        publish(&mut sim, topic, text);
    }
    assert_eq!(socket.received(), ["1", "3", "4", "6", "8"]);
    // A later subscription gets later publications.
    socket.send("two");
    sim.settle();
    publish(&mut sim, "two", "9");
    assert_eq!(socket.received(), ["9"]);
}

#[test]
fn an_invalid_text_on_a_plain_socket_closes_it_with_the_reason() {
    let long = "t".repeat(257);
    let mut sim = open_with(Config {
        subscriptions_max: 2,
        ..Config::default()
    });
    for (name, said) in [
        ("empty", vec![""]),
        ("a line end", vec!["a\nb"]),
        ("too long", vec![long.as_str()]),
        ("too many", vec!["a", "b", "c"]),
    ] {
        let socket = sim.websocket("/ws");
        for text in said {
            socket.send(text);
        }
        sim.settle();
        socket.take_events();
        assert_eq!(socket.close_code(), Some(1008), "{name}");
    }
    let socket = sim.websocket("/ws");
    socket.send(&b"topic"[..]);
    sim.settle();
    socket.take_events();
    assert_eq!(socket.close_code(), Some(1003));
    assert_eq!(sim.reactor().stats().panics, 0);
}

#[test]
fn a_socket_without_the_subprotocol_is_plain() {
    let mut sim = open();
    let offers = [("Sec-WebSocket-Protocol", "chat, waterwheel.v2.json")];
    let socket = sim.try_websocket("/ws", &offers).expect("an upgrade");
    assert!(!socket.head().contains("Sec-WebSocket-Protocol"));
    socket.send("{\"subscribe\":\"t\"}");
    sim.settle();
    // Without the envelope this text is an ordinary name.
    assert_eq!(
        publish(&mut sim, "%7B%22subscribe%22:%22t%22%7D", "x"),
        (1, 1)
    );
    assert_eq!(socket.received(), ["x"]);

    let offers = [("Sec-WebSocket-Protocol", "chat, waterwheel.v1.json")];
    let socket = sim.try_websocket("/ws", &offers).expect("an upgrade");
    let answered = say(&mut sim, &socket, json!({"subscribe": "t"}));
    assert_eq!(answered, [json!({"subscribed": "t"})]);
}
