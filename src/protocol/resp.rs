//! Replies of a Redis server, and the commands that are sent to it: RESP2 and RESP3.
//!
//! ```text
//!   input ─▶ scan: one line or bulk string after the other, a count for each open level
//!              │ the last one is complete
//!              ▼
//!            parse: the reply as a tree, which borrows from the input
//! ```
//!
//! A reply that comes in pieces is scanned once: the decoder remembers where it stopped. Limits are checked at
//! the announcement, so a reply that is too long or nested too deeply is refused before its bytes have come. The
//! tree is made only of replies that are complete and within the limits; the depth limit keeps the recursion
//! small.
//!
//! Streamed strings and aggregates (`$?`, `*?`) are refused, because no server sends them.
//!
//! Source: Redis serialization protocol specification, RESP2 and RESP3.

use std::fmt;

use super::digits::{parse_decimal, push_decimal};

/// Most levels of arrays, maps, sets, pushes and attributes in one reply.
pub const DEPTH_MAX: usize = 32;

/// Most values in one reply. Each takes 32 bytes in the tree.
pub const VALUES_MAX: usize = 1024 * 1024;

/// The longest announcement of a length or a count, in bytes: a type, a number of 20 digits, CR LF.
const LENGTH_LINE_BYTES_MAX: usize = 24;

/// A reply, or a value in one.
#[derive(Clone, PartialEq)]
pub enum Reply<'b> {
    /// A status such as `OK`, without CR and LF.
    Status(&'b [u8]),
    /// An error: a code in capital letters, and a text.
    Error(&'b [u8]),
    /// An integer.
    Integer(i64),
    /// A string of any bytes.
    Bulk(&'b [u8]),
    /// No value.
    Null,
    /// A floating-point number.
    Double(f64),
    /// A truth value.
    Boolean(bool),
    /// An integer of any length, in decimal.
    BigNumber(&'b [u8]),
    /// Values in an order, or a set.
    Array(Vec<Reply<'b>>),
    /// Pairs of a key and a value.
    Map(Vec<(Reply<'b>, Reply<'b>)>),
    /// Values that belong to no command, such as a published message.
    Push(Vec<Reply<'b>>),
}

/// Shows strings as text on one line, for the log.
impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = |name: &str, bytes: &[u8]| write!(f, "{name}(\"{}\")", bytes.escape_ascii());
        match self {
            Reply::Status(bytes) => text("Status", bytes),
            Reply::Error(bytes) => text("Error", bytes),
            Reply::Bulk(bytes) => text("Bulk", bytes),
            Reply::BigNumber(bytes) => text("BigNumber", bytes),
            Reply::Integer(number) => write!(f, "Integer({number})"),
            Reply::Null => f.write_str("Null"),
            Reply::Double(number) => write!(f, "Double({number})"),
            Reply::Boolean(value) => write!(f, "Boolean({value})"),
            Reply::Array(values) => f.debug_tuple("Array").field(values).finish(),
            Reply::Map(pairs) => f.debug_tuple("Map").field(pairs).finish(),
            Reply::Push(values) => f.debug_tuple("Push").field(values).finish(),
        }
    }
}

impl<'b> Reply<'b> {
    /// The bytes of a string or a status.
    pub fn as_bytes(&self) -> Option<&'b [u8]> {
        match self {
            Reply::Bulk(bytes) | Reply::Status(bytes) | Reply::BigNumber(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A string or a status, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'b str> {
        str::from_utf8(self.as_bytes()?).ok()
    }

    /// An integer, also one that is written as a string.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => self.as_str()?.parse().ok(),
        }
    }

    /// The values of an array or a push.
    pub fn as_array(&self) -> Option<&[Reply<'b>]> {
        match self {
            Reply::Array(values) | Reply::Push(values) => Some(values),
            _ => None,
        }
    }

    /// The text of an error. Bytes that are not UTF-8 are replaced.
    pub fn as_error(&self) -> Option<std::borrow::Cow<'b, str>> {
        match self {
            Reply::Error(text) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }
    }
}

/// Why bytes are not replies. The connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RespError {
    /// A reply does not begin with a type.
    UnknownType {
        /// The byte that stands in its place.
        got: u8,
    },
    /// A length or a count is not a number, or a value does not end with CR LF.
    Malformed,
    /// A reply is longer than the limit.
    TooLong {
        /// The limit, in bytes.
        reply_bytes_max: usize,
    },
    /// A reply has more than [`DEPTH_MAX`] levels.
    TooDeep,
    /// A reply has more than [`VALUES_MAX`] values.
    TooManyValues,
    /// A reply is a stream of unknown length, which no server is known to send.
    Streamed,
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RespError::UnknownType { got } => write!(
                f,
                "the server does not speak the Redis protocol: a reply begins with {:?}",
                char::from(*got)
            ),
            RespError::Malformed => f.write_str("a reply is malformed"),
            RespError::TooLong { reply_bytes_max } => {
                write!(f, "a reply is longer than {reply_bytes_max} bytes")
            }
            RespError::TooDeep => write!(f, "a reply has more than {DEPTH_MAX} levels"),
            RespError::TooManyValues => write!(f, "a reply has more than {VALUES_MAX} values"),
            RespError::Streamed => f.write_str("a reply is a stream of unknown length"),
        }
    }
}

