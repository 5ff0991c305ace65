//! The hub as its clients see it: POST, WebSocket plain and with the envelope, event streams.

#![cfg(feature = "hub")]

#[path = "support/answer.rs"]
mod support;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, answer, answers, get, post};
use waterwheel::hub::{self, Access, SUBPROTOCOL};
use waterwheel::{Config, Received, Sim, SimSocket, SimStream};

fn hub(access: Access) -> Sim<()> {
    Sim::new((), move |reactor| {
        reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
    })
}

/// A hub on which everyone may do everything.
fn open() -> Sim<()> {
    hub(Access {
        open: true,
        ..Access::default()
    })
}

/// A hub elsewhere than on a loopback address, with a token.
fn guarded() -> Sim<()> {
    hub(Access {
        token: Some("secret".into()),
        ..Access::default()
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends on a connection of its own; what has come of the answer.
fn ask_bytes(sim: &mut Sim<()>, pieces: &[&[u8]]) -> Answer {
    let stream = sim.connect();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let count = stream.write(rest);
            rest = &rest[count..];
            sim.settle();
        }
    }
    sim.settle();
    let bytes = stream.read();
    stream.close();
    sim.settle();
    answer(&bytes)
}

fn ask(sim: &mut Sim<()>, request: &str) -> Answer {
    ask_bytes(sim, &[request.as_bytes()])
}

/// The same request with another header line.
fn with(request: &str, line: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1)
}

/// What a publication was answered: its number in the sequence, and how many got it.
fn published(answer: &Answer) -> (u64, u64) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let value: Value = serde_json::from_str(answer.text()).expect("JSON");
    let fields = value.as_object().expect("an object");
    assert_eq!(fields.len(), 2, "{value}");
    let id = fields["id"].as_str().expect("an id");
    let (epoch, number) = id.split_once(':').expect("EPOCH:NUMBER");
    assert_eq!(epoch, "1", "one run, one epoch");
    let delivered = fields["delivered"].as_u64().expect("a count");
    (number.parse().expect("a number"), delivered)
}

fn publish(sim: &mut Sim<()>, topic: &str, body: &str) -> (u64, u64) {
    published(&ask(sim, &post(&format!("/publish?topic={topic}"), body)))
}

/// Becomes a WebSocket with the envelope.
fn envelope(sim: &mut Sim<()>) -> SimSocket {
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let socket = sim.try_websocket("/ws", &headers).expect("an upgrade");
    let agreed = format!("\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
    assert!(socket.head().contains(&agreed), "{}", socket.head());
    socket
}

/// The messages of the envelope that came.
fn values(socket: &SimSocket) -> Vec<Value> {
    let texts = socket.received();
    let values = texts.iter().map(|text| serde_json::from_str(text));
    values.map(|value| value.expect("JSON")).collect()
}

/// Says something and takes what is said to it.
fn say(sim: &mut Sim<()>, socket: &SimSocket, text: impl ToString) -> Vec<Value> {
    socket.send(text.to_string());
    sim.settle();
    values(socket)
}

fn subscribed(sim: &mut Sim<()>, topic: &str) -> SimSocket {
    let socket = envelope(sim);
    let said = say(sim, &socket, json!({"subscribe": topic}));
    assert_eq!(said, [json!({"subscribed": topic})]);
    socket
}

fn plain(sim: &mut Sim<()>, topics: &[&str]) -> SimSocket {
    let socket = sim.websocket("/ws");
    for topic in topics {
        socket.send(*topic);
    }
    sim.settle();
    assert_eq!(socket.take_events(), [], "subscribing is silent");
    socket
}

/// A client of an event stream.
struct Reader {
    stream: SimStream,
    bytes: Vec<u8>,
}

impl Reader {
    fn open(sim: &mut Sim<()>, target: &str) -> Reader {
        let stream = sim.connect();
        stream.write(get(target));
        sim.settle();
        let mut reader = Reader {
            stream,
            bytes: Vec::new(),
        };
        assert_eq!(reader.text(), ":\n\n", "{target}");
        reader
    }

    fn text(&mut self) -> String {
        self.bytes.extend(self.stream.read());
        let all = answer(&self.bytes);
        assert_eq!(all.header("content-type"), Some("text/event-stream"));
        all.text().to_owned()
    }

    /// Ids and data of all events, which have no more than one line of data here.
    fn events(&mut self) -> Vec<(String, String)> {
        let text = self.text();
        let blocks = text.split("\n\n").filter(|block| block.starts_with("id: "));
        let field = |block: &str, name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a field").to_owned()
        };
        blocks
            .map(|block| (field(block, "id: "), field(block, "data: ")))
            .collect()
    }
}

// ── publishing ───────────────────────────────────────────────────────────────────────────────

#[test]
fn a_posted_message_reaches_every_kind_of_member() {
    let mut sim = open();
    let plain = plain(&mut sim, &["news"]);
    let json = subscribed(&mut sim, "news");
    let mut reader = Reader::open(&mut sim, "/events?topic=news");
    assert_eq!(publish(&mut sim, "news", "hello \"you\"\n\u{e9}"), (1, 3));
    assert_eq!(plain.received(), ["hello \"you\"\n\u{e9}"]);
    let expected = json!({"topic": "news", "id": "1:1", "data": "hello \"you\"\n\u{e9}"});
    assert_eq!(values(&json), [expected]);
    let expected = ":\n\nid: 1:1\ndata: hello \"you\"\ndata: \u{e9}\n\n";
    assert_eq!(reader.text(), expected);
}

