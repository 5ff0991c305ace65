//! Publications that another server has ordered, such as Redis, and that this reactor hears.
//!
//! The reactor keeps them in its own history, which is then the log of what it has heard: see
//! `pubsub/numbering.rs`. Members get them in the order of the calls.

use super::id::ConnId;
use super::published::Published;
use super::reactor::Reactor;
use super::sequence::Sequence;
use crate::pubsub::{Audience, Event, EventId, Found, NameKind, Notice, Reader, Since};

impl<S: 'static> Reactor<S> {
    /// Begins a log of what another server orders, behind a number of each bucket of its epoch. With another epoch, or other
    /// numbers, the log goes on, and cursors of the earlier one are no more found. `random` is any number; it chooses the
    /// first place of the log. Not for a reactor of a group.
    ///
    /// # Panics
    ///
    /// Without a number, and with more than 16.
    #[doc(hidden)]
    pub fn begin_log(&mut self, epoch: u64, numbers: &[u64], random: u64) {
        if let Sequence::Own(own) = &mut self.sequence {
            own.begin_log(epoch, numbers, random);
        }
    }

    /// Notes that a number of a bucket was given, and that everything up to it was heard that this reactor listens to.
    #[doc(hidden)]
    pub fn note_number(&mut self, bucket: usize, number: u64) {
        if let Sequence::Own(own) = &mut self.sequence {
            own.note_number(bucket, number);
        }
    }

    /// Puts a publication into the log and queues it for its members, apart from `except`. `number` is the server's: the bucket and its
    /// number; without one it is a message that the server has not numbered.
    #[doc(hidden)]
    pub fn publish_heard(
        &mut self,
        topic: &str,
        event: &Event<'_>,
        number: Option<(usize, u64)>,
        except: Option<ConnId>,
    ) -> Published {
        let Some(number) = number else {
            return self.publish_to(topic, event, except);
        };
        self.table.stats_mut().publications += 1;
        let second = self.publication_second();
        let hash = self.topics.hash(topic);
        let Sequence::Own(own) = &mut self.sequence else {
            return self.publish_to(topic, event, except);
        };
        let id = own.append_numbered(topic, hash, second, event, number);
        let delivered = self.deliver(topic, id, event, except);
        self.arm_expiry();
        if let Sequence::Own(own) = &mut self.sequence {
            own.note_delivery(number, delivered);
        }
        Published::new(id, delivered)
    }

    /// Notes how many members get each publication with a number from now on.
    #[doc(hidden)]
    pub fn note_deliveries(&mut self) {
        if let Sequence::Own(own) = &mut self.sequence {
            own.note_deliveries();
        }
    }

    /// How many members of this reactor got a publication with a number. `None` where it has members and was not heard
    /// yet.
    #[doc(hidden)]
    pub fn delivered_of(&self, topic: &str, bucket: usize, number: u64) -> Option<usize> {
        let Sequence::Own(own) = &self.sequence else {
            return Some(0);
        };
        own.delivered_of((bucket, number)).or_else(|| {
            let is_wanted = self.topics.members(topic).next().is_some();
            (!is_wanted || number <= self.newest_number(bucket)).then_some(0)
        })
    }

    /// Keeps a call until [`call_parked`](Self::call_parked) is called with the number that this returns. The caller bounds
    /// how many there are.
    #[doc(hidden)]
    pub fn park(&mut self, call: impl FnOnce(&mut Reactor<S>, usize) + 'static) -> u64 {
        self.parked.add(Box::new(call))
    }

    /// Calls what was kept. Does nothing for a number that is not known.
    #[doc(hidden)]
    pub fn call_parked(&mut self, id: u64, value: usize) {
        if let Some(call) = self.parked.take(id) {
            call(self, value);
        }
    }

    /// Finds the place of a cursor in the log.
    #[doc(hidden)]
    pub fn find_cursor(&self, cursor: EventId) -> Found {
        match &self.sequence {
            Sequence::Own(own) => {
                let head = own.history().head().number;
                (own.numbering()).map_or(Found::Unknown, |it| it.find(&cursor, head))
            }
            Sequence::Shared(_) => Found::Unknown,
        }
    }

    /// The bucket and the number that the server has given the publication at a place of the log.
    #[doc(hidden)]
    pub fn number_at(&self, place: u64) -> Option<(usize, u64)> {
        match &self.sequence {
            Sequence::Own(own) => own.numbering()?.number_at(place),
            Sequence::Shared(_) => None,
        }
    }

    /// The newest number of a bucket that is known to be given.
    #[doc(hidden)]
    pub fn newest_number(&self, bucket: usize) -> u64 {
        match &self.sequence {
            Sequence::Own(own) => own.numbering().map_or(0, |it| it.number_in(bucket)),
            Sequence::Shared(_) => 0,
        }
    }

    /// The place at which a bucket got the number that it has at a place of the log. Zero where that is not known.
    #[doc(hidden)]
    pub fn bucket_place(&self, bucket: usize, place: u64) -> u64 {
        match &self.sequence {
            Sequence::Own(own) => own.numbering().map_or(0, |it| it.place_in(bucket, place)),
            Sequence::Shared(_) => 0,
        }
    }

    /// The newest place of the log.
    #[doc(hidden)]
    pub fn newest_place(&self) -> u64 {
        self.applied_number()
    }

    /// The newest place of the log, after it was made one without a number: a cursor that stands at it is exact, so that
    /// messages without a number that come next are found behind it.
    #[doc(hidden)]
    pub fn exact_place(&mut self) -> u64 {
        let is_numbered = self.number_at(self.newest_place()).is_some();
        if is_numbered && let Sequence::Own(own) = &mut self.sequence {
            own.skip_place();
        }
        self.newest_place()
    }

    /// Begins to read the log behind a place.
    #[doc(hidden)]
    pub fn read_log(
        &mut self,
        names: impl IntoIterator<Item = (Box<str>, bool)>,
        place: u64,
    ) -> Reader {
        self.with_history(|history| {
            let since = Since::Id(EventId::new(history.head().epoch, place));
            Reader::new(history, names, since, false)
        })
    }

    /// Whether a topic that only a pattern has found is hidden from a connection.
    #[doc(hidden)]
    pub fn is_hidden(&self, topic: &str, member: ConnId) -> bool {
        self.pattern_filters.of(topic).hides(member.to_bits())
    }

    /// The topics and the patterns that have members.
    #[doc(hidden)]
    pub fn subscribed_names(&self) -> impl Iterator<Item = (NameKind, &str)> {
        self.topics.subscribed_names()
    }

    /// Tells the members of a name that messages may be missing before this moment. Returns its place in the log, which is
    /// also in the cursor that they are told.
    #[doc(hidden)]
    pub fn tell_gap(&mut self, name: &str, is_pattern: bool) -> u64 {
        if let Sequence::Own(own) = &mut self.sequence {
            own.skip_place();
        }
        let cursor = self.cursor().to_string();
        self.tell_gap_at(name, is_pattern, &cursor);
        self.newest_place()
    }

    fn tell_gap_at(&mut self, name: &str, is_pattern: bool, cursor: &str) {
        let audience = match is_pattern {
            true => Audience::OfPattern,
            false => Audience::ByName,
        };
        self.deliver_notice(name, &Notice::Gap { cursor }, audience, None);
    }

    /// Tells the members of all names that messages may be missing before this moment. Returns its place in the log,
    /// which is also in the cursor that they are told.
    #[doc(hidden)]
    pub fn tell_gap_to_all(&mut self) -> u64 {
        if let Sequence::Own(own) = &mut self.sequence {
            own.skip_place();
        }
        let names: Vec<(NameKind, Box<str>)> = self
            .topics
            .subscribed_names()
            .map(|(kind, name)| (kind, name.into()))
            .collect();
        let cursor = self.cursor().to_string();
        for (kind, name) in names {
            self.tell_gap_at(&name, kind == NameKind::Pattern, &cursor);
        }
        self.newest_place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::Rules;
    use crate::reactor::sim::Sim;

    #[test]
    fn ids_are_those_of_the_server() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.keep_history(&Rules::default(), 1 << 20);
            Ok::<(), std::io::Error>(())
        });
        let reactor = sim.reactor();
        reactor.begin_log(0xe, &[16], 7);
        assert_eq!(reactor.cursor().to_string(), "e:16");
        let first = reactor.newest_place();
        let hear = |reactor: &mut Reactor<()>, number| {
            let event = Event::message("x");
            reactor
                .publish_heard("t", &event, number, None)
                .id
                .to_string()
        };
        assert_eq!(hear(reactor, Some((0, 17))), "e:17");
        assert_eq!(hear(reactor, None), format!("e:17-{}", first + 2));
        reactor.note_number(0, 20);
        reactor.note_number(0, 19);
        assert_eq!(reactor.cursor().to_string(), "e:20");
        assert_eq!(
            reactor.find_cursor(EventId::new(0xe, 19)),
            Found::At(first + 1)
        );
        assert_eq!(
            reactor.find_cursor(EventId::new(0xe, 20)),
            Found::At(first + 3)
        );
        assert_eq!(reactor.find_cursor(EventId::new(0xe, 21)), Found::Unknown);
        assert_eq!(reactor.epoch(), 0xe);
        assert_eq!(hear(reactor, Some((0, 23))), "e:23");
        let names = [("t".into(), false)];
        let mut reader = reactor.read_history(names, Since::Earliest, false);
        let page = reactor.history_page(&mut reader, 1000, |_, _| true);
        let ids: Vec<_> = (page.entries.iter())
            .map(|(_, entry)| reactor.id_at(entry.number).to_string())
            .collect();
        assert_eq!(
            ids,
            ["e:17".into(), format!("e:17-{}", first + 2), "e:23".into()]
        );
        reactor.begin_log(0xf, &[30], 7);
        assert_eq!(reactor.cursor().to_string(), "f:30");
        assert_eq!(reactor.find_cursor(EventId::new(0xe, 23)), Found::Unknown);
        // The cursor of a gap is exact, so that no earlier message hides behind it.
        let place = reactor.tell_gap_to_all();
        assert_eq!(reactor.cursor().to_string(), format!("f:30-{place}"));
        assert_eq!(reactor.find_cursor(reactor.cursor()), Found::At(place));
    }
}
