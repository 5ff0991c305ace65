//! Event streams of topics and patterns.

use crate::support::{answer, get, post};
use crate::{Reader, ask, open, publish, with};

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

// With several topics nothing said which one an event was of.
#[test]
fn an_event_stream_has_the_envelope_as_data_on_request() {
    let mut sim = open();
    let mut reader = Reader::open(&mut sim, "/events?topic=a&topic=b.*&envelope=1");
    let mut bare = Reader::open(&mut sim, "/events?topic=a&envelope=0");
    let value = "{\"n\": 1,\n\"m\":[]}";
    let request = post("/publish?topic=a&topic=b.x&event=sum", value);
    let answered = ask(&mut sim, &with(&request, "Content-Type: application/json"));
    assert_eq!(answered.status, 200, "{}", answered.text());
    // The name is in the envelope alone: an EventSource hides events with a name of their own.
    let expected = concat!(
        "id: 1:0\n\n",
        "id: 1:1\n",
        "data: {\"topic\":\"a\",\"id\":\"1:1\",\"event\":\"sum\",\"data\":{\"n\": 1,\n",
        "data: \"m\":[]}}\n\n",
        "id: 1:2\n",
        "data: {\"topic\":\"b.x\",\"id\":\"1:2\",\"event\":\"sum\",\"by\":\"b.*\",\"data\":{\"n\": 1,\n",
        "data: \"m\":[]}}\n\n",
    );
    assert_eq!(reader.text(), expected);
    let expected = "id: 1:0\n\nid: 1:1\nevent: sum\ndata: {\"n\": 1,\ndata: \"m\":[]}\n\n";
    assert_eq!(bare.text(), expected);
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
        "/events?topic=a&topic=%ff",
        "/events?topic=a&envelope=yes",
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
