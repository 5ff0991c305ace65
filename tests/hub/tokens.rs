//! JSON Web Tokens and private topics: what a token lets through, and when that ends.

use waterwheel::hub::{Hub, HubOptions, Rules, TokenSecrets};

use super::*;

const GOOD: &str = include_str!("tokens/good.txt");
const BAD: &str = include_str!("tokens/bad.txt");
const SECRET: &str = "the first secret of the tests, 40 bytes.";

/// Seconds since 1970 at which a simulation begins.
pub const START: u64 = 1_000_000_000;

/// The seconds for which a token holds beyond its `exp`.
pub const LEEWAY: u64 = 30;

pub fn with_secret() -> Access {
    let secrets = [
        SECRET,
        "the second secret of the tests, which is accepted too",
    ];
    Access {
        token_secrets: TokenSecrets::new(secrets.map(str::to_owned).to_vec()).unwrap(),
        ..Access::default()
    }
}

/// A hub whose topics that begin with `private.` are private.
fn private_hub(access: Access) -> Sim<()> {
    hub_with(
        access,
        &["private.*=private", "talk.*=private,client-publish"],
    )
}

pub fn hub_with(access: Access, texts: &[&str]) -> Sim<()> {
    let mut rules = Rules::new();
    for text in texts {
        rules.add_text(text).unwrap();
    }
    let options = HubOptions {
        rules,
        ..HubOptions::default()
    };
    // Clients that are not read for minutes answer no ping.
    let mut config = Config::default();
    config.options.ping_interval = None;
    Sim::with_config(config, (), move |reactor| {
        let hub = Hub::new(options);
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    })
}

pub fn sign(claims: &Value) -> String {
    token::sign(&claims.to_string(), SECRET)
}

/// A token of a user that ends so many seconds after the start, without the leeway.
pub fn token(user: &str, ends: u64, subscribe: &[&str], publish: &[&str]) -> String {
    let rights = json!({"subscribe": subscribe, "publish": publish});
    sign(&json!({"sub": user, "exp": START + ends, "waterwheel": rights}))
}

pub fn encoded(token: &str) -> String {
    token.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Publishes with the publish token, where the hub has one, and returns how many got it.
fn publish_as_back_end(sim: &mut Sim<()>, topic: &str, body: &str) -> u64 {
    publish(sim, &format!("{topic}&token=publish"), body).1
}

pub fn with_both() -> Access {
    Access {
        token: Some("publish".into()),
        ..with_secret()
    }
}

/// The requests that a credential lets through, wherever it is shown: whether it may subscribe to a private topic
/// by an event stream, a plain socket and an envelope, and publish by POST and by an envelope. `Err` for a
/// status or code that no refusal has.
fn let_through(sim: &mut Sim<()>, token: &str) -> Result<[bool; 5], String> {
    let query = format!("token={}", encoded(token));
    let status = |answer: Answer| match answer.status {
        200 => Ok(true),
        // A target that is too long reaches no route.
        401 | 414 => Ok(false),
        other => Err(format!("status {other}: {}", answer.text())),
    };
    let streams = ask(sim, &get(&format!("/events?topic=private.a&{query}")));
    let posts = ask(sim, &post(&format!("/publish?topic=t&{query}"), "x"));

    let plain = sim.try_websocket(&format!("/ws?{query}"), &[]);
    let plain = match plain {
        Ok(plain) => {
            plain.send("private.a");
            sim.settle();
            plain.take_events();
            match plain.close_code() {
                None => true,
                Some(1008) => false,
                other => return Err(format!("close code {other:?}")),
            }
        }
        // The handshake waits, as that of a guess.
        Err(_) => false,
    };

    let socket = envelope(sim);
    // Longer than that, a message of a stranger ends the connection.
    let auth = json!({"auth": token}).to_string();
    socket.send(auth);
    sim.settle();
    let mut said = values(&socket);
    if said.is_empty() {
        // A guess is answered after a pause.
        sim.advance(seconds(21));
        said = values(&socket);
    }
    let is_authorized = said.first().is_some_and(|it| it["authorized"].is_object());
    if !is_authorized && !socket.is_closed() {
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["code"], "unauthorized", "{said:?}");
        assert_eq!(said[0].get("about"), None);
    }
    let mut can = |command: Value, about: &str| {
        socket.send(command.to_string());
        sim.settle();
        values(&socket).iter().any(|it| it[about].is_string())
    };
    let subscribes = can(json!({"subscribe": "private.a"}), "subscribed");
    can(json!({"subscribe": "t"}), "subscribed");
    let publishes = can(json!({"publish": "t", "data": 1}), "topic");
    assert_eq!(is_authorized, subscribes || publishes);
    Ok([
        status(streams)?,
        plain,
        subscribes,
        status(posts)?,
        publishes,
    ])
}

