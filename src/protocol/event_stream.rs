//! Server-Sent Events, in both directions.
//!
//! Pure: the `encode…` functions append to the caller's buffer, the [`Decoder`] takes bytes in
//! pieces of any size and returns whole events. No socket, no clock: the reconnection time that a
//! server asks for is reported, and the caller waits. HTTP's chunks are removed before the bytes
//! come here.
//!
//! A line break in a field would end it and could begin another one. So an event name or an id with
//! CR, LF or NUL is refused, and data is written as one `data` field for each line.
//!
//! Source: WHATWG HTML, section 9.2.

use std::fmt;
use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

/// Why a field cannot be encoded: it could end its line and begin another field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// The event name has CR, LF or NUL.
    Event,
    /// The id has CR, LF or NUL.
    Id,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldError::Event => "the event name has a line break or a NUL",
            FieldError::Id => "the event id has a line break or a NUL",
        })
    }
}

impl std::error::Error for FieldError {}

/// Whether `text` can be an event name or an id: it has no CR, LF or NUL.
pub fn is_field_value(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Appends one event.
///
/// Data is split at CR, LF and CRLF into one field for each line, so the reader sees LF for all
/// three. An event with empty data is written too. Without a name the reader takes the event for a
/// `message`; an empty id makes the reader forget the last one.
///
/// # Errors
///
/// [`FieldError`] when the name or the id has CR, LF or NUL. The output is unchanged then.
///
/// Source: WHATWG HTML, section 9.2.5.
pub fn encode(
    event: Option<&str>,
    id: Option<&str>,
    data: &str,
    out: &mut Vec<u8>,
) -> Result<(), FieldError> {
    if !event.is_none_or(is_field_value) {
        return Err(FieldError::Event);
    }
    if !id.is_none_or(is_field_value) {
        return Err(FieldError::Id);
    }

    if let Some(id) = id {
        encode_line(b"id: ", id.as_bytes(), out);
    }
    if let Some(event) = event {
        encode_line(b"event: ", event.as_bytes(), out);
    }
    encode_lines(b"data: ", data, out);
    out.push(b'\n');
    Ok(())
}

/// Appends a comment, which readers skip: for the first bytes of a stream, or as a heartbeat.
///
/// Each line of `text` becomes a line of the comment.
pub fn encode_comment(text: &str, out: &mut Vec<u8>) {
    encode_lines(b":", text, out);
    out.push(b'\n');
}

/// Appends an id without an event: the reader takes it as the last id that it has got, and dispatches nothing. The
/// id must have no CR, LF or NUL.
pub fn encode_id(id: &str, out: &mut Vec<u8>) {
    // Writing to a `Vec` does not fail.
    let _ = write!(out, "id: {id}\n\n");
}

/// Appends the time that the reader shall wait before it connects again, in whole milliseconds.
pub fn encode_retry(delay: Duration, out: &mut Vec<u8>) {
    // Writing to a `Vec` does not fail.
    let _ = write!(out, "retry: {}\n\n", delay.as_millis());
}

fn encode_lines(field: &[u8], text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(end) = rest.iter().position(|byte| is_line_end(*byte)) {
        encode_line(field, &rest[..end], out);
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    encode_line(field, rest, out);
}

fn encode_line(field: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// How much a [`Decoder`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line, in bytes, without its line end.
    pub line_bytes_max: usize,
    /// Longest data of one event, in bytes, all its lines together.
    pub event_bytes_max: usize,
    /// Longest id, in bytes. The standard has no such limit. An id is sent back in a header, where servers take
    /// some KiB, and it stays in memory between events.
    pub id_bytes_max: usize,
}

impl Default for Limits {
    /// 1 MiB for a line and for the data of an event, 4 KiB for an id.
    fn default() -> Self {
        Limits {
            line_bytes_max: 1024 * 1024,
            event_bytes_max: 1024 * 1024,
            id_bytes_max: 4 * 1024,
        }
    }
}

/// Why a stream is not read any further. There is no other error: unknown fields are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A line is above [`Limits::line_bytes_max`].
    LineTooLong,
    /// The data of an event is above [`Limits::event_bytes_max`].
    EventTooLong,
    /// An id is above [`Limits::id_bytes_max`]. It is not left out instead: the next connection would go on behind an
    /// older event.
    IdTooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::LineTooLong => "a line of the event stream is too long",
            Error::EventTooLong => "the data of an event is too long",
            Error::IdTooLong => "the id of an event is too long",
        })
    }
}

