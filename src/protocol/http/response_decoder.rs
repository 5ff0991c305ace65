//! The decoder of the answer to one request: interim heads, the head, the body, and the end.
//!
//! Strict for the same reason as the parser of requests: a client that reads the end of an answer elsewhere than
//! the proxy before it takes the rest for the answer to its next request. So two lengths, a length beside chunks,
//! and an upgrade that was not asked for are errors.
//!
//! Source: RFC 9112, sections 4, 6.3 and 8; RFC 9110, section 15.2.

use super::body::{BodyChunk, BodyDecoder};
use super::error::HttpError;
use super::headers::HeaderStorage;
use super::limits::Limits;
use super::response::{ParsedResponse, parse_response_head};
use super::status::Status;

/// Most interim heads before the head of an answer. A server sends one or two; one that sends them without
/// end would keep the request waiting for ever.
pub const INTERIM_RESPONSES_MAX: u8 = 16;

/// A piece of an answer.
#[derive(Clone, Copy, Debug)]
pub enum ResponseEvent<'h, 'b> {
    /// An interim head, such as 103. The head of the answer is still to come.
    Interim(Status),
    /// The head.
    Head(ParsedResponse<'h>),
    /// The next bytes of the body, at least one.
    Body(&'b [u8]),
    /// The answer is complete.
    End,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body(BodyDecoder),
    /// An error was found. The bytes that follow mean nothing.
    Failed,
}

/// The decoder of one answer.
#[derive(Clone, Debug)]
pub struct ResponseDecoder {
    state: State,
    is_head_request: bool,
    interim_count: u8,
    has_input: bool,
    /// Whether the heads so far allow to keep the connection.
    keep_alive: bool,
    body_bytes: u64,
    body_bytes_max: u64,
}

impl ResponseDecoder {
    /// A decoder for the answer to a request. The answer to HEAD has no body, whatever its headers say. A body
    /// above `body_bytes_max` is an error.
    pub fn new(is_head_request: bool, body_bytes_max: u64) -> ResponseDecoder {
        ResponseDecoder {
            state: State::Head,
            is_head_request,
            interim_count: 0,
            has_input: false,
            keep_alive: true,
            body_bytes: 0,
            body_bytes_max,
        }
    }

    /// Takes the next piece off the front of `input`; `None` when more bytes are needed. After the end it always
    /// returns [`ResponseEvent::End`], and consumes nothing: bytes behind the answer are the caller's to refuse.
    ///
    /// # Errors
    ///
    /// [`HttpError`]: the connection is lost. A body above the limit is an error as soon as its length is known, but not
    /// instead of the head, which may be that of a redirect; see [`check_length`](Self::check_length).
    pub fn next_event<'h, 'b: 'h>(
        &mut self,
        input: &mut &'b [u8],
        storage: &'h mut HeaderStorage<'b>,
        limits: &Limits,
    ) -> Result<Option<ResponseEvent<'h, 'b>>, HttpError> {
        self.has_input |= !input.is_empty();
        let event = match &mut self.state {
            State::Head => self.next_head(input, storage, limits),
            State::Body(decoder) => match decoder.next_chunk(input) {
                Ok(Some(BodyChunk::Data(data))) => {
                    self.body_bytes += data.len() as u64;
                    Ok(Some(ResponseEvent::Body(data)))
                }
                Ok(Some(BodyChunk::End)) => Ok(Some(ResponseEvent::End)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            State::Failed => Err(HttpError::Truncated),
        };
        let event = event.and_then(|event| match event {
            Some(ResponseEvent::Head(_)) => Ok(event),
            _ => self.check_length().map(|()| event),
        });
        if event.is_err() {
            self.state = State::Failed;
        }
        event
    }

    fn next_head<'h, 'b: 'h>(
        &mut self,
        input: &mut &'b [u8],
        storage: &'h mut HeaderStorage<'b>,
        limits: &Limits,
    ) -> Result<Option<ResponseEvent<'h, 'b>>, HttpError> {
        let Some(head) = parse_response_head(input, self.is_head_request, storage, limits)? else {
            return Ok(None);
        };
        *input = &input[head.bytes..];
        if head.status == Status::SWITCHING_PROTOCOLS {
            return Err(HttpError::UnexpectedUpgrade);
        }
        if head.status.is_informational() {
            self.interim_count += 1;
            self.keep_alive &= head.keep_alive;
            return match self.interim_count <= INTERIM_RESPONSES_MAX {
                true => Ok(Some(ResponseEvent::Interim(head.status))),
                false => Err(HttpError::TooManyInterimResponses),
            };
        }
        self.keep_alive &= head.keep_alive;
        self.state = State::Body(BodyDecoder::new(head.body));
        Ok(Some(ResponseEvent::Head(head)))
    }

    /// Checks that the body is not longer than it may be, and will not be when what is announced has come.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLong`].
    pub fn check_length(&self) -> Result<(), HttpError> {
        let announced_bytes = match &self.state {
            State::Body(decoder) => decoder.announced_bytes(),
            State::Head | State::Failed => 0,
        };
        match self.body_bytes.saturating_add(announced_bytes) <= self.body_bytes_max {
            true => Ok(()),
            false => Err(HttpError::BodyTooLong),
        }
    }

    /// Checks that the answer is complete where the connection has ended as it should. Not for an end of TLS without
    /// its goodbye, where bytes may be missing.
    ///
    /// # Errors
    ///
    /// [`HttpError::Truncated`] when it is not complete.
    pub fn check_end(&self) -> Result<(), HttpError> {
        match &self.state {
            State::Body(decoder) => decoder.check_end(),
            State::Head | State::Failed => Err(HttpError::Truncated),
        }
    }

    /// Whether a byte of the answer has come.
    pub fn has_input(&self) -> bool {
        self.has_input
    }

    /// Whether the head has come.
    pub fn has_head(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Whether the server keeps the connection after the answer. Known with the head.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive && self.has_head()
    }

    /// Limits what is still to come of the body, in bytes.
    pub fn limit_rest(&mut self, bytes: u64) {
        self.body_bytes_max = self.body_bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of an answer as text, and what follows from its end: `end` with `+kept` or `-closed` and the
    /// number of bytes behind it, `more` where it goes on, or the error.
    fn decode(input: &[u8], is_head_request: bool, step: usize) -> Vec<String> {
        let limits = Limits {
            head_bytes_max: 200,
            header_lines_max: 4,
            ..Limits::default()
        };
        let mut decoder = ResponseDecoder::new(is_head_request, 64);
        let (mut said, mut body) = (Vec::new(), Vec::new());
        let (mut start, mut end) = (0, 0);
        while end < input.len() {
            end = (end + step).min(input.len());
            loop {
                let mut rest = &input[start..end];
                let mut storage = HeaderStorage::new();
                let event = decoder.next_event(&mut rest, &mut storage, &limits);
                match event {
                    Ok(None) => {
                        start = end - rest.len();
                        break;
                    }
                    Ok(Some(ResponseEvent::Interim(status))) => {
                        said.push(status.code().to_string());
                    }
                    Ok(Some(ResponseEvent::Head(head))) => {
                        said.push(format!("{} {:?}", head.status.code(), head.body));
                    }
                    Ok(Some(ResponseEvent::Body(bytes))) => body.extend_from_slice(bytes),
                    Ok(Some(ResponseEvent::End)) => {
                        said.push(String::from_utf8_lossy(&body).into_owned());
                        let kept = if decoder.keeps_alive() {
                            "kept"
                        } else {
                            "closed"
                        };
                        said.push(format!("{kept} +{}", input.len() - end + rest.len()));
                        assert_eq!(decoder.check_end(), Ok(()));
                        return said;
                    }
                    Err(error) => {
                        // The bytes that were still sound depend on the cut, and no caller has got them.
                        said.push(format!("{error:?}"));
                        assert_eq!(decoder.check_end(), Err(HttpError::Truncated));
                        let mut storage = HeaderStorage::new();
                        let again = decoder.next_event(&mut rest, &mut storage, &limits);
                        assert!(again.is_err());
                        return said;
                    }
                }
                start = end - rest.len();
            }
        }
        said.push(String::from_utf8_lossy(&body).into_owned());
        let ended = match decoder.check_end() {
            Ok(()) => "complete",
            Err(_) => "truncated",
        };
        said.push(ended.to_owned());
        said
    }

    /// The same as in one go, however the bytes are cut.
    fn decode_cut(input: &[u8], is_head_request: bool) -> Vec<String> {
        let at_once = decode(input, is_head_request, input.len().max(1));
        for step in 1..input.len() {
            let cut = decode(input, is_head_request, step);
            assert_eq!(cut, at_once, "pieces of {step} bytes");
        }
        at_once
    }

    #[test]
    fn answers() {
        let cases: &[(&str, bool, &[&str])] = &[
            // Framing.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                false,
                &["200 Length(3)", "abc", "kept +0"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                false,
                &["200 None", "", "kept +0"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
                false,
                &["200 Length(3)", "ab", "truncated"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nab\r\n0\r\nA: b\r\n\r\n",
                false,
                &["200 Chunked", "ab", "kept +0"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
                false,
                &["200 Chunked", "ab", "truncated"],
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nabc",
                false,
                &["200 UntilClose", "abc", "complete"],
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
                false,
                &["200 Length(1)", "a", "kept +0"],
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 1\r\n\r\na",
                false,
                &["200 Length(1)", "a", "closed +0"],
            ),
            // No body, whatever the headers say.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                true,
                &["200 None", "", "kept +0"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
                &["200 None", "", "kept +0"],
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
                false,
                &["304 None", "", "kept +0"],
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
                false,
                &["204 None", "", "closed +3"],
            ),
            (
                "HTTP/1.1 103 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 204 y\r\n\r\n",
                false,
                &["103", "204 None", "", "closed +0"],
            ),
            // Bytes behind the answer.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n",
                false,
                &["200 Length(1)", "a", "kept +19"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na\r\n",
                false,
                &["200 Length(1)", "a", "kept +2"],
            ),
            // Interim answers.
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 204 z\r\n\r\n",
                false,
                &["100", "103", "204 None", "", "kept +0"],
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
                false,
                &["UnexpectedUpgrade"],
            ),
            // Two readers could disagree.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                &["ConflictingFraming"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
                &["ConflictingFraming"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                false,
                &["BadContentLength"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
                false,
                &["BadContentLength"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
                false,
                &["BadContentLength"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
                false,
                &["BadContentLength"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
                false,
                &["BadContentLength"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                false,
                &["BadTransferEncoding"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
                false,
                &["BadTransferEncoding"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                false,
                &["UnknownTransferCoding"],
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                &["BadTransferEncoding"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
                false,
                &["BadHeaderName"],
            ),
            (
                "HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 1\r\n\r\n",
                false,
                &["BadHeaderName"],
            ),
            ("HTTP/1.1 200 OK\nX: y\n\n", false, &["BareLineFeed"]),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", false, &["BadStatusLine"]),
            ("<html>", false, &["BadStatusLine"]),
            // Chunks.
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
                false,
                &["200 Chunked", "BadChunk"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
                false,
                &["200 Chunked", "BadChunk"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na",
                false,
                &["200 Chunked", "BadChunk"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
                false,
                &["200 Chunked", "BadChunk"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
                false,
                &["200 Chunked", "BadChunk"],
            ),
            // Limits: 4 lines, 200 bytes of head, 64 of body.
            (
                "HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n",
                false,
                &["TooManyHeaders"],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\nabc",
                false,
                &["200 Length(65)", "BodyTooLong"],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3f\r\nx",
                false,
                &["200 Chunked", "BodyTooLong"],
            ),
        ];
        for (input, is_head_request, expected) in cases {
            let said = decode_cut(input.as_bytes(), *is_head_request);
            assert_eq!(said, *expected, "{input:?}");
        }
    }

    #[test]
    fn heads_and_interim_answers_are_bounded() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(200));
        assert_eq!(decode_cut(long.as_bytes(), false), ["HeadTooLong"]);
        let endless = "HTTP/1.1 103 x\r\n\r\n".repeat(usize::from(INTERIM_RESPONSES_MAX) + 1);
        let said = decode_cut(endless.as_bytes(), false);
        assert_eq!(said.len(), usize::from(INTERIM_RESPONSES_MAX) + 1);
        assert_eq!(said.last().unwrap(), "TooManyInterimResponses");
        let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(65));
        let said = decode_cut(until_close.as_bytes(), false);
        assert_eq!(said, ["200 UntilClose", "BodyTooLong"]);
    }

    #[test]
    fn damaged_answers_are_decoded_alike_however_they_are_cut() {
        let sound: [&[u8]; 3] = [
            b"HTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
              3;x\r\nabc\r\n0\r\nC: d\r\n\r\nHTTP/1.1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nabcdefghijklmn",
            b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\nabc",
        ];
        let bytes = b"\r\n :;,0123456789abcdefxX\0\xff+-";
        // A generator with a fixed start, so that each run is the same.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..3000 {
            let mut input = sound[next(sound.len())].to_vec();
            for _ in 0..=next(3) {
                let at = next(input.len());
                match next(3) {
                    0 => drop(input.remove(at)),
                    1 => input.insert(at, bytes[next(bytes.len())]),
                    _ => input[at] = bytes[next(bytes.len())],
                }
            }
            let at_once = decode(&input, false, input.len());
            for step in [1, 2, 7] {
                let cut = decode(&input, false, step);
                assert_eq!(cut, at_once, "{:?}", String::from_utf8_lossy(&input));
            }
        }
    }

    #[test]
    fn the_first_byte_of_an_answer_is_noticed() {
        let limits = Limits::default();
        let mut decoder = ResponseDecoder::new(false, 64);
        for (input, expected) in [(&b""[..], false), (b"H", true), (b"", true)] {
            let mut rest = input;
            let mut storage = HeaderStorage::new();
            let event = decoder.next_event(&mut rest, &mut storage, &limits);
            assert!(matches!(event, Ok(None)));
            assert_eq!(decoder.has_input(), expected);
        }
        assert!(!decoder.has_head());
    }
}
