//! Clients that come back with a cursor.

use serde_json::{Value, json};
use waterwheel::hub::{Access, Hub, HubOptions};
use waterwheel::{Config, EventId, Sim, SimSocket};

/// The bytes that the kernel holds for a client that does not read.
const SOCKET_BYTES: usize = 16 * 1024;

use crate::support::{answer, get, post};
use crate::{Reader, ask, envelope, publish, say, values, values_with_cursors, with};

/// An open hub with these rules.
fn hub(rules: &[&str]) -> Sim<()> {
    let mut options = HubOptions::default();
    for rule in rules {
        options.rules.add_text(rule).unwrap();
    }
    hub_with(options)
}

fn hub_with(options: HubOptions) -> Sim<()> {
    let access = Access {
        open: true,
        ..Access::default()
    };
    Sim::new((), move |reactor| {
        let hub = Hub::new(options);
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    })
}

/// The answers that a new client of the envelope gets to a command.
fn resume(sim: &mut Sim<()>, command: Value) -> Vec<Value> {
    let socket = envelope(sim);
    socket.send(command.to_string());
    sim.settle();
    values_with_cursors(&socket)
}

fn message(topic: &str, number: u64, data: &str) -> Value {
    json!({"topic": topic, "id": format!("1:{number}"), "data": data})
}

/// The lines that an event stream has got, without those of its head.
fn stream(sim: &mut Sim<()>, target: &str, header: Option<&str>) -> String {
    let client = sim.connect();
    let request = get(target);
    client.write(match header {
        Some(line) => with(&request, line),
        None => request,
    });
    sim.settle();
    answer(&client.read()).text().to_owned()
}

#[test]
fn a_client_of_the_envelope_gets_what_it_has_missed_and_then_the_confirmation() {
    let mut sim = hub(&[]);
    for (topic, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")] {
        publish(&mut sim, topic, body);
    }
    let subscribed = |names: Value| json!({"subscribed": names, "cursor": "1:4"});
    let cases = [
        (json!({"subscribe": "a"}), vec![subscribed(json!("a"))]),
        (
            json!({"subscribe": "a", "since": "1:1"}),
            vec![message("a", 3, "3"), subscribed(json!("a"))],
        ),
        (
            json!({"subscribe": "a", "since": "1:4"}),
            vec![subscribed(json!("a"))],
        ),
        (
            json!({"subscribe": ["b", "a"], "since": "1:1", "ref": "r"}),
            vec![
                message("b", 2, "2"),
                message("a", 3, "3"),
                message("b", 4, "4"),
                json!({"subscribed": ["b", "a"], "cursor": "1:4", "ref": "r"}),
            ],
        ),
        (
            json!({"subscribe": "a", "since": "earliest"}),
            vec![
                message("a", 1, "1"),
                message("a", 3, "3"),
                subscribed(json!("a")),
            ],
        ),
        (
            json!({"subscribe": ["a", "*"], "since": "1:2"}),
            vec![
                message("a", 3, "3"),
                json!({"topic": "b", "id": "1:4", "by": "*", "data": "4"}),
                subscribed(json!(["a", "*"])),
            ],
        ),
        (
            json!({"subscribe": "a", "latest": true}),
            vec![message("a", 3, "3"), subscribed(json!("a"))],
        ),
        (
            json!({"subscribe": "a", "since": "2:1"}),
            vec![
                json!({"gap": "a", "cursor": "1:0"}),
                message("a", 1, "1"),
                message("a", 3, "3"),
                subscribed(json!("a")),
            ],
        ),
        (
            json!({"subscribe": "a", "since": "1:9"}),
            vec![json!({"gap": "a", "cursor": "1:4"}), subscribed(json!("a"))],
        ),
    ];
    for (command, expected) in cases {
        assert_eq!(resume(&mut sim, command.clone()), expected, "{command}");
    }
}

#[test]
fn a_name_is_live_behind_its_replay() {
    let mut sim = hub(&[]);
    publish(&mut sim, "a", "1");
    let socket = envelope(&mut sim);
    let said = say(&mut sim, &socket, json!({"subscribe": "a", "since": "1:0"}));
    assert_eq!(said, [message("a", 1, "1"), json!({"subscribed": "a"})]);
    assert_eq!(publish(&mut sim, "a", "2").1, 1);
    assert_eq!(values(&socket), [message("a", 2, "2")]);
}

