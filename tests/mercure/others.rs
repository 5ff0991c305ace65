//! The hub's own clients beside those of Mercure.

use waterwheel::hub::SUBPROTOCOL;

use super::*;

const TOKEN: &str = "publish token";

fn serve_openly(rules: Vec<&'static str>) -> World {
    serve_with(Setting {
        access: Access {
            token: Some(TOKEN.to_owned()),
            ..Access::default()
        },
        rules,
        ..Setting::default()
    })
}

#[test]
fn clients_of_other_transports_hear_updates() {
    let mut world = serve_openly(Vec::new());
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let socket = world.sims[0].try_websocket("/ws", &headers).unwrap();
    world.settle();
    socket.send(r#"{"subscribe":"mercure:/a"}"#);
    let mut events = world.send(0, &request("GET", "/events?topic=mercure:/a", &[], ""));
    world.settle();
    socket.received();
    events.lines();
    let form = "topic=/a&topic=/b&data=x&type=t&id=own&retry=5";
    world.publish(form);
    world.publish("topic=/a&data=not&private=on");
    let lines = events.lines();
    assert_eq!(&lines[1..], ["event: t", "data: x"]);
    assert!(!lines[0].contains("own"), "{lines:?}");
    let received = socket.received().concat();
    assert!(received.contains(r#""data":"x""#), "{received}");
    assert!(
        !received.contains("own") && !received.contains("not"),
        "{received}"
    );
}

#[test]
fn subscribers_hear_clients_of_other_transports() {
    let mut world = serve_openly(Vec::new());
    let mut one = world.subscribe("topic=https://e.com/a?b=1");
    let mut all = world.subscribe("topic=*");
    let target = "/publish?topic=mercure:https://e.com/a%3Fb=1&event=t";
    let token = bearer(TOKEN);
    let answer = world.ask("POST", target, &[&token], "hello");
    assert_eq!(answer.status, 200);
    let other = world.ask("POST", "/publish?topic=other", &[&token], "hello");
    assert_eq!(other.status, 200);
    for subscriber in [&mut one, &mut all] {
        let lines = subscriber.lines();
        assert!(lines[0].starts_with("id: #"), "{lines:?}");
        assert_eq!(&lines[1..], ["event: t", "data: hello"]);
        let id = subscriber.last_id();
        let header = format!("Last-Event-ID: {id}");
        let mut again = world.subscribe_by("topic=*", &[&header]);
        assert_eq!(again.data(), [""; 0]);
    }
}

#[test]
fn private_updates_are_hidden_from_other_transports() {
    let mut world = serve_openly(vec!["*=client-publish", "mercure-private:*=client-publish"]);
    world.publish("topic=a&data=secret&private=on&id=own");
    for target in [
        "/events?topic=mercure-private:a&since=earliest",
        "/events?topic=mercure-id:00&since=earliest",
        "/poll?topic=mercure-private:a",
    ] {
        let answer = world.ask("GET", target, &[], "");
        assert_eq!(answer.status, 401, "{target}");
    }
    let answer = world.ask("POST", "/publish?topic=mercure-private:a", &[], "x");
    assert_eq!(answer.status, 401);
    // A token of Mercure is none of the hub.
    let token = bearer(&publisher_token(r#""*""#));
    let request = request("POST", "/publish?topic=x-y", &[&token], "x");
    let mut asked = world.send(0, &request);
    world.advance(Duration::from_secs(20));
    assert_ne!(asked.answer().status, 500);
    let pattern = "/events?topic=mercure*&since=earliest&token=publish%20token";
    let mut trusted = world.send(0, &crate::request("GET", pattern, &[], ""));
    assert!(trusted.data().contains(&"secret".to_owned()));
}

#[test]
fn the_back_end_ends_the_streams_of_a_user() {
    let mut world = serve_openly(Vec::new());
    let claims = r#"{"sub":"ann","mercure":{"subscribe":["a"]}}"#;
    let header = bearer(&token::sign(claims, SUBSCRIBER_KEY));
    let mut ann = world.subscribe_by("topic=a", &[&header]);
    let mut other = world.subscribe("topic=a");
    let token = bearer(TOKEN);
    let answer = world.ask("POST", "/disconnect?user=ann", &[&token], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(ann.answer().is_whole && !other.answer().is_whole);
}
