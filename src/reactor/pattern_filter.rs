//! Which members by pattern get what is published to a topic.
//!
//! A member by name was asked for its rights when it subscribed. A pattern also matches topics that begin later,
//! so the members by pattern of a private topic are looked at with each delivery. A topic that no filter is about
//! costs one look-up for each delivery that has members by pattern, and nothing for each member.

use std::rc::Rc;

use super::id::ConnId;

/// Says which members by pattern do not get what is published to a topic.
pub(crate) trait PatternFilter {
    /// Whether [`hides`](Self::hides) must be asked for each member by pattern of this topic.
    fn is_about(&self, topic: &str) -> bool;

    /// Whether a member does not get what is published to such a topic.
    fn hides(&self, topic: &str, member: ConnId) -> bool;
}

/// The filters of a reactor. A member gets what none of them hides.
#[derive(Default)]
pub(super) struct PatternFilters(Vec<Rc<dyn PatternFilter>>);

impl PatternFilters {
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(super) fn add(&mut self, filter: Rc<dyn PatternFilter>) {
        self.0.push(filter);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The filters that are about a topic.
    pub(super) fn of<'t>(&self, topic: &'t str) -> TopicFilter<'_, 't> {
        let filters = self.0.iter().filter(|filter| filter.is_about(topic));
        TopicFilter {
            topic,
            filters: filters.map(|filter| &**filter).collect(),
        }
    }
}

/// The filters that are about one topic.
pub(super) struct TopicFilter<'f, 't> {
    topic: &'t str,
    /// Without memory on the heap for a topic that no filter is about.
    filters: Vec<&'f dyn PatternFilter>,
}

impl TopicFilter<'_, '_> {
    pub(super) fn topic(&self) -> &str {
        self.topic
    }

    /// Whether every member by pattern gets what is published.
    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(super) fn hides(&self, member: u64) -> bool {
        let member = ConnId::from_bits(member);
        let mut filters = self.filters.iter();
        filters.any(|filter| filter.hides(self.topic, member))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::pubsub::{Audience, Notice};
    use crate::reactor::reactor::Reactor;
    use crate::reactor::sim::Sim;

    /// Hides the topics that begin with `p` from one member, and counts how often it is asked.
    struct HidesFrom(ConnId, RefCell<Vec<&'static str>>);

    impl PatternFilter for HidesFrom {
        fn is_about(&self, topic: &str) -> bool {
            self.1.borrow_mut().push("about");
            topic.starts_with('p')
        }

        fn hides(&self, _: &str, member: ConnId) -> bool {
            self.1.borrow_mut().push("hides");
            member == self.0
        }
    }

    #[test]
    fn members_by_pattern_are_filtered_and_members_by_name_are_not() {
        let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<ConnId>>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.state.push(ws.id));
            })
        });
        let sockets = [sim.websocket("/"), sim.websocket("/")];
        let ids = sim.state().clone();
        let filter = Rc::new(HidesFrom(ids[0], RefCell::default()));
        let reactor = sim.reactor();
        reactor.add_pattern_filter(Rc::<HidesFrom>::clone(&filter));
        let asked = || filter.1.take();

        reactor.subscribe(ids[0], "private").unwrap();
        assert_eq!(reactor.publish("private", "1").delivered, 1);
        assert_eq!(asked(), [""; 0], "there is no pattern");
        for id in &ids {
            reactor.subscribe_pattern(*id, "p*").unwrap();
            reactor.subscribe_pattern(*id, "*").unwrap();
        }
        assert_eq!(reactor.publish("private", "2").delivered, 2);
        assert_eq!(reactor.publish("p2", "3").delivered, 1);
        asked();
        assert_eq!(reactor.publish("open", "4").delivered, 2);
        assert_eq!(asked(), ["about"], "once for each publication");
        let notice = Notice::Gap { cursor: "1:3" };
        reactor.deliver_notice("p2", &notice, Audience::All, None);
        assert_eq!(asked(), ["about", "hides", "hides", "hides", "hides"]);
        sim.settle();
        assert_eq!(sockets[0].received(), ["1", "2", "4"]);
        assert_eq!(sockets[1].received(), ["2", "3", "4"]);
    }
}