#[test]
fn a_live_name_is_replayed_from_where_its_client_asks() {
    let subscribed = |names: Value| json!({"subscribed": names});
    let by_pattern = |number: u64, topic: &str| json!({"topic": topic, "id": format!("1:{number}"), "by": "*", "data": number.to_string()});
    let cases = [
        (json!("a"), json!({"since": "1:3"}), vec![]),
        (json!("a"), json!({}), vec![]),
        (
            json!("a"),
            json!({"since": "1:0"}),
            vec![message("a", 1, "1"), message("a", 3, "3")],
        ),
        (
            json!("a"),
            json!({"since": "earliest"}),
            vec![message("a", 1, "1"), message("a", 3, "3")],
        ),
        (
            json!("a"),
            json!({"latest": true}),
            vec![message("a", 3, "3")],
        ),
        (
            json!(["a", "b"]),
            json!({"since": "1:1"}),
            vec![message("b", 2, "2"), message("a", 3, "3")],
        ),
        (
            json!("*"),
            json!({"since": "1:1"}),
            vec![by_pattern(2, "b"), by_pattern(3, "a")],
        ),
        (
            json!("a"),
            json!({"since": "2:1"}),
            vec![
                json!({"gap": "a", "cursor": "1:0"}),
                message("a", 1, "1"),
                message("a", 3, "3"),
            ],
        ),
    ];
    for (names, options, mut expected) in cases {
        let mut sim = hub(&[]);
        for (topic, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
            publish(&mut sim, topic, body);
        }
        let socket = envelope(&mut sim);
        say(&mut sim, &socket, json!({"subscribe": names}));
        let mut command = options;
        command["subscribe"] = names.clone();
        expected.push(subscribed(names));
        assert_eq!(
            say(&mut sim, &socket, command.clone()),
            expected,
            "{command}"
        );
        // It is live, once.
        assert_eq!(publish(&mut sim, "a", "4").1, 1, "{command}");
        assert_eq!(values(&socket).len(), 1, "{command}");
    }
}

/// A hub with a history of 1,000 long messages of topic `a`.
fn hub_with_long_history() -> Sim<()> {
    let mut sim = hub(&["*=history=2000"]);
    let long = "x".repeat(1000);
    for _ in 0..1000 {
        sim.reactor().publish("a", long.as_str());
    }
    sim.socket_bytes(SOCKET_BYTES);
    sim
}

#[test]
fn live_messages_of_a_name_wait_behind_a_replay_that_its_client_asks_for_again() {
    let mut sim = hub_with_long_history();
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"subscribe": ["a", "b"]}));
    for (since, reference) in [("1:100", 1), ("1:900", 2)] {
        let command = json!({"subscribe": ["a", "b"], "since": since, "ref": reference});
        socket.send(command.to_string());
    }
    sim.settle();
    socket.send(json!({"subscribe": ["b", "c"], "ref": 3}).to_string());
    sim.settle();
    sim.reactor().publish("a", "live");
    sim.reactor().publish("b", "live");
    let got = read_all(&mut sim, &socket);
    let of_reference = |reference: u64| {
        let mut values = got.iter();
        values.position(|value| value["ref"] == reference).unwrap()
    };
    let [first, second, third] = [1, 2, 3].map(of_reference);
    assert!(first < second && second < third);
    let all: Vec<_> = (101..=1002).collect();
    assert_eq!(numbers(&got[..first]), all);
    assert_eq!(numbers(&got[first..second]), all[800..]);
    assert!(numbers(&got[second..]).is_empty());
    for index in [first, second, third] {
        assert_eq!(got[index]["cursor"], "1:1002");
    }
    for topic in ["a", "c"] {
        sim.reactor().publish(topic, "");
        sim.settle();
        assert_eq!(values(&socket).len(), 1, "{topic}");
    }
}