#[test]
fn a_bad_token_lets_nothing_through() {
    let mut count = 0;
    for line in BAD.lines() {
        let [name, _, token] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut sim = private_hub(with_secret());
        assert_eq!(let_through(&mut sim, token), Ok([false; 5]), "{name}");
        // By a header too, where a header can hold it.
        if token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let line = format!("Authorization: Bearer {token}");
            for request in [
                get("/events?topic=private.a"),
                get("/events?topic=t*"),
                post("/publish?topic=t", "x"),
                get("/metrics"),
            ] {
                let mut sim = private_hub(with_secret());
                let answer = ask(&mut sim, &with(&request, &line));
                assert_eq!(answer.status, 401, "{name}: {request}");
            }
            let mut sim = private_hub(with_secret());
            let line = format!("Cookie: waterwheel_token={token}");
            let answer = ask(&mut sim, &with(&get("/events?topic=private.a"), &line));
            assert_eq!(answer.status, 401, "{name}");
        }
        count += 1;
    }
    assert!(40 <= count, "{count}");
}

#[test]
fn a_good_token_lets_its_grants_through() {
    for (name, token) in GOOD.lines().filter_map(|line| line.split_once('\t')) {
        let mut sim = private_hub(with_secret());
        assert_eq!(let_through(&mut sim, token), Ok([true; 5]), "{name}");
    }
}

#[test]
fn each_of_two_tokens_grants_its_own_topics() {
    let mut sim = private_hub(with_secret());
    let ann = token("ann", 3600, &["private.a"], &["private.a"]);
    let bob = token("bob", 3600, &["private.b"], &["private.b"]);
    for (token, own, others) in [
        (&ann, "private.a", "private.b"),
        (&bob, "private.b", "private.a"),
    ] {
        let line = format!("Authorization: Bearer {token}");
        let mut status = |request: String| ask(&mut sim, &with(&request, &line)).status;
        assert_eq!(status(get(&format!("/events?topic={own}"))), 200);
        assert_eq!(status(get(&format!("/events?topic={others}"))), 403);
        assert_eq!(
            status(get(&format!("/events?topic={own}&topic={others}"))),
            403
        );
        assert_eq!(status(post(&format!("/publish?topic={own}"), "x")), 200);
        assert_eq!(status(post(&format!("/publish?topic={others}"), "x")), 403);
        let both = format!("/publish?topic={own}&topic={others}");
        assert_eq!(status(post(&both, "x")), 403);
        assert_eq!(status(get("/metrics")), 403);

        let socket = envelope(&mut sim);
        let said = say(&mut sim, &socket, json!({"subscribe": own}));
        assert_eq!(said[0]["code"], "unauthorized");
        let said = say(&mut sim, &socket, json!({"auth": token}));
        let user = if own == "private.a" { "ann" } else { "bob" };
        let authorized = json!({"user": user, "expires": START + 3600});
        assert_eq!(said, [json!({"authorized": authorized})]);
        let said = say(&mut sim, &socket, json!({"subscribe": own}));
        assert!(said[0]["subscribed"] == own, "{said:?}");
        for command in [
            json!({"subscribe": others}),
            json!({"publish": others, "data": 1}),
        ] {
            let said = say(&mut sim, &socket, &command);
            assert_eq!(said[0]["code"], "forbidden", "{command}");
            assert_eq!(said[0]["about"], command);
        }
        let said = say(&mut sim, &socket, json!({"publish": own, "data": 1}));
        assert_eq!(said[0]["topic"], own);

        let plain = sim.websocket(&format!("/ws?token={token}"));
        plain.send(own);
        plain.send(others);
        sim.settle();
        plain.take_events();
        assert_eq!(plain.close_code(), Some(1008));
    }
}

