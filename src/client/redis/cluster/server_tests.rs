//! The client against a real cluster.

// The support code of `tests/` names this module.
mod support {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    pub use crate::protocol::resp;

    pub const PATIENCE: Duration = Duration::from_secs(60);

    pub fn has(program: &str) -> bool {
        let mut command = Command::new(program);
        let run = command.arg("--version").stdout(Stdio::null()).status();
        let is_found = run.is_ok_and(|status| status.success());
        if !is_found {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing");
            let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
        }
        is_found
    }
}

#[path = "../../../../tests/support/redis_cluster.rs"]
mod redis_cluster;
#[path = "../../../../tests/support/redis_server.rs"]
mod redis_server;

use std::collections::{BTreeMap, BTreeSet};

use self::redis_cluster::{RedisCluster, start_cluster};
use super::*;
use crate::client::redis::link::Listener;
use crate::client::redis::push::Message;
use crate::client::redis::slot::slot_of;
use crate::reactor::EventLoop;
use crate::reactor::config::Config;
use SubscriptionKind::{Channel, Pattern, Sharded};

/// One slot of each master, and the hash tag that leads to it.
const TAGS: [(u16, &str); 3] = [(5061, "bar"), (7365, "c"), (12182, "foo")];

/// The news of a cluster.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    messages: Vec<String>,
    answers: BTreeMap<u32, String>,
    connected: BTreeSet<Option<u16>>,
    subscribed: BTreeSet<String>,
}

struct Watch;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Listener<Seen> for Watch {
    fn message(self: Rc<Self>, cx: &mut Cx<'_, Seen>, message: Message<'_>) {
        assert!(cx.state.subscribed.contains(&text(message.name)));
        let line = format!("{} {}", text(message.channel), text(message.payload));
        cx.state.messages.push(line);
    }

    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, Seen>, _: SubscriptionKind, name: &[u8]) {
        cx.state.subscribed.insert(text(name));
    }

    fn refused(self: Rc<Self>, cx: &mut Cx<'_, Seen>, kind: SubscriptionKind, name: &[u8]) {
        let line = format!("refused {} {}", kind.subscribe_command(), text(name));
        cx.state.lines.push(line);
    }

    fn connected(self: Rc<Self>, cx: &mut Cx<'_, Seen>) {
        assert!(cx.state.connected.insert(None), "connected twice");
        cx.state.lines.push("connected".into());
    }

    fn lost(self: Rc<Self>, cx: &mut Cx<'_, Seen>) {
        assert!(cx.state.connected.remove(&None), "lost twice");
        cx.state.subscribed.retain(|name| name.contains('{'));
        cx.state.lines.push("lost".into());
    }
}

impl ClusterListener<Seen> for Watch {
    fn slot_connected(self: Rc<Self>, cx: &mut Cx<'_, Seen>, slot: u16) {
        assert!(cx.state.connected.insert(Some(slot)), "connected twice");
        cx.state.lines.push(format!("slot {slot} connected"));
    }

    fn slot_lost(self: Rc<Self>, cx: &mut Cx<'_, Seen>, slot: u16) {
        assert!(cx.state.connected.remove(&Some(slot)), "lost twice");
        let names = &mut cx.state.subscribed;
        names.retain(|name| slot_of(name.as_bytes()) != slot);
        cx.state.lines.push(format!("slot {slot} lost"));
    }
}

struct Client {
    events: EventLoop<Seen>,
    cluster: Cluster<Seen>,
    answer_count: u32,
}

impl Client {
    fn connect(url: &str) -> Client {
        let mut events = EventLoop::new(Config::default(), Seen::default()).unwrap();
        let slots = TAGS.map(|(slot, _)| slot);
        let cluster = Cluster::connect(events.reactor(), url, &slots).unwrap();
        cluster.set_listener(Rc::new(Watch));
        Client {
            events,
            cluster,
            answer_count: 0,
        }
    }

    fn seen(&mut self) -> &mut Seen {
        self.events.state()
    }

