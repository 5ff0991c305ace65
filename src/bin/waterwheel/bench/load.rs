//! The phases that every kind of load goes through, and what is measured of each.
//!
//! ```text
//!   Opening ──▶ WarmUp ──▶ Measuring ──▶ Draining ──▶ Closing
//!      all are open  warmup      seconds     all has come,    gone, or nobody
//!                                            or nothing more  waits any longer
//! ```
//!
//! Only what happens in *Measuring* counts for the figures; the processor time of the server is
//! read at its two ends. *Draining* sends nothing and waits for what is owed, so that a loss is
//! told from an answer that was only late.

mod progress;

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use waterwheel::{Close, ConnId, Cx, Reactor};

use super::meter::{LATENCY, Latencies, Series};
#[cfg(feature = "plot")]
use super::plot::{Captions, Pictures};
use super::problems::{Kind, Problems, tell_close};
use super::process::{Process, ProcessorTime};
use super::report::{Report, rounded};
use super::schedule::Pace;
pub use progress::end_progress;

/// Connections that are being made at the same time at the most.
const AT_ONCE: usize = 256;

/// What is owed by the server may be this long in coming, since the last that came.
const PATIENCE: Duration = Duration::from_secs(5);

/// When all has come, this long for what nobody waits for.
const GRACE: Duration = Duration::from_millis(100);

/// How often it is looked whether a signal came.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The exit code of a program that a signal ends.
const INTERRUPTED: i32 = 130;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Opening,
    WarmUp,
    Measuring,
    Draining,
    Closing,
}

/// What is asked for, whatever the kind of load.
pub struct Plan {
    /// With an address in the place of a name.
    pub url: String,
    /// `HOST:PORT`, for sentences.
    pub address: String,
    pub connections: usize,
    /// Whether all are open before anything else happens.
    pub opens_first: bool,
    pub connect_rate: Option<f64>,
    /// Connect from several addresses of the loopback network, each of which has all the ports.
    pub spreads: bool,
    pub warmup: Duration,
    pub seconds: Duration,
    pub process: Option<Process>,
    /// Whether anything is counted in the measured time.
    pub counts: bool,
    pub shows_progress: bool,
}

impl Plan {
    /// Where the connection of this number connects from.
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        /// Below the ports that a system gives to one address.
        const PER_ADDRESS: usize = 20_000;
        /// Addresses that churn takes in turn.
        const ADDRESSES: usize = 200;
        let last = match (self.spreads, self.opens_first) {
            (false, _) => return None,
            (true, true) => number / PER_ADDRESS,
            (true, false) => number % ADDRESSES,
        };
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + last as u8)))
    }
}

/// What the watched processes and the counters said at one moment.
#[derive(Clone, Copy, Default)]
struct Mark {
    at: Duration,
    done: u64,
    server: Option<ProcessorTime>,
    own: ProcessorTime,
}

/// One run, as far as all kinds have it in common.
pub struct Run {
    pub plan: Plan,
    pub phase: Phase,
    pub latencies: Latencies,
    pub problems: Problems,
    /// What is counted per second: messages, deliveries, rounds.
    pub done: u64,
    /// Connections that are open.
    pub open: usize,
    started: usize,
    opened: usize,
    /// Of connections that are begun.
    pace: Option<Pace>,
    /// A timer waits until the next may be begun.
    is_pace_awaited: bool,
    /// When a connection was begun or came open last.
    last_opening: Duration,
    /// The run ends before its time; what is closed now is closed by us.
    has_given_up: bool,
    /// A signal ended the run before its time.
    is_interrupted: bool,
    began: Mark,
    ended: Mark,
    open_took: Duration,
    /// In the course of the window; of a load that counts nothing, of its opening.
    pub series: Series,
    last_sample: (Duration, u64),
    /// When progress was shown last, and what was open and done until then.
    last_progress: (Duration, usize, u64),
    warm_up_began_at: Duration,
    drained_at: Option<Duration>,
    last_done: (Duration, u64),
}

