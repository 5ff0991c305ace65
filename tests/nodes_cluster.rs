//! Hubs with a real Redis Cluster whose slots move, whose masters change by order, and one of whose masters dies.
//!
//! The sizes are small. `WATERWHEEL_STORM=full` has larger ones.
#![cfg(feature = "program")]

#[path = "support/hubs.rs"]
mod hubs;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[path = "support/redis_server.rs"]
mod redis_server;
mod support;
#[path = "support/watcher.rs"]
mod watcher;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hubs::{Joined, confirm, is_ready, join_and_leave, node_at, publish, size, topic_of};
use redis_cluster::{RedisCluster, start_cluster};
use redis_server::until;
use support::{Http, Server};
use watcher::{Kind, Watcher};

/// The buckets of the hub, and the names that each has.
const BUCKETS: usize = 16;

/// A hub that is ready.
fn node(cluster: &RedisCluster, options: &[&str]) -> Server {
    node_at(&cluster.url(), options)
}

/// The slots of the buckets that masters have.
fn slots(cluster: &RedisCluster) -> Vec<u16> {
    (0..BUCKETS)
        .map(|bucket| {
            let key = format!("{{waterwheel:{bucket}}}:head");
            let answer = cluster.node(0).command(&["CLUSTER", "KEYSLOT", &key]);
            answer.parse().expect("a slot")
        })
        .collect()
}

/// The bucket of a topic: that of its slot among sixteen.
fn bucket_of(cluster: &RedisCluster, topic: &str) -> usize {
    let answer = cluster.node(0).command(&["CLUSTER", "KEYSLOT", topic]);
    answer.parse::<usize>().expect("a slot") % BUCKETS
}

/// The messages of one topic, without gaps.
fn of_topic<'i>(items: &'i [String], topic: &str) -> Vec<&'i str> {
    let items = items.iter().map(String::as_str);
    items
        .filter(|it| !it.starts_with("gap ") && topic_of(it) == topic)
        .collect()
}

fn gaps(items: &[String]) -> Vec<&str> {
    let names = items.iter().filter_map(|it| it.strip_prefix("gap "));
    names.collect()
}

/// Watchers of each kind, of five topics each, and one of a pattern.
fn watchers_of(server: &Server, topics: &[String]) -> Vec<Watcher> {
    let count = size(8, 40);
    let mut watchers: Vec<Watcher> = (0..count)
        .map(|index| {
            let names: BTreeSet<String> = (0..5)
                .map(|part| topics[(index * 7 + part * 3) % topics.len()].clone())
                .collect();
            let names: Vec<String> = names.into_iter().collect();
            Watcher::begin(server, Kind::ALL[index % 4], &names, None)
        })
        .collect();
    for kind in [Kind::Envelope, Kind::EventStream, Kind::LongPoll] {
        let names = ["t*".to_owned()];
        watchers.push(Watcher::begin(server, kind, &names, None));
    }
    watchers
}

/// Publishes in turn to all topics while `disturb` runs, and then one more message to each. Returns all messages that
/// were acknowledged, in their order.
fn publish_while(server: &Server, topics: &[String], disturb: impl FnOnce()) -> Vec<String> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut http = Http::new(server.connect());
            let (mut acknowledged, mut number) = (Vec::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let topic = &topics[number % topics.len()];
                let text = format!("{topic}.{number}");
                if publish(&mut http, topic, &text) == 200 {
                    acknowledged.push(text);
                }
            }
            for topic in topics {
                let text = format!("{topic}.end");
                until(|| publish(&mut http, topic, &text) == 200);
                acknowledged.push(text);
            }
            acknowledged
        });
        disturb();
        until(|| is_ready(server));
        is_over.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    })
}

/// The topics that a watcher has asked for.
fn wanted<'t>(watcher: &Watcher, topics: &'t [String]) -> Vec<&'t String> {
    let is_wanted = |topic: &&String| {
        watcher.names[0] == "t*" || watcher.names.iter().any(|name| name == *topic)
    };
    topics.iter().filter(is_wanted).collect()
}

