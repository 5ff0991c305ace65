//! The client of Redis against a real server.

#![cfg(feature = "redis")]

#[path = "support/redis_server.rs"]
mod redis_server;
mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis_server::{RedisServer, start};
use waterwheel::{Config, EventLoop, Redis, RedisError};

struct Client {
    events: EventLoop<()>,
    redis: Redis<()>,
    seen: Rc<RefCell<Vec<String>>>,
}

impl Client {
    fn connect(url: &str) -> Client {
        let mut events = EventLoop::new(Config::default(), ()).unwrap();
        let redis = Redis::connect(events.reactor(), url).unwrap();
        let seen = Rc::<RefCell<Vec<String>>>::default();
        for (name, on) in [("connected", 0), ("lost", 1), ("gap", 2)] {
            let seen = Rc::clone(&seen);
            let call =
                move |_: &mut waterwheel::Cx<'_, ()>| seen.borrow_mut().push(name.to_owned());
            match on {
                0 => redis.on_connected(call),
                1 => redis.on_lost(call),
                _ => redis.on_gap(call),
            }
        }
        Client {
            events,
            redis,
            seen,
        }
    }

    fn run_until(&mut self, mut is_reached: impl FnMut(&[String]) -> bool) {
        let began = Instant::now();
        while !is_reached(&self.seen.borrow()) {
            assert!(
                began.elapsed() < support::PATIENCE,
                "seen: {:?}",
                self.seen.borrow()
            );
            self.events.turn(Some(Duration::from_millis(10))).unwrap();
        }
    }

    fn run_until_seen(&mut self, count: usize) -> Vec<String> {
        self.run_until(|seen| count <= seen.len());
        std::mem::take(&mut *self.seen.borrow_mut())
    }

    fn command(&mut self, words: &[&str]) {
        let seen = Rc::clone(&self.seen);
        self.redis
            .command(self.events.reactor(), words, move |_, reply| {
                let text = match reply {
                    Ok(reply) => format!("{reply:?}"),
                    Err(error) => error.to_string(),
                };
                seen.borrow_mut().push(text);
            });
    }

    fn subscribe(&mut self, name: &str) {
        let seen = Rc::clone(&self.seen);
        let note = move |_: &mut waterwheel::Cx<'_, ()>, message: &waterwheel::RedisMessage<'_>| {
            let text = |bytes| String::from_utf8_lossy(bytes);
            let by = message.pattern.map_or("name".into(), text);
            let line = format!(
                "{} by {by}: {}",
                text(message.channel),
                text(message.payload)
            );
            seen.borrow_mut().push(line);
        };
        let reactor = self.events.reactor();
        match name.contains('*') {
            true => self.redis.psubscribe(reactor, name, note),
            false => self.redis.subscribe(reactor, name, note),
        };
    }
}

fn urls(server: &RedisServer) -> [String; 2] {
    [server.url(), format!("{}?protocol=2", server.url())]
}

#[test]
fn commands_are_answered_in_their_order() {
    let Some(server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        client.command(&["SET", "a", "1"]);
        client.command(&["INCR", "a"]);
        client.command(&["NONSENSE"]);
        client.command(&["LRANGE", "none", "0", "-1"]);
        let seen = client.run_until_seen(5);
        assert_eq!(seen[0], "connected");
        assert_eq!(seen[2], "Integer(2)");
        assert!(seen[3].starts_with("Error("), "{seen:?}");
        assert_eq!(seen[4], "Array([])");
    }
}

#[test]
fn messages_come_by_names_and_by_patterns() {
    let Some(server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        client.subscribe("news");
        client.subscribe("n*");
        assert_eq!(client.run_until_seen(1), ["connected"]);
        assert_eq!(server.publish("news", "x"), 2);
        let mut seen = client.run_until_seen(2);
        seen.sort();
        assert_eq!(seen, ["news by n*: x", "news by name: x"]);
        client.subscribe("later");
        while server.publish("later", "y") == 0 {
            client.events.turn(Some(Duration::from_millis(1))).unwrap();
        }
        assert_eq!(client.run_until_seen(1), ["later by name: y"]);
    }
}