impl Run {
    pub fn new(plan: Plan) -> Run {
        Run {
            pace: plan.connect_rate.map(Pace::new),
            is_pace_awaited: false,
            plan,
            phase: Phase::Opening,
            latencies: Latencies::new(),
            problems: Problems::default(),
            done: 0,
            open: 0,
            started: 0,
            opened: 0,
            last_opening: Duration::ZERO,
            has_given_up: false,
            is_interrupted: false,
            began: Mark::default(),
            ended: Mark::default(),
            open_took: Duration::ZERO,
            series: Series::default(),
            last_sample: Default::default(),
            last_progress: Default::default(),
            warm_up_began_at: Duration::ZERO,
            drained_at: None,
            last_done: Default::default(),
        }
    }

    /// Whether messages are to be sent.
    #[inline]
    pub fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::WarmUp | Phase::Measuring)
    }

    /// Whether what is closed now is closed by us.
    pub fn is_over(&self) -> bool {
        self.has_given_up || self.phase == Phase::Closing
    }

    #[inline]
    pub fn is_measuring(&self) -> bool {
        self.phase == Phase::Measuring
    }

    /// Counts one, and its latency while that is measured.
    #[inline]
    pub fn count(&mut self, latency_nanos: u64) {
        self.done += 1;
        if self.is_measuring() {
            self.latencies.record(latency_nanos);
        }
    }

    fn mark(&mut self, at: Duration) -> Mark {
        let server = match self.plan.process.as_ref().map(Process::processor_time) {
            Some(Ok(time)) => Some(time),
            Some(Err(why)) => {
                self.problems.add(Kind::Machine, || {
                    format!("{why} any more: the server's figures are missing")
                });
                None
            }
            None => None,
        };
        Mark {
            at,
            done: self.done,
            server,
            own: Process::own().processor_time().unwrap_or_default(),
        }
    }

    /// Whether the run came to its end, so that there are figures.
    pub fn is_measured(&self) -> bool {
        self.began.at < self.ended.at
    }

    /// Adds rates, latencies and processor time; `what` is counted, where something is.
    pub fn report(&mut self, what: Option<&Counted>, report: &mut Report) {
        let done = self.ended.done - self.began.done;
        let elapsed = self.ended.at.saturating_sub(self.began.at).as_secs_f64();
        let own = self.ended.own.since(self.began.own);
        let server = match (self.began.server, self.ended.server) {
            (Some(began), Some(ended)) => Some(ended.since(began)),
            _ => None,
        };
        if let (Some(process), Some(time)) = (&self.plan.process, server)
            && time.total_seconds() == 0.0
            && what.is_some_and(|what| what.visible_from <= done)
        {
            self.problems.add(Kind::Machine, || {
                process.fault("it has used no processor time: is it the server's process?")
            });
        }
        let seconds =
            |of: fn(ProcessorTime) -> f64| server.map_or(Value::Null, |server| rounded(of(server)));
        if self.plan.opens_first {
            report.figure("connections_opened", self.opened);
            report.figure("open_s", rounded(self.open_took.as_secs_f64()));
            let per_second = self.opened as f64 / self.open_took.as_secs_f64();
            report.figure("connects_per_s", rounded(per_second));
        }
        report.figure("elapsed_s", rounded(elapsed));
        report.parameter("interrupted", self.is_interrupted);
        if let Some(what) = what {
            report.figure(what.count, done);
            report.figure(what.per_second, rounded(done as f64 / elapsed));
            self.latencies.report(&LATENCY, report);
        }
        report.figure("server_cpu_s", seconds(ProcessorTime::total_seconds));
        report.figure("server_user_s", seconds(|time| time.user_seconds));
        report.figure("server_system_s", seconds(|time| time.system_seconds));
        if let Some(what) = what {
            let per_cpu_second = |time: ProcessorTime| rounded(done as f64 / time.total_seconds());
            let per_cpu_second = server.map_or(Value::Null, per_cpu_second);
            report.figure(what.per_cpu_second, per_cpu_second);
        }
        report.figure("load_cpu_s", rounded(own.total_seconds()));
        report.figure("load_cpu_share", rounded(own.total_seconds() / elapsed));
        self.series.report(report);
    }

    /// Draws latencies and rates.
    #[cfg(feature = "plot")]
    pub fn plot(&mut self, path: &std::path::Path, captions: Captions) -> Result<(), String> {
        let pictures = Pictures {
            captions,
            latencies: self.latencies.curve(),
            rates: self.series.curve(),
        };
        super::plot::draw(path, &pictures)
    }

    /// Adds the errors, which the last phase may still have brought.
    pub fn report_problems(&self, report: &mut Report) {
        report.figure("errors", self.problems.count());
        report.detail("problems", self.problems.to_json());
    }
}