#[test]
fn empty_messages_and_topics_of_any_text_are_published() {
    let mut sim = open();
    let json = subscribed(&mut sim, "a b/\u{e9}&=");
    assert_eq!(publish(&mut sim, "a%20b/%C3%A9%26=", ""), (1, 1));
    let expected = json!({"topic": "a b/\u{e9}&=", "id": "1:1", "data": ""});
    assert_eq!(values(&json), [expected]);
}

#[test]
fn a_json_message_is_embedded_as_a_value_and_others_as_a_string() {
    let mut sim = open();
    let plain = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let value = "{\"b\": [1, 2.50,\n null], \"a\": \"\\u00e9\"}";
    let parsed: Value = serde_json::from_str(value).expect("JSON");
    let text = Value::String(value.to_owned());
    let cases = [
        ("Content-Type: application/json", &parsed),
        ("Content-Type: application/json; charset=utf-8", &parsed),
        ("Content-Type: Application/JSON", &parsed),
        ("content-type:application/json ;charset=utf-8", &parsed),
        ("Content-Type: text/plain", &text),
        ("Content-Type: application/jsonp", &text),
        ("Content-Type: text/json", &text),
        ("X: y", &text),
    ];
    for (line, expected) in cases {
        let request = with(&post("/publish?topic=t", value), line);
        assert_eq!(published(&ask(&mut sim, &request)).1, 2, "{line}");
        let seen = values(&json);
        assert_eq!(seen.len(), 1, "{line}");
        assert_eq!(&seen[0]["data"], expected, "{line}");
        assert_eq!(plain.received(), [value], "{line}: as it was sent");
    }
    for scalar in ["1", "-0.5e3", "null", "true", "\"x\"", "[]", " {} \n"] {
        let request = with(
            &post("/publish?topic=t", scalar),
            "Content-Type: application/json",
        );
        assert_eq!(published(&ask(&mut sim, &request)).1, 2, "{scalar}");
        let expected: Value = serde_json::from_str(scalar).expect("JSON");
        assert_eq!(values(&json)[0]["data"], expected, "{scalar}");
    }
    plain.received();
    for bad in [
        "",
        "{",
        "{} {}",
        "nope",
        "'x'",
        "{\"a\":1,}",
        "NaN",
        "\u{feff}{}",
    ] {
        let request = with(
            &post("/publish?topic=t", bad),
            "Content-Type: application/json",
        );
        assert_eq!(ask(&mut sim, &request).status, 400, "{bad:?}");
    }
    sim.settle();
    assert_eq!((plain.received().len(), values(&json).len()), (0, 0));
}

#[test]
fn an_event_name_cannot_contain_a_line_end() {
    let mut sim = open();
    let plain = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let mut reader = Reader::open(&mut sim, "/events?topic=t");
    let named = ask(&mut sim, &post("/publish?topic=t&event=new+price", "4"));
    assert_eq!(published(&named), (1, 3));
    assert_eq!(reader.text(), ":\n\nid: 1:1\nevent: new price\ndata: 4\n\n");
    let expected = json!({"topic": "t", "id": "1:1", "event": "new price", "data": "4"});
    assert_eq!(values(&json), [expected]);
    assert_eq!(plain.received(), ["4"]);
    for bad in ["a%0Adata:%20b", "a%0D", "%00"] {
        let refused = ask(
            &mut sim,
            &post(&format!("/publish?topic=t&event={bad}"), "4"),
        );
        assert_eq!(refused.status, 400, "{bad}");
    }
    assert_eq!(plain.received(), [""; 0]);
}

#[test]
fn an_invalid_publication_is_refused_with_its_reason() {
    let mut sim = open();
    let everything = plain(&mut sim, &["*"]);
    let long = "t".repeat(257);
    let cases = [
        ("no topic", post("/publish", "x"), 400),
        ("another parameter", post("/publish?topics=t", "x"), 400),
        ("an empty topic", post("/publish?topic=", "x"), 400),
        (
            "a line end in a topic",
            post("/publish?topic=a%0Ab", "x"),
            400,
        ),
        ("a NUL in a topic", post("/publish?topic=a%00", "x"), 400),
        (
            "a topic that is not UTF-8",
            post("/publish?topic=%ff", "x"),
            400,
        ),
        (
            "a topic that is too long",
            post(&format!("/publish?topic={long}"), "x"),
            400,
        ),
        ("a GET", get("/publish?topic=t"), 405),
        (
            "a PUT",
            post("/publish?topic=t", "x").replacen("POST", "PUT", 1),
            405,
        ),
    ];
    for (name, request, status) in cases {
        let refused = ask(&mut sim, &request);
        assert_eq!(refused.status, status, "{name}");
        assert!(
            refused.text().ends_with('\n'),
            "{name}: {:?}",
            refused.text()
        );
        let allow = (status == 405).then_some("POST, OPTIONS");
        assert_eq!(refused.header("allow"), allow, "{name}");
    }
    let head = b"POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    let refused = ask_bytes(&mut sim, &[head, b"a\xffb"]);
    assert_eq!(refused.status, 400, "not UTF-8");
    assert!(refused.text().contains("UTF-8"));
    sim.settle();
    assert_eq!(everything.received(), [""; 0], "none of them arrived");
    assert_eq!(
        publish(&mut sim, "t", "x"),
        (1, 1),
        "and none has taken an id"
    );
}

