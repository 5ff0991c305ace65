//! Subscriptions of clients to streams.

use std::time::Duration;

use waterwheel::hub::{CableOptions, HubOptions, Rules};
use waterwheel::{Faults, hub::Access};

use super::*;

#[test]
fn a_client_is_greeted_subscribed_and_sent_what_is_broadcast() {
    let mut world = serve();
    let client = world.subscriber(&signed(CHAT));
    world.publish("chat/2024", r#"{"x":1}"#);
    assert_eq!(client.received(), [message(&signed(CHAT), r#"{"x":1}"#)]);
    // Rails broadcasts texts that are JSON, and with `coder: nil` others.
    for (text, expected) in [("[1]", "[1]"), ("<p>", r#""<p>""#), ("null", "null")] {
        world.sims[0].reactor().publish("chat/2024", text);
        world.settle();
        assert_eq!(client.received(), [message(&signed(CHAT), expected)]);
    }
    // The end of a subscription has no answer.
    assert_eq!(world.say(&client, "unsubscribe", &signed(CHAT)), [""; 0]);
    world.publish("chat/2024", "2");
    assert_eq!(client.received(), [""; 0]);
    world.subscribe(&client, &signed(CHAT));
}

#[test]
fn the_subprotocol_is_selected() {
    let mut world = serve();
    for (offered, selected) in [
        (
            "actioncable-v1-json, actioncable-unsupported",
            Some("actioncable-v1-json"),
        ),
        ("own, actioncable-v1-json", Some("actioncable-v1-json")),
        ("actioncable-unsupported", None),
    ] {
        let headers = [("Sec-WebSocket-Protocol", offered)];
        let client = world.sims[0].try_websocket("/cable", &headers).unwrap();
        let head = client.head().to_lowercase();
        let line = selected.map(|it| format!("sec-websocket-protocol: {it}\r\n"));
        match line {
            Some(line) => assert!(head.contains(&line), "{head}"),
            None => assert!(!head.contains("sec-websocket-protocol"), "{head}"),
        }
    }
}

#[test]
fn requests_that_open_no_websocket_are_not_found() {
    let access = Access {
        origins: vec!["https://example.org".into()],
        ..Access::default()
    };
    let mut world = serve_with(1, options(), &access);
    let answer = world.request("GET /cable HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (404, "Page not found"));
    for (origin, status) in [
        ("https://other.example", 404),
        ("https://example.org", 101),
        ("http://sim", 101),
    ] {
        let answer = world.sims[0].try_websocket("/cable", &[("Origin", origin)]);
        let head = answer.map_or_else(|head| head, |client| client.head().to_owned());
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    // Other paths answer as they did.
    let other = "GET /topics HTTP/1.1\r\nHost: a\r\nOrigin: https://other.example\r\n\r\n";
    assert_eq!(world.request(other).status, 403);
}

#[test]
fn a_subscription_is_confirmed_as_often_as_it_is_asked_for() {
    let mut world = serve();
    let client = world.subscriber(&signed(CHAT));
    world.subscribe(&client, &signed(CHAT));
    world.publish("chat/2024", "1");
    assert_eq!(client.received(), [message(&signed(CHAT), "1")]);
    world.say(&client, "unsubscribe", &signed(CHAT));
    world.publish("chat/2024", "2");
    assert_eq!(client.received(), [""; 0]);
}

#[test]
fn two_subscriptions_to_one_stream_get_each_broadcast() {
    let (first, second) = (signed(CHAT), signed_too(CHAT));
    for ended in [&first, &second] {
        let mut world = serve();
        let client = world.subscriber(&first);
        world.subscribe(&client, &second);
        let other = world.subscriber(&second);
        world.publish("chat/2024", "1");
        assert_eq!(
            client.received(),
            [message(&first, "1"), message(&second, "1")]
        );
        assert_eq!(other.received(), [message(&second, "1")]);
        world.say(&client, "unsubscribe", ended);
        world.publish("chat/2024", "2");
        let left = [&first, &second]
            .into_iter()
            .find(|it| *it != ended)
            .unwrap();
        assert_eq!(client.received(), [message(left, "2")]);
        world.say(&client, "unsubscribe", left);
        world.publish("chat/2024", "3");
        assert_eq!(client.received(), [""; 0]);
        assert_eq!(
            other.received(),
            [message(&second, "2"), message(&second, "3")]
        );
        assert_eq!(world.sims[0].reactor().subscription_count(), 1);
    }
}

#[test]
fn subscriptions_end_with_their_connection() {
    let mut world = serve();
    let client = world.subscriber(&signed(CHAT));
    world.subscribe(&client, &signed_too(CHAT));
    world.subscribe(&client, &signed(OTHER));
    client.vanish();
    world.settle();
    assert_eq!(world.sims[0].reactor().subscription_count(), 0);
    assert_eq!(world.sims[0].reactor().topic_count(), 0);
    // Its place is taken by another client, which has none of them.
    let next = world.subscriber(&signed(OTHER));
    world.publish("chat/2024", "1");
    world.publish("chat:2021", "2");
    assert_eq!(next.received(), [message(&signed(OTHER), "2")]);
}

#[test]
fn a_subscription_without_a_right_is_rejected() {
    let mut world = serve();
    let client = world.connect();
    let deep = format!(
        r#"{{"channel":"$pubsub","a":{}1{}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    let long = format!(
        r#"{{"channel":"$pubsub","stream_name":"{}"}}"#,
        "x".repeat(300)
    );
    for identifier in [
        signed(&CHAT.replace("82a3", "82a4")),
        signed(CHAT.trim_end_matches('6')),
        signed(&CHAT.replacen("ImNo", "ImNp", 1)),
        signed(""),
        r#"{"channel":"$pubsub","stream_name":"chat/2024"}"#.to_owned(),
        format!(r#"{{"channel":"Turbo::StreamsChannel","signed_stream_name":"{CHAT}"}}"#),
        r#"{"channel":"ChatChannel"}"#.to_owned(),
        r#"{"channel":"$pubsub"}"#.to_owned(),
        r#"{"channel":"$pubsub","channel":"ChatChannel"}"#.to_owned(),
        "no JSON".to_owned(),
        String::new(),
        deep,
        long,
    ] {
        let answer = world.say(&client, "subscribe", &identifier);
        assert_eq!(answer, [rejection(&identifier)]);
    }
    world.publish("chat/2024", "1");
    assert_eq!(client.received(), [""; 0]);
}

#[test]
fn other_messages_have_no_answer() {
    let mut world = serve();
    let client = world.subscriber(&signed(CHAT));
    let too_long = command_text("subscribe", &"x".repeat(2049));
    for text in [
        "",
        "{}",
        "[]",
        "no JSON",
        &"[".repeat(1000),
        r#"{"command":"subscribe"}"#,
        r#"{"command":"else","identifier":"x"}"#,
        &command_text("unsubscribe", "unknown"),
        r#"{"command":"message","identifier":"x","data":"{}"}"#,
        &too_long,
    ] {
        client.send(text);
        world.settle();
        assert_eq!(client.received(), [""; 0], "{text}");
    }
    world.publish("chat/2024", "1");
    assert_eq!(client.received(), [message(&signed(CHAT), "1")]);
    // A message of 1 MiB, and one that is no text.
    client.send("x".repeat(1024 * 1024));
    world.settle();
    client.received();
    assert_eq!(client.close_code(), Some(1009));
    let client = world.connect();
    client.send(b"\x00\xff".as_slice());
    world.settle();
    client.received();
    assert_eq!(client.close_code(), Some(1003));
}

#[test]
fn subscriptions_of_a_client_have_a_limit() {
    let mut world = serve();
    let client = world.connect();
    let subscriptions_max = world.sims[0].reactor().config().subscriptions_max;
    let identifier = |number: usize| signed_too(CHAT).replace(":2}", &format!(":{number}}}"));
    for number in 0..subscriptions_max {
        world.subscribe(&client, &identifier(number));
    }
    let one_more = identifier(subscriptions_max);
    let answer = world.say(&client, "subscribe", &one_more);
    assert_eq!(answer, [rejection(&one_more)]);
    world.say(&client, "unsubscribe", &identifier(0));
    world.subscribe(&client, &one_more);
    world.publish("chat/2024", "1");
    assert_eq!(world.read_all(&client).len(), subscriptions_max);
}

#[test]
fn plain_names_are_for_open_hubs() {
    let cable = CableOptions {
        is_open: true,
        ..options()
    };
    let mut rules = Rules::new();
    rules.add_text("secret/*=private").unwrap();
    let mut world = serve_hub(1, &Access::default(), || HubOptions {
        cable: Some(cable.clone()),
        rules: rules.clone(),
        ..HubOptions::default()
    });
    let plain = |name: &str| format!(r#"{{"channel":"$pubsub","stream_name":"{name}"}}"#);
    let client = world.subscriber(&plain("chat/2024"));
    world.publish("chat/2024", "1");
    assert_eq!(client.received(), [message(&plain("chat/2024"), "1")]);
    for name in [
        "secret/1",
        "action_cable/u1",
        "__anycable__",
        "",
        "a\\u0000b",
    ] {
        let answer = world.say(&client, "subscribe", &plain(name));
        assert_eq!(answer, [rejection(&plain(name))], "{name}");
    }
}

#[test]
fn streams_are_private_topics_of_the_hub() {
    let mut world = serve();
    let events = |topic: &str| format!("GET /events?topic={topic} HTTP/1.1\r\nHost: a\r\n\r\n");
    for topic in ["chat/2024", "action_cable/u1", "__anycable__"] {
        assert_eq!(world.request(&events(topic)).status, 401, "{topic}");
    }
    // With a rule a topic is as the rule says.
    let mut rules = Rules::new();
    rules.add_text("news=history=1").unwrap();
    let mut world = serve_hub(1, &Access::default(), || HubOptions {
        cable: Some(options()),
        rules: rules.clone(),
        ..HubOptions::default()
    });
    assert_eq!(world.request(&events("news")).status, 200);
    assert_eq!(world.request(&events("other")).status, 401);
}

#[test]
fn each_client_is_pinged_every_three_seconds() {
    let mut world = serve();
    let clients: Vec<_> = (0..60).map(|_| world.connect()).collect();
    let mut counts = vec![0; clients.len()];
    for _ in 0..30 {
        let mut in_slot = 0;
        world.advance(Duration::from_millis(100));
        for (client, count) in clients.iter().zip(&mut counts) {
            for text in client.received() {
                assert!(text.starts_with(r#"{"type":"ping","message":"#), "{text}");
                *count += 1;
                in_slot += 1;
            }
        }
        // They are spread over the period.
        assert_eq!(in_slot, 2);
    }
    assert_eq!(counts, [1; 60]);
    clients.iter().for_each(SimSocket::vanish);
    world.advance(Duration::from_secs(4));
    // The timer has ended, and begins again.
    let client = world.connect();
    world.advance(Duration::from_secs(30));
    assert_eq!(client.received().len(), 10);
}

#[test]
fn a_drain_tells_clients_to_come_back() {
    let mut world = serve();
    let client = world.subscriber(&signed(CHAT));
    world.sims[0].reactor().drain(Duration::from_secs(1));
    world.advance(Duration::from_secs(2));
    let last = r#"{"type":"disconnect","reason":"server_restart","reconnect":true}"#;
    assert_eq!(client.received(), [last]);
    assert_eq!(client.close_code(), Some(1012));
}

#[test]
fn clients_of_all_reactors_are_sent_a_broadcast() {
    let mut world = serve_with(2, options(), &Access::default());
    let clients = [0, 1].map(|reactor| world.connect_to(reactor));
    for client in &clients {
        world.subscribe(client, &signed(CHAT));
        world.subscribe(client, &signed_too(CHAT));
    }
    world.publish("chat/2024", "1");
    for client in &clients {
        let expected = [message(&signed(CHAT), "1"), message(&signed_too(CHAT), "1")];
        assert_eq!(client.received(), expected);
    }
}

#[test]
fn bytes_in_pieces_are_the_same_commands() {
    let mut world = serve();
    let faults = Faults {
        short_reads_percent: 80,
        short_writes_percent: 80,
        ..Faults::default()
    };
    world.sims[0].faults(7, faults);
    let client = world.sims[0].websocket("/cable");
    client.send(command_text("subscribe", &signed(CHAT)));
    let greeting = [WELCOME.to_owned(), confirmation(&signed(CHAT))];
    assert_eq!(world.read_all(&client), greeting);
    for number in 0..20 {
        world.publish("chat/2024", &number.to_string());
    }
    let expected: Vec<String> = (0..20)
        .map(|number| message(&signed(CHAT), &number.to_string()))
        .collect();
    assert_eq!(world.read_all(&client), expected);
}