// The words would tell a stranger which topics there are.
#[test]
fn a_refusal_has_the_same_words_whether_the_topic_exists_or_not() {
    let mut sim = private_hub(with_both());
    let ann = token("ann", 3600, &["private.mine"], &[]);
    let member = envelope(&mut sim);
    say(&mut sim, &member, json!({"auth": "publish"}));
    say(&mut sim, &member, json!({"subscribe": "private.busy"}));
    assert_eq!(publish_as_back_end(&mut sim, "private.busy", "x"), 1);
    let words = |sim: &mut Sim<()>, topic: &str, credential: &str| {
        let requests = [
            get(&format!("/events?topic={topic}{credential}")),
            post(&format!("/publish?topic={topic}{credential}"), "x"),
        ];
        let answers = requests.map(|request| ask(sim, &request));
        let answers = answers.map(|answer| (answer.status, answer.text().to_owned()));
        let socket = envelope(sim);
        say(sim, &socket, json!({"auth": ann}));
        let said = say(sim, &socket, json!({"subscribe": topic}));
        let plain = sim.websocket(&format!("/ws?{credential}"));
        plain.send(topic);
        sim.settle();
        let closing = format!("{:?}", plain.take_events());
        assert_eq!(plain.close_code(), Some(1008));
        (answers, said[0]["error"].clone(), closing)
    };
    for credential in [String::new(), format!("&token={ann}")] {
        let of_busy = words(&mut sim, "private.busy", &credential);
        let of_none = words(&mut sim, "private.none", &credential);
        assert_eq!(of_busy, of_none);
        let status = if credential.is_empty() { 401 } else { 403 };
        assert_eq!(of_busy.0.map(|(status, _)| status), [status; 2]);
    }
}

