//! The client with small nodes in a simulation: nodes that disagree, and nodes that cannot serve a slot.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::client::redis::link::Listener;
use crate::client::redis::machine::UNSENT_MAX;
use crate::client::redis::push::Message;
use crate::client::redis::small_server::SmallServer;
use crate::reactor::id::ConnId;
use crate::reactor::sim::Sim;
use SubscriptionKind::{Channel, Sharded};

const PORTS: [u16; 2] = [7000, 7001];
const URL: &str = "redis+cluster://127.0.0.1:7000,127.0.0.1:7001";

/// The slots of the hash tags `a` and `b`.
const A: u16 = 15_495;
const B: u16 = 3_300;

/// The observations of a run, and the nodes.
#[derive(Default)]
struct World {
    /// The answers of each node to commands that begin so.
    answers: BTreeMap<u16, Vec<(String, String)>>,
    nodes: BTreeMap<ConnId, (u16, SmallServer)>,
    commands: Vec<(u16, String)>,
    news: Vec<String>,
    outcomes: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn listen(reactor: &mut Reactor<World>) -> io::Result<()> {
    for port in PORTS {
        reactor.stream(&*format!("127.0.0.1:{port}"), move |stream| {
            stream.on_open(move |stream| {
                let node = (port, SmallServer::new(true));
                stream.state.nodes.insert(stream.id, node);
            });
            stream.on_data(move |stream, bytes| {
                let world = &mut *stream.state;
                let (_, node) = world.nodes.get_mut(&stream.id).unwrap();
                node.answers = world.answers.get(&port).cloned().unwrap_or_default();
                let replies = node.receive(bytes);
                let commands = node.commands.drain(..);
                let commands = commands.map(|words| (port, words.join(" ")));
                world.commands.extend(commands);
                stream.reactor.send(stream.id, replies);
            });
            stream.on_close(|stream, _| _ = stream.state.nodes.remove(&stream.id));
        })?;
    }
    Ok(())
}

struct Watch;

impl Watch {
    fn note(cx: &mut Cx<'_, World>, line: String) {
        cx.state.news.push(line);
    }
}

impl Listener<World> for Watch {
    fn message(self: Rc<Self>, cx: &mut Cx<'_, World>, message: Message<'_>) {
        let (channel, payload) = (text(message.channel), text(message.payload));
        Watch::note(cx, format!("{channel}: {payload}"));
    }

    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, World>, _: SubscriptionKind, name: &[u8]) {
        Watch::note(cx, format!("{} subscribed", text(name)));
    }

    fn refused(self: Rc<Self>, cx: &mut Cx<'_, World>, _: SubscriptionKind, name: &[u8]) {
        Watch::note(cx, format!("{} refused", text(name)));
    }

    fn connected(self: Rc<Self>, cx: &mut Cx<'_, World>) {
        Watch::note(cx, "connected".into());
    }

    fn lost(self: Rc<Self>, cx: &mut Cx<'_, World>) {
        Watch::note(cx, "lost".into());
    }
}

impl ClusterListener<World> for Watch {
    fn slot_connected(self: Rc<Self>, cx: &mut Cx<'_, World>, slot: u16) {
        Watch::note(cx, format!("{slot} connected"));
    }

    fn slot_lost(self: Rc<Self>, cx: &mut Cx<'_, World>, slot: u16) {
        Watch::note(cx, format!("{slot} lost"));
    }
}

struct Client {
    sim: Sim<World>,
    cluster: Cluster<World>,
}

/// The answer to `CLUSTER SLOTS`: the slots of `b` are in the first half.
fn slots(of_b: u16, of_a: u16) -> String {
    let range = |first, last, port: u16| {
        format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
    };
    format!("*2\r\n{}{}", range(0, 8191, of_b), range(8192, 16383, of_a))
}

