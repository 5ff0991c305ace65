//! The identifiers of subscriptions, each kept once with a number: what is broadcast is encoded once for each of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::json;
use crate::pubsub::{BodyKind, EventId, Payload, Publication};

/// The value of a message that is sent as it is, and not to a subscription.
pub(super) const AS_IT_IS: u32 = 0;

/// The number of an identifier: the value of its subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(u32);

impl Number {
    pub(super) fn value(self) -> u32 {
        self.0
    }
}

struct Entry {
    text: Rc<str>,
    /// As a string of JSON.
    quoted: Box<str>,
    use_count: usize,
}

/// The identifiers of all connections of a reactor.
#[derive(Default)]
pub(super) struct Identifiers {
    numbers: HashMap<Rc<str>, Number>,
    /// The entry of the number 1 first.
    entries: Vec<Option<Entry>>,
    free: Vec<Number>,
}

pub(super) type SharedIdentifiers = Rc<RefCell<Identifiers>>;

impl Identifiers {
    /// The number of an identifier that is in use.
    pub(super) fn find(&self, text: &str) -> Option<Number> {
        self.numbers.get(text).copied()
    }

    /// The number of an identifier, for one more subscription.
    pub(super) fn take(&mut self, text: &str) -> Number {
        if let Some(number) = self.find(text) {
            if let Some(entry) = self.entry_mut(number) {
                entry.use_count += 1;
            }
            return number;
        }
        let text: Rc<str> = text.into();
        let entry = Entry {
            text: Rc::clone(&text),
            quoted: json::quote(&text).into(),
            use_count: 1,
        };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.entries.push(None);
                // There are fewer than 2^31 subscriptions.
                Number(self.entries.len() as u32)
            }
        };
        self.entries[number.0 as usize - 1] = Some(entry);
        self.numbers.insert(text, number);
        number
    }

    /// A subscription with this identifier has ended.
    pub(super) fn give_back(&mut self, number: Number) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        entry.use_count -= 1;
        if entry.use_count == 0
            && let Some(entry) = self.entries[number.0 as usize - 1].take()
        {
            self.numbers.remove(&entry.text);
            self.free.push(number);
        }
    }

    /// The text of an identifier that is in use.
    pub(super) fn text(&self, number: Number) -> Option<Rc<str>> {
        let entry = self.entries.get(number.0 as usize - 1)?;
        entry.as_ref().map(|entry| Rc::clone(&entry.text))
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn entry_mut(&mut self, number: Number) -> Option<&mut Entry> {
        self.entries.get_mut(number.0 as usize - 1)?.as_mut()
    }

    /// The identifier of a subscription's value, as a string of JSON.
    pub(super) fn quoted(&self, value: u32) -> Option<&str> {
        let index = value.checked_sub(1)?;
        let entry = self.entries.get(index as usize)?;
        entry.as_ref().map(|entry| &*entry.quoted)
    }
}

/// The encoder of a wire format: a broadcast with the identifier of the subscription. `push` appends a message.
///
/// It is looked at once whether a broadcast is JSON, and not for each identifier.
pub(super) fn encoder(
    identifiers: SharedIdentifiers,
    push: fn(&Publication<'_>, &str, &str, &mut Vec<u8>),
) -> impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind {
    let last_checked: RefCell<Option<(EventId, bool)>> = RefCell::default();
    move |publication, out| {
        let (text, is_json) = match publication.event.payload() {
            Payload::Json(text) => (text.as_ref().into(), true),
            payload => (payload.to_text(), false),
        };
        let identifiers = identifiers.borrow();
        let Some(quoted) = identifiers.quoted(publication.value) else {
            debug_assert_eq!(publication.value, AS_IT_IS);
            out.extend_from_slice(text.as_bytes());
            return BodyKind::Text;
        };
        let mut last_checked = last_checked.borrow_mut();
        let is_json = is_json
            || match *last_checked {
                Some((id, is_json)) if id == *publication.id => is_json,
                _ => {
                    let is_json = json::check(&text).is_ok();
                    *last_checked = Some((*publication.id, is_json));
                    is_json
                }
            };
        match is_json {
            true => push(publication, quoted, &text, out),
            false => push(publication, quoted, &json::quote(&text), out),
        }
        BodyKind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::action_cable::message::push_message;
    use crate::pubsub::Event;

    #[test]
    fn an_identifier_is_kept_as_long_as_it_is_used() {
        let mut identifiers = Identifiers::default();
        let first = identifiers.take("a");
        let second = identifiers.take("b");
        assert_eq!((identifiers.take("a"), identifiers.len()), (first, 2));
        assert_ne!((first.value(), second.value()), (AS_IT_IS, AS_IT_IS));
        identifiers.give_back(first);
        assert_eq!(identifiers.find("a"), Some(first));
        identifiers.give_back(first);
        assert_eq!((identifiers.find("a"), identifiers.len()), (None, 1));
        assert_eq!(identifiers.text(first), None);
        assert_eq!(identifiers.take("c"), first);
        assert_eq!(identifiers.text(second).as_deref(), Some("b"));
    }

    #[test]
    fn a_broadcast_that_is_no_json_is_a_string() {
        let identifiers = SharedIdentifiers::default();
        let number = identifiers.borrow_mut().take(r#"{"channel":"A"}"#);
        let encode = encoder(identifiers, |_, quoted, text, out| {
            push_message(quoted, text, out)
        });
        let mut place = 0;
        for (event, expected) in [
            (Event::from(r#"{"x":1}"#), r#"{"x":1}"#),
            (Event::from("null"), "null"),
            (Event::from(r#""text""#), r#""text""#),
            (Event::from("<b>raw</b>"), r#""<b>raw</b>""#),
            (Event::from("1 2"), r#""1 2""#),
            (Event::from(""), r#""""#),
            (Event::message("").json("[1]"), "[1]"),
        ] {
            place += 1;
            let id = EventId::new(1, place);
            // The second time its kind is known.
            for value in [number.value(), number.value(), AS_IT_IS] {
                let mut out = Vec::new();
                let publication = Publication {
                    topic: "t",
                    id: &id,
                    event: &event,
                    value,
                    pattern: None,
                };
                assert_eq!(encode(&publication, &mut out), BodyKind::Text);
                let expected = match value {
                    AS_IT_IS => event.payload().to_text().into_owned(),
                    _ => {
                        format!(r#"{{"identifier":"{{\"channel\":\"A\"}}","message":{expected}}}"#)
                    }
                };
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
