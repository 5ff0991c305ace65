//! The patterns that are forwarded to connections: a message goes to a connection once, however many of its patterns match.

use std::cell::RefCell;
use std::collections::HashMap;

use super::subscriptions::RedisSubscription;
use crate::reactor::id::ConnId;

/// Most patterns that are forwarded to one connection.
pub(super) const PATTERNS_MAX: usize = 100;

/// The patterns of each connection.
#[derive(Default)]
pub(super) struct Forwards {
    connections: RefCell<HashMap<ConnId, Forwarded>>,
}

#[derive(Default)]
struct Forwarded {
    patterns: Vec<Box<[u8]>>,
    subscriptions: Vec<RedisSubscription>,
    has_refused: bool,
}

/// The outcome of [`Forwards::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// The first pattern of a connection.
    First,
    Further,
    /// The connection has this pattern.
    Known,
    /// The connection has [`PATTERNS_MAX`] others. `is_first` for the first refusal.
    Refused {
        is_first: bool,
    },
}

impl Forwards {
    /// Adds a pattern to those of a connection.
    pub(super) fn add(&self, id: ConnId, pattern: &[u8]) -> Added {
        let mut connections = self.connections.borrow_mut();
        let forwarded = connections.entry(id).or_default();
        if forwarded.patterns.iter().any(|other| **other == *pattern) {
            return Added::Known;
        }
        if PATTERNS_MAX <= forwarded.patterns.len() {
            let is_first = !std::mem::replace(&mut forwarded.has_refused, true);
            return Added::Refused { is_first };
        }
        forwarded.patterns.push(pattern.into());
        match forwarded.patterns.len() {
            1 => Added::First,
            _ => Added::Further,
        }
    }

    /// Notes the subscription of a pattern that was added.
    pub(super) fn note(&self, id: ConnId, subscription: RedisSubscription) {
        if let Some(forwarded) = self.connections.borrow_mut().get_mut(&id) {
            forwarded.subscriptions.push(subscription);
        }
    }

    /// Forgets a connection, and returns its subscriptions.
    pub(super) fn remove(&self, id: ConnId) -> Vec<RedisSubscription> {
        let forwarded = self.connections.borrow_mut().remove(&id);
        forwarded.map_or_else(Vec::new, |forwarded| forwarded.subscriptions)
    }

    /// Whether a connection takes a message that came by one of its patterns. `is_first` says whether this one is the first
    /// of several that matches.
    pub(super) fn takes(&self, id: ConnId, is_first: impl FnOnce(&[Box<[u8]>]) -> bool) -> bool {
        let connections = self.connections.borrow();
        match connections.get(&id).map(|it| &it.patterns[..]) {
            None | Some([_]) => true,
            Some(patterns) => is_first(patterns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::id::ConnId;

    #[test]
    fn a_connection_has_a_limit_of_patterns() {
        let forwards = Forwards::default();
        let [id, other] = [1, 2].map(|index| ConnId {
            index,
            generation: 0,
        });
        assert_eq!(forwards.add(id, b"0"), Added::First);
        assert_eq!(forwards.add(id, b"0"), Added::Known);
        for number in 1..PATTERNS_MAX {
            let pattern = number.to_string();
            assert_eq!(forwards.add(id, pattern.as_bytes()), Added::Further);
        }
        for is_first in [true, false] {
            assert_eq!(forwards.add(id, b"100"), Added::Refused { is_first });
        }
        assert_eq!(forwards.add(id, b"99"), Added::Known);
        assert_eq!(forwards.add(other, b"100"), Added::First);
        forwards.remove(id);
        assert_eq!(forwards.add(id, b"100"), Added::First);
    }
}
