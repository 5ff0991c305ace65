//! The links to the nodes of a cluster: they carry between the state and the nodes, and call back.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::names::{Group, Names};
use super::node::{Node, NodeId};
use super::state::{Claim, Readiness, State};
use super::topology::{Refusal, Topology, TopologyError, is_migrating};
use super::waiting::Command;
use crate::client::redis::Redis;
use crate::client::redis::error::RedisError;
use crate::client::redis::link::{Done, Listener};
use crate::client::redis::push::Message;
use crate::client::redis::upstream::{Held, SubscriptionKind};
use crate::client::redis::url::ClusterUrl;
use crate::protocol::resp::Reply;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;

/// How long an answer to a question for the slots may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The nodes of the URL to which links are made at once.
const FIRST_NODES: usize = 3;

/// The pause before a command is sent again that the master could not carry out yet.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Most times that a command follows nodes to other ones without a pause.
const REDIRECTS_MAX: u32 = 5;

/// The part of the program that takes all messages and news of a cluster.
///
/// As a [`Listener`] it gets messages and news of names of all kinds. `connected` and `lost` are about the node with the
/// channels and patterns; sharded names have the news of their slots instead. `ended` is never called: the cluster
/// subscribes such a name at the new master of its slot.
pub(crate) trait ClusterListener<S>: Listener<S> {
    /// The master of the slot is linked, and all sharded names of the slot that are held are subscribed there.
    fn slot_connected(self: Rc<Self>, cx: &mut Cx<'_, S>, slot: u16);

    /// Messages of the slot may be missed from here on, and its names are pending again: its link is lost, or the slot
    /// has moved.
    fn slot_lost(self: Rc<Self>, cx: &mut Cx<'_, S>, slot: u16);
}

/// The links of a reactor to the nodes.
pub(super) struct Links<S: 'static> {
    url: ClusterUrl,
    state: RefCell<State<S>>,
    listener: RefCell<Option<Rc<dyn ClusterListener<S>>>>,
    /// The timer that looks at the state again, and when.
    timer: Cell<Option<(TimerId, Duration)>>,
    /// A tick is queued that looks at the state.
    has_tick: Cell<bool>,
}

impl<S: 'static> Links<S> {
    /// Makes links to the first nodes of a URL. `random` is any number, for pauses and choices.
    pub(super) fn new(
        reactor: &mut Reactor<S>,
        url: ClusterUrl,
        slots: &[u16],
        random: u64,
    ) -> Rc<Links<S>> {
        let links = Rc::new(Links {
            url,
            state: RefCell::new(State::new(slots, reactor.now(), random)),
            listener: RefCell::default(),
            timer: Cell::new(None),
            has_tick: Cell::new(false),
        });
        for _ in 0..FIRST_NODES.min(links.url.seeds.len()) {
            links.try_another_node(reactor);
        }
        links.look_soon(reactor);
        links
    }

    pub(super) fn set_listener(&self, listener: Rc<dyn ClusterListener<S>>) {
        *self.listener.borrow_mut() = Some(listener);
    }

    // ── what the owner orders ────────────────────────────────────────────────────────────────

    /// Sends a command to the master of its slot, behind those that wait for it.
    pub(super) fn command(self: &Rc<Self>, reactor: &mut Reactor<S>, command: Command<Done<S>>) {
        let has_unsent = self.state.borrow().waiting.has_unsent(command.slot);
        match has_unsent {
            true => self.keep(reactor, command, None),
            false => self.send(reactor, command),
        }
    }

    /// Sends a command to the node that has the channels and patterns.
    pub(super) fn command_anywhere<A: AsRef<[u8]>>(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: Done<S>,
    ) {
        let redis = self.state.borrow().redis_of(Group::Ordinary);
        if let Some(redis) = redis {
            return redis.command_within(reactor, words, timeout, done);
        }
        let mut state = self.state.borrow_mut();
        state.failed.push((done, RedisError::Away));
        drop(state);
        self.look_soon(reactor);
    }

