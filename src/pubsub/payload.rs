//! What is published, and its bytes in each wire format.
//!
//! An [`Event`] borrows what the publisher has. A publication is encoded at most once for each
//! [`WireFormat`] that a member takes, and all members of that wire format share the bytes.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::rc::Rc;
use std::str::FromStr;

use crate::protocol::event_stream::{self, FieldError};
use crate::protocol::websocket::{self, Message};

/// The data of an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What users publish: data, and a name where the members tell kinds of events apart.
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
    payload: Payload<'a>,
}

impl<'a> Event<'a> {
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
            payload: Payload::Text(text.into()),
        }
    }

    /// Sets the data to text.
    #[must_use]
    pub fn data(mut self, text: impl Into<Cow<'a, str>>) -> Event<'a> {
        self.payload = Payload::Text(text.into());
        self
    }

    /// Sets the data to JSON, which is embedded as it is: that it is valid is the caller's word.
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
            payload: self.payload.into_owned(),
        }
    }

    fn from_bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Event<'a> {
        Event {
            name: None,
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
/// Written `EPOCH:NUMBER`, the epoch in lower-case hexadecimal and the number in decimal. Opaque to
/// clients; parsing takes nothing but what is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Which run of the hub: numbers of different epochs do not compare.
    pub epoch: u64,
    /// How many publications there were in this epoch.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.epoch, self.number)
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
        Ok(EventId {
            epoch: parse_digits(epoch, 16)?,
            number: parse_digits(number, 10)?,
        })
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

/// An event on its way: what an [`Encode`] turns into bytes.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// Its place in the sequence.
    pub id: EventId,
    /// What was published.
    pub event: &'a Event<'a>,
}

/// Appends a publication in one wire format.
pub type Encode = fn(&Publication<'_>, &mut Vec<u8>);

/// How a member takes publications: a number that [`WireFormats`] gives out. The default is
/// [`RAW`](Self::RAW).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WireFormat(u8);

impl WireFormat {
    /// The data as it is, with nothing around it.
    pub const RAW: WireFormat = WireFormat(0);
    /// One unmasked, unfragmented WebSocket frame, as a server sends it: text, or binary where the
    /// data is.
    pub const WEBSOCKET: WireFormat = WireFormat(1);
    /// One Server-Sent Event with id, name and data, as one HTTP chunk.
    pub const EVENT_STREAM: WireFormat = WireFormat(2);
    /// The same event without the chunk, for HTTP/1.0.
    pub const EVENT_STREAM_UNCHUNKED: WireFormat = WireFormat(3);
    /// The WebSocket frame as a client sends it, masked; all members share one mask.
    pub const WEBSOCKET_MASKED: WireFormat = WireFormat(4);
}

const BUILT_IN: [Encode; 5] = [
    encode_raw,
    encode_websocket,
    encode_event_stream_chunk,
    encode_event_stream,
    encode_websocket_masked,
];

/// Wire formats that can be registered, beside the ones that are built in.
pub const WIRE_FORMATS_MAX: usize = 16;

const SLOTS: usize = BUILT_IN.len() + WIRE_FORMATS_MAX;

/// There are [`WIRE_FORMATS_MAX`] registered wire formats already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFormatsFull;

impl fmt::Display for WireFormatsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {WIRE_FORMATS_MAX} wire formats already")
    }
}

impl std::error::Error for WireFormatsFull {}

/// The encoders of all wire formats.
#[derive(Clone, Debug, Default)]
pub struct WireFormats {
    registered: Vec<(&'static str, Encode)>,
}

impl WireFormats {
    /// The wire formats that are built in.
    pub fn new() -> WireFormats {
        WireFormats::default()
    }

    /// Adds a wire format, or finds the one that has been added by this name, whose encoder stays. Listeners
    /// that are set up alike thus share a wire format, and one encoding of each publication.
    ///
    /// # Errors
    ///
    /// [`WireFormatsFull`] above [`WIRE_FORMATS_MAX`].
    pub fn register(
        &mut self,
        name: &'static str,
        encode: Encode,
    ) -> Result<WireFormat, WireFormatsFull> {
        let known = self.registered.iter().position(|(it, _)| *it == name);
        let index = known.unwrap_or(self.registered.len());
        if index == WIRE_FORMATS_MAX {
            return Err(WireFormatsFull);
        }
        if known.is_none() {
            self.registered.push((name, encode));
        }
        Ok(WireFormat((BUILT_IN.len() + index) as u8))
    }

    /// The encoder of a wire format; of a wire format that was registered elsewhere, the one of [`WireFormat::RAW`].
    pub fn encoder(&self, wire_format: WireFormat) -> Encode {
        let index = usize::from(wire_format.0);
        let registered = || self.registered.get(index.wrapping_sub(BUILT_IN.len()));
        *BUILT_IN
            .get(index)
            .or_else(|| registered().map(|(_, encode)| encode))
            .unwrap_or(&BUILT_IN[0])
    }
}

/// Most that [`Encoded::get`] leaves allocated in the scratch buffer, in bytes. One publication of
/// a megabyte shall not keep a megabyte.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The bytes of one publication, each wire format encoded when its first member comes.
///
/// Belongs to one publication: make a new one for the next.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: [Option<Rc<[u8]>>; SLOTS],
}

