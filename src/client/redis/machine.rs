//! The link to a Redis server as a pure machine: replies and times in, bytes and decisions out.
//!
//! ```text
//!   away ──connect──▶ opening: HELLO 3, or RESP2 ──▶ all names subscribed again ──▶ connected
//!    ▲                    │ refused, closed, silent       │                            │ closed, silent
//!    └──── pause ◀────────┴───────────────────────────────┴────────────────────────────┘
//! ```
//!
//! With RESP3 one connection carries commands and messages, in one order. A server without it gets two: one for
//! commands and one for subscriptions, and the link is connected when both are.
//!
//! The link connects for ever. The pause before an attempt is a random part of a limit that doubles, from 100
//! milliseconds to 10 seconds (full jitter). A server that is silent is asked with `PING` and given up after
//! [`SILENCE_MAX`](super::connection::SILENCE_MAX).
//!
//! Commands are answered in their order. One that was not sent yet waits for a connection, a second at most and with
//! [`UNSENT_MAX`] others. A command whose connection ends before its answer is not sent again: whether the server has
//! carried it out is not known.
//!
//! Pure: no socket, no clock, no log.

use std::collections::VecDeque;
use std::time::Duration;

use super::connection::{Connection, Expected, field_in_hello, is_answer_to_ping, is_pong};
use super::error::RedisError;
use super::push::{Message, Push};
use super::refusal::{
    is_of_connection, is_of_replica, is_of_slot, is_without_resp3, not_a_master, one_line,
};
use super::slot::slot_of;
use super::upstream::{Acknowledged, Held, SubscriptionKind, Upstream};
use super::url::RedisUrl;
use crate::client::reconnect::{Backoff, Pauses};
use crate::protocol::resp::{Reply, encode_command};

/// Most commands that wait for a connection.
pub(crate) const UNSENT_MAX: usize = 1000;

/// Most bytes of commands that wait for a connection, and most that wait for the socket of one. The connection itself
/// would be closed above twice as many, which is a gap for all subscriptions.
pub(crate) const UNSENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most commands whose answers have not come.
pub(crate) const IN_FLIGHT_MAX: usize = 100_000;

/// How long a command waits for a connection.
pub(crate) const UNSENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses before the server is tried again, for ever.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(10),
    attempts_max: None,
    stable_after: Duration::from_secs(10),
};

/// The limit of the pause while a server loads its data set: it tells itself when it is there.
const LOADING_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most names in one command. The answer to a longer one would hold up others.
const NAMES_MAX: usize = 1000;

/// The connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For commands, and with RESP3 for everything.
    Commands,
    /// For subscriptions, where the server has RESP2 only.
    Subscriptions,
}

/// The order that the machine gives to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect(Lane),
    /// Ends what there is of both connections; nothing is to be reported about them any more.
    Disconnect,
}

/// News of the link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// All names that were wanted are subscribed.
    Connected,
    /// The link was connected and is no more. Messages may be missed from here on.
    Lost(String),
    /// An attempt has failed.
    Failed(String),
    /// A name that was [pending](Held::Pending) is subscribed. Comes when the link is connected, at the earliest.
    Subscribed(SubscriptionKind, Box<[u8]>),
    /// The server refuses to subscribe to a name.
    Refused(SubscriptionKind, Box<[u8]>, String),
    /// The server is a node of a cluster, though it is taken for one that has all keys. Comes once.
    FoundCluster,
    /// A node of a cluster has no subscription to this sharded name any more, because the slot is not its own. The text is
    /// the error by which it has refused to subscribe to it, if it has.
    Ended(Box<[u8]>, Option<String>),
}

