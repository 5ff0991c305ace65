//! The text of a fan-out message: its publisher, its number and the time it was sent.
//!
//! ```text
//!   m 00a0 000000002f 00000001f4c2d b71c ABCDEF...
//!   │ │    │          │             │    └ the same in all messages
//!   │ │    │          │             └ checksum of all before it
//!   │ │    │          └ nanoseconds on the clock of the load
//!   │ │    └ number among those of the publisher
//!   │ └ publisher
//!   └ m: message, p: probe
//! ```
//!
//! Hexadecimal digits without the blanks are text in any protocol and need no escapes in JSON. The
//! checksum detects a number that was changed on its way.

/// Length of everything before the filling.
pub const HEADER_BYTES: usize = 32;

const CHECKED_BYTES: usize = 28;
const MESSAGE: u8 = b'm';
const PROBE: u8 = b'p';

/// Publishers that four digits can number.
pub const PUBLISHERS_MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whether it was sent only to find out which subscribers are subscribed.
    pub is_probe: bool,
    pub publisher: u32,
    pub number: u64,
    /// Nanoseconds.
    pub sent_at: u64,
}

/// The part that all messages of one length share.
pub fn filling(bytes: usize) -> String {
    // Letters and digits need no escapes. The period is no power of two, so that a copy that is
    // shifted by a buffer's size differs.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz012345678";
    letters
        .iter()
        .cycle()
        .take(bytes)
        .map(|byte| char::from(*byte))
        .collect()
}

/// JSON as an application sends it: a list of records, with blanks behind it up to this length.
pub fn json(bytes: usize) -> String {
    let mut text = "[".to_owned();
    let mut number: u64 = 1;
    loop {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (id, price, stock) = (number >> 40, number >> 48 & 0xffff, number >> 33 & 0xff);
        let record = format!(
            "{{\"id\":{id},\"name\":\"article {price}\",\"price\":{}.{:02},\"stock\":{stock},\"tags\":[\"new\",\"sale\"]}},",
            price / 100,
            price % 100
        );
        if bytes <= text.len() + record.len() {
            break;
        }
        text.push_str(&record);
    }
    text.truncate(text.trim_end_matches(',').len());
    text.push(']');
    text.extend(std::iter::repeat_n(' ', bytes.saturating_sub(text.len())));
    text.truncate(bytes);
    text
}

impl Stamp {
    /// Makes `text` the message with this stamp.
    pub fn write(&self, filling: &str, text: &mut String) {
        let mut header = [0; HEADER_BYTES];
        header[0] = if self.is_probe { PROBE } else { MESSAGE };
        write_digits(u64::from(self.publisher), &mut header[1..5]);
        write_digits(self.number, &mut header[5..15]);
        write_digits(self.sent_at, &mut header[15..CHECKED_BYTES]);
        let check = checksum(&header);
        write_digits(check, &mut header[CHECKED_BYTES..]);
        text.clear();
        text.push_str(str::from_utf8(&header).expect("digits and a letter"));
        text.push_str(filling);
    }

    /// The stamp of a received message, or `None` when the message is not one of ours or was changed.
    #[inline]
    pub fn read(message: &[u8], filling: &str) -> Option<Stamp> {
        let (header, rest) = message.split_first_chunk::<HEADER_BYTES>()?;
        if rest != filling.as_bytes() {
            return None;
        }
        let is_probe = match header[0] {
            MESSAGE => false,
            PROBE => true,
            _ => return None,
        };
        if read_digits(&header[CHECKED_BYTES..])? != checksum(header) {
            return None;
        }
        Some(Stamp {
            is_probe,
            publisher: read_digits(&header[1..5])? as u32,
            number: read_digits(&header[5..15])?,
            sent_at: read_digits(&header[15..CHECKED_BYTES])?,
        })
    }
}

fn write_digits(number: u64, out: &mut [u8]) {
    let mut rest = number;
    for byte in out.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
}

#[inline]
fn read_digits(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = (number << 4) | u64::from(value);
    }
    Some(number)
}

/// Sixteen bits that most likely change when any byte before them changes.
#[inline]
fn checksum(header: &[u8; HEADER_BYTES]) -> u64 {
    let mut sum = 0_u64;
    for bytes in header[..CHECKED_BYTES].chunks_exact(4) {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        sum = (sum.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    sum >> 48
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        is_probe: false,
        publisher: 0xa0,
        number: 0x2f,
        sent_at: 0x1f4c2d,
    };

    #[test]
    fn json_has_the_length_that_is_asked_for() {
        for bytes in [1, 2, 100, 1000, 16 * 1024] {
            assert_eq!(json(bytes).len(), bytes);
        }
        let parsed: serde_json::Value = serde_json::from_str(&json(1000)).unwrap();
        assert!(10 < parsed.as_array().unwrap().len());
    }

    #[test]
    fn a_written_payload_is_read_back() {
        for bytes in [0, 1, 1000] {
            let filling = filling(bytes);
            for stamp in [
                STAMP,
                Stamp {
                    is_probe: true,
                    publisher: 0xffff,
                    number: (1 << 40) - 1,
                    sent_at: (1 << 52) - 1,
                },
            ] {
                let mut text = "before".to_owned();
                stamp.write(&filling, &mut text);
                assert_eq!(text.len(), HEADER_BYTES + bytes);
                assert_eq!(Stamp::read(text.as_bytes(), &filling), Some(stamp));
            }
        }
    }

    #[test]
    fn any_changed_byte_is_detected() {
        let filling = filling(10);
        let mut text = String::new();
        STAMP.write(&filling, &mut text);
        for index in 0..text.len() {
            for change in [1, 2, 0x20] {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= change;
                assert_eq!(Stamp::read(&bytes, &filling), None, "{index} {change}");
            }
        }
        for length in 0..text.len() {
            assert_eq!(Stamp::read(&text.as_bytes()[..length], &filling), None);
        }
    }
}
