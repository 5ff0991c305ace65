//! The form in which publications with a number travel and are kept in Redis.
//!
//! `1 EPOCH NUMBER ORIGIN TOKEN EXCEPT KIND NAMEBYTES KEYBYTES [EXTRABYTES]` and a line feed, then the name, the key, the
//! extra text and the data. The last length is left out where there is no extra text.
//! Epoch and the three fields behind the number are hexadecimal. The origin is the reactor that has published it, the
//! token its own number for the publication, and the third the client that is left out, or 0: one of the origin, or
//! of another reactor, which stands behind it and an `@`. The kind is `t` for text, `j` for JSON and `b` for bytes. A length is `-` where there is no name or no key.
//!
//! The script writes what stands before the origin.

use std::borrow::Cow;

use crate::protocol::digits::{parse_decimal, push_decimal, push_hexadecimal};
use crate::pubsub::{Event, Payload};

/// The highest number that a script can count to without losing any: scripts count with floating-point numbers.
const NUMBER_MAX: u64 = 1 << 53;

/// A number of 64 bits has no more digits.
const HEXADECIMAL_DIGITS_MAX: usize = 16;

/// The version of this form.
const VERSION: &[u8] = b"1";

/// A publication that came from Redis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbered<'p> {
    pub epoch: u64,
    pub number: u64,
    pub sender: Sender,
    pub event: Event<'p>,
}

/// The sender of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sender {
    /// The reactor.
    pub origin: u64,
    /// Its number for the publication.
    pub token: u64,
    /// The client that is left out, or zero.
    pub except: u64,
    /// The reactor of this client.
    pub except_origin: u64,
}

/// Appends the part of a publication behind its number.
pub(super) fn encode(sender: Sender, event: &Event<'_>, out: &mut Vec<u8>) {
    for field in [sender.origin, sender.token] {
        push_hexadecimal(field, out);
        out.push(b' ');
    }
    push_hexadecimal(sender.except, out);
    if sender.except_origin != sender.origin {
        out.push(b'@');
        push_hexadecimal(sender.except_origin, out);
    }
    out.push(b' ');
    let (kind, data) = match event.payload() {
        Payload::Text(text) => (b't', text.as_bytes()),
        Payload::Json(text) => (b'j', text.as_bytes()),
        Payload::Binary(bytes) => (b'b', &**bytes),
    };
    out.push(kind);
    let (name, key) = (event.name(), event.key_name());
    for part in [name, key] {
        out.push(b' ');
        match part {
            Some(part) => push_decimal(part.len() as u64, out),
            None => out.push(b'-'),
        }
    }
    let extra = event.extra_text();
    if let Some(extra) = extra {
        out.push(b' ');
        push_decimal(extra.len() as u64, out);
    }
    out.push(b'\n');
    for part in [name, key, extra] {
        out.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    out.extend_from_slice(data);
}

/// Parses a publication. `None` for bytes that no node has written: anybody can publish to these channels.
pub(super) fn parse(bytes: &[u8]) -> Option<Numbered<'_>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
    let mut fields = head.split(|byte| *byte == b' ');
    if fields.next()? != VERSION {
        return None;
    }
    let epoch = hexadecimal(fields.next()?)?;
    let number = parse_decimal(fields.next()?).filter(|it| (1..=NUMBER_MAX).contains(it))?;
    let origin = hexadecimal(fields.next()?)?;
    let token = hexadecimal(fields.next()?)?;
    let except = fields.next()?;
    let (except, except_origin) = match except.iter().position(|byte| *byte == b'@') {
        None => (hexadecimal(except)?, origin),
        Some(at) => (hexadecimal(&except[..at])?, hexadecimal(&except[at + 1..])?),
    };
    let sender = Sender {
        origin,
        token,
        except,
        except_origin,
    };
    let kind = fields.next()?;
    let (name, rest) = take_part(fields.next()?, rest)?;
    let (key, rest) = take_part(fields.next()?, rest)?;
    let (extra, data) = take_part(fields.next().unwrap_or(b"-"), rest)?;
    if fields.next().is_some() {
        return None;
    }
    let mut event = match name {
        Some(name) => Event::try_new(name).ok()?,
        None => Event::message(""),
    };
    event = match kind {
        b"t" => event.data(str::from_utf8(data).ok()?),
        b"j" => event.json(str::from_utf8(data).ok()?),
        b"b" => event.binary(Cow::Borrowed(data)),
        _ => return None,
    };
    if let Some(key) = key {
        event = event.key(key);
    }
    if let Some(extra) = extra {
        event = event.extra(extra);
    }
    Some(Numbered {
        epoch,
        number,
        sender,
        event,
    })
}

/// Takes a name or a key with the length that is announced.
fn take_part<'p>(length: &[u8], rest: &'p [u8]) -> Option<(Option<&'p str>, &'p [u8])> {
    if length == b"-" {
        return Some((None, rest));
    }
    let length = usize::try_from(parse_decimal(length)?).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    Some((Some(str::from_utf8(part).ok()?), rest))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || HEXADECIMAL_DIGITS_MAX < digits.len() {
        return None;
    }
    digits.iter().try_fold(0, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_comes_back_as_it_was() {
        let events = [
            Event::message("text"),
            Event::message(""),
            Event::message("{\"a\":\n1}"),
            Event::new("name").json("{}"),
            Event::new("").key("").data("x y"),
            Event::message("x").extra(""),
            Event::new("name").json("1").extra("\u{e9}\n"),
            Event::new("näme")
                .key("kéy")
                .binary(b"\xff\n\x00".as_slice()),
        ];
        for (index, event) in events.into_iter().enumerate() {
            let sender = Sender {
                origin: u64::MAX,
                token: 0x1f,
                except: index as u64,
                except_origin: if index < 3 { u64::MAX } else { 0xa },
            };
            let mut bytes = b"1 e 17 ".to_vec();
            encode(sender, &event, &mut bytes);
            let expected = Numbered {
                epoch: 0xe,
                number: 17,
                sender,
                event,
            };
            assert_eq!(parse(&bytes), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn other_bytes_are_no_publication() {
        let cases: &[&[u8]] = &[
            b"",
            b"\n",
            b"hello",
            b"1 e 17 0 0 0 t - -",
            b"2 e 17 0 0 0 t - -\nx",
            b"1 e 17 0 0 0 t - - 2\nx",
            b"1 e 17 0 0 0 t - - - -\nx",
            b"1 e 17 0 0 0 t -\nx",
            b"1 E 17 0 0 0 t - -\nx",
            b"1 e x 0 0 0 t - -\nx",
            b"1 e 0 0 0 0 t - -\nx",
            b"1 e 9007199254740993 0 0 0 t - -\nx",
            b"1 e 17 0 0  t - -\nx",
            b"1 e 17 0 0 1@ t - -\nx",
            b"1 e 17 0 0 @1 t - -\nx",
            b"1 e 17 0 0 1@1@1 t - -\nx",
            b"1 e 17 0 00000000000000000 0 t - -\nx",
            b"1 e 17 0 0 0 q - -\nx",
            b"1 e 17 0 0 0 t 2 -\nx",
            b"1 e 17 0 0 0 t 18446744073709551616 -\nx",
            b"1 e 17 0 0 0 t - -\n\xff",
            b"1 e 17 0 0 0 t 1 -\n\nx",
            b"1 e 17 0 0 0 t -1 -\nx",
        ];
        for bytes in cases {
            assert_eq!(parse(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
