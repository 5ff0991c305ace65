//! Long polls of topics and patterns.

use serde_json::{Value, json};
use waterwheel::hub::{Access, Hub, HubOptions, ReactorGroup};
use waterwheel::{Config, ConnectionOptions, Sim, SimStream};

use crate::support::{Answer, answer, answers, answers_to, get, post};
use crate::tokens::{LEEWAY, hub_with, token, with_secret};
use crate::{ask, guarded, open, open_with, plain, publish, seconds, values, with};

/// An open hub with these rules.
fn ruled(rules: &[&str], history_bytes_max: usize) -> Sim<()> {
    let mut options = HubOptions {
        history_bytes_max,
        ..HubOptions::default()
    };
    for rule in rules {
        options.rules.add_text(rule).expect("a rule");
    }
    let access = Access {
        open: true,
        ..Access::default()
    };
    Sim::new((), move |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            Hub::new(options).mount(router, &access);
        })
    })
}

/// The JSON of an answer, whose fields are checked.
fn polled(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let value: Value = serde_json::from_str(answer.text()).expect("JSON");
    assert!(value["cursor"].is_string(), "{value}");
    assert!(value["messages"].is_array(), "{value}");
    value
}

fn poll(sim: &mut Sim<()>, query: &str) -> Value {
    polled(&ask(sim, &get(&format!("/poll?{query}"))))
}

/// As [`ask`], for an answer that is longer than a socket's buffer.
fn ask_long(sim: &mut Sim<()>, request: &str) -> Answer {
    let stream = sim.connect();
    stream.write(request);
    let mut bytes = Vec::new();
    loop {
        sim.settle();
        let more = stream.read();
        if more.is_empty() {
            return answer(&bytes);
        }
        bytes.extend(more);
    }
}

/// A poll that waits: its answer has not come.
fn waiting(sim: &mut Sim<()>, query: &str) -> SimStream {
    let stream = sim.connect();
    stream.write(get(&format!("/poll?{query}")));
    sim.settle();
    assert_eq!(stream.read_text(), "", "{query}");
    stream
}

/// The numbers of the messages.
fn numbers(answer: &Value) -> Vec<u64> {
    let messages = answer["messages"].as_array().expect("an array");
    let number = |message: &Value| {
        let id = message["id"].as_str().and_then(|id| id.strip_prefix("1:"));
        id.and_then(|number| number.parse().ok())
    };
    messages
        .iter()
        .map(|message| number(message).expect("an id"))
        .collect()
}

#[test]
fn a_poll_without_a_cursor_is_answered_at_once_with_one() {
    let mut sim = open();
    assert_eq!(
        poll(&mut sim, "topic=a"),
        json!({"cursor": "1:0", "messages": []})
    );
    publish(&mut sim, "a", "x");
    publish(&mut sim, "b", "x");
    assert_eq!(
        poll(&mut sim, "topic=a&wait=60"),
        json!({"cursor": "1:2", "messages": []})
    );
}

#[test]
fn a_poll_with_a_cursor_gets_the_messages_behind_it() {
    let mut sim = open();
    for (topic, text) in [("a", "1"), ("b", "2"), ("c.x", "3"), ("d", "4"), ("a", "5")] {
        publish(&mut sim, topic, text);
    }
    let named = post("/publish?topic=b&event=sum", "{\"n\":6}");
    ask(&mut sim, &with(&named, "Content-Type: application/json"));
    let query = "topic=a&topic=c.*&topic=b&topic=a&topic=a*&since=1:1";
    let expected = json!({"cursor": "1:6", "messages": [
        {"topic": "b", "id": "1:2", "data": "2"},
        {"topic": "c.x", "id": "1:3", "by": "c.*", "data": "3"},
        {"topic": "a", "id": "1:5", "data": "5"},
        {"topic": "b", "id": "1:6", "event": "sum", "data": {"n": 6}},
    ]});
    assert_eq!(poll(&mut sim, query), expected);
    // The same again: the hub keeps no place of the client.
    assert_eq!(poll(&mut sim, query), expected);
    let earliest = poll(&mut sim, "topic=d&topic=a&since=earliest");
    assert_eq!(numbers(&earliest), [1, 4, 5]);
    assert_eq!(earliest["gap"], Value::Null);
}

