//! One direction of an open connection: frames in, events out.
//!
//! Theory. The machine is in one of four states, and only [`Machine::next_event`] moves it:
//!
//! | state | `Partial` | is left by |
//! |---|---|---|
//! | between messages | none | a data frame that is not whole or not final; a close; an error |
//! | within a frame | some, with its `frame` | the last payload byte |
//! | between fragments | some, without | a continuation; control frames pass through |
//! | ended | none | nothing: input is discarded |
//!
//! A message of one frame that is whole in the input never leaves the first state: it is unmasked
//! and validated in place, and the event borrows it. The payload of any other message is unmasked
//! and moved to a buffer of the message as it arrives, so that no byte is read twice, and the event
//! owns that buffer. The buffer grows with the bytes that have arrived, never with the length that
//! was announced. The payload of a compressed message is kept as it is, and inflated when it is
//! complete; see [`deflate`](super::deflate).
//!
//! Short messages, the common case, take a fast path that does not touch this state:
//! [`next_short_message`].
//!
//! Source: RFC 6455, sections 5 and 8.1.

use std::borrow::Cow;

use super::close::{encode_close, parse_close};
use super::closing::Closing;
use super::control::{CONTROL_BYTES_MAX, CloseCode};
#[cfg(feature = "deflate")]
use super::deflate::{self, Agreed, Windows};
use super::error::Error;
use super::frame::{
    Control, Data, Header, OpCode, ReservedBits, SHORT_BYTES_MAX, SHORT_HEADER_BYTES,
    SHORT_MASKED_HEADER_BYTES, WHOLE_BINARY, WHOLE_TEXT, apply_mask, encode_control,
    encode_message, random_mask,
};
#[cfg(feature = "deflate")]
use super::frame::{encode_compressed, encode_uncompressed};
use super::message::Message;
use super::role::Role;
use super::spare::{SPARE_BYTES_MIN, Spare};
use super::utf8::PartialText;

/// How much a peer may send in one frame and one message. The close code above it is 1009, above the number of
/// fragments 1008.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest payload of one frame, in bytes. 1 MiB by default.
    pub frame_bytes_max: usize,
    /// Longest message over all its fragments, in bytes. 1 MiB by default.
    pub message_bytes_max: usize,
    /// The most frames of one message. A message may consist of empty fragments without end, which no limit of
    /// bytes stops. `None`, no limit, by default; at least 1.
    pub fragments_max: Option<u32>,
}

impl Limits {
    /// The longest payload, in bytes, that the fast path takes: see [`next_short_message`].
    #[inline]
    pub(crate) fn short_bytes_max(&self) -> usize {
        SHORT_BYTES_MAX
            .min(self.frame_bytes_max)
            .min(self.message_bytes_max)
    }

    /// The limits of the payload of a compressed message whose limits are these. Compression can make
    /// a message longer: by an eighth when each byte takes nine bits, and by five bytes for a block that
    /// is stored as it is.
    #[cfg(feature = "deflate")]
    fn of_payload(self) -> Limits {
        let with_overhead = |bytes: usize| bytes.saturating_add(bytes / 8).saturating_add(64);
        Limits {
            frame_bytes_max: with_overhead(self.frame_bytes_max),
            message_bytes_max: with_overhead(self.message_bytes_max),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: 1024 * 1024,
            message_bytes_max: 1024 * 1024,
            fragments_max: None,
        }
    }
}