#[test]
fn a_message_of_one_mebibyte_is_taken_and_a_longer_one_refused() {
    let mut sim = open();
    let socket = plain(&mut sim, &["t"]);
    let body = vec![b'x'; 1024 * 1024];
    let head = |length: usize| {
        format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
    };
    let fits = ask_bytes(&mut sim, &[head(body.len()).as_bytes(), &body]);
    assert_eq!(published(&fits), (1, 1));
    let mut seen = Vec::new();
    while seen.is_empty() {
        sim.settle();
        seen = socket.received();
    }
    assert_eq!(seen, [str::from_utf8(&body).expect("ASCII")]);

    let above = ask_bytes(&mut sim, &[head(body.len() + 1).as_bytes()]);
    assert!(above.status == 413 && above.closes());
}

#[test]
fn delivered_counts_each_present_member_once() {
    let mut sim = open();
    assert_eq!(publish(&mut sim, "a.b", "x"), (1, 0));
    let by_name = plain(&mut sim, &["a.b"]);
    let by_both = plain(&mut sim, &["a.b", "a.*", "*", "a.b"]);
    let by_pattern = subscribed(&mut sim, "a.?");
    let elsewhere = plain(&mut sim, &["a", "b", "a.bc", "x*"]);
    let mut reader = Reader::open(&mut sim, "/events?topic=a.b&topic=a.*&topic=c");
    assert_eq!(publish(&mut sim, "a.b", "x"), (2, 4));
    assert_eq!(by_name.received(), ["x"]);
    assert_eq!(
        by_both.received(),
        ["x"],
        "by name and by pattern, and one copy"
    );
    assert_eq!(values(&by_pattern).len(), 1);
    assert_eq!(elsewhere.received(), [""; 0]);
    assert_eq!(reader.events(), [("1:2".to_owned(), "x".to_owned())]);

    by_name.vanish();
    sim.settle();
    assert_eq!(publish(&mut sim, "a.b", "y"), (3, 3));
    say(&mut sim, &by_pattern, json!({"unsubscribe": "a.?"}));
    assert_eq!(publish(&mut sim, "a.b", "y"), (4, 2));
    reader.stream.close();
    by_both.close(1000);
    sim.settle();
    assert_eq!(publish(&mut sim, "a.b", "y"), (5, 0));
    assert_eq!(publish(&mut sim, "xyz", "y"), (6, 1));
}

// ── the plain socket ─────────────────────────────────────────────────────────────────────────

#[test]
fn each_text_of_a_plain_socket_is_a_topic_or_a_pattern() {
    let mut sim = open();
    let socket = plain(&mut sim, &["one", "user:*", "h[ae]llo", "back\\*slash"]);
    for (topic, text) in [
        ("one", "1"),
        ("two", "2"),
        ("user:7", "3"),
        ("hello", "4"),
        ("hillo", "5"),
        ("back*slash", "6"),
        ("backxslash", "7"),
        ("one", "8"),
    ] {
        publish(&mut sim, topic, text);
    }
    assert_eq!(socket.received(), ["1", "3", "4", "6", "8"]);
    // Later subscriptions get what is published later.
    socket.send("two");
    sim.settle();
    publish(&mut sim, "two", "9");
    assert_eq!(socket.received(), ["9"]);
}

#[test]
fn an_invalid_text_on_a_plain_socket_closes_it_with_the_reason() {
    let long = "t".repeat(257);
    let mut sim = Sim::with_config(
        Config {
            subscriptions_max: 2,
            ..Config::default()
        },
        (),
        |reactor| {
            let access = Access {
                open: true,
                ..Access::default()
            };
            reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
        },
    );
    for (name, said) in [
        ("empty", vec![""]),
        ("a line end", vec!["a\nb"]),
        ("too long", vec![long.as_str()]),
        ("too many", vec!["a", "b", "c"]),
    ] {
        let socket = sim.websocket("/ws");
        for text in said {
            socket.send(text);
        }
        sim.settle();
        socket.take_events();
        assert_eq!(socket.close_code(), Some(1008), "{name}");
    }
    let socket = sim.websocket("/ws");
    socket.send(&b"topic"[..]);
    sim.settle();
    socket.take_events();
    assert_eq!(socket.close_code(), Some(1003));
    assert_eq!(sim.reactor().stats().panics, 0);
}

#[test]
fn a_socket_without_the_subprotocol_is_plain() {
    let mut sim = open();
    let offers = [("Sec-WebSocket-Protocol", "chat, waterwheel.v2.json")];
    let socket = sim.try_websocket("/ws", &offers).expect("an upgrade");
    assert!(!socket.head().contains("Sec-WebSocket-Protocol"));
    socket.send("{\"subscribe\":\"t\"}");
    sim.settle();
    // That is a name like any other.
    assert_eq!(
        publish(&mut sim, "%7B%22subscribe%22:%22t%22%7D", "x"),
        (1, 1)
    );
    assert_eq!(socket.received(), ["x"]);

    let offers = [("Sec-WebSocket-Protocol", "chat, waterwheel.v1.json")];
    let socket = sim.try_websocket("/ws", &offers).expect("an upgrade");
    let answered = say(&mut sim, &socket, json!({"subscribe": "t"}));
    assert_eq!(answered, [json!({"subscribed": "t"})]);
}

// ── the envelope ─────────────────────────────────────────────────────────────────────────────

