//! The bytes of a publication: a body in a wire format, and a frame around it.
//!
//! The *body* is what is said, and a [`WireFormat`] is how it is written: the data as it is, a
//! Server-Sent Event, or what a program has registered. The *frame* is how the connection carries
//! it: a WebSocket frame, a chunk of an HTTP body, or no frame at all. The two are chosen apart, so
//! that a format is written once for every transport.
//!
//! An [`Encoded`] makes the bytes of one publication: each wire format is encoded at most once, and
//! all members with the same wire format and the same frame share the bytes.

use std::collections::HashMap;
use std::fmt;
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::Range;
use std::rc::Rc;

use crate::protocol::digits::push_hexadecimal;
use crate::protocol::event_stream;
use crate::protocol::websocket::{self, Data, Message, OpCode};

use super::event::{Event, Publication};
use super::event_id::EventId;
use super::notice::Notice;

/// Whether a body is text, which a WebSocket says of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// UTF-8. A WebSocket peer ends the connection over a text message which is not.
    Text,
    /// Any bytes.
    Binary,
}

/// Appends the body of a publication, without any frame, and says what kind it is. May have state
/// of its own, such as a table of names.
pub type Encode = Box<dyn Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind>;

/// Appends the body of a notice about the topic or pattern of this name, without any frame, and says what
/// kind it is.
pub type EncodeNotice = fn(&str, &Notice<'_>, &mut Vec<u8>) -> BodyKind;

/// Whether a wire format has words for a notice.
pub type HasNotice = fn(&Notice<'_>) -> bool;

/// How the body of a publication is written: a number that [`WireFormats`] gives out. The default is
/// [`RAW`](Self::RAW).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WireFormat(NonZeroU8);

impl WireFormat {
    /// The data as it is. Text and JSON are text, other data is binary.
    pub const RAW: WireFormat = WireFormat(NonZeroU8::MIN);
    /// One Server-Sent Event with id, name and data.
    pub const EVENT_STREAM: WireFormat = WireFormat(NonZeroU8::new(2).expect("2 is not zero"));

    /// The first number that is not of a built-in format.
    const REGISTERED_FROM: usize = 3;
}

impl Default for WireFormat {
    fn default() -> Self {
        WireFormat::RAW
    }
}

/// Wire formats that can be registered, beside the ones that are built in.
pub const WIRE_FORMATS_MAX: usize = 16;

/// How a connection carries the body of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// No frame: the bytes of the body.
    Bare,
    /// One unmasked, unfragmented WebSocket frame, as a server sends it. Source: RFC 6455, section 5.
    WebSocket,
    /// The same, masked, as a client sends it. All members share one mask.
    MaskedWebSocket,
    /// As `WebSocket`, compressed where that makes it shorter, without windows that are kept. Source: RFC
    /// 7692, section 7.1.1.
    #[cfg(feature = "deflate")]
    DeflatedWebSocket,
    /// A WebSocket frame that each connection makes of the body for itself.
    #[cfg(feature = "deflate")]
    OwnWebSocket,
    /// One chunk of an HTTP/1.1 body; of an empty body nothing, since an empty chunk would end the
    /// stream. Source: RFC 9112, section 7.1.
    HttpChunk,
}

impl Frame {
    const ALL: &[Frame] = &[
        Frame::Bare,
        Frame::WebSocket,
        Frame::MaskedWebSocket,
        #[cfg(feature = "deflate")]
        Frame::DeflatedWebSocket,
        #[cfg(feature = "deflate")]
        Frame::OwnWebSocket,
        Frame::HttpChunk,
    ];

    /// Longest header and trailer of any frame, in bytes: a chunk's sixteen digits and two line ends.
    const BYTES_MAX: usize = 16 + 2 + 2;

    fn new_mask(self) -> Option<[u8; 4]> {
        match self {
            Frame::MaskedWebSocket => Some(websocket::random_mask()),
            Frame::Bare | Frame::WebSocket | Frame::HttpChunk => None,
            #[cfg(feature = "deflate")]
            Frame::DeflatedWebSocket | Frame::OwnWebSocket => None,
        }
    }

    /// Whether the body is in the frame as it is, but for a mask.
    fn has_body(self) -> bool {
        match self {
            Frame::Bare | Frame::WebSocket | Frame::MaskedWebSocket | Frame::HttpChunk => true,
            #[cfg(feature = "deflate")]
            Frame::OwnWebSocket => true,
            #[cfg(feature = "deflate")]
            Frame::DeflatedWebSocket => false,
        }
    }

    #[inline(always)]
    fn encode_header(
        self,
        kind: BodyKind,
        body_bytes: usize,
        mask: Option<[u8; 4]>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Frame::Bare => {}
            Frame::WebSocket | Frame::MaskedWebSocket => {
                encode_websocket_header(kind, body_bytes, mask, out);
            }
            // The header of a message that is not compressed.
            #[cfg(feature = "deflate")]
            Frame::DeflatedWebSocket | Frame::OwnWebSocket => {
                encode_websocket_header(kind, body_bytes, mask, out);
            }
            Frame::HttpChunk => {
                if body_bytes != 0 {
                    push_hexadecimal(body_bytes as u64, out);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    fn encode_trailer(self, body_bytes: usize, out: &mut Vec<u8>) {
        if self == Frame::HttpChunk && body_bytes != 0 {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[inline(always)]
fn encode_websocket_header(
    kind: BodyKind,
    body_bytes: usize,
    mask: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    let data = match kind {
        BodyKind::Text => Data::Text,
        BodyKind::Binary => Data::Binary,
    };
    websocket::encode_header(OpCode::Data(data), body_bytes, mask, out);
}

/// A wire format and the frame around it, in one number, so that the two are compared at once for
/// each member of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FramedFormat(NonZeroU16);

impl FramedFormat {
    /// A wire format in a frame.
    #[inline]
    pub const fn new(wire_format: WireFormat, frame: Frame) -> FramedFormat {
        let bits = u16::from_be_bytes([wire_format.0.get(), frame as u8]);
        FramedFormat(NonZeroU16::new(bits).expect("the number of a wire format is not zero"))
    }

    /// Another wire format in the same frame.
    #[inline]
    #[must_use]
    pub const fn with_wire_format(self, wire_format: WireFormat) -> FramedFormat {
        FramedFormat::new(wire_format, self.frame())
    }

    /// Whether each connection makes the frame for itself.
    #[cfg(feature = "deflate")]
    #[inline]
    pub fn is_own(self) -> bool {
        let [_, low] = self.0.get().to_be_bytes();
        low == Frame::OwnWebSocket as u8
    }

    /// The same without the compression that connections share.
    #[must_use]
    pub fn uncompressed(self) -> FramedFormat {
        #[cfg(feature = "deflate")]
        if self.is_deflated() {
            return FramedFormat::new(self.wire_format(), Frame::WebSocket);
        }
        self
    }

    #[cfg(feature = "deflate")]
    fn is_deflated(self) -> bool {
        let [_, low] = self.0.get().to_be_bytes();
        low == Frame::DeflatedWebSocket as u8
    }

    const fn wire_format(self) -> WireFormat {
        let [high, _] = self.0.get().to_be_bytes();
        WireFormat(NonZeroU8::new(high).expect("the number of a wire format is not zero"))
    }

    const fn frame(self) -> Frame {
        let [_, low] = self.0.get().to_be_bytes();
        Frame::ALL[low as usize]
    }
}

/// There are [`WIRE_FORMATS_MAX`] registered wire formats already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFormatsFull;

impl fmt::Display for WireFormatsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {WIRE_FORMATS_MAX} wire formats already")
    }
}

impl std::error::Error for WireFormatsFull {}

/// Most encodings of one publication that are searched one after the other. Few publications have
/// more: it takes a wire format that uses values, and as many distinct ones.
const SCAN_MAX: usize = 16;

/// Most that a publication leaves allocated in the scratch buffer, in bytes. One publication of a
/// megabyte does not keep a megabyte.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

struct Registered {
    name: &'static str,
    /// Whether the body depends on the subscription: its value, and whether it is by a pattern.
    uses_values: bool,
    encode: Encode,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The encoders of all wire formats, and the buffers that encoding takes.
#[derive(Debug, Default)]
pub struct WireFormats {
    registered: Vec<Registered>,
    /// The wire formats that have words for notices.
    notices: Vec<NoticeWords>,
    /// The buffer in which bytes are put together before they are shared, so that an encoding costs
    /// one allocation.
    scratch: Vec<u8>,
    /// The encodings of the publication that is being delivered. Empty between two publications.
    encodings: Vec<Encoding>,
    /// Where an encoding is in `encodings`, when there are more than [`SCAN_MAX`].
    index: HashMap<(FramedFormat, Origin), usize>,
    /// The bytes of encodings that were still shared when their publication ended.
    kept_bytes: usize,
    /// Bodies of at least so many bytes are compressed, where that was agreed.
    #[cfg(feature = "deflate")]
    deflate_bytes_min: u16,
    /// Bodies were compressed since this was last asked.
    #[cfg(feature = "deflate")]
    has_deflated: bool,
}

/// As [`EncodeNotice`], for a wire format that uses values: the first argument is the value of the subscription.
pub(crate) type EncodeNoticeWithValue = Box<dyn Fn(u32, &Notice<'_>, &mut Vec<u8>) -> BodyKind>;

/// The words of a wire format for notices.
struct NoticeWords {
    wire_format: WireFormat,
    has: HasNotice,
    encode: NoticeEncoder,
}

enum NoticeEncoder {
    Plain(EncodeNotice),
    WithValue(EncodeNoticeWithValue),
}

impl NoticeEncoder {
    fn encode(&self, name: &str, value: u32, notice: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
        match self {
            NoticeEncoder::Plain(encode) => encode(name, notice, out),
            NoticeEncoder::WithValue(encode) => encode(value, notice, out),
        }
    }
}

impl fmt::Debug for NoticeWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoticeWords")
            .field("wire_format", &self.wire_format)
            .finish_non_exhaustive()
    }
}

impl WireFormats {
    /// The wire formats that are built in.
    pub fn new() -> WireFormats {
        WireFormats::default()
    }

    /// Sets how long a body must be, in bytes, to be compressed where that was agreed.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate_bytes_min(mut self, bytes: u16) -> WireFormats {
        self.deflate_bytes_min = bytes;
        self
    }

    /// Adds a wire format, or finds the one that has been added by this name, whose encoder stays.
    /// Listeners that are set up alike thus share a wire format, and one encoding of each
    /// publication.
    ///
    /// # Errors
    ///
    /// [`WireFormatsFull`] above [`WIRE_FORMATS_MAX`].
    pub fn register(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> Result<WireFormat, WireFormatsFull> {
        self.add(name, false, Box::new(encode))
    }

    /// As [`register`](Self::register), for a wire format whose body depends on
    /// [`Publication::value`] or [`Publication::pattern`]. It is encoded once for each distinct
    /// value of the members by name, and of those by each pattern.
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register).
    pub fn register_with_values(
        &mut self,
        name: &'static str,
        encode: impl Fn(&Publication<'_>, &mut Vec<u8>) -> BodyKind + 'static,
    ) -> Result<WireFormat, WireFormatsFull> {
        self.add(name, true, Box::new(encode))
    }

    fn add(
        &mut self,
        name: &'static str,
        uses_values: bool,
        encode: Encode,
    ) -> Result<WireFormat, WireFormatsFull> {
        let known = self.registered.iter().position(|it| it.name == name);
        let index = known.unwrap_or(self.registered.len());
        if index == WIRE_FORMATS_MAX {
            return Err(WireFormatsFull);
        }
        if known.is_none() {
            self.registered.push(Registered {
                name,
                uses_values,
                encode,
            });
        }
        // At most 18, and not zero.
        NonZeroU8::new((WireFormat::REGISTERED_FROM + index) as u8)
            .map(WireFormat)
            .ok_or(WireFormatsFull)
    }

    /// Gives a wire format words for the notices for which `has` is true. The first ones stay.
    pub fn set_notices(&mut self, wire_format: WireFormat, has: HasNotice, encode: EncodeNotice) {
        self.add_notices(wire_format, has, NoticeEncoder::Plain(encode));
    }

    /// As [`set_notices`](Self::set_notices), for a wire format that uses values.
    #[allow(dead_code, reason = "a role needs it, and not every build has it")]
    pub(crate) fn set_notices_with_values(
        &mut self,
        wire_format: WireFormat,
        has: HasNotice,
        encode: EncodeNoticeWithValue,
    ) {
        self.add_notices(wire_format, has, NoticeEncoder::WithValue(encode));
    }

    fn add_notices(&mut self, wire_format: WireFormat, has: HasNotice, encode: NoticeEncoder) {
        let mut notices = self.notices.iter();
        if !notices.any(|words| words.wire_format == wire_format) {
            self.notices.push(NoticeWords {
                wire_format,
                has,
                encode,
            });
        }
    }

    fn notice_encoder(&self, format: WireFormat, notice: &Notice<'_>) -> Option<&NoticeEncoder> {
        let mut notices = self.notices.iter();
        let words = notices.find(|words| words.wire_format == format)?;
        (words.has)(notice).then_some(&words.encode)
    }

    /// The encoder that was registered as this wire format. `None` for the built-in ones, and for one
    /// that was registered with another list.
    fn registered(&self, wire_format: WireFormat) -> Option<&Registered> {
        let number = usize::from(wire_format.0.get());
        self.registered
            .get(number.checked_sub(WireFormat::REGISTERED_FROM)?)
    }

    fn find(&self, format: FramedFormat, origin: Origin) -> Option<&Encoding> {
        if self.encodings.len() <= SCAN_MAX {
            let mut encodings = self.encodings.iter();
            return encodings.find(|it| it.format == format && it.origin == origin);
        }
        let index = self.index.get(&(format, origin))?;
        self.encodings.get(*index)
    }

    // Inlined: a call would have the encoding copied.
    #[inline(always)]
    fn add_encoding(&mut self, encoding: Encoding) {
        self.encodings.push(encoding);
        if SCAN_MAX < self.encodings.len() {
            self.index_last();
        }
    }

    /// Puts the last encoding into the index; the first time also those that were scanned until now.
    #[inline(never)]
    fn index_last(&mut self) {
        let first_new = match self.index.is_empty() {
            true => 0,
            false => self.encodings.len() - 1,
        };
        for (index, it) in self.encodings.iter().enumerate().skip(first_new) {
            self.index.insert((it.format, it.origin), index);
        }
    }

    /// Adds up the encodings of a publication that others hold as well: they are queued.
    fn count_kept(&mut self) {
        for it in &self.encodings {
            if 1 < Rc::strong_count(&it.bytes) {
                self.kept_bytes += it.bytes.len();
            }
        }
    }

    /// How many bytes of encodings were still shared when their publications ended, since this was last
    /// called.
    pub fn take_kept_bytes(&mut self) -> usize {
        std::mem::take(&mut self.kept_bytes)
    }

    /// Whether bodies were compressed since this was last called.
    #[cfg(feature = "deflate")]
    #[inline]
    pub fn take_has_deflated(&mut self) -> bool {
        std::mem::take(&mut self.has_deflated)
    }

    /// Forgets the encodings of a publication.
    fn clear(&mut self) {
        self.encodings.clear();
        if SCAN_MAX < self.encodings.capacity() {
            self.encodings = Vec::new();
            self.index = HashMap::new();
        }
    }

    /// The bytes in `format` for `publication`, of which there are none yet.
    fn encode(
        &mut self,
        format: FramedFormat,
        origin: Origin,
        publication: &Publication<'_>,
        notice: Option<&Notice<'_>>,
    ) -> Rc<[u8]> {
        let (wire_format, frame) = (format.wire_format(), format.frame());
        let mask = frame.new_mask();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let (kind, header_bytes) = if wire_format == WireFormat::RAW && notice.is_none() {
            // The body is there already, so its header goes in front of it at once.
            let message = publication.event.payload().to_message();
            let (kind, body) = (kind_of(message), message.as_bytes());
            scratch.reserve(Frame::BYTES_MAX + body.len());
            frame.encode_header(kind, body.len(), mask, &mut scratch);
            let header_bytes = scratch.len();
            scratch.extend_from_slice(body);
            (kind, header_bytes)
        } else {
            let kind = self.encode_body(wire_format, origin, publication, notice, &mut scratch);
            let body_bytes = scratch.len();
            frame.encode_header(kind, body_bytes, mask, &mut scratch);
            let header_bytes = scratch.len() - body_bytes;
            scratch.rotate_right(header_bytes);
            (kind, header_bytes)
        };
        let body = header_bytes..scratch.len();
        if let Some(mask) = mask {
            websocket::apply_mask(&mut scratch[body.clone()], mask);
        }
        frame.encode_trailer(body.len(), &mut scratch);
        let bytes: Rc<[u8]> = Rc::from(scratch.as_slice());
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        self.scratch = scratch;
        self.add_encoding(Encoding {
            format,
            origin,
            bytes: Rc::clone(&bytes),
            body,
            kind,
            mask,
        });
        bytes
    }

    /// The bytes of a frame, compressed where its body is long enough and becomes shorter. `None` where it stays as it is
    /// and need not be kept a second time.
    #[cfg(feature = "deflate")]
    fn deflate(
        &mut self,
        format: FramedFormat,
        origin: Origin,
        plain: &Rc<[u8]>,
    ) -> Option<Rc<[u8]>> {
        let mut encodings = self.encodings.iter();
        let found = encodings.find(|it| Rc::ptr_eq(&it.bytes, plain))?;
        let (body, kind) = (found.body.clone(), found.kind);
        // It takes no time to see this again for another member.
        if body.len() < usize::from(self.deflate_bytes_min) {
            return None;
        }
        self.has_deflated = true;
        let compressed = websocket::deflate::with_deflated(&plain[body], |payload| {
            let mut bytes = Vec::with_capacity(Frame::BYTES_MAX + payload.len());
            websocket::encode_compressed(None, kind == BodyKind::Text, payload, &mut bytes);
            Rc::from(bytes)
        });
        // A copy, because each encoding counts its own bytes.
        let bytes = compressed.unwrap_or_else(|| Rc::from(&**plain));
        self.add_encoding(Encoding {
            format,
            origin,
            bytes: Rc::clone(&bytes),
            body: 0..0,
            kind,
            mask: None,
        });
        Some(bytes)
    }

    /// Puts the body into `out`, which is empty: from another frame that has it, or newly encoded.
    fn encode_body(
        &self,
        wire_format: WireFormat,
        origin: Origin,
        publication: &Publication<'_>,
        notice: Option<&Notice<'_>>,
        out: &mut Vec<u8>,
    ) -> BodyKind {
        let mut others = Frame::ALL
            .iter()
            .filter(|frame| frame.has_body())
            .map(|frame| FramedFormat::new(wire_format, *frame));
        let Some(other) = others.find_map(|format| self.find(format, origin)) else {
            if let Some(notice) = notice {
                let encode = self.notice_encoder(wire_format, notice);
                debug_assert!(encode.is_some(), "asked for by `has_words` before");
                return match encode {
                    Some(encode) => encode.encode(publication.topic, origin.value, notice, out),
                    None => BodyKind::Text,
                };
            }
            return match self.registered(wire_format) {
                Some(registered) => (registered.encode)(publication, out),
                None if wire_format == WireFormat::EVENT_STREAM => {
                    encode_event_stream(publication, out)
                }
                None => encode_raw(publication, out),
            };
        };
        out.extend_from_slice(&other.bytes[other.body.clone()]);
        if let Some(mask) = other.mask {
            // Masking twice gives back the bytes.
            websocket::apply_mask(out, mask);
        }
        other.kind
    }
}

/// The part of a subscription that a body depends on. All zero where the wire format does not use
/// values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Origin {
    value: u32,
    /// The patterns of one publication are counted from 1. Zero: a subscription by name.
    pattern_number: u32,
}

/// The bytes of a publication in one wire format and one frame.
#[derive(Debug)]
struct Encoding {
    format: FramedFormat,
    origin: Origin,
    bytes: Rc<[u8]>,
    /// Where in `bytes` the body is.
    body: Range<usize>,
    kind: BodyKind,
    /// The mask of the body.
    mask: Option<[u8; 4]>,
}

/// The bytes of one publication, each encoding made when its first member comes.
///
/// Belongs to one publication: make a new one for the next.
#[derive(Debug)]
pub struct Encoded<'p> {
    wire_formats: &'p mut WireFormats,
    publication: Publication<'p>,
    /// Encoded instead of the event of the publication, which is empty then.
    notice: Option<&'p Notice<'p>>,
    /// The pattern of the members that are visited now, and its number.
    pattern: Option<&'p str>,
    pattern_number: u32,
    /// The wire format of the last member. Most members of a topic have the same one.
    /// As a number, zero before the first: an `Option` is compared in twice as many steps.
    last_format: u16,
    last_value: u32,
    last_bytes: Option<Rc<[u8]>>,
}

/// In the place of an id, which no notice has.
static NOTICE_ID: EventId = EventId::new(0, 0);

impl<'p> Encoded<'p> {
    /// No bytes yet.
    pub fn new(wire_formats: &'p mut WireFormats, publication: Publication<'p>) -> Encoded<'p> {
        Encoded {
            wire_formats,
            publication,
            notice: None,
            pattern: None,
            pattern_number: 0,
            last_format: 0,
            last_value: 0,
            last_bytes: None,
        }
    }

    /// No bytes yet of a notice about the topic or pattern `name`.
    pub fn of_notice(
        wire_formats: &'p mut WireFormats,
        name: &'p str,
        notice: &'p Notice<'p>,
    ) -> Encoded<'p> {
        let publication = Publication {
            topic: name,
            id: &NOTICE_ID,
            event: &Event::EMPTY,
            value: 0,
            pattern: None,
        };
        let mut encoded = Encoded::new(wire_formats, publication);
        encoded.notice = Some(notice);
        encoded
    }

    /// Whether this wire format has words for it: for a publication each has.
    pub fn has_words(&self, format: FramedFormat) -> bool {
        self.notice.is_none_or(|notice| {
            let encode = self
                .wire_formats
                .notice_encoder(format.wire_format(), notice);
            encode.is_some()
        })
    }

    /// The bytes that tell a member that its queue has no room for this publication. `None` where its wire format
    /// has no words for it.
    pub fn lagged(&self, format: FramedFormat) -> Option<Vec<u8>> {
        if self.notice.is_some() {
            return None;
        }
        // Everything before this publication was queued to the member.
        let cursor = self.publication.id.cursor_before().to_string();
        let notice = Notice::Lagged { cursor: &cursor };
        let encode = (self.wire_formats).notice_encoder(format.wire_format(), &notice)?;
        let name = self.pattern.unwrap_or(self.publication.topic);
        // It is put together apart from the encodings, which are those of the publication.
        let mut body = Vec::new();
        let kind = encode.encode(name, 0, &notice, &mut body);
        let (frame, mask) = (format.frame(), format.frame().new_mask());
        let mut bytes = Vec::with_capacity(Frame::BYTES_MAX + body.len());
        frame.encode_header(kind, body.len(), mask, &mut bytes);
        if let Some(mask) = mask {
            websocket::apply_mask(&mut body, mask);
        }
        bytes.extend_from_slice(&body);
        frame.encode_trailer(body.len(), &mut bytes);
        Some(bytes)
    }

    /// The id of the publication.
    pub fn id(&self) -> &EventId {
        self.publication.id
    }

    /// Says by which pattern the members are subscribed that [`get`](Self::get) is for from now on.
    /// It differs from the pattern before.
    pub fn set_pattern(&mut self, pattern: &'p str) {
        self.pattern = Some(pattern);
        self.pattern_number += 1;
        self.last_format = 0;
    }

    /// The bytes in this format for a subscription with this value, shared with all members that
    /// take the same.
    #[inline(always)]
    pub fn get(&mut self, format: FramedFormat, value: u32) -> Rc<[u8]> {
        if self.last_format == format.0.get()
            && self.last_value == value
            && let Some(bytes) = &self.last_bytes
        {
            return Rc::clone(bytes);
        }
        self.find_or_encode(format, value)
    }

    /// The body in the wire format of `format` and its kind, for a connection that makes its own frame.
    #[cfg(feature = "deflate")]
    pub fn body_of(&mut self, format: FramedFormat, value: u32) -> (Rc<[u8]>, BodyKind) {
        let body = self.get(FramedFormat::new(format.wire_format(), Frame::Bare), value);
        let mut encodings = self.wire_formats.encodings.iter();
        let encoding = encodings.find(|it| Rc::ptr_eq(&it.bytes, &body));
        let kind = encoding.map_or(BodyKind::Binary, |it| it.kind);
        (body, kind)
    }

    /// Whether all members with this format take the same bytes, which no mask hides.
    pub fn is_common(&self, format: FramedFormat) -> bool {
        let registered = self.wire_formats.registered(format.wire_format());
        let uses_values = registered.is_some_and(|it| it.uses_values);
        #[cfg(feature = "deflate")]
        if format.is_own() {
            return false;
        }
        !uses_values && format.frame() != Frame::MaskedWebSocket
    }

    #[cold]
    fn find_or_encode(&mut self, format: FramedFormat, value: u32) -> Rc<[u8]> {
        #[cfg(feature = "deflate")]
        if format.is_deflated() {
            return self.find_or_deflate(format, value);
        }
        let (origin, pattern) = self.origin(format, value);
        let bytes = match self.wire_formats.find(format, origin) {
            Some(found) => Rc::clone(&found.bytes),
            None => {
                self.publication.value = origin.value;
                self.publication.pattern = pattern;
                self.wire_formats
                    .encode(format, origin, &self.publication, self.notice)
            }
        };
        self.note_last(format, value, bytes)
    }

    /// As [`find_or_encode`](Self::find_or_encode), compressed where the body is long enough and becomes shorter.
    #[cfg(feature = "deflate")]
    #[inline(never)]
    fn find_or_deflate(&mut self, format: FramedFormat, value: u32) -> Rc<[u8]> {
        let (origin, _) = self.origin(format, value);
        if let Some(found) = self.wire_formats.find(format, origin) {
            let bytes = Rc::clone(&found.bytes);
            return self.note_last(format, value, bytes);
        }
        let plain = FramedFormat::new(format.wire_format(), Frame::WebSocket);
        let plain = self.find_or_encode(plain, value);
        let compressed = self.wire_formats.deflate(format, origin, &plain);
        self.note_last(format, value, compressed.unwrap_or(plain))
    }

    /// The part of the subscription that the body depends on, and the pattern where it is a part.
    #[inline]
    fn origin(&self, format: FramedFormat, value: u32) -> (Origin, Option<&'p str>) {
        let registered = self.wire_formats.registered(format.wire_format());
        if !registered.is_some_and(|it| it.uses_values) {
            return (Origin::default(), None);
        }
        let pattern_number = self.pattern_number;
        let origin = Origin {
            value,
            pattern_number,
        };
        (origin, self.pattern)
    }

    /// Keeps the bytes for the next member, which mostly takes the same.
    #[inline]
    fn note_last(&mut self, format: FramedFormat, value: u32, bytes: Rc<[u8]>) -> Rc<[u8]> {
        self.last_format = format.0.get();
        self.last_value = value;
        self.last_bytes = Some(Rc::clone(&bytes));
        bytes
    }
}

impl Drop for Encoded<'_> {
    fn drop(&mut self) {
        self.last_bytes = None;
        self.wire_formats.count_kept();
        self.wire_formats.clear();
    }
}