/// Names of what a kind of load counts.
pub struct Counted {
    pub count: &'static str,
    pub per_second: &'static str,
    pub per_cpu_second: &'static str,
    /// From so many on, the process that did them has used more than the 20 ms of processor time
    /// that the kernel's counting may hide.
    pub visible_from: u64,
}

pub const MESSAGES: Counted = Counted {
    count: "messages",
    per_second: "messages_per_s",
    per_cpu_second: "messages_per_cpu_s",
    visible_from: 100_000,
};

/// A kind of load: the state of its reactor.
pub trait Load: Sized + 'static {
    fn run(&mut self) -> &mut Run;

    /// Begins to make the connection of this number.
    ///
    /// # Errors
    ///
    /// When that cannot even begin.
    fn connect(state: &mut Self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()>;

    /// Everything is open. Calls [`warm_up`], at once or later.
    fn opened(cx: &mut Cx<'_, Self>) {
        warm_up(cx);
    }

    /// Begins to send.
    fn begin(cx: &mut Cx<'_, Self>);

    /// Whether all has come that was sent for.
    fn is_settled(&self) -> bool;

    /// Nothing more is waited for: counts what is missing.
    fn judge(&mut self);

    /// The connections that are to be closed.
    fn connections(&self) -> Vec<ConnId>;
}

/// After this long without an answer to any connection nobody answers; more than the handshake of
/// a WebSocket has, which says it better.
const OPENING_PATIENCE: Duration = Duration::from_secs(12);

/// Shows progress on a terminal, heeds signals, and begins to open connections.
pub fn start<L: Load>(state: &mut L, reactor: &mut Reactor<L>) {
    if let Err(error) = heed_signals(reactor) {
        log::warn!("a signal will end the run without figures: {error}");
    }
    if state.run().plan.shows_progress && io::stderr().is_terminal() {
        reactor.every(Duration::from_millis(250), |cx| {
            let now = cx.reactor.now();
            cx.state.run().show_progress(now);
        });
    }
    reactor.every(Duration::from_secs(1), look_whether_answered);
    if state.run().plan.opens_first {
        open_more(state, reactor);
    } else {
        L::opened(&mut Cx { state, reactor });
    }
}

/// The first signal ends the measuring, and the figures are of what there was until then; a second
/// one ends the program.
fn heed_signals<L: Load>(reactor: &mut Reactor<L>) -> io::Result<()> {
    let came = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&came))?;
        flag::register(signal, Arc::clone(&came))?;
    }
    let mut was_heeded = false;
    reactor.every(SIGNAL_INTERVAL, move |cx| {
        if came.load(Ordering::Relaxed) && !was_heeded {
            was_heeded = true;
            end_early(cx);
        }
    });
    Ok(())
}