impl Client {
    /// A client of two nodes, which both give these answers to `CLUSTER SLOTS`.
    fn new(slots: &str) -> Client {
        let mut sim = Sim::new(World::default(), listen);
        for port in PORTS {
            let answers = sim.state().answers.entry(port).or_default();
            answers.push(("CLUSTER SLOTS".into(), slots.into()));
        }
        let cluster = Cluster::connect_with(sim.reactor(), URL, &[A, B], 7).unwrap();
        cluster.set_listener(Rc::new(Watch));
        Client { sim, cluster }
    }

    /// A client of a cluster whose nodes agree, with two names of each group.
    fn connected(of_b: u16, of_a: u16) -> Client {
        let mut client = Client::new(&slots(of_b, of_a));
        for name in ["{a}1", "{a}2", "{b}1", "{b}2"] {
            client.hold(Sharded, name);
        }
        client.hold(Channel, "c");
        client.advance(500);
        let mut news = client.take_news();
        news.sort();
        let expected = [
            "15495 connected",
            "3300 connected",
            "c subscribed",
            "connected",
            "{a}1 subscribed",
            "{a}2 subscribed",
            "{b}1 subscribed",
            "{b}2 subscribed",
        ];
        assert_eq!(news, expected);
        client
    }

    fn advance(&mut self, millis: u64) {
        self.sim.advance(Duration::from_millis(millis));
    }

    fn hold(&mut self, kind: SubscriptionKind, name: &str) {
        let reactor = self.sim.reactor();
        self.cluster.hold(reactor, kind, name.as_bytes());
    }

    /// Has a node give this answer from now on.
    fn set_answer(&mut self, port: u16, command: &str, answer: &str) {
        let answers = self.sim.state().answers.entry(port).or_default();
        answers.retain(|(other, _)| other != command);
        answers.push((command.into(), answer.into()));
    }

    /// Sends bytes of a node to the client.
    fn push(&mut self, port: u16, bytes: &str) {
        let nodes = self.sim.state().nodes.iter();
        let ids: Vec<ConnId> = nodes
            .filter(|(_, (other, _))| *other == port)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.sim.reactor().send(id, bytes.as_bytes());
        }
        self.sim.settle();
    }

    fn command(&mut self, slot: u16, words: &[&str]) {
        let timeout = Duration::from_secs(5);
        let reactor = self.sim.reactor();
        (self.cluster).command_within(reactor, slot, words, timeout, note_outcome);
        self.sim.settle();
    }

    fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sim.state().news)
    }

    fn take_outcomes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sim.state().outcomes)
    }

    /// How often a node got a command that begins so, since the last time.
    fn take_count(&mut self, port: u16, command: &str) -> usize {
        let commands = &mut self.sim.state().commands;
        let count = commands.len();
        commands.retain(|(other, words)| *other != port || !words.starts_with(command));
        count - commands.len()
    }
}

fn note_outcome(cx: &mut Cx<'_, World>, reply: Result<Reply<'_>, RedisError>) {
    let outcome = match reply {
        Ok(reply) => match reply.as_error() {
            Some(error) => error.into_owned(),
            None => reply.as_str().unwrap_or("no text").to_owned(),
        },
        Err(error) => format!("{error:?}"),
    };
    cx.state.outcomes.push(outcome);
}