// A client that got no answer to its `ref` would wait for it.
#[test]
fn a_subscription_that_is_ended_under_its_replay_is_answered_without_names() {
    for command in [json!("a"), json!(["a", "b"])] {
        let mut sim = hub_with_long_history();
        let socket = envelope(&mut sim);
        for (since, reference) in [("1:0", 1), ("1:1", 2)] {
            let subscribe = json!({"subscribe": command, "since": since, "ref": reference});
            socket.send(subscribe.to_string());
        }
        sim.settle();
        for name in ["a", "b"] {
            socket.send(json!({"unsubscribe": name}).to_string());
        }
        sim.settle();
        let answers: Vec<_> = read_all(&mut sim, &socket)
            .into_iter()
            .filter(|answer| answer.get("subscribed").is_some())
            .map(|answer| (answer["ref"].clone(), answer["subscribed"].clone()))
            .collect();
        let expected = [1, 2].map(|reference| (json!(reference), json!([])));
        assert_eq!(answers, expected, "{command}");
    }
}

#[test]
fn a_name_that_is_unsubscribed_under_its_replay_is_left() {
    let mut sim = hub_with_long_history();
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"subscribe": ["a", "b"]}));
    for since in ["1:0", "1:1"] {
        let command = json!({"subscribe": ["a", "b"], "since": since});
        socket.send(command.to_string());
    }
    sim.settle();
    for name in ["a", "b"] {
        socket.send(json!({"unsubscribe": name}).to_string());
    }
    sim.settle();
    let got = read_all(&mut sim, &socket);
    assert!(numbers(&got).len() < 900);
    for name in ["a", "b"] {
        assert!(got.contains(&json!({"unsubscribed": name})));
        assert_eq!(sim.reactor().publish(name, "").delivered, 0);
    }
}

#[test]
fn commands_that_wait_count_as_subscriptions() {
    let config = Config {
        subscriptions_max: 5,
        ..Config::default()
    };
    let access = Access {
        open: true,
        ..Access::default()
    };
    let mut sim = Sim::with_config(config, (), move |reactor| {
        let hub = Hub::new(HubOptions::default());
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    });
    let long = "x".repeat(10_000);
    for _ in 0..100 {
        sim.reactor().publish("a", long.as_str());
    }
    sim.socket_bytes(SOCKET_BYTES);
    let socket = envelope(&mut sim);
    let again = json!({"subscribe": "a", "since": "1:0"});
    let now = json!({"subscribe": "a"});
    for command in [&again, &now, &again, &now, &again, &again, &now] {
        socket.send(command.to_string());
        sim.settle();
    }
    let got = read_all(&mut sim, &socket);
    assert_eq!(got.len(), 3 * 100 + 5 + 2);
    let errors: Vec<_> = got.iter().filter(|it| it["code"] == "limit").collect();
    assert_eq!(errors.len(), 2);
}

#[test]
fn a_gap_tells_of_publications_that_were_forgotten() {
    let mut sim = hub(&["few=history=2", "off=history=0", "v=latest"]);
    for number in 1..=4 {
        publish(&mut sim, "few", &number.to_string());
    }
    publish(&mut sim, "off", "5");
    let said = resume(
        &mut sim,
        json!({"subscribe": ["few", "off"], "since": "1:1"}),
    );
    assert_eq!(
        said,
        [
            json!({"gap": "few", "cursor": "1:2"}),
            json!({"gap": "off", "cursor": "1:5"}),
            message("few", 3, "3"),
            message("few", 4, "4"),
            json!({"subscribed": ["few", "off"], "cursor": "1:5"}),
        ]
    );
    let said = resume(&mut sim, json!({"subscribe": "f*", "since": "1:1"}));
    assert_eq!(said[0], json!({"gap": "few", "cursor": "1:2", "by": "f*"}));
}

