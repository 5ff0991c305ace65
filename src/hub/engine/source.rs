//! The place that a client reads from until it is live: a history that is here, or pages that come from another server.

use std::cell::RefCell;
use std::rc::Rc;

use crate::pubsub::{EventId, Page, Reader, Rule, Since, Wanted};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// Where a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes.
    Now,
    /// Behind a cursor, or with the oldest that is there.
    Since(Since),
    /// With the latest value of each key; of those behind a cursor, if there is one.
    Latest(Option<Since>),
}

impl Start {
    /// The start that a client has asked for.
    pub fn new(since: Option<Since>, is_latest: bool) -> Start {
        match (since, is_latest) {
            (since, true) => Start::Latest(since),
            (Some(since), false) => Start::Since(since),
            (None, false) => Start::Now,
        }
    }
}

/// The client that reads, which decides about topics that only a pattern has found.
pub enum ReadFor<'f> {
    /// Topics that are hidden from this connection are left out.
    Client(ConnId),
    /// Topics that are not granted are left out.
    Granted(&'f dyn Fn(&str, &Rule) -> bool),
}

type Call<S> = Box<dyn FnOnce(&mut Reactor<S>)>;

/// The call to make when the next page of a source is there. Dropping the call gives the client up.
pub struct Ready<S: 'static>(Rc<RefCell<Option<Call<S>>>>);

impl<S> Clone for Ready<S> {
    fn clone(&self) -> Self {
        Ready(Rc::clone(&self.0))
    }
}

impl<S> Default for Ready<S> {
    fn default() -> Self {
        Ready(Rc::default())
    }
}

impl<S: 'static> Ready<S> {
    /// Sets the call. It comes in a later turn.
    pub fn set(&self, call: impl FnOnce(&mut Reactor<S>) + 'static) {
        *self.0.borrow_mut() = Some(Box::new(call));
    }

    /// Takes the call.
    pub fn take(&self) -> Option<Call<S>> {
        self.0.borrow_mut().take()
    }
}

/// The publications for one client, page by page, until it can be a member.
///
/// Numbers in a page stand for ids: see [`id_at`](Self::id_at). They ascend, up to a page that ends a section. Behind it
/// other numbers begin.
pub trait Source<S: 'static> {
    /// Reads the next page, up to what this reactor has delivered. `None` while it is under way.
    fn page(
        &mut self,
        reactor: &mut Reactor<S>,
        bytes_max: usize,
        read_for: &ReadFor<'_>,
    ) -> Option<Page>;

    /// Where the call is set that is made when the next page is there.
    fn ready(&self) -> Ready<S>;

    /// The id that a number in a page stands for.
    fn id_at(&self, reactor: &Reactor<S>, number: u64) -> EventId;

    /// The number up to which it has read.
    fn after(&self) -> u64;

    /// A cursor behind all that was read.
    fn cursor(&self, reactor: &Reactor<S>) -> EventId;

    /// Whether all pages are there at once. A page that does not go on is then the last one.
    fn is_here(&self) -> bool;

    /// Whether there will be no page, because the engine is refused a name.
    fn is_refused(&self) -> bool {
        false
    }

    /// Goes back to a number of the last page, which was not taken to its end.
    fn rewind(&mut self, number: u64);

    /// The names, by the index that stands in pages.
    fn wanted(&self) -> &[Wanted];

    /// Leaves out the names for which `is_wanted` is false. Not between a page and the use of its indexes.
    fn retain(&mut self, is_wanted: &mut dyn FnMut(&str) -> bool);
}

/// A history that is here: each page is there at once.
impl<S: 'static> Source<S> for Reader {
    fn page(
        &mut self,
        reactor: &mut Reactor<S>,
        bytes_max: usize,
        read_for: &ReadFor<'_>,
    ) -> Option<Page> {
        Some(match read_for {
            ReadFor::Client(id) => reactor.history_page_of(self, bytes_max, *id),
            ReadFor::Granted(is_granted) => reactor.history_page(self, bytes_max, is_granted),
        })
    }

    fn ready(&self) -> Ready<S> {
        Ready::default()
    }

    fn id_at(&self, reactor: &Reactor<S>, number: u64) -> EventId {
        reactor.id_at(number)
    }

    fn after(&self) -> u64 {
        Reader::after(self)
    }

    fn cursor(&self, reactor: &Reactor<S>) -> EventId {
        reactor.id_at(Reader::after(self))
    }

    fn is_here(&self) -> bool {
        true
    }

    fn rewind(&mut self, number: u64) {
        Reader::rewind(self, number);
    }

    fn wanted(&self) -> &[Wanted] {
        Reader::wanted(self)
    }

    fn retain(&mut self, is_wanted: &mut dyn FnMut(&str) -> bool) {
        Reader::retain(self, is_wanted);
    }
}
