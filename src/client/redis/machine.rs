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
    /// A name that was [pending](Held::Pending) is subscribed.
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
    /// Names were subscribed before it, unless an error has come for them.
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
            expected: VecDeque::new(),
            heard_at: Duration::ZERO,
            out: Vec::new(),
        }
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
            self.events.push_back(Event::Subscribed(kind, name.into()));
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
            let (kind, names, text) = (*kind, std::mem::take(names), text.to_string());
            for name in names {
                self.upstream.refuse(kind, &name);
                let refused = Event::Refused(kind, name, text.clone());
                self.events.push_back(refused);
            }
            return Heard::Nothing;
        }
        let Some(expected) = connection.expected.pop_front() else {
            let why = error.map_or_else(|| "an answer without a question".into(), String::from);
            self.lose(why, now);
            return Heard::Nothing;
        };
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
                Some(text) => self.lose(text.into_owned(), now),
            },
            Expected::Setup(what) => {
                if let Some(text) = error {
                    self.lose(format!("{what}: {text}"), now);
                }
            }
            Expected::Ready => match error {
                Some(text) => self.lose(text.into_owned(), now),
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
        self.upstream.hold(kind, name)
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
        let connection = self.connection(lane);
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
                let connection = self.subscriber();
                let out = &mut connection.out;
                encode_command_head(1 + names.len(), out);
                encode_word(command.as_bytes(), out);
                for name in names {
                    encode_word(name, out);
                }
                encode_command(&["PING"], out);
                let expected = Expected::Names(kind, names.to_vec());
                connection.expected.push_back(expected);
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

/// Whether a server has refused `HELLO` because it does not know it.
fn is_without_resp3(text: &str) -> bool {
    text.starts_with("ERR unknown command") || text.starts_with("NOPROTO")
}
