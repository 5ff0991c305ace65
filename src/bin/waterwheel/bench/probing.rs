//! Finds out when all subscribers are subscribed, which a client cannot see.
//!
//! Probes are published until each subscriber has got one. Then a last one is published, and the load begins when all
//! have got that too: a slow server has no probes left to deliver then. Pauses between probes become longer, because
//! each probe costs the server a delivery to each subscriber.

use std::time::Duration;

/// The first pause between two probes, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The longest time in which no further subscriber gets its first probe. Probing gives up after it.
const SUBSCRIBING_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time in which no subscriber gets any probe, once the last one is published. The load begins after it,
/// even if some subscribers have not got the last probe.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// The probes of one run.
pub struct Probing {
    has_got: Vec<bool>,
    missing_count: usize,
    sent: u64,
    /// The number of the last probe. `None` until all subscribers have got a probe.
    last: Option<u64>,
    pause: Duration,
    /// The time of the last progress: a subscriber has got its first probe, or, since the last probe was published,
    /// any probe.
    progress_at: Duration,
}

/// The next step of the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Publish the probe with this number, and ask again after the pause.
    Publish(u64, Duration),
    /// Ask again after the pause.
    Wait(Duration),
    /// All are subscribed.
    Begin,
    /// The run fails: in the last ten seconds no further subscriber has got its first probe. The number is that of the
    /// subscribers that have got one.
    GiveUp(usize),
}

impl Probing {
    pub fn new(subscribers: usize) -> Probing {
        Probing {
            has_got: vec![false; subscribers],
            missing_count: subscribers,
            sent: 0,
            last: None,
            pause: PAUSES[0],
            progress_at: Duration::ZERO,
        }
    }

    /// Whether a probe was published.
    pub fn has_begun(&self) -> bool {
        self.sent != 0
    }

    /// Records that a subscriber has got a probe. Returns whether no subscriber is missing any more; the caller
    /// then asks for the next [`step`](Self::step) at once.
    pub fn take(&mut self, subscriber: usize, number: u64, now: Duration) -> bool {
        if let Some(last) = self.last {
            self.progress_at = now;
            if number != last {
                return false;
            }
        }
        if std::mem::replace(&mut self.has_got[subscriber], true) {
            return false;
        }
        self.progress_at = now;
        self.missing_count -= 1;
        self.missing_count == 0
    }

    /// Decides on the next step.
    pub fn step(&mut self, now: Duration) -> Step {
        if !self.has_begun() {
            self.progress_at = now;
        }
        let idle = now.saturating_sub(self.progress_at);
        match (self.last, self.missing_count) {
            (Some(_), 0) => return Step::Begin,
            (Some(_), _) if LAST_TIMEOUT < idle => return Step::Begin,
            (Some(_), _) => return Step::Wait(PAUSES[0]),
            (None, 0) => {
                self.last = Some(self.sent);
                self.has_got.fill(false);
                self.missing_count = self.has_got.len();
            }
            (None, missing) if SUBSCRIBING_TIMEOUT < idle => {
                return Step::GiveUp(self.has_got.len() - missing);
            }
            (None, _) => {}
        }
        let pause = self.pause;
        self.pause = (2 * pause).min(PAUSES[1]);
        self.sent += 1;
        Step::Publish(self.sent - 1, pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_last_probe_follows_when_all_have_got_one() {
        let mut probing = Probing::new(2);
        assert_eq!(probing.step(at(0)), Step::Publish(0, at(50)));
        assert!(!probing.take(0, 0, at(1)));
        assert_eq!(probing.step(at(50)), Step::Publish(1, at(100)));
        assert!(!probing.take(0, 1, at(51)));
        assert!(probing.take(1, 1, at(52)));
        assert_eq!(probing.step(at(52)), Step::Publish(2, at(200)));
        // A probe of before is not the last one.
        assert!(!probing.take(1, 1, at(53)));
        assert!(!probing.take(0, 2, at(54)));
        assert_eq!(probing.step(at(60)), Step::Wait(at(50)));
        assert!(probing.take(1, 2, at(61)));
        assert_eq!(probing.step(at(61)), Step::Begin);
    }

    #[test]
    fn waiting_ends_when_nothing_comes() {
        let mut probing = Probing::new(2);
        let mut now = at(0);
        let got = loop {
            match probing.step(now) {
                Step::Publish(number, pause) => {
                    assert!(pause <= at(1000));
                    // The other subscriber gets each probe, which is no progress.
                    probing.take(0, number, now);
                    now += pause;
                }
                Step::GiveUp(got) => break got,
                step => panic!("{step:?}"),
            }
        };
        assert_eq!(got, 1);
        assert!(at(10_000) < now && now < at(11_100), "{now:?}");

        let mut probing = Probing::new(1);
        probing.step(at(0));
        assert!(probing.take(0, 0, at(10)));
        assert_eq!(probing.step(at(10)), Step::Publish(1, at(100)));
        assert_eq!(probing.step(at(2010)), Step::Wait(at(50)));
        assert_eq!(probing.step(at(2011)), Step::Begin);
    }
}
