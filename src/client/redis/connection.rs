//! One connection to a server: the bytes to send, and the answers that have to come, in their order.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::RedisError;
use super::upstream::SubscriptionKind;
use super::url::RedisUrl;
use crate::protocol::resp::{Reply, encode_command, encode_command_head, encode_word};

/// The time without bytes from the server after which it is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(3);

/// The time without bytes from the server, while it owes an answer, after which it counts as lost.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(8);

/// An answer that has to come.
pub(super) enum Expected<D> {
    Hello,
    /// `AUTH`, `SELECT` and `CLIENT SETNAME` must not fail. The text says what failed.
    Setup(&'static str),
    /// `ROLE`, which must say that the server is a master.
    Role,
    /// The server has worked off everything before.
    Ready,
    /// The `PING` behind a command with names. An error before it is of that command, and takes the names out.
    Names {
        kind: SubscriptionKind,
        is_wanted: bool,
        names: Vec<Box<[u8]>>,
    },
    Ping,
    /// Of the owner. Taken when its time is over.
    Answer(Option<D>, Duration),
}

/// One connection.
pub(super) struct Connection<D> {
    pub(super) is_open: bool,
    /// Names may be subscribed here.
    pub(super) takes_names: bool,
    /// The introduction is over.
    pub(super) is_ready: bool,
    /// Names are asked for again behind the last [`Ready`](Expected::Ready).
    pub(super) asks_again: bool,
    pub(super) expected: VecDeque<Expected<D>>,
    /// No answer is overdue before this time.
    answer_due: Option<Duration>,
    pub(super) heard_at: Duration,
    pub(super) out: Vec<u8>,
}

impl<D> Default for Connection<D> {
    fn default() -> Self {
        Connection {
            is_open: false,
            takes_names: false,
            is_ready: false,
            asks_again: false,
            expected: VecDeque::new(),
            answer_due: None,
            heard_at: Duration::ZERO,
            out: Vec::new(),
        }
    }
}

impl<D> Connection<D> {
    /// Introduces the owner with RESP3.
    pub(super) fn say_hello(&mut self, url: &RedisUrl) {
        let mut words = vec!["HELLO", "3"];
        if let Some(password) = &url.password {
            words.extend(["AUTH", url.user.as_deref().unwrap_or("default"), password]);
        }
        if let Some(name) = &url.client_name {
            words.extend(["SETNAME", name]);
        }
        encode_command(&words, &mut self.out);
        self.expected.push_back(Expected::Hello);
    }

    /// Introduces the owner, where RESP2 is spoken, and selects the database.
    pub(super) fn send_setup(&mut self, url: &RedisUrl, is_resp2: bool) {
        let mut send = |words: &[&str], what| {
            encode_command(words, &mut self.out);
            self.expected.push_back(Expected::Setup(what));
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
    }

    pub(super) fn ask_role(&mut self) {
        encode_command(&["ROLE"], &mut self.out);
        self.expected.push_back(Expected::Role);
    }

    pub(super) fn ask_whether_ready(&mut self) {
        self.asks_again = false;
        self.send_ping(Expected::Ready);
    }

    pub(super) fn send_ping(&mut self, expected: Expected<D>) {
        encode_command(&["PING"], &mut self.out);
        self.expected.push_back(expected);
    }

    /// Sends a command with names, and a `PING` behind it.
    pub(super) fn encode_names(
        &mut self,
        kind: SubscriptionKind,
        is_wanted: bool,
        names: &[Box<[u8]>],
    ) {
        let out = &mut self.out;
        let command = match is_wanted {
            true => kind.subscribe_command(),
            false => kind.unsubscribe_command(),
        };
        encode_command_head(1 + names.len(), out);
        encode_word(command.as_bytes(), out);
        for name in names {
            encode_word(name, out);
        }
        encode_command(&["PING"], out);
        self.expected.push_back(Expected::Names {
            kind,
            is_wanted,
            names: names.to_vec(),
        });
    }

    /// Notes that the answer to a command has to come.
    pub(super) fn expect_answer(&mut self, done: D, due: Duration) {
        self.expected.push_back(Expected::Answer(Some(done), due));
        let earliest = self.answer_due.map_or(due, |other| other.min(due));
        self.answer_due = Some(earliest);
    }

    /// Takes the commands whose time for the answer is over.
    pub(super) fn take_timed_out(&mut self, now: Duration, failed: &mut Vec<(D, RedisError)>) {
        if self.answer_due.is_none_or(|due| now < due) {
            return;
        }
        self.answer_due = None;
        // Commands have different timeouts, so a later one may be due before an earlier one.
        for expected in &mut self.expected {
            match expected {
                Expected::Answer(done, due) if *due <= now => {
                    failed.extend(done.take().map(|done| (done, RedisError::TimedOut)));
                }
                Expected::Answer(Some(_), due) => {
                    let earliest = self.answer_due.map_or(*due, |other| other.min(*due));
                    self.answer_due = Some(earliest);
                }
                _ => {}
            }
        }
    }

    /// The next time at which an answer may be overdue. It may have come since.
    pub(super) fn answer_due(&self) -> Option<Duration> {
        self.answer_due.filter(|_| !self.expected.is_empty())
    }

    /// When the silence of the server is to be looked at. `is_wanted` says whether the connection is being made, where it is
    /// not there.
    pub(super) fn silence_due(&self, is_wanted: bool) -> Option<Duration> {
        match (self.is_open, self.expected.is_empty()) {
            (true, true) => Some(self.heard_at + PING_AFTER),
            (true, false) => Some(self.heard_at + SILENCE_MAX),
            (false, _) => is_wanted.then_some(self.heard_at + SILENCE_MAX),
        }
    }
}

/// The answer to `PING` of a connection with subscriptions.
pub(super) fn is_pong(values: &[Reply<'_>]) -> bool {
    matches!(values.first(), Some(Reply::Bulk(b"pong")))
}

/// The answer to `PING`, of any connection.
pub(super) fn is_answer_to_ping(reply: &Reply<'_>) -> bool {
    match reply {
        Reply::Array(values) => is_pong(values),
        other => other.as_bytes() == Some(b"PONG"),
    }
}

/// The text of a field in the answer to `HELLO`, such as `role`.
pub(super) fn field_in_hello<'b>(reply: &Reply<'b>, name: &str) -> Option<&'b str> {
    let Reply::Map(fields) = reply else {
        return None;
    };
    let mut fields = fields.iter();
    let (_, value) = fields.find(|(field, _)| field.as_bytes() == Some(name.as_bytes()))?;
    value.as_str()
}
