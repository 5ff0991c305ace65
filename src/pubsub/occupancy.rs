//! Which topics have connections at all, and which users, for a program that wants to be told.
//!
//! A topic that is occupied again soon after its last connection has left, as by a page that was loaded anew, was neither
//! vacated nor occupied. So the program asks some time after a topic was vacated whether it still is.
//!
//! Pure: the caller says what time it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A topic that is occupied again within this time has not been vacated.
pub const VACATED_DELAY: Duration = Duration::from_secs(3);

/// The number of topics that were vacated at which old ones are looked for at first. Later it is twice the number of those
/// that were young.
const VACATED_MIN: usize = 4096;

/// A connection has joined or left a topic, as a program is told of it whatever the members are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// The topic.
    pub topic: Arc<str>,
    /// The part of it that is told.
    pub change: OccupancyChange,
}

/// The change of a topic that a program is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OccupancyChange {
    /// The first connection has joined, and the last one before it had not left just now.
    Occupied,
    /// The last connection has left. Another one may join soon: the program asks again after [`VACATED_DELAY`].
    Vacated,
    /// The first connection of a user has joined.
    Joined(Arc<str>),
    /// The last connection of a user has left.
    Left(Arc<str>),
    /// There is another number of connections.
    Counted,
}

/// The topics of which a program is told who joins and leaves.
#[derive(Debug)]
pub(super) struct Watched {
    /// Their names begin with it.
    prefix: &'static str,
    /// The changes that were not taken.
    changes: Vec<Occupancy>,
    /// The topics whose last connection has left, with the time.
    vacated: BTreeMap<Arc<str>, Duration>,
    /// The number of these topics at which old ones are looked for.
    vacated_max: usize,
    /// The time of the last change.
    now: Duration,
}

impl Watched {
    pub(super) fn new(prefix: &'static str) -> Watched {
        Watched {
            prefix,
            changes: Vec::new(),
            vacated: BTreeMap::new(),
            vacated_max: VACATED_MIN,
            now: Duration::ZERO,
        }
    }

    /// Says what time it is.
    pub(super) fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    pub(super) fn take_changes(&mut self) -> Vec<Occupancy> {
        std::mem::take(&mut self.changes)
    }

    /// Forgets all changes but those of counts.
    pub(super) fn keep_counts(&mut self) {
        (self.changes).retain(|it| it.change == OccupancyChange::Counted);
    }

    /// Whether a topic has been without connections for [`VACATED_DELAY`]. Says so once.
    pub(super) fn is_vacated(&mut self, topic: &str, now: Duration) -> bool {
        let at = self.vacated.get(topic);
        let is_vacated = at.is_some_and(|at| *at + VACATED_DELAY <= now);
        if is_vacated {
            self.vacated.remove(topic);
        }
        is_vacated
    }

    fn note(&mut self, topic: &Arc<str>, change: OccupancyChange) {
        self.changes.push(Occupancy {
            topic: Arc::clone(topic),
            change,
        });
    }

    /// Makes room for a topic that was vacated. This reactor does not ask again for those of other nodes, which stay
    /// until they are old.
    fn forget_old(&mut self) {
        if self.vacated.len() < self.vacated_max {
            return;
        }
        let now = self.now;
        (self.vacated).retain(|_, at| now < *at + 10 * VACATED_DELAY);
        self.vacated_max = VACATED_MIN.max(2 * self.vacated.len());
    }

    /// A connection has joined. `user` is its user, where it is the first connection of this user.
    pub(super) fn note_join(&mut self, topic: &Arc<str>, is_first: bool, user: Option<&Arc<str>>) {
        if !topic.starts_with(self.prefix) {
            return;
        }
        let vacated_at = is_first.then(|| self.vacated.remove(topic)).flatten();
        let is_back = vacated_at.is_some_and(|at| self.now < at + VACATED_DELAY);
        if is_first && !is_back {
            self.note(topic, OccupancyChange::Occupied);
        }
        if let Some(user) = user {
            self.note(topic, OccupancyChange::Joined(Arc::clone(user)));
        }
        self.note(topic, OccupancyChange::Counted);
    }

    /// A connection has left. `user` is its user, where it was the last connection of this user.
    pub(super) fn note_leave(&mut self, topic: &Arc<str>, is_last: bool, user: Option<&Arc<str>>) {
        if !topic.starts_with(self.prefix) {
            return;
        }
        if let Some(user) = user {
            self.note(topic, OccupancyChange::Left(Arc::clone(user)));
        }
        self.note(topic, OccupancyChange::Counted);
        if is_last {
            self.note(topic, OccupancyChange::Vacated);
            self.forget_old();
            self.vacated.insert(Arc::clone(topic), self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(watched: &mut Watched) -> Vec<OccupancyChange> {
        let changes = watched.take_changes().into_iter();
        changes.map(|it| it.change).collect()
    }

    #[test]
    fn a_topic_that_is_occupied_again_soon_was_not_vacated() {
        use OccupancyChange::*;
        let second = Duration::from_secs;
        let mut watched = Watched::new("app:");
        let (topic, other): (Arc<str>, Arc<str>) = ("app:t".into(), "t".into());
        watched.set_now(second(10));
        watched.note_join(&topic, true, None);
        watched.note_join(&other, true, None);
        assert_eq!(taken(&mut watched), [Occupied, Counted]);
        watched.note_leave(&topic, true, None);
        assert_eq!(taken(&mut watched), [Counted, Vacated]);
        assert!(!watched.is_vacated("app:t", second(12)));
        watched.set_now(second(12));
        watched.note_join(&topic, true, Some(&"ann".into()));
        assert_eq!(taken(&mut watched), [Joined("ann".into()), Counted]);
        assert!(!watched.is_vacated("app:t", second(20)));
        watched.set_now(second(14));
        watched.note_leave(&topic, true, Some(&"ann".into()));
        assert!(
            !watched.is_vacated("app:t", second(15)),
            "it has left at 14"
        );
        assert!(watched.is_vacated("app:t", second(17)));
        assert!(!watched.is_vacated("app:t", second(17)), "said once");
        watched.set_now(second(18));
        watched.note_join(&topic, true, None);
        watched.keep_counts();
        assert_eq!(taken(&mut watched), [Counted, Counted]);
        watched.note_leave(&topic, true, None);
        watched.set_now(second(30));
        watched.note_join(&topic, true, None);
        assert_eq!(taken(&mut watched), [Counted, Vacated, Occupied, Counted]);
    }

    #[test]
    fn topics_that_were_vacated_long_ago_are_forgotten() {
        let mut watched = Watched::new("");
        for number in 0..5 * VACATED_MIN {
            watched.set_now(Duration::from_millis(20 * number as u64));
            watched.note_leave(&number.to_string().into(), true, None);
            watched.take_changes();
        }
        // Thirty seconds of them, and as many again at most.
        assert!(
            watched.vacated.len() <= VACATED_MIN,
            "{}",
            watched.vacated.len()
        );
    }
}
