//! HTTP requests that wait for publications, and what has come for each of them.
//!
//! The connection of such a request is a member of topics while the request waits. A publication is not queued for
//! it, because an answer says its length first. It is kept here, in bytes that all members with the same format
//! share, until the turn has the request answered with everything that has come. Each request has a limit; its
//! client gets the rest from the history.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::pubsub::{Encoded, EventId, FramedFormat};
use crate::reactor::burst::{BURST, give_back_queue};
use crate::reactor::close::Sent;
use crate::reactor::id::ConnId;

/// Most publications that are kept for one request.
pub(crate) const AWAITED_MESSAGES_MAX: usize = 1000;

/// Most bytes that are kept for one request, apart from a single publication that is longer.
pub(crate) const AWAITED_BYTES_MAX: usize = 1024 * 1024;

/// The publications that have come for a request.
#[derive(Debug)]
pub(crate) struct Awaited {
    format: FramedFormat,
    messages: Vec<Rc<[u8]>>,
    bytes: usize,
    /// The id of the last message.
    last: Option<EventId>,
    /// A publication came for which there was no room.
    is_cut: bool,
    gaps: Vec<Box<str>>,
    /// The request is to be answered.
    is_ready: bool,
}

#[allow(dead_code, reason = "the hub will ask")]
impl Awaited {
    /// The bodies of the publications, in their order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|message| &**message)
    }

    /// The names of which publications may be missing.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = &str> {
        self.gaps.iter().map(|name| &**name)
    }

    /// The id of the last message, where there was no room for later ones.
    pub(crate) fn cut_behind(&self) -> Option<EventId> {
        self.last.filter(|_| self.is_cut)
    }

    /// The bodies, for the account of what queues share.
    pub(super) fn into_bodies(self) -> Vec<Rc<[u8]>> {
        self.messages
    }
}

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct Awaiting {
    requests: HashMap<ConnId, Awaited>,
    /// Requests that are to be answered. One whose client has gone stays until it comes to the front.
    ready: VecDeque<ConnId>,
}

impl Awaiting {
    /// Keeps what comes for the request of this connection from now on.
    pub(super) fn insert(&mut self, id: ConnId, format: FramedFormat) {
        let awaited = Awaited {
            format,
            messages: Vec::new(),
            bytes: 0,
            last: None,
            is_cut: false,
            gaps: Vec::new(),
            is_ready: false,
        };
        self.requests.insert(id, awaited);
    }

    /// Keeps a publication. `None` when no request of this connection waits.
    pub(super) fn add(
        &mut self,
        id: ConnId,
        encoded: &mut Encoded<'_>,
        value: u32,
    ) -> Option<Sent> {
        let Awaiting { requests, ready } = self;
        let awaited = requests.get_mut(&id)?;
        let count = awaited.messages.len();
        if awaited.is_cut || AWAITED_MESSAGES_MAX <= count {
            awaited.is_cut = true;
            return Some(Sent::Full);
        }
        let message = encoded.get(awaited.format, value);
        if count != 0 && AWAITED_BYTES_MAX < awaited.bytes + message.len() {
            awaited.is_cut = true;
            return Some(Sent::Full);
        }
        awaited.bytes += message.len();
        awaited.messages.push(message);
        awaited.last = Some(*encoded.id());
        list(id, awaited, ready);
        Some(Sent::Queued)
    }

    /// Notes that publications of this topic or pattern may be missing.
    pub(super) fn add_gap(&mut self, id: ConnId, name: &str) {
        let Awaiting { requests, ready } = self;
        if let Some(awaited) = requests.get_mut(&id) {
            if !awaited.gaps.iter().any(|known| **known == *name) {
                awaited.gaps.push(name.into());
            }
            list(id, awaited, ready);
        }
    }

    /// Has the request of this connection answered in this turn, whatever has come. Returns whether one waits.
    pub(super) fn make_ready(&mut self, id: ConnId) -> bool {
        let Awaiting { requests, ready } = self;
        match requests.get_mut(&id) {
            Some(awaited) => list(id, awaited, ready),
            None => return false,
        }
        true
    }

    /// Takes the request out that is answered next.
    pub(super) fn take_ready(&mut self) -> Option<(ConnId, Awaited)> {
        while let Some(id) = self.ready.pop_front() {
            // The id may be that of an earlier request of the same connection.
            if self.requests.get(&id).is_some_and(|it| it.is_ready) {
                return Some((id, self.requests.remove(&id)?));
            }
        }
        None
    }

    /// Takes a request out that is not answered here.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Awaited> {
        self.requests.remove(&id)
    }

    #[inline]
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives memory back after a burst.
    pub(super) fn give_back_memory(&mut self) {
        give_back_queue(&mut self.ready);
        if self.requests.is_empty() && BURST < self.requests.capacity() {
            self.requests = HashMap::new();
        }
    }
}

fn list(id: ConnId, awaited: &mut Awaited, ready: &mut VecDeque<ConnId>) {
    if !std::mem::replace(&mut awaited.is_ready, true) {
        ready.push_back(id);
    }
}