impl std::error::Error for RespError {}

/// The decoder of one connection's replies.
#[derive(Debug)]
pub struct ReplyDecoder {
    reply_bytes_max: usize,
    /// The bytes of the next reply that were scanned.
    scanned_bytes: usize,
    /// Of the line behind them, the bytes that hold no line end.
    line_bytes: usize,
    /// The aggregates that are not complete, the outermost first.
    open: Vec<Level>,
    value_count: usize,
}

/// An aggregate that is not complete.
#[derive(Clone, Copy, Debug)]
struct Level {
    missing_count: usize,
    /// It stands before a value and is dropped.
    is_attribute: bool,
}

/// The content that a line announces.
enum Announcement {
    /// The line is the whole value.
    Line,
    /// A string of this length follows.
    String(usize),
    /// An aggregate of this many values follows.
    Aggregate(Level),
}

impl ReplyDecoder {
    /// A decoder of replies with at most `reply_bytes_max` bytes each.
    pub fn new(reply_bytes_max: usize) -> ReplyDecoder {
        ReplyDecoder {
            reply_bytes_max,
            scanned_bytes: 0,
            line_bytes: 0,
            open: Vec::new(),
            value_count: 0,
        }
    }

    /// Takes the next reply off the front of `input`. On `None` it has consumed nothing: the caller appends what
    /// comes next, and asks again with the same bytes before it.
    ///
    /// # Errors
    ///
    /// [`RespError`]; the connection is lost.
    pub fn next_reply<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Reply<'b>>, RespError> {
        if !self.scan(input)? {
            return Ok(None);
        }
        let (mut reply, rest) = input.split_at(self.scanned_bytes);
        *input = rest;
        self.scanned_bytes = 0;
        self.value_count = 0;
        Ok(Some(parse(&mut reply)))
    }

    /// Scans on. Returns whether the reply is complete.
    fn scan(&mut self, input: &[u8]) -> Result<bool, RespError> {
        loop {
            let Some(line) = self.next_line(&input[self.scanned_bytes..])? else {
                return Ok(false);
            };
            let line_bytes = line.len() + 2;
            match announcement(line)? {
                Announcement::Line => self.scanned_bytes += line_bytes,
                Announcement::String(length) => {
                    let end = self.check_length(line_bytes + length + 2)?;
                    let Some(end_of_line) = input.get(end - 2..end) else {
                        return Ok(false);
                    };
                    if end_of_line != b"\r\n" {
                        return Err(RespError::Malformed);
                    }
                    self.scanned_bytes = end;
                }
                Announcement::Aggregate(level) => {
                    if self.open.len() == DEPTH_MAX {
                        return Err(RespError::TooDeep);
                    }
                    // Each value takes three bytes at least.
                    if VALUES_MAX - self.value_count < level.missing_count {
                        return Err(RespError::TooManyValues);
                    }
                    self.check_length(line_bytes + 3 * level.missing_count)?;
                    self.value_count += level.missing_count;
                    self.scanned_bytes += line_bytes;
                    self.line_bytes = 0;
                    self.open.push(level);
                    if level.missing_count != 0 {
                        continue;
                    }
                    if !self.close_levels() {
                        continue;
                    }
                    return Ok(true);
                }
            }
            self.line_bytes = 0;
            if self.count_value() {
                return Ok(true);
            }
        }
    }

    /// A value is complete. Returns whether the reply is.
    fn count_value(&mut self) -> bool {
        match self.open.last_mut() {
            None => return true,
            Some(level) => level.missing_count -= 1,
        }
        self.close_levels()
    }

    /// Takes the levels away that are complete. Returns whether the reply is.
    fn close_levels(&mut self) -> bool {
        while let Some(level) = self.open.last().copied() {
            if level.missing_count != 0 {
                return false;
            }
            self.open.pop();
            if level.is_attribute {
                return false;
            }
            if let Some(outer) = self.open.last_mut() {
                outer.missing_count -= 1;
            }
        }
        true
    }

    /// The next line without CR and LF; `None` while it is not complete.
    fn next_line<'b>(&mut self, input: &'b [u8]) -> Result<Option<&'b [u8]>, RespError> {
        let Some(&first) = input.first() else {
            self.check_length(0)?;
            return Ok(None);
        };
        let is_value = match first {
            b'+' | b'-' | b'(' => true,
            b':' | b'_' | b',' | b'#' | b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|' => {
                false
            }
            got => return Err(RespError::UnknownType { got }),
        };
        // The line end may begin with the last byte that was looked at.
        let from = self.line_bytes.saturating_sub(1);
        let end = input[from..].windows(2).position(|pair| pair == b"\r\n");
        let line = end.map(|end| &input[..from + end]);
        self.line_bytes = line.map_or(input.len(), <[u8]>::len);
        // Only a value may be long. A double has as many digits as it likes, but none needs more.
        if !is_value && first != b',' && LENGTH_LINE_BYTES_MAX < self.line_bytes + 2 {
            return Err(RespError::Malformed);
        }
        self.check_length(self.line_bytes)?;
        Ok(line)
    }

    /// Returns where the next `length` bytes of the reply end.
    fn check_length(&self, length: usize) -> Result<usize, RespError> {
        let end = self.scanned_bytes.checked_add(length);
        let reply_bytes_max = self.reply_bytes_max;
        end.filter(|end| *end <= reply_bytes_max)
            .ok_or(RespError::TooLong { reply_bytes_max })
    }
}