#[test]
fn a_pattern_leaves_out_private_topics_that_are_not_granted() {
    let mut sim = private_hub(Access {
        is_unix: true,
        ..with_secret()
    });
    let ann = token("ann", 3600, &["private.a"], &["*"]);
    let back_end = token("back end", 3600, &["*"], &["*"]);
    let header = |token: &str| format!("Authorization: Bearer {token}");
    let open = |sim: &mut Sim<()>, token: &str| {
        let socket = envelope(sim);
        if !token.is_empty() {
            say(sim, &socket, json!({"auth": token}));
        }
        for name in ["*", "p*"] {
            let said = say(sim, &socket, json!({"subscribe": name}));
            assert!(said[0]["subscribed"] == name, "{said:?}");
        }
        socket
    };
    let sockets = [
        open(&mut sim, &ann),
        open(&mut sim, &back_end),
        open(&mut sim, ""),
    ];
    let plain = sim.websocket(&format!("/ws?token={ann}"));
    plain.send("*");
    let stream = sim.connect();
    stream.write(with(&get("/events?topic=*"), &header(&ann)));
    // A client of this machine without a token: patterns are open to it, and private topics are not.
    let local = sim.connect();
    local.write(get("/events?topic=*"));
    sim.settle();
    for topic in ["public", "private.a", "private.b", "talk.x"] {
        let request = post(&format!("/publish?topic={topic}"), topic);
        let answer = ask(&mut sim, &with(&request, &header(&back_end)));
        let delivered = match topic {
            "public" => 6,
            "private.a" => 4,
            _ => 1,
        };
        assert_eq!(published(&answer).1, delivered, "{topic}");
    }
    let topics = |socket: &SimSocket| -> Vec<String> {
        let messages = values(socket).into_iter();
        messages
            .map(|it| it["topic"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(topics(&sockets[0]), ["public", "private.a"]);
    assert_eq!(
        topics(&sockets[1]),
        ["public", "private.a", "private.b", "talk.x"]
    );
    assert_eq!(topics(&sockets[2]), ["public"]);
    assert_eq!(plain.received(), ["public", "private.a"]);
    let data = |stream: &SimStream| -> Vec<String> {
        let answer = answer(&stream.read());
        let lines = answer
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(data(&stream), ["public", "private.a"]);
    assert_eq!(data(&local), ["public"]);

    // By name it is granted as before, and the pattern takes nothing away from it.
    let said = say(&mut sim, &sockets[0], json!({"subscribe": "private.a"}));
    assert!(said[0]["subscribed"] == "private.a");
    let request = post("/publish?topic=private.a", "again");
    ask(&mut sim, &with(&request, &header(&back_end)));
    let said = values(&sockets[0]);
    assert_eq!((said.len(), said[0].get("by")), (1, None));
}

#[test]
fn a_replay_by_pattern_leaves_out_private_topics_that_are_not_granted() {
    let mut sim = private_hub(Access {
        is_unix: true,
        ..with_secret()
    });
    let ann = token("ann", 3600, &["private.a"], &[]);
    let back_end = token("back end", 3600, &["*"], &["*"]);
    for topic in ["private.b", "public", "private.a"] {
        let target = format!("/publish?topic={topic}&token={back_end}");
        ask(&mut sim, &post(&target, topic));
    }
    let names = |messages: &[Value]| -> Vec<String> {
        let topics = messages.iter().filter_map(|it| it["topic"].as_str());
        topics.map(str::to_owned).collect()
    };
    let cases = [
        (ann.as_str(), &["public", "private.a"][..]),
        (&back_end, &["private.b", "public", "private.a"]),
        ("", &["public"]),
    ];
    for (token, expected) in cases {
        let socket = envelope(&mut sim);
        if !token.is_empty() {
            say(&mut sim, &socket, json!({"auth": token}));
        }
        let command = json!({"subscribe": "p*", "since": "earliest"});
        let said = say(&mut sim, &socket, command);
        assert_eq!(names(&said), expected, "{said:?}");
        assert!(said.last().is_some_and(|it| it["subscribed"].is_string()));

        let credential = match token {
            "" => String::new(),
            token => format!("&token={token}"),
        };
        let target = format!("?topic=p*&since=earliest{credential}");
        let polled = ask(&mut sim, &get(&format!("/poll{target}")));
        let polled: Value = serde_json::from_str(polled.text()).expect("JSON");
        let messages = polled["messages"].as_array().expect("an array");
        assert_eq!(names(messages), expected);

        let streamed = ask(&mut sim, &get(&format!("/events{target}")));
        let lines = streamed.text().lines();
        let data: Vec<_> = lines
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        assert_eq!(data, expected);
    }
}

// A client that reads slowly may come to the end of its token while it is sent what it has missed.
#[test]
fn a_replay_ends_with_the_token() {
    let mut sim = private_hub(with_both());
    let long = "x".repeat(20_000);
    for _ in 0..50 {
        publish_as_back_end(&mut sim, "private.a", &long);
    }
    let rights = json!({"subscribe": ["private.a"]});
    let ann = sign(&json!({"exp": START + 1 - LEEWAY, "waterwheel": rights}));
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"auth": ann}));
    socket.send(json!({"subscribe": "private.a", "since": "earliest"}).to_string());
    // As much as fits into the queue and the socket.
    sim.advance(seconds(1));
    let mut said = Vec::new();
    for _ in 0..200 {
        said.extend(values(&socket));
        sim.settle();
    }
    let replayed = said.iter().filter(|it| it["topic"] == "private.a");
    let count = replayed.count();
    assert!((1..50).contains(&count), "{count} were sent before the end");
    let ended = json!({"unsubscribed": "private.a", "reason": "expired"});
    assert!(said.contains(&ended) && said.contains(&json!({"expired": true})));
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 0);
}

#[test]
fn a_pattern_needs_a_token_that_grants_something() {
    let mut sim = private_hub(with_secret());
    let publisher = token("ann", 3600, &[], &["*"]);
    let target = format!("/events?topic=p*&token={publisher}");
    assert_eq!(ask(&mut sim, &get(&target)).status, 403);
    assert_eq!(ask(&mut sim, &get("/events?topic=p*")).status, 401);
}

