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
        (&["--redis", "rediss://:secret@h#insecure=1"], "sha256=HEX"),
        (
            &["--redis", "rediss://:secret@h#sha256=ab"],
            "64 hexadecimal digits",
        ),
        (&["--redis", "rediss://h#ca=/nowhere"], "/nowhere"),
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

#[test]
fn members_on_all_reactors_of_a_node_are_counted() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &["--reactors", "3"]), node(&redis, &[])];
    let _clients: Vec<Client> = (0..8)
        .map(|index| Client::subscribe(&nodes[0], ["topic=a", "topic=a*"][index % 2]))
        .collect();
    let _elsewhere = Client::subscribe(&nodes[1], "topic=a");
    // Connections are divided among the reactors, and so are those of the requests.
    for _ in 0..12 {
        let answer = curl(&["-d", "x", &nodes[0].url("/publish?topic=a")]);
        assert!(answer.contains("\"delivered\":8"), "{answer}");
    }
    let answer = curl(&["-d", "x", &nodes[0].url("/publish?topic=b")]);
    assert!(answer.contains("\"delivered\":0"), "{answer}");
    let answer = curl(&["-d", "x", &nodes[1].url("/publish?topic=a")]);
    assert!(answer.contains("\"delivered\":1"), "{answer}");
}

// With several reactors none found in its log what a client had missed.
#[test]
fn messages_of_other_programs_are_replayed_by_a_node_of_several_reactors() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &["--reactors", "2"]);
    let mut kept: Vec<Client> = (0..8)
        .map(|_| Client::subscribe(&server, "topic=a"))
        .collect();
    let cursor = kept[0].cursor.clone();
    redis.publish("a", "missed");
    for client in &mut kept {
        assert_eq!(client.take(1), ["missed"]);
    }
    // Each reactor has a log of its own, so a client that comes to another one may be told of a gap.
    let mut replayed = 0;
    for _ in 0..8 {
        let mut client = Client::begin(&server, &format!("topic=a&since={cursor}"));
        match &*client.take(1)[0] {
            "missed" => replayed += 1,
            other => assert_eq!(other, "gap a"),
        }
    }
    assert_ne!(replayed, 0);
}

// A name that stood twice had an index that its page did not have.
#[test]
fn a_name_that_is_asked_for_twice_is_read_once() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &[]);
    for text in ["x", "y"] {
        publish(&server, "a", text);
        publish(&server, "b", text);
    }
    for since in ["dead:5", "earliest"] {
        let query = format!("topic=a&topic=a&topic=b&topic=a&since={since}");
        let mut client = Client::begin(&server, &query);
        let mut taken = Vec::new();
        until(|| {
            taken.extend(client.take(1));
            4 <= taken.iter().filter(|it| !it.starts_with("gap")).count()
        });
        taken.retain(|it| !it.starts_with("gap"));
        assert_eq!(taken, ["x", "x", "y", "y"]);
    }
    assert_eq!(get(&server, "/readyz"), "ready\n");
    let metrics = get(&server, "/metrics");
    assert!(metrics.contains("waterwheel_redis_lost_total 0"));
}

// A node that only listens learns of the loss when its link is back, not from the next publication.
#[test]
fn a_counter_that_went_back_is_a_new_epoch_for_a_node_that_listens() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let server = node(&redis, &[]);
    let mut client = Client::subscribe(&server, "topic=a");
    for text in ["x", "y"] {
        publish(&server, "a", text);
        assert_eq!(client.take(1), [text]);
    }
    redis.command(&["HSET", "waterwheel:head", "number", "1"]);
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind]);
    }
    assert_eq!(client.take(1), ["gap a"]);
    let has = |line: &str| get(&server, "/metrics").lines().any(|other| other == line);
    until(|| has("waterwheel_redis_epochs_total 1"));
}

