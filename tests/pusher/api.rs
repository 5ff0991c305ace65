//! Requests of backends.

use waterwheel::protocol::pusher::signature::{body_md5, sign};

use crate::{KEY, SECRET, serve, serve_on};

#[test]
fn a_request_that_is_not_signed_or_not_valid_is_refused() {
    let mut world = serve();
    let body = r#"{"name":"e","channels":["news"],"data":"d"}"#;
    assert_eq!(world.trigger(body).0, 200);
    let swap = |from: &'static str, to: &'static str| {
        move |request: &mut String| *request = request.replace(from, to)
    };
    assert_eq!(
        world
            .ask_with("POST", "/events", body, swap("\"d\"", "\"e\""))
            .0,
        401
    );
    assert_eq!(
        world
            .ask_with("POST", "/events", body, swap("apps/3", "apps/4"))
            .0,
        401
    );
    assert_eq!(
        world
            .ask_with("POST", "/events", body, swap("apps/3", "apps/5"))
            .0,
        404
    );
    assert_eq!(
        world
            .ask_with("POST", "/events", body, swap("auth_version=1.0&", ""))
            .0,
        401
    );
    let many: Vec<_> = (0..101).map(|n| format!("\"c{n}\"")).collect();
    let long = "x".repeat(201);
    for (body, expected) in [
        (String::new(), 400),
        (
            r#"{"name":"e","channels":["private-encrypted-a","b"],"data":"d"}"#.to_owned(),
            400,
        ),
        (
            r#"{"name":"e","channels":["b"],"data":"d","info":"else"}"#.to_owned(),
            400,
        ),
        ("[]".to_owned(), 400),
        (r#"{"name":"e","data":"d"}"#.to_owned(), 400),
        (
            r#"{"name":"e","channels":["a b"],"data":"d"}"#.to_owned(),
            400,
        ),
        (
            format!(r#"{{"name":"e","channels":["{long}"],"data":"d"}}"#),
            400,
        ),
        (
            format!(r#"{{"name":"{long}","channels":["a"],"data":"d"}}"#),
            400,
        ),
        (
            format!(
                r#"{{"name":"e","channels":[{}],"data":"d"}}"#,
                many.join(",")
            ),
            400,
        ),
        (
            format!(
                r#"{{"name":"e","channels":["a"],"data":"{}"}}"#,
                "x".repeat(10_241)
            ),
            413,
        ),
    ] {
        let (status, why) = world.trigger(&body);
        // Without a body there is no digest to sign.
        let expected = if body.is_empty() { 400 } else { expected };
        assert_eq!(status, expected, "{body}: {why}");
    }
}

#[test]
fn a_signature_is_valid_for_ten_minutes() {
    let mut world = serve();
    let body = r#"{"name":"e","channels":["news"],"data":"d"}"#;
    let now_unix = world.sims[0].reactor().unix_time();
    for (seconds, expected) in [(-601, 401), (-599, 200), (599, 200), (601, 401)] {
        let time = now_unix.checked_add_signed(seconds).unwrap();
        let query = format!(
            "auth_key={KEY}&auth_timestamp={time}&auth_version=1.0&body_md5={}",
            body_md5(body.as_bytes())
        );
        let text = format!("POST\n/apps/3/events\n{query}");
        let signature = sign(SECRET.as_bytes(), text.as_bytes());
        let request = format!(
            "POST /apps/3/events?{query}&auth_signature={signature} HTTP/1.1\r\nHost: h\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let change = |sent: &mut String| *sent = request;
        let (status, why) = world.ask_with("POST", "/events", body, change);
        assert_eq!(status, expected, "{seconds}: {why}");
    }
}

#[test]
fn a_batch_of_events() {
    let mut world = serve();
    let client = world.connect();
    world.subscribe(&client, "a");
    world.subscribe(&client, "b");
    let item = |channel: &str, more: &str| {
        format!(r#"{{"channel":"{channel}","name":"e","data":"of {channel}"{more}}}"#)
    };
    let body = format!(r#"{{"batch":[{},{}]}}"#, item("a", ""), item("b", ""));
    assert_eq!(
        world.ask("POST", "/batch_events", &body),
        (200, "{}".to_owned())
    );
    assert_eq!(
        client.socket.received(),
        [
            r#"{"event":"e","channel":"a","data":"of a"}"#,
            r#"{"event":"e","channel":"b","data":"of b"}"#
        ]
    );
    let info = r#","info":"subscription_count""#;
    let body = format!(
        r#"{{"batch":[{},{},{}]}}"#,
        item("a", info),
        item("b", ""),
        item("c", info)
    );
    let answer = r#"{"batch":[{"subscription_count":1},{},{"subscription_count":0}]}"#;
    assert_eq!(
        world.ask("POST", "/batch_events", &body),
        (200, answer.to_owned())
    );
    let eleven: Vec<String> = (0..11).map(|_| item("a", "")).collect();
    for body in [
        format!(r#"{{"batch":[{}]}}"#, eleven.join(",")),
        r#"{"batch":{}}"#.to_owned(),
        "{}".to_owned(),
    ] {
        assert_eq!(world.ask("POST", "/batch_events", &body).0, 400, "{body}");
    }
}

#[test]
fn channels_and_their_users() {
    let mut world = serve_on(2);
    assert_eq!(
        world.ask("GET", "/channels", ""),
        (200, r#"{"channels":{}}"#.to_owned())
    );
    let clients = [0, 1, 1].map(|reactor| world.connect_to(reactor));
    for (client, user) in clients.iter().zip(["ann", "ben", "ann"]) {
        world.subscribe(client, "news");
        world.join(client, "presence-a", user, "{}");
    }
    for (path, expected) in [
        (
            "/channels",
            (200, r#"{"channels":{"news":{},"presence-a":{}}}"#),
        ),
        (
            "/channels?filter_by_prefix=presence-&info=user_count,subscription_count",
            (
                200,
                r#"{"channels":{"presence-a":{"user_count":2,"subscription_count":3}}}"#,
            ),
        ),
        ("/channels?filter_by_prefix=x", (200, r#"{"channels":{}}"#)),
        (
            "/channels?info=user_count",
            (400, "user_count needs filter_by_prefix=presence-\n"),
        ),
        (
            "/channels/news?info=subscription_count",
            (200, r#"{"occupied":true,"subscription_count":3}"#),
        ),
        (
            "/channels/presence-a?info=user_count,subscription_count",
            (
                200,
                r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
            ),
        ),
        (
            "/channels/news?info=user_count",
            (400, "user_count is for presence channels\n"),
        ),
        (
            "/channels/other?info=subscription_count",
            (200, r#"{"occupied":false}"#),
        ),
        (
            "/channels/presence-a/users",
            (200, r#"{"users":[{"id":"ann"},{"id":"ben"}]}"#),
        ),
        (
            "/channels/news/users",
            (400, "users are known in presence channels\n"),
        ),
    ] {
        let (status, answer) = world.ask("GET", path, "");
        assert_eq!((status, &*answer), expected, "{path}");
    }
    let body = r#"{"name":"e","channels":["news","presence-a"],"data":"d","info":"user_count,subscription_count"}"#;
    let none = r#"{"name":"e","channels":[],"data":"d","info":"user_count"}"#;
    assert_eq!(world.trigger(none), (200, r#"{"channels":{}}"#.to_owned()));
    let answer = r#"{"channels":{"news":{"subscription_count":3},"presence-a":{"user_count":2,"subscription_count":3}}}"#;
    assert_eq!(world.trigger(body), (200, answer.to_owned()));
    for client in &clients {
        client.socket.close(1000);
    }
    world.settle();
    assert_eq!(
        world.ask("GET", "/channels", ""),
        (200, r#"{"channels":{}}"#.to_owned())
    );
}

#[test]
fn events_as_old_libraries_send_them() {
    let mut world = serve();
    let client = world.connect();
    world.subscribe(&client, "news");
    let (status, answer) = world.ask("POST", "/channels/news/events?name=e", "{\"x\":1}");
    assert_eq!((status, &*answer), (202, "{}"));
    let event = r#"{"event":"e","channel":"news","data":"{\"x\":1}"}"#;
    assert_eq!(client.socket.received(), [event]);
}
