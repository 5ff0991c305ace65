//! The extended protocol: history, presence, whispers and sessions.

use serde_json::{Value, json};
use waterwheel::hub::{Access, CableOptions, HubOptions, Rules};

use super::*;

const EXTENDED: &str = "actioncable-v1-ext-json";

/// A client of the extended protocol, and the id of its session.
struct Client {
    socket: SimSocket,
    sid: String,
}

fn connect(world: &mut World, reactor: usize) -> Client {
    let headers = [("Sec-WebSocket-Protocol", EXTENDED)];
    let socket = world.sims[reactor]
        .try_websocket("/cable", &headers)
        .unwrap();
    assert!(socket.head().contains(EXTENDED));
    world.settle();
    let greeting: Value = serde_json::from_str(&socket.received().join("")).unwrap();
    assert_eq!(greeting["type"], "welcome");
    let sid = greeting["sid"].as_str().unwrap().to_owned();
    Client { socket, sid }
}

impl Client {
    fn say(&self, world: &mut World, command: Value) -> Vec<Value> {
        self.socket.send(command.to_string());
        self.received(world)
    }

    fn received(&self, world: &mut World) -> Vec<Value> {
        let all = world.read_all(&self.socket);
        all.iter()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect()
    }

    fn subscribe(&self, world: &mut World, identifier: &str) {
        let command = json!({ "command": "subscribe", "identifier": identifier });
        let answer = self.say(world, command);
        assert_eq!(answer, [confirmed(identifier)]);
    }
}

fn confirmed(identifier: &str) -> Value {
    json!({ "type": "confirm_subscription", "identifier": identifier })
}

fn presence(identifier: &str, message: Value) -> Value {
    json!({ "type": "presence", "identifier": identifier, "message": message })
}

