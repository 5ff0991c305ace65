//! A Redis Cluster of the test's own: three masters, each with a replica, and what operators do with such a cluster.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::{Duration, Instant};

use super::redis_server::{RedisServer, start, until};

/// The hash slots of a cluster.
const SLOT_COUNT: u16 = 16_384;

/// The nodes that begin as masters. Each has a replica: the node whose index is larger by this number.
const MASTER_COUNT: usize = 3;

/// A running cluster. Dropping it kills its nodes and removes their files.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
    is_running: Vec<bool>,
}

/// A line of `CLUSTER NODES`.
struct Line {
    id: String,
    is_master: bool,
    master: String,
    slots: Vec<(u16, u16)>,
}

/// Starts a cluster on ports of its own, or prints that the test is skipped; in CI the test fails instead. The options
/// are given to each node.
pub fn start_cluster(options: &[&str]) -> Option<RedisCluster> {
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    all.extend(options);
    let nodes: Option<Vec<RedisServer>> = (0..2 * MASTER_COUNT).map(|_| start(&all)).collect();
    let nodes = nodes?;
    let ids = nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"]));
    let ids = ids.collect();
    for (index, node) in nodes.iter().enumerate() {
        let epoch = (index + 1).to_string();
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        for other in &nodes[index + 1..] {
            let (port, bus_port) = (other.port.to_string(), other.bus_port.to_string());
            let answer = node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
            assert_eq!(answer, "OK");
        }
    }
    for (index, node) in nodes[..MASTER_COUNT].iter().enumerate() {
        let bound = |index: usize| index * usize::from(SLOT_COUNT) / MASTER_COUNT;
        let (first, last) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
        let answer = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        assert_eq!(answer, "OK");
    }
    let cluster = RedisCluster {
        is_running: vec![true; nodes.len()],
        nodes,
        ids,
    };
    for index in MASTER_COUNT..2 * MASTER_COUNT {
        let master = &cluster.ids[index - MASTER_COUNT];
        until(|| cluster.nodes[index].command(&["CLUSTER", "REPLICATE", master]) == "OK");
    }
    cluster.wait_until_whole();
    Some(cluster)
}

impl RedisCluster {
    /// The URL with all nodes.
    pub fn url(&self) -> String {
        let nodes = self.nodes.iter();
        let nodes: Vec<_> = nodes
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &RedisServer> {
        let nodes = self.nodes.iter().zip(&self.is_running);
        nodes
            .filter(|(_, is_running)| **is_running)
            .map(|(node, _)| node)
    }

    /// The index of the master of a slot. Waits until all nodes that run agree.
    pub fn master_of(&self, slot: u16) -> usize {
        let mut master = None;
        until(|| {
            let mut masters = self.running().map(|node| self.master_as_told(node, slot));
            master = masters.next().flatten();
            master.is_some() && masters.all(|other| other == master)
        });
        master.expect("a master")
    }

    fn master_as_told(&self, node: &RedisServer, slot: u16) -> Option<usize> {
        let lines = lines(node);
        let line = (lines.iter()).find(|line| {
            line.is_master
                && (line.slots.iter()).any(|(first, last)| (*first..=*last).contains(&slot))
        })?;
        self.index_of(&line.id)
    }

    /// The index of a replica of the master of a slot.
    pub fn replica_of(&self, slot: u16) -> usize {
        let mut replica = None;
        until(|| {
            let master = self.master_of(slot);
            replica = (lines(&self.nodes[master]).iter())
                .filter(|line| line.master == self.ids[master])
                .filter_map(|line| self.index_of(&line.id))
                .find(|index| self.is_running[*index]);
            replica.is_some()
        });
        replica.expect("a replica")
    }

    fn index_of(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|other| other == id)
    }

    /// Sends a command to the master of a slot.
    pub fn command(&self, slot: u16, words: &[&str]) -> String {
        self.nodes[self.master_of(slot)].command(words)
    }

    /// Waits until all nodes that run take the cluster to be whole, and each replica has all of its master's data.
    pub fn wait_until_whole(&self) {
        let running = self.is_running.iter().filter(|it| **it).count();
        for node in self.running() {
            until(|| {
                let info = node.command(&["CLUSTER", "INFO"]);
                let lines = lines(node);
                let known = lines
                    .iter()
                    .filter(|line| line.is_master || line.master != "-");
                info.contains("cluster_state:ok") && running <= known.count()
            });
            until(|| {
                let info = node.command(&["INFO", "replication"]);
                info.contains("role:master") || info.contains("master_link_status:up")
            });
        }
    }

