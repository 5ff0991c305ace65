//! Several hubs with one real Redis server: `waterwheel serve --redis`.
#![cfg(feature = "program")]

#[path = "support/redis_server.rs"]
mod redis_server;
mod support;
#[path = "support/token.rs"]
mod token;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use redis_server::{RedisServer, start, until};
use support::{PATIENCE, Server};
use token::sign;

const SECRET: &str = "a secret of the tests, which has 45 bytes ....";

/// A token of a user for an hour, with which it may have all topics.
fn token_of(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = now.as_secs() + 3600;
    let rights = r#"{"subscribe":["*"],"publish":["*"]}"#;
    let claims = format!(r#"{{"sub":"{user}","exp":{expires},"waterwheel":{rights}}}"#);
    sign(&claims, SECRET)
}

/// A hub that is ready.
fn node(redis: &RedisServer, options: &[&str]) -> Server {
    let url = redis.url();
    let mut words = vec!["--redis", &url, "--log", "error"];
    words.extend(options);
    let server = Server::start(&words);
    until(|| get(&server, "/readyz") == "ready\n");
    server
}

fn curl(words: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-s", "--max-time", "60"])
        .args(words)
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

fn get(server: &Server, target: &str) -> String {
    curl(&[&server.url(target)])
}

/// Publishes by HTTP, and returns the id.
fn publish(server: &Server, topic: &str, message: &str) -> String {
    let answer = curl(&[
        "-d",
        message,
        &server.url(&format!("/publish?topic={topic}")),
    ]);
    let id = answer.split('"').nth(3);
    id.unwrap_or_else(|| panic!("no id in {answer:?}"))
        .to_owned()
}

/// A client of event streams. Dropping it ends it.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// The id of the last event.
    cursor: String,
}

impl Client {
    /// Subscribes, and waits for the confirmation.
    fn subscribe(server: &Server, query: &str) -> Client {
        let mut client = Client::begin(server, query);
        client.next();
        client
    }

    fn begin(server: &Server, query: &str) -> Client {
        let mut child = Command::new("curl")
            .args([
                "-sN",
                "--max-time",
                "120",
                &server.url(&format!("/events?{query}")),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Client {
            child,
            lines,
            cursor: String::new(),
        }
    }

    /// The data of the next event, or `gap NAME`, or an empty text for a cursor alone.
    fn next(&mut self) -> String {
        let (mut name, mut data, mut has_id) = (String::new(), String::new(), false);
        loop {
            let line = self.lines.next().expect("the stream has ended").unwrap();
            if let Some(id) = line.strip_prefix("id: ") {
                self.cursor = id.to_owned();
                has_id = true;
            } else if let Some(event) = line.strip_prefix("event: ") {
                name = format!("{event} ");
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = text.to_owned();
            } else if line.is_empty() && has_id {
                return name + &data;
            }
        }
    }

    /// The next messages and gaps.
    fn take(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        let began = Instant::now();
        while taken.len() < count {
            assert!(began.elapsed() < PATIENCE, "got {taken:?}");
            let next = self.next();
            if !next.is_empty() {
                taken.push(next);
            }
        }
        taken
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_of_other_programs_reach_names_and_patterns_once() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &[]);
    let mut by_name = Client::subscribe(&server, "topic=new-users");
    let mut by_pattern = Client::subscribe(&server, "topic=notifications.*");
    let mut by_both = Client::subscribe(&server, "topic=notifications.a&topic=notifications.*");
    redis.publish("new-users", "x");
    redis.publish("notifications.a", "y");
    redis.publish("notifications.b", "z");
    assert_eq!(by_name.take(1), ["x"]);
    assert_eq!(by_pattern.take(2), ["y", "z"]);
    assert_eq!(by_both.take(2), ["y", "z"]);
}

#[test]
fn nodes_are_one_hub_with_one_order() {
    let Some(redis) = start(&[]) else {
        return;
    };
    for protocol in ["", "?protocol=2"] {
        let url = format!("{}{protocol}", redis.url());
        let options: &[&str] = &["--redis", &url, "--redis-prefix", "p"];
        let nodes = [
            node(&redis, options),
            node(&redis, &[options, &["--reactors", "2"]].concat()),
        ];
        let mut clients: Vec<Client> = (nodes.iter())
            .flat_map(|node| {
                ["topic=a&topic=b", "topic=a&topic=b*", "topic=*"].map(|query| (node, query))
            })
            .map(|(node, query)| Client::subscribe(node, query))
            .collect();
        let count = 30;
        for number in 0..count {
            let topic = if number % 3 == 0 { "a" } else { "b" };
            match number % 5 {
                0 => _ = redis.publish(&format!("p:{topic}"), &format!("raw {number}")),
                _ => _ = publish(&nodes[number % 2], topic, &format!("numbered {number}")),
            }
        }
        let first = clients[0].take(count);
        for (index, client) in clients.iter_mut().enumerate().skip(1) {
            assert_eq!(client.take(count), first, "client {index} {protocol}");
        }
    }
}

#[test]
fn a_client_resumes_on_another_node() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &[])];
    let mut client = Client::subscribe(&nodes[0], "topic=a&topic=b");
    publish(&nodes[0], "a", "1");
    assert_eq!(client.take(1), ["1"]);
    let cursor = client.cursor.clone();
    drop(client);
    for number in 2..400 {
        publish(
            &nodes[0],
            if number % 2 == 0 { "a" } else { "b" },
            &number.to_string(),
        );
    }
    // 398 publications in two topics, which keep 100 each.
    let mut client = Client::begin(&nodes[1], &format!("topic=a&topic=b&since={cursor}"));
    let mut gaps = client.take(2);
    gaps.sort();
    assert_eq!(gaps, ["gap a", "gap b"]);
    let expected: Vec<String> = (200..400).map(|number| number.to_string()).collect();
    assert_eq!(client.take(200), expected);
    publish(&nodes[0], "a", "live");
    assert_eq!(client.take(1), ["live"]);
    let cursor = client.cursor.clone();
    drop(client);
    publish(&nodes[1], "a", "x");
    let mut client = Client::begin(&nodes[0], &format!("topic=a&topic=b&since={cursor}"));
    assert_eq!(client.take(1), ["x"]);
}

