//! Events that are published: their names and their data.
//!
//! An [`Event`] borrows what the publisher has.

use std::borrow::Cow;

use super::event_id::EventId;
use crate::protocol::base64::to_base64;
use crate::protocol::event_stream::{self, FieldError};
use crate::protocol::websocket::Message;

/// The data of an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// One JSON value, written out: an envelope embeds it as it is.
    Json(Cow<'a, str>),
    /// Any bytes.
    Binary(Cow<'a, [u8]>),
}

impl Payload<'_> {
    /// The bytes as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        self.to_message().as_bytes()
    }

    /// As a message: JSON is text.
    pub fn to_message(&self) -> Message<'_> {
        match self {
            Payload::Text(text) | Payload::Json(text) => Message::Text(text),
            Payload::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// As text, for wire formats that have nothing else: binary data as base64, also where it would
    /// be UTF-8, so that its reader need not guess.
    ///
    /// Source: RFC 4648, section 4.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Payload::Text(text) | Payload::Json(text) => Cow::Borrowed(text),
            Payload::Binary(bytes) => Cow::Owned(to_base64(bytes)),
        }
    }

    fn into_owned(self) -> Payload<'static> {
        match self {
            Payload::Text(text) => Payload::Text(Cow::Owned(text.into_owned())),
            Payload::Json(text) => Payload::Json(Cow::Owned(text.into_owned())),
            Payload::Binary(bytes) => Payload::Binary(Cow::Owned(bytes.into_owned())),
        }
    }
}

/// The thing that users publish: data, and a name where the members tell kinds of events apart.
///
/// ```
/// use waterwheel::pubsub::Event;
///
/// let plain: Event = "hello".into();
/// let named = Event::new("message").data("hello");
/// let value = Event::new("price").json(r#"{"eur":4}"#);
/// # assert_eq!((plain.name(), named.name(), value.name()), (None, Some("message"), Some("price")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    name: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    extra: Option<Cow<'a, str>>,
    payload: Payload<'a>,
}

impl<'a> Event<'a> {
    /// No name and no data.
    pub(super) const EMPTY: Event<'static> = Event {
        name: None,
        key: None,
        extra: None,
        payload: Payload::Text(Cow::Borrowed("")),
    };

    /// An event with a name and no data yet.
    ///
    /// CR, LF and NUL, which no wire format could carry in a name, become U+FFFD. For names that
    /// strangers choose there is [`try_new`](Self::try_new).
    pub fn new(name: impl Into<Cow<'a, str>>) -> Event<'a> {
        let name = name.into();
        let name = if event_stream::is_field_value(&name) {
            name
        } else {
            Cow::Owned(name.replace(['\r', '\n', '\0'], "\u{fffd}"))
        };
        Event {
            name: Some(name),
            key: None,
            extra: None,
            payload: Payload::Text(Cow::Borrowed("")),
        }
    }

    /// An event with a name and no data yet.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for a name with CR, LF or NUL.
    pub fn try_new(name: impl Into<Cow<'a, str>>) -> Result<Event<'a>, FieldError> {
        let name = name.into();
        if event_stream::is_field_value(&name) {
            Ok(Event::new(name))
        } else {
            Err(FieldError::Event)
        }
    }

    /// Text without a name.
    pub fn message(text: impl Into<Cow<'a, str>>) -> Event<'a> {
        Event {
            name: None,
            key: None,
            extra: None,
            payload: Payload::Text(text.into()),
        }
    }

    /// Sets the data to text.
    #[must_use]
    pub fn data(mut self, text: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.payload = Payload::Text(text.into());
        self
    }

    /// Sets the data to JSON, which is embedded as it is. It is not checked: the caller must give
    /// valid JSON.
    #[must_use]
    pub fn json(mut self, text: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.payload = Payload::Json(text.into());
        self
    }

    /// Sets the data to bytes.
    #[must_use]
    pub fn binary(mut self, bytes: impl Into<Cow<'a, [u8]>>) -> Event<'a> {
        self.payload = Payload::Binary(bytes.into());
        self
    }

    /// Sets the key: a member that is behind needs only the newest event of each key of a topic, and a topic
    /// whose rule keeps latest values keeps one for each key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.key = Some(key.into());
        self
    }

    /// The key, if it has one.
    pub fn key_name(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sets what the protocol of the publisher says beside the data. Only a wire format that knows this protocol reads
    /// it, and the others leave it out.
    #[must_use]
    pub fn extra(mut self, extra: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.extra = Some(extra.into());
        self
    }

    /// The text that the protocol of the publisher has beside the data, if there is one.
    pub fn extra_text(&self) -> Option<&str> {
        self.extra.as_deref()
    }

    /// The name. It has no CR, LF or NUL.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The data.
    pub fn payload(&self) -> &Payload<'a> {
        &self.payload
    }

    /// The same event, borrowing nothing: to keep it, or to send it to another thread.
    pub fn into_owned(self) -> Event<'static> {
        Event {
            name: self.name.map(|name| Cow::Owned(name.into_owned())),
            key: self.key.map(|key| Cow::Owned(key.into_owned())),
            extra: self.extra.map(|extra| Cow::Owned(extra.into_owned())),
            payload: self.payload.into_owned(),
        }
    }

    /// An event of parts that were checked before, when they were those of an event.
    pub(super) fn from_parts(
        name: Option<&'a str>,
        key: Option<&'a str>,
        extra: Option<&'a str>,
        payload: Payload<'a>,
    ) -> Event<'a> {
        Event {
            name: name.map(Cow::Borrowed),
            key: key.map(Cow::Borrowed),
            extra: extra.map(Cow::Borrowed),
            payload,
        }
    }

    fn from_bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Event<'a> {
        Event {
            name: None,
            key: None,
            extra: None,
            payload: Payload::Binary(bytes.into()),
        }
    }
}

