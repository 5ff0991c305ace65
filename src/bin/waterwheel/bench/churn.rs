//! `bench churn`: connects, upgrades, echoes one message, closes; and repeats. Or it closes after the handshake of TLS.
//!
//! `--connections` rounds are under way at the same time, and `--connect-rate` limits how many start
//! per second.

use std::io;

use waterwheel::{
    Close, ConnId, ConnMap, Cx, Message, Reactor, WebSocketCallbacks, WebSocketClientId,
};

use super::load::{self, Counted, Load, Run};
use super::meter::{FIRST_BYTE, Latencies};
use super::payload::filling;
use super::problems::{Kind, describe_close};
use super::report::Report;

/// The run gives up after so many connections that could not be opened.
const FAILURES_MAX: u64 = 100;

const ROUNDS: Counted = Counted {
    count: "rounds",
    per_second: "rounds_per_s",
    per_cpu_second: "rounds_per_cpu_s",
    visible_from: 10_000,
};

#[derive(Debug, PartialEq)]
pub struct Options {
    /// Connections at the same time.
    pub connections: usize,
    pub size: usize,
    pub until: Until,
    /// Whether sessions of TLS are resumed.
    pub resumes: bool,
}

/// How far a round goes before it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The connection is open: over TLS, the handshake is done.
    Handshake,
    /// A message has come back.
    Echo,
}

struct Connection {
    begun_at: u64,
    is_open: bool,
    has_reply: bool,
}

struct Churn {
    run: Run,
    options: Options,
    client: Option<WebSocketClientId>,
    connections: ConnMap<Connection>,
    /// Connections started so far. The number chooses the source address of the next.
    begun: usize,
    under_way: usize,
    first_byte: Latencies,
    text: String,
}

impl Churn {
    /// Starts as many connections as `--connections` and the rate allow now.
    fn begin_more(&mut self, reactor: &mut Reactor<Self>) {
        let Some(client) = self.client else {
            return;
        };
        while self.run.is_sending()
            && !self.run.is_over()
            && self.under_way < self.options.connections
            && load::may_begin(self, reactor, |cx| cx.state.begin_more(cx.reactor))
        {
            self.begin_one(reactor, client);
        }
    }

    fn begin_one(&mut self, reactor: &mut Reactor<Self>, client: WebSocketClientId) {
        let number = self.begun;
        self.begun += 1;
        let plan = &self.run.plan;
        let made = match self.options.until {
            Until::Echo => {
                reactor.connect_websocket_with(client, &plan.url, plan.transport(number))
            }
            Until::Handshake => reactor.connect_stream(plan.connect_options(number), |stream| {
                stream.on_open(|stream| stream.state.shaken(stream.reactor, stream.id));
                stream.on_close(|stream, close| {
                    stream.state.closed(stream.reactor, stream.id, close);
                });
            }),
        };
        match made {
            Ok(id) => {
                self.under_way += 1;
                let connection = Connection {
                    begun_at: reactor.now().as_nanos() as u64,
                    is_open: false,
                    has_reply: false,
                };
                self.connections.insert(id, connection);
            }
            Err(error) => {
                let why = || error.to_string();
                self.run.problems.add(Kind::NotOpened, why);
                load::give_up(&mut self.run, reactor);
            }
        }
    }

    fn opened(&mut self, reactor: &mut Reactor<Self>, id: ConnId) {
        let now = reactor.now().as_nanos() as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.is_open = true;
        self.run.open += 1;
        if self.run.is_measuring() {
            let waited = now.saturating_sub(connection.begun_at);
            self.first_byte.record(waited);
        }
        reactor.send(id, &self.text);
    }

    /// The connection is open, and that was all.
    fn shaken(&mut self, reactor: &mut Reactor<Self>, id: ConnId) {
        let now = reactor.now().as_nanos() as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        (connection.is_open, connection.has_reply) = (true, true);
        self.run.open += 1;
        if self.run.is_measuring() {
            let waited = now.saturating_sub(connection.begun_at);
            self.first_byte.record(waited);
        }
        reactor.close(id);
    }