fn plain(stream: &str) -> String {
    format!(r#"{{"channel":"$pubsub","stream_name":"{stream}"}}"#)
}

fn serve_open(reactor_count: usize) -> World {
    let cable = CableOptions {
        is_open: true,
        ..options()
    };
    serve_with(reactor_count, cable, &Access::default())
}

/// The place of a message.
fn place_of(message: &Value) -> Value {
    json!({ "epoch": message["epoch"], "offset": message["offset"] })
}

fn texts(messages: &[Value]) -> Vec<String> {
    messages
        .iter()
        .map(|it| it["message"].to_string())
        .collect()
}

#[test]
fn messages_have_their_place() {
    for reactor_count in [1, 2] {
        let mut world = serve_open(reactor_count);
        let client = connect(&mut world, reactor_count - 1);
        client.subscribe(&mut world, &plain("s"));
        let usual = world.subscriber(&plain("s"));
        world.publish("s", "1");
        world.publish("s", "2");
        let messages = client.received(&mut world);
        assert_eq!(texts(&messages), ["1", "2"]);
        for message in &messages {
            assert_eq!(message["stream_id"], "s");
            assert_eq!(message["epoch"], messages[0]["epoch"]);
        }
        assert!(messages[0]["offset"].as_u64() < messages[1]["offset"].as_u64());
        // Others do not get them.
        let expected = [message(&plain("s"), "1"), message(&plain("s"), "2")];
        assert_eq!(usual.received(), expected);
    }
}

#[test]
fn a_client_that_comes_back_gets_what_it_has_missed() {
    for reactor_count in [1, 2] {
        let mut world = serve_open(reactor_count);
        let client = connect(&mut world, 0);
        client.subscribe(&mut world, &plain("s"));
        world.publish("s", "1");
        let place = place_of(&client.received(&mut world)[0]);
        client.socket.vanish();
        world.publish("s", "2");
        world.publish("other", "3");
        world.publish("s", "4");
        let client = connect(&mut world, reactor_count - 1);
        let identifier = plain("s");
        let history = json!({ "since": 1, "streams": { "s": place } });
        let command =
            json!({ "command": "subscribe", "identifier": identifier, "history": history });
        let answer = client.say(&mut world, command);
        assert_eq!(answer[0], confirmed(&identifier));
        assert_eq!(texts(&answer[1..3]), ["2", "4"]);
        let whole = json!({ "type": "confirm_history", "identifier": identifier });
        assert_eq!(answer[3..], *std::slice::from_ref(&whole));
        world.publish("s", "5");
        let live = client.received(&mut world);
        assert_eq!(texts(&live), ["5"]);
        // Also without a new subscription.
        let history = json!({ "streams": { "s": place_of(&answer[1]) } });
        let command = json!({ "command": "history", "identifier": identifier, "history": history });
        let answer = client.say(&mut world, command);
        assert_eq!(texts(&answer[..2]), ["4", "5"]);
        assert_eq!(answer[2..], [whole]);
        world.publish("s", "6");
        assert_eq!(texts(&client.received(&mut world)), ["6"]);
    }
}

#[test]
fn history_since_a_time() {
    let mut world = serve_open(1);
    world.publish("s", "1");
    world.advance(Duration::from_secs(10));
    let since = world.sims[0].reactor().unix_time();
    world.publish("s", "2");
    let client = connect(&mut world, 0);
    let identifier = plain("s");
    let history = json!({ "since": since });
    let command = json!({ "command": "subscribe", "identifier": identifier, "history": history });
    let answer = client.say(&mut world, command);
    assert_eq!(texts(&answer[1..2]), ["2"]);
    assert_eq!(answer[2]["type"], "confirm_history");
}

#[test]
fn history_that_is_not_known_is_rejected() {
    let mut world = serve_open(1);
    world.publish("s", "1");
    let client = connect(&mut world, 0);
    let identifier = plain("s");
    for epoch in ["1f", "nonsense", ""] {
        let history = json!({ "streams": { "s": { "epoch": epoch, "offset": 1 } } });
        let command =
            json!({ "command": "subscribe", "identifier": identifier, "history": history });
        let answer = client.say(&mut world, command);
        assert_eq!(answer[0], confirmed(&identifier), "{epoch}");
        let last = answer.last().unwrap();
        assert_eq!(last["type"], "reject_history", "{epoch}");
        world.publish("s", "2");
        assert_eq!(texts(&client.received(&mut world)), ["2"]);
        let end = json!({ "command": "unsubscribe", "identifier": identifier });
        assert_eq!(client.say(&mut world, end), [Value::Null; 0]);
    }
    // Without a subscription there is none.
    let command =
        json!({ "command": "history", "identifier": identifier, "history": { "since": 1 } });
    assert_eq!(client.say(&mut world, command), [Value::Null; 0]);
}

#[test]
fn users_are_present_until_they_leave() {
    for reactor_count in [1, 2] {
        let mut world = serve_open(reactor_count);
        let identifier = plain("s");
        let clients = [0, reactor_count - 1].map(|it| connect(&mut world, it));
        for client in &clients {
            client.subscribe(&mut world, &identifier);
        }
        let info = json!({ "name": "Ann" });
        let join = json!({
            "command": "join", "identifier": identifier, "presence": { "id": "7", "info": info },
        });
        let joined = presence(
            &identifier,
            json!({ "type": "join", "id": "7", "info": info }),
        );
        clients[0].socket.send(join.to_string());
        world.settle();
        for client in &clients {
            assert_eq!(client.received(&mut world), *std::slice::from_ref(&joined));
        }
        let ask = json!({ "command": "presence", "identifier": identifier });
        let all = json!({ "type": "info", "total": 1, "records": [{ "id": "7", "info": info }] });
        assert_eq!(
            clients[1].say(&mut world, ask.clone()),
            [presence(&identifier, all)]
        );
        let leave = json!({ "command": "leave", "identifier": identifier });
        let left = presence(&identifier, json!({ "type": "leave", "id": "7" }));
        clients[0].socket.send(leave.to_string());
        world.settle();
        for client in &clients {
            assert_eq!(client.received(&mut world), *std::slice::from_ref(&left));
        }
        // With the subscription, and until the connection ends.
        let third = connect(&mut world, 0);
        let command = json!({
            "command": "subscribe", "identifier": identifier, "presence": { "id": "8" },
        });
        third.say(&mut world, command);
        let joined = presence(
            &identifier,
            json!({ "type": "join", "id": "8", "info": null }),
        );
        assert_eq!(clients[1].received(&mut world), [joined]);
        third.socket.vanish();
        let left = presence(&identifier, json!({ "type": "leave", "id": "8" }));
        assert_eq!(clients[1].received(&mut world), [left]);
        let none = json!({ "type": "info", "total": 0, "records": [] });
        assert_eq!(
            clients[1].say(&mut world, ask),
            [presence(&identifier, none)]
        );
        // Also until the subscription ends.
        clients[0].say(&mut world, join);
        clients[1].received(&mut world);
        let end = json!({ "command": "unsubscribe", "identifier": identifier });
        clients[0].say(&mut world, end);
        let left = presence(&identifier, json!({ "type": "leave", "id": "7" }));
        assert_eq!(clients[1].received(&mut world), [left]);
    }
}

#[test]
fn a_user_who_is_too_long_is_not_present() {
    let mut world = serve_open(1);
    let identifier = plain("s");
    let client = connect(&mut world, 0);
    client.subscribe(&mut world, &identifier);
    for user in [
        json!({ "id": "x".repeat(129) }),
        json!({ "id": "" }),
        json!({ "id": "u", "info": "x".repeat(2049) }),
    ] {
        let join = json!({ "command": "join", "identifier": identifier, "presence": user });
        assert_eq!(client.say(&mut world, join), [Value::Null; 0]);
    }
}

#[test]
fn a_whisper_reaches_the_others() {
    for reactor_count in [1, 2] {
        let mut world = serve_open(reactor_count);
        let identifier = plain("s");
        let clients = [0, reactor_count - 1].map(|it| connect(&mut world, it));
        for client in &clients {
            client.subscribe(&mut world, &identifier);
        }
        let usual = world.subscriber(&identifier);
        let whisper = json!({ "command": "whisper", "identifier": identifier, "data": { "t": 1 } });
        assert_eq!(clients[0].say(&mut world, whisper), [Value::Null; 0]);
        let expected = json!({ "identifier": identifier, "message": { "t": 1 } });
        assert_eq!(clients[1].received(&mut world), [expected]);
        assert_eq!(usual.received(), [message(&identifier, r#"{"t":1}"#)]);
        // It is no part of the history.
        let history = json!({ "since": 1 });
        let command = json!({ "command": "history", "identifier": identifier, "history": history });
        let answer = clients[1].say(&mut world, command);
        assert_eq!(answer.len(), 1, "{answer:?}");
        for client in &clients {
            client.socket.vanish();
        }
        usual.vanish();
        world.settle();
        assert_eq!(world.sims[0].reactor().subscription_count(), 0);
    }
}

#[test]
fn whispers_to_signed_streams_need_a_rule() {
    let mut rules = Rules::new();
    rules.add_text("chat/*=private,client-publish").unwrap();
    for (rules, expected) in [(Rules::new(), 0), (rules, 1)] {
        let mut world = serve_hub(1, &Access::default(), || HubOptions {
            cable: Some(options()),
            rules: rules.clone(),
            ..HubOptions::default()
        });
        let clients = [(); 2].map(|()| connect(&mut world, 0));
        for client in &clients {
            client.subscribe(&mut world, &signed(CHAT));
        }
        let whisper = json!({ "command": "whisper", "identifier": signed(CHAT), "data": 1 });
        clients[0].say(&mut world, whisper);
        assert_eq!(clients[1].received(&mut world).len(), expected);
    }
}

#[test]
fn a_broadcast_leaves_out_a_session() {
    let access = Access {
        open: true,
        ..Access::default()
    };
    let cable = CableOptions {
        is_open: true,
        ..options()
    };
    for reactor_count in [1, 2] {
        let mut world = serve_with(reactor_count, cable.clone(), &access);
        let clients = [0, reactor_count - 1].map(|it| connect(&mut world, it));
        for client in &clients {
            client.subscribe(&mut world, &plain("s"));
        }
        for (client, other) in [(0, 1), (1, 0)] {
            let meta = json!({ "exclude_socket": clients[client].sid });
            let one = json!({ "stream": "s", "data": "1", "meta": meta });
            let body = json!([one, { "stream": "s", "data": "2" }, one]).to_string();
            let request = format!(
                "POST /_broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let stream = world.sims[0].connect();
            stream.write(request);
            let messages = clients[client].received(&mut world);
            assert_eq!(texts(&messages), ["2"], "{reactor_count} {client}");
            let messages = clients[other].received(&mut world);
            assert_eq!(texts(&messages), ["1", "2", "1"]);
            assert_eq!(answer::answer(&stream.read()).status, 201);
        }
    }
}

#[test]
fn pongs_have_no_answer() {
    let mut world = serve_open(1);
    let client = connect(&mut world, 0);
    assert_eq!(
        client.say(&mut world, json!({ "command": "pong" })),
        [Value::Null; 0]
    );
}