    /// Wants a name.
    pub(super) fn hold(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        let held = self.state.borrow_mut().hold(reactor, kind, name);
        self.look_soon(reactor);
        held
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(super) fn release(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) {
        self.state.borrow_mut().release(reactor, kind, name);
        self.look_soon(reactor);
    }

    /// Calls `done` when all messages that the node of a group has sent by now were delivered.
    pub(super) fn barrier(self: &Rc<Self>, reactor: &mut Reactor<S>, group: Group, done: Done<S>) {
        let mut state = self.state.borrow_mut();
        let names = state.groups.get(&group);
        let lost_count = (names.filter(|names| names.is_connected())).map(Names::lost_count);
        let (Some(lost_count), Some(redis)) = (lost_count, state.redis_of(group)) else {
            state.failed.push((done, RedisError::Away));
            drop(state);
            self.look_soon(reactor);
            return;
        };
        drop(state);
        let links = Rc::clone(self);
        redis.barrier(reactor, move |cx, reply| {
            let state = links.state.borrow();
            let names = state.groups.get(&group);
            let is_same = names.is_some_and(|names| names.lost_count() == lost_count);
            drop(state);
            match is_same {
                true => done(cx, reply),
                false => done(cx, Err(RedisError::Unknown)),
            }
        });
    }

    /// Whether a message by a pattern is the one to take.
    pub(super) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        let redis = self.state.borrow().redis_of(Group::Ordinary);
        redis.is_none_or(|redis| redis.is_first_by_pattern(pattern, channel))
    }

    // ── looking at what is due ───────────────────────────────────────────────────────────────

    fn look_soon(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        if !self.has_tick.replace(true) {
            let links = Rc::clone(self);
            reactor.next_tick(move |cx| {
                links.has_tick.set(false);
                links.look(cx);
            });
        }
    }

    fn look(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        let failed = std::mem::take(&mut self.state.borrow_mut().failed);
        for (done, error) in failed {
            done(cx, Err(error));
        }
        self.tell_confirmed(cx);
        self.give_ordinary_names(cx);
        let groups = self.state.borrow().missing_groups();
        for group in groups {
            self.check(cx, group);
        }
        self.send_waiting(cx);
        self.ask_when_due(cx.reactor);
        self.probe_migrations(cx.reactor);
        if self.state.borrow().wants_candidate(cx.reactor.now()) {
            self.try_another_node(cx.reactor);
        }
        self.close_unused(cx.reactor);
        self.arm_timer(cx.reactor);
    }

    /// Looks again when something is due.
    fn arm_timer(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let now = reactor.now();
        let due = self.state.borrow_mut().next_due(now);
        if let Some((timer, at)) = self.timer.get() {
            // A timer that comes too early looks again.
            if at <= due {
                return;
            }
            reactor.cancel(timer);
        }
        // A timer that is due at once would leave no time for others.
        let due = due.max(now + Duration::from_millis(1));
        let links = Rc::clone(self);
        let timer = reactor.after(due - now, move |cx| {
            links.timer.set(None);
            links.look(cx);
        });
        self.timer.set(Some((timer, due)));
    }

    fn listener(&self) -> Option<Rc<dyn ClusterListener<S>>> {
        self.listener.borrow().clone()
    }

    // ── nodes ────────────────────────────────────────────────────────────────────────────────

    /// The node with this address. A link is made where there is none.
    fn node_at(self: &Rc<Self>, reactor: &mut Reactor<S>, address: &str) -> NodeId {
        let mut state = self.state.borrow_mut();
        if let Some(id) = state.node_at(address) {
            return id;
        }
        state.last_node += 1;
        let id = NodeId(state.last_node);
        let random = state.random();
        let redis = Redis::connect_to_node(reactor, self.url.node(address), random);
        let links = Rc::downgrade(self);
        redis.set_listener(Rc::new(NodeListener { links, id }));
        state.nodes.insert(id, Node::new(address, redis));
        id
    }

    /// Makes a link to one more node.
    fn try_another_node(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let now = reactor.now();
        let seeds = &self.url.seeds;
        let address = self.state.borrow_mut().next_candidate(seeds, now);
        if let Some(address) = address {
            self.node_at(reactor, &address);
        }
    }