    fn receive(&mut self, reactor: &mut Reactor<Self>, id: ConnId, message: Message<'_>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut connection.has_reply, true) {
            self.run.problems.add(Kind::Duplicated, || {
                "a second reply came to one message: does the server send to all?".to_owned()
            });
        }
        if message.as_bytes() != self.text.as_bytes() {
            self.run.problems.add(Kind::Altered, || {
                format!("{:?} came back as {message:?}", self.text)
            });
        }
        reactor.close(id);
    }

    fn closed(&mut self, reactor: &mut Reactor<Self>, id: ConnId, close: &Close) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        self.under_way -= 1;
        self.run.open -= usize::from(connection.is_open);
        if self.run.is_over() {
            if self.under_way == 0 {
                reactor.stop();
            }
            return;
        }
        // Only WebSockets have a closing handshake.
        let was_clean = close.was_clean || self.options.until == Until::Handshake;
        if connection.has_reply && was_clean {
            let now = reactor.now().as_nanos() as u64;
            self.run.count(connection.begun_at, now);
        } else {
            let kind = match connection.is_open {
                true => Kind::Closed,
                false => Kind::NotOpened,
            };
            let address = &self.run.plan.address;
            self.run
                .problems
                .add(kind, || describe_close(address, close));
            // A refusal comes at once, so the load would try again without a pause.
            if FAILURES_MAX <= self.run.problems.count_of(Kind::NotOpened) {
                return load::give_up(&mut self.run, reactor);
            }
        }
        self.begin_more(reactor);
    }
}

impl Load for Churn {
    fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    fn connect(_: &mut Self, _: &mut Reactor<Self>, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn begin(cx: &mut Cx<'_, Self>) {
        cx.state.begin_more(cx.reactor);
    }

    fn is_complete(&self) -> bool {
        self.under_way == 0
    }

    fn count_missing(&mut self) {
        let under_way = self.under_way as u64;
        self.run.problems.add_many(Kind::Lost, under_way, || {
            format!("{under_way} rounds did not end")
        });
    }

    fn connections(&self) -> Vec<ConnId> {
        self.connections.iter().map(|(id, _)| id).collect()
    }
}

fn set_up(ws: &mut WebSocketCallbacks<Churn>) {
    ws.on_open(|ws, _| ws.state.opened(ws.reactor, ws.id));
    ws.on_message(|ws, message| ws.state.receive(ws.reactor, ws.id, message));
    ws.on_close(|ws, close| ws.state.closed(ws.reactor, ws.id, close));
}

/// Runs the load and adds its results to the report.
///
/// # Errors
///
/// When the system cannot create the poll.
pub fn run(run: Run, options: Options, report: &mut Report) -> io::Result<Run> {
    match options.until {
        Until::Echo => report.parameter("size", options.size),
        Until::Handshake => report.parameter("until", "handshake"),
    }
    let config = load::config(&run, options.size);
    let churn = Churn {
        run,
        client: None,
        connections: ConnMap::default(),
        begun: 0,
        under_way: 0,
        first_byte: Latencies::new(),
        text: filling(options.size),
        options,
    };
    let mut churn = Reactor::run_with(config, churn, |reactor| {
        let client = reactor.websocket_client(|ws| set_up(ws))?;
        reactor.next_tick(move |cx| {
            cx.state.client = Some(client);
            load::start(cx.state, cx.reactor);
        });
        std::io::Result::Ok(())
    })?;
    churn.run.report(Some(&ROUNDS), report);
    churn.first_byte.report(&FIRST_BYTE, report);
    report.figure("rounds_total", churn.run.done);
    report.figure("connections_begun", churn.begun);
    Ok(churn.run)
}