/// Each watcher has got each acknowledged message of its topics, in order and once.
fn assert_complete(watchers: &[Watcher], topics: &[String], acknowledged: &[String]) {
    let all: HashSet<&str> = acknowledged.iter().map(String::as_str).collect();
    for watcher in watchers {
        for topic in wanted(watcher, topics) {
            watcher.wait_for([format!("{topic}.end")]);
            let items = watcher.items();
            let got = of_topic(&items, topic);
            let once: HashSet<&&str> = got.iter().collect();
            assert_eq!(once.len(), got.len(), "{:?} got one twice", watcher.kind);
            // A publication whose answer was lost may have happened.
            let got: Vec<&str> = got.into_iter().filter(|it| all.contains(it)).collect();
            let expected = acknowledged.iter().map(String::as_str);
            let expected: Vec<&str> = expected.filter(|it| topic_of(it) == topic).collect();
            let (kind, gaps) = (watcher.kind, gaps(&items));
            assert_eq!(got, expected, "{kind:?} of {topic}, gaps {gaps:?}");
        }
    }
}

fn topics() -> Vec<String> {
    (0..size(40, 200)).map(|it| format!("t{it}")).collect()
}

#[test]
fn two_hubs_of_a_cluster_are_one_hub_and_one_of_them_may_die() {
    let Some(cluster) = start_cluster(&[]) else {
        return;
    };
    let options = &["--topic", "*=history=100000"];
    let resp2 = format!("{}?protocol=2", cluster.url());
    let mut nodes = [node(&cluster, options), node_at(&resp2, options)];
    let topics: Vec<String> = (0..8).map(|it| format!("t{it}")).collect();
    let mut watchers = [
        watchers_of(&nodes[0], &topics),
        watchers_of(&nodes[1], &topics),
    ];
    for (node, watchers) in nodes.iter().zip(&watchers) {
        confirm(node, watchers);
    }
    let count = size(160, 4000);
    thread::scope(|scope| {
        for (index, node) in nodes.iter().enumerate() {
            let topics = &topics;
            scope.spawn(move || {
                let mut http = Http::new(node.connect());
                for number in 0..count {
                    let topic = &topics[number % topics.len()];
                    let text = format!("{topic}.{index}.{number}");
                    assert_eq!(publish(&mut http, topic, &text), 200);
                }
            });
        }
        // Another program publishes at any node of the cluster.
        for number in 0..count {
            let topic = &topics[number % topics.len()];
            cluster
                .node(number % 6)
                .publish(topic, &format!("{topic}.raw.{number}"));
        }
    });
    let mut http = Http::new(nodes[1].connect());
    for topic in &topics {
        assert_eq!(publish(&mut http, topic, &format!("{topic}.end")), 200);
    }
    let mut orders: HashMap<&String, Vec<String>> = HashMap::new();
    for watcher in watchers.iter().flatten() {
        for topic in wanted(watcher, &topics) {
            watcher.wait_for([format!("{topic}.end")]);
            let items = watcher.items();
            assert_eq!(gaps(&items), [""; 0], "{:?}", watcher.kind);
            let is_raw = |it: &&str| it.contains(".raw.");
            let (raw, numbered): (Vec<&str>, Vec<&str>) =
                of_topic(&items, topic).into_iter().partition(is_raw);
            assert_eq!(raw.len(), count / topics.len(), "{:?}", watcher.kind);
            let numbered: Vec<String> = numbered.into_iter().map(str::to_owned).collect();
            let once: HashSet<&String> = numbered.iter().collect();
            assert_eq!(once.len(), numbered.len(), "{:?}: twice", watcher.kind);
            assert_eq!(numbered.len(), 2 * count / topics.len() + 1);
            let order = orders.entry(topic).or_insert_with(|| numbered.clone());
            assert_eq!(numbered, *order, "{:?} of {topic}", watcher.kind);
        }
    }
    nodes[0].child.kill().unwrap();
    nodes[0].child.wait().unwrap();
    for number in 0..20 {
        for topic in &topics {
            let text = format!("{topic}.late.{number}");
            assert_eq!(publish(&mut http, topic, &text), 200);
        }
    }
    for watcher in std::mem::take(&mut watchers[0]) {
        if watcher.kind == Kind::Plain {
            continue;
        }
        let cursor = watcher.ended();
        let resumed = Watcher::begin(&nodes[1], watcher.kind, &watcher.names, Some(cursor));
        for topic in wanted(&watcher, &topics) {
            resumed.wait_for([format!("{topic}.late.19")]);
            let items = resumed.items();
            let expected: Vec<String> = (0..20).map(|it| format!("{topic}.late.{it}")).collect();
            assert_eq!(of_topic(&items, topic), expected, "{:?}", watcher.kind);
        }
    }
}