    /// Makes a replica the master of a slot, and its master the replica: `CLUSTER FAILOVER`. Waits until all nodes know.
    pub fn fail_over(&self, slot: u16) {
        let replica = self.replica_of(slot);
        let mut ordered_at = None::<Instant>;
        until(|| {
            // Masters that have not heard of the latest epochs refuse, and the replica gives up after five seconds.
            if ordered_at.is_none_or(|at| Duration::from_secs(6) < at.elapsed()) {
                assert_eq!(self.nodes[replica].command(&["CLUSTER", "FAILOVER"]), "OK");
                ordered_at = Some(Instant::now());
            }
            self.master_of(slot) == replica
        });
    }

    /// Begins to move a slot to another master: from here on the old one answers `ASK` for keys that it does not have.
    pub fn begin_migration(&self, slot: u16, to: usize) {
        let from = self.master_of(slot);
        let (text, from_id, to_id) = (slot.to_string(), &self.ids[from], &self.ids[to]);
        let answer = self.nodes[to].command(&["CLUSTER", "SETSLOT", &text, "IMPORTING", from_id]);
        assert_eq!(answer, "OK");
        let answer = self.nodes[from].command(&["CLUSTER", "SETSLOT", &text, "MIGRATING", to_id]);
        assert_eq!(answer, "OK");
    }

    /// Moves one key of a slot that is being moved.
    pub fn move_key(&self, slot: u16, key: &str, to: usize) {
        let port = self.nodes[to].port.to_string();
        let answer = self.command(slot, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        assert_eq!(answer, "OK");
    }

    /// Moves all keys of a slot that is being moved.
    pub fn move_keys(&self, slot: u16, to: usize) {
        let (text, port) = (slot.to_string(), self.nodes[to].port.to_string());
        loop {
            let keys = self.command(slot, &["CLUSTER", "GETKEYSINSLOT", &text, "100"]);
            if keys.is_empty() {
                return;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.split(' '));
            let answer = self.command(slot, &words);
            assert!(["OK", "NOKEY"].contains(&&*answer), "{answer}");
        }
    }

    /// Ends what [`begin_migration`](Self::begin_migration) began, with all keys, and waits until all nodes know.
    pub fn end_migration(&self, slot: u16, to: usize) {
        self.move_keys(slot, to);
        let from = self.master_of(slot);
        let (text, id) = (slot.to_string(), &self.ids[to]);
        // As the manual of `CLUSTER SETSLOT` has it: first the node that gets the slot.
        for index in [to, from].into_iter().chain(0..MASTER_COUNT) {
            if self.is_running[index] {
                self.nodes[index].command(&["CLUSTER", "SETSLOT", &text, "NODE", id]);
            }
        }
        until(|| self.master_of(slot) == to);
    }

    /// Takes back what [`begin_migration`](Self::begin_migration) began.
    pub fn abort_migration(&self, slot: u16, to: usize) {
        for index in [self.master_of(slot), to] {
            let answer =
                self.nodes[index].command(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);
            assert_eq!(answer, "OK");
        }
    }

    /// Moves a slot with its keys to another master.
    pub fn migrate(&self, slot: u16, to: usize) {
        self.begin_migration(slot, to);
        self.end_migration(slot, to);
    }

    /// Kills a node.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
        self.is_running[index] = false;
    }

    /// Runs a node again that was killed.
    pub fn run(&mut self, index: usize) {
        self.nodes[index].run();
        self.is_running[index] = true;
    }
}

fn lines(node: &RedisServer) -> Vec<Line> {
    let text = node.command(&["CLUSTER", "NODES"]);
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let flags: Vec<&str> = words.get(2)?.split(',').collect();
        // A slot that is being moved stands in brackets.
        let slots = (words.iter().skip(8)).filter(|word| !word.starts_with('['));
        let slots = slots.filter_map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Some(Line {
            id: words[0].to_owned(),
            is_master: flags.contains(&"master") && !flags.contains(&"fail"),
            master: (*words.get(3)?).to_owned(),
            slots: slots.collect(),
        })
    });
    lines.collect()
}