/// Reads a line, which begins with a known type.
fn announcement(line: &[u8]) -> Result<Announcement, RespError> {
    let (kind, content) = (line[0], &line[1..]);
    match kind {
        b'+' | b'-' => {}
        b':' => _ = integer(content).ok_or(RespError::Malformed)?,
        b'(' => {
            let digits = content.strip_prefix(b"-").unwrap_or(content);
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(RespError::Malformed);
            }
        }
        b',' => _ = double(content).ok_or(RespError::Malformed)?,
        b'#' if matches!(content, b"t" | b"f") => {}
        b'_' if content.is_empty() => {}
        b'#' | b'_' => return Err(RespError::Malformed),
        _ => return announced_length(kind, content),
    }
    Ok(Announcement::Line)
}

/// Reads the length of a string or the count of an aggregate.
fn announced_length(kind: u8, content: &[u8]) -> Result<Announcement, RespError> {
    match (kind, content) {
        (_, b"?") => return Err(RespError::Streamed),
        // The null of RESP2.
        (b'$' | b'*', b"-1") => return Ok(Announcement::Line),
        _ => {}
    }
    let length = parse_decimal(content).ok_or(RespError::Malformed)?;
    // A length that no memory could hold is above every limit.
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(usize::MAX / 8);
    Ok(match kind {
        b'$' | b'!' => Announcement::String(length),
        // The format of verbatim text takes four bytes.
        b'=' if length < 4 => return Err(RespError::Malformed),
        b'=' => Announcement::String(length),
        _ => Announcement::Aggregate(Level {
            missing_count: match kind {
                b'%' | b'|' => 2 * length,
                _ => length,
            },
            is_attribute: kind == b'|',
        }),
    })
}

fn integer(content: &[u8]) -> Option<i64> {
    let digits = content.strip_prefix(b"-").unwrap_or(content);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(content).ok()?.parse().ok()
}

fn double(content: &[u8]) -> Option<f64> {
    match content {
        b"inf" => Some(f64::INFINITY),
        b"-inf" => Some(f64::NEG_INFINITY),
        b"nan" => Some(f64::NAN),
        [b'0'..=b'9' | b'-' | b'.', ..] => str::from_utf8(content).ok()?.parse().ok(),
        _ => None,
    }
}

