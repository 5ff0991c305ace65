//! `bench idle`: opens and holds connections, and measures what they cost the server.
//!
//! The server's memory is read before the first connection, when all are open, and when each has
//! sent one message, since a server may allocate its buffers only then. The library answers pings.
//! Latencies and rates are those of opening: from the start of each connection until it is open.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;
use waterwheel::{
    Close, ConnId, ConnMap, Cx, Message, Reactor, WebSocketCallbacks, WebSocketClientId, Ws,
};

use super::load::{self, Load, Run};
use super::meter::{OPEN, Series};
use super::problems::Kind;
use super::process::Process;
use super::report::{Report, counted, rounded};

/// The server has this time to free memory after the last connection or reply.
const TIDY_UP_TIME: Duration = Duration::from_millis(300);

/// The longest silence of the server while replies are outstanding.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are sent in one turn, so that the server is not flooded.
const BATCH: usize = 256;

#[derive(Debug, PartialEq)]
pub struct Options {
    /// The message that each connection sends once, or empty to send no message.
    pub send: String,
    /// Whether the server sends it back.
    pub expects_echo: bool,
}

struct Connection {
    /// Read from the clock for each connection: the reactor's time stands still in a callback that
    /// starts many.
    begun_at: Instant,
    is_open: bool,
}

struct Idle {
    run: Run,
    options: Options,
    client: Option<WebSocketClientId>,
    connections: ConnMap<Connection>,
    ids: Vec<ConnId>,
    /// When each connection was opened.
    opened_at: Vec<Duration>,
    sent: usize,
    replies: usize,
    pings: u64,
    last_reply: Duration,
    /// Resident bytes of the server: before the first connection, with all, and after one message on
    /// each.
    memory: [Option<u64>; 3],
}

impl Idle {
    fn resident_bytes(&mut self) -> Option<u64> {
        match self
            .run
            .plan
            .process
            .as_ref()
            .map(Process::resident_bytes)?
        {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                self.run.problems.add(Kind::Machine, || {
                    format!("{why} any more: the server's figures are missing")
                });
                None
            }
        }
    }

    fn count_opening(&mut self, id: ConnId, now: Duration) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_open = true;
            let took = connection.begun_at.elapsed();
            self.run.latencies.record(took.as_nanos() as u64);
            self.opened_at.push(now);
        }
    }

    /// Called some time after all connections were opened.
    fn all_are_open(cx: &mut Cx<'_, Self>) {
        cx.state.memory[1] = cx.state.resident_bytes();
        if cx.state.options.send.is_empty() {
            return load::warm_up(cx);
        }
        cx.state.last_reply = cx.reactor.now();
        Self::send_batch(cx);
    }

    fn send_batch(cx: &mut Cx<'_, Self>) {
        let last = cx.state.ids.len().min(cx.state.sent + BATCH);
        for id in &cx.state.ids[cx.state.sent..last] {
            cx.reactor.send(*id, &cx.state.options.send);
        }
        cx.state.sent = last;
        if last < cx.state.ids.len() {
            cx.reactor.next_tick(Self::send_batch);
        } else {
            Self::await_replies(cx);
        }
    }

    fn await_replies(cx: &mut Cx<'_, Self>) {
        let all = match cx.state.options.expects_echo {
            true => cx.state.ids.len(),
            false => 0,
        };
        let silence = cx.reactor.now().saturating_sub(cx.state.last_reply);
        if cx.state.replies < all && silence < REPLY_TIMEOUT {
            cx.reactor.after(TIDY_UP_TIME / 10, Self::await_replies);
            return;
        }
        let missing = all.saturating_sub(cx.state.replies);
        cx.state
            .run
            .problems
            .add_many(Kind::Lost, missing as u64, || {
                format!(
                    "{missing} of {} got no reply to the one message of each: \
                 for a server that does not echo, --expect nothing",
                    counted(all as u64, "connection")
                )
            });
        cx.reactor.after(TIDY_UP_TIME, |cx| {
            cx.state.memory[2] = cx.state.resident_bytes();
            load::warm_up(cx);
        });
    }

    fn receive(&mut self, now: Duration, message: Message<'_>) {
        self.last_reply = now;
        self.replies += 1;
        if self.options.expects_echo && message.as_bytes() != self.options.send.as_bytes() {
            let wanted = &self.options.send;
            self.run.problems.add(Kind::Altered, || {
                format!("{wanted:?} came back as {message:?}")
            });
        }
    }

    /// The growth of the server's memory for each connection, from before the first to this moment.
    /// Null where it did not grow: the server had given out more before, and uses that again.
    fn bytes_each(&self, moment: usize) -> Value {
        match (self.memory[0], self.memory[moment]) {
            (Some(before), Some(then)) if before <= then => {
                rounded((then as f64 - before as f64) / self.ids.len() as f64)
            }
            _ => Value::Null,
        }
    }
}

