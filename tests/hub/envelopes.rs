//! WebSockets with the JSON envelope.

use serde_json::{Value, json};
use waterwheel::hub::{self, Access, SUBPROTOCOL};
use waterwheel::{Config, Sim};

use crate::support::{get, post};
use crate::{
    Reader, ask, envelope, guarded, open, open_with, plain, publish, published, say, seconds,
    subscribed, values, with,
};

#[test]
fn the_envelope_subscribes_publishes_and_unsubscribes() {
    let mut sim = open();
    let socket = subscribed(&mut sim, "room");
    let plain = plain(&mut sim, &["room"]);
    let mut reader = Reader::open(&mut sim, "/events?topic=room");
    let data = json!({"text": "hi \u{e9}", "n": [1, null, {"deep": true}]});
    let said = say(&mut sim, &socket, json!({"publish": "room", "data": data}));
    assert_eq!(said, [json!({"topic": "room", "id": "1:1", "data": data})]);
    let others: Value = serde_json::from_str(&plain.received()[0]).expect("JSON");
    assert_eq!(others, data);
    assert_eq!(reader.events().len(), 1);

    // The data is not rewritten, so a number keeps its digits.
    let exact = "{\"publish\":\"room\",\"data\":{\"z\":12345678901234567890.10,\"a\":1}}";
    socket.send(exact);
    sim.settle();
    let text = socket.received().concat();
    assert!(
        text.ends_with("\"data\":{\"z\":12345678901234567890.10,\"a\":1}}"),
        "{text}"
    );

    let named = json!({"publish": "room", "event": "join", "data": "ann"});
    let said = say(&mut sim, &socket, named);
    let expected = json!({"topic": "room", "id": "1:3", "event": "join", "data": "ann"});
    assert_eq!(said, [expected]);
    assert!(
        reader
            .text()
            .ends_with("id: 1:3\nevent: join\ndata: \"ann\"\n\n")
    );

    // A second subscription is confirmed too, and causes no second copy.
    let said = say(&mut sim, &socket, json!({"subscribe": "room"}));
    assert_eq!(said, [json!({"subscribed": "room"})]);
    let said = say(&mut sim, &socket, json!({"subscribe": "ro*"}));
    assert_eq!(said, [json!({"subscribed": "ro*"})]);
    assert_eq!(publish(&mut sim, "room", "x").1, 3);
    assert_eq!(values(&socket).len(), 1);

    let said = say(&mut sim, &socket, json!({"unsubscribe": "ro*"}));
    assert_eq!(said, [json!({"unsubscribed": "ro*"})]);
    assert_eq!(publish(&mut sim, "room", "x").1, 3);
    assert_eq!(values(&socket).len(), 1);
    let said = say(&mut sim, &socket, json!({"unsubscribe": "room", "ref": 7}));
    assert_eq!(said, [json!({"unsubscribed": "room", "ref": 7})]);
    assert_eq!(publish(&mut sim, "room", "x").1, 2);
    assert!(values(&socket).is_empty());
}

// A client had to compare topics with its patterns itself, by the rules of Redis.
#[test]
fn a_message_names_the_pattern_by_which_it_came() {
    let mut sim = open();
    let by_pattern = subscribed(&mut sim, "p.*");
    let by_other = subscribed(&mut sim, "p.[a\"]");
    let by_both = subscribed(&mut sim, "p.a");
    say(&mut sim, &by_both, json!({"subscribe": "p.*"}));
    let named = ask(&mut sim, &post("/publish?topic=p.a&event=e", "x"));
    assert_eq!(published(&named), (1, 3));
    let envelope = |by: Option<&str>| {
        let mut value = json!({"topic": "p.a", "id": "1:1", "event": "e", "data": "x"});
        if let Some(by) = by {
            value["by"] = json!(by);
        }
        value
    };
    assert_eq!(values(&by_pattern), [envelope(Some("p.*"))]);
    assert_eq!(values(&by_other), [envelope(Some("p.[a\"]"))]);
    assert_eq!(values(&by_both), [envelope(None)]);
    say(&mut sim, &by_both, json!({"unsubscribe": "p.a"}));
    publish(&mut sim, "p.a", "y");
    assert_eq!(values(&by_both)[0]["by"], "p.*");
}

