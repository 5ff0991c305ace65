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
//! [`SILENCE_MAX`].
//!
//! Commands are answered in their order. One that was not sent yet waits for a connection, a second at most and with
//! [`UNSENT_MAX`] others. A command whose connection ends before its answer is not sent again: whether the server has
//! carried it out is not known.
//!
//! Pure: no socket, no clock, no log.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::RedisError;
use super::upstream::{Held, SubscriptionKind, Upstream};
use super::url::RedisUrl;
use crate::protocol::resp::{Reply, encode_command, encode_command_head, encode_word};

/// Most commands that wait for a connection.
pub(crate) const UNSENT_MAX: usize = 1000;

/// Most commands whose answers have not come.
pub(crate) const IN_FLIGHT_MAX: usize = 100_000;

/// How long a command waits for a connection.
pub(crate) const UNSENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time without bytes from the server after which it is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(3);

/// The time without bytes from the server, while it owes an answer, after which it counts as lost.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The limit of the first pause before the server is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The limit of later pauses.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A link that lasts so long begins again with the shortest pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Most names in one command. The answer to a longer one would hold up others.
const NAMES_MAX: usize = 1000;

/// Most characters of an error of the server that are shown.
const ERROR_CHARS_MAX: usize = 200;

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
}

/// The meaning of a reply.
pub(crate) enum Heard<'b, D> {
    Nothing,
    /// The answer to a command.
    Answer(D, Reply<'b>),
    Message(Message<'b>),
}

/// A message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'b> {
    /// The subscription by which it came: `name` is the pattern, or the channel.
    pub kind: SubscriptionKind,
    pub name: &'b [u8],
    pub channel: &'b [u8],
    pub payload: &'b [u8],
}

/// An answer that the machine waits for.
enum Expected<D> {
    Hello,
    /// `AUTH`, `SELECT` and `CLIENT SETNAME` must not fail. The text says what failed.
    Setup(&'static str),
    /// The server has worked off everything before.
    Ready,
    /// The `PING` behind a command with names. An error before it is of that command, and takes the names out.
    Names(SubscriptionKind, Vec<Box<[u8]>>),
    Ping,
    /// Of the owner. Taken when its time is over.
    Answer(Option<D>, Duration),
}

struct Unsent<D> {
    bytes: Vec<u8>,
    done: D,
    due: Duration,
    timeout: Duration,
}

/// One connection.
struct Connection<D> {
    is_open: bool,
    /// Names may be subscribed here.
    takes_names: bool,
    /// The introduction is over.
    is_ready: bool,
    /// Names are asked for again behind the last [`Ready`](Expected::Ready).
    asks_again: bool,
    expected: VecDeque<Expected<D>>,
    heard_at: Duration,
    out: Vec<u8>,
}

impl<D> Default for Connection<D> {
    fn default() -> Self {
        Connection {
            is_open: false,
            takes_names: false,
            is_ready: false,
            asks_again: false,
            expected: VecDeque::new(),
            heard_at: Duration::ZERO,
            out: Vec::new(),
        }
    }
}

impl<D> Connection<D> {
    /// Sends a command with names, and a `PING` behind it.
    fn encode_names(&mut self, kind: SubscriptionKind, command: &str, names: &[Box<[u8]>]) {
        let out = &mut self.out;
        encode_command_head(1 + names.len(), out);
        encode_word(command.as_bytes(), out);
        for name in names {
            encode_word(name, out);
        }
        encode_command(&["PING"], out);
        self.expected
            .push_back(Expected::Names(kind, names.to_vec()));
    }
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
    state: State,
    is_resp2: bool,
    attempts: u32,
    random: u64,
    commands: Connection<D>,
    subscriptions: Connection<D>,
    upstream: Upstream,
    unsent: VecDeque<Unsent<D>>,
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
            state: State::Away {
                retry_at: Duration::ZERO,
            },
            attempts: 0,
            random: random | 1,
            commands: Connection::default(),
            subscriptions: Connection::default(),
            upstream: Upstream::default(),
            unsent: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            early: Vec::new(),
            failed: Vec::new(),
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
            self.prepare(lane);
        } else {
            self.say_hello();
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
        use SubscriptionKind::{Channel, Pattern, Sharded};
        let Some([kind, values @ ..]) = reply.as_array() else {
            return Heard::Nothing;
        };
        let bytes = |index: usize| values.get(index).and_then(Reply::as_bytes);
        let message = |kind, name, channel, payload| match (name, channel, payload) {
            (Some(name), Some(channel), Some(payload)) => Heard::Message(Message {
                kind,
                name,
                channel,
                payload,
            }),
            _ => Heard::Nothing,
        };
        let (kind, is_subscribed) = match kind.as_bytes().unwrap_or_default() {
            b"message" => return message(Channel, bytes(0), bytes(0), bytes(1)),
            b"pmessage" => return message(Pattern, bytes(0), bytes(1), bytes(2)),
            b"smessage" => return message(Sharded, bytes(0), bytes(0), bytes(1)),
            b"subscribe" => (Channel, true),
            b"psubscribe" => (Pattern, true),
            b"ssubscribe" => (Sharded, true),
            b"unsubscribe" => (Channel, false),
            b"punsubscribe" => (Pattern, false),
            b"sunsubscribe" => (Sharded, false),
            _ => return Heard::Nothing,
        };
        if let Some(name) = bytes(0)
            && self.upstream.acknowledge(kind, name, is_subscribed)
        {
            match self.state {
                State::Opening => self.early.push((kind, name.into())),
                _ => self.events.push_back(Event::Subscribed(kind, name.into())),
            }
        }
        Heard::Nothing
    }

