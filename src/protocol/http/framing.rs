//! What the headers of a message say about its body and its connection.
//!
//! Two readers of one stream which disagree about where a message ends are how requests are
//! smuggled, so whatever could be read in two ways is an error here.
//!
//! Source: RFC 9112, sections 6 and 9.3.

use super::error::HttpError;
use super::head::Version;
use super::headers::Headers;
use super::limits::Limits;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, or an empty one.
    None,
    /// So many bytes, never zero.
    Length(u64),
    /// In chunks, each with its length.
    Chunked,
    /// Until the connection ends; responses only.
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

/// What `Transfer-Encoding` says, all its lines taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Absent,
    /// `chunked`, once and last, alone or after codings that we do not know.
    Chunked {
        is_alone: bool,
    },
    /// Anything else so far.
    Open,
}

/// What the headers that concern the message itself say, in one walk over them.
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

    /// How the body is framed; `None` where no header says.
    pub fn framing(&self, version: Version) -> Result<Option<BodyFraming>, HttpError> {
        match (self.transfer, self.length) {
            (Transfer::Absent, None) => Ok(None),
            (Transfer::Absent, Some(0)) => Ok(Some(BodyFraming::None)),
            (Transfer::Absent, Some(length)) => Ok(Some(BodyFraming::Length(length))),
            (_, Some(_)) => Err(HttpError::ConflictingFraming),
            (Transfer::Open, None) => Err(HttpError::BadTransferEncoding),
            // Its sender cannot know what it means.
            (_, None) if version == Version::Http10 => Err(HttpError::BadTransferEncoding),
            (Transfer::Chunked { is_alone: true }, None) => Ok(Some(BodyFraming::Chunked)),
            (Transfer::Chunked { is_alone: false }, None) => Err(HttpError::UnknownTransferCoding),
        }
    }

    /// Whether the connection outlives the message.
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

    // A repeated length may be collapsed when all are the same, or refused. No client of ours
    // sends it twice, and an attacker does.
    fn add_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        let length = parse_length(value).ok_or(HttpError::BadContentLength)?;
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(HttpError::BadContentLength),
        }
    }

    fn add_codings(&mut self, value: &[u8]) -> Result<(), HttpError> {
        for coding in elements(value) {
            self.transfer = match self.transfer {
                _ if coding.is_empty() => return Err(HttpError::BadTransferEncoding),
                // Nothing may follow it, another `chunked` least of all.
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

// `str::parse` takes a leading `+`, which a smuggler might send.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |length, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
