//! `bench echo`: sends messages that must come back.
//!
//! Closed loop: every connection has `--pipeline` messages in flight, and each reply is followed by
//! the next message. Open loop: message `i` of the run is due at `i / rate` and goes to connection
//! `i % connections`, whether or not earlier ones came back; its latency counts from when it was
//! due, so that a stall of the server counts for all messages that were due in it.
//!
//! With `--verify` each message begins with its number on its connection, so that each
//! reply can be told from others. Without it, replies are counted and their lengths checked.

use std::io;

use serde_json::Value;
use waterwheel::{Close, ConnId, ConnMap, Cx, Message, Reactor, WebSocketClientId, Ws};

use super::load::{self, Load, MESSAGES, Run};
use super::payload;
use super::problems::Kind;
use super::report::{Report, counted, rounded};
use super::schedule::{Schedule, Wait};
use super::sequence::{Arrival, Sequence};

/// Hexadecimal digits of a message's number. A shorter message has as many as fit.
const NUMBER_BYTES: usize = 8;

/// Messages of an open loop that are sent before replies are looked at again.
const BURST: u64 = 4096;

#[derive(Debug, PartialEq)]
pub struct Options {
    pub size: usize,
    /// Whether the payload is JSON.
    pub is_json: bool,
    pub pipeline: usize,
    /// Messages per second. `None` is a closed loop.
    pub rate: Option<f64>,
    pub binary: bool,
    pub verify: bool,
}

struct Connection {
    id: ConnId,
    is_open: bool,
    sent: u64,
    /// Messages that came back, and those that were skipped.
    answered: u64,
}

struct Echo {
    run: Run,
    options: Options,
    client: Option<WebSocketClientId>,
    /// The number of each connection.
    numbers: ConnMap<u32>,
    connections: Vec<Connection>,
    sequences: Vec<Sequence>,
    /// The send times of messages in flight, `pipeline` for each connection.
    sent_at: Vec<u64>,
    /// The text that all messages share, behind their number.
    text: String,
    /// The message that is being sent, with `verify`.
    numbered: String,
    sent: u64,
    answered: u64,
    /// The schedule of an open loop.
    schedule: Option<Schedule>,
}

impl Echo {
    fn new(run: Run, options: Options) -> Echo {
        let connections = run.plan.connections;
        let text: String = match options.is_json {
            true => payload::json(options.size),
            false => (0..options.size)
                .map(|index| char::from(b'A' + (index % 57) as u8))
                .collect(),
        };
        let outstanding = match options.rate {
            Some(_) => 0,
            None => connections * options.pipeline,
        };
        Echo {
            client: None,
            numbers: ConnMap::default(),
            connections: Vec::with_capacity(connections),
            sequences: vec![Sequence::default(); if options.verify { connections } else { 0 }],
            sent_at: vec![0; outstanding],
            numbered: String::with_capacity(text.len()),
            text,
            sent: 0,
            answered: 0,
            schedule: options.rate.map(Schedule::new),
            run,
            options,
        }
    }

    #[inline]
    fn connection(&mut self, id: ConnId) -> Option<&mut Connection> {
        let number = *self.numbers.get(id)?;
        self.connections.get_mut(number as usize)
    }

    /// Sends the next message of a connection. Returns whether it was queued.
    #[inline]
    fn send(&mut self, reactor: &mut Reactor<Self>, number: usize, now: u64) -> bool {
        let connection = &mut self.connections[number];
        let text = match self.options.verify {
            false => &self.text,
            true => {
                self.numbered.clear();
                let digits = digits(connection.sent);
                let shown = NUMBER_BYTES.min(self.text.len());
                let digits = str::from_utf8(&digits[..shown]).unwrap_or_default();
                self.numbered.push_str(digits);
                self.numbered.push_str(&self.text[shown..]);
                &self.numbered
            }
        };
        let message = match self.options.binary {
            true => Message::Binary(text.as_bytes()),
            false => Message::Text(text),
        };
        if !reactor.send(connection.id, message).is_queued() {
            return false;
        }
        if self.schedule.is_none() {
            let slot = slot(number, connection.sent, self.options.pipeline);
            self.sent_at[slot] = now;
        }
        connection.sent += 1;
        self.sent += 1;
        true
    }

    #[inline]
    fn receive(&mut self, reactor: &mut Reactor<Self>, id: ConnId, message: Message<'_>) {
        let Some(number) = self.numbers.get(id).map(|number| *number as usize) else {
            return;
        };
        let now = reactor.now().as_nanos() as u64;
        let bytes = message.as_bytes();
        let is_wrong = bytes.len() != self.text.len() || message.is_text() == self.options.binary;
        if is_wrong {
            self.note_length(message);
        }
        let index = match self.options.verify {
            false => self.count_reply(number),
            true => self.verify(number, bytes, is_wrong),
        };
        let Some(index) = index else {
            return;
        };
        let sent_at = match &self.schedule {
            Some(schedule) => schedule.due(index * self.connections.len() as u64 + number as u64),
            None => self.sent_at[slot(number, index, self.options.pipeline)],
        };
        self.run.count(sent_at, now);
        if self.schedule.is_none() && self.run.is_sending() {
            // A reply that skips others makes room for more than one.
            while self.has_room(number) && self.send(reactor, number, now) {}
        }
    }