#[test]
fn the_grants_of_a_token_end_with_it() {
    let mut sim = private_hub(with_both());
    let ann = token("ann", 100, &["private.*"], &["*"]);
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"auth": ann}));
    for name in ["private.a", "public", "p*"] {
        say(&mut sim, &socket, json!({"subscribe": name}));
    }
    let plain = sim.websocket(&format!("/ws?token={ann}"));
    plain.send("public");
    let stream = sim.connect();
    stream.write(get(&format!("/events?topic=public&token={ann}")));
    // The publish token has no end.
    let stays = sim.connect();
    stays.write(get("/events?topic=private.a&token=publish"));
    sim.settle();

    sim.advance(seconds(100 + LEEWAY - 1));
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "last"), 2);
    assert_eq!(publish_as_back_end(&mut sim, "public", "last"), 3);
    let said = values(&socket);
    assert_eq!(said.len(), 2, "{said:?}");
    // A connection that is opened now has the token for one second.
    let late = envelope(&mut sim);
    let said = say(&mut sim, &late, json!({"auth": ann}));
    assert!(said[0]["authorized"].is_object(), "{said:?}");

    sim.advance(seconds(1));
    let expired = json!({"expired": true});
    let mut said = values(&socket);
    assert_eq!(said.pop().as_ref(), Some(&expired));
    said.sort_by_key(Value::to_string);
    let ended = |name: &str| json!({"unsubscribed": name, "reason": "expired"});
    assert_eq!(said, [ended("p*"), ended("private.a")]);
    assert_eq!(values(&late), [expired]);
    plain.take_events();
    assert_eq!(plain.close_code(), Some(4401));
    let events = answer(&stream.read());
    assert!(events.is_whole && events.text().contains("data: last\n"));

    assert_eq!(publish_as_back_end(&mut sim, "private.a", "later"), 1);
    // A public topic that was subscribed by its name needs no token.
    assert_eq!(publish_as_back_end(&mut sim, "public", "later"), 1);
    assert_eq!(values(&socket)[0]["data"], "later");
    for command in [
        json!({"subscribe": "private.a"}),
        json!({"subscribe": "p*"}),
        json!({"publish": "t", "data": 1}),
        json!({"auth": ann}),
    ] {
        let said = say(&mut sim, &socket, &command);
        assert_eq!(said[0]["code"], "unauthorized", "{command}");
    }
    // The end of a token is no guess.
    assert_eq!(sim.reactor().stats().wrong_tokens, 0);
    let target = format!("/events?topic=private.a&token={ann}");
    let refused = ask(&mut sim, &get(&target));
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("the token has expired"));
    assert!(!answer(&stays.read()).is_whole);

    // A stranger may send short messages only.
    socket.send("x".repeat(5000));
    sim.settle();
    values(&socket);
    assert_eq!(socket.close_code(), Some(1009));
}

#[test]
fn a_fresh_token_prolongs_without_a_gap() {
    let mut sim = private_hub(with_both());
    let socket = envelope(&mut sim);
    say(
        &mut sim,
        &socket,
        json!({"auth": token("ann", 100, &["private.*"], &[])}),
    );
    say(&mut sim, &socket, json!({"subscribe": "private.a"}));
    for round in 1..=5 {
        // Each fresh token comes a second before the old one ends.
        sim.advance(seconds(100 + LEEWAY - 1));
        assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 1);
        assert_eq!(values(&socket).len(), 1, "in round {round}");
        let ends = 129 * round + 100;
        let fresh = token("ann", ends, &["private.*"], &[]);
        let said = say(&mut sim, &socket, json!({"auth": fresh}));
        let authorized = json!({"user": "ann", "expires": START + ends});
        assert_eq!(said, [json!({"authorized": authorized})]);
    }
    sim.advance(seconds(100 + LEEWAY - 1));
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 1);
    sim.advance(seconds(1));
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 0);
    let said = values(&socket);
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[2], json!({"expired": true}));
    // It may come back after the end too.
    let fresh = token("ann", 10_000, &["private.*"], &[]);
    let said = say(&mut sim, &socket, json!({"auth": fresh}));
    assert!(said[0]["authorized"].is_object());
    let said = say(&mut sim, &socket, json!({"subscribe": "private.a"}));
    assert!(said[0]["subscribed"].is_string());
}

#[test]
fn a_fresh_token_ends_what_it_does_not_grant() {
    let mut sim = private_hub(with_both());
    let socket = envelope(&mut sim);
    say(
        &mut sim,
        &socket,
        json!({"auth": token("ann", 100, &["private.*"], &[])}),
    );
    for name in ["private.a", "private.b", "public", "p*"] {
        say(&mut sim, &socket, json!({"subscribe": name}));
    }
    let less = token("ann", 200, &["private.a"], &[]);
    let said = say(&mut sim, &socket, json!({"auth": less}));
    assert_eq!(
        said[0],
        json!({"unsubscribed": "private.b", "reason": "expired"})
    );
    assert_eq!(
        (said.len(), &said[1]["authorized"]["user"]),
        (2, &json!("ann"))
    );
    assert_eq!(publish_as_back_end(&mut sim, "private.b", "x"), 0);
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 1);
    assert_eq!(publish_as_back_end(&mut sim, "public", "x"), 1);
}