impl Load for Idle {
    fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    fn connect(state: &mut Self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()> {
        let Some(client) = state.client else {
            return Ok(());
        };
        let plan = &state.run.plan;
        let begun_at = Instant::now();
        let id = reactor.connect_websocket_with(client, &plan.url, plan.transport(number))?;
        let connection = Connection {
            begun_at,
            is_open: false,
        };
        state.connections.insert(id, connection);
        state.ids.push(id);
        Ok(())
    }

    fn opened(cx: &mut Cx<'_, Self>) {
        cx.reactor.after(TIDY_UP_TIME, Self::all_are_open);
    }

    fn begin(_: &mut Cx<'_, Self>) {}

    fn is_complete(&self) -> bool {
        true
    }

    fn count_missing(&mut self) {}

    fn connections(&self) -> Vec<ConnId> {
        self.ids.clone()
    }
}

fn set_up(ws: &mut WebSocketCallbacks<Idle>) {
    ws.on_open(|ws, _| {
        ws.state.count_opening(ws.id, ws.reactor.now());
        load::opened(ws.state, ws.reactor);
    });
    ws.on_message(|ws, message| ws.state.receive(ws.reactor.now(), message));
    ws.on_ping(|ws, _| ws.state.pings += 1);
    ws.on_close(|ws: &mut Ws<'_, Idle>, close: &Close| {
        let connection = ws.state.connections.get_mut(ws.id);
        let was_open = connection.is_some_and(|found| std::mem::take(&mut found.is_open));
        load::closed(ws.state, ws.reactor, was_open, close);
    });
}

/// Runs the load and adds its results to the report.
///
/// # Errors
///
/// When the system cannot create the poll.
pub fn run(run: Run, options: Options, report: &mut Report) -> io::Result<Run> {
    report.parameter("send", options.send.as_str());
    report.parameter("expects_echo", options.expects_echo);
    let config = load::config(&run, options.send.len());
    let mut idle = Idle {
        run,
        options,
        client: None,
        connections: ConnMap::default(),
        opened_at: Vec::new(),
        ids: Vec::new(),
        sent: 0,
        replies: 0,
        pings: 0,
        last_reply: Duration::ZERO,
        memory: [None; 3],
    };
    idle.memory[0] = idle.resident_bytes();
    let mut idle = Reactor::run_with(config, idle, |reactor| {
        let client = reactor.websocket_client(|ws| set_up(ws))?;
        reactor.next_tick(move |cx| {
            cx.state.client = Some(client);
            load::start(cx.state, cx.reactor);
        });
        std::io::Result::Ok(())
    })?;
    idle.run.series = Series::of(&idle.opened_at);
    idle.run.report(None, report);
    idle.run.latencies.report(&OPEN, report);
    report.figure("pings", idle.pings);
    report.figure("replies", idle.replies);
    let keys = [
        "server_bytes_before",
        "server_bytes_open",
        "server_bytes_after_message",
    ];
    for (key, bytes) in keys.into_iter().zip(idle.memory) {
        report.figure(key, bytes);
    }
    if let [Some(before), Some(open), _] = idle.memory
        && open < before
    {
        let note = "the server's memory shrank while the connections were opened, so there is no figure for a \
                    connection: start the server anew before this load";
        idle.run.notes.push(note.to_owned());
    }
    report.figure("bytes_per_connection", idle.bytes_each(1));
    report.figure("bytes_per_connection_after_message", idle.bytes_each(2));
    Ok(idle.run)
}