#[test]
fn the_envelope_answers_invalid_commands_with_an_error() {
    let mut sim = open();
    let socket = envelope(&mut sim);
    let long = "t".repeat(600);
    let wrong = [
        json!({}),
        json!({"what": "ever"}),
        json!({"data": 1}),
        json!({"subscribe": 7}),
        json!({"subscribe": null}),
        json!({"subscribe": []}),
        json!({"subscribe": ["a", 1]}),
        json!({"subscribe": "a", "since": "x"}),
        json!({"subscribe": "a", "latest": 1}),
        json!({"publish": "t", "data": 1, "key": 1}),
        json!({"publish": "t", "data": 1, "key": ""}),
        json!({"publish": "t", "data": 1, "key": "a\nb"}),
        json!({"publish": "t", "data": 1, "key": "k".repeat(257)}),
        json!({"publish": "t", "data": 1, "others": 1}),
        json!({"subscribe": ""}),
        json!({"subscribe": "a\nb"}),
        json!({"subscribe": long}),
        json!({"unsubscribe": "never"}),
        json!({"unsubscribe": "never*"}),
        json!({"unsubscribe": true}),
        json!({"publish": "t"}),
        json!({"publish": "", "data": 1}),
        json!({"publish": "a\u{0}", "data": 1}),
        json!({"publish": 1, "data": 1}),
        json!({"publish": "t", "data": 1, "event": 5}),
        json!({"publish": "t", "data": 1, "event": "a\nb"}),
        json!([]),
        json!("subscribe"),
        json!(null),
    ];
    for about in wrong {
        let said = say(&mut sim, &socket, &about);
        assert_eq!(said.len(), 1, "{about}");
        let fields = said[0].as_object().expect("an object");
        assert_eq!(fields.len(), 3, "{about}: {fields:?}");
        assert_eq!(fields["code"], "bad");
        assert!(fields["error"].as_str().is_some_and(|why| !why.is_empty()));
        assert_eq!(fields["about"], about, "the faulty field");
    }
    for text in [
        "chat",
        "",
        "{\"subscribe\":\"a\"",
        "{'subscribe':'a'}",
        "\u{e9}\n\"",
    ] {
        let said = say(&mut sim, &socket, text);
        assert_eq!(said.len(), 1, "{text:?}");
        assert_eq!(said[0]["about"], text, "text that is no JSON is quoted");
    }
    let large = "x".repeat(50_000);
    let said = say(&mut sim, &socket, large);
    let about = said[0]["about"].as_str().expect("text");
    assert!(
        !about.is_empty() && about.len() < 1000,
        "{} bytes",
        about.len()
    );

    // The connection still works after these errors.
    assert_eq!(
        publish(&mut sim, "t", "x").0,
        1,
        "nothing of it was published"
    );
    let said = say(&mut sim, &socket, json!({"subscribe": "t"}));
    assert_eq!(said, [json!({"subscribed": "t"})]);

    socket.send(&b"{\"subscribe\":\"t\"}"[..]);
    sim.settle();
    socket.take_events();
    assert_eq!(socket.close_code(), Some(1003), "binary");
}

// Many readers of JSON recurse, and a member could be one of them.
#[test]
fn json_that_is_nested_too_deeply_is_refused() {
    let nested = |depth: usize| "[".repeat(depth) + "\"]}\\\"[{\"" + &"]".repeat(depth);
    let mut sim = open();
    let socket = subscribed(&mut sim, "t");
    // The message is an object, and counts too.
    let publish = |depth: usize| format!("{{\"publish\":\"t\",\"data\":{}}}", nested(depth));
    socket.send(publish(127));
    sim.settle();
    assert!(socket.received().concat().contains(&nested(127)));
    for depth in [128, 20_000] {
        for text in [publish(depth), nested(depth + 1)] {
            socket.received();
            let said = say(&mut sim, &socket, text);
            assert_eq!(said[0]["code"], "bad");
            let why = said[0]["error"].as_str().unwrap();
            assert!(why.contains("128"), "{why}");
        }
    }
    let json = |depth: usize| {
        with(
            &post("/publish?topic=t", &nested(depth)),
            "Content-Type: application/json",
        )
    };
    assert_eq!(published(&ask(&mut sim, &json(128))), (2, 1));
    for depth in [129, 100_000] {
        assert_eq!(ask(&mut sim, &json(depth)).status, 400, "{depth}");
    }
}

