//! Events that are published: their names, their data and their ids.
//!
//! An [`Event`] borrows what the publisher has.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::protocol::digits::{push_decimal, push_hexadecimal};
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
    payload: Payload<'a>,
}

impl<'a> Event<'a> {
    /// No name and no data.
    pub(super) const EMPTY: Event<'static> = Event {
        name: None,
        key: None,
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
            payload: self.payload.into_owned(),
        }
    }

    /// An event of parts that were checked before, when they were those of an event.
    pub(super) fn from_parts(
        name: Option<&'a str>,
        key: Option<&'a str>,
        payload: Payload<'a>,
    ) -> Event<'a> {
        Event {
            name: name.map(Cow::Borrowed),
            key: key.map(Cow::Borrowed),
            payload,
        }
    }

    fn from_bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Event<'a> {
        Event {
            name: None,
            key: None,
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

/// The place of a publication in the one sequence of a hub.
///
/// Written `EPOCH:NUMBER`, the epoch in lower-case hexadecimal and the number in decimal. A message that another
/// program has published in Redis has no number: it is written `EPOCH:NUMBER-PLACE`, with the number before it and
/// its place in the log of the reactor that heard it. Opaque to clients; parsing takes nothing but what is written
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct EventId {
    /// Which run of the hub: numbers of different epochs do not compare.
    pub epoch: u64,
    /// How many publications there were in this epoch.
    pub number: u64,
    /// Where the reactor has it in its own log, if it got the publication from another server; otherwise zero.
    place: u64,
}

/// Set in the place of a message without a number.
const UNNUMBERED: u64 = 1 << 63;

impl EventId {
    /// The id of a publication that has a number.
    pub const fn new(epoch: u64, number: u64) -> EventId {
        EventId {
            epoch,
            number,
            place: 0,
        }
    }

    /// The id of a publication with a number and a place in the reactor's log, below 2^63.
    pub(crate) fn numbered_at(epoch: u64, number: u64, place: u64) -> EventId {
        EventId {
            epoch,
            number,
            place: place & !UNNUMBERED,
        }
    }

    /// The id of a message without a number: the number before it, and its place in the reactor's log, below 2^63.
    pub(crate) fn unnumbered_at(epoch: u64, number: u64, place: u64) -> EventId {
        EventId {
            epoch,
            number,
            place: place | UNNUMBERED,
        }
    }

    /// The place in the log of a reactor, for a message without a number.
    pub(crate) fn unnumbered_place(self) -> Option<u64> {
        (self.place & UNNUMBERED != 0).then_some(self.place & !UNNUMBERED)
    }

    /// A cursor directly before this publication, which is not the first one.
    pub(crate) fn cursor_before(self) -> EventId {
        match (self.place, self.unnumbered_place()) {
            (0, _) => EventId::new(self.epoch, self.number - 1),
            (_, Some(place)) => EventId::unnumbered_at(self.epoch, self.number, place - 1),
            (place, None) => EventId::unnumbered_at(self.epoch, self.number - 1, place - 1),
        }
    }

    /// Appends the id as `Display` writes it.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        push_hexadecimal(self.epoch, out);
        out.push(b':');
        push_decimal(self.number, out);
        if let Some(place) = self.unnumbered_place() {
            out.push(b'-');
            push_decimal(place, out);
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.epoch, self.number)?;
        match self.unnumbered_place() {
            Some(place) => write!(f, "-{place}"),
            None => Ok(()),
        }
    }
}

/// A text that is not an [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventIdError;

impl fmt::Display for EventIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an event id: EPOCH:NUMBER expected")
    }
}

