//! Pusher Channels: clients and backends of an app, and the hub's own clients beside them.

#![cfg(feature = "pusher")]

use waterwheel::hub::{Access, Hub, HubOptions};
use waterwheel::protocol::pusher::signature::{body_md5, sign, subscription_text};
use waterwheel::{Config, Reactor, Sim, SimSocket};

mod support;

#[path = "support/answer.rs"]
mod answer;

const KEY: &str = "278d425bdf160c739803";
const SECRET: &str = "7ad3773142a6692b25b8";
const APP: &str = "/app/278d425bdf160c739803?protocol=7&client=js&version=8.6.0&flash=false";

fn serve() -> Sim<()> {
    let options = HubOptions {
        pusher_apps: vec![
            format!("3:{KEY}:{SECRET},client-events").parse().unwrap(),
            "4:other:secret".parse().unwrap(),
        ],
        ..HubOptions::default()
    };
    let mut sim = Sim::with_config(Config::default(), (), move |reactor: &mut Reactor<()>| {
        let hub = Hub::new(options);
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &Access::default()))
    });
    sim.seed(1);
    sim
}

/// A client that was greeted, and its socket id.
fn connect(sim: &mut Sim<()>) -> (SimSocket, String) {
    let client = sim.websocket(APP);
    sim.settle();
    let greeting = client.received().concat();
    let (_, rest) = greeting.split_once(r#"\"socket_id\":\""#).unwrap();
    let (socket_id, rest) = rest.split_once(r#"\""#).unwrap();
    assert_eq!(rest, r#",\"activity_timeout\":120}"}"#);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let (left, right) = socket_id.split_once('.').unwrap();
    assert!(is_number(left) && is_number(right), "{socket_id}");
    (client, socket_id.to_owned())
}

fn subscribe(channel: &str, auth: &str) -> String {
    format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"{auth}","channel":"{channel}"}}}}"#)
}

fn auth(socket_id: &str, channel: &str) -> String {
    let text = subscription_text(socket_id, channel, None);
    format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()))
}

/// The messages that a client gets for one of its own.
fn answers(sim: &mut Sim<()>, client: &SimSocket, text: &str) -> Vec<String> {
    client.send(text);
    sim.settle();
    client.received()
}

fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}