    /// Closes links that nothing has needed for a while.
    fn close_unused(&self, reactor: &mut Reactor<S>) {
        let unused = self.state.borrow_mut().take_unused(reactor.now());
        for node in unused {
            log::debug!("redis {}: the link is not needed any more", node.address());
            node.redis().close(reactor);
        }
    }

    fn handle_connected(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: NodeId) {
        if let Some(node) = self.state.borrow_mut().nodes.get_mut(&id) {
            node.set_connected(true);
            node.want_question();
        }
        self.ask(cx.reactor, id);
        self.look(cx);
    }

    fn handle_lost(self: &Rc<Self>, cx: &mut Cx<'_, S>, id: NodeId) {
        let groups = {
            let mut state = self.state.borrow_mut();
            if let Some(node) = state.nodes.get_mut(&id) {
                node.set_connected(false);
            }
            state.wants_topology = true;
            state.groups_of(id)
        };
        for group in groups {
            if group == Group::Ordinary {
                // Any other node has the messages too.
                self.move_group(cx, group, None);
                continue;
            }
            let was_connected = {
                let mut state = self.state.borrow_mut();
                (state.groups.get_mut(&group)).is_some_and(Names::lose)
            };
            self.tell_lost(cx, group, was_connected);
        }
        self.look(cx);
    }

    // ── topology ─────────────────────────────────────────────────────────────────────────────

    fn ask_when_due(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let asked = self.state.borrow_mut().nodes_to_ask(reactor.now());
        for id in asked {
            self.want_question(reactor, id);
        }
    }

    fn want_question(self: &Rc<Self>, reactor: &mut Reactor<S>, id: NodeId) {
        if let Some(node) = self.state.borrow_mut().nodes.get_mut(&id) {
            node.want_question();
        }
        self.ask(reactor, id);
    }

    /// Asks a node for the slots, where a question is wanted and none is under way.
    fn ask(self: &Rc<Self>, reactor: &mut Reactor<S>, id: NodeId) {
        let (redis, number) = {
            let mut state = self.state.borrow_mut();
            let Some(node) = state.nodes.get_mut(&id) else {
                return;
            };
            let Some(number) = node.begin_question() else {
                return;
            };
            (node.redis().clone(), number)
        };
        let links = Rc::clone(self);
        redis.command_within(
            reactor,
            &["CLUSTER", "SLOTS"],
            QUESTION_TIMEOUT,
            move |cx, reply| links.handle_slots(cx, id, number, reply),
        );
    }

    fn handle_slots(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        id: NodeId,
        number: u64,
        reply: Result<Reply<'_>, RedisError>,
    ) {
        let topology = {
            let mut state = self.state.borrow_mut();
            let Some(node) = state.nodes.get_mut(&id) else {
                return;
            };
            let topology = reply
                .map_err(|error| TopologyError::Refused(error.to_string()))
                .and_then(|reply| Topology::parse(&reply, node.address()));
            node.end_question(number, topology.is_ok());
            if let Ok(topology) = &topology {
                node.set_alone(topology.nodes().is_empty());
            }
            topology
        };
        match topology {
            Ok(topology) => {
                self.handle_topology(cx, id, &topology);
                self.ask(cx.reactor, id);
            }
            // It is asked again after a pause.
            Err(error) => self.log_refused_question(cx.reactor.now(), id, &error),
        }
        self.look(cx);
    }

    fn log_refused_question(&self, now: Duration, id: NodeId, error: &TopologyError) {
        let mut state = self.state.borrow_mut();
        if state.begin_log(now) {
            log::warn!("redis {}: {error}", state.address_of(id));
        }
    }