#[test]
fn the_envelope_subscribes_publishes_and_unsubscribes() {
    let mut sim = open();
    let socket = subscribed(&mut sim, "room");
    let plain = plain(&mut sim, &["room"]);
    let mut reader = Reader::open(&mut sim, "/events?topic=room");
    let data = json!({"text": "hi \u{e9}", "n": [1, null, {"deep": true}]});
    let said = say(&mut sim, &socket, json!({"publish": "room", "data": data}));
    assert_eq!(said, [json!({"topic": "room", "id": "1:1", "data": data})]);
    let others: Value = serde_json::from_str(&plain.received()[0]).expect("JSON");
    assert_eq!(others, data);
    assert_eq!(reader.events().len(), 1);

    // The data goes on as it was written: a number keeps its digits.
    let exact = "{\"publish\":\"room\",\"data\":{\"z\":12345678901234567890.10,\"a\":1}}";
    socket.send(exact);
    sim.settle();
    let text = socket.received().concat();
    assert!(
        text.ends_with("\"data\":{\"z\":12345678901234567890.10,\"a\":1}}"),
        "{text}"
    );

    let named = json!({"publish": "room", "event": "join", "data": "ann"});
    let said = say(&mut sim, &socket, named);
    let expected = json!({"topic": "room", "id": "1:3", "event": "join", "data": "ann"});
    assert_eq!(said, [expected]);
    assert!(
        reader
            .text()
            .ends_with("id: 1:3\nevent: join\ndata: \"ann\"\n\n")
    );

    // A second subscription is said to be one, and makes no second copy.
    let said = say(&mut sim, &socket, json!({"subscribe": "room"}));
    assert_eq!(said, [json!({"subscribed": "room"})]);
    let said = say(&mut sim, &socket, json!({"subscribe": "ro*"}));
    assert_eq!(said, [json!({"subscribed": "ro*"})]);
    assert_eq!(publish(&mut sim, "room", "x").1, 3);
    assert_eq!(values(&socket).len(), 1);

    assert!(say(&mut sim, &socket, json!({"unsubscribe": "ro*"})).is_empty());
    assert_eq!(publish(&mut sim, "room", "x").1, 3);
    assert_eq!(values(&socket).len(), 1);
    assert!(say(&mut sim, &socket, json!({"unsubscribe": "room"})).is_empty());
    assert_eq!(publish(&mut sim, "room", "x").1, 2);
    assert!(values(&socket).is_empty());
}

#[test]
fn the_envelope_answers_invalid_commands_with_an_error() {
    let mut sim = open();
    let socket = envelope(&mut sim);
    let long = "t".repeat(600);
    let wrong = [
        json!({}),
        json!({"what": "ever"}),
        json!({"data": 1}),
        json!({"subscribe": 7}),
        json!({"subscribe": null}),
        json!({"subscribe": ["a"]}),
        json!({"subscribe": ""}),
        json!({"subscribe": "a\nb"}),
        json!({"subscribe": long}),
        json!({"unsubscribe": "never"}),
        json!({"unsubscribe": "never*"}),
        json!({"unsubscribe": true}),
        json!({"publish": "t"}),
        json!({"publish": "", "data": 1}),
        json!({"publish": "a\u{0}", "data": 1}),
        json!({"publish": 1, "data": 1}),
        json!({"publish": "t", "data": 1, "event": 5}),
        json!({"publish": "t", "data": 1, "event": "a\nb"}),
        json!({"auth": 1}),
        json!([]),
        json!("subscribe"),
        json!(null),
    ];
    for about in wrong {
        let said = say(&mut sim, &socket, &about);
        assert_eq!(said.len(), 1, "{about}");
        let fields = said[0].as_object().expect("an object");
        assert_eq!(fields.len(), 2, "{about}: {fields:?}");
        assert!(fields["error"].as_str().is_some_and(|why| !why.is_empty()));
        assert_eq!(fields["about"], about, "what it is about");
    }
    for text in [
        "chat",
        "",
        "{\"subscribe\":\"a\"",
        "{'subscribe':'a'}",
        "\u{e9}\n\"",
    ] {
        let said = say(&mut sim, &socket, text);
        assert_eq!(said.len(), 1, "{text:?}");
        assert_eq!(said[0]["about"], text, "what is no JSON is given as text");
    }
    let large = "x".repeat(50_000);
    let said = say(&mut sim, &socket, large);
    let about = said[0]["about"].as_str().expect("text");
    assert!(
        !about.is_empty() && about.len() < 1000,
        "{} bytes",
        about.len()
    );

    // After all of that it works.
    assert_eq!(
        publish(&mut sim, "t", "x").0,
        1,
        "nothing of it was published"
    );
    let said = say(&mut sim, &socket, json!({"subscribe": "t"}));
    assert_eq!(said, [json!({"subscribed": "t"})]);

    socket.send(&b"{\"subscribe\":\"t\"}"[..]);
    sim.settle();
    socket.take_events();
    assert_eq!(socket.close_code(), Some(1003), "binary");
}

#[test]
fn deeply_nested_json_is_published_unchanged() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let mut sim = open();
    let socket = subscribed(&mut sim, "t");
    socket.send(format!("{{\"publish\":\"t\",\"data\":{}}}", nested(20_000)));
    sim.settle();
    assert!(socket.received().concat().contains(&nested(20_000)));
    socket.send(nested(20_000));
    sim.settle();
    assert!(socket.received().concat().contains("\"error\""));
    socket.send(format!("{{\"subscribe\":{}}}", nested(20_000)));
    sim.settle();
    assert!(socket.received().concat().contains("\"error\""));
    let deep = nested(500_000);
    let request = with(
        &post("/publish?topic=t", &deep),
        "Content-Type: application/json",
    );
    assert_eq!(published(&ask(&mut sim, &request)), (2, 1));
}

