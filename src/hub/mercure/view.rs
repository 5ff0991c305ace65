//! Views: what a subscriber selects, and what its token lets it read. Subscribers with the same view share one, and the
//! bytes of each update.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::mercure::selector::Selector;
use crate::pubsub::Rules;

use super::topic;

/// The selectors of a subscriber, and those of its token.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) wanted: Vec<Selector>,
    pub(super) granted: Vec<Selector>,
}

impl View {
    /// Whether the subscriber gets an update as it is published to one of its topics: to the first that is selected, so that the
    /// update comes once.
    pub(super) fn sees(&self, topics: &[&str], index: usize, is_private: bool) -> bool {
        let is_selected = |topic: &&str| self.wanted.iter().any(|selector| selector.matches(topic));
        topics.iter().position(is_selected) == Some(index)
            && (!is_private || topics.iter().any(|topic| self.may_read(topic)))
    }

    /// Whether its token grants private updates of a topic.
    pub(super) fn may_read(&self, topic: &str) -> bool {
        self.granted.iter().any(|selector| selector.matches(topic))
    }

    /// Whether it needs no look at each update: it has one selector, of one topic, which the token grants where that matters.
    pub(super) fn is_simple(&self, is_private: bool) -> bool {
        match &self.wanted[..] {
            [one] if one.glob(0).is_none() => !is_private || self.may_read(one.text()),
            _ => false,
        }
    }
}

thread_local! {
    /// The last number that was given on this thread. Two hubs never give the same one, so that the view of one is not taken for
    /// that of the other.
    static LAST_NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// The views of all subscribers of a hub on a reactor, by a number from 1 on.
pub(super) struct Views {
    rules: Rules,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// The views, and how many subscribers have each.
    views: HashMap<u32, (Rc<View>, usize)>,
    numbers: HashMap<Rc<View>, u32>,
    /// Numbers that were given back.
    free: Vec<u32>,
}

impl Views {
    pub(super) fn new(rules: &Rules) -> Views {
        Views {
            rules: rules.clone(),
            known: RefCell::default(),
        }
    }

    /// Whether updates that are published to a name are for those alone whose token grants them.
    pub(super) fn is_private(&self, name: &str) -> bool {
        let is_private = topic::split(name).is_none_or(|(is_private, _)| is_private);
        is_private || self.rules.of(name).is_private
    }

    /// Adds a subscriber with a view, and returns its number.
    pub(super) fn add(&self, view: View) -> u32 {
        let mut known = self.known.borrow_mut();
        let number = known.numbers.get(&view).copied();
        if let Some(number) = number
            && let Some((_, count)) = known.views.get_mut(&number)
        {
            *count += 1;
            return number;
        }
        let number = known.free.pop().unwrap_or_else(|| {
            // Each number in use is that of a connection, of which there are fewer.
            LAST_NUMBER.set(LAST_NUMBER.get() + 1);
            LAST_NUMBER.get()
        });
        let view = Rc::new(view);
        known.views.insert(number, (Rc::clone(&view), 1));
        known.numbers.insert(view, number);
        number
    }

    /// Removes a subscriber with a view.
    pub(super) fn remove(&self, number: u32) {
        let mut known = self.known.borrow_mut();
        let Some((_, count)) = known.views.get_mut(&number) else {
            return;
        };
        *count -= 1;
        if *count == 0
            && let Some((view, _)) = known.views.remove(&number)
        {
            known.numbers.remove(&view);
            known.free.push(number);
        }
    }

    /// The view with a number. `None` for one of another hub.
    pub(super) fn get(&self, number: u32) -> Option<Rc<View>> {
        let known = self.known.borrow();
        known.views.get(&number).map(|(view, _)| Rc::clone(view))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(wanted: &[&str], granted: &[&str]) -> View {
        let list = |texts: &[&str]| {
            let selectors = texts.iter().map(|text| Selector::template(text));
            selectors.collect::<Result<_, _>>().unwrap()
        };
        View {
            wanted: list(wanted),
            granted: list(granted),
        }
    }

    #[test]
    fn an_update_with_several_topics_is_seen_once() {
        let cases: &[(&[&str], &[&str], &[&str], bool, Option<usize>)] = &[
            (&["a"], &[], &["a"], false, Some(0)),
            (&["a"], &[], &["b", "a"], false, Some(1)),
            (&["a", "b"], &[], &["b", "a"], false, Some(0)),
            (&["*"], &[], &["b", "a"], false, Some(0)),
            (&["/{id}"], &[], &["x", "/1", "/2"], false, Some(1)),
            (&["c"], &[], &["b", "a"], false, None),
            (&["a"], &[], &["a"], true, None),
            (&["a"], &["b"], &["a"], true, None),
            (&["a"], &["b"], &["a", "b"], true, Some(0)),
            (&["b"], &["*"], &["a", "b"], true, Some(1)),
            (&["c"], &["a"], &["a", "b"], true, None),
        ];
        for (wanted, granted, topics, is_private, expected) in cases {
            let view = view(wanted, granted);
            let seen = (0..topics.len()).filter(|index| view.sees(topics, *index, *is_private));
            let seen: Vec<usize> = seen.collect();
            let expected: Vec<usize> = expected.iter().copied().collect();
            assert_eq!(seen, expected, "{wanted:?} {granted:?} {topics:?}");
        }
    }

    #[test]
    fn views_are_shared_and_their_numbers_used_again() {
        let views = Views::new(&Rules::new());
        let one = views.add(view(&["a"], &[]));
        assert_eq!(views.add(view(&["a"], &[])), one);
        let two = views.add(view(&["a"], &["a"]));
        assert_ne!(one, two);
        views.remove(one);
        assert!(views.get(one).is_some());
        views.remove(one);
        assert!(views.get(one).is_none() && views.get(two).is_some());
        views.remove(one);
        assert_eq!(views.add(view(&["b"], &[])), one);
        assert!(views.get(0).is_none());
        let other = Views::new(&Rules::new());
        let number = other.add(view(&["a"], &[]));
        assert!(number != one && number != two && views.get(number).is_none());
    }
}