#[test]
fn the_token_of_another_user_is_forbidden_on_the_same_connection() {
    let mut sim = private_hub(with_both());
    let ann = token("ann", 100, &["private.a"], &[]);
    let bob = token("bob", 100, &["private.b"], &[]);
    let unnamed = sign(&json!({"exp": START + 100, "waterwheel": {"subscribe": ["*"]}}));
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"auth": ann}));
    for other in [&bob, &unnamed] {
        let said = say(&mut sim, &socket, json!({"auth": other}));
        assert_eq!(said[0]["code"], "forbidden", "{said:?}");
        assert_eq!(said[0].get("about"), None, "a token is not sent back");
        let said = say(&mut sim, &socket, json!({"subscribe": "private.b"}));
        assert_eq!(said[0]["code"], "forbidden");
    }
    let said = say(&mut sim, &socket, json!({"subscribe": "private.a"}));
    assert!(said[0]["subscribed"].is_string());
    // Not after the end of the first token either.
    sim.advance(seconds(100 + LEEWAY));
    assert_eq!(values(&socket).len(), 2);
    let later = token("bob", 1000, &["private.b"], &[]);
    let said = say(&mut sim, &socket, json!({"auth": later}));
    assert_eq!(said[0]["code"], "forbidden");
    // Nor for a connection that showed the first one in its handshake.
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    let target = format!("/ws?token={later}");
    let socket = sim.try_websocket(&target, &headers).expect("an upgrade");
    let ann = token("ann", 1000, &["private.a"], &[]);
    let said = say(&mut sim, &socket, json!({"auth": ann}));
    assert_eq!(said[0]["code"], "forbidden");
    // The publish token names no user.
    let said = say(&mut sim, &socket, json!({"auth": "publish"}));
    assert_eq!(said, [json!({"authorized": {}})]);
}

#[test]
fn many_tokens_that_end_together_are_all_ended() {
    let mut sim = private_hub(with_both());
    let ann = token("ann", 10, &["private.a"], &[]);
    let sockets: Vec<_> = (0..600).map(|_| envelope(&mut sim)).collect();
    for socket in &sockets {
        socket.send(json!({"auth": ann}).to_string());
        socket.send(json!({"subscribe": "private.a"}).to_string());
    }
    sim.settle();
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 600);
    // Some have gone before.
    for socket in &sockets[..10] {
        socket.vanish();
    }
    sim.advance(seconds(10 + LEEWAY));
    assert_eq!(publish_as_back_end(&mut sim, "private.a", "x"), 0);
    for socket in &sockets[10..] {
        assert_eq!(values(socket).pop(), Some(json!({"expired": true})));
    }
}

