//! Cursors: the place that the id of an event stands for.
//!
//! An id that the hub has made is `#` and its place. For an id that a publisher has chosen, or that several topics share, a
//! publication stands before the update: in one of 256 topics, by the hash of the id. Its place is that of the id; the update
//! itself follows on it, and is left out for a subscriber that has got it. Of an id that was used twice the first
//! place holds.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::hub::engine::{ReadFor, Source, Start};
use crate::hub::parts::Parts;
use crate::protocol::mercure::EARLIEST;
use crate::pubsub::{Entry, Event, EventId, Since};
use crate::reactor::reactor::Reactor;

use super::topic::id_name;

/// The longest wait for an engine on other nodes.
const WAIT: Duration = Duration::from_secs(5);

/// The bytes of the bodies of one page, about.
const PAGE_BYTES_MAX: usize = 16 * 1024;

/// The id of the event that a subscriber has got last, as it gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LastEvent {
    Earliest,
    /// An id of the hub.
    Place(EventId),
    /// Another one.
    Id(String),
}

impl LastEvent {
    pub(super) fn parse(text: &str) -> LastEvent {
        let place = text.strip_prefix('#').and_then(|place| place.parse().ok());
        match (text, place) {
            (EARLIEST, _) => LastEvent::Earliest,
            (_, Some(place)) => LastEvent::Place(place),
            (id, None) => LastEvent::Id(id.to_owned()),
        }
    }
}

/// The place from which a subscriber reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) since: Since,
    /// The nonce of the update that it has got.
    pub(super) nonce: Option<String>,
}

/// The publication that stands before an update with an id.
pub(super) fn id_event<'e>(id: &str, nonce: &str) -> Event<'e> {
    Event::message(format!("{nonce} {id}"))
}

/// Calls `done` with the place of the first update with this id; with `None` where there is none. It is called once, before this
/// returns or later; with an error where the engine does not answer.
pub(super) fn find<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    id: String,
    done: impl FnOnce(&mut Reactor<S>, Result<Option<Place>, NoAnswer>) + 'static,
) {
    // The subscriber may come from a reactor that is ahead.
    hub.engine.catch_up(reactor);
    let names = vec![(id_name(&id).into(), false)];
    let start = Start::Since(Since::Earliest);
    let source = hub.engine.read(reactor, names, start);
    let search = Search { id, source };
    search.go_on(reactor, done);
}

/// The engine has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer;

/// A search for an id.
struct Search<S: 'static> {
    id: String,
    source: Box<dyn Source<S>>,
}

impl<S: 'static> Search<S> {
    fn go_on(
        mut self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Reactor<S>, Result<Option<Place>, NoAnswer>) + 'static,
    ) {
        loop {
            let read_for = ReadFor::Granted(&|_, _| true);
            let Some(page) = self.source.page(reactor, PAGE_BYTES_MAX, &read_for) else {
                if self.source.is_refused() {
                    return done(reactor, Err(NoAnswer));
                }
                return self.wait(reactor, done);
            };
            let mut entries = page.entries.iter().map(|(_, entry)| entry);
            if let Some((number, nonce)) = entries.find_map(|entry| self.nonce_in(entry)) {
                let since = Since::Id(self.source.id_at(reactor, number));
                let nonce = Some(nonce);
                return done(reactor, Ok(Some(Place { since, nonce })));
            }
            if page.is_end {
                return done(reactor, Ok(None));
            }
        }
    }

    /// The number and the nonce of an entry for this id.
    fn nonce_in(&self, entry: &Entry) -> Option<(u64, String)> {
        let event = entry.body.event();
        let text = event.payload().to_text();
        let (nonce, id) = text.split_once(' ')?;
        (*id == *self.id).then(|| (entry.number, nonce.to_owned()))
    }

    /// Goes on when the next page is there, or gives up.
    fn wait(
        self,
        reactor: &mut Reactor<S>,
        done: impl FnOnce(&mut Reactor<S>, Result<Option<Place>, NoAnswer>) + 'static,
    ) {
        let (ready, late) = (self.source.ready(), self.source.ready());
        let calls = Rc::new(RefCell::new(Some((self, done))));
        let timed = Rc::clone(&calls);
        let timer = reactor.after(WAIT, move |cx| {
            drop(late.take());
            if let Some((_, done)) = timed.take() {
                done(cx.reactor, Err(NoAnswer));
            }
        });
        ready.set(move |reactor| {
            reactor.cancel(timer);
            if let Some((search, done)) = calls.take() {
                search.go_on(reactor, done);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mercure::MercureOptions;
    use crate::hub::{Access, Hub, HubOptions, ReactorGroup};
    use crate::reactor::sim::Sim;

    #[test]
    fn a_reactor_that_is_behind_finds_the_ids_of_the_others() {
        let group = ReactorGroup::new(2);
        let new_sim = || {
            let mut hub = None;
            let sim = Sim::new((), |reactor| {
                let options = HubOptions {
                    mercure: Some(MercureOptions::default()),
                    ..HubOptions::default()
                };
                let own = Hub::of_group(&group.join(reactor)?, options);
                reactor.http("0.0.0.0:80", |router| own.mount(router, &Access::default()))?;
                hub = Some(own);
                std::io::Result::Ok(())
            });
            (sim, hub.unwrap().parts)
        };
        let ((mut one, hub), (mut two, other)) = (new_sim(), new_sim());
        let items = [(id_name("urn:x").into(), id_event("urn:x", "1f"))];
        hub.engine.publish_all(one.reactor(), &items, |_, _| ());
        let found = Rc::new(RefCell::new(Vec::new()));
        for id in ["urn:x", "urn:y"] {
            let found = Rc::clone(&found);
            find(&other, two.reactor(), id.to_owned(), move |_, place| {
                found
                    .borrow_mut()
                    .push(place.unwrap().and_then(|it| it.nonce));
            });
        }
        assert_eq!(found.take(), [Some("1f".to_owned()), None]);
    }

    #[test]
    fn ids_of_events() {
        let place = EventId::new(0x1f, 3);
        for (text, expected) in [
            ("earliest", LastEvent::Earliest),
            ("#1f:3", LastEvent::Place(place)),
            ("1f:3", LastEvent::Id("1f:3".into())),
            ("#other", LastEvent::Id("#other".into())),
            ("urn:x", LastEvent::Id("urn:x".into())),
        ] {
            assert_eq!(LastEvent::parse(text), expected, "{text}");
        }
    }
}
