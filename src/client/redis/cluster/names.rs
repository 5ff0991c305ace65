//! The names that stand together at one node of a cluster: the sharded names of a slot, or all ordinary ones.
//!
//! ```text
//!   (no node) ──▶ names asked for ──▶ all confirmed ──▶ the node says that the slot is its own ──▶ connected
//!       ▲                 ▲                                                                           │
//!       └─ another node ──┴──────────────────── the link is lost, the slot moves ◀────────────────────┘
//! ```
//!
//! A replica accepts subscriptions to the sharded names of its master's slots, so a node is asked for its slots after
//! it has confirmed the names; ordinary names need no such question.
//!
//! While a slot is on its way to another master, both may publish in it, each to its own subscribers. Its group then stands
//! at neither, once a command has shown it, and what was published meanwhile is for the owner to find out.
//!
//! Pure: no link, no clock.

use std::collections::HashMap;
use std::time::Duration;

use super::node::NodeId;
use crate::client::redis::slot::slot_of;
use crate::client::redis::upstream::SubscriptionKind;

/// Names that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// Channels and patterns.
    Ordinary,
    /// Sharded channels of a slot.
    Slot(u16),
}

impl Group {
    /// The group of a name.
    pub(super) fn of(kind: SubscriptionKind, name: &[u8]) -> Group {
        match kind {
            SubscriptionKind::Channel | SubscriptionKind::Pattern => Group::Ordinary,
            SubscriptionKind::Sharded => Group::Slot(slot_of(name)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Confirmation {
    #[default]
    Pending,
    Confirmed,
    /// Asked for again with the next node, or when another one wants the name.
    Refused,
}

#[derive(Debug, Default)]
struct Name {
    hold_count: u32,
    confirmation: Confirmation,
}

/// The names of a group, and the node that has them.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<(SubscriptionKind, Box<[u8]>), Name>,
    pending_count: usize,
    /// The names stand here.
    node: Option<NodeId>,
    /// The master of the slot, for commands.
    master: Option<NodeId>,
    /// The slot is on its way from its master to another node, which publishes too.
    is_migrating: bool,
    /// When the names were given to another node while they were not connected.
    moved_at: Option<Duration>,
    is_connected: bool,
    /// The question to the node for its slots whose answer makes the group connected.
    question: Option<u64>,
    /// Until then other nodes may say that the slot is not that of its master.
    doubted_until: Option<Duration>,
    lost_count: u64,
}

/// The state of a name that is wanted once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The node must be asked.
    First,
    /// The node has refused it, and must be asked again.
    Again,
    Pending,
    Confirmed,
}

impl Names {
    /// Wants a name.
    pub(super) fn hold(&mut self, kind: SubscriptionKind, name: &[u8]) -> Wanted {
        let entry = self.names.entry((kind, name.into())).or_default();
        entry.hold_count += 1;
        let wanted = match entry.confirmation {
            Confirmation::Confirmed => return Wanted::Confirmed,
            Confirmation::Pending if entry.hold_count != 1 => return Wanted::Pending,
            Confirmation::Pending => Wanted::First,
            Confirmation::Refused => Wanted::Again,
        };
        entry.confirmation = Confirmation::Pending;
        self.pending_count += 1;
        // The answer to an earlier question does not cover this name.
        self.question = None;
        wanted
    }

    /// Gives up what [`hold`](Self::hold) wanted. Returns whether the node must be told.
    pub(super) fn release(&mut self, kind: SubscriptionKind, name: &[u8]) -> bool {
        let key = (kind, Box::from(name));
        let Some(entry) = self.names.get_mut(&key) else {
            return false;
        };
        entry.hold_count -= 1;
        if entry.hold_count != 0 {
            return false;
        }
        if entry.confirmation == Confirmation::Pending {
            self.pending_count -= 1;
        }
        self.names.remove(&key);
        true
    }

    /// The node has confirmed a name. Returns whether it was pending.
    pub(super) fn confirm(&mut self, kind: SubscriptionKind, name: &[u8]) -> bool {
        self.decide(kind, name, Confirmation::Confirmed)
    }

    /// The node refuses a name. Returns whether it was pending.
    pub(super) fn refuse(&mut self, kind: SubscriptionKind, name: &[u8]) -> bool {
        self.decide(kind, name, Confirmation::Refused)
    }

    fn decide(&mut self, kind: SubscriptionKind, name: &[u8], to: Confirmation) -> bool {
        match self.names.get_mut(&(kind, Box::from(name))) {
            Some(entry) if entry.confirmation == Confirmation::Pending => {
                entry.confirmation = to;
                self.pending_count -= 1;
                true
            }
            _ => false,
        }
    }

    /// No name is confirmed any more. Returns whether the group was connected.
    pub(super) fn lose(&mut self) -> bool {
        for entry in self.names.values_mut() {
            entry.confirmation = Confirmation::Pending;
        }
        self.pending_count = self.names.len();
        self.question = None;
        self.doubted_until = None;
        self.lost_count += 1;
        std::mem::take(&mut self.is_connected)
    }

    /// Notes the master of the slot.
    pub(super) fn set_master(&mut self, master: NodeId) {
        if self.master.replace(master) != Some(master) {
            self.is_migrating = false;
        }
    }

    /// Whether the names may be moved again, which is noted.
    pub(super) fn begin_move(&mut self, now: Duration, pause: Duration) -> bool {
        let is_due = |at: Duration| pause <= now.saturating_sub(at);
        let begins = self.moved_at.is_none_or(is_due);
        if begins {
            self.moved_at = Some(now);
        }
        begins
    }

    pub(super) fn set_migrating(&mut self, is_migrating: bool) {
        self.is_migrating = is_migrating;
    }

    /// Gives the group to a node. All names must have been [lost](Self::lose).
    pub(super) fn set_node(&mut self, node: Option<NodeId>) {
        debug_assert_eq!(self.pending_count, self.names.len());
        self.node = node;
    }

    pub(super) fn set_connected(&mut self) {
        self.is_connected = true;
        self.doubted_until = None;
    }

    pub(super) fn set_question(&mut self, number: u64) {
        self.question = Some(number);
    }

    /// The node has said that the slot is not its own: another answer is needed.
    pub(super) fn clear_question(&mut self) {
        self.question = None;
    }

    /// The master has not answered, or says that it cannot serve the slot: until this time the word of others counts.
    pub(super) fn doubt(&mut self, until: Duration) {
        self.doubted_until = Some(until);
    }

    pub(super) fn node(&self) -> Option<NodeId> {
        self.node
    }

    pub(super) fn master(&self) -> Option<NodeId> {
        self.master
    }

    pub(super) fn is_migrating(&self) -> bool {
        self.is_migrating
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(super) fn is_doubted(&self, now: Duration) -> bool {
        self.doubted_until.is_some_and(|until| now < until)
    }

    /// Whether only the node itself may say that the slot is not its own.
    pub(super) fn is_trusted(&self, now: Duration) -> bool {
        self.is_connected && !self.is_doubted(now)
    }

    pub(super) fn question(&self) -> Option<u64> {
        self.question
    }

    /// Whether the node has confirmed or refused all names.
    pub(super) fn is_decided(&self) -> bool {
        self.pending_count == 0
    }

    /// How often the group was lost.
    pub(super) fn lost_count(&self) -> u64 {
        self.lost_count
    }

    /// All names.
    pub(super) fn keys(&self) -> Vec<(SubscriptionKind, Box<[u8]>)> {
        self.names.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SubscriptionKind::{Channel, Pattern, Sharded};

    #[test]
    fn groups_are_slots_and_the_ordinary_names() {
        let cases = [
            (Channel, "{a}1", Group::Ordinary),
            (Pattern, "{a}*", Group::Ordinary),
            (Sharded, "{a}1", Group::Slot(15_495)),
            (Sharded, "a", Group::Slot(15_495)),
        ];
        for (kind, name, expected) in cases {
            assert_eq!(Group::of(kind, name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_name_is_asked_for_once_and_confirmed_for_all() {
        let mut names = Names::default();
        assert!(names.is_decided());
        assert_eq!(names.hold(Sharded, b"a"), Wanted::First);
        assert_eq!(names.hold(Sharded, b"a"), Wanted::Pending);
        assert!(!names.is_decided());
        assert!(names.confirm(Sharded, b"a"));
        assert!(!names.confirm(Sharded, b"a"), "it is no news");
        assert!(!names.confirm(Sharded, b"b"), "it is not wanted");
        assert_eq!(names.hold(Sharded, b"a"), Wanted::Confirmed);
        let releases = [(); 4].map(|()| names.release(Sharded, b"a"));
        assert_eq!(releases, [false, false, true, false]);
        assert_eq!(names.hold(Sharded, b"a"), Wanted::First);
    }

    #[test]
    fn a_name_that_is_refused_is_asked_for_again_when_it_is_wanted_again() {
        let mut names = Names::default();
        names.hold(Sharded, b"a");
        assert!(names.refuse(Sharded, b"a"));
        assert!(names.is_decided());
        assert_eq!(names.hold(Sharded, b"a"), Wanted::Again);
        assert!(!names.is_decided());
    }

    #[test]
    fn a_group_that_is_lost_has_all_names_pending() {
        let mut names = Names::default();
        for name in [b"a", b"b", b"c"] {
            names.hold(Sharded, name);
        }
        names.confirm(Sharded, b"a");
        names.refuse(Sharded, b"b");
        names.release(Sharded, b"c");
        names.set_connected();
        assert!(names.is_decided() && names.is_trusted(Duration::ZERO));
        let until = Duration::from_secs(1);
        names.doubt(until);
        assert!(!names.is_trusted(Duration::ZERO) && names.is_trusted(until));
        assert!(names.lose());
        assert!(!names.is_decided() && !names.is_trusted(Duration::ZERO));
        assert!(!names.lose(), "it was not connected");
        for name in [b"a", b"b"] {
            assert!(names.confirm(Sharded, name));
        }
        assert!(names.is_decided());
    }

    // The answer to an earlier question says nothing of names that were asked for since.
    #[test]
    fn a_new_name_needs_a_new_question() {
        let mut names = Names::default();
        names.set_question(1);
        names.hold(Sharded, b"a");
        assert_eq!(names.question(), None);
    }
}