// Each listener had a wire format of its own, and there was none for the seventeenth.
#[test]
fn the_envelope_is_spoken_on_any_number_of_listeners() {
    const LISTENERS: u16 = 20;
    let mut sim = Sim::new((), |reactor| {
        for port in 1..=LISTENERS {
            let access = Access {
                open: true,
                ..Access::default()
            };
            reactor.http(&format!("0.0.0.0:{port}"), |router| {
                hub::mount(router, &access)
            })?;
        }
        std::io::Result::Ok(())
    });
    // Masked with zeros.
    let subscribe = b"\x81\x91\0\0\0\0{\"subscribe\":\"t\"}";
    let streams: Vec<_> = (1..=LISTENERS)
        .map(|port| {
            let stream = sim.connect_port(port);
            stream.write(with(
                &get("/ws"),
                &format!(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: {SUBPROTOCOL}"
                ),
            ));
            stream.write(subscribe);
            sim.settle();
            let answer = stream.read();
            assert!(
                answer.ends_with(b"\r\n\r\n\x81\x12{\"subscribed\":\"t\"}"),
                "port {port}: {}",
                answer.escape_ascii()
            );
            stream
        })
        .collect();
    sim.reactor().publish("t", "hi");
    sim.settle();
    for stream in streams {
        let said = stream.read();
        assert!(
            said.ends_with(b"\"data\":\"hi\"}"),
            "{}",
            said.escape_ascii()
        );
    }
}

#[test]
fn the_envelope_answers_too_many_subscriptions_with_an_error() {
    let mut sim = Sim::with_config(
        Config {
            subscriptions_max: 2,
            ..Config::default()
        },
        (),
        |reactor| {
            let access = Access {
                open: true,
                ..Access::default()
            };
            reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
        },
    );
    let socket = subscribed(&mut sim, "a");
    say(&mut sim, &socket, json!({"subscribe": "b*"}));
    let third = json!({"subscribe": "c"});
    let said = say(&mut sim, &socket, &third);
    assert_eq!(said[0]["about"], third);
    assert_eq!(publish(&mut sim, "c", "x").1, 0);
    say(&mut sim, &socket, json!({"unsubscribe": "a"}));
    let said = say(&mut sim, &socket, &third);
    assert_eq!(said, [json!({"subscribed": "c"})]);

    let refused = ask(&mut sim, &get("/events?topic=a&topic=b&topic=c"));
    assert_eq!(refused.status, 400);
}

// Each publication is compared to every pattern, so there is a limit of their own.
#[test]
fn more_patterns_than_allowed_are_refused_on_every_transport() {
    let mut sim = open();
    let socket = envelope(&mut sim);
    let plain = sim.websocket("/ws");
    for n in 0..32 {
        let name = format!("{n}*");
        let said = say(&mut sim, &socket, json!({"subscribe": name}));
        assert_eq!(said, [json!({"subscribed": name})]);
        plain.send(name);
    }
    sim.settle();
    assert_eq!(plain.take_events(), []);
    let said = say(&mut sim, &socket, json!({"subscribe": "32*"}));
    assert_eq!(said[0]["error"], "32 patterns are all that one may have");
    let said = say(&mut sim, &socket, json!({"subscribe": "32"}));
    assert_eq!(said, [json!({"subscribed": "32"})]);
    plain.send("32*");
    sim.settle();
    plain.take_events();
    assert_eq!(plain.close_code(), Some(1008));

    let events = |count| {
        let topics: Vec<_> = (0..count).map(|n| format!("topic={n}*")).collect();
        get(&format!("/events?topic=a&{}", topics.join("&")))
    };
    assert_eq!(ask(&mut sim, &events(33)).status, 400);
    assert_eq!(ask(&mut sim, &events(32)).status, 200);
}

// ── event streams ────────────────────────────────────────────────────────────────────────────

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

// ── order ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn members_of_every_kind_get_publications_in_one_order() {
    let mut sim = open();
    let mut sockets = Vec::new();
    let mut envelopes = Vec::new();
    let mut readers = Vec::new();
    for number in 0..51 {
        let topic = if number % 2 == 0 { "chat" } else { "ch*" };
        match number % 3 {
            0 => sockets.push(plain(&mut sim, &[topic])),
            1 => envelopes.push(subscribed(&mut sim, topic)),
            _ => readers.push(Reader::open(&mut sim, &format!("/events?topic={topic}"))),
        }
    }
    let poster = sim.connect();
    let other = sim.connect();
    let speaker = envelope(&mut sim);
    for round in 0..40 {
        // All three in one turn: who is first is the hub's choice, and the same for all.
        poster.write(post("/publish?topic=chat", &format!("p{round}")));
        speaker.send(format!("{{\"publish\":\"chat\",\"data\":\"s{round}\"}}"));
        other.write(post("/publish?topic=chat", &format!("o{round}")).repeat(2));
        if round % 4 == 0 {
            sim.settle();
        }
    }
    sim.settle();
    for (stream, count) in [(&poster, 40), (&other, 80)] {
        let all = answers(&stream.read());
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|answer| published(answer).1 == 51));
    }

    let expected = readers[0].events();
    assert_eq!(expected.len(), 160);
    let ids: Vec<String> = (1..=160).map(|number| format!("1:{number}")).collect();
    assert!(
        expected.iter().map(|(id, _)| id).eq(&ids),
        "no gap and no other order"
    );
    for reader in &mut readers {
        assert_eq!(reader.events(), expected);
    }
    // What the envelope publishes is JSON: its string has quotes where the text is given.
    let bare = |data: &str| data.trim_matches('"').to_owned();
    let data: Vec<String> = expected.iter().map(|(_, data)| bare(data)).collect();
    for socket in &sockets {
        let seen: Vec<String> = socket.received().iter().map(|text| bare(text)).collect();
        assert_eq!(seen, data);
    }
    for socket in &envelopes {
        let seen = values(socket);
        let seen: Vec<(&str, &str)> = seen
            .iter()
            .map(|value| {
                (
                    value["id"].as_str().expect("an id"),
                    value["data"].as_str().expect("a text"),
                )
            })
            .collect();
        let wanted: Vec<(&str, &str)> = ids
            .iter()
            .map(String::as_str)
            .zip(data.iter().map(String::as_str))
            .collect();
        assert_eq!(seen, wanted);
    }
}