fn end_early<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    run.is_interrupted = true;
    match run.phase {
        Phase::Opening | Phase::WarmUp => {
            let (open, wanted) = (run.open, run.plan.connections);
            let sentence = format!(
                "interrupted before anything was measured ({open} of {wanted} connections were open)"
            );
            run.problems.add(Kind::Interrupted, || sentence);
            give_up(run, cx.reactor);
        }
        Phase::Measuring => {
            let measured = (now - run.began.at).as_secs_f64();
            end_progress(&run.plan);
            eprintln!("waterwheel: interrupted: the figures are of {measured:.1} s");
            drain(cx);
        }
        Phase::Draining => {
            let sentence = "interrupted while answers were waited for: none is counted as lost";
            run.problems.add(Kind::Interrupted, || sentence.to_owned());
            end(cx);
        }
        Phase::Closing => cx.reactor.stop(),
    }
}

/// Begins to make as many connections as may be in the making now.
pub fn open_more<L: Load>(state: &mut L, reactor: &mut Reactor<L>) {
    loop {
        let run = state.run();
        let has_room = run.started < run.plan.connections.min(run.opened + AT_ONCE);
        if !has_room || !may_begin(state, reactor, |cx| open_more(cx.state, cx.reactor)) {
            return;
        }
        let run = state.run();
        let number = run.started;
        run.started += 1;
        run.last_opening = reactor.now();
        if let Err(error) = L::connect(state, reactor, number) {
            let run = state.run();
            run.problems.add(Kind::NotOpened, || error.to_string());
            return give_up(run, reactor);
        }
    }
}

/// Whether one more connection may be begun now. Where the rate forbids it, `again` is called when
/// the next may.
pub fn may_begin<L: Load>(
    state: &mut L,
    reactor: &mut Reactor<L>,
    again: fn(&mut Cx<'_, L>),
) -> bool {
    let now = reactor.now().as_nanos() as u64;
    let run = state.run();
    let Some(pace) = &mut run.pace else {
        return true;
    };
    if pace.take(now) {
        return true;
    }
    let wait = pace.wait(now);
    if !std::mem::replace(&mut run.is_pace_awaited, true) {
        reactor.after(wait, move |cx| {
            cx.state.run().is_pace_awaited = false;
            again(cx);
        });
    }
    false
}

/// A connection is open.
pub fn opened<L: Load>(state: &mut L, reactor: &mut Reactor<L>) {
    let run = state.run();
    run.opened += 1;
    run.open += 1;
    run.last_opening = reactor.now();
    if run.phase != Phase::Opening {
        return;
    }
    if run.opened == run.plan.connections {
        run.open_took = reactor.now();
        L::opened(&mut Cx { state, reactor });
    } else {
        open_more(state, reactor);
    }
}

/// A connection is gone, or was never made.
pub fn closed<L: Load>(state: &mut L, reactor: &mut Reactor<L>, was_open: bool, close: &Close) {
    let run = state.run();
    run.open -= usize::from(was_open);
    if run.has_given_up {
        return;
    }
    if run.phase == Phase::Closing {
        if run.open == 0 {
            reactor.stop();
        }
        return;
    }
    let kind = if was_open {
        Kind::Closed
    } else {
        Kind::NotOpened
    };
    let (opened, wanted) = (run.opened, run.plan.connections);
    let sentence = || {
        let why = tell_close(&run.plan.address, close);
        match run.phase {
            Phase::Opening if opened != 0 => format!("{why} ({opened} of {wanted} were open)"),
            _ => why,
        }
    };
    run.problems.add(kind, sentence);
    // There is nothing to measure with fewer, or without any.
    if run.phase == Phase::Opening || run.open == 0 {
        give_up(run, reactor);
    }
}

/// Ends the run before its time; the figures are of what there was.
pub fn give_up<L: Load>(run: &mut Run, reactor: &mut Reactor<L>) {
    if run.phase == Phase::Measuring {
        run.ended = run.mark(reactor.now());
    }
    run.has_given_up = true;
    reactor.stop();
}

/// An event stream has no handshake with a deadline of its own.
fn look_whether_answered<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    let is_waiting = run.phase == Phase::Opening && run.opened < run.started;
    if is_waiting && OPENING_PATIENCE < now - run.last_opening {
        let (address, opened, wanted) = (&run.plan.address, run.opened, run.plan.connections);
        let sentence = format!(
            "{address} takes connections and does not answer ({opened} of {wanted} were open)"
        );
        run.problems.add(Kind::NotOpened, || sentence);
        give_up(run, cx.reactor);
    }
}