#[test]
fn the_latest_value_of_each_key() {
    let mut sim = hub(&["price=latest"]);
    let socket = envelope(&mut sim);
    for (key, data) in [("eur", 1), ("usd", 2), ("eur", 3)] {
        let command = json!({"publish": "price", "data": data, "key": key, "ref": data});
        let said = say(&mut sim, &socket, command);
        let id = format!("1:{data}");
        assert_eq!(said, [json!({"published": "price", "id": id, "ref": data})]);
    }
    let value = |key: &str, number: u64| json!({"topic": "price", "id": format!("1:{number}"), "key": key, "data": number});
    let said = resume(&mut sim, json!({"subscribe": "price", "latest": true}));
    assert_eq!(said[..2], [value("usd", 2), value("eur", 3)]);
    let since = json!({"subscribe": "price", "latest": true, "since": "1:2"});
    assert_eq!(resume(&mut sim, since)[0], value("eur", 3));
    let text = stream(&mut sim, "/events?topic=price&latest=1", None);
    assert_eq!(
        text,
        "id: 1:0\n\nid: 1:2\ndata: 2\n\nid: 1:3\ndata: 3\n\nid: 1:3\n\n"
    );
}

#[test]
fn an_event_stream_goes_on_at_its_last_id() {
    let mut sim = hub(&["few=history=1"]);
    assert_eq!(stream(&mut sim, "/events?topic=a", None), "id: 1:0\n\n");
    for (topic, body) in [("a", "1"), ("few", "2"), ("few", "3"), ("a", "4")] {
        publish(&mut sim, topic, body);
    }
    let last = "Last-Event-ID: 1:1";
    let cases = [
        ("/events?topic=a", None, "id: 1:4\n\n"),
        (
            "/events?topic=a",
            Some(last),
            "id: 1:1\n\nid: 1:4\ndata: 4\n\n",
        ),
        (
            "/events?topic=a&since=1:1",
            None,
            "id: 1:1\n\nid: 1:4\ndata: 4\n\n",
        ),
        // The header is of a later time than the address.
        (
            "/events?topic=a&since=1:0",
            Some(last),
            "id: 1:1\n\nid: 1:4\ndata: 4\n\n",
        ),
        ("/events?topic=b&since=1:1", None, "id: 1:1\n\nid: 1:4\n\n"),
        // The gap stands at its place: the stream has one cursor for both names.
        (
            "/events?topic=a&topic=few&since=1:0",
            None,
            "id: 1:0\n\nid: 1:1\ndata: 1\n\nid: 1:2\nevent: gap\ndata: few\n\n\
             id: 1:3\ndata: 3\n\nid: 1:4\ndata: 4\n\n",
        ),
        (
            "/events?topic=a&since=7:3&envelope=1",
            None,
            "id: 7:3\n\nid: 1:0\ndata: {\"gap\":\"a\",\"cursor\":\"1:0\"}\n\n\
             id: 1:1\ndata: {\"topic\":\"a\",\"id\":\"1:1\",\"data\":\"1\"}\n\n\
             id: 1:4\ndata: {\"topic\":\"a\",\"id\":\"1:4\",\"data\":\"4\"}\n\n",
        ),
    ];
    for (target, header, expected) in cases {
        let mut text = stream(&mut sim, target, header);
        // The cursor at the end may be that of the last message.
        if text.ends_with("\n\nid: 1:4\n\n") && !expected.ends_with("\n\nid: 1:4\n\n") {
            text.truncate(text.len() - "id: 1:4\n\n".len());
        }
        assert_eq!(text, expected, "{target} {header:?}");
    }
}

#[test]
fn a_cursor_that_was_never_given_is_a_bad_request() {
    let mut sim = hub(&[]);
    for cursor in [
        "x", "1", "1:", "1:x", "1:+1", "01:1", "1:1:1", "-1:1", "EARLIEST",
    ] {
        let answer = ask(&mut sim, &get(&format!("/events?topic=a&since={cursor}")));
        assert_eq!(answer.status, 400, "{cursor}: {}", answer.text());
        let request = with(&get("/events?topic=a"), &format!("Last-Event-ID: {cursor}"));
        assert_eq!(ask(&mut sim, &request).status, 400, "{cursor}");
        let said = resume(&mut sim, json!({"subscribe": "a", "since": cursor}));
        assert_eq!(said[0]["code"], "bad", "{cursor}");
    }
}

