//! Private updates reach those alone whose token grants one of their topics.

use super::*;

#[test]
fn private_updates_need_a_grant() {
    let mut world = serve();
    // The query, the topics of the token, and the data that comes.
    let cases: &[(&str, &str, &[&str])] = &[
        ("topic=a", "", &["public"]),
        ("topic=*", "", &["public"]),
        ("topic=/x/{id}", "", &[]),
        ("topic=a", r#""b""#, &["public"]),
        ("topic=*", r#""b""#, &["public"]),
        ("topic=a", r#""a""#, &["private", "public"]),
        ("topic=a&topic=c", r#""a""#, &["private", "public"]),
        ("topic=*", r#""a""#, &["private", "public"]),
        ("topic=*", r#""*""#, &["private", "below", "public"]),
        ("topic=/x/{id}", r#""/x/{id}""#, &["below"]),
        ("topic=/x/{id}", r#""/x/1""#, &["below"]),
        ("topic=/x/{id}", r#""/x/2""#, &[]),
        ("topic=/x/{id}", r#""/y/{id}""#, &[]),
    ];
    let mut subscribers = Vec::new();
    for (query, granted, _) in cases {
        let header = match granted.is_empty() {
            true => String::new(),
            false => bearer(&subscriber_token(granted)),
        };
        subscribers.push(world.subscribe_by(query, &[&header]));
    }
    world.publish("topic=a&data=private&private=on");
    world.publish("topic=/x/1&data=below&private=");
    world.publish("topic=a&data=public");
    for ((query, granted, expected), subscriber) in cases.iter().zip(&mut subscribers) {
        assert_eq!(subscriber.data(), *expected, "{query} {granted}");
    }
    // The same from the history.
    for (query, granted, expected) in cases {
        let header = match granted.is_empty() {
            true => String::new(),
            false => bearer(&subscriber_token(granted)),
        };
        let query = format!("{query}&last_event_id=earliest");
        let mut subscriber = world.subscribe_by(&query, &[&header]);
        assert_eq!(subscriber.data(), *expected, "{query} {granted}");
    }
}

#[test]
fn one_granted_topic_is_enough() {
    let mut world = serve();
    let granted = r#""/users/42/{book}""#;
    let header = bearer(&subscriber_token(granted));
    let queries = [
        ("topic=/books/{id}", true),
        ("topic=/books/1", true),
        ("topic=/users/42/1", true),
        ("topic=*", true),
        ("topic=/books/2", false),
    ];
    let mut live = queries.map(|(query, _)| world.subscribe_by(query, &[&header]));
    let form = "topic=/books/1&topic=/users/42/1&data=x&private=on&id=own";
    world.publish(form);
    world.publish("topic=/books/1&topic=/users/43/1&data=not&private=on");
    world.publish("topic=/books/1&data=not&private=on");
    for ((query, is_received), live) in queries.iter().zip(&mut live) {
        let expected: &[&str] = if *is_received { &["x"] } else { &[] };
        assert_eq!(live.data(), expected, "{query}");
        let again = format!("{query}&last_event_id=earliest");
        let mut again = world.subscribe_by(&again, &[&header]);
        assert_eq!(again.data(), expected, "{query} again");
    }
}

#[test]
fn both_shapes_of_claims_grant() {
    let mut world = serve();
    for claims in [
        r#"{"mercure":{"subscribe":["a"]}}"#,
        &detail("subscribe", "a"),
        &detail("subscribe", "*"),
    ] {
        let header = bearer(&token::sign(claims, SUBSCRIBER_KEY));
        let mut subscriber = world.subscribe_by("match=a", &[&header]);
        world.publish("topic=a&data=x&private=on");
        assert_eq!(subscriber.data(), ["x"], "{claims}");
    }
    let header = bearer(&token::sign(&detail("publish", "a"), SUBSCRIBER_KEY));
    let mut subscriber = world.subscribe_by("match=a", &[&header]);
    world.publish("topic=a&data=x&private=on");
    assert_eq!(subscriber.data(), [""; 0]);
}

#[test]
fn a_private_rule_holds_for_updates_that_are_not() {
    let mut world = serve_with(Setting {
        rules: vec!["mercure:secret*=private"],
        ..Setting::default()
    });
    let granted = bearer(&subscriber_token(r#""secret""#));
    let other = bearer(&subscriber_token(r#""x""#));
    let subscribe = |world: &mut World, query: &str, last: &str| {
        [&*granted, &other, ""].map(|header| {
            let query = format!("topic={query}&{last}");
            world.subscribe_by(&query, &[header])
        })
    };
    let mut live = ["secret", "*", "{x}"].map(|query| subscribe(&mut world, query, ""));
    world.publish("topic=secret&data=x");
    let last = "last_event_id=earliest";
    let mut again = ["secret", "*", "{x}"].map(|query| subscribe(&mut world, query, last));
    for [one, two, three] in live.iter_mut().chain(&mut again) {
        assert_eq!(one.data(), ["x"]);
        assert_eq!(two.data(), [""; 0]);
        assert_eq!(three.data(), [""; 0]);
    }
}

#[test]
fn subscribers_with_the_same_view_share_it_and_others_do_not() {
    let mut world = serve();
    let ann = bearer(&subscriber_token(r#""/users/ann/{x}""#));
    let bob = bearer(&subscriber_token(r#""/users/bob/{x}""#));
    let query = "topic=/users/{u}/mail&topic=/users/ann/1&topic=/users/bob/1";
    let mut subscribers = [&ann, &bob, &ann].map(|header| world.subscribe_by(query, &[header]));
    for round in 0..3 {
        world.publish("topic=/users/ann/1&data=ann&private=on");
        world.publish("topic=/users/bob/1&data=bob&private=on");
        world.publish("topic=/users/bob/1&data=all");
        let [one, two, three] = &mut subscribers;
        assert_eq!(one.data(), ["ann", "all"], "{round}");
        assert_eq!(two.data(), ["bob", "all"], "{round}");
        assert_eq!(three.data(), ["ann", "all"], "{round}");
        // A view that has gone leaves its number to another one.
        subscribers[0].stream.close();
        world.settle();
        subscribers[0] = world.subscribe_by(query, &[&ann]);
        subscribers[1].stream.close();
        world.settle();
        subscribers[1] = world.subscribe_by(query, &[&bob]);
    }
}
