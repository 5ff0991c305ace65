//! Subscribers that come back with the id of the last event that they have got.

use super::*;

const PRECEDING: &str = "mercure-last-event-id";

/// A subscriber with the header that a browser sends.
fn come_back(world: &mut World, query: &str, id: &str) -> Subscriber {
    world.subscribe_by(query, &[&format!("Last-Event-ID: {id}")])
}

#[test]
fn a_subscriber_gets_what_it_has_missed() {
    let mut world = serve();
    let mut subscriber = world.subscribe("topic=a&topic=/b/{x}");
    assert_eq!(subscriber.header(PRECEDING), None);
    world.publish("topic=a&data=1");
    let last = subscriber.last_id();
    subscriber.stream.close();
    world.publish("topic=/b/1&data=2&id=urn:two");
    world.publish("topic=c&data=not");
    world.publish("topic=a&topic=/b/2&data=3&type=t&retry=7");
    world.publish("topic=a&data=not&private=on");
    let mut again = come_back(&mut world, "topic=a&topic=/b/{x}", &last);
    assert_eq!(again.header(PRECEDING), Some(last));
    let last = again.last_id();
    assert!(last.starts_with("urn:uuid:"), "{last}");
    let expected = [
        "id: urn:two",
        "data: 2",
        "retry: 7",
        &format!("id: {last}"),
        "event: t",
        "data: 3",
    ];
    assert_eq!(again.lines(), expected);
    world.publish("topic=a&data=4");
    assert_eq!(again.data(), ["4"]);
    let mut at_end = come_back(&mut world, "topic=a", &last);
    assert_eq!(at_end.data(), ["4"]);
}

#[test]
fn a_subscriber_that_got_nothing_yet_misses_nothing() {
    let mut world = serve();
    let mut subscriber = world.subscribe("topic=a");
    let last = subscriber.last_id();
    subscriber.stream.close();
    world.publish("topic=a&data=1&id=own");
    let mut again = come_back(&mut world, "topic=a", &last);
    assert_eq!(again.lines(), ["id: own", "data: 1"]);
}

#[test]
fn ids_of_publishers_are_places() {
    let mut world = serve();
    for (id, topic) in [("x:1", "a"), ("x:2", "b"), ("x:3", "a"), ("1f:7", "a")] {
        world.publish(&format!("topic={topic}&id={id}&data={id}"));
    }
    // Also the id of an event that the subscriber does not select.
    for (id, query, expected) in [
        ("x:1", "topic=a", vec!["x:3", "1f:7"]),
        ("x:1", "topic=*", vec!["x:2", "x:3", "1f:7"]),
        ("x:2", "topic=a", vec!["x:3", "1f:7"]),
        ("x:3", "topic=b", vec![]),
        ("1f:7", "topic=*", vec![]),
    ] {
        let mut subscriber = come_back(&mut world, query, id);
        assert_eq!(subscriber.header(PRECEDING).as_deref(), Some(id));
        assert_eq!(subscriber.data(), expected, "{id} {query}");
        subscriber.stream.close();
    }
}

#[test]
fn the_header_holds_before_the_parameters() {
    let mut world = serve();
    let first = world.publish("topic=a&data=1");
    let second = world.publish("topic=a&data=2");
    let encode = |id: &str| id.replace('#', "%23");
    for name in ["last_event_id", "lastEventID", "Last-Event-ID"] {
        let query = format!("topic=a&{name}={}", encode(&first));
        let mut subscriber = world.subscribe(&query);
        assert_eq!(subscriber.header(PRECEDING).as_deref(), Some(&*first));
        assert_eq!(subscriber.data(), ["2"], "{name}");
        let mut subscriber = come_back(&mut world, &query, &second);
        assert_eq!(subscriber.data(), [""; 0], "{name}");
        let mut subscriber = come_back(&mut world, &query, "");
        assert_eq!(subscriber.data(), ["2"], "{name}");
    }
}

#[test]
fn earliest_and_ids_that_are_forgotten() {
    let mut world = serve();
    world.publish("topic=a&data=1&id=one");
    world.publish("topic=a&data=2");
    for id in ["earliest", "unknown", "#unknown", "#ffff:3", "urn:x y"] {
        let mut subscriber = come_back(&mut world, "topic=a", id);
        let preceding = subscriber.header(PRECEDING);
        assert_eq!(preceding.as_deref(), Some("earliest"), "{id}");
        assert_eq!(subscriber.data(), ["1", "2"], "{id}");
    }
    // The history has an end.
    world.advance(Duration::from_secs(400));
    let mut subscriber = come_back(&mut world, "topic=a", "one");
    assert_eq!(subscriber.header(PRECEDING).as_deref(), Some("earliest"));
    assert_eq!(subscriber.data(), [""; 0]);
    world.publish("topic=a&data=3");
    assert_eq!(subscriber.data(), ["3"]);
}

