//! Takes a load through its phases, and measures what happens in them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use waterwheel::{Close, Config, ConnId, Cx, Reactor, websocket};

use super::meter::{LATENCY, Latencies, Series};
use super::phase::Phase;
use super::plan::Plan;
#[cfg(feature = "plot")]
use super::plot::{Captions, Pictures};
use super::problems::{Kind, Problems, describe_close};
use super::process::{Process, ProcessorTime};
use super::progress::{self, Line, Moment, Progress};
use super::report::{Report, rounded};
use super::schedule::{Pace, Schedule};

/// Connections whose handshakes are under way at the same time, at most.
const CONNECTING_MAX: usize = 256;

/// The longest silence of the server while replies are outstanding.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// After the last reply, unexpected messages are waited for this long.
const UNEXPECTED_WAIT: Duration = Duration::from_millis(100);

/// How often the line of progress is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How often the flag that a signal sets is checked.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// A message that is sent this long after it was due makes a load late. A timer is late by a
/// millisecond or two on an idle machine.
const LATE_MIN: Duration = Duration::from_millis(10);

/// The exit code of a program that a signal ends.
const INTERRUPTED: i32 = 130;

/// Processor times and counters at one moment.
#[derive(Clone, Copy, Default)]
struct Snapshot {
    at: Duration,
    done: u64,
    server: Option<ProcessorTime>,
    own: ProcessorTime,
}

/// The part of a run's state that all kinds of load share.
pub struct Run {
    pub plan: Plan,
    pub phase: Phase,
    pub latencies: Latencies,
    pub problems: Problems,
    /// Sentences that a reader of the figures has to know, and that are no fault of the server.
    pub notes: Vec<String>,
    /// Messages, deliveries or rounds.
    pub done: u64,
    /// Connections that are open.
    pub open: usize,
    started: usize,
    opened: usize,
    /// Limits the rate at which connections are started.
    pace: Option<Pace>,
    /// Whether a timer is set for the next connection that may be started.
    is_pace_awaited: bool,
    /// When a connection was last started or opened.
    last_opening: Duration,
    /// The run ends early, so connections that close now were closed by us.
    has_given_up: bool,
    /// A signal ended the run early.
    is_interrupted: bool,
    /// When a message was due at the earliest to be counted while measuring, in nanoseconds. In an
    /// open loop what the warm-up could not send is sent late, and is no part of the measuring.
    counts_from: u64,
    /// Messages that came while measuring and were due before.
    left_over: u64,
    began: Snapshot,
    ended: Snapshot,
    open_took: Duration,
    /// Rates while measuring, or while opening for a load that counts nothing.
    pub series: Series,
    last_sample: (Duration, u64),
    progress: Progress,
    warm_up_began_at: Duration,
    drained_at: Option<Duration>,
    last_done: (Duration, u64),
}

impl Run {
    pub fn new(plan: Plan) -> Run {
        Run {
            pace: plan.connect_rate.map(Pace::new),
            progress: Progress::new(&plan),
            is_pace_awaited: false,
            plan,
            phase: Phase::Opening,
            latencies: Latencies::new(),
            problems: Problems::default(),
            notes: Vec::new(),
            done: 0,
            open: 0,
            started: 0,
            opened: 0,
            last_opening: Duration::ZERO,
            has_given_up: false,
            is_interrupted: false,
            counts_from: 0,
            left_over: 0,
            began: Snapshot::default(),
            ended: Snapshot::default(),
            open_took: Duration::ZERO,
            series: Series::default(),
            last_sample: Default::default(),
            warm_up_began_at: Duration::ZERO,
            drained_at: None,
            last_done: Default::default(),
        }
    }

