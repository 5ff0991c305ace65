//! A drain that is under way: which connections are to get a goodbye, and when; and the reactors that drain
//! together.

use std::time::Duration;

use super::id::ConnId;
use super::time::clock::nanos;

/// Goodbyes to the connections that existed at its start, spread evenly over a window.
pub(crate) struct Shutdown {
    started: u64,
    window: Duration,
    targets: Vec<ConnId>,
    /// How many of the targets have got their goodbye.
    done_count: usize,
    is_window_over: bool,
    deadline: u64,
}

impl Shutdown {
    /// Begins at `now`; after `window` the connections have `close_timeout` to end.
    pub(crate) fn new(
        now: u64,
        window: Duration,
        close_timeout: Duration,
        targets: Vec<ConnId>,
    ) -> Shutdown {
        let deadline = now
            .saturating_add(nanos(window))
            .saturating_add(nanos(close_timeout));
        Shutdown {
            started: now,
            window,
            targets,
            done_count: 0,
            is_window_over: false,
            deadline,
        }
    }

    /// The connections whose goodbye is due at `now`; each is returned once.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<ConnId> {
        let elapsed = Duration::from_nanos(now - self.started);
        let share = if self.window <= elapsed {
            1.0
        } else {
            elapsed.as_secs_f64() / self.window.as_secs_f64()
        };
        let until = (self.targets.len() as f64 * share).ceil() as usize;
        let due = self.targets[self.done_count..until.max(self.done_count)].to_vec();
        self.done_count = until.max(self.done_count);
        due
    }

    /// Whether the window is over. `true` once.
    pub(crate) fn take_end_of_window(&mut self, now: u64) -> bool {
        let is_over = self.started.saturating_add(nanos(self.window)) <= now;
        is_over && !std::mem::replace(&mut self.is_window_over, true)
    }

    /// Whether the time is over that connections had for their end.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.deadline <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shutdown(count: u32) -> Shutdown {
        let id = |index| ConnId {
            index,
            generation: 0,
        };
        Shutdown::new(
            1_000,
            Duration::from_nanos(100),
            Duration::from_nanos(50),
            (0..count).map(id).collect(),
        )
    }

    #[test]
    fn goodbyes_are_spread_evenly_over_the_window() {
        let mut shutdown = shutdown(10);
        let counts = [1_000, 1_005, 1_010, 1_050, 1_099, 1_100, 1_200]
            .map(|now| shutdown.take_due(now).len());
        assert_eq!(counts, [0, 1, 0, 4, 5, 0, 0]);
    }

    #[test]
    fn the_end_of_the_window_comes_once() {
        let mut shutdown = shutdown(1);
        let ends = [1_000, 1_099, 1_100, 1_101].map(|now| shutdown.take_end_of_window(now));
        assert_eq!(ends, [false, false, true, false]);
    }

    #[test]
    fn without_a_window_all_hear_at_once() {
        let id = ConnId {
            index: 1,
            generation: 0,
        };
        let mut shutdown = Shutdown::new(7, Duration::ZERO, Duration::ZERO, vec![id]);
        assert_eq!(shutdown.take_due(7), [id]);
        assert!(shutdown.is_over(7));
    }

    #[test]
    fn it_is_over_a_close_timeout_after_the_window() {
        let shutdown = shutdown(1);
        assert!(!shutdown.is_over(1_149));
        assert!(shutdown.is_over(1_150));
    }
}