// A key of another type kept clients of all topics waiting, and the hub not ready.
#[test]
fn a_stream_that_another_program_has_overwritten_is_a_gap_of_its_topic() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let nodes = [node(&redis, &[]), node(&redis, &[])];
    let mut of_a = Client::subscribe(&nodes[0], "topic=a");
    let mut of_b = Client::subscribe(&nodes[0], "topic=b");
    let since = publish(&nodes[0], "c", "x");
    for (topic, client) in [("a", &mut of_a), ("b", &mut of_b)] {
        publish(&nodes[0], topic, "x");
        assert_eq!(client.take(1), ["x"]);
    }
    redis.command(&["SET", "waterwheel:s:a", "of another program"]);
    let query = format!("topic=a&topic=b&since={since}");
    let mut resumed = Client::begin(&nodes[1], &query);
    assert_eq!(resumed.take(2), ["x", "gap a"]);
    publish(&nodes[0], "b", "live");
    for client in [&mut resumed, &mut of_b] {
        assert_eq!(client.take(1), ["live"]);
    }
    // Publications to both topics that the nodes have not heard.
    let head = |field| redis.command(&["HGET", "waterwheel:head", field]);
    let (epoch, number) = (head("epoch"), head("number"));
    let number: u64 = number.parse().unwrap();
    let [last_of_a, last] = [number + 1, number + 2].map(|it| it.to_string());
    let message = format!("1 {epoch} {last} 0 0 0 t - -\nmissed");
    let (id, previous) = (format!("{last}-9999999999"), number.to_string());
    let words = ["XADD", "waterwheel:s:b", &id, "p", &previous, "m", &message];
    redis.command(&words);
    redis.command(&["ZADD", "waterwheel:topics", &last_of_a, "a", &last, "b"]);
    redis.command(&["HSET", "waterwheel:head", "number", &last]);
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind]);
    }
    assert_eq!(of_b.take(2), ["gap b", "missed"]);
    // One for messages of other programs, and one for those in the stream.
    assert_eq!(of_a.take(2), ["gap a", "gap a"]);
    for node in &nodes {
        until(|| get(node, "/readyz") == "ready\n");
    }
    publish(&nodes[1], "b", "end");
    assert_eq!(of_b.take(1), ["end"]);
}

#[test]
fn the_documented_acl_is_enough() {
    let Some(redis) = start(&[]) else {
        return;
    };
    let text = include_str!("../docs/redis.md");
    let from = text.find("ACL SETUSER").expect("the command");
    let command = text[from..].split("```").next().unwrap();
    let words: Vec<_> = command.split_whitespace().collect();
    assert_eq!(redis.command(&words), "OK");
    let url = redis.url().replace("redis://", "redis://hub:SECRET@");
    let mut words = vec!["--redis", &url, "--log", "error"];
    for topic in ["room=presence", "*=history=100,latest"] {
        words.extend(["--topic", topic]);
    }
    let nodes = [(); 2].map(|()| Server::start(&words));
    for node in &nodes {
        until(|| get(node, "/readyz") == "ready\n");
    }
    let since = publish(&nodes[0], "other", "0");
    publish(&nodes[0], "a", "1");
    let query = format!("topic=a&topic=b*&since={since}");
    let mut client = Client::begin(&nodes[1], &query);
    assert_eq!(client.take(1), ["1"]);
    let target = nodes[0].url("/publish?topic=a&key=k");
    curl(&["-d", "2", "-H", "Idempotency-Key: 1", &target]);
    redis.publish("b1", "3");
    assert_eq!(client.take(2), ["2", "3"]);
    let mut latest = Client::begin(&nodes[1], "topic=a&latest=1");
    assert_eq!(latest.take(2), ["1", "2"]);
    let present = Client::begin(&nodes[0], "topic=room").take(1);
    assert!(present[0].starts_with("present "), "{present:?}");
    curl(&["-X", "POST", &nodes[0].url("/disconnect?user=ada")]);
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind]);
    }
    assert_eq!(client.take(2), ["gap a", "gap b*"]);
    for node in &nodes {
        until(|| get(node, "/readyz") == "ready\n");
    }
    publish(&nodes[0], "a", "4");
    assert_eq!(client.take(1), ["4"]);
    assert_eq!(redis.command(&["ACL", "LOG"]), "");
}

// The remedy that the log names. A client that came back got neither the messages nor a gap.
#[test]
fn a_list_of_topics_that_is_deleted_with_the_epoch_is_a_gap_of_all() {
    for list in ["waterwheel:topics", "waterwheel:raw"] {
        let Some(redis) = start(&[]) else {
            return;
        };
        let first = node(&redis, &[]);
        let mut member = Client::subscribe(&first, "topic=*");
        let since = publish(&first, "a", "1");
        publish(&first, "a", "2");
        assert_eq!(member.take(2), ["1", "2"]);
        redis.command(&["SET", list, "of another program"]);
        redis.command(&["DEL", list]);
        redis.command(&["HDEL", "waterwheel:head", "epoch"]);
        // A node that knows no number goes on with those of the streams.
        let second = node(&redis, &[]);
        publish(&second, "a", "3");
        assert_eq!(member.take(2), ["gap *", "3"], "{list}");
        for node in [&first, &second] {
            let mut resumed = Client::begin(node, &format!("topic=a&since={since}"));
            let mut taken = resumed.take(4);
            taken.sort();
            assert_eq!(taken, ["1", "2", "3", "gap a"], "{list}");
        }
    }
}