    #[inline]
    fn has_room(&self, number: usize) -> bool {
        let connection = &self.connections[number];
        connection.sent - connection.answered < self.options.pipeline as u64
    }

    #[cold]
    fn note_length(&mut self, message: Message<'_>) {
        let wanted = kind_of(self.options.binary);
        let found = kind_of(!message.is_text());
        let (size, length) = (self.text.len(), message.as_bytes().len());
        self.run.problems.add(Kind::WrongLength, || {
            format!("{size} bytes of {wanted} came back as {length} bytes of {found}")
        });
    }

    /// Counts a reply, and returns the index of its message: replies come in order. `None` when no
    /// reply is outstanding.
    #[inline]
    fn count_reply(&mut self, number: usize) -> Option<u64> {
        let connection = &mut self.connections[number];
        if connection.answered == connection.sent {
            self.run.problems.add(Kind::Duplicated, || {
                "a reply came without a message: does the server send to all?".to_owned()
            });
            return None;
        }
        connection.answered += 1;
        self.answered += 1;
        Some(connection.answered - 1)
    }

    /// Checks a reply, and returns the index of its message. `None` when no reply was expected.
    /// `is_counted` says that the reply is counted as a problem already; each counts once.
    fn verify(&mut self, number: usize, bytes: &[u8], mut is_counted: bool) -> Option<u64> {
        let connection = &mut self.connections[number];
        let shown = NUMBER_BYTES.min(self.text.len()).min(bytes.len());
        let sequence = &mut self.sequences[number];
        let expected = sequence.next();
        let run = &mut self.run;
        let mut add = |kind, sentence: &dyn Fn() -> String| {
            if !std::mem::replace(&mut is_counted, true) {
                run.problems.add(kind, sentence);
            }
        };
        let index = match bytes[..shown] == digits(expected)[..shown] {
            true => Some(expected),
            false => read_number(&bytes[..shown], expected),
        };
        let is_ours = index.is_some_and(|index| index < connection.sent);
        if !is_ours || bytes.get(shown..) != self.text.as_bytes().get(shown..) {
            add(Kind::Altered, &|| {
                format!("connection {number}: message {expected} came back with other bytes")
            });
        }
        // An unreadable reply is counted in the place of the next one.
        let index = index.filter(|_| is_ours).unwrap_or(expected);
        if connection.sent <= index {
            add(Kind::Duplicated, &|| {
                format!("connection {number}: a reply came without a message")
            });
            return None;
        }
        match sequence.take(index) {
            Arrival::InOrder => connection.answered += 1,
            // Skipped messages are not waited for.
            Arrival::Ahead(passed) => {
                connection.answered += passed + 1;
                self.answered += passed;
            }
            Arrival::Late => {
                add(Kind::Reordered, &|| {
                    format!("connection {number}: message {index} came back after a later one")
                });
                self.run.done += 1;
                return None;
            }
            Arrival::Duplicate => {
                add(Kind::Duplicated, &|| {
                    format!("connection {number}: message {index} came back again")
                });
                return None;
            }
        }
        self.answered += 1;
        Some(index)
    }

    /// Sends the messages of an open loop that are due, and sets a timer for the next.
    fn send_due(cx: &mut Cx<'_, Self>) {
        if !cx.state.run.is_sending() {
            return;
        }
        let now = cx.reactor.now().as_nanos() as u64;
        for _ in 0..BURST {
            let schedule = cx.state.schedule.as_mut();
            let Some((index, due)) = schedule.and_then(|schedule| schedule.take(now)) else {
                break;
            };
            let number = (index % cx.state.connections.len() as u64) as usize;
            cx.state.send(cx.reactor, number, due);
        }
        let Some(schedule) = &cx.state.schedule else {
            return;
        };
        match schedule.wait(now) {
            Wait::InLoop => cx.reactor.next_tick(Self::send_due),
            Wait::Sleep(wait) => {
                cx.reactor.after(wait, Self::send_due);
            }
        }
    }
}

fn kind_of(is_binary: bool) -> &'static str {
    if is_binary { "binary" } else { "text" }
}

#[inline]
fn slot(number: usize, index: u64, pipeline: usize) -> usize {
    match pipeline {
        1 => number,
        _ => number * pipeline + (index % pipeline as u64) as usize,
    }
}

