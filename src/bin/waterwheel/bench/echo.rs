//! `bench echo`: messages go out and must come back.
//!
//! Closed loop: every connection has so many messages outstanding, and each reply is followed by
//! the next message. Open loop: message `i` of the run is due at `i / rate` and goes to connection
//! `i % connections`, whether or not earlier ones came back; its latency counts from when it was
//! due, so that a server that stalls is charged for all who would have waited.
//!
//! With `--verify` each message begins with its number on its connection, so that a reply is told
//! from any other. Without, replies are counted and their lengths checked.

use std::io;

use serde_json::Value;
use waterwheel::{Close, ConnId, ConnMap, Core, Cx, Message, Reactor, WebSocketClientId, Ws};

use super::load::{self, Load, MESSAGES, Run};
use super::problems::Kind;
use super::report::{Report, rounded};
use super::schedule::{Schedule, Wait};
use super::sequence::{Place, Sequence};

/// Hexadecimal digits of a message's number, where it is long enough.
const NUMBER_BYTES: usize = 8;

/// Messages of an open loop that are sent before replies are looked at again.
const BURST: u64 = 4096;

#[derive(Debug, PartialEq)]
pub struct Options {
    pub size: usize,
    pub pipeline: usize,
    /// Messages a second; a closed loop without.
    pub rate: Option<f64>,
    pub binary: bool,
    pub verify: bool,
}

struct Connection {
    number: u32,
    is_open: bool,
    sent: u64,
    /// Came back, or will never.
    settled: u64,
}

struct Echo {
    run: Run,
    options: Options,
    client: Option<WebSocketClientId>,
    connections: ConnMap<Connection>,
    /// By number.
    ids: Vec<ConnId>,
    sequences: Vec<Sequence>,
    /// When what is outstanding was sent, `pipeline` for each connection.
    sent_at: Vec<u64>,
    /// What all messages say, behind their number.
    text: String,
    /// The message that is being sent, where each has a number.
    numbered: String,
    sent: u64,
    settled: u64,
    /// Of an open loop.
    schedule: Option<Schedule>,
}

impl Echo {
    fn new(run: Run, options: Options) -> Echo {
        let connections = run.plan.connections;
        let text: String = (0..options.size)
            .map(|index| char::from(b'A' + (index % 57) as u8))
            .collect();
        let outstanding = match options.rate {
            Some(_) => 0,
            None => connections * options.pipeline,
        };
        Echo {
            client: None,
            connections: ConnMap::default(),
            ids: Vec::with_capacity(connections),
            sequences: vec![Sequence::default(); if options.verify { connections } else { 0 }],
            sent_at: vec![0; outstanding],
            numbered: String::with_capacity(text.len()),
            text,
            sent: 0,
            settled: 0,
            schedule: options.rate.map(Schedule::new),
            run,
            options,
        }
    }