impl<'a> From<&'a str> for Event<'a> {
    fn from(text: &'a str) -> Event<'a> {
        Event::message(text)
    }
}

impl<'a> From<&'a String> for Event<'a> {
    fn from(text: &'a String) -> Event<'a> {
        Event::message(text)
    }
}

impl From<String> for Event<'_> {
    fn from(text: String) -> Self {
        Event::message(text)
    }
}

impl<'a> From<Cow<'a, str>> for Event<'a> {
    fn from(text: Cow<'a, str>) -> Event<'a> {
        Event::message(text)
    }
}

impl<'a> From<&'a [u8]> for Event<'a> {
    fn from(bytes: &'a [u8]) -> Event<'a> {
        Event::from_bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Event<'a> {
    fn from(bytes: &'a [u8; N]) -> Event<'a> {
        Event::from_bytes(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Event<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Event::from_bytes(bytes)
    }
}

impl<'a> From<Message<'a>> for Event<'a> {
    fn from(message: Message<'a>) -> Event<'a> {
        match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes.into(),
        }
    }
}

/// An event on its way to its members, as an encoder gets it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// Its place in the sequence.
    pub id: &'a EventId,
    /// The event itself.
    pub event: &'a Event<'a>,
    /// The value of the subscription by which a member gets it, for a wire format that uses values;
    /// otherwise zero.
    pub value: u32,
    /// The pattern by which a member gets it, for a wire format that uses values. `None` where the
    /// member is subscribed to the topic by its name.
    pub pattern: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_messages_and_values_become_events() {
        let text = Event::message("hi");
        let bytes = Event {
            name: None,
            key: None,
            extra: None,
            payload: Payload::Binary(Cow::Borrowed(b"hi")),
        };
        let owned = String::from("hi");
        let cases: &[(&str, Event<'_>, &Event<'_>)] = &[
            ("&str", "hi".into(), &text),
            ("&String", (&owned).into(), &text),
            ("String", owned.clone().into(), &text),
            ("Cow", Cow::Borrowed("hi").into(), &text),
            ("&[u8]", b"hi".as_slice().into(), &bytes),
            ("&[u8; N]", b"hi".into(), &bytes),
            ("Vec<u8>", b"hi".to_vec().into(), &bytes),
            ("text message", Message::Text("hi").into(), &text),
            ("binary message", Message::Binary(b"hi").into(), &bytes),
        ];
        for (name, event, expected) in cases {
            assert_eq!(event, *expected, "{name}");
            assert_eq!(event.clone().into_owned(), **expected, "{name}");
        }
        assert_eq!(
            Event::new("x").data("a").binary(b"b".as_slice()).json("1"),
            Event::new("x").json("1")
        );
        assert_eq!(
            Event::new("x").binary(b"b".to_vec()).payload().as_bytes(),
            b"b"
        );
    }
}