#[test]
fn one_answer_has_at_most_a_thousand_messages() {
    let mut sim = ruled(&["a=history=5000"], 64 << 20);
    for number in 1..=2500 {
        let id = sim.reactor().publish("a", "x").id;
        assert_eq!(id.number, number);
    }
    let mut cursor = String::from("1:0");
    let mut seen = Vec::new();
    for expected in [1000, 1000, 500] {
        let answer = poll(&mut sim, &format!("topic=a&since={cursor}"));
        let numbers = numbers(&answer);
        assert_eq!(numbers.len(), expected);
        seen.extend(numbers);
        cursor = answer["cursor"].as_str().expect("a cursor").to_owned();
        assert_eq!(cursor, format!("1:{}", seen.len()));
    }
    assert!(seen.into_iter().eq(1..=2500));
}

#[test]
fn one_answer_has_at_most_a_mebibyte_of_messages() {
    let mut sim = ruled(&["a=history=5000"], 64 << 20);
    // Control characters are six times as long in JSON as in the history.
    let sizes = [300_000, 60_000, 60_000, 60_000, 10, 200_000, 10];
    for size in sizes {
        sim.reactor().publish("a", "\u{1}".repeat(size));
    }
    let mut cursor = String::from("1:0");
    let mut parts = Vec::new();
    while cursor != "1:7" {
        let answer = ask_long(&mut sim, &get(&format!("/poll?topic=a&since={cursor}")));
        let value = polled(&answer);
        let numbers = numbers(&value);
        // One that is longer goes alone.
        assert!(answer.body.len() < (1 << 20) + 100 || numbers.len() == 1);
        cursor = value["cursor"].as_str().expect("a cursor").to_owned();
        assert_eq!(cursor, format!("1:{}", numbers.last().expect("a message")));
        parts.push(numbers);
    }
    assert_eq!(parts, [vec![1], vec![2, 3], vec![4, 5], vec![6], vec![7]]);
}

#[test]
fn a_poll_is_told_of_messages_that_are_gone() {
    let mut sim = ruled(&["short=history=2", "none=history=0"], 64 << 20);
    for _ in 0..4 {
        publish(&mut sim, "short", "x");
    }
    publish(&mut sim, "none", "x");
    publish(&mut sim, "kept", "x");
    // Query, numbers of the messages, gaps.
    let cases: &[(&str, &[u64], &[&str])] = &[
        ("topic=short&topic=kept&since=1:2", &[3, 4, 6], &[]),
        ("topic=short&topic=kept&since=1:1", &[3, 4, 6], &["short"]),
        ("topic=none&since=1:4", &[], &["none"]),
        ("topic=none&topic=kept&since=1:5", &[6], &[]),
        ("topic=none&since=earliest", &[], &[]),
        ("topic=sho*&since=1:1", &[3, 4], &["short"]),
        // Another epoch, and the future.
        ("topic=kept&since=2:3", &[6], &["kept"]),
        ("topic=kept&since=1:7", &[], &["kept"]),
        (
            "topic=k*&topic=short&since=2:0",
            &[3, 4, 6],
            &["k*", "short"],
        ),
    ];
    for (query, expected, gaps) in cases {
        let answer = poll(&mut sim, &format!("{query}&wait=0"));
        assert_eq!(numbers(&answer), *expected, "{query}: {answer}");
        match gaps {
            [] => assert_eq!(answer["gap"], Value::Null, "{query}"),
            _ => assert_eq!(answer["gap"], json!(gaps), "{query}"),
        }
        assert_eq!(answer["cursor"], "1:6", "{query}");
    }
}

#[test]
fn a_gap_is_told_once_where_an_answer_has_no_room_for_all() {
    let gap_a = json!(["a"]);
    for (first, expected) in [("a", [&gap_a, &Value::Null]), ("b", [&Value::Null, &gap_a])] {
        let mut sim = ruled(&["b=history=5000", "a=history=1"], 64 << 20);
        let counts = [("a", 3), ("b", 1500), ("a", 3)];
        let range = if first == "a" { 0..2 } else { 1..3 };
        for (topic, count) in &counts[range] {
            for _ in 0..*count {
                sim.reactor().publish(topic, "x");
            }
        }
        let one = poll(&mut sim, "topic=a&topic=b&since=1:0");
        let cursor = one["cursor"].as_str().expect("a cursor");
        let two = poll(&mut sim, &format!("topic=a&topic=b&since={cursor}"));
        assert_eq!([&one["gap"], &two["gap"]], expected);
        assert_eq!(numbers(&one).len() + numbers(&two).len(), 1501);
    }
}