#[test]
fn masters_that_change_by_order_lose_no_message() {
    let Some(cluster) = start_cluster(&[]) else {
        return;
    };
    let options = ["--topic", "*=history=100000", "--reactors", "2"];
    let server = node(&cluster, &options);
    let topics = topics();
    let watchers = watchers_of(&server, &topics);
    confirm(&server, &watchers);
    let slots = slots(&cluster);
    let acknowledged = publish_while(&server, &topics, || {
        for _ in 0..size(1, 5) {
            let masters: BTreeSet<usize> = slots.iter().map(|it| cluster.master_of(*it)).collect();
            assert_eq!(masters.len(), 3);
            for master in masters {
                let is_of_master = |slot: &&u16| cluster.master_of(**slot) == master;
                let slot = slots.iter().find(is_of_master).expect("a slot");
                let before = watchers[0].count();
                watchers[0].wait_for_count(before + 1);
                cluster.fail_over(*slot);
            }
        }
    });
    assert_complete(&watchers, &topics, &acknowledged);
}

#[test]
fn slots_that_move_lose_no_message() {
    let Some(cluster) = start_cluster(&[]) else {
        return;
    };
    let server = node(&cluster, &["--topic", "*=history=100000"]);
    let topics = topics();
    let watchers = watchers_of(&server, &topics);
    confirm(&server, &watchers);
    let slots = slots(&cluster);
    let acknowledged = publish_while(&server, &topics, || {
        for slot in &slots[..size(6, BUCKETS)] {
            let from = cluster.master_of(*slot);
            let to = (0..3).find(|it| *it != from).expect("another master");
            let before = watchers[0].count();
            watchers[0].wait_for_count(before + 1);
            cluster.migrate(*slot, to);
        }
    });
    assert_complete(&watchers, &topics, &acknowledged);
    // No message was without a number, and its link stayed.
    for watcher in &watchers {
        assert_eq!(gaps(&watcher.items()), [""; 0], "{:?}", watcher.kind);
    }
}

#[test]
fn a_master_that_dies_is_replaced_and_what_it_has_lost_is_a_gap() {
    let Some(mut cluster) = start_cluster(&[]) else {
        return;
    };
    let server = node(&cluster, &["--topic", "*=history=100000"]);
    let topics = topics();
    let watchers = watchers_of(&server, &topics);
    confirm(&server, &watchers);
    let slot = slots(&cluster)[0];
    let master = cluster.master_of(slot);
    let acknowledged = publish_while(&server, &topics, || {
        let before = watchers[0].count();
        watchers[0].wait_for_count(before + 11);
        cluster.kill(master);
        until(|| !is_ready(&server));
    });
    for watcher in &watchers {
        for topic in wanted(watcher, &topics) {
            watcher.wait_for([format!("{topic}.end")]);
            let items = watcher.items();
            let got: HashSet<&str> = of_topic(&items, topic).into_iter().collect();
            let mut expected = acknowledged.iter().filter(|it| topic_of(it) == topic);
            let is_complete = expected.all(|it| got.contains(it.as_str()));
            let is_told = gaps(&items).iter().any(|it| *it == topic || *it == "t*");
            assert!(
                is_complete || is_told || watcher.kind == Kind::Plain,
                "{:?} of {topic} lost messages without a gap",
                watcher.kind
            );
        }
    }
}