    /// Asks masters whether slots are still on their way to others.
    fn probe_migrations(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let migrations = self.state.borrow_mut().migrations_to_probe(reactor.now());
        for (slot, redis) in migrations {
            let links = Rc::clone(self);
            let words = ["CLUSTER", "NODES"];
            redis.command_within(reactor, &words, QUESTION_TIMEOUT, move |cx, reply| {
                let nodes = reply.as_ref().ok().and_then(Reply::as_str);
                // Without an answer it is asked for its slots, as any other.
                if nodes.is_none_or(|nodes| !is_migrating(nodes, slot)) {
                    links.end_migration(cx, Group::Slot(slot));
                }
            });
        }
    }

    /// A slot is on its way to another master, which may publish in it already.
    fn begin_migration(self: &Rc<Self>, cx: &mut Cx<'_, S>, from: NodeId, group: Group) {
        if self.state.borrow_mut().begin_migration(from, group) {
            self.move_group(cx, group, None);
        }
    }

    /// A slot is not on its way any more. Its master is as it was, where it has not told another one.
    fn end_migration(self: &Rc<Self>, cx: &mut Cx<'_, S>, group: Group) {
        let master = self.state.borrow_mut().end_migration(group);
        if master.is_some() {
            self.move_group(cx, group, master);
        }
    }

    /// A node has told the slots.
    fn handle_topology(self: &Rc<Self>, cx: &mut Cx<'_, S>, from: NodeId, topology: &Topology) {
        let groups: Vec<Group> = {
            let mut state = self.state.borrow_mut();
            if !topology.nodes().is_empty() {
                state.known = topology.nodes().to_vec();
            }
            state.groups.keys().copied().collect()
        };
        for group in groups {
            match group {
                Group::Slot(slot) => {
                    if let Some(master) = topology.master_of(slot) {
                        let master = self.node_at(cx.reactor, master);
                        self.handle_master(cx, from, group, master);
                    }
                }
                Group::Ordinary => {
                    let state = self.state.borrow();
                    let node = state.groups.get(&group).and_then(Names::node);
                    drop(state);
                    // A node without slots to tell of was taken out of the cluster, and hears no other one.
                    if node == Some(from) && topology.nodes().is_empty() {
                        self.move_group(cx, group, None);
                    }
                }
            }
        }
    }

    /// A node says that this one is the master of a slot.
    fn handle_master(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        from: NodeId,
        group: Group,
        master: NodeId,
    ) {
        let now = cx.reactor.now();
        let mut state = self.state.borrow_mut();
        let claim = state.note_master(from, group, master, now);
        drop(state);
        match claim {
            Claim::Known => self.check(cx, group),
            Claim::Doubtful(known) => self.want_question(cx.reactor, known),
            Claim::New => self.move_group(cx, group, Some(master)),
            Claim::Unused => {}
        }
    }

    // ── groups ───────────────────────────────────────────────────────────────────────────────

    /// Gives a group to another node, or to none.
    fn move_group(self: &Rc<Self>, cx: &mut Cx<'_, S>, group: Group, to: Option<NodeId>) {
        let moved = self.state.borrow_mut().move_names(cx.reactor, group, to);
        self.tell_lost(cx, group, moved);
        self.look_soon(cx.reactor);
    }

    /// Tells that a group is lost, where it was connected.
    fn tell_lost(&self, cx: &mut Cx<'_, S>, group: Group, was_connected: bool) {
        if was_connected && let Some(listener) = self.listener() {
            match group {
                Group::Ordinary => listener.lost(cx),
                Group::Slot(slot) => listener.slot_lost(cx, slot),
            }
        }
    }

    /// Gives the ordinary names to a node, while none has them.
    fn give_ordinary_names(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        let group = Group::Ordinary;
        let node = {
            let mut state = self.state.borrow_mut();
            let has_node = (state.groups.get(&group)).is_some_and(|names| names.node().is_some());
            if has_node {
                None
            } else {
                state.relaying_node()
            }
        };
        if node.is_some() {
            self.move_group(cx, group, node);
        }
    }

    /// Tells that a group is connected, if it is since.
    fn check(self: &Rc<Self>, cx: &mut Cx<'_, S>, group: Group) {
        let readiness = self.state.borrow_mut().readiness(group);
        match readiness {
            Readiness::Waiting => return,
            Readiness::Unasked(id) => return self.ask(cx.reactor, id),
            Readiness::Connected => {}
        }
        if let Some(listener) = self.listener() {
            match group {
                Group::Ordinary => listener.connected(cx),
                Group::Slot(slot) => listener.slot_connected(cx, slot),
            }
        }
    }