#[test]
fn messages_of_other_programs_are_replayed_where_they_were_heard() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &[])];
    // Another client keeps the topic subscribed.
    let _other = Client::subscribe(&nodes[0], "topic=a");
    let mut client = Client::subscribe(&nodes[0], "topic=a");
    redis.publish("a", "1");
    assert_eq!(client.take(1), ["1"]);
    let cursor = client.cursor.clone();
    drop(client);
    redis.publish("a", "2");
    publish(&nodes[1], "a", "3");
    redis.publish("a", "4");
    let mut client = Client::begin(&nodes[0], &format!("topic=a&since={cursor}"));
    assert_eq!(client.take(3), ["2", "3", "4"]);
    // The other node has not heard them, and says so.
    let mut client = Client::begin(&nodes[1], &format!("topic=a&since={cursor}"));
    assert_eq!(client.take(2), ["gap a", "3"]);
}

/// Publishes with an `Idempotency-Key`, and returns the status and the answer.
fn publish_once(server: &Server, key: &str, target: &str, body: &str) -> (String, String) {
    let header = format!("Idempotency-Key: {key}");
    let url = server.url(target);
    let format = "\n%{http_code}";
    let answer = curl(&["-H", &header, "-d", body, "-w", format, &url]);
    let (text, status) = answer.rsplit_once('\n').unwrap();
    (status.to_owned(), text.to_owned())
}

#[test]
fn a_repeat_on_any_node_publishes_nothing_again() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &["--reactors", "2"])];
    let mut client = Client::subscribe(&nodes[0], "topic=a&topic=b&topic=c");
    let batch = r#"[{"topic":"a","data":1},{"topic":"b","data":2},{"topic":"c","data":3}]"#;
    let requests = [
        ("one", "/publish?topic=a", "x"),
        ("two", "/publish?topic=a&topic=b", "y"),
        ("three", "/publish/batch", batch),
    ];
    for (key, target, body) in requests {
        let (status, first) = publish_once(&nodes[0], key, target, body);
        assert_eq!(status, "200", "{first}");
        assert!(!first.contains("repeated"), "{first}");
        let expected = first.replace("\"delivered\":1", "\"delivered\":0,\"repeated\":true");
        assert_ne!(expected, first);
        for node in [&nodes[1], &nodes[0], &nodes[1]] {
            let repeat = publish_once(node, key, target, body);
            assert_eq!(repeat, ("200".to_owned(), expected.clone()));
        }
    }
    let others = [
        ("one", "/publish?topic=a", "other"),
        ("one", "/publish?topic=b", "x"),
        ("one", "/publish?topic=a&event=e", "x"),
        ("two", "/publish?topic=b&topic=a", "y"),
        ("one", "/publish/batch", batch),
        ("three", "/publish?topic=a", "x"),
    ];
    for (key, target, body) in others {
        for node in &nodes {
            let (status, text) = publish_once(node, key, target, body);
            assert_eq!(status, "422", "{key} {target} {body}: {text}");
        }
    }
    publish(&nodes[1], "a", "end");
    assert_eq!(client.take(7), ["x", "y", "y", "1", "2", "3", "end"]);
    let keys = redis.command(&["KEYS", "waterwheel:i:*"]);
    for key in keys.split_whitespace() {
        let seconds: i64 = redis.command(&["TTL", key]).parse().unwrap();
        assert!((1..=300).contains(&seconds), "{key}: {seconds}");
    }
    assert_eq!(keys.split_whitespace().count(), 6);
}