/// A message, control frame or close of the peer.
///
/// Borrows from the input, never from the machine. A message that arrived in pieces is owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A text message.
    Text(Cow<'b, str>),
    /// A binary message.
    Binary(Cow<'b, [u8]>),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'b [u8]),
    /// A pong, the answer to a ping or sent without one.
    Pong(&'b [u8]),
    /// A close, with code and reason where the peer gave them. The last event.
    Close(Option<CloseCode>, &'b str),
}

/// The receiving half of one connection, and what was agreed for both halves.
///
/// Owns heap bytes only while a message is incomplete, and where it keeps windows of its own for compression. The
/// limits are an argument, so that they are stored once for a route instead of once for each connection.
#[derive(Debug)]
pub struct Machine {
    state: Option<Box<State>>,
    /// A limit of this connection below those of its route, in bytes. The fast path does not ask for it.
    message_bytes_max: u32,
    /// Messages of at least so many bytes are compressed, where that was agreed.
    #[cfg(feature = "deflate")]
    deflate_bytes_min: u16,
    link: Link,
    is_ended: bool,
}

/// Which end of the connection this is, and how its messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Server,
    Client,
    /// The server's end; each message is compressed by itself, for the largest window.
    #[cfg(feature = "deflate")]
    SharedServer,
    /// As `SharedServer`, at the client's end.
    #[cfg(feature = "deflate")]
    SharedClient,
    /// As `SharedServer`, for a window that the client has limited.
    #[cfg(feature = "deflate")]
    NarrowServer,
    /// The server's end; its messages depend on those before, and what it has agreed to is in its [`Windows`].
    #[cfg(feature = "deflate")]
    WindowsServer,
    /// The client's end; what it has agreed to is in its [`Windows`].
    #[cfg(feature = "deflate")]
    WindowsClient,
}

impl Link {
    #[inline]
    fn role(self) -> Role {
        match self {
            Link::Server => Role::Server,
            Link::Client => Role::Client,
            #[cfg(feature = "deflate")]
            Link::SharedServer | Link::NarrowServer | Link::WindowsServer => Role::Server,
            #[cfg(feature = "deflate")]
            Link::SharedClient | Link::WindowsClient => Role::Client,
        }
    }

    #[inline]
    fn is_plain(self) -> bool {
        matches!(self, Link::Server | Link::Client)
    }
}

/// The part of a machine that is on the heap.
#[derive(Debug)]
struct State {
    partial: Option<Partial>,
    #[cfg(feature = "deflate")]
    windows: Option<Box<Windows>>,
}

/// A message that is not complete.
#[derive(Debug)]
struct Partial {
    content: Content,
    /// The frame whose payload is still coming.
    frame: Option<PartialFrame>,
    /// How many of its frames have begun.
    fragment_count: u32,
}

#[derive(Debug)]
enum Content {
    Text(PartialText),
    Binary(Vec<u8>),
    /// The payload of a compressed message, as it came.
    #[cfg(feature = "deflate")]
    Compressed {
        is_text: bool,
        payload: Vec<u8>,
    },
}

#[derive(Debug)]
struct PartialFrame {
    rest_bytes: usize,
    /// Rotated, so that its first byte is for the next byte of the payload.
    mask: Option<[u8; 4]>,
    is_final: bool,
}

/// Payload is unmasked, validated and copied in blocks of this many bytes, so that each block stays
/// in the first-level cache from one step to the next.
const BLOCK_BYTES: usize = 16 * 1024;

/// The least that is reserved for an incomplete message, in bytes, unless the message is shorter.
const RESERVE_BYTES_MIN: usize = 256;

impl Machine {
    /// A machine between messages, after the handshake.
    pub fn new(role: Role) -> Machine {
        Machine {
            state: None,
            message_bytes_max: u32::MAX,
            #[cfg(feature = "deflate")]
            deflate_bytes_min: u16::MAX,
            link: match role {
                Role::Server => Link::Server,
                Role::Client => Link::Client,
            },
            is_ended: false,
        }
    }

    /// As [`new`](Self::new), with the compression that the handshake has agreed to. Messages of at least
    /// `deflate_bytes_min` bytes are compressed.
    #[cfg(feature = "deflate")]
    pub(crate) fn with_deflate(role: Role, agreed: Agreed, deflate_bytes_min: u16) -> Machine {
        let windows = Windows::new(role, agreed);
        Machine {
            link: match (role, &windows) {
                (Role::Server, Some(_)) if agreed.server.keeps_window => Link::WindowsServer,
                (Role::Server, _) if agreed.server.is_limited() => Link::NarrowServer,
                (Role::Server, _) => Link::SharedServer,
                (Role::Client, None) => Link::SharedClient,
                (Role::Client, Some(_)) => Link::WindowsClient,
            },
            state: windows.map(|windows| {
                Box::new(State {
                    partial: None,
                    windows: Some(windows),
                })
            }),
            deflate_bytes_min,
            ..Machine::new(role)
        }
    }

    /// The next event at the front of `input`, or `None` when more bytes are needed.
    ///
    /// Consumes from the front of `input` and unmasks in place. On `None` everything is consumed
    /// except an incomplete header or control frame (at most 130 bytes). That is left as it is, and
    /// the caller passes it again, in front of the bytes that it reads next. After a close or an
    /// error there are no more events, and input is discarded.
    ///
    /// # Errors
    ///
    /// [`Error`] as soon as no continuation of the bytes so far is allowed by RFC 6455 and
    /// `limits`, even if the frame is not complete. The connection is then lost.
    #[inline]
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        self.next_event_with(input, limits, &mut Spare::new())
    }

    /// As [`next_event`](Self::next_event), with buffers from earlier large messages. The caller may
    /// [give back](Spare::give) the buffer of an owned event.
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event).
    #[inline]
    pub fn next_event_with<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &Limits,
        spare: &mut Spare,
    ) -> Result<Option<Event<'b>>, Error> {
        // Every read ends with a call without input. No state changes then.
        if input.is_empty() {
            return Ok(None);
        }
        match self.next_short_message(input, limits) {
            Some(Ok(Message::Text(text))) => Ok(Some(Event::Text(Cow::Borrowed(text)))),
            Some(Ok(Message::Binary(bytes))) => Ok(Some(Event::Binary(Cow::Borrowed(bytes)))),
            Some(Err(error)) => Err(error),
            None => self.next_event_of_any_kind(input, limits, spare),
        }
    }

    /// The fast path of [`next_event`](Self::next_event), where the state allows it. `None` where
    /// the general path must look at the input.
    #[inline(always)]
    pub(crate) fn next_short_message<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &Limits,
    ) -> Option<Result<Message<'b>, Error>> {
        if !self.is_between_messages() {
            return None;
        }
        let message = next_short_message(self.role(), input, limits.short_bytes_max())?;
        if message.is_err() {
            self.end_input(input);
        }
        Some(message)
    }

    /// Which end of the connection this is.
    #[inline]
    pub fn role(&self) -> Role {
        self.link.role()
    }

    /// Which end of the connection this is, and how its messages are compressed.
    #[inline]
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// Whether compression was agreed.
    #[cfg(feature = "deflate")]
    pub(crate) fn is_deflated(&self) -> bool {
        !self.link.is_plain()
    }

    /// Whether the next byte is the first of a message or of a control frame: the state in which
    /// [`next_short_message`] may be called.
    #[inline]
    fn is_between_messages(&self) -> bool {
        self.state.is_none() && !self.is_ended
    }

    /// Whether [`next_short_message`] may be called, and messages may be encoded without this machine: it
    /// is between messages, and none is compressed.
    #[inline]
    pub(crate) fn has_fast_path(&self) -> bool {
        self.is_between_messages() && self.link.is_plain()
    }

    /// Appends a message as one frame, masked where this end is a client, and compressed where that was
    /// agreed and the message is long enough.
    #[inline]
    pub fn encode(&mut self, message: Message<'_>, out: &mut Vec<u8>) {
        #[cfg(feature = "deflate")]
        if self.encode_compressed(message.is_text(), message.as_bytes(), out) {
            return;
        }
        encode_message(self.mask(), message, out);
    }

    /// As [`encode`](Self::encode), for a text whose UTF-8 was checked, or binary data.
    #[cfg(feature = "deflate")]
    pub(crate) fn encode_body(&mut self, is_text: bool, body: &[u8], out: &mut Vec<u8>) {
        if !self.encode_compressed(is_text, body, out) {
            encode_uncompressed(self.mask(), is_text, body, out);
        }
    }

    /// Whether a message of this length is to be compressed.
    #[inline]
    pub(crate) fn compresses(&self, message_bytes: usize) -> bool {
        #[cfg(feature = "deflate")]
        return !self.link.is_plain() && usize::from(self.deflate_bytes_min) <= message_bytes;
        #[cfg(not(feature = "deflate"))]
        {
            let _ = message_bytes;
            false
        }
    }

    /// Appends a compressed message. Appends nothing, and returns `false`, where the message is to go
    /// out as it is.
    #[cfg(feature = "deflate")]
    fn encode_compressed(&mut self, is_text: bool, message: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.compresses(message.len()) {
            return false;
        }
        let mask = self.mask();
        let encode = |payload: &[u8]| encode_compressed(mask, is_text, payload, out);
        let encoded = match self.windows_mut() {
            Some(windows) => windows.with_deflated(message, encode),
            None => deflate::with_deflated(message, encode),
        };
        encoded.is_some()
    }

    #[cfg(feature = "deflate")]
    fn windows_mut(&mut self) -> Option<&mut Windows> {
        self.state.as_mut()?.windows.as_deref_mut()
    }

    /// Appends a close with `code` and `reason`, and returns the code that went out. Input is
    /// not affected: the caller goes on with [`next_event`](Machine::next_event) until the
    /// peer's close.
    ///
    /// A code that must not be sent, such as 1005 and 1006, goes out as 1000; a reason above
    /// [`CLOSE_REASON_BYTES_MAX`](super::CLOSE_REASON_BYTES_MAX) is cut at a code point.
    pub fn encode_close(&self, code: u16, reason: &str, out: &mut Vec<u8>) -> u16 {
        encode_close(self.mask(), Some(code.into()), reason, out)
    }

    /// Takes the `code` of the peer's close, if it had one: appends the reply, unless a close of
    /// ours `was_sent` before, and returns what this close means for the application and for the
    /// stream.
    ///
    /// The reply has the peer's code, or none where the peer gave none.
    ///
    /// Source: RFC 6455, section 5.5.1.
    pub fn encode_close_reply(
        &self,
        code: Option<u16>,
        was_sent: bool,
        out: &mut Vec<u8>,
    ) -> Closing {
        if !was_sent {
            encode_close(self.mask(), code.map(CloseCode::from), "", out);
        }
        Closing::by_peer(self.role(), code)
    }

    /// Appends the pong that answers a ping with this payload.
    ///
    /// The payload of a ping that was received fits; of a longer one the first
    /// [`CONTROL_BYTES_MAX`] bytes are sent.
    ///
    /// Source: RFC 6455, section 5.5.3.
    pub fn encode_pong(&self, ping: &[u8], out: &mut Vec<u8>) {
        let payload = &ping[..ping.len().min(CONTROL_BYTES_MAX)];
        encode_control(Control::Pong, self.mask(), payload, out);
    }

    /// The mask of the next frame to send: a new one for a client, none for a server.
    #[inline]
    pub fn mask(&self) -> Option<[u8; 4]> {
        self.masks().then(random_mask)
    }

    /// Whether this end masks what it sends, as a client does.
    #[inline]
    pub fn masks(&self) -> bool {
        self.role() == Role::Client
    }

    /// Whether a close or an error has ended the input.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn partial(&self) -> Option<&Partial> {
        self.state.as_ref()?.partial.as_ref()
    }

    fn partial_mut(&mut self) -> Option<&mut Partial> {
        self.state.as_mut()?.partial.as_mut()
    }

    /// Whether a message has begun and is not complete.
    pub fn is_within_message(&self) -> bool {
        self.partial().is_some()
    }

    /// How many bytes of an incomplete message have arrived; 0 between messages.
    pub fn received_bytes(&self) -> usize {
        self.partial().map_or(0, |partial| partial.content.len())
    }

    /// The bytes of the frame that is coming which have not arrived; 0 between frames.
    pub(crate) fn expected_bytes(&self) -> usize {
        let frame = self.partial().and_then(|it| it.frame.as_ref());
        frame.map_or(0, |frame| frame.rest_bytes)
    }

    /// Heap bytes held for an incomplete message, and for windows of its own; 0 between messages without such.
    pub fn buffered_bytes(&self) -> usize {
        let partial = self
            .partial()
            .map_or(0, |partial| partial.content.capacity());
        #[cfg(feature = "deflate")]
        let partial = partial
            + (self.state.as_ref())
                .and_then(|state| state.windows.as_ref())
                .map_or(0, |windows| windows.held_bytes());
        partial
    }

    /// Sets a limit for frames and messages below that of the route, in bytes; `None` lifts it. Messages of
    /// up to 125 bytes are always accepted.
    pub(crate) fn set_message_bytes_max(&mut self, bytes: Option<u32>) {
        self.message_bytes_max = bytes.unwrap_or(u32::MAX);
    }

    /// Drops the incomplete message. Input is discarded from here on.
    pub(crate) fn drop_input(&mut self) {
        self.take_partial();
        self.is_ended = true;
    }

    /// Takes out the incomplete message.
    fn take_partial(&mut self) -> Option<Partial> {
        #[cfg(feature = "deflate")]
        if let Some(state) = &mut self.state
            && state.windows.is_some()
        {
            return state.partial.take();
        }
        self.state.take()?.partial
    }

    #[inline(never)]
    fn next_event_of_any_kind<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &Limits,
        spare: &mut Spare,
    ) -> Result<Option<Event<'b>>, Error> {
        if self.is_ended {
            *input = &mut [];
            return Ok(None);
        }
        let event = self.read_frames(input, limits, spare);
        if matches!(event, Err(_) | Ok(Some(Event::Close(..)))) {
            self.end_input(input);
        }
        event
    }

    fn end_input(&mut self, input: &mut &mut [u8]) {
        self.drop_input();
        *input = &mut [];
    }

    // Reads frames until one of them completes an event, or the input is used up.
    fn read_frames<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &Limits,
        spare: &mut Spare,
    ) -> Result<Option<Event<'b>>, Error> {
        loop {
            if let Some(partial) = self.partial_mut()
                && let Some(frame) = &mut partial.frame
            {
                frame.receive(input, &mut partial.content, limits)?;
                if frame.rest_bytes != 0 {
                    return Ok(None);
                }
                if frame.is_final {
                    return self.take_message(limits, spare);
                }
                partial.frame = None;
            }

            let Some(header) = Header::parse(input, self.role(), self.allowed_reserved_bits())?
            else {
                return Ok(None);
            };
            match header.opcode {
                OpCode::Control(control) => return control_frame(control, &header, input),
                OpCode::Data(kind) => {
                    let payload_bytes = self.check_data_frame(kind, &header, limits)?;
                    let frame_bytes = payload_bytes.saturating_add(header.header_bytes);
                    if header.is_final
                        && !self.is_within_message()
                        && let Some(frame) = input.split_off_mut(..frame_bytes)
                    {
                        let payload = &mut frame[header.header_bytes..];
                        if let Some(mask) = header.mask {
                            apply_mask(payload, mask);
                        }
                        #[cfg(feature = "deflate")]
                        if header.is_compressed {
                            let is_text = kind == Data::Text;
                            return self.inflate(is_text, payload, limits, spare).map(Some);
                        }
                        return whole_message(kind, payload).map(Some);
                    }
                    self.begin_frame(kind, &header, payload_bytes, spare);
                    // The header is in the input, because `parse` has just read it.
                    let _header = input.split_off_mut(..header.header_bytes);
                }
            }
        }
    }

    fn allowed_reserved_bits(&self) -> ReservedBits {
        #[cfg(feature = "deflate")]
        if !self.link.is_plain() {
            return ReservedBits::DEFLATE;
        }
        ReservedBits::NONE
    }

    // The limits of this connection.
    fn own_limits(&self, limits: &Limits) -> Limits {
        let of_connection = usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX);
        Limits {
            frame_bytes_max: limits.frame_bytes_max.min(of_connection),
            message_bytes_max: limits.message_bytes_max.min(of_connection),
            ..*limits
        }
    }

    // The length of the payload in bytes, if a frame of this kind is allowed in this state and its
    // message does not grow beyond the limits.
    fn check_data_frame(
        &self,
        kind: Data,
        header: &Header,
        limits: &Limits,
    ) -> Result<usize, Error> {
        match (kind, self.partial()) {
            (Data::Continue, None) => return Err(Error::UnexpectedContinuation),
            (Data::Text | Data::Binary, Some(_)) => return Err(Error::InterleavedMessage),
            (Data::Continue, Some(_)) | (Data::Text | Data::Binary, None) => {}
            (Data::Reserved(opcode), _) => return Err(Error::ReservedOpcode { opcode }),
        }
        let bytes = header.payload_bytes;
        let limits = self.own_limits(limits);
        #[cfg(feature = "deflate")]
        let limits = match self.partial() {
            // The limits are for the message, whose length shows when it is inflated.
            None if header.is_compressed => limits.of_payload(),
            Some(partial) if partial.content.is_compressed() => limits.of_payload(),
            None | Some(_) => limits,
        };
        if bytes > limits.frame_bytes_max as u64 {
            return Err(Error::FrameTooLong {
                bytes,
                max: limits.frame_bytes_max,
            });
        }
        let (earlier_bytes, fragment_count) = self.partial().map_or((0, 0), |partial| {
            (partial.content.len(), partial.fragment_count)
        });
        if let Some(max) = limits.fragments_max
            && max <= fragment_count
        {
            return Err(Error::TooManyFragments { max });
        }
        let message_bytes = earlier_bytes as u64 + bytes;
        if message_bytes > limits.message_bytes_max as u64 {
            return Err(Error::MessageTooLong {
                bytes: message_bytes,
                max: limits.message_bytes_max,
            });
        }
        // No truncation: the value is at most `frame_bytes_max`, a `usize`.
        Ok(bytes as usize)
    }

    fn begin_frame(
        &mut self,
        kind: Data,
        header: &Header,
        payload_bytes: usize,
        spare: &mut Spare,
    ) {
        let state = self.state.get_or_insert_with(|| {
            Box::new(State {
                partial: None,
                #[cfg(feature = "deflate")]
                windows: None,
            })
        });
        let partial = state.partial.get_or_insert_with(|| {
            let buffer = if SPARE_BYTES_MIN <= payload_bytes {
                spare.take()
            } else {
                Vec::new()
            };
            Partial {
                content: match kind {
                    #[cfg(feature = "deflate")]
                    Data::Text | Data::Binary if header.is_compressed => Content::Compressed {
                        is_text: kind == Data::Text,
                        payload: buffer,
                    },
                    Data::Text => Content::Text(PartialText::with_buffer(buffer)),
                    Data::Binary | Data::Continue | Data::Reserved(_) => Content::Binary(buffer),
                },
                frame: None,
                fragment_count: 0,
            }
        });
        partial.fragment_count = partial.fragment_count.saturating_add(1);
        partial.frame = Some(PartialFrame {
            rest_bytes: payload_bytes,
            mask: header.mask,
            is_final: header.is_final,
        });
    }

    fn take_message<'b>(
        &mut self,
        limits: &Limits,
        spare: &mut Spare,
    ) -> Result<Option<Event<'b>>, Error> {
        #[cfg(not(feature = "deflate"))]
        let _ = (limits, spare);
        match self.take_partial().map(|partial| partial.content) {
            Some(Content::Text(text)) => Ok(Some(Event::Text(Cow::Owned(text.into_text()?)))),
            Some(Content::Binary(bytes)) => Ok(Some(Event::Binary(Cow::Owned(bytes)))),
            #[cfg(feature = "deflate")]
            Some(Content::Compressed { is_text, payload }) => {
                let event = self.inflate(is_text, &payload, limits, spare)?;
                spare.give(payload);
                Ok(Some(event))
            }
            None => Ok(None),
        }
    }

    // The event of a compressed message whose payload is complete.
    #[cfg(feature = "deflate")]
    fn inflate<'b>(
        &mut self,
        is_text: bool,
        payload: &[u8],
        limits: &Limits,
        spare: &mut Spare,
    ) -> Result<Event<'b>, Error> {
        let bytes_max = self.own_limits(limits).message_bytes_max;
        let mut message = if SPARE_BYTES_MIN <= payload.len() {
            spare.take()
        } else {
            Vec::new()
        };
        match self.windows_mut() {
            Some(windows) => windows.inflate(payload, bytes_max, &mut message)?,
            None => deflate::inflate(payload, bytes_max, &mut message)?,
        }
        Ok(match is_text {
            true => {
                let text = String::from_utf8(message).map_err(|_| Error::InvalidUtf8)?;
                Event::Text(Cow::Owned(text))
            }
            false => Event::Binary(Cow::Owned(message)),
        })
    }
}

