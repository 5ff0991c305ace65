//! The moment up to which the loop has handled what had come.
//!
//! Deadlines are judged as of this moment and not as of now. After a turn that took long (a slow
//! callback, a process that was stopped, a machine that was suspended) the bytes of a healthy peer wait
//! in the kernel while its deadline passes. The loop must ask the kernel and handle the answer before
//! it may say that a peer was silent.
//!
//! One poll does not always tell everything: it returns a bounded number of reports, and a dispatch
//! that has used its time leaves sources waiting. The kernel reports sources in the order in which they
//! became ready, and the list of waiting sources has an order too. So everything that had come at a
//! moment is handled after a bounded number of polls, and after as many sources as waited then. A loop
//! that is always busy still judges deadlines, a little later.

/// The lists of sources that wait: those that are deferred, those that are handled again, and handshakes of
/// peers that have answered our first flight and of others. Each is handled in its order.
pub(crate) const LISTS: usize = 4;
/// The list of deferred sources among them.
pub(crate) const DEFERRED: usize = 0;
/// The list of sources that are handled again.
pub(crate) const AGAIN: usize = 1;
/// The list of handshakes whose peers have answered our flight.
pub(crate) const ANSWERED: usize = 2;
/// The list of the other handshakes.
pub(crate) const FRESH: usize = 3;

/// A moment whose reports are being handled.
#[derive(Clone, Copy)]
struct Candidate {
    moment: u64,
    /// How many more polls may return reports that are due to this moment or an earlier one.
    polls_left: usize,
    /// How many sources of each list must be handled before those of this moment are. Known after the
    /// last poll.
    waiting_left: Option<[usize; LISTS]>,
}

/// The result of one poll and of the dispatch after it.
pub(crate) struct Dispatched {
    /// The moment at which the poll has asked the kernel; `None` when a signal interrupted it.
    pub(crate) asked_at: Option<u64>,
    /// How many polls like this one report all sources: zero when this one has reported all.
    pub(crate) polls_left: usize,
    /// How many sources that had waited were handled, of each list.
    pub(crate) handled_counts: [usize; LISTS],
    /// How many sources wait now on each list.
    pub(crate) waiting_counts: [usize; LISTS],
}

/// The moment up to which everything that had come is handled, in nanoseconds.
#[derive(Default)]
pub(crate) struct Handled {
    until: u64,
    candidate: Option<Candidate>,
}

impl Handled {
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Notes the result of a poll and of its dispatch.
    pub(crate) fn note(&mut self, dispatched: &Dispatched) {
        let begun = self.candidate.map(|candidate| Candidate {
            polls_left: match dispatched.asked_at {
                Some(_) => candidate
                    .polls_left
                    .saturating_sub(1)
                    .min(dispatched.polls_left),
                None => candidate.polls_left,
            },
            waiting_left: candidate.waiting_left.map(|left| {
                std::array::from_fn(|list| {
                    left[list].saturating_sub(dispatched.handled_counts[list])
                })
            }),
            ..candidate
        });
        let new = || {
            dispatched.asked_at.map(|moment| Candidate {
                moment,
                polls_left: dispatched.polls_left,
                waiting_left: None,
            })
        };
        let Some(mut candidate) = begun.or_else(new) else {
            return;
        };
        if candidate.polls_left == 0 && candidate.waiting_left.is_none() {
            candidate.waiting_left = Some(dispatched.waiting_counts);
        }
        self.candidate = Some(candidate);
        if candidate.waiting_left == Some([0; LISTS]) {
            self.until = candidate.moment;
            self.candidate = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(
        handled: &mut Handled,
        asked_at: u64,
        polls_left: usize,
        counts: (usize, usize),
    ) -> u64 {
        handled.note(&Dispatched {
            asked_at: Some(asked_at),
            polls_left,
            handled_counts: [counts.0, 0, 0, 0],
            waiting_counts: [counts.1, 0, 0, 0],
        });
        handled.until()
    }

    #[test]
    fn a_poll_that_reports_all_is_handled_at_once() {
        let mut handled = Handled::default();
        assert_eq!(note(&mut handled, 5, 0, (0, 0)), 5);
        assert_eq!(note(&mut handled, 9, 0, (0, 0)), 9);
    }

    #[test]
    fn an_interrupted_poll_says_nothing() {
        let mut handled = Handled::default();
        handled.note(&Dispatched {
            asked_at: None,
            polls_left: 0,
            handled_counts: [0; LISTS],
            waiting_counts: [0; LISTS],
        });
        assert_eq!(handled.until(), 0);
    }

    #[test]
    fn sources_that_wait_are_handled_first() {
        let mut handled = Handled::default();
        assert_eq!(note(&mut handled, 5, 0, (0, 30)), 0);
        // Others come behind them all the time.
        assert_eq!(note(&mut handled, 6, 0, (20, 30)), 0);
        assert_eq!(note(&mut handled, 7, 0, (20, 30)), 5);
        assert_eq!(note(&mut handled, 8, 0, (20, 0)), 8);
    }

    #[test]
    fn each_list_is_handled_for_itself() {
        let mut handled = Handled::default();
        let mut note = |asked_at, handled_counts, waiting_counts| {
            handled.note(&Dispatched {
                asked_at: Some(asked_at),
                polls_left: 0,
                handled_counts,
                waiting_counts,
            });
            handled.until()
        };
        assert_eq!(note(5, [0; LISTS], [1, 1, 1, 2]), 0);
        assert_eq!(note(6, [9, 9, 9, 1], [0, 0, 0, 1]), 0);
        assert_eq!(note(7, [0, 0, 9, 1], [0; LISTS]), 5);
    }

    #[test]
    fn full_polls_are_repeated_as_often_as_there_are_sources() {
        let mut handled = Handled::default();
        assert_eq!(note(&mut handled, 5, 3, (0, 0)), 0);
        assert_eq!(note(&mut handled, 6, 3, (0, 0)), 0);
        assert_eq!(note(&mut handled, 7, 3, (0, 0)), 0);
        assert_eq!(note(&mut handled, 8, 3, (0, 0)), 5);
        assert_eq!(note(&mut handled, 9, 3, (0, 0)), 5);
        assert_eq!(note(&mut handled, 10, 0, (0, 0)), 9);
    }
}