impl std::error::Error for Error {}

/// An event as it was dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name: `message` when the server gave none.
    pub name: String,
    /// Its lines of data, joined with LF.
    pub data: String,
    /// The last id of the stream, which may be that of an earlier event. Empty for none. Shared by all events that
    /// have it, so that many small events behind a long id stay small.
    pub id: Arc<str>,
}

/// The reader's side: lines into fields, fields into events.
///
/// It has one state: between lines. An incomplete line is kept in `line`, the fields of an
/// incomplete event in `data`, `name` and `id`; an empty line dispatches the event. CR ends a line
/// at once, and an LF that follows it belongs to the same line end, also in a later piece. An event
/// that the end of the stream cuts off is never dispatched, and its id does not count.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    data: String,
    name: String,
    id: Arc<str>,
    last_event_id: Arc<str>,
    retry: Option<Duration>,
    after_cr: bool,
    is_past_first_line: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// A decoder at the start of a stream that goes on behind the event with this id; see
    /// [`last_event_id`](Self::last_event_id).
    pub fn behind(last_event_id: &str) -> Decoder {
        let id: Arc<str> = last_event_id.into();
        Decoder {
            id: Arc::clone(&id),
            last_event_id: id,
            ..Decoder::default()
        }
    }

    /// The next event, or `None` when more bytes are needed.
    ///
    /// Consumes the bytes of the event, and all of `input` on `None`: the incomplete part is kept
    /// here, within the limits. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error`] above a limit. The stream is then lost.
    pub fn next_event(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Event>, Error> {
        loop {
            if self.after_cr && !input.is_empty() {
                self.after_cr = false;
                *input = input.strip_prefix(b"\n").unwrap_or(input);
            }
            let end = input.iter().position(|byte| is_line_end(*byte));
            let part = &input[..end.unwrap_or(input.len())];
            if self.line.len() + part.len() > limits.line_bytes_max {
                return Err(Error::LineTooLong);
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                *input = &[];
                return Ok(None);
            };
            self.after_cr = input[end] == b'\r';
            *input = &input[end + 1..];

            let event = if self.line.is_empty() {
                self.take_line(part, limits)?
            } else {
                let mut line = mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_line(&line, limits)?
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Forgets an incomplete line and event, for a new connection to the same stream. The last event
    /// id and the reconnection time stay.
    pub fn restart(&mut self) {
        let id = Arc::clone(&self.last_event_id);
        *self = Decoder {
            id: Arc::clone(&id),
            last_event_id: id,
            retry: self.retry,
            ..Decoder::default()
        };
    }

    /// The value of `Last-Event-ID` for the next connection. Where it is empty, send no such header.
    pub fn last_event_id(&self) -> &Arc<str> {
        &self.last_event_id
    }

    /// The time to wait before connecting again, if the server gave one.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn take_line(&mut self, line: &[u8], limits: &Limits) -> Result<Option<Event>, Error> {
        let line = if mem::replace(&mut self.is_past_first_line, true) {
            line
        } else {
            line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
        };
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        // A character never spans a line end, which is ASCII, so decoding each line gives the same
        // text as decoding the whole stream.
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        self.take_field(field, value.strip_prefix(' ').unwrap_or(value), limits)?;
        Ok(None)
    }

    fn take_field(&mut self, field: &str, value: &str, limits: &Limits) -> Result<(), Error> {
        match field {
            "data" => {
                // Each line keeps its LF here; `dispatch` removes the last one.
                if self.data.len() + value.len() > limits.event_bytes_max {
                    return Err(Error::EventTooLong);
                }
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => value.clone_into(&mut self.name),
            "id" if limits.id_bytes_max < value.len() => return Err(Error::IdTooLong),
            "id" if *value == *self.id => {}
            "id" if !value.contains('\0') => self.id = value.into(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number that does not fit is ignored.
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // A comment has an empty field name. Unknown fields are skipped.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id = Arc::clone(&self.id);
        let mut name = mem::take(&mut self.name);
        let mut data = mem::take(&mut self.data);
        // Without a `data` field there is no event, but its id counts.
        data.pop()?;
        if name.is_empty() {
            name.push_str("message");
        }
        Some(Event {
            name,
            data,
            id: Arc::clone(&self.id),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    const SMALL: Limits = Limits {
        line_bytes_max: 16,
        event_bytes_max: 20,
        id_bytes_max: 8,
    };

    fn event(name: &str, data: &str, id: &str) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.into(),
        }
    }

    fn decode_in_pieces_of(
        cut: usize,
        wire: &[u8],
        limits: &Limits,
    ) -> (Vec<Event>, Option<Error>, Decoder) {
        let mut decoder = Decoder::new();
        let mut events = Vec::new();
        for mut piece in wire.chunks(cut) {
            loop {
                match decoder.next_event(&mut piece, limits) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Some(error), decoder),
                }
            }
            assert!(piece.is_empty(), "all is consumed on None");
        }
        (events, None, decoder)
    }

    fn decode(wire: &[u8]) -> Vec<Event> {
        let (events, error, _) = decode_in_pieces_of(wire.len().max(1), wire, &Limits::default());
        assert_eq!(error, None);
        events
    }

    type Case<'a> = (
        &'a str,
        (Option<&'a str>, Option<&'a str>, &'a str),
        &'a str,
        Event,
    );

    #[test]
    fn events_encode_and_decode() {
        let cases: &[Case<'_>] = &[
            (
                "data alone",
                (None, None, "hi"),
                "data: hi\n\n",
                event("message", "hi", ""),
            ),
            (
                "all fields",
                (Some("x"), Some("1:2"), "hi"),
                "id: 1:2\nevent: x\ndata: hi\n\n",
                event("x", "hi", "1:2"),
            ),
            (
                "empty data",
                (None, None, ""),
                "data: \n\n",
                event("message", "", ""),
            ),
            (
                "leading space",
                (None, None, " a"),
                "data:  a\n\n",
                event("message", " a", ""),
            ),
            (
                "colons",
                (None, None, "id: 7"),
                "data: id: 7\n\n",
                event("message", "id: 7", ""),
            ),
            (
                "LF",
                (None, None, "a\nb"),
                "data: a\ndata: b\n\n",
                event("message", "a\nb", ""),
            ),
            (
                "CR",
                (None, None, "a\rb"),
                "data: a\ndata: b\n\n",
                event("message", "a\nb", ""),
            ),
            (
                "CRLF",
                (None, None, "a\r\nb"),
                "data: a\ndata: b\n\n",
                event("message", "a\nb", ""),
            ),
            (
                "LF CR",
                (None, None, "a\n\rb"),
                "data: a\ndata: \ndata: b\n\n",
                event("message", "a\n\nb", ""),
            ),
            (
                "trailing LF",
                (None, None, "a\n"),
                "data: a\ndata: \n\n",
                event("message", "a\n", ""),
            ),
            (
                "only a CRLF",
                (None, None, "\r\n"),
                "data: \ndata: \n\n",
                event("message", "\n", ""),
            ),
            (
                "an injected event",
                (None, None, "a\n\nevent: x\ndata: y"),
                "data: a\ndata: \ndata: event: x\ndata: data: y\n\n",
                event("message", "a\n\nevent: x\ndata: y", ""),
            ),
            (
                "not ASCII",
                (Some("ünï"), Some("é"), "日本\u{2028}語"),
                "id: é\nevent: ünï\ndata: 日本\u{2028}語\n\n",
                event("ünï", "日本\u{2028}語", "é"),
            ),
        ];
        for (name, (event, id, data), wire, expected) in cases {
            let mut out = b"before".to_vec();
            assert_eq!(encode(*event, *id, data, &mut out), Ok(()), "{name}");
            assert_eq!(
                String::from_utf8_lossy(&out),
                format!("before{wire}"),
                "{name}"
            );
            assert_eq!(decode(wire.as_bytes()), slice::from_ref(expected), "{name}");
        }
    }

    #[test]
    fn line_breaks_and_nul_in_name_or_id_are_refused_and_write_nothing() {
        for bad in ["x\ny", "x\ry", "x\r\ny", "\n", "x\0"] {
            let mut out = b"before".to_vec();
            assert_eq!(
                encode(Some(bad), Some("1"), "d", &mut out),
                Err(FieldError::Event),
                "{bad:?}"
            );
            assert_eq!(
                encode(Some("x"), Some(bad), "d", &mut out),
                Err(FieldError::Id),
                "{bad:?}"
            );
            assert_eq!(out, b"before", "{bad:?}");
        }
    }

    #[test]
    fn comments_and_retry_dispatch_nothing() {
        let mut out = Vec::new();
        encode_comment("", &mut out);
        encode_comment("ok", &mut out);
        encode_comment("two\nlines\r\ndata: x", &mut out);
        encode_retry(Duration::from_millis(2500), &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            ":\n\n:ok\n\n:two\n:lines\n:data: x\n\nretry: 2500\n\n"
        );
        let (events, error, decoder) = decode_in_pieces_of(out.len(), &out, &Limits::default());
        assert_eq!((events, error), (vec![], None));
        assert_eq!(decoder.retry(), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn streams_of_other_servers() {
        let cases: &[(&str, &[u8], &[(&str, &str, &str)])] = &[
            ("nothing", b"", &[]),
            ("incomplete line", b"data: a", &[]),
            ("incomplete event", b"data: a\n", &[]),
            ("no space", b"data:a\n\n", &[("message", "a", "")]),
            ("CR", b"data: a\rdata: b\r\r", &[("message", "a\nb", "")]),
            (
                "CRLF",
                b"data: a\r\ndata: b\r\n\r\n",
                &[("message", "a\nb", "")],
            ),
            (
                "mixed ends",
                b"data: a\r\rdata: b\n\r\n",
                &[("message", "a", ""), ("message", "b", "")],
            ),
            (
                "byte order mark",
                b"\xef\xbb\xbfdata: a\n\n",
                &[("message", "a", "")],
            ),
            (
                "byte order mark, then an empty line",
                b"\xef\xbb\xbf\ndata: a\n\n",
                &[("message", "a", "")],
            ),
            ("two marks", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", &[]),
            ("mark later", b"\n\xef\xbb\xbfdata: a\n\n", &[]),
            (
                "field without colon",
                b"data\n\ndata\ndata\n\ndata:",
                &[("message", "", ""), ("message", "\n", "")],
            ),
            (
                "one space only",
                b"data:a\n\ndata:  b\n\n",
                &[("message", "a", ""), ("message", " b", "")],
            ),
            (
                "no data, no event",
                b"event: x\n\ndata: a\n\n",
                &[("message", "a", "")],
            ),
            (
                "last name counts",
                b"event: x\nevent: y\ndata: a\n\n",
                &[("y", "a", "")],
            ),
            (
                "name is for one event",
                b"event: x\ndata: a\n\ndata: b\n\n",
                &[("x", "a", ""), ("message", "b", "")],
            ),
            (
                "id stays",
                b"id: 1\ndata: a\n\ndata: b\n\n",
                &[("message", "a", "1"), ("message", "b", "1")],
            ),
            (
                "id without data",
                b"id: 1\n\ndata: b\n\n",
                &[("message", "b", "1")],
            ),
            (
                "empty id resets",
                b"id: 1\ndata: a\n\nid\ndata: b\n\n",
                &[("message", "a", "1"), ("message", "b", "")],
            ),
            (
                "id with NUL is ignored",
                b"id: 1\nid: 2\0\ndata: a\n\n",
                &[("message", "a", "1")],
            ),
            (
                "comments",
                b": data: x\n:\ndata: a\n:y\n\n",
                &[("message", "a", "")],
            ),
            (
                "unknown and misspelt fields",
                b"Data: x\n data: x\ndata : x\nfoo: x\ndata: a\n\n",
                &[("message", "a", "")],
            ),
            (
                "tab is no space",
                b"data:\ta\n\n",
                &[("message", "\ta", "")],
            ),
            (
                "invalid UTF-8",
                b"data: a\xff\xe2\x82\n\n",
                &[("message", "a\u{fffd}\u{fffd}", "")],
            ),
        ];
        for (name, wire, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, d, i)| event(n, d, i)).collect();
            for cut in 1..=wire.len().max(1) {
                let (events, error, _) = decode_in_pieces_of(cut, wire, &Limits::default());
                assert_eq!(
                    (events, error),
                    (expected.clone(), None),
                    "{name}, pieces of {cut}"
                );
            }
        }
    }

    #[test]
    fn retry_is_digits_only() {
        let cases: &[(&str, Option<u64>)] = &[
            ("retry: 10\n", Some(10)),
            ("retry:0\n", Some(0)),
            ("retry: 10\nretry: x\n", Some(10)),
            ("retry: 10\nretry: 99999999999999999999\n", Some(10)),
            ("retry\n", None),
            ("retry: +1\n", None),
            ("retry: -1\n", None),
            ("retry: 1.5\n", None),
            ("retry:  1\n", None),
            ("retry: 1 \n", None),
        ];
        for (wire, expected) in cases {
            let (_, _, decoder) = decode_in_pieces_of(3, wire.as_bytes(), &Limits::default());
            assert_eq!(
                decoder.retry(),
                expected.map(Duration::from_millis),
                "{wire:?}"
            );
        }
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let cases: &[(&str, &[u8], usize, Option<Error>)] = &[
            ("longest line", b"data: 0123456789\n\n", 1, None),
            ("line above", b"data: 0123456789a\n\n", 0, Some(Error::LineTooLong)),
            ("line above without end", b"data: 0123456789a", 0, Some(Error::LineTooLong)),
            ("comment above", b":0123456789abcdef\n", 0, Some(Error::LineTooLong)),
            ("longest event", b"data: 0123456789\ndata: 012345678\n\n", 1, None),
            ("event above", b"data: 0123456789\ndata: 0123456789\n\n", 0, Some(Error::EventTooLong)),
            ("empty lines count", b"data\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\n", 0, Some(Error::EventTooLong)),
            ("longest id", b"id: 12345678\ndata\n\n", 1, None),
            ("id above", b"id: 123456789\ndata\n\n", 0, Some(Error::IdTooLong)),
            ("two events are two", b"data: 0123456789\n\ndata: 0123456789\n\n", 2, None),
        ];
        for (name, wire, count, expected) in cases {
            for cut in 1..=wire.len() {
                let (events, error, _) = decode_in_pieces_of(cut, wire, &SMALL);
                assert_eq!(
                    (events.len(), error),
                    (*count, *expected),
                    "{name}, pieces of {cut}"
                );
            }
        }
    }

    #[test]
    fn events_share_their_id() {
        let events = decode(b"id: 7\ndata\n\ndata\n\nid: 7\ndata\n\nid: 8\ndata\n\n");
        let shares = |index: usize| Arc::ptr_eq(&events[0].id, &events[index].id);
        assert_eq!([1, 2, 3].map(shares), [true, true, false]);
    }

    #[test]
    fn same_events_however_the_bytes_are_cut() {
        let wire = "\u{feff}:ok\r\n\r\nid: é1\revent: ünï\rdata: 日本\rdata\r\rretry: 7\n\ndata: x\r\n\r\nid\n\n: end\n";
        let whole = decode(wire.as_bytes());
        assert_eq!(
            whole,
            [event("ünï", "日本\n", "é1"), event("message", "x", "é1")]
        );
        for cut in 1..wire.len() {
            let (events, error, decoder) =
                decode_in_pieces_of(cut, wire.as_bytes(), &Limits::default());
            assert_eq!((&events, error), (&whole, None), "pieces of {cut} bytes");
            assert_eq!(&**decoder.last_event_id(), "", "pieces of {cut} bytes");
            assert_eq!(decoder.retry(), Some(Duration::from_millis(7)));
        }
    }

    #[test]
    fn the_id_of_an_incomplete_event_is_not_kept() {
        let mut decoder = Decoder::new();
        let mut input: &[u8] = b"retry: 5\nid: 1\ndata: a\n\nid: 2\nevent: x\ndata: b\ndat";
        let limits = Limits::default();
        assert_eq!(
            decoder.next_event(&mut input, &limits),
            Ok(Some(event("message", "a", "1")))
        );
        assert_eq!(decoder.next_event(&mut input, &limits), Ok(None));
        assert_eq!(&**decoder.last_event_id(), "1");

        decoder.restart();
        assert_eq!(&**decoder.last_event_id(), "1");
        assert_eq!(decoder.retry(), Some(Duration::from_millis(5)));
        let mut input: &[u8] = b"\xef\xbb\xbfdata: c\n\n";
        assert_eq!(
            decoder.next_event(&mut input, &limits),
            Ok(Some(event("message", "c", "1")))
        );
    }
}