    fn handle_answer<'b>(&mut self, lane: Lane, reply: Reply<'b>, now: Duration) -> Heard<'b, D> {
        let error = reply.as_error();
        let connection = self.connection(lane);
        // An error of a subscription stands before the answer to the `PING` behind it.
        if let (Some(text), Some(Expected::Names(kind, names))) =
            (&error, connection.expected.front_mut())
        {
            let (kind, names) = (*kind, std::mem::take(names));
            // The second error is that of the `PING`.
            match names.is_empty() || is_of_connection(text) {
                true => self.lose(one_line(text), now),
                false => self.refuse_names(lane, kind, names, text),
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
            Expected::Names(..) | Expected::Ping | Expected::Ready => true,
            Expected::Hello | Expected::Setup(_) | Expected::Answer(..) => false,
        };
        // Answers that are not in the order of the commands would come to the wrong callbacks.
        if is_ping && error.is_none() && !is_answer_to_ping(&reply) {
            self.lose("another answer than that to PING".into(), now);
            return Heard::Nothing;
        }
        match expected {
            Expected::Answer(Some(done), _) => return Heard::Answer(done, reply),
            Expected::Answer(None, _) | Expected::Names(..) | Expected::Ping => {}
            Expected::Hello => match error {
                None => self.prepare(lane),
                Some(text) if is_without_resp3(&text) => {
                    self.is_resp2 = true;
                    self.introduce();
                    self.prepare(lane);
                }
                Some(text) => self.lose(one_line(&text), now),
            },
            Expected::Setup(what) => {
                if let Some(text) = error {
                    self.lose(format!("{what}: {}", one_line(&text)), now);
                }
            }
            Expected::Ready => match error {
                Some(text) => self.lose(one_line(&text), now),
                None if self.connection(lane).asks_again => self.ask_whether_ready(lane),
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
            self.failed.push((unsent.done, RedisError::Away));
        }
        for connection in [&mut self.commands, &mut self.subscriptions] {
            for expected in &mut connection.expected {
                match expected {
                    Expected::Answer(done, due) if *due <= now => {
                        let failed = done.take().map(|done| (done, RedisError::TimedOut));
                        self.failed.extend(failed);
                    }
                    // Most commands have one timeout, so those behind are not due either.
                    Expected::Answer(Some(_), _) => break,
                    _ => {}
                }
            }
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
                let lanes = [Lane::Commands, Lane::Subscriptions];
                lanes
                    .into_iter()
                    .filter_map(|lane| self.silence_due(lane))
                    .min()
            }
        };
        let unsent = self.unsent.front().map(|unsent| unsent.due);
        let expected = (self.commands.expected.iter()).chain(&self.subscriptions.expected);
        let answer = expected
            .filter_map(|it| match it {
                Expected::Answer(Some(_), due) => Some(*due),
                _ => None,
            })
            .next();
        let all = [state, unsent, answer, self.upstream.next_due()];
        all.into_iter().flatten().min()
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
    ) {
        if let State::Connected { .. } = self.state {
            if IN_FLIGHT_MAX <= self.commands.expected.len() {
                self.failed.push((done, RedisError::Full));
                return;
            }
            encode_command(words, &mut self.commands.out);
            let expected = Expected::Answer(Some(done), now + timeout);
            self.commands.expected.push_back(expected);
            return;
        }
        if self.state == State::Closed || UNSENT_MAX <= self.unsent.len() {
            let error = match self.state {
                State::Closed => RedisError::Away,
                _ => RedisError::Full,
            };
            self.failed.push((done, error));
            return;
        }
        let mut bytes = Vec::new();
        encode_command(words, &mut bytes);
        let due = now + UNSENT_TIMEOUT.min(timeout);
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
        let connection = self.subscriber();
        encode_command(&["PING"], &mut connection.out);
        let expected = Expected::Answer(Some(done), now + timeout);
        connection.expected.push_back(expected);
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

    fn say_hello(&mut self) {
        let mut words = vec!["HELLO", "3"];
        let url = &self.url;
        if let Some(password) = &url.password {
            words.extend(["AUTH", url.user.as_deref().unwrap_or("default"), password]);
        }
        if let Some(name) = &url.client_name {
            words.extend(["SETNAME", name]);
        }
        encode_command(&words, &mut self.commands.out);
        self.commands.expected.push_back(Expected::Hello);
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
    fn prepare(&mut self, lane: Lane) {
        let (url, is_resp2) = (self.url.clone(), self.is_resp2);
        let connection = self.connection(lane);
        let mut send = |words: &[&str], what| {
            encode_command(words, &mut connection.out);
            connection.expected.push_back(Expected::Setup(what));
        };
        if is_resp2 {
            match (&url.user, &url.password) {
                (Some(user), Some(password)) => send(&["AUTH", user, password], "AUTH"),
                (None, Some(password)) => send(&["AUTH", password], "AUTH"),
                _ => {}
            }
            if let Some(name) = &url.client_name {
                send(&["CLIENT", "SETNAME", name], "CLIENT SETNAME");
            }
        }
        if url.database != 0 {
            let database = url.database.to_string();
            send(&["SELECT", &database], "SELECT");
        }
        if !is_resp2 || lane == Lane::Subscriptions {
            // From here on names that are wanted meanwhile are sent too.
            self.encode_names();
            self.subscriber().takes_names = true;
        }
        self.ask_whether_ready(lane);
    }

    fn ask_whether_ready(&mut self, lane: Lane) {
        let connection = self.connection(lane);
        connection.asks_again = false;
        encode_command(&["PING"], &mut connection.out);
        connection.expected.push_back(Expected::Ready);
    }

    /// Sends the commands for all names that are listed, and a `PING` behind each.
    fn encode_names(&mut self) {
        for (kind, is_wanted, names) in self.upstream.take_commands() {
            let command = match is_wanted {
                true => kind.subscribe_command(),
                false => kind.unsubscribe_command(),
            };
            for names in names.chunks(NAMES_MAX) {
                self.subscriber().encode_names(kind, command, names);
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
                connection.encode_names(kind, kind.subscribe_command(), names);
            }
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
        for unsent in std::mem::take(&mut self.unsent) {
            self.commands.out.extend_from_slice(&unsent.bytes);
            let expected = Expected::Answer(Some(unsent.done), now + unsent.timeout);
            self.commands.expected.push_back(expected);
        }
        self.send_names();
    }

    /// When the silence of a connection is to be looked at.
    fn silence_due(&self, lane: Lane) -> Option<Duration> {
        let connection = match lane {
            Lane::Commands => &self.commands,
            Lane::Subscriptions => &self.subscriptions,
        };
        match (connection.is_open, connection.expected.is_empty()) {
            (true, true) => Some(connection.heard_at + PING_AFTER),
            (true, false) => Some(connection.heard_at + SILENCE_MAX),
            // It is being made.
            (false, _) => (lane == Lane::Commands || self.is_resp2)
                .then_some(connection.heard_at + SILENCE_MAX),
        }
    }

    fn check_silence(&mut self, now: Duration) {
        for lane in [Lane::Commands, Lane::Subscriptions] {
            if self.silence_due(lane).is_none_or(|due| now < due) {
                continue;
            }
            let connection = self.connection(lane);
            if !connection.is_open || !connection.expected.is_empty() {
                let silence = now.saturating_sub(connection.heard_at);
                let why = format!("no answer for {} seconds", silence.as_secs());
                return self.lose(why, now);
            }
            encode_command(&["PING"], &mut connection.out);
            connection.expected.push_back(Expected::Ping);
        }
    }

    /// Gives the connections up, and decides when to try again.
    fn lose(&mut self, why: String, now: Duration) {
        let is_stable = match self.state {
            State::Away { .. } | State::Closed => return,
            State::Opening => {
                self.events.push_back(Event::Failed(why));
                false
            }
            State::Connected { since } => {
                self.events.push_back(Event::Lost(why));
                STABLE_AFTER <= now.saturating_sub(since)
            }
        };
        if is_stable {
            self.attempts = 0;
        }
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
        let limit = PAUSE_MIN
            .saturating_mul(1 << self.attempts.min(10))
            .min(PAUSE_MAX);
        self.attempts += 1;
        let pause = limit.mul_f64(self.next_random());
        self.state = State::Away {
            retry_at: now + pause,
        };
    }

    /// A number from 0 to 1.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The answer to `PING` of a connection with subscriptions.
fn is_pong(values: &[Reply<'_>]) -> bool {
    matches!(values.first(), Some(Reply::Bulk(b"pong")))
}

/// The answer to `PING`, of any connection.
fn is_answer_to_ping(reply: &Reply<'_>) -> bool {
    match reply {
        Reply::Array(values) => is_pong(values),
        other => other.as_bytes() == Some(b"PONG"),
    }
}

/// Whether a server has refused a command because of the connection, and would refuse the next one too.
fn is_of_connection(text: &str) -> bool {
    text.starts_with("NOAUTH") || text.starts_with("LOADING")
}

/// The text of an error as a part of one line in a log, which a server cannot break.
fn one_line(text: &str) -> String {
    let shown = text.chars().take(ERROR_CHARS_MAX);
    shown
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
}

/// Whether a server has refused `HELLO` because it does not know it.
fn is_without_resp3(text: &str) -> bool {
    text.starts_with("ERR unknown command") || text.starts_with("NOPROTO")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::redis::REPLY_BYTES_MAX;
    use crate::client::redis::small_server::SmallServer;
    use crate::protocol::resp::ReplyDecoder;
    use SubscriptionKind::{Channel, Pattern};

    const RESP3: &str = "redis://localhost";
    const RESP2: &str = "redis://localhost?protocol=2";

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
                .send(&["ECHO", &done.to_string()], done, timeout, self.now);
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
                assert!(Duration::ZERO < due && due <= PAUSE_MIN, "{name}: {due:?}");
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

    // A server that accepts and ends the connection at once must not be connected to at full speed.
    #[test]
    fn only_a_link_that_lasted_begins_with_short_pauses_again() {
        for (lasts, is_short) in [(millis(9999), false), (STABLE_AFTER, true)] {
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
            let attempts = client.machine.attempts;
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
                assert_eq!(client.answers, [(1, "Bulk([49])".into())]);
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
