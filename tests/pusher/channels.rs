//! Clients and their channels.

use crate::{KEY, SECRET, auth, serve, serve_apps, serve_on, subscribe, succeeded};

#[test]
fn a_client_subscribes_to_a_public_channel_and_hears_the_backend() {
    let mut world = serve();
    let client = world.connect();
    assert_eq!(
        world.answers(&client, &subscribe("news", "")),
        [succeeded("news")]
    );
    // Asked again it is answered again.
    assert_eq!(
        world.answers(&client, &subscribe("news", "")),
        [succeeded("news")]
    );
    let body = r#"{"name":"e","channels":["news","other"],"data":"{\"x\":1}"}"#;
    assert_eq!(world.trigger(body), (200, "{}".to_owned()));
    let event = r#"{"event":"e","channel":"news","data":"{\"x\":1}"}"#;
    assert_eq!(client.socket.received(), [event]);
    let unsubscribe = r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#;
    assert!(world.answers(&client, unsubscribe).is_empty());
    world.trigger(body);
    assert!(client.socket.received().is_empty());
    let pong = r#"{"event":"pusher:pong","data":"{}"}"#;
    let ping = r#"{"event":"pusher:ping","data":{}}"#;
    assert_eq!(world.answers(&client, ping), [pong]);
    for unknown in ["", "7", "{}", r#"{"event":"pusher:else"}"#, "[[[["] {
        assert!(world.answers(&client, unknown).is_empty(), "{unknown}");
    }
    assert!(!client.socket.is_closed());
}

#[test]
fn a_private_channel_needs_the_signature_of_this_connection() {
    let mut world = serve();
    let client = world.connect();
    let other = world.connect();
    for auth in [
        String::new(),
        KEY.to_owned(),
        auth(&other.socket_id, "private-a"),
        auth(&client.socket_id, "private-b"),
    ] {
        let answers = world.answers(&client, &subscribe("private-a", &auth));
        assert!(
            answers.concat().contains("pusher:subscription_error"),
            "{answers:?}"
        );
    }
    let right = auth(&client.socket_id, "private-a");
    assert_eq!(
        world.answers(&client, &subscribe("private-a", &right)),
        [succeeded("private-a")]
    );
    let right = auth(&other.socket_id, "private-a");
    world.answers(&other, &subscribe("private-a", &right));
    // Events of clients go to the others.
    let event = r#"{"event":"client-typing","channel":"private-a","data":{"x":[1, 2]}}"#;
    assert!(world.answers(&client, event).is_empty());
    assert_eq!(other.socket.received(), [event]);
    // A backend may leave one connection out.
    let body = format!(
        r#"{{"name":"e","channel":"private-a","data":"d","socket_id":"{}"}}"#,
        other.socket_id
    );
    assert_eq!(world.trigger(&body).0, 200);
    assert_eq!(client.socket.received().len(), 1);
    assert!(other.socket.received().is_empty());
}