#[test]
fn a_poll_gets_the_current_values() {
    let mut sim = ruled(&["prices=latest,history=1"], 64 << 20);
    for (key, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
        let event = waterwheel::pubsub::Event::message(text).key(key);
        sim.reactor().publish("prices", event);
    }
    sim.reactor().publish("other", "5");
    let now = poll(&mut sim, "topic=prices&latest=1");
    assert_eq!(numbers(&now), [2, 3, 4]);
    assert_eq!(now["gap"], Value::Null);
    let changed = poll(&mut sim, "topic=prices&latest=1&since=1:2");
    assert_eq!(numbers(&changed), [3, 4]);
    let behind = poll(&mut sim, "topic=prices&latest=0&since=1:3");
    assert_eq!(numbers(&behind), [4]);
    assert_eq!(now["cursor"], "1:5");
}

#[test]
fn a_poll_that_is_not_valid_is_refused() {
    let mut sim = open_with(Config {
        subscriptions_max: 3,
        patterns_max: 1,
        ..Config::default()
    });
    for query in [
        "",
        "topics=a",
        "topic=",
        "topic=a%0Ab",
        "topic=%ff",
        "topic=a&x=%ff",
        "topic=a&since=",
        "topic=a&since=1",
        "topic=a&since=1:",
        "topic=a&since=1:01",
        "topic=a&since=g:1",
        "topic=a&since=+1:1",
        "topic=a&since=1:18446744073709551616",
        "topic=a&since=1:1.2",
        "topic=a&since=1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14",
        "topic=a&since=1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16",
        "topic=a&since=1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15-0",
        "topic=a&since=Earliest",
        "topic=a&wait=",
        "topic=a&wait=x",
        "topic=a&wait=-1",
        "topic=a&wait=%2B1",
        "topic=a&wait=1.5",
        "topic=a&wait=61",
        "topic=a&wait=99999999999999999999",
        "topic=a&latest=",
        "topic=a&latest=yes",
        "topic=a&topic=b&topic=c&topic=d",
        "topic=a*&topic=b*",
    ] {
        let refused = ask(&mut sim, &get(&format!("/poll?{query}")));
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().ends_with('\n'), "{query}");
    }
    assert_eq!(ask(&mut sim, &get("/poll")).status, 400);
    assert_eq!(ask(&mut sim, &post("/poll?topic=a", "")).status, 405);
    let long = format!("/poll?topic={}", "x".repeat(257));
    assert_eq!(ask(&mut sim, &get(&long)).status, 400);
    for query in [
        "topic=a&topic=a&topic=a&topic=a",
        "topic=a&x=1",
        "topic=a&wait=0",
    ] {
        poll(&mut sim, query);
    }
    assert_eq!(sim.reactor().topic_count(), 0);
}

#[test]
fn a_poll_of_a_pattern_needs_the_token() {
    let mut sim = guarded();
    assert_eq!(ask(&mut sim, &get("/poll?topic=a")).status, 200);
    assert_eq!(ask(&mut sim, &get("/poll?topic=a*")).status, 401);
    assert_eq!(ask(&mut sim, &get("/poll?topic=a*&token=no")).status, 401);
    assert_eq!(
        ask(&mut sim, &get("/poll?topic=a*&token=secret")).status,
        200
    );
}

#[test]
fn a_poll_is_refused_for_load() {
    let mut sim = open_with(Config {
        subscriptions_total_max: Some(1),
        ..Config::default()
    });
    let refused = ask(&mut sim, &get("/poll?topic=a&topic=b"));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    poll(&mut sim, "topic=a");
}

// ── polls that wait ──────────────────────────────────────────────────────────────────────────

