//! One node of a cluster: its link, and the questions to it for its slots.

use std::time::Duration;

use crate::client::redis::Redis;

/// A node to which there is a link. The number of a link that was closed is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u32);

pub(super) struct Node<S: 'static> {
    /// `HOST:PORT`.
    address: String,
    redis: Redis<S>,
    /// The link has told that it is connected, and not that it is lost.
    is_connected: bool,
    /// The node has said that it knows no slots, as one that was taken out of its cluster.
    is_alone: bool,
    /// The number of the last question for the slots, of the last one that was answered, and of the last one that is wanted.
    asked: u64,
    answered: u64,
    wanted: u64,
    is_asking: bool,
    /// No names have stood here since this time.
    unused_since: Option<Duration>,
}

impl<S: 'static> Node<S> {
    pub(super) fn new(address: &str, redis: Redis<S>) -> Node<S> {
        Node {
            address: address.to_owned(),
            redis,
            is_connected: false,
            is_alone: false,
            asked: 0,
            answered: 0,
            wanted: 0,
            is_asking: false,
            unused_since: None,
        }
    }

    pub(super) fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
    }

    pub(super) fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Wants a question that is sent from now on, and returns its number.
    pub(super) fn want_question(&mut self) -> u64 {
        self.wanted = self.asked + 1;
        self.wanted
    }

    /// Returns the number of the question that is to be sent now, if one is.
    pub(super) fn begin_question(&mut self) -> Option<u64> {
        if self.is_asking || !self.is_connected || self.wanted <= self.asked {
            return None;
        }
        self.is_asking = true;
        self.asked += 1;
        Some(self.asked)
    }

    /// A question is over. One that was not answered is wanted again.
    pub(super) fn end_question(&mut self, number: u64, is_answered: bool) {
        self.is_asking = false;
        match is_answered {
            true => self.answered = number,
            false => self.wanted = self.asked + 1,
        }
    }

    /// Notes whether names stand here, and returns the time since which none have.
    pub(super) fn note_use(&mut self, is_used: bool, now: Duration) -> Option<Duration> {
        self.unused_since = match is_used {
            true => None,
            false => self.unused_since.or(Some(now)),
        };
        self.unused_since
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn redis(&self) -> &Redis<S> {
        &self.redis
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether the node may carry the ordinary names.
    pub(super) fn is_relaying(&self) -> bool {
        self.is_connected && !self.is_alone
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }
}
