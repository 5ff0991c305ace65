//! The bytes of a publication in each wire format.
//!
//! A publication is encoded at most once for each [`WireFormat`] that a member takes, and all
//! members of that wire format share the bytes.

use std::fmt;
use std::io::Write;
use std::rc::Rc;

use crate::protocol::event_stream;
use crate::protocol::websocket;

use super::event::Publication;

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
    out.extend_from_slice(publication.event.payload().as_bytes());
}

fn encode_websocket(publication: &Publication<'_>, out: &mut Vec<u8>) {
    websocket::encode_message(None, publication.event.payload().to_message(), out);
}

fn encode_websocket_masked(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let mask = Some(websocket::random_mask());
    websocket::encode_message(mask, publication.event.payload().to_message(), out);
}

fn encode_event_stream(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let event = publication.event;
    // Writing to a `Vec` does not fail, and an id is digits and a colon.
    let _ = writeln!(out, "id: {}", publication.id);
    event_stream::encode(event.name(), None, &event.payload().to_text(), out)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::protocol::event_stream::FieldError;
    use crate::pubsub::event::{Event, EventId};

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
    fn forms_that_are_built_in() {
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
    fn chunk_goes_behind_what_is_there() {
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
    fn each_form_is_encoded_once_and_shared() {
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
    fn sixteen_forms_and_not_one_more() {
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
    fn names_that_no_wire_form_could_carry() {
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
}