#[test]
fn commands_that_were_not_carried_out_are_tried_again_for_a_while() {
    let moved = "-MOVED 15495 127.0.0.1:7001\r\n";
    let back = "-MOVED 15495 127.0.0.1:7000\r\n";
    // The answers of both nodes, the outcome, after how long it comes at the latest, and how many commands are sent at most.
    let cases = [
        ("+1\r\n", "+2\r\n", "1", 0, 1),
        ("-ERR no\r\n", "+2\r\n", "ERR no", 0, 1),
        (moved, "+2\r\n", "2", 10, 2),
        ("-ASK 15495 127.0.0.1:7001\r\n", "+2\r\n", "2", 10, 2),
        ("-TRYAGAIN x\r\n", "+2\r\n", "Away", 5000, 101),
        ("-CLUSTERDOWN x\r\n", "+2\r\n", "Away", 1000, 21),
        ("-LOADING x\r\n", "+2\r\n", "Away", 1000, 21),
        ("-MASTERDOWN x\r\n", "+2\r\n", "Away", 1000, 21),
        ("-READONLY x\r\n", "+2\r\n", "Away", 1000, 21),
        // Nodes that name each other are given time to agree.
        (moved, back, "Away", 5000, 510),
        (
            "-MOVED 15495 127.0.0.1:7009\r\n",
            "+2\r\n",
            "Away",
            1000,
            20,
        ),
    ];
    for (first, second, expected, millis, count_max) in cases {
        let mut client = Client::connected(7001, 7000);
        client.set_answer(7000, "GET", first);
        client.set_answer(7001, "GET", second);
        client.command(A, &["GET", "{a}key"]);
        client.advance(millis + 50);
        assert_eq!(client.take_outcomes(), [expected], "{first}");
        let count = client.take_count(7000, "GET") + client.take_count(7001, "GET");
        assert!(count <= count_max, "{count} commands: {first}");
        let is_asked = first.starts_with("-ASK");
        assert_eq!(client.take_count(7001, "ASKING") == 1, is_asked, "{first}");
        // The slot is lost before the answer, because the other node may publish too.
        assert_eq!(
            client.take_news().contains(&"15495 lost".into()),
            is_asked || first.starts_with("-MOVED"),
            "{first}"
        );
    }
}

#[test]
fn names_of_a_slot_follow_it_when_its_master_says_so() {
    let mut client = Client::connected(7001, 7000);
    // Another node may be behind, or ahead.
    client.set_answer(7001, "CLUSTER SLOTS", &slots(7001, 7001));
    client.advance(60_000);
    assert_eq!(client.take_news(), [""; 0]);
    assert_eq!(client.take_count(7001, "SSUBSCRIBE"), 1);
    client.set_answer(7000, "CLUSTER SLOTS", &slots(7001, 7001));
    client.advance(20_000);
    let mut news = client.take_news();
    assert_eq!(news.remove(0), "15495 lost");
    assert_eq!(news.pop().as_deref(), Some("15495 connected"));
    news.sort();
    assert_eq!(news, ["{a}1 subscribed", "{a}2 subscribed"]);
    assert_eq!(client.take_count(7001, "SSUBSCRIBE"), 1);
}

// A node that is stopped, or cut off from the others, does not say that the slot is that of another one by now.
#[test]
fn a_master_that_cannot_serve_a_slot_is_left_when_another_one_has_it() {
    for (answer, lost_after_millis) in [("", 5000), ("-CLUSTERDOWN x\r\n", 0)] {
        let mut client = Client::connected(7001, 7000);
        client.set_answer(7000, "GET", answer);
        client.command(A, &["GET", "{a}key"]);
        if lost_after_millis != 0 {
            client.set_answer(7000, "CLUSTER SLOTS", "");
        }
        client.advance(lost_after_millis + 200);
        assert_eq!(client.take_news(), [""; 0], "{answer}");
        // The others need some time to elect it.
        client.set_answer(7001, "CLUSTER SLOTS", &slots(7001, 7001));
        client.advance(500);
        let news = client.take_news();
        assert_eq!(news[0], "15495 lost", "{answer}");
        assert_eq!(news.last().unwrap(), "15495 connected", "{answer}");
        assert_eq!(client.take_count(7001, "SSUBSCRIBE {a}"), 1, "{answer}");
    }
}

