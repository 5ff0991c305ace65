//! Channels of an application, which answers calls of the hook.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::hub::{Access, CableHook, CableOptions, Hub, HubOptions};
use waterwheel::{Config, Reply, Sim, SimSocket, Status};

use super::*;

/// The application, on port 81 of the same reactor.
#[derive(Clone, Default)]
struct Application(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// The bodies that came.
    calls: Vec<Value>,
    signatures: Vec<String>,
    /// The next answers. Without one it is `{"status":"ok"}`.
    answers: VecDeque<(u16, String)>,
    /// Requests are not answered.
    is_silent: bool,
    /// Requests are sent elsewhere, where they would be answered.
    redirects: bool,
}

impl Application {
    fn answer_next(&self, answer: Value) {
        self.answer_text(200, &answer.to_string());
    }

    fn answer_text(&self, status: u16, text: &str) {
        let mut state = self.0.borrow_mut();
        state.answers.push_back((status, text.to_owned()));
    }

    /// The calls since this was last asked.
    fn calls(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    /// The commands of the calls since this was last asked, with their identifiers.
    fn commands(&self) -> Vec<String> {
        let calls = self.calls();
        let text = |call: &Value| match call["identifier"].as_str() {
            Some(identifier) => format!("{} {identifier}", call["command"].as_str().unwrap()),
            None => call["command"].as_str().unwrap().to_owned(),
        };
        calls.iter().map(text).collect()
    }
}

const CHANNEL: &str = r#"{"channel":"ChatChannel","room":"1"}"#;

fn serve_hook() -> (World, Application) {
    let application = Application::default();
    let of_router = application.clone();
    let mut config = Config::default();
    config.options.ping_interval = None;
    let sim = Sim::with_config(config, (), |reactor| {
        let hub = Hub::new(HubOptions {
            cable: Some(CableOptions {
                hook: Some(CableHook {
                    url: "http://127.0.0.1:81/hook".to_owned(),
                    secret: Some("hook-secret".to_owned()),
                }),
                ..options()
            }),
            ..HubOptions::default()
        });
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &Access::default()))?;
        reactor.http("127.0.0.1:81", |router| {
            router.post("/elsewhere", |request| {
                request.reply(r#"{"status":"ok"}"#);
            });
            router.post("/hook", move |request| {
                let mut state = of_router.0.borrow_mut();
                let text = request.text().unwrap().to_owned();
                state.calls.push(serde_json::from_str(&text).unwrap());
                let signature = request.header("x-waterwheel-signature").unwrap();
                state.signatures.push(signature.to_owned());
                if state.redirects {
                    let reply = Reply::from((Status::TEMPORARY_REDIRECT, ""));
                    request.reply(reply.header("Location", "/elsewhere"));
                    return;
                }
                if state.is_silent {
                    request.reply_later();
                    return;
                }
                let answer = state.answers.pop_front();
                let (status, text) = answer.unwrap_or((200, r#"{"status":"ok"}"#.to_owned()));
                request.reply((Status::new(status).unwrap(), text));
            });
        })
    });
    (World { sims: vec![sim] }, application)
}

fn connect(world: &mut World, application: &Application) -> SimSocket {
    let client = world.connect();
    assert_eq!(application.commands(), ["connect"]);
    client
}

fn perform(world: &mut World, client: &SimSocket, data: &str) -> Vec<String> {
    let command = json!({ "command": "message", "identifier": CHANNEL, "data": data });
    client.send(command.to_string());
    world.settle();
    client.received()
}

/// The messages that have come, without pings.
fn without_pings(client: &SimSocket) -> Vec<String> {
    let mut all = client.received();
    all.retain(|text| !text.starts_with(r#"{"type":"ping""#));
    all
}

const REFUSED: &str = r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#;

#[test]
fn the_application_is_asked_about_each_thing() {
    let (mut world, application) = serve_hook();
    application.answer_next(json!({
        "status": "ok", "identifiers": { "user": "u1" }, "state": { "a": 1, "b": 2 },
        "transmit": [{ "hello": true }],
    }));
    let headers = [
        ("Cookie", "s=1"),
        ("Cookie", "t=2"),
        ("Origin", "http://sim"),
    ];
    let client = world.sims[0]
        .try_websocket("/cable?x=%20", &headers)
        .unwrap();
    world.settle();
    assert_eq!(client.received(), [r#"{"hello":true}"#, WELCOME]);
    let calls = application.calls();
    let connection = calls[0]["connection"].as_str().unwrap().to_owned();
    let expected = json!({
        "command": "connect", "connection": connection, "url": "http://sim/cable?x=%20",
        "headers": { "host": "sim", "cookie": "s=1; t=2", "origin": "http://sim" },
        "identifiers": {}, "state": {},
    });
    assert_eq!(calls, [expected]);

    application.answer_next(json!({
        "status": "ok", "streams": ["chat_1"], "state": { "b": 3 }, "transmit": [7],
    }));
    let answer = world.say(&client, "subscribe", CHANNEL);
    assert_eq!(answer, [message(CHANNEL, "7"), confirmation(CHANNEL)]);
    let call = &application.calls()[0];
    assert_eq!(call["command"], "subscribe");
    assert_eq!(call["identifier"], CHANNEL);
    assert_eq!(call["connection"], *connection);
    assert_eq!(call["identifiers"], json!({ "user": "u1" }));
    assert_eq!(call["state"], json!({ "a": 1, "b": 2 }));
    world.publish("chat_1", r#"{"x":1}"#);
    assert_eq!(client.received(), [message(CHANNEL, r#"{"x":1}"#)]);

    application.answer_next(json!({
        "status": "ok", "stop": ["chat_1"], "streams": ["chat_2"],
        "broadcast": [{ "stream": "chat_1", "message": 1 }, { "stream": "chat_2", "message": 2 }],
    }));
    assert_eq!(
        perform(&mut world, &client, r#"{"action":"speak"}"#),
        [""; 0]
    );
    let call = &application.calls()[0];
    assert_eq!(call["command"], "perform");
    assert_eq!(call["data"], r#"{"action":"speak"}"#);
    assert_eq!(call["state"], json!({ "a": 1, "b": 3 }));
    world.publish("chat_1", "4");
    world.publish("chat_2", "5");
    assert_eq!(client.received(), [message(CHANNEL, "5")]);

    assert_eq!(world.say(&client, "unsubscribe", CHANNEL), [""; 0]);
    assert_eq!(application.commands(), [format!("unsubscribe {CHANNEL}")]);
    world.publish("chat_2", "6");
    assert_eq!(client.received(), [""; 0]);
    client.close(1000);
    world.settle();
    assert_eq!(application.commands(), ["disconnect"]);
    // printf '%s' BODY | openssl dgst -sha256 -hmac hook-secret
    let signatures = &application.0.borrow().signatures;
    assert!(
        signatures
            .iter()
            .all(|it| it.starts_with("sha256=") && it.len() == 7 + 64)
    );
}

#[test]
fn a_refusal_of_the_application_holds() {
    let (mut world, application) = serve_hook();
    application.answer_next(json!({ "status": "refused" }));
    let client = world.sims[0].websocket("/cable");
    // A command that comes before the answer is not carried out.
    client.send(command_text("subscribe", CHANNEL));
    world.settle();
    assert_eq!(client.received(), [REFUSED]);
    assert_eq!(client.close_code(), Some(1000));
    assert_eq!(application.commands(), ["connect"]);

    let client = connect(&mut world, &application);
    application.answer_next(json!({ "status": "refused", "streams": ["chat_1"] }));
    let answer = world.say(&client, "subscribe", CHANNEL);
    assert_eq!(answer, [rejection(CHANNEL)]);
    world.publish("chat_1", "1");
    // A message for a subscription that is none is not passed on.
    application.calls();
    assert_eq!(perform(&mut world, &client, "{}"), [""; 0]);
    assert_eq!(application.commands(), [""; 0]);
    // A stream that the application has signed needs no call.
    world.subscribe(&client, &signed(CHAT));
    assert_eq!(application.commands(), [""; 0]);
}

#[test]
fn an_answer_that_is_none_is_a_refusal() {
    let long = format!(r#"{{"status":"ok","more":"{}"}}"#, "x".repeat(1024 * 1024));
    let large_state = json!({ "status": "ok", "state": { "a": "x".repeat(20_000) } }).to_string();
    for (status, text) in [
        (200, "nonsense"),
        (200, "{}"),
        (200, r#"{"status":"else"}"#),
        (200, &*long),
        (200, &*large_state),
        (404, r#"{"status":"ok"}"#),
        (500, r#"{"status":"ok"}"#),
        (302, r#"{"status":"ok"}"#),
    ] {
        let (mut world, application) = serve_hook();
        application.answer_text(status, text);
        let client = world.sims[0].websocket("/cable");
        world.advance(Duration::from_secs(6));
        assert_eq!(client.received(), [REFUSED], "{status} {text:.40}");
        assert_eq!(application.commands(), ["connect"]);

        let client = connect(&mut world, &application);
        application.answer_text(status, text);
        let answer = world.say(&client, "subscribe", CHANNEL);
        assert_eq!(answer, [rejection(CHANNEL)], "{status} {text:.40}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (mut world, application) = serve_hook();
    application.0.borrow_mut().redirects = true;
    let client = world.sims[0].websocket("/cable");
    world.advance(Duration::from_secs(6));
    assert_eq!(client.received(), [REFUSED]);
    assert_eq!(application.commands(), ["connect"]);
}

#[test]
fn an_application_that_is_silent_has_five_seconds() {
    let (mut world, application) = serve_hook();
    let client = connect(&mut world, &application);
    application.0.borrow_mut().is_silent = true;
    client.send(command_text("subscribe", CHANNEL));
    // Later commands wait, and come in order.
    client.send(command_text("subscribe", &signed(CHAT)));
    world.advance(Duration::from_millis(4900));
    assert_eq!(without_pings(&client), [""; 0]);
    world.advance(Duration::from_millis(200));
    assert_eq!(
        without_pings(&client),
        [rejection(CHANNEL), confirmation(&signed(CHAT))]
    );
    application.0.borrow_mut().is_silent = false;
    world.subscribe(&client, CHANNEL);
}

#[test]
fn an_application_that_is_overloaded_is_asked_again() {
    let (mut world, application) = serve_hook();
    application.answer_text(503, "");
    application.answer_text(503, "");
    let client = world.sims[0].websocket("/cable");
    world.settle();
    assert_eq!(client.received(), [""; 0]);
    world.advance(Duration::from_millis(250));
    world.advance(Duration::from_millis(450));
    assert_eq!(without_pings(&client), [WELCOME]);
    assert_eq!(application.commands(), ["connect"; 3]);
    // Other failures are not, because the application may have carried it out.
    application.answer_text(500, "");
    let answer = world.say(&client, "subscribe", CHANNEL);
    assert_eq!(answer, [rejection(CHANNEL)]);
    assert_eq!(application.commands().len(), 1);
}

#[test]
fn the_calls_of_a_connection_come_one_after_the_other() {
    let (mut world, application) = serve_hook();
    let client = connect(&mut world, &application);
    let other = CHANNEL.replace('1', "2");
    application.answer_next(json!({ "status": "ok", "streams": ["chat_1"] }));
    application.answer_next(json!({ "status": "ok", "streams": ["chat_1"] }));
    for text in [
        command_text("subscribe", CHANNEL),
        command_text("subscribe", CHANNEL),
        command_text("subscribe", &other),
        json!({ "command": "message", "identifier": CHANNEL, "data": "1" }).to_string(),
        json!({ "command": "message", "identifier": &other, "data": "2" }).to_string(),
        command_text("unsubscribe", CHANNEL),
    ] {
        client.send(text);
    }
    world.settle();
    let expected = [
        confirmation(CHANNEL),
        confirmation(CHANNEL),
        confirmation(&other),
    ];
    assert_eq!(client.received(), expected);
    let expected = [
        format!("subscribe {CHANNEL}"),
        format!("subscribe {other}"),
        format!("perform {CHANNEL}"),
        format!("perform {other}"),
        format!("unsubscribe {CHANNEL}"),
    ];
    assert_eq!(application.commands(), expected);
    // Both were subscribed to one stream, and one is left.
    world.publish("chat_1", "1");
    assert_eq!(client.received(), [message(&other, "1")]);
}

#[test]
fn the_application_is_told_when_a_client_vanishes() {
    let (mut world, application) = serve_hook();
    let client = connect(&mut world, &application);
    world.subscribe(&client, CHANNEL);
    world.subscribe(&client, &signed(CHAT));
    application.calls();
    client.vanish();
    world.settle();
    assert_eq!(
        application.commands(),
        [&*format!("unsubscribe {CHANNEL}"), "disconnect"]
    );
    // Also where it vanishes while it is being asked about.
    application.0.borrow_mut().is_silent = true;
    let client = world.sims[0].websocket("/cable");
    world.settle();
    assert_eq!(application.commands(), ["connect"]);
    client.vanish();
    world.settle();
    application.0.borrow_mut().is_silent = false;
    world.advance(Duration::from_secs(6));
    // The application has not answered, and may have accepted it or not.
    assert_eq!(application.commands(), [""; 0]);
}

#[test]
fn an_answer_disconnects_others() {
    let (mut world, application) = serve_hook();
    application.answer_next(json!({ "status": "ok", "identifiers": { "user": "u1" } }));
    let first = connect(&mut world, &application);
    let second = connect(&mut world, &application);
    world.subscribe(&second, CHANNEL);
    application.answer_next(json!({
        "status": "ok",
        "disconnect": [{ "identifiers": { "user": "u1" }, "reconnect": false }],
    }));
    assert_eq!(perform(&mut world, &second, "{}"), [""; 0]);
    let last = r#"{"type":"disconnect","reason":"remote","reconnect":false}"#;
    assert_eq!(first.received(), [last]);
    // Its own connection too.
    application.answer_next(json!({ "status": "ok", "identifiers": { "user": "u2" } }));
    application.calls();
    let third = connect(&mut world, &application);
    world.subscribe(&third, CHANNEL);
    application.answer_next(json!({
        "status": "ok", "disconnect": [{ "identifiers": { "user": "u2" } }],
    }));
    let answer = perform(&mut world, &third, "{}");
    assert_eq!(
        answer,
        [r#"{"type":"disconnect","reason":"remote","reconnect":true}"#]
    );
}