    /// Whether messages are sent in this phase.
    #[inline]
    pub fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::WarmUp | Phase::Measuring)
    }

    /// Whether a connection that closes now was closed by us.
    pub fn is_over(&self) -> bool {
        self.has_given_up || self.phase == Phase::Closing
    }

    #[inline]
    pub fn is_measuring(&self) -> bool {
        self.phase == Phase::Measuring
    }

    /// Counts a message that came at `now`, and records its latency while measuring. `begun_at` is
    /// when it was sent, or was due in an open loop. Both are in nanoseconds.
    #[inline]
    pub fn count(&mut self, begun_at: u64, now: u64) {
        self.done += 1;
        if self.is_measuring() {
            if self.counts_from <= begun_at {
                self.latencies.record(now.saturating_sub(begun_at));
            } else {
                self.left_over += 1;
            }
        }
    }

    /// The messages that count: all but those left over from the warm-up.
    fn counted(&self) -> u64 {
        self.done - self.left_over
    }

    /// Adds what was counted since the last sample to the series.
    fn sample(&mut self, now: Duration) {
        let counted = self.counted();
        let (before, last) = std::mem::replace(&mut self.last_sample, (now, counted));
        let since_begin = |at: Duration| at.saturating_sub(self.began.at);
        self.series
            .add(since_begin(before), since_begin(now), counted - last);
    }

    fn snapshot(&mut self, at: Duration) -> Snapshot {
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
        Snapshot {
            at,
            done: self.counted(),
            server,
            own: Process::own().processor_time().unwrap_or_default(),
        }
    }

    /// The line of progress at this moment.
    fn progress_line(&mut self, now: Duration) -> Line {
        let moment = Moment {
            at: now,
            phase: self.phase,
            open: self.open,
            opened: self.opened,
            done: self.done,
            errors: self.problems.count(),
            left: self.left(now),
        };
        self.progress.line(moment)
    }

    /// How long it takes until measuring ends, where that is known.
    fn left(&self, now: Duration) -> Option<Duration> {
        let Plan {
            warmup, seconds, ..
        } = self.plan;
        match self.phase {
            Phase::Opening => {
                let missing = self.plan.connections.saturating_sub(self.opened);
                let opening = match (missing, self.plan.connect_rate) {
                    (0, _) => Duration::ZERO,
                    (missing, Some(rate)) => Duration::from_secs_f64(missing as f64 / rate),
                    // The time depends on the server.
                    (_, None) => return None,
                };
                Some(opening + warmup + seconds)
            }
            Phase::WarmUp => {
                let warm_at = self.warm_up_began_at + warmup;
                Some(warm_at.saturating_sub(now) + seconds)
            }
            Phase::Measuring => Some((self.began.at + seconds).saturating_sub(now)),
            // The time depends on the server.
            Phase::Draining | Phase::Closing => None,
        }
    }

    /// Whether the run was measured, so that there is a report.
    pub fn is_measured(&self) -> bool {
        self.began.at < self.ended.at
    }

    /// Adds rates, latencies and processor time to the report. `what` names the counted things, where
    /// the load counts any.
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

    /// Adds how late messages of an open loop were sent, and a note where that spoils the figures.
    pub fn report_lateness(&mut self, schedule: &Schedule, report: &mut Report) {
        let late = Duration::from_nanos(schedule.late_max);
        report.figure("sent_late_max_us", rounded(late.as_secs_f64() * 1e6));
        if LATE_MIN <= late {
            self.notes.push(format!(
                "the load itself was late: a message was sent {} ms after it was due. The latencies \
                 contain this delay; use a lower --rate, or leave the load more processor time",
                late.as_millis()
            ));
        }
    }

    /// Adds the problems. Called last, since closing may bring more.
    pub fn report_problems(&self, report: &mut Report) {
        report.figure("errors", self.problems.count());
        report.detail("problems", self.problems.to_json());
        report.detail("notes", self.notes.clone());
    }
}

/// The names that the report uses for what a load counts.
pub struct Counted {
    pub count: &'static str,
    pub per_second: &'static str,
    pub per_cpu_second: &'static str,
    /// From this count on, the server must have used more than 20 ms of processor time, the
    /// precision of the kernel's figures.
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