/// The last eight hexadecimal digits of a number, the lowest first, so that a short message holds
/// the digits that change most.
#[inline]
fn digits(number: u64) -> [u8; NUMBER_BYTES] {
    std::array::from_fn(|index| {
        let digit = (number >> (4 * index)) & 15;
        b"0123456789abcdef"[digit as usize]
    })
}

/// The number nearest to `expected` that begins with these digits.
fn read_number(digits: &[u8], expected: u64) -> Option<u64> {
    let mut low = 0;
    for (index, digit) in digits.iter().enumerate() {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        low |= u64::from(digit) << (4 * index);
    }
    let span = 1_u64 << (4 * digits.len());
    let base = expected - expected % span;
    [base.checked_sub(span), Some(base), Some(base + span)]
        .into_iter()
        .flatten()
        .map(|base| base + low)
        .min_by_key(|number| number.abs_diff(expected))
}

impl Load for Echo {
    fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    fn connect(state: &mut Self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()> {
        let Some(client) = state.client else {
            return Ok(());
        };
        let id = reactor.connect_websocket_with(
            client,
            &state.run.plan.url,
            state.run.plan.transport(number),
        )?;
        let connection = Connection {
            id,
            is_open: false,
            sent: 0,
            answered: 0,
        };
        state.numbers.insert(id, number as u32);
        state.connections.push(connection);
        Ok(())
    }

    fn begin(cx: &mut Cx<'_, Self>) {
        let now = cx.reactor.now().as_nanos() as u64;
        if let Some(schedule) = &mut cx.state.schedule {
            schedule.begin(now);
            return Self::send_due(cx);
        }
        for number in 0..cx.state.connections.len() {
            for _ in 0..cx.state.options.pipeline {
                cx.state.send(cx.reactor, number, now);
            }
        }
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        self.schedule.as_mut()
    }

    fn is_complete(&self) -> bool {
        self.sent == self.answered
    }

    fn count_missing(&mut self) {
        for (number, connection) in self.connections.iter().enumerate() {
            let missing = match self.options.verify {
                true => self.sequences[number].missing_of(connection.sent),
                false => connection.sent - connection.answered,
            };
            self.run.problems.add_many(Kind::Lost, missing, || {
                let missing = counted(missing, "message");
                format!("connection {number}: {missing} never came back")
            });
        }
    }

    fn connections(&self) -> Vec<ConnId> {
        self.connections.iter().map(|found| found.id).collect()
    }
}

fn on_close(ws: &mut Ws<'_, Echo>, close: &Close) {
    let connection = ws.state.connection(ws.id);
    let was_open = connection.is_some_and(|connection| std::mem::take(&mut connection.is_open));
    load::closed(ws.state, ws.reactor, was_open, close);
}

/// Runs the load and adds its results to the report.
///
/// # Errors
///
/// When the system cannot create the poll.
pub fn run(run: Run, options: Options, report: &mut Report) -> io::Result<Run> {
    report.parameter("size", options.size);
    if options.is_json {
        report.parameter("payload", "json");
    }
    report.parameter("rate", options.rate.map(rounded));
    let pipeline = options.rate.is_none().then_some(options.pipeline);
    report.parameter("pipeline", pipeline);
    report.parameter("binary", options.binary);
    report.parameter("verify", options.verify);
    let config = load::config(&run, options.size);
    let echo = Echo::new(run, options);
    let mut echo = Reactor::run_with(config, echo, |reactor| {
        let client = reactor.websocket_client(|ws| {
            ws.on_open(|ws, _| {
                if let Some(connection) = ws.state.connection(ws.id) {
                    connection.is_open = true;
                }
                load::opened(ws.state, ws.reactor);
            });
            ws.on_message(|ws, message| ws.state.receive(ws.reactor, ws.id, message));
            ws.on_close(on_close);
        })?;
        reactor.next_tick(move |cx| {
            cx.state.client = Some(client);
            load::start(cx.state, cx.reactor);
        });
        std::io::Result::Ok(())
    })?;
    echo.run.report(Some(&MESSAGES), report);
    report.figure("sent_total", echo.sent);
    report.figure("received_total", echo.run.done);
    if let Some(schedule) = &echo.schedule {
        echo.run.report_lateness(schedule, report);
    }
    report.detail("unanswered", Value::from(echo.sent - echo.answered));
    Ok(echo.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_numbers_of_any_length_are_read_back() {
        for number in [0_u64, 1, 15, 16, 255, 4096, 1 << 33] {
            for shown in 1..=NUMBER_BYTES {
                for expected in [number, number + 3, number.saturating_sub(3)] {
                    let digits = &digits(number)[..shown];
                    assert_eq!(
                        read_number(digits, expected),
                        Some(number),
                        "{number} {shown}"
                    );
                }
            }
        }
        assert_eq!(read_number(b"x", 0), None);
    }
}