/// The meaning of a reply.
pub(crate) enum Heard<'b, D> {
    Nothing,
    /// The answer to a command.
    Answer(D, Reply<'b>),
    Message(Message<'b>),
}

struct Unsent<D> {
    bytes: Vec<u8>,
    done: D,
    due: Duration,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server is tried again at this time.
    Away {
        retry_at: Duration,
    },
    Opening,
    Connected {
        since: Duration,
    },
    Closed,
}

/// The link. `D` is kept with each command until its answer comes.
pub(crate) struct Machine<D> {
    url: RedisUrl,
    /// The server is one node of a cluster.
    is_node: bool,
    has_found_cluster: bool,
    state: State,
    is_resp2: bool,
    pauses: Pauses,
    commands: Connection<D>,
    subscriptions: Connection<D>,
    upstream: Upstream,
    unsent: VecDeque<Unsent<D>>,
    /// The bytes of these.
    unsent_bytes: usize,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// Names that are subscribed before the link is connected. They are told then: an attempt that fails before is no
    /// lost link, so the owner would take them to be subscribed for good.
    early: Vec<(SubscriptionKind, Box<[u8]>)>,
    /// Commands that have come to nothing.
    failed: Vec<(D, RedisError)>,
}

impl<D> Machine<D> {
    /// A link that connects at once. `random` is any number, for the pauses.
    pub(crate) fn new(url: RedisUrl, random: u64) -> Machine<D> {
        Machine {
            is_resp2: url.is_resp2,
            url,
            is_node: false,
            has_found_cluster: false,
            state: State::Away {
                retry_at: Duration::ZERO,
            },
            pauses: Pauses::new(BACKOFF, random),
            commands: Connection::default(),
            subscriptions: Connection::default(),
            upstream: Upstream::default(),
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            early: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// As [`new`](Self::new), for one node of a cluster: a sharded name whose slot is not its own is told by
    /// [`Event::Ended`].
    pub(crate) fn of_node(url: RedisUrl, random: u64) -> Machine<D> {
        Machine {
            is_node: true,
            upstream: Upstream::of_node(),
            ..Machine::new(url, random)
        }
    }

    // ── what comes in ────────────────────────────────────────────────────────────────────────

    /// A connection was made.
    pub(crate) fn handle_open(&mut self, lane: Lane, now: Duration) {
        let is_resp2 = self.is_resp2;
        let connection = self.connection(lane);
        (connection.is_open, connection.heard_at) = (true, now);
        if is_resp2 {
            self.introduce();
            self.prepare(lane, false);
        } else {
            self.commands.say_hello(&self.url);
        }
    }

    /// A connection has ended, or could not be made.
    pub(crate) fn handle_close(&mut self, why: &str, now: Duration) {
        self.lose(why.to_owned(), now);
    }

    /// Bytes came, which may be a part of a long reply.
    pub(crate) fn handle_bytes(&mut self, lane: Lane, now: Duration) {
        self.connection(lane).heard_at = now;
    }

    /// A reply came.
    pub(crate) fn handle_reply<'b>(
        &mut self,
        lane: Lane,
        reply: Reply<'b>,
        now: Duration,
    ) -> Heard<'b, D> {
        let is_resp2 = self.is_resp2;
        self.connection(lane).heard_at = now;
        let is_push = match &reply {
            Reply::Push(_) => true,
            // In RESP2 the connection for subscriptions carries nothing but these and answers to `PING`.
            Reply::Array(values) => is_resp2 && lane == Lane::Subscriptions && !is_pong(values),
            _ => false,
        };
        if is_push {
            return self.handle_push(reply);
        }
        self.handle_answer(lane, reply, now)
    }

    fn handle_push<'b>(&mut self, reply: Reply<'b>) -> Heard<'b, D> {
        let (kind, name, is_subscribed) = match Push::parse(&reply) {
            None => return Heard::Nothing,
            Some(Push::Message(message)) => return Heard::Message(message),
            Some(Push::Subscribed(kind, name)) => (kind, name, true),
            Some(Push::Unsubscribed(kind, name)) => (kind, name, false),
        };
        match self.upstream.acknowledge(kind, name, is_subscribed) {
            Acknowledged::Noted => {}
            Acknowledged::Ended => self.events.push_back(Event::Ended(name.into(), None)),
            Acknowledged::Confirmed => match self.state {
                State::Opening => self.early.push((kind, name.into())),
                _ => self.events.push_back(Event::Subscribed(kind, name.into())),
            },
        }
        Heard::Nothing
    }

    fn handle_answer<'b>(&mut self, lane: Lane, reply: Reply<'b>, now: Duration) -> Heard<'b, D> {
        let error = reply.as_error();
        let connection = self.connection(lane);
        // An error of a subscription stands before the answer to the `PING` behind it.
        if let (
            Some(text),
            Some(Expected::Names {
                kind,
                is_wanted,
                names,
            }),
        ) = (&error, connection.expected.front_mut())
        {
            let (kind, is_wanted, names) = (*kind, *is_wanted, std::mem::take(names));
            // The second error is that of the `PING`.
            if names.is_empty() || is_of_connection(text) {
                self.lose(one_line(text), now);
            } else if self.is_node && kind == SubscriptionKind::Sharded && is_of_slot(text) {
                self.end_names(is_wanted, &names, text);
            } else {
                self.refuse_names(lane, kind, names, text);
            }
            return Heard::Nothing;
        }
        let Some(expected) = connection.expected.pop_front() else {
            let without = "an answer without a question";
            let why = error.map_or_else(|| without.into(), |text| one_line(&text));
            self.lose(why, now);
            return Heard::Nothing;
        };
        let is_ping = match expected {
            Expected::Names { .. } | Expected::Ping | Expected::Ready => true,
            Expected::Hello | Expected::Setup(_) | Expected::Role | Expected::Answer(..) => false,
        };
        // Answers that are not in the order of the commands would come to the wrong callbacks.
        if is_ping && error.is_none() && !is_answer_to_ping(&reply) {
            self.lose("another answer than that to PING".into(), now);
            return Heard::Nothing;
        }
        match expected {
            Expected::Answer(done, _) => {
                if (error.as_ref()).is_some_and(|text| text.starts_with("MOVED ")) {
                    self.note_cluster();
                }
                // The answer is the owner's, and all others on the link would be the same.
                if self.requires_master() && error.is_some_and(|text| is_of_replica(&text)) {
                    self.lose("the server is not a master any more".into(), now);
                }
                return done.map_or(Heard::Nothing, |done| Heard::Answer(done, reply));
            }
            Expected::Names { .. } | Expected::Ping => {}
            Expected::Hello => match error {
                None => {
                    if field_in_hello(&reply, "mode") == Some("cluster") {
                        self.note_cluster();
                    }
                    let role = field_in_hello(&reply, "role");
                    match role.filter(|_| self.requires_master()) {
                        Some(role) if role != "master" => self.lose(not_a_master(role), now),
                        role => self.prepare(lane, role.is_some()),
                    }
                }
                Some(text) if is_without_resp3(&text) => {
                    self.is_resp2 = true;
                    self.introduce();
                    self.prepare(lane, false);
                }
                Some(text) => self.lose(one_line(&text), now),
            },
            Expected::Role => {
                let role = reply.as_array().and_then(|values| values.first()?.as_str());
                match (error, role) {
                    (Some(text), _) => self.lose(format!("ROLE: {}", one_line(&text)), now),
                    (None, Some("master")) => {}
                    (None, role) => {
                        self.lose(not_a_master(role.unwrap_or("server without a role")), now)
                    }
                }
            }
            Expected::Setup(what) => {
                if let Some(text) = error {
                    self.lose(format!("{what}: {}", one_line(&text)), now);
                }
            }
            Expected::Ready => match error {
                Some(text) => self.lose(one_line(&text), now),
                None if self.connection(lane).asks_again => {
                    self.connection(lane).ask_whether_ready();
                }
                None => self.become_ready(lane, now),
            },
        }
        Heard::Nothing
    }

    /// Does what is due.
    pub(crate) fn handle_time(&mut self, now: Duration) {
        match self.state {
            State::Away { retry_at } if retry_at <= now => self.connect(now),
            State::Opening | State::Connected { .. } => self.check_silence(now),
            State::Away { .. } | State::Closed => {}
        }
        while self.unsent.front().is_some_and(|unsent| unsent.due <= now)
            && let Some(unsent) = self.unsent.pop_front()
        {
            self.unsent_bytes -= unsent.bytes.len();
            self.failed.push((unsent.done, RedisError::Away));
        }
        for connection in [&mut self.commands, &mut self.subscriptions] {
            connection.take_timed_out(now, &mut self.failed);
        }
        self.upstream.end_lingering(now);
        self.send_names();
    }

    /// The next time at which [`handle_time`](Self::handle_time) has something to do.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let state = match self.state {
            State::Away { retry_at } => Some(retry_at),
            State::Closed => None,
            State::Opening | State::Connected { .. } => {
                let commands = self.commands.silence_due(true);
                let subscriptions = self.subscriptions.silence_due(self.is_resp2);
                commands.into_iter().chain(subscriptions).min()
            }
        };
        let unsent = self.unsent.front().map(|unsent| unsent.due);
        let answers = [&self.commands, &self.subscriptions].map(Connection::answer_due);
        let all = [state, unsent, self.upstream.next_due()]
            .into_iter()
            .chain(answers);
        all.flatten().min()
    }

    // ── what the owner orders ────────────────────────────────────────────────────────────────

    /// Sends a command, or keeps it for the connection. `done` comes back with the answer, or by
    /// [`take_failed`](Self::take_failed).
    pub(crate) fn send<A: AsRef<[u8]>>(
        &mut self,
        words: &[A],
        done: D,
        timeout: Duration,
        now: Duration,
        queued_bytes: usize,
    ) {
        let encode = |out: &mut Vec<u8>| encode_command(words, out);
        self.send_with(encode, done, timeout, now, queued_bytes);
    }

    /// As [`send`](Self::send), for a command that is encoded already.
    pub(crate) fn send_encoded(
        &mut self,
        bytes: &[u8],
        done: D,
        timeout: Duration,
        now: Duration,
        queued_bytes: usize,
    ) {
        let encode = |out: &mut Vec<u8>| out.extend_from_slice(bytes);
        self.send_with(encode, done, timeout, now, queued_bytes);
    }

    fn send_with(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        done: D,
        timeout: Duration,
        now: Duration,
        queued_bytes: usize,
    ) {
        if let State::Connected { .. } = self.state {
            let unsent_bytes = queued_bytes + self.commands.out.len();
            let has_room = unsent_bytes < UNSENT_BYTES_MAX;
            if !has_room || IN_FLIGHT_MAX <= self.commands.expected.len() {
                self.failed.push((done, RedisError::Full));
                return;
            }
            encode(&mut self.commands.out);
            self.commands.expect_answer(done, now + timeout);
            return;
        }
        let has_room = self.unsent.len() < UNSENT_MAX && self.unsent_bytes < UNSENT_BYTES_MAX;
        if self.state == State::Closed || !has_room {
            let error = match self.state {
                State::Closed => RedisError::Away,
                _ => RedisError::Full,
            };
            self.failed.push((done, error));
            return;
        }
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let due = now + UNSENT_TIMEOUT.min(timeout);
        self.unsent_bytes += bytes.len();
        self.unsent.push_back(Unsent {
            bytes,
            done,
            due,
            timeout,
        });
    }

    /// Asks for an answer behind all messages and acknowledgements that the server has sent by now.
    pub(crate) fn send_barrier(&mut self, done: D, timeout: Duration, now: Duration) {
        if !self.is_connected() {
            self.failed.push((done, RedisError::Away));
            return;
        }
        let subscriber = self.subscriber();
        encode_command(&["PING"], &mut subscriber.out);
        subscriber.expect_answer(done, now + timeout);
    }

    /// Wants a name; see [`Upstream::hold`]. [`send_names`](Self::send_names) sends the command.
    pub(crate) fn hold(&mut self, kind: SubscriptionKind, name: &[u8]) -> Held {
        let held = self.upstream.hold(kind, name);
        match self.state {
            State::Opening => Held::Pending,
            _ => held,
        }
    }

    /// Gives a name up; see [`Upstream::release`].
    pub(crate) fn release(&mut self, kind: SubscriptionKind, name: &[u8], now: Duration) {
        self.upstream.release(kind, name, now);
    }

    /// Sends the commands for names that are wanted or given up since.
    pub(crate) fn send_names(&mut self) {
        let is_sent = match self.state {
            State::Connected { .. } => true,
            State::Opening => self.subscriber().takes_names,
            State::Away { .. } | State::Closed => false,
        };
        if !is_sent || !self.upstream.has_listed() {
            return;
        }
        self.encode_names();
    }

    /// Ends the link for good. Commands that wait come to nothing.
    pub(crate) fn close(&mut self, now: Duration) {
        if self.state != State::Closed {
            self.lose("closed".into(), now);
            self.events.clear();
            self.state = State::Closed;
            self.unsent_bytes = 0;
            for unsent in std::mem::take(&mut self.unsent) {
                self.failed.push((unsent.done, RedisError::Away));
            }
        }
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    /// Takes the bytes for a connection.
    pub(crate) fn take_bytes(&mut self, lane: Lane) -> Vec<u8> {
        std::mem::take(&mut self.connection(lane).out)
    }

    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes the commands that have come to nothing.
    pub(crate) fn take_failed(&mut self) -> Vec<(D, RedisError)> {
        std::mem::take(&mut self.failed)
    }

    // ── what one may ask ─────────────────────────────────────────────────────────────────────

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// Whether a connection is there or being made.
    pub(crate) fn has_connections(&self) -> bool {
        matches!(self.state, State::Opening | State::Connected { .. })
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Whether the server must be a master: sentinels may name one that is not.
    fn requires_master(&self) -> bool {
        self.url.sentinels.is_some()
    }

    // ── inside ───────────────────────────────────────────────────────────────────────────────

    fn connection(&mut self, lane: Lane) -> &mut Connection<D> {
        match lane {
            Lane::Commands => &mut self.commands,
            Lane::Subscriptions => &mut self.subscriptions,
        }
    }

    /// The connection that carries the subscriptions.
    fn subscriber(&mut self) -> &mut Connection<D> {
        match self.is_resp2 {
            true => &mut self.subscriptions,
            false => &mut self.commands,
        }
    }

    fn connect(&mut self, now: Duration) {
        self.state = State::Opening;
        self.is_resp2 = self.url.is_resp2;
        self.commands.heard_at = now;
        self.subscriptions.heard_at = now;
        self.actions.push_back(Action::Connect(Lane::Commands));
    }

    /// Asks for the second connection, where this is the first of two.
    fn introduce(&mut self) {
        if !self.subscriptions.is_open {
            let connect = Action::Connect(Lane::Subscriptions);
            if !self.actions.contains(&connect) {
                self.actions.push_back(connect);
            }
        }
    }

    /// Sends what a connection needs before it is ready.
    fn prepare(&mut self, lane: Lane, is_role_known: bool) {
        let is_resp2 = self.is_resp2;
        // Both connections go to one address.
        let asks_role = self.requires_master() && lane == Lane::Commands && !is_role_known;
        let connection = match lane {
            Lane::Commands => &mut self.commands,
            Lane::Subscriptions => &mut self.subscriptions,
        };
        connection.send_setup(&self.url, is_resp2);
        if asks_role {
            connection.ask_role();
        }
        if !is_resp2 || lane == Lane::Subscriptions {
            // From here on names that are wanted meanwhile are sent too.
            self.encode_names();
            self.subscriber().takes_names = true;
        }
        self.connection(lane).ask_whether_ready();
    }

    /// Sends the commands for all names that are listed, and a `PING` behind each.
    fn encode_names(&mut self) {
        for (kind, is_wanted, mut names) in self.upstream.take_commands() {
            let is_by_slot = self.is_node && kind == SubscriptionKind::Sharded;
            // A node refuses a command with names of several slots.
            let group = |name: &[u8]| if is_by_slot { slot_of(name) } else { 0 };
            if is_by_slot {
                names.sort_by_cached_key(|name| slot_of(name));
            }
            for names in names.chunk_by(|one, other| group(one) == group(other)) {
                for names in names.chunks(NAMES_MAX) {
                    self.subscriber().encode_names(kind, is_wanted, names);
                }
            }
        }
    }

    /// A node has refused a command with sharded names, because their slot is not its own.
    fn end_names(&mut self, is_wanted: bool, names: &[Box<[u8]>], text: &str) {
        for name in names {
            if is_wanted {
                self.upstream.refuse(SubscriptionKind::Sharded, name);
                let ended = Event::Ended(name.clone(), Some(one_line(text)));
                self.events.push_back(ended);
            } else {
                // The node has ended the subscription with the slot.
                let kind = SubscriptionKind::Sharded;
                self.upstream.acknowledge(kind, name, false);
            }
        }
    }

    /// The server has refused a command with names. It refuses all for one that the user of the URL may not have, so the
    /// halves are asked for alone.
    fn refuse_names(
        &mut self,
        lane: Lane,
        kind: SubscriptionKind,
        mut names: Vec<Box<[u8]>>,
        text: &str,
    ) {
        if let [name] = &names[..] {
            self.upstream.refuse(kind, name);
            let refused = Event::Refused(kind, name.clone(), one_line(text));
            self.events.push_back(refused);
            return;
        }
        let mut half = names.split_off(names.len() / 2);
        for names in [&mut names, &mut half] {
            names.retain(|name| self.upstream.ask_again(kind, name));
            if !names.is_empty() {
                let connection = self.connection(lane);
                connection.asks_again = true;
                connection.encode_names(kind, true, names);
            }
        }
    }

    /// The server has shown that it is a node of a cluster.
    fn note_cluster(&mut self) {
        if !self.is_node && !std::mem::replace(&mut self.has_found_cluster, true) {
            self.events.push_back(Event::FoundCluster);
        }
    }

    /// A connection has worked off its introduction.
    fn become_ready(&mut self, lane: Lane, now: Duration) {
        self.connection(lane).is_ready = true;
        let is_complete = self.commands.is_ready && (!self.is_resp2 || self.subscriptions.is_ready);
        if !is_complete || self.state != State::Opening {
            return;
        }
        self.state = State::Connected { since: now };
        for (kind, name) in std::mem::take(&mut self.early) {
            if self.upstream.is_confirmed(kind, &name) {
                self.events.push_back(Event::Subscribed(kind, name));
            }
        }
        self.events.push_back(Event::Connected);
        self.unsent_bytes = 0;
        for unsent in std::mem::take(&mut self.unsent) {
            self.commands.out.extend_from_slice(&unsent.bytes);
            (self.commands).expect_answer(unsent.done, now + unsent.timeout);
        }
        self.send_names();
    }

    fn check_silence(&mut self, now: Duration) {
        for lane in [Lane::Commands, Lane::Subscriptions] {
            let is_wanted = lane == Lane::Commands || self.is_resp2;
            let connection = self.connection(lane);
            if (connection.silence_due(is_wanted)).is_none_or(|due| now < due) {
                continue;
            }
            if !connection.is_open || !connection.expected.is_empty() {
                let silence = now.saturating_sub(connection.heard_at);
                let why = format!("no answer for {} seconds", silence.as_secs());
                return self.lose(why, now);
            }
            connection.send_ping(Expected::Ping);
        }
    }

    /// Gives the connections up, and decides when to try again.
    fn lose(&mut self, why: String, now: Duration) {
        let is_loading = why.starts_with("LOADING");
        let lasted = match self.state {
            State::Away { .. } | State::Closed => return,
            State::Opening => {
                self.events.push_back(Event::Failed(why));
                Duration::ZERO
            }
            State::Connected { since } => {
                self.events.push_back(Event::Lost(why));
                now.saturating_sub(since)
            }
        };
        self.pauses.note_connection(lasted);
        self.actions.clear();
        self.actions.push_back(Action::Disconnect);
        for connection in [&mut self.commands, &mut self.subscriptions] {
            for expected in std::mem::take(connection).expected {
                if let Expected::Answer(Some(done), _) = expected {
                    self.failed.push((done, RedisError::Unknown));
                }
            }
        }
        self.upstream.reset();
        self.early.clear();
        let pause = match is_loading {
            true => self.pauses.next_within(LOADING_PAUSE_MAX),
            false => self.pauses.next(),
        };
        self.state = State::Away {
            // There is always one, because the attempts have no limit.
            retry_at: now + pause.unwrap_or(BACKOFF.max),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::redis::link::REPLY_BYTES_MAX;
    use crate::client::redis::small_server::SmallServer;
    use crate::protocol::resp::ReplyDecoder;
    use SubscriptionKind::{Channel, Pattern};

    const RESP3: &str = "redis://localhost";
    const RESP2: &str = "redis://localhost?protocol=2";
    const SENTINEL: &str = "redis+sentinel://localhost/m";

    /// A machine with a clock, and what it said.
    struct Client {
        machine: Machine<u32>,
        now: Duration,
        decoders: [ReplyDecoder; 2],
        actions: Vec<Action>,
        events: Vec<Event>,
        answers: Vec<(u32, String)>,
        messages: Vec<String>,
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    impl Client {
        fn new(url: &str) -> Client {
            Client::with_random(url, 0x9e37_79b9_7f4a_7c15)
        }

        fn with_random(url: &str, random: u64) -> Client {
            let machine = Machine::new(RedisUrl::parse(url).unwrap(), random);
            Client {
                machine,
                now: Duration::ZERO,
                decoders: [(); 2].map(|()| ReplyDecoder::new(REPLY_BYTES_MAX)),
                actions: Vec::new(),
                events: Vec::new(),
                answers: Vec::new(),
                messages: Vec::new(),
            }
        }

        /// Looks at the machine, and opens the connections for which it asks.
        fn look(&mut self) {
            self.machine.send_names();
            while let Some(action) = self.machine.next_action() {
                self.actions.push(action);
                if let Action::Connect(lane) = action {
                    self.decoders[lane as usize] = ReplyDecoder::new(REPLY_BYTES_MAX);
                    self.machine.handle_open(lane, self.now);
                }
            }
            self.events
                .extend(std::iter::from_fn(|| self.machine.next_event()));
            let failed = self.machine.take_failed().into_iter();
            let failed = failed.map(|(done, error)| (done, format!("{error:?}")));
            self.answers.extend(failed);
        }

        /// Lets time pass until the machine has something to do, or until `end`.
        fn run_until(&mut self, end: Duration) {
            while let Some(due) = self.machine.next_due()
                && due <= end
            {
                self.now = due.max(self.now);
                self.machine.handle_time(self.now);
                self.look();
            }
            self.now = end;
        }

        fn receive(&mut self, lane: Lane, bytes: &[u8]) {
            let mut input = bytes;
            while self.machine.has_connections() {
                match self.decoders[lane as usize].next_reply(&mut input) {
                    Ok(Some(reply)) => match self.machine.handle_reply(lane, reply, self.now) {
                        Heard::Nothing => {}
                        Heard::Answer(done, reply) => {
                            self.answers.push((done, format!("{reply:?}")));
                        }
                        Heard::Message(message) => {
                            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                            let parts = [message.name, message.channel, message.payload];
                            self.messages.push(parts.map(text).join(" "));
                        }
                    },
                    Ok(None) => break,
                    Err(error) => self.machine.handle_close(&error.to_string(), self.now),
                }
            }
            self.look();
        }

        /// Exchanges bytes with a server until there are none.
        fn talk(&mut self, servers: &mut [SmallServer; 2]) {
            loop {
                let mut has_bytes = false;
                for lane in [Lane::Commands, Lane::Subscriptions] {
                    let bytes = self.machine.take_bytes(lane);
                    has_bytes |= !bytes.is_empty();
                    let replies = servers[lane as usize].receive(&bytes);
                    self.receive(lane, &replies);
                }
                if !has_bytes {
                    break;
                }
            }
        }

        fn connected(url: &str) -> (Client, [SmallServer; 2]) {
            let mut client = Client::new(url);
            let mut servers = [(); 2].map(|()| SmallServer::new(true));
            client.run_until(Duration::ZERO);
            client.talk(&mut servers);
            assert_eq!(std::mem::take(&mut client.events), [Event::Connected]);
            (client, servers)
        }

        fn send(&mut self, done: u32) {
            let timeout = millis(2000);
            self.machine
                .send(&["ECHO", &done.to_string()], done, timeout, self.now, 0);
            self.look();
        }
    }

    #[test]
    fn a_server_that_cannot_be_used_is_one_line_and_a_pause() {
        let no_password = "-NOAUTH Authentication required.\r\n".repeat(9);
        let loading = "-LOADING Redis is loading the dataset in memory\r\n";
        let with_names = |before: &str| {
            format!("{before}>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n{loading}{loading}")
        };
        let deep = "*1\r\n".repeat(10_000);
        let cases = [
            (
                "redis://:x@h",
                "-WRONGPASS invalid username-password pair\r\n",
                "WRONGPASS invalid username-password pair",
            ),
            (
                "redis://:x@h?protocol=2",
                "-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n-NOAUTH x\r\n",
                "AUTH: WRONGPASS invalid username-password pair",
            ),
            (
                RESP3,
                "-NOAUTH HELLO must be called with a password\r\n",
                "NOAUTH HELLO must be called with a password",
            ),
            (RESP2, &no_password, "NOAUTH Authentication required."),
            (
                "redis://h/99",
                "%0\r\n-ERR DB index is out of range\r\n+PONG\r\n",
                "SELECT: ERR DB index is out of range",
            ),
            (
                "redis://h/99?protocol=2",
                "-ERR DB index is out of range\r\n+PONG\r\n",
                "SELECT: ERR DB index is out of range",
            ),
            (
                RESP3,
                "HTTP/1.1 400 Bad Request\r\n\r\n",
                "the server does not speak the Redis protocol: a reply begins with 'H'",
            ),
            (
                RESP3,
                "$67108865\r\n",
                "a reply is longer than 67108864 bytes",
            ),
            (RESP3, &deep, "a reply has more than 32 levels"),
            (RESP3, "%0\r\n+OK\r\n", "another answer than that to PING"),
            (RESP3, &format!("%0\r\n{loading}"), &loading[1..47]),
            (RESP3, &with_names("%0\r\n"), &loading[1..47]),
            (
                RESP3,
                "-ERR max number of clients reached\r\n",
                "ERR max number of clients reached",
            ),
            (RESP3, "-ERR two\nlines\x1b[2J\r\n", "ERR two lines [2J"),
            (
                SENTINEL,
                "%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n",
                "the server is not a master but a replica",
            ),
            (
                SENTINEL,
                "%0\r\n*1\r\n$5\r\nslave\r\n",
                "the server is not a master but a slave",
            ),
            (
                SENTINEL,
                "%0\r\n-NOPERM no permissions to run the 'role' command\r\n",
                "ROLE: NOPERM no permissions to run the 'role' command",
            ),
            (
                SENTINEL,
                "-NOPROTO unsupported protocol version\r\n*0\r\n",
                "the server is not a master but a server without a role",
            ),
        ];
        for (url, replies, expected) in cases {
            for has_names in [false, true] {
                let name = format!("{url} {expected} {has_names}");
                let mut client = Client::new(url);
                if has_names {
                    client.machine.hold(Channel, b"a");
                }
                client.run_until(Duration::ZERO);
                client.receive(
                    match replies == no_password {
                        true => Lane::Subscriptions,
                        false => Lane::Commands,
                    },
                    replies.as_bytes(),
                );
                let lines: Vec<_> = client.events.iter().collect();
                assert_eq!(lines, [&Event::Failed(expected.into())], "{name}");
                let is_disconnect = |it: &&Action| **it == Action::Disconnect;
                assert_eq!(client.actions.iter().filter(is_disconnect).count(), 1);
                let due = client.machine.next_due().unwrap();
                assert!(
                    Duration::ZERO < due && due <= BACKOFF.base,
                    "{name}: {due:?}"
                );
            }
        }
    }

    #[test]
    fn an_answer_without_a_question_ends_the_link() {
        for url in [RESP3, RESP2] {
            let (mut client, _) = Client::connected(url);
            client.receive(Lane::Commands, b"+OK\r\n");
            let expected = Event::Lost("an answer without a question".into());
            assert_eq!(client.events, [expected]);
        }
    }

    #[test]
    fn a_server_without_hello_gets_two_connections() {
        for refusal in [
            "-NOPROTO unsupported protocol version\r\n",
            "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
        ] {
            let mut client = Client::new("redis://ada:pw@localhost/2?name=me");
            let mut servers = [(); 2].map(|()| SmallServer::new(false));
            client.machine.hold(Pattern, b"a*");
            client.run_until(Duration::ZERO);
            let hello = client.machine.take_bytes(Lane::Commands);
            assert!(hello.starts_with(b"*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH"));
            client.receive(Lane::Commands, refusal.as_bytes());
            client.talk(&mut servers);
            let subscribed = Event::Subscribed(Pattern, (*b"a*").into());
            assert_eq!(client.events, [subscribed, Event::Connected]);
            assert_eq!(servers[1].names(), ["PSUBSCRIBE a*"]);
            let setup = ["AUTH ada pw", "CLIENT SETNAME me", "SELECT 2"];
            for server in &servers {
                let words: Vec<_> = server.commands.iter().map(|it| it.join(" ")).collect();
                assert_eq!(words[..3], setup);
            }
            // The server may be a newer one after the next connect.
            client.machine.handle_close("gone", client.now);
            client.look();
            client.run_until(millis(100));
            let hello = client.machine.take_bytes(Lane::Commands);
            assert!(hello.starts_with(b"*7\r\n$5\r\nHELLO"));
        }
    }

    #[test]
    fn a_silent_server_is_asked_and_given_up() {
        for url in [RESP3, RESP2] {
            let (mut client, mut servers) = Client::connected(url);
            client.run_until(millis(2999));
            assert_eq!(client.machine.take_bytes(Lane::Commands), b"");
            client.run_until(millis(3000));
            client.talk(&mut servers);
            let asked = servers[0].commands.last().map(|words| &*words[0]);
            assert_eq!(asked, Some("PING"));
            client.run_until(millis(6000));
            // Bytes of a long reply are no silence.
            client.machine.handle_bytes(Lane::Commands, millis(6500));
            client
                .machine
                .handle_bytes(Lane::Subscriptions, millis(6500));
            client.run_until(millis(14_499));
            assert_eq!(client.events, []);
            client.run_until(millis(14_500));
            let expected = Event::Lost("no answer for 8 seconds".into());
            assert_eq!(client.events, [expected]);
        }
    }

    #[test]
    fn a_server_that_does_not_answer_the_first_bytes_is_given_up() {
        for url in [RESP3, RESP2] {
            let mut client = Client::new(url);
            client.run_until(millis(7999));
            assert_eq!(client.events, []);
            client.run_until(millis(8000));
            let expected = Event::Failed("no answer for 8 seconds".into());
            assert_eq!(client.events, [expected]);
        }
    }

    #[test]
    fn pauses_are_random_parts_of_a_limit_that_doubles() {
        let limits = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        let mut pauses = vec![Vec::new(); limits.len()];
        for random in 0..100 {
            let mut client =
                Client::with_random(RESP3, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(1 + random));
            client.run_until(Duration::ZERO);
            for (attempt, limit) in limits.into_iter().enumerate() {
                let began = client.now;
                client.machine.handle_close("refused", began);
                client.look();
                let due = client.machine.next_due().unwrap();
                let pause = due - began;
                assert!(pause <= millis(limit), "{attempt}: {pause:?}");
                pauses[attempt].push(pause);
                client.run_until(due);
            }
            let connects = client.actions.iter();
            let connects = connects.filter(|it| **it == Action::Connect(Lane::Commands));
            assert_eq!(connects.count(), 1 + limits.len());
        }
        for (pauses, limit) in pauses.iter().zip(limits) {
            let mean = pauses.iter().sum::<Duration>() / 100;
            let half = millis(limit / 2);
            assert!(
                half.mul_f64(0.7) < mean && mean < half.mul_f64(1.3),
                "{mean:?} of {limit}"
            );
        }
    }

    #[test]
    fn a_server_that_is_loading_is_tried_each_second() {
        let mut client = Client::new(RESP3);
        let mut servers = [(); 2].map(|()| SmallServer::new(true));
        servers[0].is_loading = true;
        for _ in 0..100 {
            let began = client.now;
            let due = client.machine.next_due().unwrap();
            assert!(due - began <= millis(1000), "{:?}", due - began);
            client.run_until(due);
            client.talk(&mut servers);
        }
        let failed =
            |event: &Event| matches!(event, Event::Failed(why) if why.starts_with("LOADING"));
        assert_eq!(client.events.iter().filter(|it| failed(it)).count(), 100);
        // The pauses have a mean of half a second.
        assert!(millis(30_000) < client.now, "{:?}", client.now);
        servers[0].is_loading = false;
        client.run_until(client.now + millis(1000));
        client.talk(&mut servers);
        assert_eq!(client.events.last(), Some(&Event::Connected));
    }

    #[test]
    fn a_master_that_becomes_a_replica_is_a_lost_link() {
        for (url, is_lost) in [(SENTINEL, true), (RESP3, false)] {
            for error in [
                "-READONLY You can't write against a read only replica.\r\n",
                "-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write\r\n",
            ] {
                let (mut client, _) = Client::connected(url);
                client.send(1);
                client.send(2);
                client.receive(Lane::Commands, error.as_bytes());
                assert!(
                    client.answers[0].1.starts_with("Error("),
                    "{:?}",
                    client.answers
                );
                let unknown = (2, "Unknown".to_owned());
                assert_eq!(client.answers.contains(&unknown), is_lost);
                let why = "the server is not a master any more";
                let expected = is_lost.then(|| Event::Lost(why.into()));
                assert_eq!(client.events, Vec::from_iter(expected));
            }
        }
    }

    // A server that accepts and ends the connection at once must not be connected to at full speed.
    #[test]
    fn only_a_link_that_lasted_begins_with_short_pauses_again() {
        for (lasts, is_short) in [(millis(9999), false), (BACKOFF.stable_after, true)] {
            let mut client = Client::new(RESP3);
            for _ in 0..20 {
                let due = client.machine.next_due().unwrap();
                client.run_until(due);
                client.machine.handle_close("refused", client.now);
                client.look();
            }
            let due = client.machine.next_due().unwrap();
            client.run_until(due);
            let mut servers = [(); 2].map(|()| SmallServer::new(true));
            client.talk(&mut servers);
            assert!(client.machine.is_connected());
            let end = client.now + lasts;
            while client.now < end {
                client.run_until((client.now + millis(1000)).min(end));
                client.talk(&mut servers);
            }
            client.machine.handle_close("gone", client.now);
            let attempts = client.machine.pauses.attempts();
            assert_eq!(attempts == 1, is_short, "{lasts:?}");
        }
    }

    #[test]
    fn commands_without_a_connection_wait_for_a_second() {
        let mut client = Client::new(RESP3);
        for done in 0..1001 {
            client.send(done);
        }
        assert_eq!(client.answers, [(1000, "Full".into())]);
        client.answers.clear();
        client.run_until(millis(999));
        assert_eq!(client.answers, []);
        client.run_until(millis(1000));
        let expected: Vec<_> = (0..1000).map(|done| (done, "Away".into())).collect();
        assert_eq!(client.answers, expected);
    }

    // The time of a short command was looked at when a longer one before it was over.
    #[test]
    fn each_command_has_its_own_time_for_the_answer() {
        let (mut client, _) = Client::connected(RESP3);
        let begin = client.now;
        for (done, timeout) in [(0, 5000), (1, 1000), (2, 3000)] {
            let timeout = millis(timeout);
            client.machine.send(&["ECHO", "x"], done, timeout, begin, 0);
        }
        client.look();
        for (until, count) in [(999, 0), (1000, 1), (2999, 1), (3000, 2), (5000, 3)] {
            client.run_until(begin + millis(until));
            assert_eq!(client.answers.len(), count, "{until}");
        }
        let order: Vec<u32> = client.answers.iter().map(|(done, _)| *done).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn the_bytes_of_commands_that_wait_are_limited() {
        let send = |client: &mut Client, done, bytes: usize, queued_bytes| {
            let (value, now) = (vec![b'x'; bytes], client.now);
            let words = [&b"ECHO"[..], &value];
            (client.machine).send(&words, done, millis(2000), now, queued_bytes);
            client.look();
        };
        let mut client = Client::new(RESP3);
        for done in 0..3 {
            send(&mut client, done, UNSENT_BYTES_MAX / 2, 0);
        }
        // One passes the limit, and those behind it are refused.
        send(&mut client, 3, 1, 0);
        let full = |done| (done, "Full".to_owned());
        assert_eq!(client.answers, [full(2), full(3)]);
        client.answers.clear();
        client.run_until(millis(1000));
        assert_eq!(client.answers.len(), 2);
        assert_eq!(client.machine.unsent_bytes, 0);
        // With a connection the bytes that its socket has not taken count.
        let (mut client, _) = Client::connected(RESP3);
        send(&mut client, 0, 1, UNSENT_BYTES_MAX - 1);
        assert_eq!(client.answers, []);
        send(&mut client, 1, 1, UNSENT_BYTES_MAX);
        assert_eq!(client.answers, [full(1)]);
    }

    #[test]
    fn commands_that_waited_are_sent_in_order_and_answered_once() {
        for url in [RESP3, RESP2] {
            let mut client = Client::new(url);
            let mut servers = [(); 2].map(|()| SmallServer::new(true));
            (0..3).for_each(|done| client.send(done));
            client.run_until(Duration::ZERO);
            client.talk(&mut servers);
            client.send(3);
            client.talk(&mut servers);
            let answers = std::mem::take(&mut client.answers);
            let dones: Vec<u32> = answers.iter().map(|(done, _)| *done).collect();
            assert_eq!(dones, [0, 1, 2, 3]);
            // The connection ends before the answer to one, and another has had its time.
            client.send(4);
            client.run_until(millis(1999));
            client.receive(Lane::Commands, b"$1\r\n4\r\n");
            client.send(5);
            client.run_until(millis(3998));
            client.send(6);
            client.run_until(millis(3999));
            assert_eq!(client.answers[1..], [(5, "TimedOut".into())]);
            client.machine.handle_close("gone", client.now);
            client.look();
            assert_eq!(client.answers[2..], [(6, "Unknown".into())]);
        }
    }

    // An error for one name is an error for all names of the command.
    #[test]
    fn names_that_a_user_may_not_have_are_told_and_others_are_subscribed() {
        for url in [RESP3, RESP2] {
            for is_late in [false, true] {
                let mut client = Client::new(url);
                let mut servers = [(); 2].map(|()| SmallServer::new(true));
                for server in &mut servers {
                    server.refused = vec!["n7".into(), "n1500".into()];
                }
                if is_late {
                    client.run_until(Duration::ZERO);
                    client.talk(&mut servers);
                }
                for number in 0..2000 {
                    let name = format!("n{number}");
                    client.machine.hold(Channel, name.as_bytes());
                }
                client.run_until(Duration::ZERO);
                client.look();
                client.talk(&mut servers);
                let mut refused = Vec::new();
                let mut subscribed_count = 0;
                for event in &client.events {
                    match event {
                        Event::Refused(_, name, _) => {
                            refused.push(String::from_utf8_lossy(name).into_owned());
                        }
                        Event::Subscribed(..) => subscribed_count += 1,
                        other => assert_eq!(*other, Event::Connected),
                    }
                }
                refused.sort();
                assert_eq!(refused, ["n1500", "n7"]);
                assert_eq!(subscribed_count, 1998);
                let at = (client.events.iter()).position(|it| *it == Event::Connected);
                let expected = if is_late { 0 } else { 2000 };
                assert_eq!(
                    at,
                    Some(expected),
                    "all is decided when the link is connected"
                );
                let names: usize = servers.iter().map(|it| it.names().len()).sum();
                assert_eq!(names, 1998);
                assert!(servers.iter().all(|it| it.repeated.is_empty()));
                // Commands go on, each with its own answer.
                client.send(1);
                client.talk(&mut servers);
                assert_eq!(client.answers, [(1, "Bulk(\"1\")".into())]);
            }
        }
    }

    #[test]
    fn messages_come_by_the_kind_of_their_subscription() {
        for (url, lane) in [(RESP3, Lane::Commands), (RESP2, Lane::Subscriptions)] {
            let (mut client, mut servers) = Client::connected(url);
            for kind in SubscriptionKind::ALL {
                client.machine.hold(kind, b"a");
            }
            client.look();
            client.talk(&mut servers);
            for kind in SubscriptionKind::ALL {
                let message = servers[lane as usize].message(kind, "a", "hello");
                client.receive(lane, &message);
            }
            let expected = ["a a hello", "a some channel hello", "a a hello"];
            assert_eq!(client.messages, expected);
        }
    }

    #[test]
    fn a_node_of_a_cluster_is_told_once() {
        let hello = "%1\r\n$4\r\nmode\r\n$7\r\ncluster\r\n";
        let moved = "-MOVED 3999 127.0.0.1:6381\r\n";
        // Without a word in HELLO, as from a server without RESP3, the answers show it.
        for (hello, expected_early) in [(hello, 1), ("%0\r\n", 0)] {
            let mut client = Client::new(RESP3);
            let found_count = |client: &Client| {
                let events = client.events.iter();
                events.filter(|it| **it == Event::FoundCluster).count()
            };
            client.run_until(Duration::ZERO);
            client.receive(Lane::Commands, format!("{hello}+PONG\r\n").as_bytes());
            assert_eq!(found_count(&client), expected_early, "{hello}");
            client.send(1);
            client.send(2);
            client.receive(Lane::Commands, moved.repeat(2).as_bytes());
            assert_eq!(found_count(&client), 1, "{hello}");
            // The owner gets the answers all the same.
            assert_eq!(client.answers.len(), 2);
        }
    }

    #[test]
    fn sharded_names_of_a_node_go_by_slot_and_are_left_where_they_moved() {
        use SubscriptionKind::Sharded;
        let url = RedisUrl::parse(RESP3).unwrap();
        let mut client = Client::new(RESP3);
        client.machine = Machine::of_node(url, 1);
        for name in ["{a}1", "{b}1", "{a}2"] {
            client.machine.hold(Sharded, name.as_bytes());
        }
        client.run_until(Duration::ZERO);
        client.receive(Lane::Commands, b"%0\r\n");
        let sent = client.machine.take_bytes(Lane::Commands);
        let sent = String::from_utf8_lossy(&sent).into_owned();
        let counts = ["SSUBSCRIBE", "*3\r\n$10\r\nSSUBSCRIBE"].map(|it| sent.matches(it).count());
        assert_eq!(counts, [2, 1], "{sent}");
        let of_b = ">3\r\n$10\r\nssubscribe\r\n$4\r\n{b}1\r\n:1\r\n+PONG\r\n";
        let of_a = "-MOVED 15495 127.0.0.1:7001\r\n+PONG\r\n";
        client.receive(Lane::Commands, format!("{of_b}{of_a}+PONG\r\n").as_bytes());
        let ended = |name: &str| {
            let why = "MOVED 15495 127.0.0.1:7001".to_owned();
            Event::Ended(name.as_bytes().into(), Some(why))
        };
        let subscribed = Event::Subscribed(Sharded, b"{b}1".as_slice().into());
        let news = std::mem::take(&mut client.events);
        let expected = [ended("{a}1"), ended("{a}2"), subscribed, Event::Connected];
        assert_eq!(news, expected);
        // A slot that moves later ends its subscriptions, and a command that crosses this is no error.
        client.machine.release(Sharded, b"{b}1", client.now);
        client.run_until(millis(2000));
        let ended = ">3\r\n$12\r\nsunsubscribe\r\n$4\r\n{b}1\r\n:0\r\n";
        let moved = "-MOVED 3300 127.0.0.1:7001\r\n+PONG\r\n";
        client.receive(Lane::Commands, format!("{ended}{moved}").as_bytes());
        assert_eq!(client.events, []);
        assert!(client.machine.is_connected());
        // The names stay away until they are wanted again.
        client.look();
        assert_eq!(client.machine.hold(Sharded, b"{a}1"), Held::Pending);
        client.look();
        let sent = client.machine.take_bytes(Lane::Commands);
        assert!(String::from_utf8_lossy(&sent).contains("SSUBSCRIBE\r\n$4\r\n{a}1"));
    }

    #[test]
    fn a_closed_link_is_over() {
        let (mut client, _) = Client::connected(RESP3);
        client.send(1);
        client.machine.close(client.now);
        client.look();
        client.send(2);
        let expected = [(1, "Unknown".into()), (2, "Away".into())];
        assert_eq!(client.answers, expected);
        assert_eq!(client.machine.next_due(), None);
    }
}