#[test]
fn a_repeat_after_an_unknown_outcome_publishes_once() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &[])];
    // Redis takes the publication and does not answer in time.
    redis.signal("STOP");
    let (status, text) = publish_once(&nodes[0], "k", "/publish?topic=a", "x");
    redis.signal("CONT");
    assert_eq!(status, "503", "{text}");
    for node in [&nodes[0], &nodes[1], &nodes[0]] {
        until(|| get(node, "/readyz") == "ready\n");
        until(|| publish_once(node, "k", "/publish?topic=a", "x").0 == "200");
    }
    assert_eq!(redis.command(&["XLEN", "waterwheel:s:a"]), "1");
}

#[test]
fn a_user_is_disconnected_and_unsubscribed_on_all_nodes() {
    let Some(redis) = start(&[]) else {
        return;
    };
    for protocol in ["", "?protocol=2"] {
        let url = format!("{}{protocol}", redis.url());
        let options: &[&str] = &["--redis", &url, "--token-secret", SECRET];
        let nodes = [
            node(&redis, options),
            node(&redis, &[options, &["--reactors", "2"]].concat()),
        ];
        let subscribe = |node, user, topics| {
            Client::subscribe(node, &format!("{topics}&token={}", token_of(user)))
        };
        let mut of_ann: Vec<Client> = (nodes.iter().chain(&nodes))
            .map(|node| subscribe(node, "ann", "topic=a"))
            .collect();
        // Links with patterns hear the channel of the reactors by these too.
        let mut of_bob: Vec<Client> = (nodes.iter())
            .map(|node| subscribe(node, "bob", "topic=*&topic=b"))
            .collect();
        let post = |node: &Server, target| curl(&["-X", "POST", &node.url(target)]);
        let nothing = "{\"disconnected\":0}\n";
        assert_eq!(post(&nodes[0], "/disconnect?user=eve"), nothing);
        assert_eq!(
            post(&nodes[0], "/disconnect?user=ann"),
            "{\"disconnected\":4}\n"
        );
        for client in &mut of_ann {
            while client.lines.next().is_some() {}
        }
        assert_eq!(post(&nodes[1], "/disconnect?user=ann"), nothing);
        publish(&nodes[0], "b", "x");
        for client in &mut of_bob {
            assert_eq!(client.take(1), ["x"]);
        }
        assert_eq!(
            post(&nodes[1], "/unsubscribe?user=bob&topic=b"),
            "{\"unsubscribed\":2}\n"
        );
        assert_eq!(
            post(&nodes[0], "/unsubscribe?user=bob&topic=b"),
            "{\"unsubscribed\":0}\n"
        );
    }
}

#[test]
fn a_user_is_disconnected_on_its_node_while_redis_is_away() {
    let Some(mut redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &["--token-secret", SECRET]);
    let query = format!("topic=a&token={}", token_of("ann"));
    let _client = Client::subscribe(&server, &query);
    redis.kill();
    until(|| get(&server, "/readyz") == "Redis is away\n");
    let answer = curl(&["-X", "POST", &server.url("/disconnect?user=ann")]);
    assert_eq!(answer, "{\"disconnected\":1}\n");
}

