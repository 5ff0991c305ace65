//! The client of Redis against a real server.

#![cfg(feature = "redis")]

#[path = "support/redis_server.rs"]
mod redis_server;
mod support;

use std::cell::RefCell;
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