    /// Tells of names that were subscribed already where they were asked for.
    fn tell_confirmed(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        let confirmed = std::mem::take(&mut self.state.borrow_mut().confirmed);
        for it in confirmed {
            let mut state = self.state.borrow_mut();
            let names = state.groups.get_mut(&it.group);
            let is_news = names.is_some_and(|names| {
                names.lost_count() == it.lost_count && names.confirm(it.kind, &it.name)
            });
            drop(state);
            if is_news && let Some(listener) = self.listener() {
                listener.subscribed(cx, it.kind, &it.name);
            }
        }
    }

    /// A link has confirmed a name, or its node refuses it.
    fn handle_decision(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        id: NodeId,
        kind: SubscriptionKind,
        name: &[u8],
        is_refused: bool,
    ) {
        let is_news = self.state.borrow_mut().decide(id, kind, name, is_refused);
        if is_news && let Some(listener) = self.listener() {
            match is_refused {
                true => listener.refused(cx, kind, name),
                false => listener.subscribed(cx, kind, name),
            }
        }
        self.check(cx, Group::of(kind, name));
    }

    /// A node has no subscription to a sharded name any more, or will not have one.
    fn handle_ended(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        id: NodeId,
        name: &[u8],
        why: Option<&str>,
    ) {
        let group = Group::of(SubscriptionKind::Sharded, name);
        if !self.state.borrow().is_at(group, id) {
            return;
        }
        self.state.borrow_mut().wants_topology = true;
        self.move_group(cx, group, None);
        // The node knows the new master. One that refuses a name is asked with the others, because nodes that disagree
        // would otherwise be asked without a pause.
        if why.is_none() {
            self.want_question(cx.reactor, id);
        }
    }

    fn handle_message(&self, cx: &mut Cx<'_, S>, id: NodeId, message: Message<'_>) {
        // A link that has had the group before may have subscriptions for a while.
        let group = Group::of(message.kind, message.name);
        let is_current = self.state.borrow().is_at(group, id);
        if is_current && let Some(listener) = self.listener() {
            listener.message(cx, message);
        }
    }

    // ── commands ─────────────────────────────────────────────────────────────────────────────

    /// Sends a command to the master of its slot, or keeps it until there is one.
    fn send(self: &Rc<Self>, reactor: &mut Reactor<S>, command: Command<Done<S>>) {
        let Some((id, redis)) = self.state.borrow().target_of(&command) else {
            self.keep(reactor, command, None);
            return;
        };
        let timeout = command.due.saturating_sub(reactor.now());
        if command.asks.is_some() {
            redis.command_within(reactor, &["ASKING"], timeout, |_, _| {});
        }
        let (links, bytes) = (Rc::clone(self), Rc::clone(&command.bytes));
        redis.command_encoded(reactor, &bytes, timeout, move |cx, reply| {
            links.handle_answer(cx, id, command, reply);
        });
    }

    /// Keeps a command until its slot has a master that is connected, or until a pause is over.
    fn keep(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        command: Command<Done<S>>,
        pause: Option<Duration>,
    ) {
        let now = reactor.now();
        let (due, retry_at) = match pause {
            None => (command.unsent_due, Duration::ZERO),
            Some(pause) => (command.due, now + pause),
        };
        let mut state = self.state.borrow_mut();
        if let Err(command) = state.waiting.push(command, due, retry_at) {
            state.failed.push((command.done, RedisError::Full));
        }
        drop(state);
        self.look_soon(reactor);
    }

    /// Sends the commands that can be, and gives up those whose time is over.
    fn send_waiting(self: &Rc<Self>, cx: &mut Cx<'_, S>) {
        let now = cx.reactor.now();
        let (over, ready) = self.state.borrow_mut().take_waiting(now);
        for command in ready {
            self.send(cx.reactor, command);
        }
        for command in over {
            (command.done)(cx, Err(RedisError::Away));
        }
    }