// ── who may ──────────────────────────────────────────────────────────────────────────────────

/// Whether who sends this header may publish by POST, and use a pattern on an event stream.
fn rights(sim: &mut Sim<()>, header: Option<&str>, query: &str) -> (bool, bool) {
    let local = |request: String| {
        let request = request.replacen("Host: h\r\n", "Host: localhost\r\n", 1);
        match header {
            Some(line) => with(&request, line),
            None => request,
        }
    };
    let publishes = ask(sim, &local(post(&format!("/publish?topic=t{query}"), "x")));
    let streams = ask(
        sim,
        &local(get(&format!("/events?topic=a&topic=t*{query}"))),
    );
    for answer in [&publishes, &streams] {
        assert!(matches!(answer.status, 200 | 401), "{}", answer.status);
        let challenge = (answer.status == 401).then_some("Bearer");
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    // A name is for everyone.
    assert_eq!(ask(sim, &local(get("/events?topic=t"))).status, 200);
    (publishes.status == 200, streams.status == 200)
}

/// Whether who becomes a WebSocket like this may use a pattern on a plain one, a pattern on the
/// envelope, and publish with it.
fn socket_rights(sim: &mut Sim<()>, header: Option<(&str, &str)>, query: &str) -> [bool; 3] {
    let path = format!("/ws{query}");
    let mut headers: Vec<(&str, &str)> = header.into_iter().collect();
    let plain = sim.try_websocket(&path, &headers).expect("an upgrade");
    plain.send("name");
    plain.send("t*");
    sim.settle();
    plain.take_events();
    assert!(matches!(plain.close_code(), None | Some(1008)));

    headers.push(("Sec-WebSocket-Protocol", SUBPROTOCOL));
    let socket = sim.try_websocket(&path, &headers).expect("an upgrade");
    let said = say(sim, &socket, json!({"subscribe": "name"}));
    assert_eq!(
        said,
        [json!({"subscribed": "name"})],
        "a name is for everyone"
    );
    let said = say(sim, &socket, json!({"subscribe": "t*"}));
    let is_subscribed = said == [json!({"subscribed": "t*"})];
    assert!(is_subscribed || said[0]["error"].is_string());
    let said = say(sim, &socket, json!({"publish": "name", "data": 1}));
    let is_published = said[0]["topic"] == "name";
    assert!(is_published || said[0]["error"].is_string());
    [plain.close_code().is_none(), is_subscribed, is_published]
}

#[test]
fn publishing_and_patterns_need_the_token_or_a_local_listener() {
    let token = || Some("secret".to_owned());
    let loopback = Access {
        is_loopback: true,
        ..Access::default()
    };
    let unix = Access {
        is_unix: true,
        ..Access::default()
    };
    let open = Access {
        open: true,
        ..Access::default()
    };
    let with_token = |access: &Access| Access {
        token: token(),
        ..access.clone()
    };
    let elsewhere = Access::default();
    let cases = [
        ("loopback", loopback.clone(), None, true),
        ("unix", unix.clone(), None, true),
        ("open", open.clone(), None, true),
        ("elsewhere", elsewhere.clone(), None, false),
        (
            "elsewhere, a guess",
            elsewhere.clone(),
            Some("Bearer secret"),
            false,
        ),
        (
            "elsewhere, an empty guess",
            elsewhere.clone(),
            Some("Bearer "),
            false,
        ),
        ("loopback with a token", with_token(&loopback), None, false),
        ("unix with a token", with_token(&unix), None, false),
        ("open with a token", with_token(&open), None, true),
        ("none given", with_token(&elsewhere), None, false),
        ("given", with_token(&elsewhere), Some("Bearer secret"), true),
        (
            "given on loopback",
            with_token(&loopback),
            Some("Bearer secret"),
            true,
        ),
        (
            "any case of the scheme",
            with_token(&elsewhere),
            Some("bEARER secret"),
            true,
        ),
        (
            "another scheme",
            with_token(&elsewhere),
            Some("Basic secret"),
            false,
        ),
        ("no scheme", with_token(&elsewhere), Some("secret"), false),
        (
            "any case of the token",
            with_token(&elsewhere),
            Some("Bearer Secret"),
            false,
        ),
        (
            "a longer token",
            with_token(&elsewhere),
            Some("Bearer secret2"),
            false,
        ),
        (
            "a shorter token",
            with_token(&elsewhere),
            Some("Bearer secre"),
            false,
        ),
        (
            "an empty token",
            with_token(&elsewhere),
            Some("Bearer "),
            false,
        ),
    ];
    for (name, access, given, expected) in cases {
        let is_loopback = access.is_loopback;
        let mut sim = hub(access);
        let line = given.map(|given| format!("Authorization: {given}"));
        let allowed = rights(&mut sim, line.as_deref(), "");
        assert_eq!(allowed, (expected, expected), "{name}");
        // A simulated WebSocket names a host that a loopback listener does not serve.
        if !is_loopback {
            let header = given.map(|given| ("Authorization", given));
            let allowed = socket_rights(&mut sim, header, "");
            assert_eq!(allowed, [expected; 3], "{name}");
        }
    }
}

#[test]
fn the_token_is_taken_from_the_query_too() {
    for (query, expected) in [
        ("token=secret", true),
        ("token=%73ecret", true),
        ("token=secre", false),
        ("token=", false),
        ("tokens=secret", false),
    ] {
        let mut sim = guarded();
        let allowed = rights(&mut sim, None, &format!("&{query}"));
        assert_eq!(allowed, (expected, expected), "{query}");
        let allowed = socket_rights(&mut sim, None, &format!("?{query}"));
        assert_eq!(allowed, [expected; 3], "{query}");
    }
}

#[test]
fn the_envelope_takes_the_token_as_a_message() {
    let mut sim = guarded();
    let socket = subscribed(&mut sim, "t");
    let other = subscribed(&mut sim, "t");
    let publication = json!({"publish": "t", "data": 1});
    let refusals = [
        json!({"subscribe": "t*"}),
        publication.clone(),
        json!({"auth": "wrong"}),
        json!({"auth": ""}),
        publication.clone(),
    ];
    for about in refusals {
        let said = say(&mut sim, &socket, &about);
        assert_eq!(said.len(), 1);
        assert!(
            said[0]["error"].is_string() && said[0]["about"] == about,
            "{}",
            said[0]
        );
    }
    assert!(say(&mut sim, &socket, json!({"auth": "secret"})).is_empty());
    let said = say(&mut sim, &socket, &publication);
    assert_eq!(said, [json!({"topic": "t", "id": "1:1", "data": 1})]);
    let said = say(&mut sim, &socket, json!({"subscribe": "t*"}));
    assert_eq!(said, [json!({"subscribed": "t*"})]);

    // It is one connection's.
    assert_eq!(values(&other).len(), 1);
    let said = say(&mut sim, &other, &publication);
    assert!(said[0]["error"].is_string());
    // A wrong token afterwards takes nothing away.
    say(&mut sim, &socket, json!({"auth": "wrong"}));
    let said = say(&mut sim, &socket, &publication);
    assert_eq!(said[0]["id"], "1:2");
    // Who comes later, perhaps in its place, has not said it.
    socket.vanish();
    sim.settle();
    let later = envelope(&mut sim);
    let said = say(&mut sim, &later, &publication);
    assert!(said[0]["error"].is_string());
}

/// One request of each kind that the hub serves, for a host.
fn requests(host: &str) -> Vec<String> {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let all = [
        get("/"),
        get("/healthz"),
        get("/readyz"),
        get("/events?topic=t"),
        post("/publish?topic=t", "x"),
        upgrade.to_owned(),
        get("/nowhere"),
    ];
    let line = format!("Host: {host}\r\n");
    all.map(|request| request.replacen("Host: h\r\n", &line, 1))
        .into()
}

/// The statuses of those requests when all are served.
const SERVED: [u16; 7] = [200, 200, 200, 200, 200, 101, 404];

fn statuses(sim: &mut Sim<()>, host: &str, line: Option<&str>) -> Vec<u16> {
    let requests = requests(host).into_iter();
    let requests = requests.map(|request| match line {
        Some(line) => with(&request, line),
        None => request,
    });
    requests.map(|request| ask(sim, &request).status).collect()
}

#[test]
fn a_loopback_listener_serves_loopback_names_only() {
    let local = Access {
        is_loopback: true,
        origins: vec![
            "https://live.example.org".into(),
            "http://other:3000".into(),
        ],
        ..Access::default()
    };
    let mut sim = hub(local);
    for host in [
        "localhost",
        "localhost:8080",
        "LocalHost:8080",
        "localhost.",
        "app.localhost:3000",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.3.2.1",
        "[::1]",
        "[::1]:8080",
        "live.example.org",
        "other:3000",
    ] {
        assert_eq!(statuses(&mut sim, host, None), SERVED, "{host}");
    }
    for host in [
        "rebound.example.net",
        "rebound.example.net:8080",
        "localhost.example.net",
        "127.0.0.1.example.net",
        "notlocalhost",
        "192.168.0.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:1.2.3.4]",
        "live.example.org.example.net",
        "other:3001",
    ] {
        assert_eq!(statuses(&mut sim, host, None), [403; 7], "{host}");
        // To the browser, a page of that name is of the same origin.
        let origin = format!("Origin: http://{host}");
        assert_eq!(statuses(&mut sim, host, Some(&origin)), [403; 7], "{host}");
    }
    let absolute = "POST http://rebound.example.net/publish?topic=t HTTP/1.1\r\n\
                    Host: localhost\r\nContent-Length: 1\r\n\r\nx";
    let refused = ask(&mut sim, absolute);
    assert_eq!((refused.status, refused.closes()), (403, true));
}

#[test]
fn a_public_listener_serves_any_host_name() {
    for access in [
        Access {
            open: true,
            ..Access::default()
        },
        Access {
            is_unix: true,
            ..Access::default()
        },
    ] {
        let mut sim = hub(access);
        assert_eq!(statuses(&mut sim, "hub.example.org", None), SERVED);
    }
}

#[test]
fn pages_of_other_origins_are_refused_on_every_route() {
    let access = Access {
        is_loopback: true,
        origins: vec!["https://app.example.org".into()],
        ..Access::default()
    };
    let mut sim = hub(access);
    for origin in [
        "https://app.example.org",
        "http://localhost:8080",
        "https://localhost:8080",
    ] {
        let line = format!("Origin: {origin}");
        assert_eq!(
            statuses(&mut sim, "localhost:8080", Some(&line)),
            SERVED,
            "{origin}"
        );
    }
    for origin in [
        "https://evil.example.org",
        "http://app.example.org",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "null",
    ] {
        let line = format!("Origin: {origin}");
        assert_eq!(
            statuses(&mut sim, "localhost:8080", Some(&line)),
            [403; 7],
            "{origin}"
        );
    }
    assert_eq!(
        sim.reactor().stats().publications,
        3,
        "of those that were served"
    );

    // A page that is listed may ask first, as a browser does for JSON or a token.
    let preflight = "OPTIONS /publish?topic=t HTTP/1.1\r\nHost: localhost\r\n\
                     Origin: https://app.example.org\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: authorization, content-type\r\n\r\n";
    let allowed = ask(&mut sim, preflight);
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.org"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "authorization, content-type",
        ),
    ] {
        assert_eq!(allowed.header(name), Some(value));
    }
    let line = "Origin: https://app.example.org";
    let request = with(&post("/publish?topic=t", "x"), line);
    let request = request.replacen("Host: h", "Host: localhost", 1);
    let allowed = ask(&mut sim, &request);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://app.example.org")
    );
}