#[test]
fn a_poll_that_waits_is_answered_with_the_first_message() {
    let mut sim = open();
    publish(&mut sim, "a", "x");
    let by_name = waiting(&mut sim, "topic=a&topic=a*&since=1:1");
    let by_pattern = waiting(&mut sim, "topic=b&topic=a*&since=1:1");
    let elsewhere = waiting(&mut sim, "topic=b&since=1:1");
    let socket = plain(&mut sim, &["a"]);
    assert_eq!(publish(&mut sim, "a", "y"), (2, 3));
    let message = json!({"topic": "a", "id": "1:2", "data": "y"});
    let expected = json!({"cursor": "1:2", "messages": [message]});
    assert_eq!(polled(&answer(&by_name.read())), expected);
    let message = json!({"topic": "a", "id": "1:2", "by": "a*", "data": "y"});
    let expected = json!({"cursor": "1:2", "messages": [message]});
    assert_eq!(polled(&answer(&by_pattern.read())), expected);
    assert_eq!(elsewhere.read_text(), "");
    // The first two are between two polls.
    assert_eq!(publish(&mut sim, "a", "z"), (3, 1));
    assert_eq!(socket.received(), ["y", "z"]);
    assert_eq!(sim.reactor().topic_count(), 2);
    // The next poll on the same connection goes on behind the first.
    by_name.write(get("/poll?topic=a&since=1:2"));
    sim.settle();
    let value = polled(&answer(&by_name.read()));
    assert_eq!(
        (numbers(&value), &value["cursor"]),
        (vec![3], &json!("1:3"))
    );
}

#[test]
fn a_poll_that_waits_gets_messages_that_are_not_kept() {
    let mut sim = ruled(&["none=history=0"], 64 << 20);
    let client = waiting(&mut sim, "topic=none&since=1:0");
    assert_eq!(publish(&mut sim, "none", "x"), (1, 1));
    let value = polled(&answer(&client.read()));
    assert_eq!(numbers(&value), [1]);
    assert_eq!(
        (&value["cursor"], &value["gap"]),
        (&json!("1:1"), &Value::Null)
    );
    let mut sim = ruled(&[], 0);
    let client = waiting(&mut sim, "topic=a&since=1:0");
    publish(&mut sim, "a", "x");
    assert_eq!(numbers(&polled(&answer(&client.read()))), [1]);
}

#[test]
fn a_poll_is_answered_when_its_time_is_over() {
    // The deadlines of other connections and answers do not end it.
    let mut sim = open_with(Config {
        head_timeout: seconds(2),
        keep_alive_timeout: seconds(2),
        options: ConnectionOptions {
            reply_timeout: seconds(3),
            idle_timeout: Some(seconds(2)),
            ..ConnectionOptions::default()
        },
        ..Config::default()
    });
    for (query, time) in [
        ("topic=a&since=1:0", 25),
        ("topic=a&since=1:0&wait=60", 60),
        ("topic=a&since=1:0&wait=1", 1),
        ("topic=a&topic=*&since=earliest&wait=10", 10),
    ] {
        let client = sim.connect();
        client.write(get(&format!("/poll?{query}")));
        sim.advance(seconds(time) - seconds(1) / 1000);
        assert_eq!(client.read_text(), "", "{query}");
        sim.advance(seconds(1));
        let expected = json!({"cursor": "1:0", "messages": []});
        assert_eq!(polled(&answer(&client.read())), expected, "{query}");
        assert_eq!(sim.reactor().topic_count(), 0);
        client.close();
    }
}

#[test]
fn a_poll_that_has_waited_for_nothing_has_a_newer_cursor() {
    let mut sim = open();
    let client = waiting(&mut sim, "topic=a&since=1:0&wait=5");
    for number in 1..=7 {
        assert_eq!(publish(&mut sim, "other", "x"), (number, 0));
    }
    sim.advance(seconds(6));
    let value = polled(&answer(&client.read()));
    assert_eq!(value, json!({"cursor": "1:7", "messages": []}));
}

#[test]
fn all_messages_of_a_turn_are_in_one_answer() {
    let mut sim = open();
    let client = waiting(&mut sim, "topic=a&topic=b&since=1:0");
    let publisher = sim.connect();
    let requests = ["a", "b", "c", "a"].map(|topic| post(&format!("/publish?topic={topic}"), "x"));
    publisher.write(requests.concat());
    sim.settle();
    let value = polled(&answer(&client.read()));
    assert_eq!(numbers(&value), [1, 2, 4]);
    assert_eq!(value["cursor"], "1:4");
}