    fn handle_answer(
        self: &Rc<Self>,
        cx: &mut Cx<'_, S>,
        from: NodeId,
        mut command: Command<Done<S>>,
        reply: Result<Reply<'_>, RedisError>,
    ) {
        let group = Group::Slot(command.slot);
        let reply = match reply {
            Ok(reply) => reply,
            // The link was lost before the command was sent.
            Err(RedisError::Away) => return self.keep(cx.reactor, command, None),
            Err(error) => {
                if error != RedisError::Full {
                    self.doubt(cx.reactor, group);
                }
                return (command.done)(cx, Err(error));
            }
        };
        let refusal = reply.as_error().and_then(|text| {
            let state = self.state.borrow();
            let address = state.address_of(from);
            Refusal::parse(&text, address)
        });
        let Some(refusal) = refusal else {
            return (command.done)(cx, Ok(reply));
        };
        command.asks = None;
        match refusal {
            Refusal::Moved { address, .. } => {
                let to = self.node_at(cx.reactor, &address);
                self.state.borrow_mut().wants_topology = true;
                self.handle_master(cx, from, group, to);
                self.send_elsewhere(cx.reactor, command);
            }
            Refusal::Ask { address, .. } => {
                command.asks = Some(self.node_at(cx.reactor, &address));
                self.begin_migration(cx, from, group);
                self.send_elsewhere(cx.reactor, command);
            }
            Refusal::TryAgain => self.keep(cx.reactor, command, Some(RETRY_PAUSE)),
            Refusal::Unavailable => {
                self.doubt(cx.reactor, group);
                command.due = command.unsent_due;
                self.keep(cx.reactor, command, Some(RETRY_PAUSE));
            }
        }
    }

    /// Sends a command to the node that another one has named. Nodes that name each other are given time to agree.
    fn send_elsewhere(self: &Rc<Self>, reactor: &mut Reactor<S>, mut command: Command<Done<S>>) {
        command.redirect_count += 1;
        match command.redirect_count % REDIRECTS_MAX {
            0 => self.keep(reactor, command, Some(RETRY_PAUSE)),
            _ => self.send(reactor, command),
        }
    }

    /// The master of a slot has not answered, or cannot serve it: the slot may be that of another node by now.
    fn doubt(self: &Rc<Self>, reactor: &mut Reactor<S>, group: Group) {
        self.state.borrow_mut().doubt(group, reactor.now());
        self.look_soon(reactor);
    }
}

/// Takes the news of the link to one node.
struct NodeListener<S: 'static> {
    links: Weak<Links<S>>,
    id: NodeId,
}

impl<S: 'static> Listener<S> for NodeListener<S> {
    fn message(self: Rc<Self>, cx: &mut Cx<'_, S>, message: Message<'_>) {
        if let Some(links) = self.links.upgrade() {
            links.handle_message(cx, self.id, message);
        }
    }

    fn subscribed(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]) {
        if let Some(links) = self.links.upgrade() {
            links.handle_decision(cx, self.id, kind, name, false);
        }
    }

    fn refused(self: Rc<Self>, cx: &mut Cx<'_, S>, kind: SubscriptionKind, name: &[u8]) {
        if let Some(links) = self.links.upgrade() {
            links.handle_decision(cx, self.id, kind, name, true);
        }
    }

    fn ended(self: Rc<Self>, cx: &mut Cx<'_, S>, name: &[u8], why: Option<&str>) {
        if let Some(links) = self.links.upgrade() {
            links.handle_ended(cx, self.id, name, why);
        }
    }

    fn connected(self: Rc<Self>, cx: &mut Cx<'_, S>) {
        if let Some(links) = self.links.upgrade() {
            links.handle_connected(cx, self.id);
        }
    }

    fn lost(self: Rc<Self>, cx: &mut Cx<'_, S>) {
        if let Some(links) = self.links.upgrade() {
            links.handle_lost(cx, self.id);
        }
    }
}
