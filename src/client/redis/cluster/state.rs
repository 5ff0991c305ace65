//! The nodes, the groups of names and the commands of a cluster, and what is due.
//!
//! It decides; `links.rs` talks to the nodes and calls back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::{Group, Names, Wanted};
use super::node::{Node, NodeId};
use super::waiting::{Command, Waiting};
use crate::client::redis::Redis;
use crate::client::redis::error::RedisError;
use crate::client::redis::link::Done;
use crate::client::redis::upstream::{Held, SubscriptionKind};
use crate::reactor::reactor::Reactor;

/// The time from one question for the slots to the next while a group is not connected: at first, and after
/// [`MISSING_MAX`].
const MISSING_INTERVAL: Duration = Duration::from_millis(100);
const LONG_MISSING_INTERVAL: Duration = Duration::from_secs(1);

/// A group that is not connected for so long is asked for less often.
const MISSING_MAX: Duration = Duration::from_secs(10);

/// The time from one question for the slots to the next while all is well.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// The time after which another node is tried, while none is connected.
const CANDIDATE_INTERVAL: Duration = Duration::from_millis(500);

/// A link is closed that nothing has needed for so long.
const UNUSED_MAX: Duration = Duration::from_secs(10);

/// A log line about the nodes' answers is not repeated for so long.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The time for which other nodes are asked after a master has not answered, or could not serve a slot. It takes the nodes
/// of a cluster a while to elect another master.
const DOUBT_MAX: Duration = Duration::from_secs(5);

/// The time from one question whether a slot is still on its way to the next.
const MIGRATION_INTERVAL: Duration = Duration::from_millis(200);

/// The name of a group that a link has confirmed at once, with the losses of the group until then.
pub(super) struct Confirmed {
    pub group: Group,
    pub lost_count: u64,
    pub kind: SubscriptionKind,
    pub name: Box<[u8]>,
}

/// The meaning of what a node has said of a slot's master.
pub(super) enum Claim {
    /// The master is the one that has the names.
    Known,
    /// The names are to stand at the master.
    New,
    /// The names wait for something else.
    Unused,
    /// The names stand at another master, which knows better.
    Doubtful(NodeId),
}

/// Whether a group is connected since.
pub(super) enum Readiness {
    /// Something is missing, or it was connected before.
    Waiting,
    /// The node is to be asked for its slots.
    Unasked(NodeId),
    Connected,
}

pub(super) struct State<S: 'static> {
    pub(super) nodes: BTreeMap<NodeId, Node<S>>,
    pub(super) last_node: u32,
    pub(super) groups: BTreeMap<Group, Names>,
    /// The addresses of all nodes, as a node has told them.
    pub(super) known: Vec<String>,
    pub(super) waiting: Waiting<Done<S>>,
    pub(super) confirmed: Vec<Confirmed>,
    pub(super) failed: Vec<(Done<S>, RedisError)>,
    /// Something has shown that slots may have moved.
    pub(super) wants_topology: bool,
    /// When a node was asked for the slots.
    asked_at: Option<Duration>,
    /// Which node is asked next.
    turn: usize,
    /// When nodes were asked whether slots are still on their way.
    probed_at: Option<Duration>,
    /// When another node was tried, and how many were.
    tried_at: Duration,
    tried_count: usize,
    missing_since: Option<Duration>,
    logged_at: Option<Duration>,
    random: u64,
}

