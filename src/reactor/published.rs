//! The result of a publication.

use super::outcome::{Outcome, Sealed};
use crate::pubsub::EventId;

/// The result of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its id: one sequence for all topics, assigned here.
    pub id: EventId,
    /// How many members' queues accepted it.
    pub delivered: usize,
}

impl Published {
    pub(crate) fn new(id: EventId, delivered: usize) -> Published {
        Published { id, delivered }
    }
}

impl Sealed for Published {}
impl Outcome for Published {}
