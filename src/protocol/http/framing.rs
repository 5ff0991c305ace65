//! The headers that frame a message: where its body ends, and whether the connection persists.
//!
//! Requests are smuggled when two readers of one stream disagree about where a message ends. So
//! every header that could be read in two ways is an error here.
//!
//! Source: RFC 9112, sections 6 and 9.3.

use crate::protocol::digits::parse_decimal;

use super::error::HttpError;
use super::head::Version;
use super::headers::Headers;
use super::limits::Limits;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, or an empty one.
    None,
    /// A body of this many bytes, at least one.
    Length(u64),
    /// A body in chunks, each with its length.
    Chunked,
    /// A body that lasts until the connection ends; responses only.
    UntilClose,
}

impl BodyFraming {
    /// The length in bytes, where it is known from the start.
    pub fn length(self) -> Option<u64> {
        match self {
            BodyFraming::None => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        }
    }

    /// Refuses a body whose length is known to be above the limit, before any of it is read.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLong`].
    pub fn check(self, limits: &Limits) -> Result<(), HttpError> {
        match self.length() {
            Some(length) if length > limits.body_bytes_max as u64 => Err(HttpError::BodyTooLong),
            Some(_) | None => Ok(()),
        }
    }
}

/// The value of `Transfer-Encoding`, over all its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Absent,
    /// `chunked`, once and last, alone or after codings that we do not know.
    Chunked {
        is_alone: bool,
    },
    /// Other codings, and no `chunked` so far.
    Open,
}

/// The values of the headers that concern the message itself, collected in one pass over all.
pub(super) struct MessageHeaders<'h> {
    pub host: Option<&'h [u8]>,
    pub host_count: usize,
    pub expects_continue: bool,
    pub expects_other: bool,
    length: Option<u64>,
    transfer: Transfer,
    closes: bool,
    keeps_alive: bool,
}

impl<'h> MessageHeaders<'h> {
    pub fn read(headers: Headers<'h>) -> Result<MessageHeaders<'h>, HttpError> {
        let mut message = MessageHeaders {
            host: None,
            host_count: 0,
            expects_continue: false,
            expects_other: false,
            length: None,
            transfer: Transfer::Absent,
            closes: false,
            keeps_alive: false,
        };
        for (name, value) in headers.iter() {
            // The length is compared first, so that most lines cost one branch.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    message.host = Some(value);
                    message.host_count += 1;
                }
                6 if name.eq_ignore_ascii_case("expect") => message.add_expectations(value),
                10 if name.eq_ignore_ascii_case("connection") => message.add_options(value),
                14 if name.eq_ignore_ascii_case("content-length") => message.add_length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    message.add_codings(value)?
                }
                _ => {}
            }
        }
        Ok(message)
    }

    /// How the body is framed; `None` where no header says so.
    pub fn framing(&self, version: Version) -> Result<Option<BodyFraming>, HttpError> {
        match (self.transfer, self.length) {
            (Transfer::Absent, None) => Ok(None),
            (Transfer::Absent, Some(0)) => Ok(Some(BodyFraming::None)),
            (Transfer::Absent, Some(length)) => Ok(Some(BodyFraming::Length(length))),
            (_, Some(_)) => Err(HttpError::ConflictingFraming),
            (Transfer::Open, None) => Err(HttpError::BadTransferEncoding),
            // HTTP/1.0 has no transfer codings, so its sender may mean something else.
            (_, None) if version == Version::Http10 => Err(HttpError::BadTransferEncoding),
            (Transfer::Chunked { is_alone: true }, None) => Ok(Some(BodyFraming::Chunked)),
            (Transfer::Chunked { is_alone: false }, None) => Err(HttpError::UnknownTransferCoding),
        }
    }

    /// Whether the connection stays open after the message.
    pub fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http10 => self.keeps_alive && !self.closes,
            Version::Http11 => !self.closes,
        }
    }

    fn add_expectations(&mut self, value: &[u8]) {
        for element in elements(value).filter(|element| !element.is_empty()) {
            if element.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_other = true;
            }
        }
    }

    fn add_options(&mut self, value: &[u8]) {
        for element in elements(value) {
            self.closes |= element.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= element.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    // RFC 9110 allows to accept a repeated length when all are equal, or to refuse it. Well-behaved
    // clients send it once, and attackers send it twice.
    fn add_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        let length = parse_decimal(value).ok_or(HttpError::BadContentLength)?;
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(HttpError::BadContentLength),
        }
    }

    fn add_codings(&mut self, value: &[u8]) -> Result<(), HttpError> {
        for coding in elements(value) {
            self.transfer = match self.transfer {
                _ if coding.is_empty() => return Err(HttpError::BadTransferEncoding),
                // No coding may follow `chunked`, nor may it be repeated.
                Transfer::Chunked { .. } => return Err(HttpError::BadTransferEncoding),
                before if coding.eq_ignore_ascii_case(b"chunked") => Transfer::Chunked {
                    is_alone: before == Transfer::Absent,
                },
                Transfer::Absent | Transfer::Open => Transfer::Open,
            };
        }
        Ok(())
    }
}

/// The elements of a list without the white space around them, empty ones included.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(|element| {
        let start = element
            .iter()
            .position(|byte| !is_blank(*byte))
            .unwrap_or(element.len());
        let end = element
            .iter()
            .rposition(|byte| !is_blank(*byte))
            .map_or(start, |last| last + 1);
        &element[start..end]
    })
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