    fn run_until(&mut self, what: &str, is_reached: impl Fn(&Seen) -> bool) {
        let began = self.events.reactor().now();
        while !is_reached(self.seen()) {
            let waited = self.events.reactor().now() - began;
            let seen = self.seen();
            assert!(
                waited < support::PATIENCE,
                "{what}: {:?} {:?} {:?}",
                seen.lines,
                seen.messages,
                seen.answers
            );
            self.events.turn(Some(Duration::from_millis(10))).unwrap();
        }
    }

    fn run_until_connected(&mut self) {
        self.run_until("connected", |seen| seen.connected.len() == TAGS.len() + 1);
    }

    /// Wants a name of each master, and an ordinary name and pattern.
    fn hold_all(&mut self) {
        for (_, tag) in TAGS {
            let name = format!("{{{tag}}}:news");
            self.hold(Sharded, &name);
        }
        self.hold(Channel, "news");
        self.hold(Pattern, "n*s");
    }

    fn hold(&mut self, kind: SubscriptionKind, name: &str) {
        let reactor = self.events.reactor();
        if self.cluster.hold(reactor, kind, name.as_bytes()) == Held::Active {
            self.seen().subscribed.insert(name.to_owned());
        }
    }

    /// Sends a command, and returns the number of its answer.
    fn send(&mut self, slot: u16, words: &[&str]) -> u32 {
        // The time of the loop stands still while a test waits for the cluster.
        self.events.turn(Some(Duration::ZERO)).unwrap();
        self.answer_count += 1;
        let number = self.answer_count;
        let note = move |cx: &mut Cx<'_, Seen>, reply: Result<Reply<'_>, RedisError>| {
            let text = match reply {
                Ok(reply) => match (reply.as_error(), reply.as_integer(), reply.as_str()) {
                    (Some(error), ..) => error.into_owned(),
                    (None, Some(number), _) => number.to_string(),
                    (None, None, text) => text.unwrap_or("nothing").to_owned(),
                },
                Err(error) => format!("{error:?}"),
            };
            assert!(cx.state.answers.insert(number, text).is_none());
        };
        let reactor = self.events.reactor();
        let timeout = Duration::from_secs(5);
        (self.cluster).command_within(reactor, slot, words, timeout, note);
        number
    }

    fn answer(&mut self, number: u32) -> String {
        self.run_until("answer", |seen| seen.answers.contains_key(&number));
        self.seen().answers[&number].clone()
    }

    fn command(&mut self, slot: u16, words: &[&str]) -> String {
        let number = self.send(slot, words);
        self.answer(number)
    }

    /// Publishes to the sharded channels, and waits for the messages.
    fn exchange(&mut self, round: &str) {
        for (slot, tag) in TAGS {
            let name = format!("{{{tag}}}:news");
            let answer = self.command(slot, &["SPUBLISH", &name, round]);
            assert_eq!(answer, "1", "{name} {round}");
            let line = format!("{name} {round}");
            self.run_until(&line, |seen| seen.messages.contains(&line));
        }
    }
}

// One test, because a cluster takes a while to start.
#[test]
fn a_cluster_is_followed_through_migrations_and_failovers() {
    let Some(mut cluster) = start_cluster(&[]) else {
        return;
    };
    for suffix in ["", "?protocol=2"] {
        let mut client = Client::connect(&format!("{}{suffix}", cluster.url()));
        client.hold_all();
        client.run_until_connected();
        client.exchange("first");
        for (slot, tag) in TAGS {
            let key = format!("{{{tag}}}:key");
            assert_eq!(client.command(slot, &["SET", &key, "value"]), "OK");
            assert_eq!(cluster.command(slot, &["GET", &key]), "value");
        }
        // Published at each node, heard from one.
        for index in 0..6 {
            let message = format!("by {index}");
            cluster.node(index).publish("news", &message);
            let line = format!("news {message}");
            client.run_until(&line, |seen| {
                2 == seen.messages.iter().filter(|it| **it == line).count()
            });
        }
        migrate(&cluster, &mut client);
        migrate_slowly(&cluster, &mut client);
        fail_over(&cluster, &mut client);
    }
    lose_a_master(&mut cluster);
}

