//! The names of clients that get what they have missed and are not live yet.

use std::cell::RefCell;
use std::rc::Rc;

use crate::pubsub::pattern;
use crate::reactor::id::{ConnId, ConnMap};

/// The names of one command that are still wanted.
#[derive(Debug)]
pub(super) struct PendingNames(RefCell<Vec<Box<str>>>);

/// The pending names of all clients of a hub on one reactor. Most clients have none.
#[derive(Debug, Default)]
pub(super) struct Pending(RefCell<ConnMap<Vec<Rc<PendingNames>>>>);

impl PendingNames {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.borrow().iter().any(|other| **other == *name)
    }

    /// Leaves a name out. Returns whether it was there.
    pub(super) fn remove(&self, name: &str) -> bool {
        let mut names = self.0.borrow_mut();
        let before = names.len();
        names.retain(|other| **other != *name);
        names.len() != before
    }

    pub(super) fn take(&self) -> Vec<Box<str>> {
        self.0.take()
    }
}

impl Pending {
    /// Adds the names of a command.
    pub(super) fn add(&self, id: ConnId, names: Vec<Box<str>>) -> Rc<PendingNames> {
        let names = Rc::new(PendingNames(RefCell::new(names)));
        let mut all = self.0.borrow_mut();
        match all.get_mut(id) {
            Some(list) => list.push(Rc::clone(&names)),
            None => drop(all.insert(id, vec![Rc::clone(&names)])),
        }
        names
    }

    /// Forgets the names of a command, because they are live.
    pub(super) fn end(&self, id: ConnId, names: &Rc<PendingNames>) {
        let mut all = self.0.borrow_mut();
        if let Some(list) = all.get_mut(id) {
            list.retain(|other| !Rc::ptr_eq(other, names));
            if list.is_empty() {
                all.remove(id);
            }
        }
    }

    /// Forgets the names of a connection that has ended.
    pub(super) fn forget(&self, id: ConnId) {
        self.0.borrow_mut().remove(id);
    }

    /// Leaves a name out. Returns whether it was pending.
    pub(super) fn cancel(&self, id: ConnId, name: &str) -> bool {
        let all = self.0.borrow();
        let mut lists = all.get(id).into_iter().flatten();
        lists.any(|names| names.remove(name))
    }

    /// Whether a name is pending.
    pub(super) fn is_pending(&self, id: ConnId, name: &str) -> bool {
        let all = self.0.borrow();
        let mut lists = all.get(id).into_iter().flatten();
        lists.any(|names| names.contains(name))
    }

    /// How many names of a connection are pending, and how many of these are patterns.
    pub(super) fn counts(&self, id: ConnId) -> (usize, usize) {
        let (mut count, mut pattern_count) = (0, 0);
        for names in self.0.borrow().get(id).into_iter().flatten() {
            for name in &*names.0.borrow() {
                count += 1;
                pattern_count += usize::from(pattern::is_pattern(name));
            }
        }
        (count, pattern_count)
    }
}