#[test]
fn users_are_present_on_all_nodes_and_leave_with_theirs() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let options: &[&str] = &["--token-secret", SECRET, "--topic", "room.*=presence"];
    let mut nodes = vec![
        node(&redis, options),
        node(&redis, &[options, &["--reactors", "2"]].concat()),
    ];
    let token = |user| format!("topic=room.1&token={}", token_of(user));
    let mut first = Client::subscribe(&nodes[0], &token("ann"));
    let is_present = |node: &Server, users: &str| {
        let answer = get(node, &format!("/presence?{}", token("ann")));
        answer == format!("{{\"topic\":\"room.1\",\"present\":[{users}],\"anonymous\":0}}\n")
    };
    let ann = |count| format!("{{\"user\":\"ann\",\"connections\":{count}}}");
    let of_others: Vec<Client> = ["ann", "bob", "bob", "eve"]
        .map(|user| Client::subscribe(&nodes[1], &token(user)))
        .into();
    let bob = "{\"user\":\"bob\",\"connections\":2}";
    let eve = "{\"user\":\"eve\",\"connections\":1}";
    for node in &nodes {
        until(|| is_present(node, &format!("{},{bob},{eve}", ann(2))));
    }
    // A node that comes later knows those who are there.
    nodes.push(node(&redis, options));
    until(|| is_present(&nodes[2], &format!("{},{bob},{eve}", ann(2))));
    nodes[1].child.kill().unwrap();
    nodes[1].child.wait().unwrap();
    drop(of_others);
    for index in [0, 2] {
        until(|| is_present(&nodes[index], &ann(1)));
    }
    let mut changes = Vec::new();
    while changes.len() < 4 {
        let line = first.lines.next().unwrap().unwrap();
        if line.contains("\"joined\":") || line.contains("\"left\":") {
            changes.push(line);
        }
    }
    let change =
        |kind, user| format!("data: {{\"topic\":\"room.1\",\"{kind}\":{{\"user\":\"{user}\"}}}}");
    changes.sort();
    let mut expected = vec![
        change("joined", "bob"),
        change("joined", "eve"),
        change("left", "bob"),
        change("left", "eve"),
    ];
    expected.sort();
    assert_eq!(changes, expected);
}

#[test]
fn an_empty_redis_is_a_new_epoch_and_one_gap() {
    let Some(mut redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &[]);
    let mut client = Client::subscribe(&server, "topic=a");
    publish(&server, "a", "1");
    assert_eq!(client.take(1), ["1"]);
    redis.kill();
    until(|| get(&server, "/readyz") == "Redis is away\n");
    let answer = curl(&["-i", "-d", "x", &server.url("/publish?topic=a")]);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("\r\nretry-after: "),
        "{answer}"
    );
    redis.run();
    until(|| get(&server, "/readyz") == "ready\n");
    publish(&server, "a", "2");
    assert_eq!(client.take(2), ["gap a", "2"]);
    assert_eq!(redis.publish("a", "3"), 1);
    assert_eq!(client.take(1), ["3"]);
}

#[test]
fn a_durable_redis_loses_nothing_over_restarts() {
    let Some(mut redis) = start(&["--appendonly", "yes", "--appendfsync", "always"]) else {
        return;
    };
    let server = node(&redis, &["--topic", "*=history=1000"]);
    let mut live = Client::subscribe(&server, "topic=a");
    let mut away = Client::subscribe(&server, "topic=a");
    publish(&server, "a", "0");
    assert_eq!(away.take(1), ["0"]);
    let cursor = away.cursor.clone();
    drop(away);
    let mut expected = vec!["0".to_owned()];
    for round in 1..4 {
        for number in 0..10 {
            let text = format!("{round}.{number}");
            publish(&server, "a", &text);
            expected.push(text);
        }
        redis.kill();
        redis.run();
        until(|| get(&server, "/readyz") == "ready\n");
    }
    publish(&server, "a", "last");
    expected.push("last".to_owned());
    let all = live.take(expected.len() + 3);
    let gaps = all.iter().filter(|text| *text == "gap a").count();
    assert_eq!(gaps, 3, "{all:?}");
    let messages: Vec<_> = all.into_iter().filter(|text| text != "gap a").collect();
    assert_eq!(messages, expected);
    let other = node(&redis, &[]);
    let mut client = Client::begin(&other, &format!("topic=a&since={cursor}"));
    assert_eq!(client.take(expected.len() - 1), expected[1..]);
}