fn kind_of(message: Message<'_>) -> BodyKind {
    match message {
        Message::Text(_) => BodyKind::Text,
        Message::Binary(_) => BodyKind::Binary,
    }
}

fn encode_raw(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let message = publication.event.payload().to_message();
    out.extend_from_slice(message.as_bytes());
    kind_of(message)
}

fn encode_event_stream(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
    let event = publication.event;
    out.extend_from_slice(b"id: ");
    publication.id.encode(out);
    out.push(b'\n');
    event_stream::encode(event.name(), None, &event.payload().to_text(), out)
        .expect("the name of an event has no line break");
    BodyKind::Text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;

    use super::*;
    use crate::protocol::event_stream::FieldError;
    use crate::protocol::websocket::{Machine, Role};
    use crate::pubsub::event::Event;
    use crate::pubsub::event_id::EventId;

    const ID: EventId = EventId::new(0x1f, 10);

    fn publication<'e>(event: &'e Event<'e>) -> Publication<'e> {
        Publication {
            topic: "chat",
            id: &ID,
            event,
            value: 0,
            pattern: None,
        }
    }

    fn encoded(
        wire_format: WireFormat,
        frame: Frame,
        wire_formats: &mut WireFormats,
        event: &Event<'_>,
    ) -> Rc<[u8]> {
        Encoded::new(wire_formats, publication(event)).get(FramedFormat::new(wire_format, frame), 0)
    }

    #[test]
    fn built_in_formats_in_each_frame() {
        let named = Event::new("say").data("hi\nthere");
        let long = "x".repeat(300);
        let longer = "x".repeat(70_000);
        let cases: &[(&str, WireFormat, Frame, Event<'_>, &[u8])] = &[
            ("raw text", WireFormat::RAW, Frame::Bare, "hi".into(), b"hi"),
            (
                "raw leaves the name out",
                WireFormat::RAW,
                Frame::Bare,
                named.clone(),
                b"hi\nthere",
            ),
            (
                "raw JSON",
                WireFormat::RAW,
                Frame::Bare,
                Event::new("x").json("[1]"),
                b"[1]",
            ),
            (
                "raw bytes",
                WireFormat::RAW,
                Frame::Bare,
                b"\0\xff".into(),
                b"\0\xff",
            ),
            (
                "frame of text",
                WireFormat::RAW,
                Frame::WebSocket,
                "hi".into(),
                b"\x81\x02hi",
            ),
            (
                "frame of JSON",
                WireFormat::RAW,
                Frame::WebSocket,
                Event::new("x").json("[1]"),
                b"\x81\x03[1]",
            ),
            (
                "frame of bytes",
                WireFormat::RAW,
                Frame::WebSocket,
                b"\0\xff".into(),
                b"\x82\x02\0\xff",
            ),
            (
                "empty frame",
                WireFormat::RAW,
                Frame::WebSocket,
                Event::new("x"),
                b"\x81\0",
            ),
            (
                "long frame",
                WireFormat::RAW,
                Frame::WebSocket,
                long.as_str().into(),
                &[b"\x81\x7e\x01\x2c", long.as_bytes()].concat(),
            ),
            (
                "frame of an event",
                WireFormat::EVENT_STREAM,
                Frame::WebSocket,
                "hi".into(),
                b"\x81\x14id: 1f:10\ndata: hi\n\n",
            ),
            (
                "chunk",
                WireFormat::EVENT_STREAM,
                Frame::HttpChunk,
                "hi".into(),
                b"14\r\nid: 1f:10\ndata: hi\n\n\r\n",
            ),
            (
                "chunk of lines",
                WireFormat::EVENT_STREAM,
                Frame::HttpChunk,
                named.clone(),
                b"2b\r\nid: 1f:10\nevent: say\ndata: hi\ndata: there\n\n\r\n",
            ),
            (
                "stream",
                WireFormat::EVENT_STREAM,
                Frame::Bare,
                named,
                b"id: 1f:10\nevent: say\ndata: hi\ndata: there\n\n",
            ),
            (
                "stream of bytes",
                WireFormat::EVENT_STREAM,
                Frame::Bare,
                b"\0\xff".into(),
                b"id: 1f:10\ndata: AP8=\n\n",
            ),
            (
                "event without data",
                WireFormat::EVENT_STREAM,
                Frame::Bare,
                "".into(),
                b"id: 1f:10\ndata: \n\n",
            ),
            (
                "long chunk",
                WireFormat::EVENT_STREAM,
                Frame::HttpChunk,
                long.as_str().into(),
                &[b"13e\r\nid: 1f:10\ndata: ", long.as_bytes(), b"\n\n\r\n"].concat(),
            ),
            (
                "longer chunk",
                WireFormat::RAW,
                Frame::HttpChunk,
                longer.as_str().into(),
                &[b"11170\r\n", longer.as_bytes(), b"\r\n"].concat(),
            ),
            (
                "an empty chunk would end the stream",
                WireFormat::RAW,
                Frame::HttpChunk,
                "".into(),
                b"",
            ),
        ];
        for (name, wire_format, frame, event, expected) in cases {
            let bytes = encoded(*wire_format, *frame, &mut WireFormats::new(), event);
            assert_eq!(
                bytes.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{name}"
            );
        }
    }

    #[test]
    fn masked_frame_is_read_by_a_server() {
        for text in ["", "hi", &"x".repeat(300), &"x".repeat(70_000)] {
            let mut bytes = encoded(
                WireFormat::RAW,
                Frame::MaskedWebSocket,
                &mut WireFormats::new(),
                &text.into(),
            )
            .to_vec();
            let mut input = bytes.as_mut_slice();
            let received = Machine::new(Role::Server)
                .next_event(&mut input, &websocket::Limits::default())
                .unwrap();
            assert_eq!(received, Some(websocket::Event::Text(text.into())));
            assert!(input.is_empty());
        }
    }

    thread_local! {
        static ENCODED: Cell<usize> = const { Cell::new(0) };
    }

    fn encode_counted(publication: &Publication<'_>, out: &mut Vec<u8>) -> BodyKind {
        ENCODED.set(ENCODED.get() + 1);
        assert!(out.is_empty(), "scratch comes empty");
        let _ = write!(out, "{}@{}", publication.id, publication.topic);
        BodyKind::Binary
    }

    #[test]
    fn each_format_is_encoded_once_and_its_bytes_are_shared() {
        let mut wire_formats = WireFormats::new();
        let wire_format = wire_formats.register("counted", encode_counted).unwrap();
        let event = Event::message("x".repeat(200_000));
        let mut encoded = Encoded::new(&mut wire_formats, publication(&event));
        let first = encoded.get(FramedFormat::new(wire_format, Frame::Bare), 0);
        let other = encoded.get(FramedFormat::new(WireFormat::RAW, Frame::WebSocket), 0);
        let second = encoded.get(FramedFormat::new(wire_format, Frame::Bare), 0);
        let third = encoded.get(FramedFormat::new(wire_format, Frame::Bare), 0);
        assert_eq!(&*first, b"1f:10@chat");
        assert!(Rc::ptr_eq(&first, &second) && Rc::ptr_eq(&second, &third));
        assert!(!Rc::ptr_eq(&first, &other));
        assert_eq!(ENCODED.get(), 1);
        drop(encoded);
        assert!(wire_formats.scratch.capacity() <= SCRATCH_BYTES_MAX);
        assert!(wire_formats.encodings.is_empty());

        let mut next = Encoded::new(&mut wire_formats, publication(&event));
        next.get(FramedFormat::new(wire_format, Frame::Bare), 0);
        assert_eq!(ENCODED.get(), 2);
    }

    #[test]
    fn body_is_encoded_once_whichever_frames_are_around_it() {
        for first in Frame::ALL {
            let mut wire_formats = WireFormats::new();
            let wire_format = wire_formats.register("counted", encode_counted).unwrap();
            let before = ENCODED.get();
            let event = Event::message("");
            let mut encoded = Encoded::new(&mut wire_formats, publication(&event));
            encoded.get(FramedFormat::new(wire_format, *first), 0);
            assert_eq!(
                &*encoded.get(FramedFormat::new(wire_format, Frame::Bare), 0),
                b"1f:10@chat"
            );
            let frame = encoded.get(FramedFormat::new(wire_format, Frame::WebSocket), 0);
            assert_eq!(&*frame, b"\x82\x0a1f:10@chat");
            let masked = encoded.get(FramedFormat::new(wire_format, Frame::MaskedWebSocket), 0);
            assert_eq!(masked[..2], *b"\x82\x8a");
            let (mask, body) = masked[2..].split_at(4);
            let unmasked = body.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
            assert!(unmasked.eq(b"1f:10@chat".iter().copied()));
            let chunk = encoded.get(FramedFormat::new(wire_format, Frame::HttpChunk), 0);
            assert_eq!(&*chunk, b"a\r\n1f:10@chat\r\n");
            assert_eq!(ENCODED.get() - before, 1, "{first:?}");
        }
    }

    #[test]
    fn encoder_has_state_of_its_own() {
        let mut wire_formats = WireFormats::new();
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let prefix = String::from("> ");
        let wire_format = wire_formats
            .register("prefixed", move |publication, out| {
                count.set(count.get() + 1);
                out.extend_from_slice(prefix.as_bytes());
                encode_raw(publication, out)
            })
            .unwrap();
        let bytes = encoded(wire_format, Frame::Bare, &mut wire_formats, &"hi".into());
        assert_eq!((&*bytes, calls.get()), (&b"> hi"[..], 1));
    }

    #[test]
    fn format_that_uses_values_is_encoded_once_for_each() {
        let encode = |publication: &Publication<'_>, out: &mut Vec<u8>| {
            ENCODED.set(ENCODED.get() + 1);
            let _ = write!(out, "{}", publication.value);
            BodyKind::Text
        };
        let mut wire_formats = WireFormats::new();
        let with = wire_formats.register_with_values("with", encode).unwrap();
        let without = wire_formats.register("without", encode).unwrap();
        let with = FramedFormat::new(with, Frame::WebSocket);
        let without = FramedFormat::new(without, Frame::WebSocket);
        // Few enough to be scanned, and more.
        for value_count in [3, SCAN_MAX as u32 - 2, 100] {
            let before = ENCODED.get();
            let event = Event::message("");
            let mut encoded = Encoded::new(&mut wire_formats, publication(&event));
            for _ in 0..2 {
                for value in 0..value_count {
                    let digits = value.to_string();
                    assert_eq!(encoded.get(with, value)[2..], *digits.as_bytes());
                    assert_eq!(encoded.get(without, value)[2..], *b"0");
                }
            }
            let first = encoded.get(with, 0);
            assert!(Rc::ptr_eq(&first, &encoded.get(with, 0)));
            assert_eq!(ENCODED.get() - before, value_count as usize + 1);
            drop(encoded);
            assert!(wire_formats.encodings.capacity() <= SCAN_MAX);
            assert_eq!(wire_formats.index.capacity(), 0);
        }
    }

    #[test]
    fn format_that_uses_values_is_encoded_once_for_each_pattern() {
        let encode = |publication: &Publication<'_>, out: &mut Vec<u8>| {
            ENCODED.set(ENCODED.get() + 1);
            let _ = write!(out, "{:?}", publication.pattern);
            BodyKind::Text
        };
        let mut wire_formats = WireFormats::new();
        let with = wire_formats.register_with_values("with", encode).unwrap();
        let without = wire_formats.register("without", encode).unwrap();
        let with = FramedFormat::new(with, Frame::Bare);
        let without = FramedFormat::new(without, Frame::Bare);
        let patterns: Vec<_> = (0..SCAN_MAX * 2).map(|n| format!("{n}*")).collect();
        let before = ENCODED.get();
        let event = Event::message("");
        let mut encoded = Encoded::new(&mut wire_formats, publication(&event));
        for _ in 0..2 {
            assert_eq!(*encoded.get(with, 0), *b"None");
        }
        for pattern in &patterns {
            encoded.set_pattern(pattern);
            for _ in 0..2 {
                let expected = format!("Some({pattern:?})");
                assert_eq!(*encoded.get(with, 0), *expected.as_bytes());
                assert_eq!(*encoded.get(without, 0), *b"None");
            }
        }
        assert_eq!(ENCODED.get() - before, patterns.len() + 2);
    }

    #[test]
    fn sixteen_formats_can_be_registered() {
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
        for wire_format in [registered[0], last] {
            let bytes = encoded(wire_format, Frame::Bare, &mut wire_formats, &"hi".into());
            assert_eq!(&*bytes, b"1f:10@chat");
        }
        let bytes = encoded(last, Frame::Bare, &mut WireFormats::new(), &"hi".into());
        assert_eq!(&*bytes, b"hi", "registered elsewhere");
        assert_eq!(WireFormat::default(), WireFormat::RAW);
    }

    #[test]
    fn names_that_no_wire_format_can_carry() {
        for bad in ["x\ndata: y", "x\r", "\0"] {
            assert_eq!(Event::try_new(bad), Err(FieldError::Event), "{bad:?}");
            assert_eq!(
                Event::new(bad).name().unwrap().matches('\u{fffd}').count(),
                1,
                "{bad:?}"
            );
            encoded(
                WireFormat::EVENT_STREAM,
                Frame::Bare,
                &mut WireFormats::new(),
                &Event::new(bad),
            );
        }
        assert_eq!(Event::try_new("x"), Ok(Event::new("x")));
        assert_eq!(Event::new("").name(), Some(""));
    }
}