#[test]
fn a_subscription_that_a_node_ends_loses_the_slot() {
    for is_moved in [false, true] {
        let mut client = Client::connected(7001, 7000);
        if is_moved {
            for port in PORTS {
                client.set_answer(port, "CLUSTER SLOTS", &slots(7001, 7001));
            }
        }
        let message =
            |number| format!(">3\r\n$8\r\nsmessage\r\n$4\r\n{{a}}1\r\n$1\r\n{number}\r\n");
        let ended = ">3\r\n$12\r\nsunsubscribe\r\n$4\r\n{a}1\r\n:1\r\n";
        client.push(7000, &format!("{}{ended}{}", message(1), message(2)));
        assert_eq!(client.take_news()[..2], ["{a}1: 1", "15495 lost"]);
        client.advance(500);
        let has_new_master = client.take_count(7001, "SSUBSCRIBE") == 2;
        assert_eq!(has_new_master, is_moved);
        client.take_news();
        client.push(7000, &message(3));
        client.push(7001, &message(4));
        let expected = if is_moved { "{a}1: 4" } else { "{a}1: 3" };
        assert_eq!(client.take_news(), [expected]);
    }
}

// A replica accepts the names of its master's slots.
#[test]
fn a_slot_is_not_connected_at_a_node_that_names_another_master() {
    let mut client = Client::new(&slots(7001, 7000));
    client.set_answer(7000, "CLUSTER SLOTS", &slots(7001, 7001));
    client.hold(Sharded, "{a}1");
    client.advance(10_000);
    assert!(!client.take_news().contains(&"15495 connected".into()));
    // Nodes that disagree are asked with pauses.
    let counts = PORTS.map(|port| {
        let questions = client.take_count(port, "CLUSTER SLOTS");
        (client.take_count(port, "SSUBSCRIBE {a}1"), questions)
    });
    for (names, questions) in counts {
        assert!((1..=110).contains(&names), "{counts:?}");
        assert!((1..=310).contains(&questions), "{counts:?}");
    }
    client.set_answer(7001, "CLUSTER SLOTS", &slots(7001, 7001));
    client.advance(2000);
    assert_eq!(client.take_news().pop().as_deref(), Some("15495 connected"));
    client.push(7001, ">3\r\n$8\r\nsmessage\r\n$4\r\n{a}1\r\n$1\r\n1\r\n");
    assert_eq!(client.take_news(), ["{a}1: 1"]);
}

#[test]
fn nodes_that_refuse_names_are_not_asked_without_a_pause() {
    for refusal in ["-MOVED 15495 127.0.0.1:7001\r\n", "-CLUSTERDOWN x\r\n"] {
        let mut client = Client::new(&slots(7001, 7000));
        client.set_answer(7000, "SSUBSCRIBE", refusal);
        client.set_answer(7001, "SSUBSCRIBE", "-MOVED 15495 127.0.0.1:7000\r\n");
        client.hold(Sharded, "{a}1");
        client.advance(10_000);
        let count = client.take_count(7000, "SSUBSCRIBE");
        assert!((10..=110).contains(&count), "{count}");
        assert!(client.take_count(7000, "CLUSTER SLOTS") < 200);
        assert!(!client.take_news().contains(&"15495 connected".into()));
        // Later it is asked less often.
        client.advance(100_000);
        let count = client.take_count(7000, "SSUBSCRIBE");
        assert!(count <= 110, "{count}");
    }
}

#[test]
fn a_server_that_is_no_cluster_is_asked_with_pauses() {
    let mut client = Client::new("-ERR This instance has cluster support disabled\r\n");
    client.advance(10_000);
    let count = client.take_count(7000, "CLUSTER SLOTS");
    assert!((10..=110).contains(&count), "{count}");
    client.advance(100_000);
    let count = client.take_count(7000, "CLUSTER SLOTS");
    assert!((10..=110).contains(&count), "{count}");
    client.command(A, &["GET", "{a}key"]);
    client.advance(1000);
    assert_eq!(client.take_outcomes(), ["Away"]);
}

