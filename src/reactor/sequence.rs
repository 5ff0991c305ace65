//! The order of publications: the ids, and what is kept of them for clients that come back.
//!
//! A reactor has an order of its own, or a place in the order of several. The history
//! decides how long publications are kept; see `pubsub/history.rs`.

use std::collections::VecDeque;
use std::hash::RandomState;

use super::place::OrderPlace;
use crate::pubsub::{
    Body, Event, EventId, History, Numbering, PRESENCE_USERS_MAX, Presence, Scratch,
};

/// The order that the publications of a reactor are in.
pub(super) enum Sequence {
    /// Its own.
    Own(Box<OwnSequence>),
    /// That of a group.
    Shared(Box<OrderPlace>),
}

pub(super) struct OwnSequence {
    history: History,
    presence: Presence,
    scratch: Scratch,
    /// The numbers of publications that another server orders. Their places here are the history's numbers.
    numbering: Option<Box<Numbering>>,
    /// How many members got the newest of these, each with its bucket and number, where that is noted.
    deliveries: Option<VecDeque<((usize, u64), usize)>>,
}

/// Most publications of which it is noted how many members got them.
const DELIVERIES_MAX: usize = 4096;

impl Sequence {
    /// `hasher` is that of the reactor's topics.
    pub(super) fn new(epoch: u64, hasher: RandomState) -> Sequence {
        let history = History::with_hasher(epoch, hasher);
        Sequence::Own(Box::new(OwnSequence::new(history)))
    }

    /// The reactor has ended, or has an order of its own again. Gives the place in a group back: the other reactors put
    /// no more posts there. No user is present any longer. `hasher` is that of the reactor's topics.
    pub(super) fn end(&mut self, hasher: RandomState) {
        if let Sequence::Own(own) = self {
            own.presence.clear();
        }
        if let Sequence::Shared(place) = self {
            let mut history = History::with_hasher(place.sequencer().epoch(), hasher);
            history.continue_from(place.applied());
            *self = Sequence::Own(Box::new(OwnSequence::new(history)));
        }
    }
}

impl OwnSequence {
    fn new(history: History) -> OwnSequence {
        OwnSequence {
            history,
            presence: Presence::new(PRESENCE_USERS_MAX),
            scratch: Scratch::default(),
            numbering: None,
            deliveries: None,
        }
    }

    /// Notes how many members get each publication with a number from now on.
    pub(super) fn note_deliveries(&mut self) {
        self.deliveries.get_or_insert_default();
    }

    pub(super) fn note_delivery(&mut self, number: (usize, u64), delivered: usize) {
        if let Some(deliveries) = &mut self.deliveries {
            if DELIVERIES_MAX <= deliveries.len() {
                deliveries.pop_front();
            }
            deliveries.push_back((number, delivered));
        }
    }

    /// How many members got the publication with a number, if that is known.
    pub(super) fn delivered_of(&self, number: (usize, u64)) -> Option<usize> {
        let mut deliveries = self.deliveries.as_ref()?.iter().rev();
        // The numbers of a bucket ascend.
        let (found, delivered) =
            deliveries.find(|(other, _)| other.0 == number.0 && other.1 <= number.1)?;
        (*found == number).then_some(*delivered)
    }

    pub(super) fn numbering(&self) -> Option<&Numbering> {
        self.numbering.as_deref()
    }

    /// Begins a log of publications that another server orders, behind a number of each bucket of its epoch. `random` chooses
    /// the place of the first log, where this is one.
    pub(super) fn begin_log(&mut self, epoch: u64, numbers: &[u64], random: u64) {
        let head = self.history.head().number;
        let place = match self.numbering {
            None => head.max(Numbering::first_place(random)),
            Some(_) => head + 1,
        };
        self.history.continue_from(place);
        self.numbering = Some(Box::new(Numbering::new(epoch, place, numbers)));
    }

    /// Notes that a number of a bucket was given, and everything up to it heard. Takes a place of its own, so that the id of each
    /// publication stays as it is.
    pub(super) fn note_number(&mut self, bucket: usize, number: u64) {
        let Some(numbering) = &mut self.numbering else {
            return;
        };
        if bucket < numbering.bucket_count() && numbering.number_in(bucket) < number {
            let place = self.history.head().number + 1;
            self.history.continue_from(place);
            numbering.mark(place, bucket, number);
        }
    }

    /// Takes a place without a publication, so that a cursor stands at it alone.
    pub(super) fn skip_place(&mut self) {
        if self.numbering.is_some() {
            self.history.continue_from(self.history.head().number + 1);
        }
    }

    /// As [`append`](Self::append), for a publication that another server has given this number in a bucket.
    pub(super) fn append_numbered(
        &mut self,
        topic: &str,
        hash: u64,
        second: u32,
        event: &Event<'_>,
        (bucket, number): (usize, u64),
    ) -> EventId {
        let place = self.append(topic, hash, || second, event);
        if let Some(numbering) = &mut self.numbering {
            numbering.mark(place, bucket, number);
        }
        self.id_at(place)
    }

    /// The id at a place: that of the publication there, and a cursor behind it.
    #[inline]
    pub(super) fn id_at(&self, place: u64) -> EventId {
        match &self.numbering {
            None => EventId::new(self.history.head().epoch, place),
            Some(numbering) => numbering.id_at(place),
        }
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(super) fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Calls `call` with the history, and drops what it has evicted.
    pub(super) fn with_history<R>(&mut self, call: impl FnOnce(&mut History) -> R) -> R {
        let result = call(&mut self.history);
        self.history.drop_evicted();
        result
    }

    /// Numbers a publication and keeps it. Returns its place. `hash` is that of the topic by the hasher of the reactor's topics.
    #[inline]
    pub(super) fn append(
        &mut self,
        topic: &str,
        hash: u64,
        second: impl FnOnce() -> u32,
        event: &Event<'_>,
    ) -> u64 {
        let OwnSequence {
            history, scratch, ..
        } = self;
        let second = if history.is_kept() { second() } else { 0 };
        let body = || Body::new(topic, event, scratch);
        let id = history.append_of_hash(topic, hash, second, body);
        history.drop_evicted();
        id.number
    }
}
