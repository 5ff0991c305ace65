//! The line on a terminal that says how far a load is.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::{Phase, Plan, Run};

impl Run {
    pub(super) fn show_progress(&mut self, now: Duration) {
        eprint!("\r\x1b[K{}", self.progress(now));
        // Nobody reads it when this fails.
        let _ = io::stderr().flush();
    }

    /// What is so now, and how much of it since the last time.
    fn progress(&mut self, now: Duration) -> Progress {
        let this = (now, self.opened, self.done);
        let (before, opened, done) = std::mem::replace(&mut self.last_progress, this);
        let many = match self.phase {
            Phase::Opening => Some((self.opened - opened) as u64),
            Phase::WarmUp | Phase::Measuring | Phase::Draining | Phase::Closing => {
                self.plan.counts.then_some(self.done - done)
            }
        };
        let interval = now.saturating_sub(before).as_secs_f64().max(1e-9);
        Progress {
            phase: self.phase,
            open: self.open,
            wanted: self.plan.connections,
            per_second: many.map(|many| many as f64 / interval),
            errors: self.problems.count(),
            left: self.left(now),
        }
    }

    /// How long it takes until all is measured, where that can be known.
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
                    // As fast as the server takes them.
                    (_, None) => return None,
                };
                Some(opening + warmup + seconds)
            }
            Phase::WarmUp => {
                let warm_at = self.warm_up_began_at + warmup;
                Some(warm_at.saturating_sub(now) + seconds)
            }
            Phase::Measuring => Some((self.began.at + seconds).saturating_sub(now)),
            // As soon as the server has answered.
            Phase::Draining | Phase::Closing => None,
        }
    }
}

/// What the line on a terminal says.
#[derive(Debug)]
struct Progress {
    phase: Phase,
    open: usize,
    wanted: usize,
    /// Connections opened, then what is counted; nothing where nothing is.
    per_second: Option<f64>,
    errors: u64,
    left: Option<Duration>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open;
        match self.phase {
            Phase::Opening => write!(f, "opening: {open} of {} connections", self.wanted)?,
            Phase::WarmUp => write!(f, "warming up: {open} connections")?,
            Phase::Measuring => write!(f, "measuring: {open} connections")?,
            Phase::Draining => write!(f, "waiting for the rest: {open} connections")?,
            Phase::Closing => write!(f, "closing: {open} connections")?,
        }
        if let Some(per_second) = self.per_second {
            write!(f, ", {per_second:.0}/s")?;
        }
        write!(f, ", {} errors", self.errors)?;
        match self.left {
            Some(left) => write!(f, ", {:.0} s left", left.as_secs_f64().ceil()),
            None => Ok(()),
        }
    }
}

/// Wipes the line of progress, before anything else is written.
pub fn end_progress(plan: &Plan) {
    if plan.shows_progress && io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::plan;
    use super::*;

    /// What the line says at a time, in milliseconds.
    fn line(run: &mut Run, now: u64) -> String {
        run.progress(Duration::from_millis(now)).to_string()
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
        // All are open, and the load is not ready: a fan-out looks who has subscribed.
        (run.open, run.opened) = (1000, 1000);
        let text = line(&mut run, 750);
        assert!(text.ends_with("3480/s, 0 errors, 6 s left"), "{text}");

        run.phase = Phase::WarmUp;
        run.warm_up_began_at = Duration::from_millis(900);
        run.done = 500;
        run.problems.add(Kind::Lost, String::new);
        assert_eq!(
            line(&mut run, 1000),
            "warming up: 1000 connections, 2000/s, 1 errors, 6 s left"
        );
        let text = line(&mut run, 1900);
        assert!(text.ends_with(", 0/s, 1 errors, 5 s left"), "{text}");

        run.phase = Phase::Measuring;
        run.began.at = Duration::from_millis(1900);
        run.done = 1500;
        assert_eq!(
            line(&mut run, 2900),
            "measuring: 1000 connections, 1000/s, 1 errors, 4 s left"
        );
        run.phase = Phase::Draining;
        assert_eq!(
            line(&mut run, 6900),
            "waiting for the rest: 1000 connections, 0/s, 1 errors"
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
        // Nothing is counted while they are held.
        run.phase = Phase::Measuring;
        run.began.at = Duration::from_secs(11);
        assert_eq!(
            line(&mut run, 11_000),
            "measuring: 200 connections, 0 errors, 5 s left"
        );
    }
}