/// The fast path: takes a short message off the front of `input`, unmasks it in place, and reads or
/// changes no state of the machine.
///
/// It takes a text or binary message in one final frame without reserved bits, whole in `input`,
/// with the mask that `role` requires and a payload of at most `short_bytes_max` bytes (at most 125,
/// from [`Limits::short_bytes_max`]).
///
/// It answers `None`, and leaves `input` as it is, for everything else: an incomplete frame, fewer
/// than six bytes of input, a control frame, a fragment, a reserved bit or opcode, a longer payload,
/// a missing or forbidden mask. It does not tell these apart. The caller then asks
/// [`Machine::next_event_with`], which does, and which finds the error where there is one.
///
/// The error is [`Error::InvalidUtf8`]. The frame is consumed then, and the caller ends the
/// connection.
///
/// Two callers rely on it: [`Machine::next_event_with`], and the session floor, which calls it with
/// a constant role for each message of a connection that is on the reactor's fast path. Both make
/// sure that the machine is between messages; after a message it still is.
#[inline(always)]
pub(crate) fn next_short_message<'b>(
    role: Role,
    input: &mut &'b mut [u8],
    short_bytes_max: usize,
) -> Option<Result<Message<'b>, Error>> {
    let [first, second, a, b, c, d, ..] = **input else {
        return None;
    };
    let (header_bytes, length) = match role {
        Role::Server => (SHORT_MASKED_HEADER_BYTES, usize::from(second ^ 0x80)),
        Role::Client => (SHORT_HEADER_BYTES, usize::from(second)),
    };
    if length > short_bytes_max || (first != WHOLE_TEXT && first != WHOLE_BINARY) {
        return None;
    }
    let frame = input.split_off_mut(..header_bytes + length)?;
    let payload = &mut frame[header_bytes..];
    if role == Role::Server {
        apply_mask(payload, [a, b, c, d]);
    }
    if first == WHOLE_BINARY {
        return Some(Ok(Message::Binary(payload)));
    }
    match std::str::from_utf8(payload) {
        Ok(text) => Some(Ok(Message::Text(text))),
        Err(_) => Some(Err(Error::InvalidUtf8)),
    }
}