    /// Sends the next message of a connection, at a time.
    #[inline]
    fn send(&mut self, reactor: &mut Core<Self>, id: ConnId, now: u64) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let text = match self.options.verify {
            false => &self.text,
            true => {
                self.numbered.clear();
                let digits = digits(connection.sent);
                let shown = NUMBER_BYTES.min(self.text.len());
                self.numbered
                    .push_str(str::from_utf8(&digits[..shown]).unwrap_or_default());
                self.numbered.push_str(&self.text[shown..]);
                &self.numbered
            }
        };
        let message = match self.options.binary {
            true => Message::Binary(text.as_bytes()),
            false => Message::Text(text),
        };
        if !reactor.send(id, message).is_queued() {
            return;
        }
        if self.schedule.is_none() {
            let place = place(connection, connection.sent, self.options.pipeline);
            self.sent_at[place] = now;
        }
        connection.sent += 1;
        self.sent += 1;
    }

    #[inline]
    fn receive(&mut self, reactor: &mut Core<Self>, id: ConnId, message: Message<'_>) {
        let now = reactor.now().as_nanos() as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let bytes = message.as_bytes();
        if bytes.len() != self.text.len() || message.is_text() == self.options.binary {
            let wanted = kind_of(self.options.binary);
            let found = kind_of(!message.is_text());
            let (size, length) = (self.text.len(), bytes.len());
            self.run.problems.add(Kind::WrongLength, || {
                format!("{size} bytes of {wanted} came back as {length} bytes of {found}")
            });
        }
        let mut number = connection.settled;
        if self.options.verify {
            match self.verify(id, bytes) {
                Some(found) => number = found,
                None => return,
            }
        } else if connection.settled == connection.sent {
            self.run.problems.add(Kind::Duplicated, || {
                "a reply came for which nothing was sent: does the server send to all?".to_owned()
            });
            return;
        } else {
            connection.settled += 1;
            self.settled += 1;
        }
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let sent_at = match &self.schedule {
            Some(schedule) => {
                schedule.due(number * self.ids.len() as u64 + u64::from(connection.number))
            }
            None => self.sent_at[place(connection, number, self.options.pipeline)],
        };
        self.run.count(now.saturating_sub(sent_at));
        if self.schedule.is_none() && self.run.is_sending() {
            // More than one where others were passed over.
            while self.has_room(id) {
                self.send(reactor, id, now);
            }
        }
    }

    fn has_room(&self, id: ConnId) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            connection.is_open
                && connection.sent - connection.settled < self.options.pipeline as u64
        })
    }

    /// The number of the message that came back, when it is one that is waited for.
    fn verify(&mut self, id: ConnId, bytes: &[u8]) -> Option<u64> {
        let connection = self.connections.get_mut(id)?;
        let shown = NUMBER_BYTES.min(self.text.len()).min(bytes.len());
        let sequence = &mut self.sequences[connection.number as usize];
        let expected = sequence.next();
        let problems = &mut self.run.problems;
        let who = connection.number;
        let number = match bytes[..shown] == digits(expected)[..shown] {
            true => Some(expected),
            false => read_number(&bytes[..shown], expected),
        };
        let is_ours = number.is_some_and(|number| number < connection.sent);
        if !is_ours || bytes.get(shown..) != self.text.as_bytes().get(shown..) {
            problems.add(Kind::Altered, || {
                format!("connection {who}: message {expected} came back with other bytes")
            });
        }
        // What cannot be read stands for what was to come.
        let number = number.filter(|_| is_ours).unwrap_or(expected);
        if connection.sent <= number {
            problems.add(Kind::Duplicated, || {
                format!("connection {who}: a reply came for which nothing was sent")
            });
            return None;
        }
        match sequence.take(number) {
            Place::Next => connection.settled += 1,
            // Those that were passed over are not waited for.
            Place::Ahead(passed) => {
                connection.settled += passed + 1;
                self.settled += passed;
            }
            Place::Late => {
                problems.add(Kind::Reordered, || {
                    format!("connection {who}: message {number} came back after a later one")
                });
                self.run.done += 1;
                return None;
            }
            Place::Again => {
                problems.add(Kind::Duplicated, || {
                    format!("connection {who}: message {number} came back again")
                });
                return None;
            }
        }
        self.settled += 1;
        Some(number)
    }

    /// Sends what is due in an open loop, and returns when the next is.
    fn keep_rate(cx: &mut Cx<'_, Self>) {
        if !cx.state.run.is_sending() {
            return;
        }
        let now = cx.reactor.now().as_nanos() as u64;
        for _ in 0..BURST {
            let schedule = cx.state.schedule.as_mut();
            let Some((index, due)) = schedule.and_then(|schedule| schedule.take(now)) else {
                break;
            };
            let id = cx.state.ids[(index % cx.state.ids.len() as u64) as usize];
            cx.state.send(cx.reactor, id, due);
        }
        let Some(schedule) = &cx.state.schedule else {
            return;
        };
        match schedule.wait(now) {
            Wait::Awake => cx.reactor.next_tick(Self::keep_rate),
            Wait::Asleep(wait) => {
                cx.reactor.after(wait, Self::keep_rate);
            }
        }
    }
}