// A replica that does not hear its master becomes a master without what was acknowledged last.
#[test]
fn messages_that_a_dead_master_did_not_replicate_are_a_gap() {
    let Some(mut cluster) = start_cluster(&[]) else {
        return;
    };
    let server = node(&cluster, &["--topic", "*=history=100000"]);
    let keys = slots(&cluster);
    let topic = |bucket: usize| {
        let topics = (0..).map(|it| format!("t{it}"));
        let mut topics = topics.filter(|topic| bucket_of(&cluster, topic) == bucket);
        topics.next().expect("a topic")
    };
    let topic = topic(3);
    let kinds = [Kind::Envelope, Kind::EventStream, Kind::LongPoll];
    let names = std::slice::from_ref(&topic);
    let watchers = kinds.map(|kind| Watcher::begin(&server, kind, names, None));
    confirm(&server, &watchers);
    let mut http = Http::new(server.connect());
    assert_eq!(publish(&mut http, &topic, &format!("{topic}.kept")), 200);
    cluster.wait_until_whole();
    let (master, replica) = (cluster.master_of(keys[3]), cluster.replica_of(keys[3]));
    cluster.node(replica).signal("STOP");
    cluster
        .node(master)
        .command(&["CLIENT", "KILL", "TYPE", "replica"]);
    for number in 0..3 {
        let text = format!("{topic}.lost{number}");
        assert_eq!(publish(&mut http, &topic, &text), 200);
    }
    for watcher in &watchers {
        watcher.wait_for([format!("{topic}.lost2")]);
    }
    let cursor = {
        let watcher = Watcher::begin(&server, Kind::EventStream, names, None);
        watcher.wait_until_live();
        watcher.cursor()
    };
    cluster.kill(master);
    cluster.node(replica).signal("CONT");
    until(|| !is_ready(&server));
    until(|| is_ready(&server));
    let end = format!("{topic}.end");
    until(|| publish(&mut http, &topic, &end) == 200);
    for watcher in &watchers {
        watcher.wait_for([end.clone()]);
        let (kind, items) = (watcher.kind, watcher.items());
        let gap_count = gaps(&items).len();
        assert!(0 < gap_count, "{kind:?}: {items:?}");
    }
    // A client that comes back behind what was lost is told too, on another hub.
    let other = node(&cluster, &["--topic", "*=history=100000"]);
    let resumed = Watcher::begin(&other, Kind::EventStream, names, Some(cursor));
    resumed.wait_for([end]);
    resumed.wait_for_items(|items| gaps(items) == [&*topic]);
}

#[test]
fn sharded_channels_are_those_of_the_names_with_members() {
    let Some(cluster) = start_cluster(&[]) else {
        return;
    };
    let server = node(&cluster, &[]);
    let names: Vec<String> = (0..30)
        .map(|it| format!("j{it}"))
        .chain((0..3).map(|it| format!("p{it}*")))
        .collect();
    let mut sockets: Vec<_> = (0..2).map(|_| watcher::envelope(&server)).collect();
    let Joined { topics, patterns } = join_and_leave(&mut sockets, &names, size(300, 10_000));
    let shard_channels = || -> HashSet<String> {
        let answers = cluster
            .running()
            .map(|node| node.command(&["PUBSUB", "SHARDCHANNELS"]));
        let answers: Vec<String> = answers.collect();
        let names = answers.iter().flat_map(|answer| answer.split_whitespace());
        names.map(str::to_owned).collect()
    };
    let is_complete = || {
        let channels = shard_channels();
        let feeds = channels.iter().filter(|it| it.ends_with('\u{2}')).count();
        let of_topics = channels.iter().filter_map(|it| it.split_once("}:"));
        let of_topics: HashSet<&str> = of_topics
            .map(|(_, topic)| topic)
            .filter(|topic| *topic != "\u{2}")
            .collect();
        let expected: HashSet<&str> = topics.iter().copied().collect();
        let expected_feeds = if patterns.is_empty() { 0 } else { BUCKETS };
        of_topics == expected && feeds == expected_feeds
    };
    until(is_complete);
    let pattern_count = || {
        let counts = cluster
            .running()
            .map(|node| node.command(&["PUBSUB", "NUMPAT"]));
        counts
            .map(|it| it.parse::<usize>().expect("a count"))
            .sum::<usize>()
    };
    until(|| pattern_count() == patterns.len());
}