#[test]
fn client_events_have_rules() {
    let mut world = serve();
    let client = world.connect();
    world.answers(&client, &subscribe("news", ""));
    let encrypted = auth(&client.socket_id, "private-encrypted-a");
    world.answers(&client, &subscribe("private-encrypted-a", &encrypted));
    let right = auth(&client.socket_id, "private-a");
    world.answers(&client, &subscribe("private-a", &right));
    let long = "x".repeat(10 * 1024);
    for (channel, data) in [
        ("news", "1"),
        ("private-encrypted-a", "1"),
        ("private-b", "1"),
        ("no channel", "1"),
        ("private-a", &format!("\"{long}\"")),
    ] {
        let event = format!(r#"{{"event":"client-a","channel":"{channel}","data":{data}}}"#);
        let answers = world.answers(&client, &event);
        assert!(
            answers.concat().contains(r#""code":4301"#),
            "{channel}: {answers:?}"
        );
    }
    assert!(!client.socket.is_closed());
}

#[test]
fn handshakes_are_refused_with_a_code() {
    for (target, code) in [
        ("/app/unknown?protocol=7", 4001),
        (&format!("/app/{KEY}"), 4008),
        (&format!("/app/{KEY}?protocol=x"), 4006),
        (&format!("/app/{KEY}?protocol=4"), 4007),
        (&format!("/app/{KEY}?protocol=8"), 4007),
    ] {
        let mut world = serve();
        let client = world.open(target);
        let error = client.received().concat();
        assert!(
            error.contains(&format!(r#""data":{{"code":{code},"#)),
            "{error}"
        );
        assert_eq!(client.close_code(), Some(code), "{target}");
    }
}

#[test]
fn the_hubs_own_clients_hear_public_channels_and_no_private_ones() {
    let mut world = serve();
    let listener = world.open("/ws");
    listener.send("pusher:3:news");
    for channel in [
        "private-a",
        "private-cache-a",
        "private-encrypted-a",
        "private-encrypted-cache-a",
        "presence-a",
        "presence-cache-a",
        "#server-to-user-ann",
        "#online-ann",
        "#connections",
    ] {
        let stranger = world.open("/ws");
        stranger.send(&*format!("pusher:3:{channel}"));
        world.settle();
        assert!(stranger.received().is_empty());
        assert_eq!(stranger.close_code(), Some(1008), "{channel}");
    }
    for channel in ["news", "private-a"] {
        let body = format!(r#"{{"name":"e","channel":"{channel}","data":"of {channel}"}}"#);
        assert_eq!(world.trigger(&body).0, 200);
    }
    assert_eq!(listener.received(), ["of news"]);
}

#[test]
fn a_cache_channel_gives_its_last_event_to_a_new_member() {
    let mut world = serve();
    let first = world.connect();
    let miss = r#"{"event":"pusher:cache_miss","channel":"cache-a","data":"{}"}"#;
    assert_eq!(
        world.subscribe(&first, "cache-a"),
        [&*succeeded("cache-a"), miss]
    );
    for data in ["1", "2"] {
        let body = format!(r#"{{"name":"e","channel":"cache-a","data":"{data}"}}"#);
        assert_eq!(world.trigger(&body).0, 200);
    }
    assert_eq!(first.socket.received().len(), 2);
    let last = r#"{"event":"e","channel":"cache-a","data":"2"}"#;
    let second = world.connect();
    assert_eq!(
        world.subscribe(&second, "cache-a"),
        [&*succeeded("cache-a"), last]
    );
    let (status, answer) = world.ask("GET", "/channels/cache-a?info=cache", "");
    assert_eq!(
        (status, &*answer),
        (200, r#"{"occupied":true,"cache":{"data":"2","ttl":1800}}"#)
    );
    // The event is kept for half an hour.
    world.sims[0].advance(std::time::Duration::from_secs(1900));
    let third = world.connect();
    assert_eq!(
        world.subscribe(&third, "cache-a"),
        [&*succeeded("cache-a"), miss]
    );
    // Another front makes no cache channel.
    assert_eq!(
        world.subscribe(&third, "my-cache-a"),
        [succeeded("my-cache-a")]
    );
}

#[test]
fn a_client_sends_ten_events_a_second() {
    let mut world = serve();
    let client = world.connect();
    world.subscribe(&client, "private-a");
    let event = r#"{"event":"client-a","channel":"private-a","data":1}"#;
    let mut refused = 0;
    for _ in 0..15 {
        refused += world.answers(&client, event).len();
    }
    assert!((4..=5).contains(&refused), "{refused}");
    world.sims[0].advance(std::time::Duration::from_secs(2));
    assert!(world.answers(&client, event).is_empty());
}

#[test]
fn a_connection_is_left_out_on_whichever_reactor_it_is() {
    let mut world = serve_on(3);
    let clients = [0, 1, 2].map(|reactor| world.connect_to(reactor));
    for client in &clients {
        assert_eq!(world.subscribe(client, "news"), [succeeded("news")]);
    }
    let body = format!(
        r#"{{"name":"e","channel":"news","data":"d","socket_id":"{}"}}"#,
        clients[2].socket_id
    );
    assert_eq!(world.trigger(&body).0, 200);
    let counts = clients.each_ref().map(|it| it.socket.received().len());
    assert_eq!(counts, [1, 1, 0]);
}

#[test]
fn a_drain_is_spread_and_has_the_code_after_which_clients_come_back() {
    let mut world = serve();
    let clients: Vec<_> = (0..100).map(|_| world.connect()).collect();
    let window = std::time::Duration::from_secs(10);
    world.sims[0].reactor().drain(window);
    world.settle();
    let mut words = 0;
    let mut closed = |clients: &[crate::Client]| {
        let codes = clients.iter().map(|client| {
            let error = client.socket.received().concat();
            words += usize::from(error.contains(r#""code":4100"#));
            client.socket.close_code()
        });
        (codes.filter(|code| *code == Some(4100)).count(), words)
    };
    world.sims[0].advance(window / 2);
    world.settle();
    let (half, words) = closed(&clients);
    assert!((40..60).contains(&half), "{half}");
    assert_eq!(words, half);
    world.sims[0].advance(window);
    world.settle();
    assert_eq!(closed(&clients), (100, 100));
}

/// The code with which a client of an app with these options is refused.
fn refusal(options: &str, target: &str, headers: &[(&str, &str)]) -> Option<u16> {
    let mut world = serve_apps(1, &[format!("3:{KEY}:{SECRET},{options}")]);
    let target = format!("/app/{KEY}{target}");
    let client = world.sims[0].try_websocket(&target, headers).unwrap();
    world.settle();
    let first = client.received().concat();
    assert!(first.contains("pusher:error") || first.contains("connection_established"));
    client.close_code()
}

#[test]
fn options_of_an_app_refuse_clients_in_their_order() {
    let page = &[("Origin", "https://b.example")];
    for (options, target, headers, expected) in [
        ("client-events", "?protocol=5", page, None),
        ("disabled,tls", "", page, Some(4003)),
        ("tls", "", page, Some(4000)),
        ("origin=https://a.example", "", page, Some(4008)),
        ("origin=https://a.example", "?protocol=7", page, Some(4009)),
        (
            "origin=https://a.example,origin=https://b.example",
            "?protocol=7",
            page,
            None,
        ),
    ] {
        assert_eq!(refusal(options, target, headers), expected, "{options}");
    }
    assert_eq!(
        refusal("origin=https://a.example", "?protocol=7", &[]),
        None
    );
    let mut world = serve_apps(1, &[format!("3:{KEY}:{SECRET},disabled")]);
    let body = r#"{"name":"e","channels":["news"],"data":"d"}"#;
    assert_eq!(world.trigger(body).0, 403);
}

#[test]
fn an_app_has_as_many_connections_as_it_may_on_all_reactors() {
    let mut world = serve_apps(3, &[format!("3:{KEY}:{SECRET},connections=3")]);
    let clients = [0, 1, 2].map(|reactor| world.connect_to(reactor));
    let target = format!("/app/{KEY}?protocol=7");
    let refused = world.open(&target);
    refused.received();
    assert_eq!(refused.close_code(), Some(4004));
    clients[1].socket.stream().reset();
    world.settle();
    world.connect();
}