#[test]
fn a_cookie_counts_for_pages_of_the_hub_alone() {
    let access = Access {
        origins: vec!["https://app.example.org".into()],
        ..with_both()
    };
    let mut sim = private_hub(access);
    let ann = token("ann", 3600, &["private.a"], &["private.a"]);
    let cookie = format!("Cookie: a=b; waterwheel_token={ann}; c=d");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The lines of a request, and whether the cookie counts.
    let cases = [
        ("", 200),
        ("Origin: http://h", 200),
        ("Origin: https://h", 200),
        ("Origin: https://app.example.org", 200),
        ("Sec-Fetch-Site: same-origin", 200),
        ("Sec-Fetch-Site: none", 200),
        ("Sec-Fetch-Site: cross-site", 401),
        ("Sec-Fetch-Site: same-site", 401),
        ("Origin: https://evil.example.org", 403),
        ("Origin: https://h.example.org", 403),
        ("Origin: null", 403),
        ("Origin: https://app.example.org.evil.example", 403),
        ("Origin: http://h\r\nOrigin: http://h", 400),
    ];
    for (lines, status) in cases {
        let add = |request: String| match lines {
            "" => with(&request, &cookie),
            _ => with(&with(&request, &cookie), lines),
        };
        let streams = ask(&mut sim, &add(get("/events?topic=private.a")));
        assert_eq!(streams.status, status, "{lines}");
        let posts = ask(&mut sim, &add(post("/publish?topic=private.a", "x")));
        assert_eq!(posts.status, status, "{lines}");

        let socket = sim.connect();
        socket.write(add(upgrade.to_owned()));
        // Masked with zeros.
        socket.write(b"\x81\x89\0\0\0\0private.a");
        sim.settle();
        let text = String::from_utf8_lossy(&socket.read()).into_owned();
        let (is_open, is_refused) = (
            text.starts_with("HTTP/1.1 101"),
            text.contains("needs a token"),
        );
        let expected = match status {
            200 => (true, false),
            401 => (true, true),
            _ => (false, false),
        };
        assert_eq!((is_open, is_refused), expected, "{lines}: {text}");
    }
    let mut status =
        |lines: &str| ask(&mut sim, &with(&get("/events?topic=private.a"), lines)).status;
    // A bearer token, or one of the query, comes before a cookie.
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n{cookie}");
    assert_eq!(
        status(&bearer(&token("bob", 3600, &["private.b"], &[]))),
        403
    );
    assert_eq!(status(&bearer("publish")), 200);
    assert_eq!(status("Cookie: waterwheel_token=publish"), 200);
    for line in [
        "Cookie: waterwheel_token=".to_owned(),
        format!("Cookie: Waterwheel_Token={ann}"),
        format!("Cookie: xwaterwheel_token={ann}"),
        format!("Cookie: waterwheel_token={ann}; waterwheel_token=publish"),
        format!("Cookie: waterwheel_token=publish\r\n{cookie}"),
    ] {
        assert_eq!(status(&line), 401, "{line}");
    }
}

#[test]
fn a_local_hub_is_open_but_for_private_topics_and_proxies() {
    let local = Access {
        is_loopback: true,
        ..with_secret()
    };
    let ann = token("ann", 3600, &["private.a"], &["private.a"]);
    let requests = |credential: &str| {
        let requests = [
            post(&format!("/publish?topic=t{credential}"), "x"),
            get(&format!("/events?topic=t*{credential}")),
            get(&format!("/metrics?{credential}")),
            get(&format!("/topics/t?{credential}")),
            get(&format!("/topics/private.a?{credential}")),
            post(&format!("/publish?topic=private.a{credential}"), "x"),
            get(&format!("/events?topic=private.a{credential}")),
            get(&format!("/events?topic=t{credential}")),
        ];
        requests.map(|request| request.replacen("Host: h", "Host: localhost", 1))
    };
    let behind = |change: fn(&mut Access)| {
        let mut access = local.clone();
        change(&mut access);
        access
    };
    let open = [200, 200, 200, 200, 401, 401, 401, 200];
    let closed = [401, 401, 401, 401, 401, 401, 401, 200];
    // A credential counts alone, wherever the client is.
    let of_ann = [403, 200, 403, 403, 403, 200, 200, 200];
    let of_wrong = closed;
    let unix = Access {
        is_loopback: false,
        is_unix: true,
        ..local.clone()
    };
    let cases: [(&str, Access, &str, [u16; 8]); 8] = [
        ("local", local.clone(), "", open),
        ("unix", unix.clone(), "", open),
        ("elsewhere", with_secret(), "", closed),
        (
            "a page elsewhere",
            behind(|access| access.origins.push("https://live.example.org".into())),
            "",
            closed,
        ),
        (
            "a proxy",
            behind(|access| access.has_proxy = true),
            "",
            closed,
        ),
        ("a token", local.clone(), &ann, of_ann),
        ("a token, unix", unix, &ann, of_ann),
        ("a wrong token", local.clone(), "wrong", of_wrong),
    ];
    for (name, access, credential, expected) in cases {
        let mut sim = private_hub(access);
        let credential = match credential {
            "" => String::new(),
            token => format!("&token={token}"),
        };
        let statuses = requests(&credential).map(|request| ask(&mut sim, &request).status);
        assert_eq!(statuses, expected, "{name}");
    }
    // The list of topics has no private ones for a client without a credential.
    let mut sim = private_hub(Access {
        token: Some("publish".into()),
        ..local.clone()
    });
    for topic in ["public", "private.a"] {
        let request = post(&format!("/publish?topic={topic}&token=publish"), "x");
        ask(&mut sim, &request.replace("Host: h", "Host: localhost"));
    }
    let of_back_end = get("/topics?token=publish").replace("Host: h", "Host: localhost");
    assert!(ask(&mut sim, &of_back_end).text().contains("private.a"));
    let mut sim = private_hub(local.clone());
    let everywhere = format!("&token={}", token("back end", 3600, &[], &["*"]));
    for topic in ["public", "private.a"] {
        let request = post(&format!("/publish?topic={topic}{everywhere}"), "x");
        ask(&mut sim, &request.replace("Host: h", "Host: localhost"));
    }
    let listed = ask(
        &mut sim,
        &get("/topics").replace("Host: h", "Host: localhost"),
    );
    let listed: Value = serde_json::from_str(listed.text()).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["topic"], "public");
    for line in [
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: localhost",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 proxy",
    ] {
        let mut sim = private_hub(local.clone());
        let statuses = requests("").map(|request| ask(&mut sim, &with(&request, line)).status);
        assert_eq!(statuses, closed, "{line}");
        let credential = format!("&token={ann}");
        let statuses = requests(&credential).map(|it| ask(&mut sim, &with(&it, line)).status);
        assert_eq!(statuses, of_ann, "{line}");
    }
}

