//! Users who sign in.

use crate::{Client, KEY, SECRET, World, serve, serve_on, subscribe};
use waterwheel::protocol::pusher::signature::{sign, sign_in_text};

fn sign_in_message(client: &Client, user_data: &str) -> String {
    let text = sign_in_text(&client.socket_id, user_data);
    let auth = format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()));
    let user_data = user_data.replace('"', r#"\""#);
    format!(r#"{{"event":"pusher:signin","data":{{"auth":"{auth}","user_data":"{user_data}"}}}}"#)
}

/// Signs a client in, and returns the messages that come behind the answer.
fn sign_in(world: &mut World, client: &Client, user_data: &str) -> Vec<String> {
    let message = sign_in_message(client, user_data);
    let mut answers = world.answers(client, &message);
    let answer = answers.remove(0);
    assert!(
        answer.starts_with(r#"{"event":"pusher:signin_success","#),
        "{answer}"
    );
    answers
}

fn watchlist(name: &str, user: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:watchlist_events","data":"{{\"events\":[{{\"name\":\"{name}\",\"user_ids\":[\"{user}\"]}}]}}"}}"#
    )
}

fn error_code(client: &Client) -> Option<u16> {
    client.socket.close_code()
}

#[test]
fn a_sign_in_needs_its_signature() {
    let mut world = serve();
    let data = r#"{"id":"ann"}"#;
    let other = world.connect();
    for wrong in [
        sign_in_message(&other, data),
        sign_in_message(&other, data).replace("ann", "ben"),
    ] {
        let client = world.connect();
        let answer = world.answers(&client, &wrong).concat();
        assert!(answer.contains(r#""code":4009"#), "{answer}");
        assert_eq!(error_code(&client), Some(4009));
    }
    for data in ["{}", r#"{"id":""}"#, r#"{"id":7}"#, "[]"] {
        let client = world.connect();
        let message = sign_in_message(&client, data);
        let answer = world.answers(&client, &message).concat();
        assert!(answer.contains(r#""code":4009"#), "{data}: {answer}");
    }
    let message = sign_in_message(&other, data);
    let answer = r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"ann\\\"}\"}"}"#;
    assert_eq!(world.answers(&other, &message), [answer]);
    // Again the same, and then another user.
    assert_eq!(world.answers(&other, &message), [answer]);
    let message = sign_in_message(&other, r#"{"id":"ben"}"#);
    world.answers(&other, &message);
    assert_eq!(error_code(&other), Some(4009));
}

#[test]
fn a_user_has_a_channel() {
    let mut world = serve_on(2);
    let (ann, other) = (world.connect_to(1), world.connect());
    let channel = "#server-to-user-ann";
    for client in [&ann, &other] {
        let answer = world.answers(client, &subscribe(channel, "")).concat();
        assert!(answer.contains(r#""status":401"#), "{answer}");
    }
    assert!(sign_in(&mut world, &ann, r#"{"id":"ann"}"#).is_empty());
    sign_in(&mut world, &other, r#"{"id":"ben"}"#);
    let answer = world.answers(&ann, &subscribe(channel, "")).concat();
    assert!(answer.contains("subscription_succeeded"), "{answer}");
    let answer = world.answers(&other, &subscribe(channel, "")).concat();
    assert!(answer.contains(r#""status":401"#), "{answer}");
    let body = r##"{"name":"e","channel":"#server-to-user-ann","data":"d"}"##;
    assert_eq!(world.trigger(body), (200, "{}".to_owned()));
    assert_eq!(
        ann.socket.received(),
        [r##"{"event":"e","channel":"#server-to-user-ann","data":"d"}"##]
    );
    assert!(other.socket.received().is_empty());
    // The topics of users are no channels.
    assert_eq!(
        world.ask("GET", "/channels", ""),
        (200, r#"{"channels":{}}"#.to_owned())
    );
}

#[test]
fn a_signed_in_user_joins_a_presence_channel_without_data() {
    let mut world = serve();
    let ann = world.connect();
    sign_in(&mut world, &ann, r#"{"id":"ann","user_info":{"n":1}}"#);
    let auth = crate::auth(&ann.socket_id, "presence-a");
    let answer = world
        .answers(&ann, &subscribe("presence-a", &auth))
        .concat();
    assert!(
        answer.contains(r#"\"hash\":{\"ann\":{\"n\":1}}"#),
        "{answer}"
    );
    let long = world.connect();
    let data = format!(r#"{{"id":"ben","user_info":"{}"}}"#, "x".repeat(2048));
    sign_in(&mut world, &long, &data);
    let auth = crate::auth(&long.socket_id, "presence-a");
    let answer = world
        .answers(&long, &subscribe("presence-a", &auth))
        .concat();
    assert!(answer.contains(r#""status":400"#), "{answer}");
}

fn watch(world: &mut World, watcher: usize, watched: usize) {
    let ann = world.connect_to(watcher);
    let events = sign_in(world, &ann, r#"{"id":"ann","watchlist":["ben"]}"#);
    assert_eq!(events, [watchlist("offline", "ben")]);
    let (ben, ben_again) = (world.connect_to(watched), world.connect_to(0));
    sign_in(world, &ben, r#"{"id":"ben"}"#);
    assert_eq!(ann.socket.received(), [watchlist("online", "ben")]);
    sign_in(world, &ben_again, r#"{"id":"ben"}"#);
    ben.socket.close(1000);
    world.settle();
    assert!(ann.socket.received().is_empty());
    let late = world.connect();
    let events = sign_in(world, &late, r#"{"id":"cat","watchlist":["ben"]}"#);
    assert_eq!(events, [watchlist("online", "ben")]);
    ben_again.socket.stream().reset();
    world.settle();
    for client in [&ann, &late] {
        assert_eq!(client.socket.received(), [watchlist("offline", "ben")]);
    }
}

#[test]
fn users_are_watched() {
    watch(&mut serve(), 0, 0);
    watch(&mut serve_on(3), 2, 1);
}

#[test]
fn a_watchlist_has_a_hundred_users() {
    let mut world = serve();
    let client = world.connect();
    let users: Vec<String> = (0..101).map(|n| format!("\"u{n}\"")).collect();
    let data = format!(r#"{{"id":"ann","watchlist":[{}]}}"#, users.join(","));
    let events = sign_in(&mut world, &client, &data);
    assert!(events.concat().contains(r#""code":4302"#), "{events:?}");
    assert!(!client.socket.is_closed());
}

#[test]
fn the_backend_ends_the_connections_of_a_user() {
    let mut world = serve_on(3);
    let clients = [0, 1, 2].map(|reactor| world.connect_to(reactor));
    let other = world.connect();
    for client in &clients {
        sign_in(&mut world, client, r#"{"id":"ann"}"#);
    }
    sign_in(&mut world, &other, r#"{"id":"ben"}"#);
    let path = "/users/ann/terminate_connections";
    assert_eq!(world.ask("POST", path, "{}"), (200, "{}".to_owned()));
    for client in &clients {
        let error = client.socket.received().concat();
        assert!(error.contains(r#""code":4009"#), "{error}");
        assert_eq!(error_code(client), Some(4009));
    }
    assert!(!other.socket.is_closed());
}