impl Encoded {
    /// The bytes in this wire format, shared with all who asked before.
    ///
    /// Encodes into `scratch`, whose content is lost, so that a wire format costs one allocation.
    #[inline]
    pub fn get(
        &mut self,
        wire_format: WireFormat,
        wire_formats: &WireFormats,
        publication: &Publication<'_>,
        scratch: &mut Vec<u8>,
    ) -> Rc<[u8]> {
        let slot = match self.bytes.get_mut(usize::from(wire_format.0)) {
            Some(slot) => slot,
            None => &mut self.bytes[0],
        };
        let bytes = slot
            .get_or_insert_with(|| encode(wire_formats.encoder(wire_format), publication, scratch));
        Rc::clone(bytes)
    }
}

fn encode(encode: Encode, publication: &Publication<'_>, scratch: &mut Vec<u8>) -> Rc<[u8]> {
    scratch.clear();
    encode(publication, scratch);
    let bytes = Rc::from(scratch.as_slice());
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES_MAX);
    bytes
}

fn encode_raw(publication: &Publication<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(publication.event.payload.as_bytes());
}

fn encode_websocket(publication: &Publication<'_>, out: &mut Vec<u8>) {
    websocket::encode_message(None, publication.event.payload.to_message(), out);
}

fn encode_websocket_masked(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let mask = Some(websocket::random_mask());
    websocket::encode_message(mask, publication.event.payload.to_message(), out);
}

fn encode_event_stream(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let event = publication.event;
    // Writing to a `Vec` does not fail, and an id is digits and a colon.
    let _ = writeln!(out, "id: {}", publication.id);
    event_stream::encode(event.name(), None, &event.payload.to_text(), out)
        .expect("the name of an event has no line break");
}

/// Source: RFC 9112, section 7.1.
fn encode_event_stream_chunk(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    encode_event_stream(publication, out);
    let mut line = [0; CHUNK_SIZE_LINE_BYTES_MAX];
    let mut unused = line.as_mut_slice();
    // It fits: sixteen digits are all that a length can have.
    let _ = write!(unused, "{:x}\r\n", out.len() - start);
    let line_bytes = CHUNK_SIZE_LINE_BYTES_MAX - unused.len();
    out.splice(start..start, line[..line_bytes].iter().copied());
    out.extend_from_slice(b"\r\n");
}