/// Begins to send, and to measure when that is warm.
pub fn warm_up<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    run.phase = Phase::WarmUp;
    run.warm_up_began_at = now;
    let warmup = run.plan.warmup;
    L::begin(cx);
    cx.reactor.after(warmup, measure);
}

fn measure<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    run.phase = Phase::Measuring;
    run.began = run.mark(now);
    run.last_sample = (now, run.done);
    let seconds = run.plan.seconds;
    run.series = Series::over(seconds);
    let interval = run.series.interval;
    cx.reactor.every(interval, |cx| {
        let now = cx.reactor.now();
        let run = cx.state.run();
        if run.phase == Phase::Measuring {
            let (before, done) = std::mem::replace(&mut run.last_sample, (now, run.done));
            let rate = (run.done - done) as f64 / (now - before).as_secs_f64();
            run.series.rates.push(rate);
        }
    });
    cx.reactor.after(seconds, drain);
}

fn drain<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    // A signal may have ended it before its time.
    if run.phase != Phase::Measuring {
        return;
    }
    run.phase = Phase::Draining;
    run.ended = run.mark(now);
    run.last_done = (now, run.done);
    cx.reactor
        .every(Duration::from_millis(10), look_whether_drained);
}

fn look_whether_drained<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let is_settled = cx.state.is_settled();
    let run = cx.state.run();
    if run.phase != Phase::Draining {
        return;
    }
    if run.last_done.1 != run.done {
        run.last_done = (now, run.done);
    }
    if is_settled {
        run.drained_at.get_or_insert(now);
    }
    let is_over = run.drained_at.is_some_and(|at| GRACE < now - at);
    if is_over || PATIENCE < now - run.last_done.0 {
        close(cx);
    }
}

fn close<L: Load>(cx: &mut Cx<'_, L>) {
    cx.state.judge();
    end(cx);
}

fn end<L: Load>(cx: &mut Cx<'_, L>) {
    cx.state.run().phase = Phase::Closing;
    for id in cx.state.connections() {
        cx.reactor.close(id);
    }
    if cx.state.run().open == 0 {
        cx.reactor.stop();
    }
    // Who does not answer our goodbye is not waited for.
    cx.reactor.after(PATIENCE, |cx| cx.reactor.stop());
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn plan(connections: usize) -> Plan {
        Plan {
            url: "ws://127.0.0.1:9/".to_owned(),
            address: "127.0.0.1:9".to_owned(),
            connections,
            opens_first: true,
            connect_rate: None,
            spreads: false,
            warmup: Duration::from_secs(1),
            seconds: Duration::from_secs(5),
            process: None,
            counts: true,
            shows_progress: false,
        }
    }

    #[test]
    fn each_source_address_has_at_most_as_many_connections_as_ports() {
        let mut plan = plan(100_000);
        assert_eq!(plan.source(99_999), None);
        plan.spreads = true;
        let sources = [0, 19_999, 20_000, 99_999].map(|number| plan.source(number));
        let expected = [1, 1, 2, 5].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        assert_eq!(sources, expected);
        // Churn leaves ports behind that are not free for a minute, at every address alike.
        plan.opens_first = false;
        let sources = [0, 1, 199, 200].map(|number| plan.source(number));
        let expected = [1, 2, 200, 1].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        assert_eq!(sources, expected);
    }
}