// ── the rest ─────────────────────────────────────────────────────────────────────────────────

/// Lines of the log that have a name in them which only one test uses.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

// Each refusal was a line, so that strangers could fill the log, and, where nobody reads the pipe it
// goes to, stop the hub.
#[test]
fn refusals_are_logged_once_a_minute_with_their_count() {
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Warn);
    let access = Access {
        is_loopback: true,
        ..Access::default()
    };
    let mut sim = Sim::new((), move |reactor| {
        reactor.http("127.0.0.1:4711", |router| hub::mount(router, &access))
    });
    let by_host = "GET / HTTP/1.1\r\nHost: minute.example.org\r\n\r\n";
    let by_origin = with(
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "Origin: http://minute.example.org",
    );
    for (request, name) in [
        (by_host, "for host \"minute.example.org\""),
        (&by_origin, "origin \"http://minute.example.org\""),
    ] {
        let said = || {
            let lines = LINES.0.lock().unwrap();
            let lines = lines.iter().filter(|line| line.contains(name));
            lines.cloned().collect::<Vec<_>>()
        };
        refuse(&mut sim, request, 100);
        assert_eq!(said().len(), 1, "{:?}", said());
        assert!(said()[0].starts_with("WARN ") && !said()[0].contains("more"));
        sim.advance(seconds(59));
        refuse(&mut sim, request, 10);
        assert_eq!(said().len(), 1, "{:?}", said());
        sim.advance(seconds(1));
        refuse(&mut sim, request, 2);
        assert_eq!(said().len(), 2, "{:?}", said());
        assert!(said()[1].ends_with("; 109 more since the last line"));
    }
}