    /// Starts to connect the connection with this number.
    ///
    /// # Errors
    ///
    /// When the connect fails at once.
    fn connect(state: &mut Self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()>;

    /// Called when all connections are open. Calls [`warm_up`], at once or later.
    fn opened(cx: &mut Cx<'_, Self>) {
        warm_up(cx);
    }

    /// Starts to send.
    fn begin(cx: &mut Cx<'_, Self>);

    /// The schedule of an open loop.
    fn schedule(&mut self) -> Option<&mut Schedule> {
        None
    }

    /// Whether every expected reply has come.
    fn is_complete(&self) -> bool;

    /// Called at the end of draining: counts replies that did not come as lost.
    fn count_missing(&mut self);

    /// The connections to close at the end.
    fn connections(&self) -> Vec<ConnId>;

    /// Called when the connections are closed at the end, for what else the load has open.
    fn end(&mut self, reactor: &mut Reactor<Self>) {
        let _ = reactor;
    }
}

/// The run gives up when no connection was opened for this long. Longer than the deadline of a
/// WebSocket handshake, whose error is more precise.
const OPENING_TIMEOUT: Duration = Duration::from_secs(12);

/// Shows progress on a terminal, handles signals, and starts to open connections.
pub fn start<L: Load>(state: &mut L, reactor: &mut Reactor<L>) {
    if let Err(error) = handle_signals(reactor) {
        log::warn!("a signal will end the run without a report: {error}");
    }
    if progress::is_shown(&state.run().plan) {
        reactor.every(PROGRESS_INTERVAL, |cx| {
            let now = cx.reactor.now();
            progress::show(&cx.state.run().progress_line(now));
        });
    }
    reactor.every(Duration::from_secs(1), check_opening);
    if state.run().plan.opens_first {
        open_more(state, reactor);
    } else {
        L::opened(&mut Cx::new(state, reactor));
    }
}

/// The first signal ends the measuring early, and the report is of the time until then; a second
/// one ends the program.
fn handle_signals<L: Load>(reactor: &mut Reactor<L>) -> io::Result<()> {
    let has_come = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&has_come))?;
        flag::register(signal, Arc::clone(&has_come))?;
    }
    let mut was_handled = false;
    reactor.every(SIGNAL_INTERVAL, move |cx| {
        if has_come.load(Ordering::Relaxed) && !was_handled {
            was_handled = true;
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
            progress::clear(&run.plan);
            eprintln!("waterwheel: interrupted: the figures are of {measured:.1} s");
            drain(cx);
        }
        Phase::Draining => {
            let sentence = "interrupted while answers were waited for: none is counted as lost";
            run.problems.add(Kind::Interrupted, || sentence.to_owned());
            close_connections(cx);
        }
        Phase::Closing => cx.reactor.stop(),
    }
}

/// Starts as many connections as [`CONNECTING_MAX`] and the rate allow now.
pub fn open_more<L: Load>(state: &mut L, reactor: &mut Reactor<L>) {
    loop {
        let run = state.run();
        let has_room = run.started < run.plan.connections.min(run.opened + CONNECTING_MAX);
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

/// Whether one more connection may be started now. Where the rate forbids it, `again` is called
/// when the next may.
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

/// Called when a connection is open.
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
        L::opened(&mut Cx::new(state, reactor));
    } else {
        open_more(state, reactor);
    }
}

/// Called when a connection has ended, or could not be opened.
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
        let why = describe_close(&run.plan.address, close);
        match run.phase {
            Phase::Opening if opened != 0 => format!("{why} ({opened} of {wanted} were open)"),
            _ => why,
        }
    };
    run.problems.add(kind, sentence);
    // A load with fewer connections than asked for, or with none, would measure something else.
    if run.phase == Phase::Opening || run.open == 0 {
        give_up(run, reactor);
    }
}

