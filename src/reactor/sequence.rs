//! The order of publications: the ids, and what is kept of them for clients that come back.
//!
//! A reactor has an order of its own, or a place in the order of several. The history
//! decides how long publications are kept; see `pubsub/history.rs`.

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
}

impl Sequence {
    /// `hasher` is that of the reactor's topics.
    pub(super) fn new(epoch: u64, hasher: RandomState) -> Sequence {
        let history = History::with_hasher(epoch, hasher);
        Sequence::Own(Box::new(OwnSequence::new(history)))
    }

    /// The reactor has ended. Gives the place in a group back: the other reactors put no more posts there. No user
    /// is present any longer.
    pub(super) fn end(&mut self) {
        if let Sequence::Own(own) = self {
            own.presence.clear();
        }
        if let Sequence::Shared(place) = self {
            let mut history = History::new(place.sequencer().epoch());
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
        }
    }

    pub(super) fn numbering(&self) -> Option<&Numbering> {
        self.numbering.as_deref()
    }

    /// Begins a log of publications that another server orders, behind a number of its epoch. `random` chooses the place of
    /// the first log, where this is one.
    pub(super) fn begin_log(&mut self, epoch: u64, number: u64, random: u64) {
        let head = self.history.head().number;
        let place = match self.numbering {
            None => head.max(Numbering::first_place(random)),
            Some(_) => head + 1,
        };
        self.history.continue_from(place);
        self.numbering = Some(Box::new(Numbering::new(epoch, place, number)));
    }

    /// Notes that a number was given, and everything up to it heard. Takes a place of its own, so that the id of each
    /// publication stays as it is.
    pub(super) fn note_number(&mut self, number: u64) {
        let Some(numbering) = &mut self.numbering else {
            return;
        };
        if numbering.number() < number {
            let place = self.history.head().number + 1;
            self.history.continue_from(place);
            numbering.mark(place, number);
        }
    }

    /// Takes a place without a publication, so that a cursor stands at it alone.
    pub(super) fn skip_place(&mut self) {
        if self.numbering.is_some() {
            self.history.continue_from(self.history.head().number + 1);
        }
    }

    /// As [`append`](Self::append), for a publication that another server has given this number.
    pub(super) fn append_numbered(
        &mut self,
        topic: &str,
        hash: u64,
        second: u32,
        event: &Event<'_>,
        number: u64,
    ) -> EventId {
        let id = self.append(topic, hash, || second, event);
        let place = self.history.head().number;
        match &mut self.numbering {
            None => id,
            Some(numbering) => {
                numbering.mark(place, number);
                numbering.id_at(place)
            }
        }
    }

    /// The id at a place: that of the publication there, and a cursor behind it.
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

    /// Numbers a publication and keeps it. `hash` is that of the topic by the hasher of the reactor's topics.
    #[inline]
    pub(super) fn append(
        &mut self,
        topic: &str,
        hash: u64,
        second: impl FnOnce() -> u32,
        event: &Event<'_>,
    ) -> EventId {
        let OwnSequence {
            history,
            scratch,
            numbering,
            ..
        } = self;
        let second = if history.is_kept() { second() } else { 0 };
        let body = || Body::new(topic, event, scratch);
        let id = history.append_of_hash(topic, hash, second, body);
        history.drop_evicted();
        match numbering {
            None => id,
            Some(numbering) => numbering.id_at(id.number),
        }
    }
}