impl PartialFrame {
    // Moves the part of the payload that has arrived from `input` to the buffer of the message.
    fn receive(
        &mut self,
        input: &mut &mut [u8],
        content: &mut Content,
        limits: &Limits,
    ) -> Result<(), Error> {
        let count = self.rest_bytes.min(input.len());
        let Some(payload) = input.split_off_mut(..count) else {
            return Ok(());
        };
        content.reserve(self, count, limits);
        for block in payload.chunks_mut(BLOCK_BYTES) {
            if let Some(mask) = &mut self.mask {
                apply_mask(block, *mask);
                mask.rotate_left(block.len() % 4);
            }
            content.push(block)?;
        }
        self.rest_bytes -= count;
        Ok(())
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Text(text) => text.len(),
            Content::Binary(bytes) => bytes.len(),
            #[cfg(feature = "deflate")]
            Content::Compressed { payload, .. } => payload.len(),
        }
    }

    #[cfg(feature = "deflate")]
    fn is_compressed(&self) -> bool {
        matches!(self, Content::Compressed { .. })
    }

    fn capacity(&self) -> usize {
        match self {
            Content::Text(text) => text.capacity(),
            Content::Binary(bytes) => bytes.capacity(),
            #[cfg(feature = "deflate")]
            Content::Compressed { payload, .. } => payload.capacity(),
        }
    }

    // Reserves room for the next `count` bytes of `frame`. The capacity doubles, so that each byte is
    // copied once or twice however small the pieces are. It does not grow beyond the length that the
    // message can still reach: the end of its last frame, or the limit while more fragments may
    // follow.
    fn reserve(&mut self, frame: &PartialFrame, count: usize, limits: &Limits) {
        let (len, capacity) = (self.len(), self.capacity());
        let needed = len + count;
        if needed <= capacity {
            return;
        }
        let possible = if frame.is_final {
            len + frame.rest_bytes
        } else {
            limits.message_bytes_max
        };
        let wanted = (2 * capacity)
            .max(RESERVE_BYTES_MIN)
            .min(possible)
            .max(needed);
        match self {
            Content::Text(text) => text.reserve_in_all(wanted),
            Content::Binary(bytes) => bytes.reserve_exact(wanted - len),
            #[cfg(feature = "deflate")]
            Content::Compressed { payload, .. } => payload.reserve_exact(wanted - len),
        }
    }

    fn push(&mut self, block: &[u8]) -> Result<(), Error> {
        match self {
            Content::Text(text) => text.push(block),
            Content::Binary(bytes) => {
                bytes.extend_from_slice(block);
                Ok(())
            }
            #[cfg(feature = "deflate")]
            Content::Compressed { payload, .. } => {
                payload.extend_from_slice(block);
                Ok(())
            }
        }
    }
}