/// Ends the run early; the report is of the time until now.
pub fn give_up<L: Load>(run: &mut Run, reactor: &mut Reactor<L>) {
    if run.phase == Phase::Measuring {
        let now = reactor.now();
        run.ended = run.snapshot(now);
        run.sample(now);
        run.series.finish(now - run.began.at);
    }
    run.has_given_up = true;
    reactor.stop();
}

/// Gives up when the server accepts connections and does not answer. An event stream needs this:
/// unlike a WebSocket handshake it has no deadline of its own.
fn check_opening<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    let is_waiting = run.phase == Phase::Opening && run.opened < run.started;
    if is_waiting && OPENING_TIMEOUT < now - run.last_opening {
        let (address, opened, wanted) = (&run.plan.address, run.opened, run.plan.connections);
        let sentence = format!(
            "{address} accepts connections and does not answer ({opened} of {wanted} were open)"
        );
        run.problems.add(Kind::NotOpened, || sentence);
        give_up(run, cx.reactor);
    }
}

/// Starts to send, and to measure after the warm-up.
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
    let is_open_loop = cx.state.schedule().is_some_and(|schedule| {
        schedule.measure_from(now.as_nanos() as u64);
        true
    });
    let run = cx.state.run();
    run.phase = Phase::Measuring;
    run.began = run.snapshot(now);
    if is_open_loop {
        run.counts_from = now.as_nanos() as u64;
    }
    run.last_sample = (now, run.counted());
    let seconds = run.plan.seconds;
    run.series = Series::over(seconds);
    let interval = run.series.interval;
    cx.reactor.every(interval, |cx| {
        let now = cx.reactor.now();
        let run = cx.state.run();
        if run.phase == Phase::Measuring {
            run.sample(now);
        }
    });
    cx.reactor.after(seconds, drain);
}

fn drain<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let run = cx.state.run();
    // A signal may have ended the measuring before the timer.
    if run.phase != Phase::Measuring {
        return;
    }
    run.phase = Phase::Draining;
    run.ended = run.snapshot(now);
    run.sample(now);
    run.series.finish(now - run.began.at);
    run.last_done = (now, run.done);
    cx.reactor.every(Duration::from_millis(10), check_drained);
}

fn check_drained<L: Load>(cx: &mut Cx<'_, L>) {
    let now = cx.reactor.now();
    let is_complete = cx.state.is_complete();
    let run = cx.state.run();
    if run.phase != Phase::Draining {
        return;
    }
    if run.last_done.1 != run.done {
        run.last_done = (now, run.done);
    }
    if is_complete {
        run.drained_at.get_or_insert(now);
    }
    let is_over = run.drained_at.is_some_and(|at| UNEXPECTED_WAIT < now - at);
    if is_over || REPLY_TIMEOUT < now - run.last_done.0 {
        end_draining(cx);
    }
}

fn end_draining<L: Load>(cx: &mut Cx<'_, L>) {
    cx.state.count_missing();
    close_connections(cx);
}

fn close_connections<L: Load>(cx: &mut Cx<'_, L>) {
    cx.state.run().phase = Phase::Closing;
    for id in cx.state.connections() {
        cx.reactor.close(id);
    }
    cx.state.end(cx.reactor);
    if cx.state.run().open == 0 {
        cx.reactor.stop();
    }
    // The run ends although the server has not answered every close frame by then.
    cx.reactor.after(REPLY_TIMEOUT, |cx| cx.reactor.stop());
}

