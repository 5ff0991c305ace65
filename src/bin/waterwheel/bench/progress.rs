//! The line on a terminal that says how far a load is.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::phase::Phase;
use super::plan::Plan;
use super::report::counted;

/// Where a run is at one moment.
#[derive(Clone, Copy)]
pub struct Moment {
    /// Since the start of the reactor.
    pub at: Duration,
    pub phase: Phase,
    /// Connections that are open, and those that were ever opened.
    pub open: usize,
    pub opened: usize,
    /// Messages, deliveries or rounds that were counted.
    pub done: u64,
    pub errors: u64,
    /// How long the run still takes, where that is known.
    pub left: Option<Duration>,
}

/// Turns moments into lines, with rates since the line before.
pub struct Progress {
    wanted: usize,
    counts: bool,
    last_at: Duration,
    last_opened: usize,
    last_done: u64,
}

impl Progress {
    pub fn new(plan: &Plan) -> Progress {
        Progress {
            wanted: plan.connections,
            counts: plan.counts,
            last_at: Duration::ZERO,
            last_opened: 0,
            last_done: 0,
        }
    }

    /// The line for this moment.
    pub fn line(&mut self, moment: Moment) -> Line {
        let count = match moment.phase {
            Phase::Opening => Some((moment.opened - self.last_opened) as u64),
            Phase::WarmUp | Phase::Measuring | Phase::Draining | Phase::Closing => {
                self.counts.then_some(moment.done - self.last_done)
            }
        };
        let interval = moment.at.saturating_sub(self.last_at);
        let seconds = interval.as_secs_f64().max(1e-9);
        self.last_at = moment.at;
        self.last_opened = moment.opened;
        self.last_done = moment.done;
        Line {
            moment,
            wanted: self.wanted,
            per_second: count.map(|count| count as f64 / seconds),
        }
    }
}

pub struct Line {
    moment: Moment,
    wanted: usize,
    /// Connections opened, and after the opening what is counted. `None` for a load that counts
    /// nothing.
    per_second: Option<f64>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.moment.open;
        let connections = counted(open as u64, "connection");
        match self.moment.phase {
            Phase::Opening => {
                let wanted = counted(self.wanted as u64, "connection");
                write!(f, "opening: {open} of {wanted}")?;
            }
            Phase::WarmUp => write!(f, "warming up: {connections}")?,
            Phase::Measuring => write!(f, "measuring: {connections}")?,
            Phase::Draining => write!(f, "waiting for the rest: {connections}")?,
            Phase::Closing => write!(f, "closing: {connections}")?,
        }
        if let Some(per_second) = self.per_second {
            write!(f, ", {per_second:.0}/s")?;
        }
        write!(f, ", {}", counted(self.moment.errors, "error"))?;
        match self.moment.left {
            Some(left) => write!(f, ", {:.0} s left", left.as_secs_f64().ceil()),
            None => Ok(()),
        }
    }
}

/// Whether lines are shown: where a person may read them.
pub fn is_shown(plan: &Plan) -> bool {
    plan.shows_progress && io::stderr().is_terminal()
}

/// Writes the line over the one before.
pub fn show(line: &Line) {
    eprint!("\r\x1b[K{line}");
    // An error means that the terminal is gone, so there is no reader to report it to.
    let _ = io::stderr().flush();
}

/// Erases the line, so that other text can begin there.
pub fn clear(plan: &Plan) {
    if is_shown(plan) {
        eprint!("\r\x1b[K");
    }
}