/// Parses the next value of a reply that was scanned.
fn parse<'b>(input: &mut &'b [u8]) -> Reply<'b> {
    loop {
        let (kind, line) = take_line(input);
        if kind != b'|' {
            return parse_value(kind, line, input);
        }
        for _ in 0..2 * count(line) {
            parse(input);
        }
    }
}

fn parse_value<'b>(kind: u8, line: &'b [u8], input: &mut &'b [u8]) -> Reply<'b> {
    match (kind, line) {
        (b'+', _) => Reply::Status(line),
        (b'-', _) => Reply::Error(line),
        (b'(', _) => Reply::BigNumber(line),
        (b':', _) => Reply::Integer(integer(line).unwrap_or_default()),
        (b',', _) => Reply::Double(double(line).unwrap_or_default()),
        (b'#', _) => Reply::Boolean(line == b"t"),
        (b'_', _) | (b'$' | b'*', b"-1") => Reply::Null,
        (b'$', _) => Reply::Bulk(take_string(line, input)),
        (b'!', _) => Reply::Error(take_string(line, input)),
        (b'=', _) => Reply::Bulk(&take_string(line, input)[4..]),
        (b'%', _) => {
            let pairs = (0..count(line)).map(|_| (parse(input), parse(input)));
            Reply::Map(pairs.collect())
        }
        (b'>', _) => Reply::Push((0..count(line)).map(|_| parse(input)).collect()),
        _ => Reply::Array((0..count(line)).map(|_| parse(input)).collect()),
    }
}

/// Takes a line with its type. It was scanned, so its end is there.
fn take_line<'b>(input: &mut &'b [u8]) -> (u8, &'b [u8]) {
    let end = input.windows(2).position(|pair| pair == b"\r\n");
    let (line, rest) = input.split_at(end.expect("the scan has found the end of the line"));
    *input = &rest[2..];
    (line[0], &line[1..])
}

fn take_string<'b>(line: &[u8], input: &mut &'b [u8]) -> &'b [u8] {
    let (string, rest) = input.split_at(count(line));
    *input = &rest[2..];
    string
}

/// A length or a count. It was scanned, so it is a number within the limits.
fn count(line: &[u8]) -> usize {
    parse_decimal(line).unwrap_or_default() as usize
}

/// Appends a command: its name and its arguments.
pub fn encode_command<A: AsRef<[u8]>>(words: &[A], out: &mut Vec<u8>) {
    let words_bytes: usize = words.iter().map(|word| word.as_ref().len()).sum();
    // Around each word stand its length, which has two digits at most as a rule, and five other bytes.
    out.reserve(words_bytes + 8 * words.len() + 8);
    encode_command_head(words.len(), out);
    for word in words {
        encode_word(word.as_ref(), out);
    }
}