#[test]
fn commands_without_a_master_are_limited() {
    let mut client = Client::new("*0\r\n");
    for _ in 0..UNSENT_MAX + 2 {
        client.command(A, &["GET", "{a}key"]);
    }
    assert_eq!(client.take_outcomes(), ["Full"; 2]);
    client.advance(1000);
    assert_eq!(client.take_outcomes(), ["Away"; UNSENT_MAX]);
}

#[test]
fn a_barrier_fails_when_the_slot_is_lost_meanwhile() {
    let mut client = Client::connected(7001, 7000);
    let barrier = |client: &mut Client, slot| {
        let reactor = client.sim.reactor();
        client.cluster.barrier(reactor, slot, note_outcome);
        client.sim.settle();
    };
    barrier(&mut client, A);
    assert_eq!(client.take_outcomes(), ["PONG"]);
    client.set_answer(7000, "PING", "");
    barrier(&mut client, A);
    client.push(
        7000,
        ">3\r\n$12\r\nsunsubscribe\r\n$4\r\n{a}1\r\n:1\r\n+PONG\r\n",
    );
    assert_eq!(client.take_outcomes(), ["Unknown"]);
    assert_eq!(client.take_news()[0], "15495 lost");
    let mut client = Client::new("*0\r\n");
    barrier(&mut client, A);
    assert_eq!(client.take_outcomes(), ["Away"]);
}

#[test]
fn a_cluster_that_is_away_is_tried_with_pauses() {
    let mut client = Client::connected(7001, 7000);
    for port in PORTS {
        client.set_answer(port, "HELLO", "");
    }
    let ids: Vec<ConnId> = client.sim.state().nodes.keys().copied().collect();
    for id in ids {
        client.sim.reactor().reset(id);
    }
    client.sim.settle();
    let mut news = client.take_news();
    news.sort();
    assert_eq!(news, ["15495 lost", "3300 lost", "lost"]);
    let callbacks = client.sim.reactor().stats().callbacks.count();
    client.advance(60_000);
    let callbacks = client.sim.reactor().stats().callbacks.count() - callbacks;
    assert!((10..1000).contains(&callbacks), "{callbacks}");
    assert_eq!(client.take_news(), [""; 0]);
    for port in PORTS {
        let answers = client.sim.state().answers.entry(port).or_default();
        answers.retain(|(command, _)| command != "HELLO");
    }
    client.advance(20_000);
    let news = client.take_news();
    let connected = news.iter().filter(|line| line.ends_with("connected"));
    assert_eq!(connected.count(), 3, "{news:?}");
}

#[test]
fn ordinary_names_go_to_another_node_and_unused_links_are_closed() {
    let mut client = Client::connected(7001, 7000);
    let nodes = client.sim.state().nodes.iter();
    let is_ordinary = |node: &SmallServer| node.names().contains(&"SUBSCRIBE c".into());
    let (id, port) = nodes
        .filter(|(_, (_, node))| is_ordinary(node))
        .map(|(id, (port, _))| (*id, *port))
        .next()
        .unwrap();
    client.sim.reactor().reset(id);
    client.sim.settle();
    let news = client.take_news();
    assert_eq!(news[..1], ["lost"]);
    let at = |line: &str| news.iter().position(|it| it == line);
    assert!(
        at("c subscribed") < at("connected") && at("connected").is_some(),
        "{news:?}"
    );
    // The slot of that node comes back with its link, and all is at the other node in the end.
    client.advance(1000);
    let other = if port == 7000 { 7001 } else { 7000 };
    for port in PORTS {
        client.set_answer(port, "CLUSTER SLOTS", &slots(other, other));
    }
    client.advance(60_000);
    let ports: Vec<u16> = (client.sim.state().nodes.values())
        .map(|(port, _)| *port)
        .collect();
    assert_eq!(ports, [other]);
    let (_, node) = client.sim.state().nodes.values().next().unwrap();
    assert_eq!(node.names().len(), 5);
}