impl<S: 'static> State<S> {
    pub(super) fn new(slots: &[u16], now: Duration, random: u64) -> State<S> {
        let groups = slots.iter().map(|slot| Group::Slot(*slot));
        let groups = groups.chain([Group::Ordinary]);
        State {
            nodes: BTreeMap::new(),
            last_node: 0,
            groups: groups.map(|group| (group, Names::default())).collect(),
            known: Vec::new(),
            waiting: Waiting::default(),
            confirmed: Vec::new(),
            failed: Vec::new(),
            wants_topology: true,
            asked_at: None,
            turn: 0,
            probed_at: None,
            tried_at: now,
            tried_count: 0,
            missing_since: None,
            logged_at: None,
            random: random | 1,
        }
    }

    /// Any number, for choices and pauses.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    // ── names ────────────────────────────────────────────────────────────────────────────────

    /// Wants a name.
    pub(super) fn hold(
        &mut self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        let group = Group::of(kind, name);
        let names = self.groups.entry(group).or_default();
        let wanted = names.hold(kind, name);
        let lost_count = names.lost_count();
        match wanted {
            Wanted::Confirmed => return Held::Active,
            Wanted::Pending => return Held::Pending,
            Wanted::First | Wanted::Again => {}
        }
        let Some(redis) = self.redis_of(group) else {
            return Held::Pending;
        };
        if redis.hold(reactor, kind, name) == Held::Active {
            self.confirmed.push(Confirmed {
                group,
                lost_count,
                kind,
                name: name.into(),
            });
        }
        // The link counts one hold for each name.
        if wanted == Wanted::Again {
            redis.release(reactor, kind, name);
        }
        Held::Pending
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(super) fn release(
        &mut self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) {
        let group = Group::of(kind, name);
        let names = self.groups.get_mut(&group);
        if names.is_some_and(|names| names.release(kind, name))
            && let Some(redis) = self.redis_of(group)
        {
            redis.release(reactor, kind, name);
        }
    }

    /// Gives the names of a group to another node, or to none. Returns whether the group was connected.
    pub(super) fn move_names(
        &mut self,
        reactor: &mut Reactor<S>,
        group: Group,
        to: Option<NodeId>,
    ) -> bool {
        let Some(names) = self.groups.get_mut(&group) else {
            return false;
        };
        let from = names.node();
        if from == to {
            return false;
        }
        let was_connected = names.lose();
        names.set_node(to);
        let lost_count = names.lost_count();
        let redis = |id: Option<NodeId>| Some(self.nodes.get(&id?)?.redis());
        let (from, to) = (redis(from), redis(to));
        for (kind, name) in names.keys() {
            if let Some(from) = from {
                from.release(reactor, kind, &name);
            }
            if to.is_some_and(|to| to.hold(reactor, kind, &name) == Held::Active) {
                self.confirmed.push(Confirmed {
                    group,
                    lost_count,
                    kind,
                    name,
                });
            }
        }
        was_connected
    }

    /// A node has confirmed a name, or refuses it. Returns whether that is news.
    pub(super) fn decide(
        &mut self,
        id: NodeId,
        kind: SubscriptionKind,
        name: &[u8],
        is_refused: bool,
    ) -> bool {
        let names = self.groups.get_mut(&Group::of(kind, name));
        let Some(names) = names.filter(|names| names.node() == Some(id)) else {
            return false;
        };
        match is_refused {
            true => names.refuse(kind, name),
            false => names.confirm(kind, name),
        }
    }

    /// Whether the names of a group stand at this node.
    pub(super) fn is_at(&self, group: Group, id: NodeId) -> bool {
        let names = self.groups.get(&group);
        names.is_some_and(|names| names.node() == Some(id))
    }

    /// Whether a group is connected now that was not before.
    pub(super) fn readiness(&mut self, group: Group) -> Readiness {
        let Some(names) = self.groups.get_mut(&group) else {
            return Readiness::Waiting;
        };
        let id = names.node();
        let Some((id, node)) = id.and_then(|id| Some((id, self.nodes.get_mut(&id)?))) else {
            return Readiness::Waiting;
        };
        if names.is_connected() || !names.is_decided() || !node.is_connected() {
            return Readiness::Waiting;
        }
        if group != Group::Ordinary {
            if names.master() != Some(id) {
                return Readiness::Waiting;
            }
            match names.question() {
                Some(number) if number <= node.answered() => {}
                Some(_) => return Readiness::Waiting,
                None => {
                    names.set_question(node.want_question());
                    return Readiness::Unasked(id);
                }
            }
        }
        names.set_connected();
        Readiness::Connected
    }

    // ── masters ──────────────────────────────────────────────────────────────────────────────

    /// A node says that this one is the master of a slot.
    pub(super) fn note_master(
        &mut self,
        from: NodeId,
        group: Group,
        master: NodeId,
        now: Duration,
    ) -> Claim {
        let Some(names) = self.groups.get_mut(&group) else {
            return Claim::Unused;
        };
        match names.master() {
            Some(known) if known == master => {}
            Some(known) if names.is_trusted(now) && known != from => return Claim::Doubtful(known),
            _ => names.set_master(master),
        }
        if names.node() == Some(master) {
            return Claim::Known;
        }
        if names.node() == Some(from) {
            names.clear_question();
        }
        if names.is_migrating() {
            return Claim::Unused;
        }
        // Nodes that disagree would otherwise have the names moved to and fro without a pause.
        if !names.is_connected() && !names.begin_move(now, MISSING_INTERVAL) {
            self.wants_topology = true;
            return Claim::Unused;
        }
        Claim::New
    }

    /// The master of a slot has not answered, or cannot serve it: the slot may be that of another node by now.
    pub(super) fn doubt(&mut self, group: Group, now: Duration) {
        self.wants_topology = true;
        if let Some(names) = self.groups.get_mut(&group) {
            names.doubt(now + DOUBT_MAX);
        }
    }

    /// The master of a slot moves it to another one. Returns false where this node is not the master any more.
    pub(super) fn begin_migration(&mut self, from: NodeId, group: Group) -> bool {
        let names = self.groups.get_mut(&group);
        let Some(names) = names.filter(|names| names.master() == Some(from)) else {
            return false;
        };
        names.set_migrating(true);
        true
    }

    /// A slot is not on its way any more. Returns its master, as it is known, where it was.
    pub(super) fn end_migration(&mut self, group: Group) -> Option<NodeId> {
        self.wants_topology = true;
        let names = self.groups.get_mut(&group)?;
        if !names.is_migrating() {
            return None;
        }
        names.set_migrating(false);
        names.master()
    }

    // ── nodes, and what is due ───────────────────────────────────────────────────────────────

    /// The link to the node that has the names of a group.
    pub(super) fn redis_of(&self, group: Group) -> Option<Redis<S>> {
        let id = self.groups.get(&group)?.node()?;
        Some(self.nodes.get(&id)?.redis().clone())
    }

    /// The node that a command is to be sent to, where its link is connected.
    pub(super) fn target_of(&self, command: &Command<Done<S>>) -> Option<(NodeId, Redis<S>)> {
        let master = || self.groups.get(&Group::Slot(command.slot))?.master();
        let id = command.asks.or_else(master)?;
        let redis = self.nodes.get(&id)?.redis();
        redis.is_connected().then(|| (id, redis.clone()))
    }

    /// Takes the commands whose time is over, and those that can be sent now.
    pub(super) fn take_waiting(
        &mut self,
        now: Duration,
    ) -> (Vec<Command<Done<S>>>, Vec<Command<Done<S>>>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let taken = waiting.take(now, |command| self.target_of(command).is_some());
        self.waiting = waiting;
        taken
    }

    /// The address of a node, for log lines and for addresses without a host.
    pub(super) fn address_of(&self, id: NodeId) -> &str {
        self.nodes.get(&id).map_or("", Node::address)
    }

    /// The groups that are not connected.
    pub(super) fn missing_groups(&self) -> Vec<Group> {
        let groups = self.groups.iter();
        let missing = groups.filter(|(_, names)| !names.is_connected());
        missing.map(|(group, _)| *group).collect()
    }

    /// The slots that may still be on their way, each with its master, where it is time to ask.
    pub(super) fn migrations_to_probe(&mut self, now: Duration) -> Vec<(u16, Redis<S>)> {
        let is_due = |at: Duration| MIGRATION_INTERVAL <= now.saturating_sub(at);
        if !self.probed_at.is_none_or(is_due) {
            return Vec::new();
        }
        let migrating = (self.groups.iter()).filter(|(_, names)| names.is_migrating());
        let migrations: Vec<_> = migrating
            .filter_map(|(group, names)| match group {
                Group::Ordinary => None,
                Group::Slot(slot) => {
                    let node = self.nodes.get(&names.master()?)?;
                    Some((*slot, node.redis().clone()))
                }
            })
            .collect();
        if !migrations.is_empty() {
            self.probed_at = Some(now);
        }
        migrations
    }

    /// The address of one more node to try, of those that a node has told and those of the URL.
    pub(super) fn next_candidate(&mut self, seeds: &[String], now: Duration) -> Option<String> {
        self.tried_at = now;
        let candidates = self.known.iter().chain(seeds);
        let candidates: Vec<&String> = candidates
            .filter(|address| self.node_at(address).is_none())
            .collect();
        let index = self.tried_count % candidates.len().max(1);
        let address = (*candidates.get(index)?).clone();
        self.tried_count += 1;
        Some(address)
    }

    /// Whether no node is connected, and another one is to be tried.
    pub(super) fn wants_candidate(&self, now: Duration) -> bool {
        !self.nodes.values().any(Node::is_connected) && self.tried_at + CANDIDATE_INTERVAL <= now
    }

    /// Takes the links that nothing has needed for a while.
    pub(super) fn take_unused(&mut self, now: Duration) -> Vec<Node<S>> {
        let groups = self.groups.values();
        let used: Vec<NodeId> = groups
            .flat_map(|names| [names.node(), names.master()])
            .flatten()
            .collect();
        let is_connected = |id: &NodeId| self.nodes.get(id).is_some_and(Node::is_connected);
        let is_one_connected = used.iter().any(is_connected);
        let mut unused = Vec::new();
        for (id, node) in &mut self.nodes {
            let since = node.note_use(used.contains(id), now);
            let is_over = since.is_some_and(|since| UNUSED_MAX <= now.saturating_sub(since));
            // The last link that is connected is the only way to the others.
            if is_over && (is_one_connected || !node.is_connected()) {
                unused.push(*id);
            }
        }
        let unused = unused.into_iter();
        unused.filter_map(|id| self.nodes.remove(&id)).collect()
    }

    /// The next time at which something is due.
    pub(super) fn next_due(&mut self, now: Duration) -> Duration {
        self.note_missing(now);
        let due = match self.nodes.values().any(Node::is_connected) {
            true => self.asked_at.unwrap_or(now) + self.question_interval(now),
            false => self.tried_at + CANDIDATE_INTERVAL,
        };
        due.min(self.waiting.next_due(now).unwrap_or(Duration::MAX))
    }

    /// Whether a log line about the nodes' answers is to be written now.
    pub(super) fn begin_log(&mut self, now: Duration) -> bool {
        let is_due = |at: Duration| LOG_INTERVAL <= now.saturating_sub(at);
        let begins = self.logged_at.is_none_or(is_due);
        if begins {
            self.logged_at = Some(now);
        }
        begins
    }

    fn has_names(&self, id: NodeId) -> bool {
        self.groups.values().any(|names| names.node() == Some(id))
    }

    pub(super) fn node_at(&self, address: &str) -> Option<NodeId> {
        let mut nodes = self.nodes.iter();
        let (id, _) = nodes.find(|(_, node)| node.address() == address)?;
        Some(*id)
    }

    /// The groups that stand at a node.
    pub(super) fn groups_of(&self, id: NodeId) -> Vec<Group> {
        let groups = self.groups.iter();
        groups
            .filter(|(_, names)| names.node() == Some(id))
            .map(|(group, _)| *group)
            .collect()
    }

    /// How long after the last question the next one is sent.
    fn question_interval(&self, now: Duration) -> Duration {
        match self.missing_since {
            None => REFRESH_INTERVAL,
            Some(since) if MISSING_MAX <= now.saturating_sub(since) => LONG_MISSING_INTERVAL,
            Some(_) => MISSING_INTERVAL,
        }
    }

    fn note_missing(&mut self, now: Duration) {
        let mut groups = self.groups.values();
        let is_missing = self.wants_topology || groups.any(|names| !names.is_trusted(now));
        self.missing_since = match is_missing {
            true => self.missing_since.or(Some(now)),
            false => None,
        };
    }

    /// The nodes that are to be asked for the slots now.
    pub(super) fn nodes_to_ask(&mut self, now: Duration) -> Vec<NodeId> {
        self.note_missing(now);
        let interval = self.question_interval(now);
        if self.asked_at.is_some_and(|at| now < at + interval) {
            return Vec::new();
        }
        let nodes = self.nodes.iter();
        let connected: Vec<NodeId> = nodes
            .filter(|(_, node)| node.is_connected())
            .map(|(id, _)| *id)
            .collect();
        if connected.is_empty() {
            return connected;
        }
        self.asked_at = Some(now);
        self.wants_topology = false;
        if self.missing_since.is_none() {
            // Each node knows best about its own slots.
            return connected;
        }
        // A master that has not answered is not the one to ask whether it still is the master.
        let groups = self.groups.values();
        let doubted: Vec<NodeId> = groups
            .filter(|names| names.is_doubted(now))
            .filter_map(Names::master)
            .collect();
        let others = connected.iter().filter(|id| !doubted.contains(id));
        let others: Vec<NodeId> = others.copied().collect();
        let asked = if others.is_empty() { connected } else { others };
        self.turn += 1;
        vec![asked[self.turn % asked.len()]]
    }

    /// The node that is to have the ordinary names.
    pub(super) fn relaying_node(&mut self) -> Option<NodeId> {
        let nodes = self.nodes.iter();
        let mut ids: Vec<NodeId> = nodes
            .filter(|(_, node)| {
                node.is_relaying() && self.known.iter().any(|it| it == node.address())
            })
            .map(|(id, _)| *id)
            .collect();
        // A link that is needed anyhow.
        if ids.iter().any(|id| self.has_names(*id)) {
            ids.retain(|id| self.has_names(*id));
        }
        let count = u64::try_from(ids.len()).unwrap_or(1).max(1);
        let index = usize::try_from(self.random() % count).unwrap_or_default();
        ids.get(index).copied()
    }
}