impl std::error::Error for EventIdError {}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<EventId, EventIdError> {
        let (epoch, number) = text.split_once(':').ok_or(EventIdError)?;
        let epoch = parse_digits(epoch, 16)?;
        let Some((number, place)) = number.split_once('-') else {
            return Ok(EventId::new(epoch, parse_digits(number, 10)?));
        };
        let (number, place) = (parse_digits(number, 10)?, parse_digits(place, 10)?);
        // A place of zero stands before everything in a log, and is never given.
        if place == 0 || place & UNNUMBERED != 0 {
            return Err(EventIdError);
        }
        Ok(EventId::unnumbered_at(epoch, number, place))
    }
}

// `from_str_radix` takes a leading `+`, leading zeros and upper case: several texts for one id.
fn parse_digits(digits: &str, radix: u32) -> Result<u64, EventIdError> {
    let is_canonical = match digits.as_bytes() {
        b"0" => true,
        [b'0', ..] => false,
        bytes => bytes
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
    };
    if !is_canonical {
        return Err(EventIdError);
    }
    u64::from_str_radix(digits, radix).map_err(|_| EventIdError)
}

/// An event on its way to its members, as an encoder gets it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// Its place in the sequence.
    pub id: EventId,
    /// The event itself.
    pub event: &'a Event<'a>,
    /// The value of the subscription by which a member gets it, for a wire format that uses values;
    /// otherwise zero.
    pub value: u32,
    /// The pattern by which a member gets it, for a wire format that uses values. `None` where the
    /// member is subscribed to the topic by its name.
    pub pattern: Option<&'a str>,
}

fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            text.push(if digit > group.len() {
                '='
            } else {
                char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])
            });
        }
    }
    text
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

    #[test]
    fn ids_are_written_and_parsed() {
        let id = |epoch, number| Ok(EventId::new(epoch, number));
        let unnumbered = |epoch, number, place| Ok(EventId::unnumbered_at(epoch, number, place));
        let cases: &[(&str, Result<EventId, EventIdError>)] = &[
            ("0:0", id(0, 0)),
            ("1f:10", id(0x1f, 10)),
            (
                "ffffffffffffffff:18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
            ("1f:0-1", unnumbered(0x1f, 0, 1)),
            ("1:7-9223372036854775807", unnumbered(1, 7, i64::MAX as u64)),
            ("1:7-9223372036854775808", Err(EventIdError)),
            ("1:7-0", Err(EventIdError)),
            ("1:7-01", Err(EventIdError)),
            ("1:7-", Err(EventIdError)),
            ("1:7-1-1", Err(EventIdError)),
            ("1:-1", Err(EventIdError)),
            ("10000000000000000:1", Err(EventIdError)),
            ("1:18446744073709551616", Err(EventIdError)),
            ("1F:10", Err(EventIdError)),
            ("01:1", Err(EventIdError)),
            ("1:01", Err(EventIdError)),
            ("1:00", Err(EventIdError)),
            ("1:a", Err(EventIdError)),
            ("+1:1", Err(EventIdError)),
            ("1:+1", Err(EventIdError)),
            ("1:-1", Err(EventIdError)),
            ("1: 1", Err(EventIdError)),
            (" 1:1", Err(EventIdError)),
            ("1:1\n", Err(EventIdError)),
            ("1:1:1", Err(EventIdError)),
            ("1:", Err(EventIdError)),
            (":1", Err(EventIdError)),
            (":", Err(EventIdError)),
            ("", Err(EventIdError)),
            ("1", Err(EventIdError)),
            ("g:1", Err(EventIdError)),
            ("1:١", Err(EventIdError)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<EventId>(), *expected, "{text:?}");
            if let Ok(id) = expected {
                assert_eq!(id.to_string(), *text);
                let mut encoded = Vec::new();
                id.encode(&mut encoded);
                assert_eq!(encoded, text.as_bytes());
            }
        }
    }

    #[test]
    fn base64() {
        // Source: RFC 4648, section 10.
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(to_base64(bytes.as_bytes()), text);
        }
        assert_eq!(to_base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn the_error_of_an_id_says_what_was_expected() {
        assert_eq!(
            EventIdError.to_string(),
            "not an event id: EPOCH:NUMBER expected"
        );
    }
}
