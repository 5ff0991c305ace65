//! Presence by token: the users that tokens name, and when they leave.

use crate::tokens::{LEEWAY, START, encoded, hub_with, sign, token, with_secret};
use crate::*;

const RULES: [&str; 2] = ["room=presence", "private=presence,private"];

fn hub() -> Sim<()> {
    hub_with(with_secret(), &RULES)
}

fn present(topic: &str, users: &[(&str, u32)], anonymous: u32) -> Value {
    let users = users
        .iter()
        .map(|(name, connections)| json!({"user": name, "connections": connections}));
    let users: Vec<Value> = users.collect();
    json!({"topic": topic, "present": users, "anonymous": anonymous})
}

fn joined(topic: &str, user: &str) -> Value {
    json!({"topic": topic, "joined": {"user": user}})
}

fn left(topic: &str, user: &str) -> Value {
    json!({"topic": topic, "left": {"user": user}})
}

/// A client of the envelope that has shown a token in its handshake, and has subscribed.
fn member(sim: &mut Sim<()>, token: &str, topic: &str) -> SimSocket {
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let path = format!("/ws?token={}", encoded(token));
    let socket = sim.try_websocket(&path, &headers).expect("an upgrade");
    let said = say(sim, &socket, json!({"subscribe": topic}));
    assert_eq!(said[0]["subscribed"], topic, "{said:?}");
    socket
}

#[test]
fn a_token_names_the_user_and_its_description() {
    let mut sim = hub();
    let reader = subscribed_member(&mut sim);
    let claims = json!({
        "sub": "ann",
        "exp": START + 60,
        "waterwheel": {"info": {"nick": "A"}},
    });
    let ann = member(&mut sim, &sign(&claims), "room");
    let about = json!({"user": "ann", "info": {"nick": "A"}});
    assert_eq!(values(&reader), [json!({"topic": "room", "joined": about})]);

    // The same by a bearer token on an event stream, and a token without a name.
    let stream = sim.connect();
    let bearer = format!("Authorization: Bearer {}", sign(&claims));
    stream.write(with(&get("/events?topic=room"), &bearer));
    let nameless = sign(&json!({"exp": START + 60}));
    let nameless = member(&mut sim, &nameless, "room");
    let about = json!({"user": "ann", "info": {"nick": "A"}, "connections": 2});
    let expected = json!({"topic": "room", "present": [about], "anonymous": 2});
    let said = say(&mut sim, &nameless, json!({"presence": "room"}));
    assert_eq!(said, [expected]);
    ann.vanish();
    sim.settle();
    assert_eq!(values(&reader), Vec::<Value>::new());
    stream.reset();
    sim.settle();
    assert_eq!(values(&reader), [left("room", "ann")]);
}

/// A client without a token that is a member of the public room, and has read its snapshot.
fn subscribed_member(sim: &mut Sim<()>) -> SimSocket {
    let socket = envelope(sim);
    let said = say(sim, &socket, json!({"subscribe": "room"}));
    assert_eq!(
        said,
        [json!({"subscribed": "room"}), present("room", &[], 1)]
    );
    socket
}

#[test]
fn a_user_leaves_public_and_private_topics_when_its_token_ends() {
    let mut sim = hub();
    let reader = subscribed_member(&mut sim);
    let ann = member(&mut sim, &token("ann", 60, &["private"], &[]), "room");
    let said = say(&mut sim, &ann, json!({"subscribe": "private"}));
    assert_eq!(said[1], present("private", &[("ann", 1)], 0));
    let long = member(&mut sim, &token("bob", 600, &["private"], &[]), "private");
    assert_eq!(values(&ann), [joined("private", "bob")]);
    assert_eq!(values(&reader), [joined("room", "ann")]);

    sim.advance(seconds(60 + LEEWAY + 1));
    assert_eq!(values(&reader), [left("room", "ann")]);
    assert_eq!(values(&long), [left("private", "ann")]);
    // It is in the public room without its name, and hears what comes there.
    let said = say(&mut sim, &reader, json!({"presence": "room"}));
    assert_eq!(said, [present("room", &[], 2)]);
    let said = say(&mut sim, &long, json!({"presence": "private"}));
    assert_eq!(said, [present("private", &[("bob", 1)], 0)]);
    let told = values(&ann);
    assert!(told.contains(&json!({"expired": true})), "{told:?}");
    assert!(
        told.iter()
            .all(|it| it["left"].is_null() || it["topic"] == "room"),
        "{told:?}"
    );
    let said = say(&mut sim, &ann, json!({"presence": "private"}));
    assert!(said[0]["error"].is_string(), "{said:?}");
}

#[test]
fn a_fresh_token_and_one_that_comes_late_change_no_other_user() {
    let mut sim = hub();
    let reader = subscribed_member(&mut sim);
    let late = envelope(&mut sim);
    say(&mut sim, &late, json!({"subscribe": "room"}));
    say(
        &mut sim,
        &late,
        json!({"auth": token("ann", 60, &["*"], &[])}),
    );
    assert_eq!(values(&reader), [joined("room", "ann")]);
    sim.advance(seconds(50));
    say(
        &mut sim,
        &late,
        json!({"auth": token("ann", 300, &["*"], &[])}),
    );
    sim.advance(seconds(100));
    assert_eq!(values(&reader), Vec::<Value>::new());
    // The token of another is refused, and changes nothing.
    let said = say(
        &mut sim,
        &late,
        json!({"auth": token("eve", 300, &["*"], &[])}),
    );
    assert_eq!(said[0]["code"], "forbidden");
    assert_eq!(values(&reader), Vec::<Value>::new());
}

#[test]
fn the_users_of_a_topic_are_for_tokens_that_grant_it() {
    let mut sim = hub();
    let ann = member(&mut sim, &token("ann", 600, &["private"], &[]), "private");
    let grants = token("bob", 600, &["private"], &[]);
    let other = token("bob", 600, &["other"], &[]);
    let cases = [
        ("private", "", 401),
        ("private", &*grants, 200),
        ("private", &*other, 403),
        ("room", "", 401),
        ("private&token=x", "", 401),
    ];
    for (topic, token, status) in cases {
        let mut request = get(&format!("/presence?topic={topic}"));
        if !token.is_empty() {
            request = with(&request, &format!("Authorization: Bearer {token}"));
        }
        let answer = ask(&mut sim, &request);
        assert_eq!(answer.status, status, "{topic}: {}", answer.text());
        if status == 200 {
            let users: Value = serde_json::from_str(answer.text()).unwrap();
            assert_eq!(users, present("private", &[("ann", 1)], 0));
        }
    }
    for (token, is_granted) in [(&grants, true), (&other, false)] {
        let client = member(&mut sim, token, "room");
        values(&client);
        let said = say(&mut sim, &client, json!({"presence": "private"}));
        assert_eq!(said[0]["present"].is_array(), is_granted, "{said:?}");
    }
    drop(ann);
}

#[test]
fn news_of_users_count_as_messages_that_were_sent() {
    let mut sim = hub();
    let reader = subscribed_member(&mut sim);
    let before = sim.reactor().stats().sent_messages;
    let ann = member(&mut sim, &token("ann", 60, &[], &[]), "room");
    ann.vanish();
    sim.settle();
    assert_eq!(
        values(&reader),
        [joined("room", "ann"), left("room", "ann")]
    );
    // Two for the reader; the answer and the list of users for the new member.
    let after = sim.reactor().stats().sent_messages;
    assert_eq!(after - before, 4);
}