// One of the two was carried out, and the other one left out without a word.
#[test]
fn two_commands_in_one_message_are_an_error_and_none_is_carried_out() {
    let mut sim = open();
    let reader = subscribed(&mut sim, "t");
    let socket = envelope(&mut sim);
    for about in [
        json!({"subscribe": "t", "publish": "t", "data": 1}),
        json!({"unsubscribe": "t", "subscribe": "t"}),
        json!({"auth": "token", "subscribe": "t"}),
        json!({"auth": null, "publish": "t", "data": 1}),
    ] {
        let said = say(&mut sim, &socket, &about);
        assert_eq!(said.len(), 1, "{about}");
        assert_eq!(said[0]["code"], "bad", "{about}");
        let expected = about.get("auth").is_none().then_some(&about);
        assert_eq!(said[0].get("about"), expected);
    }
    assert!(reader.received().is_empty());
    assert_eq!(sim.reactor().member_count("t"), 1);
}

#[test]
fn an_error_has_a_code_by_which_a_program_can_tell_it() {
    let mut sim = guarded();
    let socket = envelope(&mut sim);
    let cases = [
        (json!({"publish": "t", "data": 1}), "unauthorized"),
        (json!({"subscribe": "t.*"}), "unauthorized"),
        (json!({"auth": "wrong"}), "unauthorized"),
        (json!({"subscribe": ""}), "bad"),
        (json!({"unsubscribe": "t"}), "bad"),
    ];
    for (about, code) in cases {
        socket.send(about.to_string());
        sim.advance(seconds(1));
        assert_eq!(values(&socket)[0]["code"], code, "{about}");
    }
}

// Each listener once registered a wire format of its own, and the seventeenth found no free one.
#[test]
fn the_envelope_is_spoken_on_any_number_of_listeners() {
    const LISTENERS: u16 = 20;
    let mut sim = Sim::new((), |reactor| {
        for port in 1..=LISTENERS {
            let access = Access {
                open: true,
                ..Access::default()
            };
            reactor.http(format!("0.0.0.0:{port}"), |router| {
                hub::mount(router, &access)
            })?;
        }
        std::io::Result::Ok(())
    });
    // The mask is zero.
    let subscribe = b"\x81\x91\0\0\0\0{\"subscribe\":\"t\"}";
    let streams: Vec<_> = (1..=LISTENERS)
        .map(|port| {
            let stream = sim.connect_port(port);
            stream.write(with(
                &get("/ws"),
                &format!(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: {SUBPROTOCOL}"
                ),
            ));
            stream.write(subscribe);
            sim.settle();
            let answer = stream.read();
            assert!(
                answer.ends_with(b"\r\n\r\n\x81!{\"subscribed\":\"t\",\"cursor\":\"1:0\"}"),
                "port {port}: {}",
                answer.escape_ascii()
            );
            stream
        })
        .collect();
    sim.reactor().publish("t", "hi");
    sim.settle();
    for stream in streams {
        let said = stream.read();
        assert!(
            said.ends_with(b"\"data\":\"hi\"}"),
            "{}",
            said.escape_ascii()
        );
    }
}