#[test]
fn a_restart_is_told_and_nothing_is_deaf() {
    let Some(mut server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        client.subscribe("news");
        client.subscribe("n*");
        assert_eq!(client.run_until_seen(1), ["connected"]);
        server.kill();
        assert_eq!(client.run_until_seen(1), ["lost"]);
        client.command(&["PING"]);
        assert_eq!(client.run_until_seen(1), [RedisError::Away.to_string()]);
        server.run();
        assert_eq!(client.run_until_seen(2), ["connected", "gap"]);
        assert_eq!(server.publish("news", "x"), 2);
        assert_eq!(client.run_until_seen(2).len(), 2);
    }
}

#[test]
fn a_stopped_server_is_noticed() {
    let Some(server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        assert_eq!(client.run_until_seen(1), ["connected"]);
        server.signal("STOP");
        assert_eq!(client.run_until_seen(1), ["lost"]);
        server.signal("CONT");
        assert_eq!(client.run_until_seen(2), ["connected", "gap"]);
    }
}

/// A socket in the folder of temporary files, which is removed at the end.
struct SocketPath(std::path::PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn users_passwords_databases_and_sockets() {
    let name = format!("waterwheel-redis-{}.sock", std::process::id());
    let socket = SocketPath(std::env::temp_dir().join(name));
    let path = socket.0.to_str().unwrap();
    let Some(server) = start(&["--unixsocket", path]) else {
        return;
    };
    let ada = "ACL SETUSER ada on >pw ~* &a* +@all";
    server.command(&ada.split(' ').collect::<Vec<_>>());
    server.command(&["CONFIG", "SET", "requirepass", "a b"]);
    let at = format!("127.0.0.1:{}", server.port);
    let cases = [
        format!("redis://:a%20b@{at}/3?name=me"),
        format!("redis://default:a%20b@{at}/3?name=me"),
        format!("redis://ada:pw@{at}/3?name=me"),
        format!("unix://:a%20b@{path}?db=3&name=me"),
        format!("unix://ada:pw@{path}?db=3&name=me"),
    ];
    for url in cases {
        for protocol in ["3", "2"] {
            let mut client = Client::connect(&format!("{url}&protocol={protocol}"));
            client.subscribe("allowed");
            client.command(&["CLIENT", "INFO"]);
            client.command(&["PUBLISH", "allowed", "x"]);
            let seen = client.run_until_seen(4).join("\n");
            let has = |part: &str| assert!(seen.contains(part), "{url} {protocol}: {seen}");
            has("connected");
            has("allowed by name: x");
            has("Integer(1)");
            has(" name=me ");
            has(" db=3 ");
        }
    }
    for (url, why) in [
        (format!("redis://:wrong@{at}"), "a wrong password"),
        (format!("redis://{at}"), "no password"),
        (format!("redis://ada:pw@{at}/77"), "a wrong database"),
    ] {
        let mut client = Client::connect(&url);
        client.command(&["PING"]);
        let expected = RedisError::Away.to_string();
        assert_eq!(client.run_until_seen(1), [expected], "{why}");
    }
}

#[test]
fn a_name_that_a_user_may_not_have_does_not_harm_others() {
    let Some(server) = start(&[]) else {
        return;
    };
    server.command(&["ACL", "SETUSER", "ada", "on", ">pw", "~*", "&ok*", "+@all"]);
    for protocol in ["3", "2"] {
        let at = format!("127.0.0.1:{}", server.port);
        let mut client = Client::connect(&format!("redis://ada:pw@{at}?protocol={protocol}"));
        for name in ["ok1", "secret", "ok2", "ok3"] {
            client.subscribe(name);
        }
        assert_eq!(client.run_until_seen(1), ["connected"]);
        for name in ["ok1", "ok2", "ok3"] {
            assert_eq!(server.publish(name, "x"), 1);
            assert_eq!(client.run_until_seen(1), [format!("{name} by name: x")]);
        }
        assert_eq!(server.publish("secret", "x"), 0);
    }
}

#[test]
fn subscriptions_that_are_killed_at_random_moments_are_not_deaf() {
    let Some(server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut client = Client::connect(&url);
        for round in 0..25 {
            // A link that is lost often waits longer each time, so a new one begins after five times.
            if round % 5 == 0 {
                client = Client::connect(&url);
                client.subscribe("news");
                client.subscribe("n*");
                assert_eq!(client.run_until_seen(1), ["connected"]);
            }
            // The names change meanwhile, so that commands are under way when the connection ends.
            client.subscribe(&format!("name {round}"));
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            for _ in 0..random >> 60 {
                client.events.turn(Some(Duration::ZERO)).unwrap();
            }
            let killed = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            assert_ne!(killed, "0", "round {round}");
            assert_eq!(client.run_until_seen(3), ["lost", "connected", "gap"]);
            assert_eq!(server.publish("news", "x"), 2, "round {round}");
            let mut seen = client.run_until_seen(2);
            seen.sort();
            assert_eq!(seen, ["news by n*: x", "news by name: x"]);
            let name = format!("name {round}");
            assert_eq!(server.publish(&name, "y"), 2, "round {round}");
            let mut seen = client.run_until_seen(2);
            seen.sort();
            let expected = [format!("{name} by n*: y"), format!("{name} by name: y")];
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_connection_that_is_ended_for_its_full_buffer_is_a_gap() {
    let limit = "--client-output-buffer-limit pubsub 1mb 1mb 1";
    let Some(server) = start(&limit.split(' ').collect::<Vec<_>>()) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        client.subscribe("news");
        assert_eq!(client.run_until_seen(1), ["connected"]);
        // The client does not read meanwhile.
        let large = "x".repeat(512 * 1024);
        let began = Instant::now();
        while server.publish("news", &large) == 1 {
            assert!(began.elapsed() < support::PATIENCE, "the server keeps it");
        }
        client.run_until(|seen| seen.last().is_some_and(|last| last == "gap"));
        let mut seen = std::mem::take(&mut *client.seen.borrow_mut());
        seen.retain(|line| !line.starts_with("news"));
        assert_eq!(seen, ["lost", "connected", "gap"]);
        assert_eq!(server.publish("news", "again"), 1);
        assert_eq!(client.run_until_seen(1), ["news by name: again"]);
    }
}

#[test]
fn messages_come_by_sharded_channels() {
    let Some(server) = start(&[]) else {
        return;
    };
    for url in urls(&server) {
        let mut client = Client::connect(&url);
        let seen = Rc::clone(&client.seen);
        let redis = client.redis.clone();
        let reactor = client.events.reactor();
        let subscription = redis.ssubscribe(reactor, "shard", move |_, message| {
            let payload = String::from_utf8_lossy(message.payload).into_owned();
            seen.borrow_mut().push(payload);
        });
        assert_eq!(client.run_until_seen(1), ["connected"]);
        assert_eq!(server.command(&["SPUBLISH", "shard", "x"]), "1");
        assert_eq!(client.run_until_seen(1), ["x"]);
        assert_eq!(server.command(&["PUBSUB", "SHARDCHANNELS"]), "shard");
        redis.unsubscribe(client.events.reactor(), subscription);
        let channels = || server.command(&["PUBSUB", "SHARDCHANNELS"]);
        client.run_until(|_| channels().is_empty());
    }
}

#[test]
fn a_message_is_forwarded_to_a_connection_once() {
    let Some(server) = start(&[]) else {
        return;
    };
    for protocol in ["", "?protocol=2"] {
        let url = format!("{}{protocol}", server.url());
        let mut client = Client::connect(&url);
        client.run_until_seen(1);
        let redis = client.redis.clone();
        // The client sends a pattern with a line break behind it, and gets messages in the same form.
        let listener = (client.events.reactor()).stream("127.0.0.1:0", move |stream| {
            let redis = redis.clone();
            stream.on_data(move |stream, bytes| {
                for pattern in bytes.split_inclusive(|byte| *byte == b'\n') {
                    redis.forward(stream.reactor, &pattern[..pattern.len() - 1], stream.id);
                }
            });
        });
        let address = client.events.reactor().local_addr(listener.unwrap());
        let port = address.unwrap().port().unwrap();
        let many: Vec<String> = (0..100).map(|number| format!("many{number}\n")).collect();
        let many = format!("end\n{}", many.concat());
        let asked = ["a*\n*b\n*b\nend\n", "*b\nend\n", "x\na[b]\nend\n", &many];
        let mut sockets = asked.map(|text| {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            socket.write_all(text.as_bytes()).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let pattern_count = || server.command(&["PUBSUB", "NUMPAT"]);
        // Those are a*, *b, x, a[b], end, and 99 of many.
        client.run_until(|_| pattern_count() == "104");
        let published = ["ab", "ax", "xb", "x", "many98", "many99"];
        for channel in published.into_iter().chain(["end"]) {
            server.publish(channel, &format!("{channel}\n"));
        }
        let expected = [
            "ab\nax\nxb\nend\n",
            "ab\nxb\nend\n",
            "ab\nx\nend\n",
            "many98\nend\n",
        ];
        let mut got = [const { String::new() }; 4];
        client.run_until(|_| {
            for (socket, got) in sockets.iter_mut().zip(&mut got) {
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = socket.read(&mut buffer) {
                    *got += str::from_utf8(&buffer[..count]).unwrap();
                }
            }
            got == expected
        });
        drop(sockets);
        client.run_until(|_| pattern_count() == "0");
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;

    /// The fingerprint of `tests/certificates/server.pem`.
    fn fingerprint() -> Option<String> {
        let output = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(file("server.pem"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Some(text.split_once('=')?.1.trim().to_owned())
    }

    fn file(name: &str) -> String {
        format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn commands_and_messages_go_over_tls() {
        if !support::has("openssl") {
            return;
        }
        let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let pin = fingerprint().unwrap();
        for wants_certificate in ["no", "yes"] {
            let port = redis_server::free_port();
            let address = port.to_string();
            let Some(server) = start(&[
                "--tls-port",
                &address,
                "--tls-cert-file",
                &file("server.pem"),
                "--tls-key-file",
                &file("server.key"),
                "--tls-ca-cert-file",
                &ca,
                "--tls-auth-clients",
                wants_certificate,
            ]) else {
                return;
            };
            let shown = format!("&certificate={certificate}&key={key}");
            let good = [
                format!("rediss://localhost:{port}#ca={ca}{shown}"),
                format!("rediss://127.0.0.1:{port}?protocol=2#sha256={pin}{shown}"),
            ];
            for url in good {
                let mut client = Client::connect(&url);
                assert_eq!(client.run_until_seen(1), ["connected"]);
                client.subscribe("news");
                client.command(&["ECHO", &"x".repeat(100_000)]);
                assert!(100_000 < client.run_until_seen(1)[0].len());
                while server.publish("news", "hello") == 0 {
                    client.events.turn(Some(Duration::from_millis(1))).unwrap();
                }
                client.run_until(|seen| seen.iter().any(|line| line.contains("hello")));
            }
            let other = format!(
                "rediss://127.0.0.1:{port}#sha256={}{shown}",
                "00".repeat(32)
            );
            let unshown = format!("rediss://127.0.0.1:{port}#sha256={pin}");
            if wants_certificate == "no" {
                let mut client = Client::connect(&unshown);
                assert_eq!(client.run_until_seen(1), ["connected"]);
                continue;
            }
            for url in [other, unshown] {
                let mut client = Client::connect(&url);
                client.command(&["ECHO", "x"]);
                let seen = client.run_until_seen(1);
                assert!(seen[0].contains("is away"), "{url}: {seen:?}");
            }
        }
    }
}