fn refuse(sim: &mut Sim<()>, request: &str, count: usize) {
    for _ in 0..count {
        assert_eq!(ask(sim, request).status, 403);
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let mut sim = open();
    let page = ask(&mut sim, &get("/"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"));
    let text = page.text();
    assert!(text.contains("EventSource") && text.contains("WebSocket"));
    for outside in ["src=\"", "@import", "url(http", "href=\"http", "href=\"/"] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[test]
fn a_draining_hub_is_healthy_and_not_ready() {
    let mut sim = open();
    assert_eq!(ask(&mut sim, &get("/healthz")).text(), "ok\n");
    assert_eq!(ask(&mut sim, &get("/readyz")).status, 200);
    // Goodbyes are said in the order in which connections came: these have time to ask.
    let streams: Vec<SimStream> = (0..20).map(|_| sim.connect()).collect();
    sim.reactor().drain(seconds(10));
    let paths = ["/readyz", "/healthz"];
    for (stream, path) in streams[10..].iter().zip(paths) {
        stream.write(get(path));
    }
    sim.advance(seconds(1));
    let ready = answer(&streams[10].read());
    assert!(ready.status == 503 && ready.closes());
    let healthy = answer(&streams[11].read());
    assert!(healthy.status == 200 && healthy.closes());
}

#[test]
fn a_draining_hub_says_goodbye_on_every_transport() {
    let mut sim = open();
    let socket = plain(&mut sim, &["t"]);
    let json = subscribed(&mut sim, "t");
    let mut reader = Reader::open(&mut sim, "/events?topic=t");
    assert_eq!(publish(&mut sim, "t", "last").1, 3);
    sim.reactor().drain(seconds(10));
    sim.advance(seconds(10));
    for socket in [&socket, &json] {
        let events = socket.take_events();
        assert!(matches!(events[0], Received::Text(_)), "nothing is lost");
        assert_eq!(socket.close_code(), Some(1001));
        socket.close(1001);
    }
    assert_eq!(reader.events().len(), 1);
    reader.bytes.extend(reader.stream.read());
    assert!(answer(&reader.bytes).is_whole, "the last chunk");
    assert!(reader.stream.is_closed());
    reader.stream.close();
    sim.settle();
    assert!(!sim.is_running(), "all have gone");
}