/// A configuration whose limits do not affect a load with messages of `size` bytes, with the compression of the plan.
pub fn config(run: &Run, size: usize) -> Config {
    let message_bytes_max = (2 * size).max(64 * 1024 * 1024);
    let mut config = Config::default();
    config.options.websocket = websocket::Limits {
        frame_bytes_max: message_bytes_max,
        message_bytes_max,
        fragments_max: None,
    };
    config.options.deflate = run.plan.deflate;
    config.options.queue_high_bytes = usize::MAX / 2;
    // A busy server may be silent for long. The load itself notices missing replies.
    config.options.ping_interval = None;
    config.slow_callback = Duration::from_secs(1);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: usize) -> Plan {
        Plan {
            url: "ws://127.0.0.1:9/".to_owned(),
            address: "127.0.0.1:9".to_owned(),
            connections,
            opens_first: true,
            connect_rate: None,
            deflate: websocket::Deflate::None,
            tls: None,
            proxy: None,
            spreads: false,
            warmup: Duration::from_secs(1),
            seconds: Duration::from_secs(5),
            process: None,
            counts: true,
            shows_progress: false,
        }
    }

    /// The line at a time in milliseconds.
    fn line(run: &mut Run, now: u64) -> String {
        run.progress_line(Duration::from_millis(now)).to_string()
    }

    #[test]
    fn progress_counts_the_unit_of_each_phase() {
        let mut run = Run::new(plan(1000));
        (run.open, run.opened) = (120, 120);
        assert_eq!(
            line(&mut run, 250),
            "opening: 120 of 1000 connections, 480/s, 0 errors"
        );
        (run.open, run.opened) = (130, 130);
        assert_eq!(
            line(&mut run, 500),
            "opening: 130 of 1000 connections, 40/s, 0 errors"
        );
        // All are open, and the load does not send yet: a fan-out waits for the subscriptions.
        (run.open, run.opened) = (1000, 1000);
        let text = line(&mut run, 750);
        assert!(text.ends_with("3480/s, 0 errors, 6 s left"), "{text}");

        run.phase = Phase::WarmUp;
        run.warm_up_began_at = Duration::from_millis(900);
        run.done = 500;
        run.problems.add(Kind::Lost, String::new);
        assert_eq!(
            line(&mut run, 1000),
            "warming up: 1000 connections, 2000/s, 1 error, 6 s left"
        );
        let text = line(&mut run, 1900);
        assert!(text.ends_with(", 0/s, 1 error, 5 s left"), "{text}");

        run.phase = Phase::Measuring;
        run.began.at = Duration::from_millis(1900);
        run.done = 1500;
        assert_eq!(
            line(&mut run, 2900),
            "measuring: 1000 connections, 1000/s, 1 error, 4 s left"
        );
        run.phase = Phase::Draining;
        assert_eq!(
            line(&mut run, 6900),
            "waiting for the rest: 1000 connections, 0/s, 1 error"
        );
    }

    // The messages that a warm-up at too high a rate left over raised the rate of the measuring.
    #[test]
    fn a_message_that_was_due_in_the_warm_up_does_not_count() {
        let mut run = Run::new(plan(1));
        run.phase = Phase::WarmUp;
        run.count(10, 20);
        run.phase = Phase::Measuring;
        run.began = Snapshot {
            done: run.counted(),
            ..Snapshot::default()
        };
        run.counts_from = 100;
        run.count(50, 1000);
        run.count(100, 1000);
        run.count(150, 1050);
        assert_eq!((run.done, run.counted() - run.began.done), (4, 2));
        let mut report = Report::default();
        run.latencies.report(&LATENCY, &mut report);
        assert!(
            report.to_json().contains("\"latency_max_us\":0.9"),
            "{}",
            report.to_json()
        );
    }

    #[test]
    fn a_connection_rate_tells_how_long_opening_takes() {
        let mut plan = plan(1000);
        plan.connect_rate = Some(100.0);
        plan.counts = false;
        let mut run = Run::new(plan);
        (run.open, run.opened) = (200, 200);
        assert_eq!(
            line(&mut run, 2000),
            "opening: 200 of 1000 connections, 100/s, 0 errors, 14 s left"
        );
        // A load that counts nothing has no rate while it measures.
        run.phase = Phase::Measuring;
        run.began.at = Duration::from_secs(11);
        assert_eq!(
            line(&mut run, 11_000),
            "measuring: 200 connections, 0 errors, 5 s left"
        );
    }
}