// The event of a control frame, or `None` until the whole frame has arrived. It has at most 125
// bytes, so it may wait in the caller's buffer.
fn control_frame<'b>(
    control: Control,
    header: &Header,
    input: &mut &'b mut [u8],
) -> Result<Option<Event<'b>>, Error> {
    let frame_bytes = header.header_bytes + header.payload_bytes as usize;
    let Some(frame) = input.split_off_mut(..frame_bytes) else {
        return Ok(None);
    };
    let payload = &mut frame[header.header_bytes..];
    if let Some(mask) = header.mask {
        apply_mask(payload, mask);
    }
    match control {
        Control::Ping => Ok(Some(Event::Ping(payload))),
        Control::Pong => Ok(Some(Event::Pong(payload))),
        Control::Close => {
            parse_close(payload).map(|(code, reason)| Some(Event::Close(code, reason)))
        }
        Control::Reserved(opcode) => Err(Error::ReservedOpcode { opcode }),
    }
}

#[inline]
fn whole_message(kind: Data, payload: &mut [u8]) -> Result<Event<'_>, Error> {
    match kind {
        Data::Text => match std::str::from_utf8(payload) {
            Ok(text) => Ok(Event::Text(Cow::Borrowed(text))),
            Err(_) => Err(Error::InvalidUtf8),
        },
        Data::Binary | Data::Continue | Data::Reserved(_) => {
            Ok(Event::Binary(Cow::Borrowed(payload)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem;

    use super::super::frame::encode_frame;
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const TEXT: u8 = 1;
    const BINARY: u8 = 2;
    const CONTINUATION: u8 = 0;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;
    const FINAL: u8 = 0x80;

    // A masked frame with any first byte, in the shortest form.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(first, Some(MASK), payload, &mut out);
        out
    }

    fn wire(frames: &[(u8, &[u8])]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|(first, payload)| frame(*first, payload))
            .collect()
    }

    // The same frames, without a mask, as a server sends them.
    fn unmasked(frames: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (first, payload) in frames {
            encode_frame(*first, None, payload, &mut out);
        }
        out
    }

    fn text(text: &str) -> Event<'_> {
        Event::Text(Cow::Borrowed(text))
    }

    fn binary(bytes: &[u8]) -> Event<'_> {
        Event::Binary(Cow::Borrowed(bytes))
    }

    fn into_owned(event: Event<'_>) -> Event<'static> {
        match event {
            Event::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
            Event::Binary(bytes) => Event::Binary(Cow::Owned(bytes.into_owned())),
            Event::Ping(payload) => Event::Ping(payload.to_vec().leak()),
            Event::Pong(payload) => Event::Pong(payload.to_vec().leak()),
            Event::Close(code, reason) => Event::Close(code, reason.to_owned().leak()),
        }
    }

    // The reading side of a connection: bytes that the machine leaves are passed again, in front of
    // the next piece.
    struct Reader {
        machine: Machine,
        limits: Limits,
        kept: Vec<u8>,
        events: Vec<Event<'static>>,
        error: Option<Error>,
    }

    impl Reader {
        fn new(role: Role, limits: Limits) -> Reader {
            let machine = Machine::new(role);
            Reader {
                machine,
                limits,
                kept: Vec::new(),
                events: Vec::new(),
                error: None,
            }
        }

        fn read(&mut self, bytes: &[u8]) {
            let mut presented = mem::take(&mut self.kept);
            presented.extend_from_slice(bytes);
            let untouched = presented.clone();
            let mut input = presented.as_mut_slice();
            loop {
                match self.machine.next_event(&mut input, &self.limits) {
                    Ok(Some(event)) => self.events.push(into_owned(event)),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(self.error, None, "an error comes once");
                        self.error = Some(error);
                    }
                }
            }
            assert!(input.len() < 140, "{} bytes left", input.len());
            assert!(
                untouched.ends_with(input),
                "bytes that are passed again are unchanged"
            );
            self.kept = input.to_vec();
        }
    }

    fn read_in_pieces(role: Role, limits: Limits, wire: &[u8], cut: usize) -> Reader {
        let mut reader = Reader::new(role, limits);
        wire.chunks(cut).for_each(|piece| reader.read(piece));
        reader
    }

    fn read_whole(wire: &[u8]) -> Reader {
        read_in_pieces(Role::Server, Limits::default(), wire, wire.len())
    }

    #[test]
    fn frames_become_events_or_errors() {
        let close_normal = Event::Close(Some(CloseCode::Normal), "bye");
        type Case<'c> = (&'c str, Vec<u8>, Vec<Event<'c>>, Option<Error>);
        let long = "x".repeat(70_000);
        let cases: Vec<Case<'_>> = vec![
            ("nothing", vec![], vec![], None),
            (
                "text",
                frame(FINAL | TEXT, b"Hello"),
                vec![text("Hello")],
                None,
            ),
            ("empty text", frame(FINAL | TEXT, b""), vec![text("")], None),
            (
                "125 bytes",
                frame(FINAL | TEXT, &long.as_bytes()[..125]),
                vec![text(&long[..125])],
                None,
            ),
            (
                "126 bytes",
                frame(FINAL | TEXT, &long.as_bytes()[..126]),
                vec![text(&long[..126])],
                None,
            ),
            (
                "70000 bytes",
                frame(FINAL | TEXT, long.as_bytes()),
                vec![text(&long)],
                None,
            ),
            (
                "binary",
                frame(FINAL | BINARY, b"\xff\0"),
                vec![binary(b"\xff\0")],
                None,
            ),
            (
                "ping",
                frame(FINAL | PING, b"hi"),
                vec![Event::Ping(b"hi")],
                None,
            ),
            (
                "pong unasked",
                frame(FINAL | PONG, b""),
                vec![Event::Pong(b"")],
                None,
            ),
            (
                "two in one read",
                wire(&[(FINAL | TEXT, b"a"), (FINAL | BINARY, b"b")]),
                vec![text("a"), binary(b"b")],
                None,
            ),
            (
                "fragments",
                wire(&[(TEXT, b"Hel"), (CONTINUATION, b""), (FINAL, b"lo")]),
                vec![text("Hello")],
                None,
            ),
            (
                "empty fragments",
                wire(&[(TEXT, b""), (0, b""), (FINAL, b"")]),
                vec![text("")],
                None,
            ),
            (
                "control frames between fragments",
                wire(&[
                    (BINARY, b"a"),
                    (FINAL | PING, b"p"),
                    (0, b"b"),
                    (FINAL | PONG, b""),
                    (FINAL, b"c"),
                ]),
                vec![Event::Ping(b"p"), Event::Pong(b""), binary(b"abc")],
                None,
            ),
            (
                "code point across fragments",
                wire(&[(TEXT, b"\xe2"), (0, b"\x82"), (FINAL, b"\xac")]),
                vec![text("€")],
                None,
            ),
            (
                "close",
                frame(FINAL | CLOSE, b"\x03\xe8bye"),
                vec![close_normal.clone()],
                None,
            ),
            (
                "close without a code",
                frame(FINAL | CLOSE, b""),
                vec![Event::Close(None, "")],
                None,
            ),
            (
                "nothing after a close",
                wire(&[
                    (FINAL | CLOSE, b"\x03\xe8bye"),
                    (FINAL | TEXT, b"a"),
                    (0x7f, b""),
                ]),
                vec![close_normal.clone()],
                None,
            ),
            (
                "close between fragments",
                wire(&[(TEXT, b"a"), (FINAL | CLOSE, b"\x03\xe8bye"), (FINAL, b"b")]),
                vec![close_normal],
                None,
            ),
            (
                "nothing after an error",
                wire(&[(FINAL | TEXT, b"a"), (0xc1, b"b"), (FINAL | TEXT, b"c")]),
                vec![text("a")],
                Some(Error::ReservedBits),
            ),
            (
                "continuation of nothing",
                frame(FINAL, b"a"),
                vec![],
                Some(Error::UnexpectedContinuation),
            ),
            (
                "continuation after the last",
                wire(&[(TEXT, b"a"), (FINAL, b"b"), (0, b"c")]),
                vec![text("ab")],
                Some(Error::UnexpectedContinuation),
            ),
            (
                "text within fragments",
                wire(&[(TEXT, b"a"), (FINAL | TEXT, b"b")]),
                vec![],
                Some(Error::InterleavedMessage),
            ),
            (
                "long binary within fragments",
                wire(&[(BINARY, b"a"), (BINARY, long.as_bytes())]),
                vec![],
                Some(Error::InterleavedMessage),
            ),
            (
                "fragmented ping",
                frame(PING, b""),
                vec![],
                Some(Error::FragmentedControl),
            ),
            (
                "long ping",
                frame(FINAL | PING, &[0; 126]),
                vec![],
                Some(Error::ControlTooLong),
            ),
            (
                "reserved opcode",
                frame(FINAL | 3, b""),
                vec![],
                Some(Error::ReservedOpcode { opcode: 3 }),
            ),
            (
                "unmasked",
                b"\x81\x01a".to_vec(),
                vec![],
                Some(Error::Unmasked),
            ),
            (
                "text not UTF-8",
                frame(FINAL | TEXT, b"a\xffb"),
                vec![],
                Some(Error::InvalidUtf8),
            ),
            (
                "long text not UTF-8",
                frame(FINAL | TEXT, &[0xc3; 200]),
                vec![],
                Some(Error::InvalidUtf8),
            ),
            (
                "text ends within a code point",
                wire(&[(TEXT, b"a"), (FINAL, b"\xe2\x82")]),
                vec![],
                Some(Error::InvalidUtf8),
            ),
            (
                "close of one byte",
                frame(FINAL | CLOSE, b"\x03"),
                vec![],
                Some(Error::ClosePayloadOfOneByte),
            ),
            (
                "close with 1005",
                frame(FINAL | CLOSE, b"\x03\xed"),
                vec![],
                Some(Error::BadCloseCode { code: 1005 }),
            ),
            (
                "close reason not UTF-8",
                frame(FINAL | CLOSE, b"\x03\xe8\xff"),
                vec![],
                Some(Error::InvalidUtf8),
            ),
        ];
        for (name, wire, events, error) in cases {
            // All bytes at once, and byte by byte.
            for cut in [wire.len().max(1), 1] {
                let reader = read_in_pieces(Role::Server, Limits::default(), &wire, cut);
                assert_eq!(reader.events, events, "{name}, pieces of {cut} bytes");
                assert_eq!(reader.error, error, "{name}, pieces of {cut} bytes");
                assert_eq!(reader.machine.buffered_bytes(), 0, "{name}");
            }
        }
    }

    #[test]
    fn a_client_takes_unmasked_frames_only() {
        let frames: &[(u8, &[u8])] = &[(FINAL | TEXT, b"Hello"), (TEXT, b"a"), (FINAL, b"b")];
        for cut in 1..20 {
            let reader = read_in_pieces(Role::Client, Limits::default(), &unmasked(frames), cut);
            assert_eq!(reader.events, [text("Hello"), text("ab")]);
            let reader = read_in_pieces(Role::Client, Limits::default(), &wire(frames), cut);
            assert_eq!(
                (reader.events.len(), reader.error),
                (0, Some(Error::Masked))
            );
        }
    }

    #[test]
    fn same_events_however_the_bytes_are_cut() {
        let long = "κόσμε € 😀 ".repeat(20);
        let (first, second) = long.as_bytes().split_at(101);
        let frames: &[(u8, &[u8])] = &[
            (FINAL | TEXT, "😀".as_bytes()),
            (FINAL | TEXT, b""),
            (FINAL | BINARY, "😀".as_bytes()),
            (TEXT, first),
            (FINAL | PING, b"between"),
            (CONTINUATION, b""),
            (FINAL, second),
            (BINARY, first),
            (FINAL | PONG, &[7; 125]),
            (FINAL, second),
            (FINAL | TEXT, long.as_bytes()),
            (FINAL | BINARY, long.as_bytes()),
            (FINAL | CLOSE, b"\x0f\xa0over"),
            (FINAL | TEXT, b"late"),
        ];
        let expected = [
            text("😀"),
            text(""),
            binary("😀".as_bytes()),
            Event::Ping(b"between"),
            text(&long),
            Event::Pong(&[7; 125]),
            binary(long.as_bytes()),
            text(&long),
            binary(long.as_bytes()),
            Event::Close(Some(CloseCode::Library(4000)), "over"),
        ];
        for (role, wire) in [
            (Role::Server, wire(frames)),
            (Role::Client, unmasked(frames)),
        ] {
            for cut in 1..=wire.len() {
                let reader = read_in_pieces(role, Limits::default(), &wire, cut);
                assert_eq!(reader.events, expected, "{role:?}, pieces of {cut} bytes");
            }
            // Also cut once, at every place, so that both parts are long.
            for place in 0..wire.len() {
                let mut reader = Reader::new(role, Limits::default());
                reader.read(&wire[..place]);
                reader.read(&wire[place..]);
                assert_eq!(reader.events, expected, "{role:?}, cut at {place}");
            }
        }
    }

    #[test]
    fn whole_frames_are_borrowed_and_pieces_owned() {
        for length in [0, 5, 125, 126, 70_000] {
            let mut wire = Vec::new();
            encode_message(Some(MASK), Message::Binary(&vec![1; length]), &mut wire);
            let mut machine = Machine::new(Role::Server);
            let mut input = wire.as_mut_slice();
            let event = machine.next_event(&mut input, &Limits::default());
            assert!(
                matches!(event, Ok(Some(Event::Binary(Cow::Borrowed(_))))),
                "{length}"
            );
            assert!(input.is_empty());
        }
        let reader = read_whole(&wire(&[(TEXT, b"a")]));
        assert!(reader.machine.is_within_message());
        assert!(reader.machine.buffered_bytes() > 0);
    }

    // Each text is refused with the byte of this index, in one frame that announces more bytes, and
    // with each byte in a fragment of its own.
    #[test]
    fn invalid_text_is_refused_when_its_first_wrong_byte_arrives() {
        let cases: &[(&str, &[u8], usize)] = &[
            // Autobahn 6.4.1 to 6.4.4: the second of four bytes shows a code point above U+10FFFF.
            (
                "above U+10FFFF",
                b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
                12,
            ),
            ("stray continuation", b"abc\x80def", 3),
            ("overlong", b"abc\xc0\xafdef", 3),
            ("surrogate", b"abc\xed\xa0\x80def", 4),
            ("overlong four", b"\xf0\x80\x80\x80", 1),
            ("latin-1", b"caf\xe9 au lait", 4),
            ("ff", b"\xff", 0),
        ];
        for (name, payload, wrong) in cases {
            let wire = frame(FINAL | TEXT, &[payload, b" and more".as_slice()].concat());
            let header = wire.len() - payload.len() - " and more".len();
            let mut reader = Reader::new(Role::Server, Limits::default());
            reader.read(&wire[..header + wrong]);
            assert_eq!(reader.error, None, "{name}: too early");
            reader.read(&wire[header + wrong..=header + wrong]);
            assert_eq!(reader.error, Some(Error::InvalidUtf8), "{name}: too late");

            let mut reader = Reader::new(Role::Server, Limits::default());
            for (index, byte) in payload[..=*wrong].iter().enumerate() {
                assert_eq!(reader.error, None, "{name}: fragment {index}");
                reader.read(&frame(
                    if index == 0 { TEXT } else { CONTINUATION },
                    &[*byte],
                ));
            }
            assert_eq!(
                reader.error,
                Some(Error::InvalidUtf8),
                "{name}: in fragments"
            );
        }
    }

    #[test]
    fn limits_hold_from_the_header_on() {
        let limits = Limits {
            frame_bytes_max: 300,
            message_bytes_max: 400,
            fragments_max: None,
        };
        let read = |wire: &[u8]| read_in_pieces(Role::Server, limits, wire, wire.len());

        assert_eq!(read(&frame(FINAL | TEXT, &[b'a'; 300])).events.len(), 1);
        let reader = read(&frame(FINAL | TEXT, &[b'a'; 301])[..8]);
        assert_eq!(
            reader.error,
            Some(Error::FrameTooLong {
                bytes: 301,
                max: 300
            })
        );

        let fragments = wire(&[(TEXT, &[b'a'; 300]), (FINAL, &[b'a'; 100])]);
        assert_eq!(read(&fragments).events.len(), 1);
        let fragments = wire(&[(TEXT, &[b'a'; 300]), (0, &[b'a'; 101])]);
        let reader = read(&fragments[..fragments.len() - 101]);
        assert_eq!(
            reader.error,
            Some(Error::MessageTooLong {
                bytes: 401,
                max: 400
            })
        );

        let enormous = b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
        let error = read_whole(enormous).error;
        assert_eq!(
            error,
            Some(Error::FrameTooLong {
                bytes: u64::MAX >> 1,
                max: 1024 * 1024
            })
        );
        assert_eq!(error.map(|error| error.close_code()), Some(1009));

        // The limits hold for short frames too, and not for control frames.
        let limits = Limits {
            frame_bytes_max: 3,
            message_bytes_max: 2,
            fragments_max: None,
        };
        let read = |wire: &[u8]| read_in_pieces(Role::Server, limits, wire, wire.len());
        assert_eq!(read(&frame(FINAL | TEXT, b"ab")).events, [text("ab")]);
        assert_eq!(
            read(&frame(FINAL | PING, b"abcd")).events,
            [Event::Ping(b"abcd")]
        );
        let error = read(&frame(FINAL | TEXT, b"abc")).error;
        assert_eq!(error, Some(Error::MessageTooLong { bytes: 3, max: 2 }));
        let error = read(&frame(FINAL | TEXT, b"abcd")).error;
        assert_eq!(error, Some(Error::FrameTooLong { bytes: 4, max: 3 }));
    }

    #[test]
    fn fragments_are_counted_for_each_message() {
        let limits = Limits {
            fragments_max: Some(3),
            ..Limits::default()
        };
        let read = |wire: &[u8]| read_in_pieces(Role::Server, limits, wire, 1);
        let three = wire(&[(TEXT, b"a"), (0, b""), (FINAL | PING, b"p"), (FINAL, b"b")]);
        let twice = [three.clone(), three].concat();
        let ping = || Event::Ping(b"p");
        assert_eq!(
            read(&twice).events,
            [ping(), text("ab"), ping(), text("ab")]
        );
        // The fourth is refused at its header, also when it is the last one and empty.
        let four = wire(&[(BINARY, b""), (0, b""), (0, b""), (FINAL, b"")]);
        let error = read(&four).error;
        assert_eq!(error, Some(Error::TooManyFragments { max: 3 }));
        assert_eq!(error.map(|error| error.close_code()), Some(1008));
        // A message that is not fragmented is one frame.
        let limits = Limits {
            fragments_max: Some(1),
            ..Limits::default()
        };
        let read = |wire: &[u8]| read_in_pieces(Role::Server, limits, wire, 1);
        assert_eq!(read(&frame(FINAL | TEXT, &[b'a'; 300])).error, None);
        let two = wire(&[(TEXT, b"a"), (FINAL, b"b")]);
        assert_eq!(read(&two).error, Some(Error::TooManyFragments { max: 1 }));
    }

    #[test]
    fn limits_of_usize_max_do_not_overflow() {
        let limits = Limits {
            frame_bytes_max: usize::MAX,
            message_bytes_max: usize::MAX,
            fragments_max: None,
        };
        for first in [FINAL | TEXT, BINARY] {
            let wire = [&[first, 0xff, 0x7f], [0xff; 7].as_slice(), &MASK, b"some"].concat();
            let reader = read_in_pieces(Role::Server, limits, &wire, 1);
            assert!(reader.machine.is_within_message() || reader.error.is_some());
            assert!(reader.machine.buffered_bytes() < 1024);
        }
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_announced() {
        let wire = frame(FINAL | BINARY, &vec![1; 1024 * 1024]);
        let mut reader = Reader::new(Role::Server, Limits::default());
        reader.read(&wire[..14]);
        assert_eq!(reader.machine.buffered_bytes(), 0);
        reader.read(&wire[14..15]);
        assert!(reader.machine.buffered_bytes() <= 256);
        let mut arrived = 15;
        for piece in wire[15..wire.len() - 1].chunks(1000) {
            reader.read(piece);
            arrived += piece.len();
            let buffered = reader.machine.buffered_bytes();
            assert!(
                buffered <= (2 * arrived).min(1024 * 1024),
                "{buffered} for {arrived}"
            );
        }
        reader.read(&wire[wire.len() - 1..]);
        assert_eq!(reader.events.len(), 1);
        assert_eq!(reader.machine.buffered_bytes(), 0);
    }

    #[test]
    fn a_message_in_small_pieces_is_moved_a_few_times_only() {
        let one_frame = frame(FINAL | TEXT, &[b'a'; 200_000]);
        let mut fragments = frame(TEXT, b"a");
        (0..200_000).for_each(|_| fragments.extend_from_slice(&frame(CONTINUATION, b"a")));
        for (name, wire) in [("one frame", one_frame), ("fragments", fragments)] {
            let mut reader = Reader::new(Role::Server, Limits::default());
            let (mut capacity, mut moves_count) = (0, 0);
            for piece in wire.chunks(7).take_while(|piece| piece.len() == 7) {
                reader.read(piece);
                let now = reader.machine.buffered_bytes();
                if now > capacity {
                    moves_count += 1;
                    capacity = now;
                }
            }
            assert!(moves_count <= 12, "{name}: moved {moves_count} times");
        }
    }

    #[test]
    fn an_idle_machine_is_small() {
        assert!(size_of::<Machine>() <= 16, "{}", size_of::<Machine>());
        assert!(size_of::<Event<'_>>() <= 32, "{}", size_of::<Event<'_>>());
    }

    #[test]
    fn the_peer_reads_the_frames_as_they_were_encoded() {
        let normal = Some(CloseCode::Normal);
        let closes = [
            (1000, normal),
            (4321, Some(CloseCode::Library(4321))),
            (1005, normal),
            (1006, normal),
            (0, normal),
        ];
        let roles = [(Role::Server, Role::Client), (Role::Client, Role::Server)];
        for (role, peer) in roles {
            let mut machine = Machine::new(role);
            let mut wire = Vec::new();
            machine.encode(Message::Text("Hello"), &mut wire);
            machine.encode(Message::Binary(&[1; 300]), &mut wire);
            let reader = read_in_pieces(peer, Limits::default(), &wire, 100);
            assert_eq!(reader.events, [text("Hello"), binary(&[1; 300])]);

            for (code, expected) in closes {
                let mut wire = Vec::new();
                let sent = machine.encode_close(code, "why", &mut wire);
                assert_eq!(Some(sent.into()), expected);
                let reader = read_in_pieces(peer, Limits::default(), &wire, 100);
                assert_eq!(reader.events, [Event::Close(expected, "why")]);
            }
            for code in [Some(CloseCode::Normal), Some(CloseCode::Size), None] {
                let mut reply = Vec::new();
                let code_number = code.map(u16::from);
                let closing = machine.encode_close_reply(code_number, false, &mut reply);
                let reader = read_in_pieces(peer, Limits::default(), &reply, 100);
                assert_eq!(reader.events, [Event::Close(code, "")]);
                let mut none = Vec::new();
                let same = machine.encode_close_reply(code_number, true, &mut none);
                assert_eq!((same, none), (closing, Vec::new()));
            }
            for ping in [b"".as_slice(), b"payload", &[7; 125]] {
                let mut pong = Vec::new();
                machine.encode_pong(ping, &mut pong);
                let reader = read_in_pieces(peer, Limits::default(), &pong, 100);
                assert_eq!(reader.events, [Event::Pong(ping)]);
            }
        }
    }

    #[test]
    fn is_ended_after_a_close() {
        let reader = read_whole(&frame(FINAL | CLOSE, b""));
        assert!(reader.machine.is_ended());
        assert!(!read_whole(&frame(FINAL | TEXT, b"")).machine.is_ended());
    }
}