#[test]
fn a_poll_that_waits_gets_at_most_a_thousand_messages() {
    let mut sim = ruled(&["a=history=5000"], 64 << 20);
    let client = waiting(&mut sim, "topic=a&since=1:0");
    let mut delivered = 0;
    for _ in 0..1500 {
        delivered += sim.reactor().publish("a", "x").delivered;
    }
    assert_eq!(delivered, 1000);
    sim.settle();
    let value = polled(&answer(&client.read()));
    assert!(numbers(&value).into_iter().eq(1..=1000));
    assert_eq!(value["cursor"], "1:1000");
    let rest = poll(&mut sim, "topic=a&since=1:1000");
    assert!(numbers(&rest).into_iter().eq(1001..=1500));
}

#[test]
fn a_poll_that_waits_gets_at_most_a_mebibyte() {
    let mut sim = open();
    // The second does not fit, and the third would go before it.
    let client = waiting(&mut sim, "topic=a&since=1:0");
    for bytes in [1 << 20, 10, 1] {
        sim.reactor().publish("a", "x".repeat(bytes));
    }
    let mut bytes = Vec::new();
    loop {
        sim.settle();
        let more = client.read();
        if more.is_empty() {
            break;
        }
        bytes.extend(more);
    }
    let value = polled(&answer(&bytes));
    assert_eq!(
        (numbers(&value), &value["cursor"]),
        (vec![1], &json!("1:1"))
    );
    assert_eq!(numbers(&poll(&mut sim, "topic=a&since=1:1")), [2, 3]);
}