/// The status and the body of the answer to an event that the backend of an app triggers.
fn trigger(sim: &mut Sim<()>, body: &str, tweak: impl FnOnce(&mut String)) -> (u16, String) {
    let now_unix = sim.reactor().unix_time();
    let md5 = body_md5(body.as_bytes());
    let query = format!("auth_key={KEY}&auth_timestamp={now_unix}&auth_version=1.0&body_md5={md5}");
    let text = format!("POST\n/apps/3/events\n{query}");
    let signature = sign(SECRET.as_bytes(), text.as_bytes());
    let mut request = format!(
        "POST /apps/3/events?{query}&auth_signature={signature} HTTP/1.1\r\nHost: h\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    tweak(&mut request);
    let client = sim.connect();
    client.write(request);
    sim.settle();
    let answer = answer::answer(&client.read());
    (answer.status, answer.text().to_owned())
}

#[test]
fn a_client_subscribes_to_a_public_channel_and_hears_the_backend() {
    let mut sim = serve();
    let (client, _) = connect(&mut sim);
    assert_eq!(
        answers(&mut sim, &client, &subscribe("news", "")),
        [succeeded("news")]
    );
    // Asked again it is answered again.
    assert_eq!(
        answers(&mut sim, &client, &subscribe("news", "")),
        [succeeded("news")]
    );
    let body = r#"{"name":"e","channels":["news","other"],"data":"{\"x\":1}"}"#;
    assert_eq!(trigger(&mut sim, body, |_| ()), (200, "{}".to_owned()));
    let event = r#"{"event":"e","channel":"news","data":"{\"x\":1}"}"#;
    assert_eq!(client.received(), [event]);
    let unsubscribe = r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#;
    assert!(answers(&mut sim, &client, unsubscribe).is_empty());
    trigger(&mut sim, body, |_| ());
    assert!(client.received().is_empty());
    let pong = r#"{"event":"pusher:pong","data":"{}"}"#;
    let ping = r#"{"event":"pusher:ping","data":{}}"#;
    assert_eq!(answers(&mut sim, &client, ping), [pong]);
    for unknown in ["", "7", "{}", r#"{"event":"pusher:else"}"#, "[[[["] {
        assert!(answers(&mut sim, &client, unknown).is_empty(), "{unknown}");
    }
    assert!(!client.is_closed());
}

#[test]
fn a_private_channel_needs_the_signature_of_this_connection() {
    let mut sim = serve();
    let (client, socket_id) = connect(&mut sim);
    let (other, other_id) = connect(&mut sim);
    for auth in [
        String::new(),
        KEY.to_owned(),
        auth(&other_id, "private-a"),
        auth(&socket_id, "private-b"),
    ] {
        let answers = answers(&mut sim, &client, &subscribe("private-a", &auth));
        assert!(
            answers.concat().contains("pusher:subscription_error"),
            "{answers:?}"
        );
    }
    let right = auth(&socket_id, "private-a");
    assert_eq!(
        answers(&mut sim, &client, &subscribe("private-a", &right)),
        [succeeded("private-a")]
    );
    let right = auth(&other_id, "private-a");
    answers(&mut sim, &other, &subscribe("private-a", &right));
    // Events of clients go to the others.
    let event = r#"{"event":"client-typing","channel":"private-a","data":{"x":[1, 2]}}"#;
    assert!(answers(&mut sim, &client, event).is_empty());
    assert_eq!(other.received(), [event]);
    // A backend may leave one connection out.
    let body =
        format!(r#"{{"name":"e","channel":"private-a","data":"d","socket_id":"{other_id}"}}"#);
    assert_eq!(trigger(&mut sim, &body, |_| ()).0, 200);
    assert_eq!(client.received().len(), 1);
    assert!(other.received().is_empty());
}

#[test]
fn client_events_have_rules() {
    let mut sim = serve();
    let (client, socket_id) = connect(&mut sim);
    answers(&mut sim, &client, &subscribe("news", ""));
    let encrypted = auth(&socket_id, "private-encrypted-a");
    answers(
        &mut sim,
        &client,
        &subscribe("private-encrypted-a", &encrypted),
    );
    let right = auth(&socket_id, "private-a");
    answers(&mut sim, &client, &subscribe("private-a", &right));
    let long = "x".repeat(10 * 1024);
    for (channel, data) in [
        ("news", "1"),
        ("private-encrypted-a", "1"),
        ("private-b", "1"),
        ("no channel", "1"),
        ("private-a", &format!("\"{long}\"")),
    ] {
        let event = format!(r#"{{"event":"client-a","channel":"{channel}","data":{data}}}"#);
        let answers = answers(&mut sim, &client, &event);
        assert!(
            answers.concat().contains(r#""code":4301"#),
            "{channel}: {answers:?}"
        );
    }
    assert!(!client.is_closed());
}

#[test]
fn handshakes_are_refused_with_a_code() {
    for (target, code) in [
        ("/app/unknown?protocol=7", 4001),
        (&format!("/app/{KEY}"), 4008),
        (&format!("/app/{KEY}?protocol=x"), 4006),
        (&format!("/app/{KEY}?protocol=4"), 4007),
        (&format!("/app/{KEY}?protocol=8"), 4007),
    ] {
        let mut sim = serve();
        let client = sim.websocket(target);
        sim.settle();
        let error = client.received().concat();
        assert!(
            error.contains(&format!(r#""data":{{"code":{code},"#)),
            "{error}"
        );
        assert_eq!(client.close_code(), Some(code), "{target}");
    }
}

#[test]
fn a_request_that_is_not_signed_or_not_valid_is_refused() {
    let mut sim = serve();
    let body = r#"{"name":"e","channels":["news"],"data":"d"}"#;
    assert_eq!(trigger(&mut sim, body, |_| ()).0, 200);
    let swap = |from: &'static str, to: &'static str| {
        move |request: &mut String| *request = request.replace(from, to)
    };
    assert_eq!(trigger(&mut sim, body, swap("\"d\"", "\"e\"")).0, 401);
    assert_eq!(trigger(&mut sim, body, swap("apps/3", "apps/4")).0, 401);
    assert_eq!(trigger(&mut sim, body, swap("apps/3", "apps/5")).0, 404);
    assert_eq!(
        trigger(&mut sim, body, swap("auth_version=1.0&", "")).0,
        401
    );
    let many: Vec<_> = (0..101).map(|n| format!("\"c{n}\"")).collect();
    let long = "x".repeat(201);
    for (body, expected) in [
        (String::new(), 400),
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
        let (status, why) = trigger(&mut sim, &body, |_| ());
        // Without a body there is no digest to sign.
        let expected = if body.is_empty() { 400 } else { expected };
        assert_eq!(status, expected, "{body}: {why}");
    }
}

#[test]
fn the_hubs_own_clients_hear_public_channels_and_no_private_ones() {
    let mut sim = serve();
    let listener = sim.websocket("/ws");
    listener.send("pusher:3:news");
    let stranger = sim.websocket("/ws");
    stranger.send("pusher:3:private-a");
    sim.settle();
    assert!(stranger.received().is_empty());
    assert_eq!(stranger.close_code(), Some(1008));
    for channel in ["news", "private-a"] {
        let body = format!(r#"{{"name":"e","channel":"{channel}","data":"of {channel}"}}"#);
        assert_eq!(trigger(&mut sim, &body, |_| ()).0, 200);
    }
    assert_eq!(listener.received(), ["of news"]);
}

/// npm's client and backend against the program.
#[cfg(feature = "program")]
#[test]
fn the_clients_and_the_backend_of_npm_speak_with_the_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    if !support::has("node") {
        return;
    }
    if !folder.join("browser/node_modules/pusher-js").is_dir() {
        support::skip("tests/browser/node_modules is missing: npm ci --prefix tests/browser");
        return;
    }
    let app = format!("3:{KEY}:{SECRET},client-events");
    let server = support::Server::start(&["--pusher-app", &app]);
    let output = std::process::Command::new("node")
        .arg(folder.join("pusher_clients/drive.mjs"))
        .args([&server.address.port().to_string(), "3", KEY, SECRET])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let steps = String::from_utf8(output.stdout).unwrap();
    assert_eq!(steps.lines().count(), 5, "{steps}");
}