#[test]
fn cursors_of_a_cluster_are_taken_however_long() {
    let most = vec!["18446744073709551615"; 16].join(".");
    let numbers = "0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15";
    let cursors = [
        format!("f:{numbers}"),
        format!("f:{numbers}-501"),
        format!("ffffffffffffffff:{most}-9223372036854775807"),
    ];
    for cursor in cursors {
        let mut sim = hub(&[]);
        // They are of another epoch.
        let values = resume(&mut sim, json!({ "subscribe": "a", "since": cursor }));
        assert_eq!(values[0]["gap"], "a", "{cursor}");
        let header = format!("Last-Event-ID: {cursor}");
        let text = stream(&mut sim, "/events?topic=a", Some(&header));
        assert!(text.contains("event: gap"), "{cursor}: {text}");
        let query = format!("topic=a&wait=0&since={cursor}");
        let text = stream(&mut sim, &format!("/events?{query}"), None);
        assert!(text.contains("event: gap"), "{cursor}: {text}");
        let answer = ask(&mut sim, &get(&format!("/poll?{query}")));
        assert_eq!(answer.status, 200, "{cursor}");
        assert!(answer.text().contains(r#""gap":["a"]"#), "{cursor}");
    }
}

#[test]
fn the_heartbeat_of_a_stream_is_its_newest_cursor() {
    let mut sim = hub(&[]);
    let mut reader = Reader::open(&mut sim, "/events?topic=quiet");
    publish(&mut sim, "other", "1");
    assert_eq!(reader.text(), "id: 1:0\n\n");
    sim.advance(crate::seconds(20));
    assert_eq!(reader.text(), "id: 1:0\n\nid: 1:1\n\n");
}

/// A client that does not read while a long replay is on its way to it, and then does.
#[test]
fn a_long_replay_waits_for_the_client_and_live_messages_wait_behind_it() {
    let mut sim = hub(&["*=history=2000"]);
    let long = "x".repeat(1000);
    for number in 0..1000 {
        sim.reactor().publish("a", format!("{number}{long}"));
    }
    sim.socket_bytes(SOCKET_BYTES);
    let socket = envelope(&mut sim);
    socket.send(json!({"subscribe": "a", "since": "1:0"}).to_string());
    sim.settle();
    let queued = sim.reactor().stats().deliveries;
    assert!((1..900).contains(&queued), "{queued}");
    // It is no member yet.
    assert_eq!(sim.reactor().publish("a", "live").delivered, 0);
    let values = read_all(&mut sim, &socket);
    assert_eq!(numbers(&values), (1..=1001).collect::<Vec<_>>());
    assert_eq!(
        values.last().unwrap(),
        &json!({"subscribed": "a", "cursor": "1:1001"})
    );
    assert_eq!(sim.reactor().publish("a", "live").delivered, 1);
}

/// Reads until nothing more comes.
fn read_all(sim: &mut Sim<()>, socket: &SimSocket) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let values = values_with_cursors(socket);
        if values.is_empty() {
            return all;
        }
        all.extend(values);
        sim.settle();
    }
}

fn numbers(values: &[Value]) -> Vec<u64> {
    let ids = values.iter().filter_map(|value| value["id"].as_str());
    ids.map(|id| id.parse::<EventId>().unwrap().number)
        .collect()
}

#[test]
fn a_pending_name_can_be_unsubscribed() {
    let cases = [
        (json!(["a", "b"]), Some(json!(["b"])), 1),
        (json!("a"), None, 0),
    ];
    for (names, subscribed, delivered) in cases {
        let mut sim = hub(&["*=history=2000"]);
        let long = "x".repeat(1000);
        for _ in 0..1000 {
            sim.reactor().publish("a", long.as_str());
        }
        sim.socket_bytes(SOCKET_BYTES);
        let socket = envelope(&mut sim);
        socket.send(json!({"subscribe": names, "since": "1:0"}).to_string());
        sim.settle();
        socket.send(json!({"unsubscribe": "a"}).to_string());
        sim.settle();
        let values = read_all(&mut sim, &socket);
        assert!(numbers(&values).len() < 900);
        assert!(values.contains(&json!({"unsubscribed": "a"})));
        // The answer names what is live, and nothing else.
        let answers = values.iter().filter_map(|value| value.get("subscribed"));
        assert_eq!(answers.collect::<Vec<_>>(), Vec::from_iter(&subscribed));
        assert_eq!(sim.reactor().publish("a", "x").delivered, 0);
        assert_eq!(sim.reactor().publish("b", "x").delivered, delivered);
    }
}