/// Appends the beginning of a command with so many words, each of which follows by [`encode_word`].
pub fn encode_command_head(word_count: usize, out: &mut Vec<u8>) {
    out.push(b'*');
    push_decimal(word_count as u64, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a word of a command.
pub fn encode_word(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    push_decimal(word.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reply::*;

    const REPLY_BYTES_MAX: usize = 1024 * 1024;

    fn decode_all(bytes: &[u8]) -> Result<Vec<Reply<'_>>, RespError> {
        let mut decoder = ReplyDecoder::new(REPLY_BYTES_MAX);
        let (mut input, mut replies) = (bytes, Vec::new());
        while let Some(reply) = decoder.next_reply(&mut input)? {
            replies.push(reply);
        }
        assert!(input.is_empty(), "bytes that no reply took: {input:?}");
        Ok(replies)
    }

    fn bulk(text: &str) -> Reply<'_> {
        Bulk(text.as_bytes())
    }

    fn whole_replies() -> Vec<(&'static str, Reply<'static>)> {
        vec![
            ("+OK\r\n", Status(b"OK")),
            ("+\r\n", Status(b"")),
            ("+a\rb\r\n", Status(b"a\rb")),
            ("-ERR unknown\r\n", Error(b"ERR unknown")),
            (":0\r\n", Integer(0)),
            (":-9223372036854775808\r\n", Integer(i64::MIN)),
            ("$0\r\n\r\n", Bulk(b"")),
            ("$4\r\na\r\nb\r\n", Bulk(b"a\r\nb")),
            ("$-1\r\n", Null),
            ("*-1\r\n", Null),
            ("_\r\n", Null),
            ("*0\r\n", Array(vec![])),
            (
                "*2\r\n$1\r\na\r\n:7\r\n",
                Array(vec![bulk("a"), Integer(7)]),
            ),
            (
                "*2\r\n*1\r\n*0\r\n+x\r\n",
                Array(vec![Array(vec![Array(vec![])]), Status(b"x")]),
            ),
            (",1.5\r\n", Double(1.5)),
            (",-inf\r\n", Double(f64::NEG_INFINITY)),
            (",1e3\r\n", Double(1000.0)),
            ("#t\r\n", Boolean(true)),
            ("#f\r\n", Boolean(false)),
            (
                "(-123456789012345678901234567890\r\n",
                BigNumber(b"-123456789012345678901234567890"),
            ),
            ("!5\r\nERR x\r\n", Error(b"ERR x")),
            ("=7\r\ntxt:abc\r\n", bulk("abc")),
            ("~2\r\n:1\r\n:2\r\n", Array(vec![Integer(1), Integer(2)])),
            (
                "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
                Map(vec![
                    (Status(b"a"), Integer(1)),
                    (Status(b"b"), Array(vec![])),
                ]),
            ),
            (
                ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
                Push(vec![bulk("message"), bulk("c"), bulk("")]),
            ),
            ("|1\r\n+ttl\r\n:3\r\n+OK\r\n", Status(b"OK")),
            ("|0\r\n:1\r\n", Integer(1)),
            (
                "*2\r\n|1\r\n+a\r\n*0\r\n:1\r\n|0\r\n:2\r\n",
                Array(vec![Integer(1), Integer(2)]),
            ),
        ]
    }

    #[test]
    fn a_reply_is_shown_as_text_on_one_line() {
        let pairs = vec![(Reply::Status(b"OK"), Reply::Null)];
        let values = vec![Reply::Bulk(b"a\r\n\xff\""), Reply::Map(pairs)];
        let expected = r#"Array([Bulk("a\r\n\xff\""), Map([(Status("OK"), Null)])])"#;
        assert_eq!(format!("{:?}", Reply::Array(values)), expected);
    }

    #[test]
    fn replies_are_decoded() {
        for (bytes, reply) in whole_replies() {
            assert_eq!(decode_all(bytes.as_bytes()), Ok(vec![reply]), "{bytes:?}");
        }
    }

    // The same bytes cut at every place give the same replies, and are consumed as they are returned.
    #[test]
    fn replies_cut_anywhere_are_the_same() {
        let all: String = whole_replies().iter().map(|(bytes, _)| *bytes).collect();
        let expected: Vec<_> = whole_replies()
            .into_iter()
            .map(|(_, reply)| reply)
            .collect();
        for step in 1..40 {
            let mut decoder = ReplyDecoder::new(REPLY_BYTES_MAX);
            let (mut taken, mut replies) = (0, Vec::new());
            for end in (0..all.len()).step_by(step).chain([all.len()]) {
                let mut input = &all.as_bytes()[taken..end];
                while let Some(reply) = decoder.next_reply(&mut input).expect("valid replies") {
                    replies.push(reply);
                }
                taken = end - input.len();
            }
            assert_eq!(replies, expected, "pieces of {step} bytes");
            assert_eq!(taken, all.len());
        }
    }

    #[test]
    fn a_part_of_a_reply_is_no_reply() {
        for (bytes, _) in whole_replies() {
            for end in 0..bytes.len() {
                let mut decoder = ReplyDecoder::new(REPLY_BYTES_MAX);
                let mut input = &bytes.as_bytes()[..end];
                assert_eq!(
                    decoder.next_reply(&mut input),
                    Ok(None),
                    "{bytes:?} until {end}"
                );
                assert_eq!(input.len(), end);
            }
        }
    }

    #[test]
    fn bytes_of_another_protocol_are_refused() {
        let too_long = RespError::TooLong {
            reply_bytes_max: REPLY_BYTES_MAX,
        };
        let cases: &[(&str, RespError)] = &[
            (
                "HTTP/1.1 400 Bad Request\r\n",
                RespError::UnknownType { got: b'H' },
            ),
            ("\r\n", RespError::UnknownType { got: b'\r' }),
            ("*1\r\nx", RespError::UnknownType { got: b'x' }),
            (":\r\n", RespError::Malformed),
            (":+1\r\n", RespError::Malformed),
            (":1x\r\n", RespError::Malformed),
            (":9223372036854775808\r\n", RespError::Malformed),
            ("$\r\n", RespError::Malformed),
            ("$-2\r\n", RespError::Malformed),
            ("$+1\r\n", RespError::Malformed),
            ("%-1\r\n", RespError::Malformed),
            (">-1\r\n", RespError::Malformed),
            ("$1\r\nab\r\n", RespError::Malformed),
            ("$000000000000000000000000", RespError::Malformed),
            ("=3\r\ntxt\r\n", RespError::Malformed),
            ("#x\r\n", RespError::Malformed),
            ("_x\r\n", RespError::Malformed),
            (",x\r\n", RespError::Malformed),
            (",\r\n", RespError::Malformed),
            ("(1.5\r\n", RespError::Malformed),
            ("$?\r\n", RespError::Streamed),
            ("*?\r\n", RespError::Streamed),
            ("$1048576\r\n", too_long),
            ("$18446744073709551615\r\n", too_long),
            ("*1\r\n$1048570\r\n", too_long),
            ("*400000\r\n", too_long),
            ("*18446744073709551615\r\n", RespError::TooManyValues),
            ("%18446744073709551615\r\n", RespError::TooManyValues),
            ("*1048577\r\n", RespError::TooManyValues),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode_all(bytes.as_bytes()), Err(*error), "{bytes:?}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth| "*1\r\n".repeat(depth) + ":1\r\n";
        assert!(decode_all(nested(DEPTH_MAX).as_bytes()).is_ok());
        for depth in [DEPTH_MAX + 1, 10_000] {
            assert_eq!(
                decode_all(nested(depth).as_bytes()),
                Err(RespError::TooDeep)
            );
        }
        let attributes = "|1\r\n".repeat(10_000);
        assert_eq!(decode_all(attributes.as_bytes()), Err(RespError::TooDeep));
    }

    #[test]
    fn a_line_without_end_is_limited() {
        let line = "+".repeat(REPLY_BYTES_MAX + 1);
        let mut decoder = ReplyDecoder::new(REPLY_BYTES_MAX);
        let error = decoder.next_reply(&mut line.as_bytes());
        assert!(matches!(error, Err(RespError::TooLong { .. })), "{error:?}");
    }

    // A reply at the limit passes, and one above it does not, however its bytes come.
    #[test]
    fn the_limit_is_that_of_a_whole_reply() {
        let reply = "*2\r\n$3\r\nabc\r\n$3\r\ndef\r\n";
        for (reply_bytes_max, is_ok) in [(reply.len(), true), (reply.len() - 1, false)] {
            let mut decoder = ReplyDecoder::new(reply_bytes_max);
            let mut last = Ok(None);
            for end in 0..=reply.len() {
                last = decoder.next_reply(&mut &reply.as_bytes()[..end]);
                if last.is_err() {
                    break;
                }
            }
            assert_eq!(last.is_ok_and(|reply| reply.is_some()), is_ok);
        }
    }

    // Attributes may come without end before a value.
    #[test]
    fn attributes_count_towards_the_limits() {
        let bytes = "|1\r\n+a\r\n+b\r\n".repeat(REPLY_BYTES_MAX);
        let mut decoder = ReplyDecoder::new(REPLY_BYTES_MAX);
        let error = decoder.next_reply(&mut bytes.as_bytes());
        assert!(error.is_err(), "{error:?}");
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = Vec::new();
        encode_command(&["SET", "key", ""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
        let mut parts = Vec::new();
        encode_command_head(3, &mut parts);
        for word in ["SET", "key", ""] {
            encode_word(word.as_bytes(), &mut parts);
        }
        assert_eq!(parts, out);
    }

    #[test]
    fn values_are_asked_for_by_their_type() {
        assert_eq!(Integer(7).as_integer(), Some(7));
        assert_eq!(bulk("7").as_integer(), Some(7));
        assert_eq!(bulk("x").as_integer(), None);
        assert_eq!(Bulk(b"\xff").as_str(), None);
        assert_eq!(
            Error(b"ERR \xff").as_error().as_deref(),
            Some("ERR \u{fffd}")
        );
        assert_eq!(Array(vec![Null]).as_array(), Some(&[Null][..]));
        assert_eq!(Null.as_bytes(), None);
    }
}