#[test]
fn a_client_resumes_when_its_node_is_killed() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let [mut dying, other] = [node(&redis, &[]), node(&redis, &[])];
    let mut client = Client::subscribe(&dying, "topic=a*");
    publish(&dying, "a.1", "1");
    assert_eq!(client.take(1), ["1"]);
    dying.child.kill().unwrap();
    dying.child.wait().unwrap();
    publish(&other, "a.2", "2");
    let mut client = Client::begin(&other, &format!("topic=a*&since={}", client.cursor));
    assert_eq!(client.take(1), ["2"]);
}

#[test]
fn channels_in_redis_are_the_names_that_have_members() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &[]);
    let channels = || {
        let mut names: Vec<String> = redis
            .command(&["PUBSUB", "CHANNELS"])
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    let clients: Vec<Client> = ["topic=a", "topic=a&topic=b", "topic=b&topic=c*"]
        .map(|query| Client::subscribe(&server, query))
        .into();
    assert_eq!(channels(), ["a", "b", "waterwheel:a", "waterwheel:b"]);
    assert_eq!(redis.command(&["PUBSUB", "NUMPAT"]), "2");
    drop(clients);
    until(|| channels().is_empty());
    until(|| redis.command(&["PUBSUB", "NUMPAT"]) == "0");
}

#[test]
fn a_hub_serves_before_its_redis_is_there() {
    let Some(mut redis) = start(&[]) else {
        return;
    };
    redis.kill();
    let server = Server::start(&["--redis", &redis.url(), "--log", "error"]);
    assert_eq!(get(&server, "/healthz"), "ok\n");
    assert_eq!(get(&server, "/readyz"), "Redis is away\n");
    let mut client = Client::begin(&server, "topic=a");
    redis.run();
    // The first cursor is the confirmation.
    client.next();
    redis.publish("a", "x");
    assert_eq!(client.take(1), ["x"]);
}

#[test]
fn bad_options_are_refused() {
    let cases = [
        (&["--redis", "http://h"][..], "redis://"),
        (&["--redis", "rediss://h"], "TLS"),
        (&["--redis", "redis://:secret@h:0"], "port"),
        (&["--redis-prefix", "p"], "--redis"),
        (
            &["--redis", "redis://h", "--redis-prefix", ""],
            "--redis-prefix",
        ),
    ];
    for (words, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{words:?}");
        assert!(
            text.contains(expected) && !text.contains("secret"),
            "{words:?}: {text}"
        );
    }
}

#[test]
fn a_draining_hub_still_hears_redis() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &["--drain-window", "3"]);
    let mut clients = [(); 8].map(|()| Client::subscribe(&server, "topic=a"));
    let id = server.child.id().to_string();
    Command::new("kill")
        .args(["-s", "TERM", &id])
        .status()
        .unwrap();
    until(|| get(&server, "/readyz") == "draining\n");
    // The last goodbye comes at the end of the window.
    assert_ne!(redis.publish("a", "x"), 0);
    let heard = |client: &mut Client| {
        let mut lines = client.lines.by_ref().map_while(Result::ok);
        lines.any(|line| line == "data: x")
    };
    assert_ne!(
        clients
            .iter_mut()
            .filter_map(|it| heard(it).then_some(()))
            .count(),
        0
    );
    let mut server = server;
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn the_metrics_count_lost_links_and_messages_that_are_left_out() {
    let Some(mut redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &["--reactors", "2"]);
    let has = |line: &str| get(&server, "/metrics").lines().any(|other| other == line);
    assert!(has("waterwheel_redis_links 2"));
    until(|| has("waterwheel_redis_links_ready 2"));
    assert!(has("waterwheel_redis_lost_total 0"));
    let mut client = Client::subscribe(&server, "topic=*");
    redis.publish("a", &"x".repeat(1024 * 1024 + 1));
    redis.publish("a", "y");
    assert_eq!(client.take(1), ["y"]);
    assert!(has("waterwheel_redis_left_out_total 1"));
    redis.kill();
    until(|| has("waterwheel_redis_links_ready 0"));
    assert!(has("waterwheel_redis_lost_total 2"));
    curl(&["-d", "x", &server.url("/publish?topic=a")]);
    assert!(has("waterwheel_redis_unpublished_total 1"));
    redis.run();
    until(|| has("waterwheel_redis_links_ready 2"));
    assert!(has("waterwheel_redis_epochs_total 2"));
}