#[test]
fn a_slow_member_is_told_where_to_go_on() {
    let mut sim = hub(&["*=history=100000"]);
    let long = "x".repeat(10_000);
    sim.socket_bytes(SOCKET_BYTES);
    let socket = crate::subscribed(&mut sim, "a");
    let client = sim.connect();
    client.write(get("/events?topic=a"));
    sim.settle();
    let mut last = 0;
    while sim.reactor().publish("a", long.as_str()).delivered != 0 {
        last += 1;
        assert!(last < 10_000);
    }
    let values = read_all(&mut sim, &socket);
    assert_eq!(
        numbers(&values),
        (1..=numbers(&values).len() as u64).collect::<Vec<_>>()
    );
    let lagged = values.last().unwrap();
    let got = numbers(&values).len();
    assert_eq!(
        *lagged,
        json!({"lagged": "a", "cursor": format!("1:{got}")})
    );
    assert_eq!(socket.close_code(), Some(1013));
    let mut bytes = Vec::new();
    while !client.is_closed() {
        bytes.extend(client.read());
        sim.settle();
    }
    bytes.extend(client.read());
    let text = answer(&bytes).text().to_owned();
    let events = text.matches("data: x").count();
    let end = format!("id: 1:{events}\nevent: lagged\ndata: a\n\n");
    assert!(text.ends_with(&end), "{}", &text[text.len() - 100..]);
}

#[test]
fn a_client_may_publish_to_all_but_itself() {
    let mut sim = hub(&[]);
    let [first, second] = [(), ()].map(|()| crate::subscribed(&mut sim, "a"));
    let said = say(
        &mut sim,
        &first,
        json!({"publish": "a", "data": 1, "others": true}),
    );
    assert_eq!(said, [] as [Value; 0]);
    assert_eq!(values(&second).len(), 1);
}

#[test]
fn a_hub_without_history_says_so() {
    let mut sim = hub_with(HubOptions {
        history_bytes_max: 0,
        ..HubOptions::default()
    });
    ask(&mut sim, &post("/publish?topic=a", "1"));
    let said = resume(&mut sim, json!({"subscribe": "a", "since": "1:0"}));
    assert_eq!(
        said,
        [
            json!({"gap": "a", "cursor": "1:1"}),
            json!({"subscribed": "a", "cursor": "1:1"}),
        ]
    );
}

// Ten thousand clients that come back together would each have the same history compressed again.
#[cfg(feature = "deflate")]
#[test]
fn a_replay_is_not_compressed_for_each_client() {
    let mut config = Config::default();
    config.options.deflate = waterwheel::protocol::websocket::Deflate::Shared;
    let access = Access {
        open: true,
        ..Access::default()
    };
    let mut sim = Sim::with_config(config, (), move |reactor| {
        let hub = Hub::new(HubOptions::default());
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    });
    let text = "the same words ".repeat(200);
    publish(&mut sim, "news", &text);
    let mut open = || {
        let client = sim.connect();
        let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: waterwheel.v1.json\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        client.write(upgrade);
        sim.settle();
        assert!(client.read_text().contains("permessage-deflate"));
        let command = br#"{"subscribe":"news","since":"earliest"}"#;
        let header = [0x81, 0x80 | command.len() as u8, 0, 0, 0, 0];
        client.write([&header, &command[..]].concat());
        sim.settle();
        client
    };
    let clients = [open(), open()];
    for client in &clients {
        let came = String::from_utf8_lossy(&client.read()).into_owned();
        assert!(came.contains(&text), "{came}");
    }
    assert_eq!(sim.reactor().stats().deflated_messages, 0);
    publish(&mut sim, "news", &text);
    assert_eq!(sim.reactor().stats().deflated_messages, 1);
    for client in &clients {
        assert_eq!(client.read()[0], 0xc1);
    }
}