const CHUNK_SIZE_LINE_BYTES_MAX: usize = 16 + 2;

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
    use std::cell::Cell;

    const ID: EventId = EventId {
        epoch: 0x1f,
        number: 10,
    };

    fn encoded(wire_format: WireFormat, wire_formats: &WireFormats, event: &Event<'_>) -> Rc<[u8]> {
        let publication = Publication {
            topic: "chat",
            id: ID,
            event,
        };
        Encoded::default().get(wire_format, wire_formats, &publication, &mut Vec::new())
    }

    #[test]
    fn built_in_wire_formats_have_exactly_these_bytes() {
        let named = Event::new("say").data("hi\nthere");
        let long = "x".repeat(300);
        let cases: &[(&str, WireFormat, Event<'_>, &[u8])] = &[
            ("raw text", WireFormat::RAW, "hi".into(), b"hi"),
            (
                "raw leaves the name out",
                WireFormat::RAW,
                named.clone(),
                b"hi\nthere",
            ),
            (
                "raw JSON",
                WireFormat::RAW,
                Event::new("x").json("[1]"),
                b"[1]",
            ),
            ("raw bytes", WireFormat::RAW, b"\0\xff".into(), b"\0\xff"),
            (
                "frame of text",
                WireFormat::WEBSOCKET,
                "hi".into(),
                b"\x81\x02hi",
            ),
            (
                "frame of JSON",
                WireFormat::WEBSOCKET,
                Event::new("x").json("[1]"),
                b"\x81\x03[1]",
            ),
            (
                "frame of bytes",
                WireFormat::WEBSOCKET,
                b"\0\xff".into(),
                b"\x82\x02\0\xff",
            ),
            (
                "empty frame",
                WireFormat::WEBSOCKET,
                Event::new("x"),
                b"\x81\0",
            ),
            (
                "chunk",
                WireFormat::EVENT_STREAM,
                "hi".into(),
                b"14\r\nid: 1f:10\ndata: hi\n\n\r\n",
            ),
            (
                "chunk of lines",
                WireFormat::EVENT_STREAM,
                named.clone(),
                b"2b\r\nid: 1f:10\nevent: say\ndata: hi\ndata: there\n\n\r\n",
            ),
            (
                "stream",
                WireFormat::EVENT_STREAM_UNCHUNKED,
                named,
                b"id: 1f:10\nevent: say\ndata: hi\ndata: there\n\n",
            ),
            (
                "stream of bytes",
                WireFormat::EVENT_STREAM_UNCHUNKED,
                b"\0\xff".into(),
                b"id: 1f:10\ndata: AP8=\n\n",
            ),
            (
                "nothing",
                WireFormat::EVENT_STREAM_UNCHUNKED,
                "".into(),
                b"id: 1f:10\ndata: \n\n",
            ),
            (
                "long chunk",
                WireFormat::EVENT_STREAM,
                long.as_str().into(),
                &[b"13e\r\nid: 1f:10\ndata: ", long.as_bytes(), b"\n\n\r\n"].concat(),
            ),
        ];
        for (name, wire_format, event, expected) in cases {
            let bytes = encoded(*wire_format, &WireFormats::new(), event);
            assert_eq!(
                bytes.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{name}"
            );
        }
    }

    #[test]
    fn an_event_stream_chunk_is_appended() {
        let event = Event::message("hi");
        let publication = Publication {
            topic: "chat",
            id: ID,
            event: &event,
        };
        let mut out = b"before".to_vec();
        encode_event_stream_chunk(&publication, &mut out);
        assert_eq!(out, b"before14\r\nid: 1f:10\ndata: hi\n\n\r\n");
    }

    thread_local! {
        static ENCODED: Cell<usize> = const { Cell::new(0) };
    }

    fn encode_counted(publication: &Publication<'_>, out: &mut Vec<u8>) {
        ENCODED.set(ENCODED.get() + 1);
        assert!(out.is_empty(), "scratch comes empty");
        let _ = write!(out, "{}@{}", publication.id, publication.topic);
    }

    #[test]
    fn each_wire_format_is_encoded_once_and_shared() {
        let mut wire_formats = WireFormats::new();
        let wire_format = wire_formats.register("counted", encode_counted).unwrap();
        let event = Event::message("x".repeat(200_000));
        let publication = Publication {
            topic: "chat",
            id: ID,
            event: &event,
        };
        let mut scratch = b"left over".to_vec();
        let mut encoded = Encoded::default();
        let first = encoded.get(wire_format, &wire_formats, &publication, &mut scratch);
        let frame = encoded.get(
            WireFormat::WEBSOCKET,
            &wire_formats,
            &publication,
            &mut scratch,
        );
        let second = encoded.get(wire_format, &wire_formats, &publication, &mut scratch);
        assert_eq!(&*first, b"1f:10@chat");
        assert!(Rc::ptr_eq(&first, &second));
        assert!(!Rc::ptr_eq(&first, &frame));
        assert_eq!(ENCODED.get(), 1);
        assert!(scratch.is_empty() && scratch.capacity() <= SCRATCH_BYTES_MAX);

        let mut next = Encoded::default();
        next.get(wire_format, &wire_formats, &publication, &mut scratch);
        assert_eq!(ENCODED.get(), 2);
    }

    #[test]
    fn at_most_sixteen_wire_formats_are_registered() {
        let mut wire_formats = WireFormats::new();
        let names = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
        ];
        assert_eq!(names.len(), WIRE_FORMATS_MAX);
        let registered = names.map(|name| wire_formats.register(name, encode_counted).unwrap());
        assert_eq!(wire_formats.register("q", encode_raw), Err(WireFormatsFull));
        let again = names.map(|name| wire_formats.register(name, encode_raw).unwrap());
        assert_eq!(again, registered);
        assert_ne!(registered[0], registered[1]);
        let last = *registered.last().unwrap();
        assert_eq!(&*encoded(last, &wire_formats, &"hi".into()), b"1f:10@chat");
        assert_eq!(
            &*encoded(registered[0], &wire_formats, &"hi".into()),
            b"1f:10@chat"
        );
        assert_eq!(
            &*encoded(last, &WireFormats::new(), &"hi".into()),
            b"hi",
            "registered elsewhere"
        );
        assert_eq!(WireFormat::default(), WireFormat::RAW);
    }

    #[test]
    fn event_names_with_line_ends_or_nul_are_refused() {
        for bad in ["x\ndata: y", "x\r", "\0"] {
            assert_eq!(Event::try_new(bad), Err(FieldError::Event), "{bad:?}");
            assert_eq!(
                Event::new(bad).name().unwrap().matches('\u{fffd}').count(),
                1,
                "{bad:?}"
            );
            encoded(
                WireFormat::EVENT_STREAM,
                &WireFormats::new(),
                &Event::new(bad),
            );
        }
        assert_eq!(Event::try_new("x"), Ok(Event::new("x")));
        assert_eq!(Event::new("").name(), Some(""));
    }

    #[test]
    fn conversions_into_an_event() {
        let text = Event::message("hi");
        let bytes = Event {
            name: None,
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
        let id = |epoch, number| Ok(EventId { epoch, number });
        let cases: &[(&str, Result<EventId, EventIdError>)] = &[
            ("0:0", id(0, 0)),
            ("1f:10", id(0x1f, 10)),
            (
                "ffffffffffffffff:18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
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
}
