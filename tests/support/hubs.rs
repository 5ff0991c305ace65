//! Steps that tests of hubs with a Redis share: start a hub, publish to it, confirm its clients; and the size of a run.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashSet;

use tungstenite::WebSocket;

use super::redis_server::until;
use super::support::{Http, Server, Socket};
use super::watcher::{Watcher, ask};

/// The size of a test, and its full size, which it has with `WATERWHEEL_STORM=full`.
pub fn size(small: usize, full: usize) -> usize {
    match std::env::var_os("WATERWHEEL_STORM").is_some_and(|it| it == "full") {
        true => full,
        false => small,
    }
}

/// A hub that is ready, with the Redis of a URL.
pub fn node_at(url: &str, options: &[&str]) -> Server {
    let mut words = vec!["--redis", url, "--log", "error"];
    words.extend(options);
    let server = Server::start(&words);
    until(|| is_ready(&server));
    server
}

pub fn is_ready(server: &Server) -> bool {
    let (status, _) = Http::new(server.connect()).request("GET", "/readyz", b"");
    status == 200
}

/// Publishes by HTTP, and returns the status of the answer.
pub fn publish(http: &mut Http, topic: &str, text: &str) -> u16 {
    let target = format!("/publish?topic={topic}");
    http.request("POST", &target, text.as_bytes()).0
}

/// The topic of a message: its text begins with it.
pub fn topic_of(text: &str) -> &str {
    text.split_once('.').expect("a topic and a number").0
}

/// Waits until all watchers are live: those of plain sockets are told nothing, and are sent probes.
pub fn confirm(server: &Server, watchers: &[Watcher]) {
    let mut http = Http::new(server.connect());
    until(|| {
        let topics: HashSet<String> = watchers.iter().flat_map(Watcher::unconfirmed).collect();
        for topic in &topics {
            publish(&mut http, topic, &format!("probe {topic}"));
        }
        topics.is_empty()
    });
    for watcher in watchers {
        watcher.wait_until_live();
    }
}

/// The names that at least one socket has subscribed.
pub struct Joined<'n> {
    pub topics: Vec<&'n str>,
    pub patterns: Vec<&'n str>,
}

/// Sends so many commands, each to a random socket and with a random name: `subscribe`, or `unsubscribe` where the
/// socket has the name. Checks each answer. Returns the names that are subscribed at the end.
pub fn join_and_leave<'n>(
    sockets: &mut [WebSocket<Socket>],
    names: &'n [String],
    count: usize,
) -> Joined<'n> {
    let mut joined: Vec<HashSet<&str>> = vec![HashSet::new(); sockets.len()];
    let mut random = Random(7);
    for _ in 0..count {
        let random = random.next();
        let (socket, name) = ((random >> 8) as usize, (random >> 16) as usize);
        let (socket, name) = (socket % sockets.len(), &*names[name % names.len()]);
        let command = match joined[socket].insert(name) {
            true => "subscribe",
            false => {
                joined[socket].remove(name);
                "unsubscribe"
            }
        };
        let answer = ask(&mut sockets[socket], command, name);
        assert_eq!(answer[format!("{command}d")], name, "{answer}");
    }
    let names: HashSet<&str> = joined.into_iter().flatten().collect();
    let (patterns, topics) = names.into_iter().partition(|it| it.ends_with('*'));
    Joined { topics, patterns }
}

/// Pseudo-random numbers, the same in each run. Their low bits repeat soon.
pub struct Random(pub u32);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }
}