#[test]
fn a_place_behind_which_something_is_forgotten_is_told() {
    let mut world = serve_with(Setting {
        rules: vec!["mercure:*=history=2"],
        ..Setting::default()
    });
    let first = world.publish("topic=a&data=1");
    let second = world.publish("topic=a&data=2");
    world.publish("topic=a&data=3");
    world.publish("topic=a&data=4");
    for (id, preceding) in [(&first, "earliest"), (&second, &*second)] {
        let mut subscriber = come_back(&mut world, "topic=a", id);
        assert_eq!(subscriber.header(PRECEDING).as_deref(), Some(preceding));
        assert_eq!(subscriber.data(), ["3", "4"]);
    }
}

#[test]
fn the_first_of_two_updates_with_the_same_id_is_the_place() {
    let mut world = serve();
    world.publish("topic=a&data=1&id=same");
    world.publish("topic=a&data=2&id=other");
    world.publish("topic=a&data=3&id=same");
    world.publish("topic=a&data=4");
    let mut subscriber = come_back(&mut world, "topic=a", "same");
    assert_eq!(subscriber.data(), ["2", "3", "4"]);
}

#[test]
fn an_id_on_several_topics_is_one_place() {
    let mut world = serve();
    let id = world.publish("topic=a&topic=b&data=1");
    world.publish("topic=b&data=2");
    for query in ["topic=a&topic=b", "topic=b", "topic=*"] {
        let mut subscriber = come_back(&mut world, query, &id);
        assert_eq!(subscriber.data(), ["2"], "{query}");
    }
}

#[test]
fn an_id_that_would_break_a_head_is_none() {
    let mut world = serve();
    world.publish("topic=a&data=1");
    for id in ["a%0D%0AX-Injected:%201", "a%00", "%C3%A9"] {
        let query = format!("topic=a&last_event_id={id}");
        let mut subscriber = world.subscribe(&query);
        assert_eq!(subscriber.header(PRECEDING).as_deref(), Some("earliest"));
        assert_eq!(subscriber.header("x-injected"), None);
        assert_eq!(subscriber.data(), ["1"]);
    }
    // An id outside ASCII is known all the same.
    world.publish("topic=a&data=2&id=%C3%A9");
    world.publish("topic=a&data=3");
    let mut subscriber = world.subscribe("topic=a&last_event_id=%C3%A9");
    assert_eq!(subscriber.data(), ["3"]);
}

#[test]
fn the_reactors_of_a_group_are_one_hub() {
    let mut world = serve_with(Setting {
        reactor_count: 2,
        ..Setting::default()
    });
    let header = bearer(&subscriber_token(r#""a""#));
    let mut far = world.subscribe_at(1, "topic=a&topic=/{x}", &[&header]);
    let first = world.publish("topic=a&data=1&id=one");
    assert_eq!(first, "one");
    world.publish("topic=a&topic=/2&data=2&private=on");
    assert_eq!(far.data(), ["1", "2"]);
    for reactor in [0, 1] {
        let headers = [&*header, "Last-Event-ID: one"];
        let mut again = world.subscribe_at(reactor, "topic=/{x}&topic=a", &headers);
        assert_eq!(again.header(PRECEDING).as_deref(), Some("one"));
        assert_eq!(again.data(), ["2"]);
    }
}

#[test]
fn a_reactor_that_is_behind_knows_the_ids_of_the_others() {
    let mut world = serve_with(Setting {
        reactor_count: 2,
        ..Setting::default()
    });
    let mut far = world.subscribe_at(1, "topic=b", &[]);
    // More than a reactor delivers in a turn.
    let token = bearer(&publisher_token(r#""*""#));
    let headers = ["Content-Type: application/x-www-form-urlencoded", &token];
    let mut publishers = Vec::new();
    for number in 0..200 {
        let form = format!("topic=b&data={number}&id=own:{number}");
        let publisher = world.sims[0].connect();
        publisher.write(request("POST", PATH, &headers, &form));
        publishers.push(publisher);
    }
    world.sims[0].settle();
    let stream = world.sims[1].connect();
    let last = "Last-Event-ID: own:199";
    stream.write(request("GET", &format!("{PATH}?topic=b"), &[last], ""));
    world.sims[1].turn();
    world.settle();
    let answer = answer::answer(&stream.read());
    assert_eq!(answer.header(PRECEDING), Some("own:199"));
    assert_eq!(far.data().len(), 200);
}
