//! Long polls of topics and patterns.

use serde_json::{Value, json};
use waterwheel::hub::{Access, Hub, HubOptions};
use waterwheel::{Config, Sim};

use crate::support::{Answer, answer, get, post};
use crate::{ask, guarded, open, open_with, publish, with};

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