#[test]
fn many_polls_wait_for_one_topic() {
    let mut sim = open();
    let clients: Vec<SimStream> = (0..1000)
        .map(|_| waiting(&mut sim, "topic=a&since=1:0"))
        .collect();
    assert_eq!(sim.reactor().member_count("a"), 1000);
    assert_eq!(publish(&mut sim, "a", "x"), (1, 1000));
    for client in &clients {
        assert_eq!(numbers(&polled(&answer(&client.read()))), [1]);
    }
    assert_eq!(sim.reactor().subscription_count(), 0);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing() {
    let ways: [(&str, fn(&SimStream)); 3] = [
        ("resets", SimStream::reset),
        ("closes", SimStream::close),
        ("ends its side", SimStream::finish),
    ];
    for (name, leave) in ways {
        for is_pipelined in [false, true] {
            let mut sim = open();
            let request = get("/poll?topic=a&topic=b*&since=1:0");
            let client = sim.connect();
            client.write(request.repeat(if is_pipelined { 3 } else { 1 }));
            sim.settle();
            assert_eq!(sim.reactor().subscription_count(), 2);
            leave(&client);
            sim.settle();
            assert_eq!(sim.reactor().subscription_count(), 0, "{name}");
            assert_eq!(publish(&mut sim, "a", "x"), (1, 0), "{name}");
            client.close();
            sim.advance(seconds(100));
            assert_eq!(sim.reactor().connection_count(), 0, "{name}");
        }
    }
}

#[test]
fn a_client_that_leaves_as_its_message_comes_is_no_member_afterwards() {
    let mut sim = open();
    let client = waiting(&mut sim, "topic=a&since=1:0");
    client.reset();
    // Not settled: the reactor does not know yet.
    assert_eq!(sim.reactor().publish("a", "x").delivered, 1);
    sim.settle();
    assert_eq!(sim.reactor().connection_count(), 0);
    assert_eq!(sim.reactor().publish("a", "x").delivered, 0);
    // The other way round: the end is noticed first.
    let client = waiting(&mut sim, "topic=a&since=1:2");
    client.finish();
    sim.settle();
    assert_eq!(sim.reactor().publish("a", "x").delivered, 0);
}

#[test]
fn pipelined_polls_are_answered_in_order() {
    let mut sim = open();
    publish(&mut sim, "a", "x");
    let client = sim.connect();
    client.write(
        [
            "/poll?topic=a&since=1:0",
            "/poll?topic=a&since=1:1",
            "/poll?topic=a&since=1:1&wait=5",
            "/healthz",
        ]
        .map(get)
        .concat(),
    );
    sim.settle();
    let first = polled(&answer(&client.read()));
    assert_eq!(numbers(&first), [1]);
    assert_eq!(publish(&mut sim, "a", "y"), (2, 1));
    let both = answers(&client.read());
    assert_eq!(both.len(), 3);
    assert_eq!(numbers(&polled(&both[0])), [2]);
    assert_eq!(numbers(&polled(&both[1])), [2]);
    assert_eq!(both[2].text(), "ok\n");
}

#[test]
fn a_head_does_not_wait() {
    let mut sim = open();
    let client = sim.connect();
    client.write(get("/poll?topic=a&since=1:0").replacen("GET", "HEAD", 1));
    sim.settle();
    let answered = answers_to(&["HEAD"], &client.read());
    assert_eq!((answered.len(), answered[0].status), (1, 200));
    assert_eq!(publish(&mut sim, "a", "x"), (1, 0));
    client.write(get("/healthz"));
    sim.settle();
    assert_eq!(answer(&client.read()).text(), "ok\n");
}

#[test]
fn a_client_of_an_older_version_may_wait() {
    let mut sim = open();
    let client = sim.connect();
    client.write("GET /poll?topic=a&since=1:0 HTTP/1.0\r\n\r\n");
    sim.settle();
    assert_eq!(publish(&mut sim, "a", "x"), (1, 1));
    let answered = answer(&client.read());
    assert_eq!(numbers(&polled(&answered)), [1]);
    assert!(answered.closes() && client.is_closed());
}

#[test]
fn a_connection_that_has_waited_may_become_anything() {
    let mut sim = open();
    let client = waiting(&mut sim, "topic=a&topic=b&since=1:0");
    publish(&mut sim, "b", "x");
    client.read();
    client.write(get("/events?topic=a"));
    sim.settle();
    client.read();
    assert_eq!(publish(&mut sim, "b", "x"), (2, 0));
    assert_eq!(publish(&mut sim, "a", "x"), (3, 1));
    assert!(client.read_text().contains("id: 1:3\ndata: x\n\n"));
    // Members that take the same encoding do not disturb each other.
    let socket = crate::subscribed(&mut sim, "a");
    let client = waiting(&mut sim, "topic=a&since=1:3");
    assert_eq!(publish(&mut sim, "a", "y"), (4, 3));
    let message = json!({"topic": "a", "id": "1:4", "data": "y"});
    assert_eq!(values(&socket), std::slice::from_ref(&message));
    assert_eq!(
        polled(&answer(&client.read()))["messages"],
        json!([message])
    );
}

#[test]
fn polls_that_wait_are_answered_when_the_hub_drains() {
    for window in [0, 1] {
        let mut sim = open();
        let clients = [(); 10].map(|()| waiting(&mut sim, "topic=a&since=1:0&wait=60"));
        publish(&mut sim, "b", "x");
        sim.reactor().drain(seconds(window));
        sim.settle();
        if window != 0 {
            let client = sim.connect();
            client.write(get("/poll?topic=a"));
            sim.settle();
            let refused = answer(&client.read());
            assert_eq!(refused.status, 503);
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        sim.advance(seconds(window));
        for client in clients {
            let answered = answer(&client.read());
            let expected = json!({"cursor": "1:1", "messages": []});
            assert_eq!(polled(&answered), expected);
            assert!(answered.closes());
        }
    }
}

#[test]
fn a_poll_that_may_not_wait_for_a_pattern_is_refused() {
    let mut sim = guarded();
    assert_eq!(ask(&mut sim, &get("/poll?topic=a*&since=1:0")).status, 401);
    assert_eq!(sim.reactor().subscription_count(), 0);
    let client = waiting(&mut sim, "topic=a*&since=1:0&token=secret");
    sim.reactor().publish("ab", "x");
    sim.settle();
    assert_eq!(numbers(&polled(&answer(&client.read()))), [1]);
}

// ── rights ───────────────────────────────────────────────────────────────────────────────────

/// A poll with a token.
fn as_user(target: &str, token: &str) -> String {
    with(&get(target), &format!("Authorization: Bearer {token}"))
}

#[test]
fn polls_of_several_users_on_one_connection_have_their_own_rights() {
    let mut sim = hub_with(with_secret(), &["private.*=private"]);
    let alice = token("alice", 1000, &["private.a", "*"], &[]);
    let bob = token("bob", 1000, &["private.b"], &[]);
    let client = sim.connect();
    let all = "/poll?topic=p*&since=1:0&wait=60";
    let poll = |sim: &mut Sim<()>, request: String, topic: &str| {
        client.write(request);
        sim.settle();
        for topic in ["private.a", "private.b", topic] {
            sim.reactor().publish(topic, "x");
        }
        sim.settle();
        let answered = answer(&client.read());
        (answered.status, answered.text().to_owned())
    };
    // The names in an answer.
    let names = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("JSON");
        let messages = value["messages"].as_array().expect("an array").iter();
        let names = messages.map(|it| it["topic"].as_str().expect("a topic").to_owned());
        names.collect::<Vec<_>>()
    };
    let (_, text) = poll(&mut sim, as_user(all, &alice), "p");
    assert_eq!(names(&text), ["private.a", "private.b", "p"]);
    let since = "/poll?topic=p*&since=1:3&wait=60";
    let (_, text) = poll(&mut sim, as_user(since, &bob), "p");
    assert_eq!(names(&text), ["private.b", "p"]);
    // Without a token, on the same connection.
    let (status, _) = poll(&mut sim, get("/poll?topic=private.b&since=1:6"), "p");
    assert_eq!(status, 401);
    let (status, _) = poll(
        &mut sim,
        as_user("/poll?topic=private.a&since=1:9", &bob),
        "p",
    );
    assert_eq!(status, 403);
    let (_, text) = poll(&mut sim, get("/poll?topic=p&since=1:12"), "p");
    assert_eq!(names(&text), ["p"]);
    // From the history too.
    let (_, text) = poll(&mut sim, as_user("/poll?topic=p*&since=1:0", &bob), "p");
    assert!(!text.contains("private.a"), "{text}");
    assert_eq!(sim.reactor().subscription_count(), 0);
}

#[test]
fn a_poll_that_waits_ends_with_its_token() {
    let mut sim = hub_with(with_secret(), &["private.*=private"]);
    let short = token("alice", 5, &["private.*"], &[]);
    let long = token("alice", 1000, &["private.*"], &[]);
    let [ends, stays, open] = [(); 3].map(|()| sim.connect());
    let target = "/poll?topic=private.a&topic=b&since=1:0&wait=60";
    ends.write(as_user(target, &short));
    stays.write(as_user(target, &long));
    open.write(get("/poll?topic=b&since=1:0&wait=60"));
    sim.settle();
    sim.advance(seconds(5 + LEEWAY - 1));
    assert_eq!(ends.read_text(), "");
    sim.advance(seconds(2));
    let expected = json!({"cursor": "1:0", "messages": []});
    assert_eq!(polled(&answer(&ends.read())), expected);
    assert_eq!(stays.read_text() + &open.read_text(), "");
    ends.write(as_user(target, &short));
    sim.settle();
    assert_eq!(answer(&ends.read()).status, 401);
    assert_eq!(sim.reactor().publish("private.a", "x").delivered, 1);
    sim.settle();
    assert_eq!(numbers(&polled(&answer(&stays.read()))), [1]);
    // The end of that token ends no later poll on the connection.
    for _ in 0..20 {
        stays.write(get("/poll?topic=b&since=1:1&wait=60"));
        sim.advance(seconds(59));
        assert_eq!(stays.read_text(), "");
        sim.advance(seconds(2));
        assert!(numbers(&polled(&answer(&stays.read()))).is_empty());
    }
}

// ── sequences ────────────────────────────────────────────────────────────────────────────────

/// Random numbers that are the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// A client that polls again and again, on any of the reactors.
struct Poller {
    names: &'static str,
    cursor: Option<String>,
    /// The connection, and whether an answer is owed on it.
    stream: Option<(usize, SimStream, bool)>,
    bytes: Vec<u8>,
    seen: Vec<u64>,
}

const TOPICS: [&str; 3] = ["a", "b.x", "b.y"];

impl Poller {
    fn wants(&self, topic: &str) -> bool {
        match self.names {
            "topic=a" => topic == "a",
            "topic=b.*" => topic.starts_with("b."),
            _ => topic != "b.y",
        }
    }

    fn ask(&mut self, sims: &mut [Sim<()>], random: &mut Xorshift) {
        let (at, stream, _) = match self.stream.take() {
            Some(kept) => kept,
            None => {
                let at = random.below(sims.len());
                (at, sims[at].connect(), false)
            }
        };
        let since = self
            .cursor
            .as_ref()
            .map(|cursor| format!("&since={cursor}"));
        let (since, names) = (since.unwrap_or_default(), self.names);
        stream.write(get(&format!("/poll?{names}{since}")));
        self.stream = Some((at, stream, true));
    }

    /// Reads what has come. Returns whether there was an answer.
    fn read(&mut self) -> bool {
        let Some((_, stream, is_owed)) = &mut self.stream else {
            return false;
        };
        self.bytes.extend(stream.read());
        if !self.bytes.ends_with(b"}\n") {
            return false;
        }
        let value = polled(&answer(&std::mem::take(&mut self.bytes)));
        *is_owed = false;
        assert_eq!(value["gap"], Value::Null, "everything is kept");
        self.seen.extend(numbers(&value));
        self.cursor = value["cursor"].as_str().map(str::to_owned);
        true
    }
}

/// Polls and publishes at random moments on so many reactors. Each client must see each message once.
fn poll_at_random(seed: u64, reactor_count: usize) {
    let mut random = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let group = ReactorGroup::new(reactor_count);
    let access = Access {
        open: true,
        ..Access::default()
    };
    let mut options = HubOptions::default();
    options.rules.add_text("*=history=10000").expect("a rule");
    let mut sims: Vec<Sim<()>> = (0..reactor_count)
        .map(|_| {
            Sim::new((), |reactor| {
                let hub = match reactor_count {
                    1 => Hub::new(options.clone()),
                    _ => Hub::of_group(&group.join(reactor)?, options.clone()),
                };
                reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
            })
        })
        .collect();
    let mut pollers: Vec<Poller> = ["topic=a", "topic=b.*", "topic=a&topic=b.x&topic=*.x"]
        .iter()
        .cycle()
        .take(12)
        .map(|names| Poller {
            names,
            cursor: None,
            stream: None,
            bytes: Vec::new(),
            seen: Vec::new(),
        })
        .collect();
    // The first cursor of each, so that all of them want everything.
    for poller in &mut pollers {
        poller.ask(&mut sims, &mut random);
        for sim in &mut sims {
            sim.settle();
        }
        assert!(poller.read());
    }
    let mut published = Vec::new();
    for _ in 0..400 {
        let at = random.below(reactor_count);
        match random.below(6) {
            0 | 1 => {
                let topic = TOPICS[random.below(3)];
                let id = sims[at].reactor().publish(topic, "x").id;
                published.push((id.number, topic));
            }
            2 => sims[at].turn(),
            3 => sims[at].settle(),
            _ => {
                let poller = &mut pollers[random.below(12)];
                poller.read();
                let is_owed = matches!(poller.stream, Some((_, _, true)));
                if random.below(4) == 0 {
                    // Gives up: an answer may be on its way, or half read.
                    if let Some((_, stream, _)) = poller.stream.take() {
                        match random.below(2) {
                            0 => stream.reset(),
                            _ => stream.close(),
                        }
                    }
                    poller.bytes.clear();
                } else if !is_owed {
                    poller.ask(&mut sims, &mut random);
                }
            }
        }
    }
    published.sort_unstable();
    let last = published.last().expect("there were some").0;
    for round in 0.. {
        assert!(round < 100, "seed {seed}");
        for _ in 0..2 * reactor_count {
            for sim in &mut sims {
                sim.settle();
            }
        }
        let mut is_over = true;
        for poller in &mut pollers {
            poller.read();
            is_over &= poller.cursor.as_deref() == Some(&format!("1:{last}"));
            let is_owed = matches!(poller.stream, Some((_, _, true)));
            if !is_owed {
                poller.ask(&mut sims, &mut random);
            }
        }
        if is_over {
            break;
        }
        for sim in &mut sims {
            sim.advance(seconds(26));
        }
    }
    for (index, poller) in pollers.iter().enumerate() {
        let wanted = published.iter().filter(|(_, topic)| poller.wants(topic));
        let wanted: Vec<u64> = wanted.map(|(number, _)| *number).collect();
        assert_eq!(poller.seen, wanted, "seed {seed}, client {index}");
    }
}

#[test]
fn polls_get_each_message_once_while_publishing_goes_on() {
    for seed in 1..=100 {
        poll_at_random(seed, 1);
    }
}

#[test]
fn polls_get_each_message_once_on_any_reactor_of_a_group() {
    for seed in 1..=100 {
        poll_at_random(seed, 2);
    }
}