fn migrate(cluster: &RedisCluster, client: &mut Client) {
    let (slot, _) = TAGS[1];
    let from = cluster.master_of(slot);
    let to = cluster.master_of(TAGS[0].0);
    cluster.migrate(slot, to);
    let lost = format!("slot {slot} lost");
    client.run_until("lost", |seen| seen.lines.contains(&lost));
    client.run_until_connected();
    client.exchange("moved");
    cluster.migrate(slot, from);
    // A command comes to the new master, though nothing was told yet.
    assert_eq!(client.command(slot, &["GET", "{c}:key"]), "value");
    client.run_until_connected();
    client.exchange("back");
}

/// A slot of which some keys are at its new master, and others are not.
fn migrate_slowly(cluster: &RedisCluster, client: &mut Client) {
    let (slot, _) = TAGS[1];
    let from = cluster.master_of(slot);
    let to = cluster.master_of(TAGS[0].0);
    let lost = format!("slot {slot} lost");
    cluster.command(slot, &["DEL", "{c}:other"]);
    client.seen().lines.clear();
    cluster.begin_migration(slot, to);
    assert_eq!(client.command(slot, &["GET", "{c}:key"]), "value");
    assert!(!client.seen().lines.contains(&lost));
    // The new master has what the old one does not have, and may publish too: what it publishes is not heard.
    assert_eq!(client.command(slot, &["GET", "{c}:other"]), "nothing");
    assert!(client.seen().lines.contains(&lost));
    cluster.abort_migration(slot, to);
    client.run_until_connected();
    client.exchange("aborted");
    cluster.begin_migration(slot, to);
    assert_eq!(client.command(slot, &["SET", "{c}:other", "1"]), "OK");
    assert_eq!(client.command(slot, &["GET", "{c}:other"]), "1");
    // Commands for keys of which only some are there are tried until all are.
    let number = client.send(slot, &["MGET", "{c}:key", "{c}:other"]);
    assert_eq!(client.command(slot, &["GET", "{c}:key"]), "value");
    assert!(!client.seen().answers.contains_key(&number));
    cluster.end_migration(slot, to);
    assert_eq!(client.answer(number), "nothing", "an array");
    client.run_until_connected();
    client.exchange("moved slowly");
    cluster.migrate(slot, from);
    assert_eq!(client.command(slot, &["GET", "{c}:other"]), "1");
    client.run_until_connected();
    client.exchange("back again");
}

fn fail_over(cluster: &RedisCluster, client: &mut Client) {
    let (slot, _) = TAGS[1];
    let lost = format!("slot {slot} lost");
    client.seen().lines.clear();
    cluster.fail_over(slot);
    client.run_until("lost", |seen| seen.lines.contains(&lost));
    client.run_until_connected();
    client.exchange("failed over");
    assert_eq!(client.command(slot, &["GET", "{c}:key"]), "value");
}

fn lose_a_master(cluster: &mut RedisCluster) {
    let mut client = Client::connect(&cluster.url());
    client.hold_all();
    client.run_until_connected();
    let (slot, _) = TAGS[0];
    let master = cluster.master_of(slot);
    cluster.kill(master);
    let lost = format!("slot {slot} lost");
    client.run_until("lost", |seen| seen.lines.contains(&lost));
    // Fails soon, and is not sent again when a master is there.
    let answer = client.command(slot, &["SET", "{x}", "1"]);
    assert!(["Away", "Unknown"].contains(&&*answer), "{answer}");
    client.run_until_connected();
    client.exchange("second");
    cluster.run(master);
    cluster.wait_until_whole();
    client.exchange("third");
}

#[test]
fn a_server_that_is_no_cluster_is_no_loop() {
    let Some(server) = redis_server::start(&[]) else {
        return;
    };
    let url = format!("redis+cluster://127.0.0.1:{}", server.port);
    let mut client = Client::connect(&url);
    client.hold_all();
    let (slot, _) = TAGS[0];
    assert_eq!(client.command(slot, &["GET", "{bar}"]), "Away");
    assert!(client.seen().connected.is_empty());
}
