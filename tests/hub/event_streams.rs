//! Event streams of topics and patterns.

use crate::support::{answer, get, post};
use crate::{Reader, ask, open, publish};

#[test]
fn an_event_stream_takes_several_topics_and_patterns() {
    let mut sim = open();
    let mut reader = Reader::open(&mut sim, "/events?topic=a&topic=b.*&topic=caf%C3%A9");
    for (topic, text) in [
        ("a", "1"),
        ("b", "2"),
        ("b.x", "3"),
        ("caf%C3%A9", "4"),
        ("c", "5"),
        ("a", "6"),
    ] {
        publish(&mut sim, topic, text);
    }
    let seen = reader.events();
    let seen: Vec<(&str, &str)> = seen
        .iter()
        .map(|(id, data)| (id.as_str(), data.as_str()))
        .collect();
    assert_eq!(
        seen,
        [("1:1", "1"), ("1:3", "3"), ("1:4", "4"), ("1:6", "6")]
    );
}

#[test]
fn an_event_stream_without_topics_is_refused() {
    let mut sim = open();
    for target in [
        "/events",
        "/events?topics=a",
        "/events?topic=",
        "/events?topic=a&topic=",
        "/events?topic=a%0Ab",
        "/events?topic=%ff",
    ] {
        let refused = ask(&mut sim, &get(target));
        assert_eq!(refused.status, 400, "{target}");
        assert!(refused.text().ends_with('\n'), "{target}");
    }
    assert_eq!(sim.reactor().topic_count(), 0);
    assert_eq!(ask(&mut sim, &post("/events?topic=a", "")).status, 405);
}

// A HEAD once made its connection a member, so publications were sent between two answers.
#[test]
fn head_of_an_event_stream_subscribes_to_nothing() {
    let mut sim = open();
    let stream = sim.connect();
    stream.write(get("/events?topic=a&topic=b*").replacen("GET", "HEAD", 1));
    sim.settle();
    stream.read();
    assert_eq!(publish(&mut sim, "a", "x"), (1, 0));
    assert_eq!(publish(&mut sim, "b", "x"), (2, 0));
    stream.write(get("/healthz"));
    sim.settle();
    assert_eq!(answer(&stream.read()).text(), "ok\n");
}
