//! The names of clients that get what they have missed and are not live yet.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::pubsub::pattern;
use crate::reactor::id::ConnId;

/// The names of one command, or of one event stream, that are still wanted.
pub(super) type PendingNames = Rc<RefCell<Vec<Box<str>>>>;

/// The pending names of all clients of a hub on one reactor. Most clients have none.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(Rc<RefCell<HashMap<ConnId, Vec<PendingNames>>>>);

/// The names of a replay that is under way. They are pending until this is dropped.
#[derive(Debug)]
pub(super) struct ReplayNames {
    pending: Pending,
    id: ConnId,
    names: PendingNames,
}

impl ReplayNames {
    /// Whether a name is still wanted.
    pub(super) fn contains(&self, name: &str) -> bool {
        contains(&self.names, name)
    }

    /// Whether no earlier replay of the connection is under way.
    pub(super) fn are_first(&self) -> bool {
        let all = self.pending.0.borrow();
        let first = all.get(&self.id).and_then(|lists| lists.first());
        first.is_none_or(|first| Rc::ptr_eq(first, &self.names))
    }

    /// Takes the names that are still wanted: they are not pending any more.
    pub(super) fn take(&self) -> Vec<Box<str>> {
        self.pending.end(self.id, &self.names);
        self.names.take()
    }
}

impl Drop for ReplayNames {
    fn drop(&mut self) {
        self.pending.end(self.id, &self.names);
    }
}

impl Pending {
    /// Adds the names of a command.
    pub(super) fn add(&self, id: ConnId, names: Vec<Box<str>>) -> ReplayNames {
        let names = Rc::new(RefCell::new(names));
        let mut all = self.0.borrow_mut();
        all.entry(id).or_default().push(Rc::clone(&names));
        ReplayNames {
            pending: self.clone(),
            id,
            names,
        }
    }

    fn end(&self, id: ConnId, names: &PendingNames) {
        let mut all = self.0.borrow_mut();
        if let Some(list) = all.get_mut(&id) {
            list.retain(|other| !Rc::ptr_eq(other, names));
            if list.is_empty() {
                all.remove(&id);
            }
        }
    }

    /// Leaves a name out of all replays of a connection. Returns whether it was pending.
    pub(super) fn cancel(&self, id: ConnId, name: &str) -> bool {
        let mut was_pending = false;
        for names in self.0.borrow().get(&id).into_iter().flatten() {
            names.borrow_mut().retain(|other| {
                let is_other = **other != *name;
                was_pending |= !is_other;
                is_other
            });
        }
        was_pending
    }

    /// Whether a name is pending.
    pub(super) fn is_pending(&self, id: ConnId, name: &str) -> bool {
        let all = self.0.borrow();
        let mut lists = all.get(&id).into_iter().flatten();
        lists.any(|names| contains(names, name))
    }

    /// How many names of a connection are pending, and how many of these are patterns. A name that two replays
    /// read counts twice, and a replay without names counts as one.
    pub(super) fn counts(&self, id: ConnId) -> (usize, usize) {
        let (mut count, mut pattern_count) = (0, 0);
        for names in self.0.borrow().get(&id).into_iter().flatten() {
            let names = names.borrow();
            count += names.len().max(1);
            pattern_count += names.iter().filter(|it| pattern::is_pattern(it)).count();
        }
        (count, pattern_count)
    }
}

fn contains(names: &PendingNames, name: &str) -> bool {
    names.borrow().iter().any(|other| **other == *name)
}