fn kind_of(is_binary: bool) -> &'static str {
    if is_binary { "binary" } else { "text" }
}

#[inline]
fn place(connection: &Connection, number: u64, pipeline: usize) -> usize {
    let index = match pipeline {
        1 => 0,
        // Numbers wrap where nobody sees it.
        _ => number as u32 % pipeline as u32,
    };
    connection.number as usize * pipeline + index as usize
}

/// The last eight hexadecimal digits of a number, the lowest first, so that a short message has
/// those that change.
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

    fn connect(state: &mut Self, reactor: &mut Core<Self>, number: usize) -> io::Result<()> {
        let Some(client) = state.client else {
            return Ok(());
        };
        let id = reactor.connect_websocket_of(
            client,
            &state.run.plan.url,
            state.run.plan.source(number),
        )?;
        let connection = Connection {
            number: number as u32,
            is_open: false,
            sent: 0,
            settled: 0,
        };
        state.connections.insert(id, connection);
        state.ids.push(id);
        Ok(())
    }

    fn begin(cx: &mut Cx<'_, Self>) {
        let now = cx.reactor.now().as_nanos() as u64;
        if let Some(schedule) = &mut cx.state.schedule {
            schedule.begin(now);
            return Self::keep_rate(cx);
        }
        for number in 0..cx.state.ids.len() {
            let id = cx.state.ids[number];
            for _ in 0..cx.state.options.pipeline {
                cx.state.send(cx.reactor, id, now);
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.sent == self.settled
    }

    fn judge(&mut self) {
        for (_, connection) in self.connections.iter() {
            let number = connection.number;
            let missing = match self.options.verify {
                true => self.sequences[number as usize].missing_of(connection.sent),
                false => connection.sent - connection.settled,
            };
            self.run.problems.add_many(Kind::Lost, missing, || {
                format!("connection {number}: {missing} messages never came back")
            });
        }
    }

    fn connections(&self) -> Vec<ConnId> {
        self.ids.clone()
    }
}

fn on_close(ws: &mut Ws<'_, Echo>, close: &Close) {
    let connection = ws.state.connections.get_mut(ws.id);
    let was_open = connection.is_some_and(|connection| std::mem::take(&mut connection.is_open));
    load::closed(ws.state, ws.reactor, was_open, close);
}

/// Runs it, and tells what came out.
///
/// # Errors
///
/// When the system gives no poll.
pub fn run(run: Run, options: Options, report: &mut Report) -> io::Result<Run> {
    report.parameter("size", options.size);
    match options.rate {
        Some(rate) => report.parameter("rate", rounded(rate)),
        None => report.parameter("pipeline", options.pipeline),
    }
    report.parameter("binary", options.binary);
    report.parameter("verify", options.verify);
    let config = super::config(options.size);
    let echo = Echo::new(run, options);
    let mut echo = Reactor::run_with(config, echo, |reactor| {
        let client = reactor.websocket_client(|ws| {
            ws.on_open(|ws, _| {
                if let Some(connection) = ws.state.connections.get_mut(ws.id) {
                    connection.is_open = true;
                }
                load::opened(ws.state, ws.reactor);
            });
            ws.on_message(|ws, message| ws.state.receive(ws.reactor, ws.id, message));
            ws.on_close(on_close);
        });
        reactor.next_tick(move |cx| {
            cx.state.client = Some(client);
            load::start(cx.state, cx.reactor);
        });
    })?;
    echo.run.report(Some(&MESSAGES), report);
    report.figure("sent_total", echo.sent);
    report.figure("received_total", echo.run.done);
    if let Some(schedule) = &echo.schedule {
        let late_max = rounded(schedule.late_max as f64 / 1000.0);
        report.figure("sent_late_max_us", late_max);
    }
    report.detail("unanswered", Value::from(echo.sent - echo.settled));
    Ok(echo.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_however_few_their_digits() {
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