#[test]
fn clients_publish_where_the_rule_says_so() {
    let texts = ["chat.*=client-publish", "talk.*=private,client-publish"];
    let mut sim = hub_with(with_both(), &texts);
    let stranger = envelope(&mut sim);
    let ann = envelope(&mut sim);
    say(
        &mut sim,
        &ann,
        json!({"auth": token("ann", 3600, &["talk.1"], &[])}),
    );
    // The topic, and the codes for a stranger and for a user of one private topic.
    let cases = [
        ("chat.1", None, None),
        ("talk.1", Some("unauthorized"), None),
        ("talk.2", Some("unauthorized"), Some("forbidden")),
        ("news", Some("unauthorized"), Some("forbidden")),
    ];
    for (topic, of_stranger, of_ann) in cases {
        let publication = json!({"publish": topic, "data": 1});
        for (socket, code) in [(&stranger, of_stranger), (&ann, of_ann)] {
            let said = say(&mut sim, socket, &publication);
            let said = said.first().map(|it| it["code"].as_str().unwrap());
            assert_eq!(said, code, "{topic}");
        }
        let status = ask(&mut sim, &post(&format!("/publish?topic={topic}"), "x")).status;
        assert_eq!(
            status,
            if of_stranger.is_none() { 200 } else { 401 },
            "{topic}"
        );
    }
    // A stranger may publish short messages only.
    let long = "x".repeat(5000);
    let refused = ask(&mut sim, &post("/publish?topic=chat.1", &long));
    assert_eq!(refused.status, 413, "{}", refused.text());
    let granted = ask(
        &mut sim,
        &post("/publish?topic=chat.1&token=publish", &long),
    );
    assert_eq!(granted.status, 200);
}

#[test]
fn a_replaced_secret_holds_for_new_tokens_alone() {
    let access = with_secret();
    let secrets = access.token_secrets.clone();
    let mut sim = private_hub(access);
    let ann = token("ann", 3600, &["private.a"], &[]);
    let request = get(&format!("/events?topic=private.a&token={ann}"));
    let stream = sim.connect();
    stream.write(&request);
    sim.settle();
    secrets
        .replace(vec!["a third secret, with which nothing was signed".into()])
        .unwrap();
    assert_eq!(ask(&mut sim, &request).status, 401);
    assert!(!answer(&stream.read()).is_whole, "the stream goes on");
}

#[test]
fn a_token_stays_out_of_the_log() {
    let mut sim = private_hub(with_secret());
    let ann = token("ann", 10, &["private.a"], &["private.a"]);
    log_lines::capture();
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"auth": ann}));
    say(&mut sim, &socket, json!({"auth": ann[..ann.len() - 4]}));
    sim.advance(seconds(60));
    let expired = format!("/events?topic=private.a&token={ann}");
    assert_eq!(ask(&mut sim, &get(&expired)).status, 401);
    ask(&mut sim, &get(&expired[..expired.len() - 4]));
    // The header is the same in all tokens.
    for part in ann.split('.').skip(1) {
        assert_eq!(log_lines::with(&part[..16]), [""; 0]);
    }
    assert!(!log_lines::with("a wrong token").is_empty());
}