#[test]
fn the_envelope_answers_too_many_subscriptions_with_an_error() {
    let mut sim = open_with(Config {
        subscriptions_max: 2,
        ..Config::default()
    });
    let socket = subscribed(&mut sim, "a");
    say(&mut sim, &socket, json!({"subscribe": "b*"}));
    let third = json!({"subscribe": "c"});
    let said = say(&mut sim, &socket, &third);
    assert_eq!(said[0]["about"], third);
    assert_eq!(publish(&mut sim, "c", "x").1, 0);
    say(&mut sim, &socket, json!({"unsubscribe": "a"}));
    let said = say(&mut sim, &socket, &third);
    assert_eq!(said, [json!({"subscribed": "c"})]);

    let refused = ask(&mut sim, &get("/events?topic=a&topic=b&topic=c"));
    assert_eq!(refused.status, 400);
}

#[test]
fn a_list_of_more_names_than_a_client_may_have_is_refused_unread() {
    let mut sim = open();
    let socket = subscribed(&mut sim, "a");
    let names = vec!["b"; Config::default().subscriptions_max + 1];
    for command in [
        json!({"subscribe": names}),
        json!({"subscribe": names, "since": "earliest"}),
        json!({"subscribe": names, "latest": true}),
    ] {
        let said = say(&mut sim, &socket, command);
        assert_eq!(said[0]["code"], "limit", "{said:?}");
    }
    assert_eq!(publish(&mut sim, "b", "x").1, 0);
}

#[test]
fn more_subscriptions_than_all_may_have_are_refused_on_every_transport() {
    let mut sim = open_with(Config {
        subscriptions_total_max: Some(3),
        ..Config::default()
    });
    let socket = subscribed(&mut sim, "a");
    let plain = sim.websocket("/ws");
    plain.send("a");
    sim.settle();
    // Two names for which only one has room: the stream is not begun.
    let events = get("/events?topic=a&topic=b");
    let stream = with(&events, "Accept: text/event-stream");
    let ended = ask(&mut sim, &stream);
    assert_eq!(ended.status, 200);
    assert!(ended.text().starts_with("retry: "), "{}", ended.text());
    let refused = ask(&mut sim, &events);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(publish(&mut sim, "b", "x").1, 0);

    say(&mut sim, &socket, json!({"subscribe": "b*"}));
    let fourth = json!({"subscribe": "c"});
    let said = say(&mut sim, &socket, &fourth);
    assert_eq!(said[0]["code"], "limit");
    assert_eq!(said[0]["about"], fourth);
    let other = sim.websocket("/ws");
    other.send("c");
    sim.settle();
    other.take_events();
    assert_eq!(other.close_code(), Some(1008));
    // A client that leaves makes room.
    plain.vanish();
    sim.settle();
    let said = say(&mut sim, &socket, &fourth);
    assert_eq!(said, [json!({"subscribed": "c"})]);
}

// Each publication is compared to every pattern, so patterns have a limit of their own.
#[test]
fn more_patterns_than_allowed_are_refused_on_every_transport() {
    let mut sim = open();
    let socket = envelope(&mut sim);
    let plain = sim.websocket("/ws");
    for n in 0..32 {
        let name = format!("{n}*");
        let said = say(&mut sim, &socket, json!({"subscribe": name}));
        assert_eq!(said, [json!({"subscribed": name})]);
        plain.send(name);
    }
    sim.settle();
    assert_eq!(plain.take_events(), []);
    let said = say(&mut sim, &socket, json!({"subscribe": "32*"}));
    assert_eq!(said[0]["error"], "a member may have at most 32 patterns");
    assert_eq!(said[0]["code"], "limit");
    let said = say(&mut sim, &socket, json!({"subscribe": "32"}));
    assert_eq!(said, [json!({"subscribed": "32"})]);
    plain.send("32*");
    sim.settle();
    plain.take_events();
    assert_eq!(plain.close_code(), Some(1008));

    let events = |count| {
        let topics: Vec<_> = (0..count).map(|n| format!("topic={n}*")).collect();
        get(&format!("/events?topic=a&{}", topics.join("&")))
    };
    assert_eq!(ask(&mut sim, &events(33)).status, 400);
    assert_eq!(ask(&mut sim, &events(32)).status, 200);
}
