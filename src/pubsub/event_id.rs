//! The ids of publications, which clients use as their cursors too.

use std::fmt;
use std::str::FromStr;

use crate::protocol::digits::{push_decimal, push_hexadecimal};

/// How many buckets the topics of a Redis Cluster are divided into. Each bucket has an order of its own.
pub const BUCKET_COUNT: usize = 16;

/// The length of the longest id that is written, in bytes.
pub const ID_BYTES_MAX: usize = 16 + 1 + (BUCKET_COUNT * 21 - 1) + 1 + 19;

/// The place of a publication in the one sequence of a hub.
///
/// Written `EPOCH:NUMBER`, the epoch in lower-case hexadecimal and the number in decimal. In a Redis Cluster, whose
/// topics are divided into 16 buckets, there are 16 numbers with dots between them, `EPOCH:N0.N1` to `N15`, and behind them
/// `~PLACE`, its place in the log of the reactor that heard it. A message that another program has published in Redis
/// has no number: it is written `EPOCH:NUMBER-PLACE`, with the number before it. Opaque to clients; parsing takes
/// nothing but what is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct EventId {
    /// Which run of the hub: numbers of different epochs do not compare.
    pub epoch: u64,
    /// How many publications there were in this epoch: in all buckets, if there are several.
    pub number: u64,
    /// Where the reactor has it in its own log, if it got the publication from another server; otherwise zero.
    place: u64,
    /// The numbers of the buckets, if there are several.
    buckets: Option<BucketNumbers>,
}

/// Set in the place of a message without a number.
const UNNUMBERED: u64 = 1 << 63;

/// The number of each bucket, inline, so that an id can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BucketNumbers {
    /// At least 2, at most [`BUCKET_COUNT`].
    count: u8,
    /// The bucket of the publication, or [`BUCKET_COUNT`] where the id does not say it.
    bucket: u8,
    /// Zero from `count` on.
    numbers: [u64; BUCKET_COUNT],
}

impl EventId {
    /// The id of a publication that has a number.
    #[inline]
    pub const fn new(epoch: u64, number: u64) -> EventId {
        EventId {
            epoch,
            number,
            place: 0,
            buckets: None,
        }
    }

    /// A cursor behind these numbers of the buckets, at most [`BUCKET_COUNT`] of them. With one bucket it is the plain id.
    pub(crate) fn of_buckets(epoch: u64, numbers: &[u64]) -> EventId {
        debug_assert!((1..=BUCKET_COUNT).contains(&numbers.len()));
        if let [] | [_] = numbers {
            return EventId::new(epoch, numbers.first().copied().unwrap_or(0));
        }
        let mut buckets = BucketNumbers {
            count: numbers.len().min(BUCKET_COUNT) as u8,
            bucket: BUCKET_COUNT as u8,
            numbers: [0; BUCKET_COUNT],
        };
        let mut sum = 0u64;
        for (to, number) in buckets.numbers.iter_mut().zip(numbers) {
            // A client can write any numbers.
            sum = sum.saturating_add(*number);
            *to = *number;
        }
        EventId {
            epoch,
            number: sum,
            place: 0,
            buckets: Some(buckets),
        }
    }

    /// This id as that of a publication with a number in a bucket, at a place in the reactor's log, below 2^63.
    #[must_use]
    pub(crate) fn numbered_at(mut self, bucket: usize, place: u64) -> EventId {
        self.place = place & !UNNUMBERED;
        if let Some(buckets) = &mut self.buckets {
            buckets.bucket = bucket.min(BUCKET_COUNT) as u8;
        }
        self
    }

    /// This id as that of a message without a number, with the numbers before it, at a place in the reactor's log, below
    /// 2^63.
    #[must_use]
    pub(crate) fn unnumbered_at(mut self, place: u64) -> EventId {
        self.place = place | UNNUMBERED;
        self
    }

    /// This id with at least these numbers of the buckets: a client has got them before, from elsewhere, and the cursor
    /// must not lie behind that. It keeps its place, so that the cursor is
    /// exact in the reactor's log.
    #[must_use]
    #[cfg_attr(
        not(all(feature = "redis", feature = "hub")),
        allow(dead_code, reason = "the engine of Redis needs it")
    )]
    pub(crate) fn raised_to(&self, numbers: &[u64]) -> EventId {
        let mut raised = [0; BUCKET_COUNT];
        let raised = &mut raised[..self.bucket_count()];
        let mut is_raised = false;
        for (bucket, to) in raised.iter_mut().enumerate() {
            let own = self.number_in(bucket);
            *to = own.max(numbers.get(bucket).copied().unwrap_or(0));
            is_raised |= own < *to;
        }
        match is_raised {
            true => EventId::of_buckets(self.epoch, raised).unnumbered_at(self.place),
            false => *self,
        }
    }

    /// How many buckets it has a number of: 1, or 16 in a Redis Cluster.
    pub fn bucket_count(&self) -> usize {
        self.buckets.as_ref().map_or(1, |it| usize::from(it.count))
    }

    /// The number of a bucket. Bucket 0 of an id without buckets has its number. Zero for a bucket that it does not have.
    pub fn number_in(&self, bucket: usize) -> u64 {
        match &self.buckets {
            Some(it) => it.numbers.get(bucket).copied().unwrap_or(0),
            None if bucket == 0 => self.number,
            None => 0,
        }
    }

    /// The place in the log of a reactor, for a message without a number.
    pub(crate) fn unnumbered_place(&self) -> Option<u64> {
        (self.place & UNNUMBERED != 0).then_some(self.place & !UNNUMBERED)
    }

    /// A cursor directly before this publication, which is not the first one.
    pub(crate) fn cursor_before(&self) -> EventId {
        match (self.place, self.unnumbered_place()) {
            (0, _) => self.before_its_number(),
            (_, Some(place)) => self.unnumbered_at(place - 1),
            (place, None) => self.before_its_number().unnumbered_at(place - 1),
        }
    }

    fn before_its_number(&self) -> EventId {
        let Some(buckets) = &self.buckets else {
            return EventId::new(self.epoch, self.number - 1);
        };
        let mut numbers = buckets.numbers;
        match numbers.get_mut(usize::from(buckets.bucket)) {
            Some(number) => *number = number.saturating_sub(1),
            // It is in one of the buckets. A member gets a publication again rather than misses it.
            None => (numbers.iter_mut()).for_each(|number| *number = number.saturating_sub(1)),
        }
        EventId::of_buckets(self.epoch, &numbers[..usize::from(buckets.count)])
    }

    /// Appends the id as `Display` writes it.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        push_hexadecimal(self.epoch, out);
        out.push(b':');
        match &self.buckets {
            None => push_decimal(self.number, out),
            Some(buckets) => buckets.encode(out),
        }
        if let Some((mark, place)) = self.shown_place() {
            out.push(mark as u8);
            push_decimal(place, out);
        }
    }

    /// The place in the log of a reactor, if it stands in the text.
    pub(crate) fn log_place(&self) -> Option<u64> {
        self.shown_place().map(|(_, place)| place)
    }

    /// The place that stands in the text, and the character before it. The numbers of several buckets do not say where
    /// the id stands among messages without numbers, so the place does.
    fn shown_place(&self) -> Option<(char, u64)> {
        match (&self.buckets, self.unnumbered_place()) {
            (_, Some(place)) => Some(('-', place)),
            (Some(_), None) if self.place != 0 => Some(('~', self.place)),
            _ => None,
        }
    }
}

impl BucketNumbers {
    fn numbers(&self) -> &[u64] {
        &self.numbers[..usize::from(self.count)]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (index, number) in self.numbers().iter().enumerate() {
            if index != 0 {
                out.push(b'.');
            }
            push_decimal(*number, out);
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", self.epoch)?;
        match &self.buckets {
            None => write!(f, "{}", self.number)?,
            Some(buckets) => {
                for (index, number) in buckets.numbers().iter().enumerate() {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{number}")?;
                }
            }
        }
        match self.shown_place() {
            Some((mark, place)) => write!(f, "{mark}{place}"),
            None => Ok(()),
        }
    }
}

/// A text that is not an [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventIdError;

impl fmt::Display for EventIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an event id: EPOCH:NUMBER expected")
    }
}

impl std::error::Error for EventIdError {}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<EventId, EventIdError> {
        let (epoch, numbers) = text.split_once(':').ok_or(EventIdError)?;
        let epoch = parse_digits(epoch, 16)?;
        let mark = numbers.find(['-', '~']);
        let (numbers, place) = numbers.split_at(mark.unwrap_or(numbers.len()));
        let id = match numbers.contains('.') {
            true => EventId::of_buckets(epoch, &parse_buckets(numbers)?),
            false => EventId::new(epoch, parse_digits(numbers, 10)?),
        };
        let Some(mark) = place.chars().next() else {
            return Ok(id);
        };
        let place = parse_digits(&place[1..], 10)?;
        // A place of zero stands before everything in a log, and is never given.
        if place == 0 || place & UNNUMBERED != 0 {
            return Err(EventIdError);
        }
        match (mark, &id.buckets) {
            ('-', _) => Ok(id.unnumbered_at(place)),
            (_, Some(_)) => Ok(id.numbered_at(BUCKET_COUNT, place)),
            (_, None) => Err(EventIdError),
        }
    }
}

fn parse_buckets(text: &str) -> Result<[u64; BUCKET_COUNT], EventIdError> {
    let mut numbers = [0; BUCKET_COUNT];
    let mut parts = text.split('.');
    for number in &mut numbers {
        *number = parse_digits(parts.next().ok_or(EventIdError)?, 10)?;
    }
    match parts.next() {
        None => Ok(numbers),
        Some(_) => Err(EventIdError),
    }
}

// `from_str_radix` takes a leading `+`, leading zeros and upper case: several texts for one id.
fn parse_digits(digits: &str, radix: u32) -> Result<u64, EventIdError> {
    let is_canonical = match digits.as_bytes() {
        b"0" => true,
        [b'0', ..] => false,
        bytes => bytes
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
    };
    if !is_canonical {
        return Err(EventIdError);
    }
    u64::from_str_radix(digits, radix).map_err(|_| EventIdError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_parsed() {
        let id = |epoch, number| Ok(EventId::new(epoch, number));
        let unnumbered =
            |epoch, number, place| Ok(EventId::new(epoch, number).unnumbered_at(place));
        let most = vec!["18446744073709551615"; 16].join(".");
        let longest = format!("ffffffffffffffff:{most}-9223372036854775807");
        assert_eq!(longest.len(), ID_BYTES_MAX);
        let buckets = |epoch, last| {
            let mut numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
            numbers[15] = last;
            EventId::of_buckets(epoch, &numbers)
        };
        let cases: &[(&str, Result<EventId, EventIdError>)] = &[
            ("0:0", id(0, 0)),
            ("1f:10", id(0x1f, 10)),
            (
                "ffffffffffffffff:18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
            ("1f:0-1", unnumbered(0x1f, 0, 1)),
            ("1:7-9223372036854775807", unnumbered(1, 7, i64::MAX as u64)),
            ("1:7-9223372036854775808", Err(EventIdError)),
            ("1:7-0", Err(EventIdError)),
            ("1:7-01", Err(EventIdError)),
            ("1:7-", Err(EventIdError)),
            ("1:7-1-1", Err(EventIdError)),
            ("1:-1", Err(EventIdError)),
            ("10000000000000000:1", Err(EventIdError)),
            ("1:18446744073709551616", Err(EventIdError)),
            ("1F:10", Err(EventIdError)),
            ("01:1", Err(EventIdError)),
            ("1:01", Err(EventIdError)),
            ("1:00", Err(EventIdError)),
            ("1:a", Err(EventIdError)),
            ("+1:1", Err(EventIdError)),
            ("1:+1", Err(EventIdError)),
            ("1:-1", Err(EventIdError)),
            ("1: 1", Err(EventIdError)),
            (" 1:1", Err(EventIdError)),
            ("1:1\n", Err(EventIdError)),
            ("1:1:1", Err(EventIdError)),
            ("1:", Err(EventIdError)),
            (":1", Err(EventIdError)),
            (":", Err(EventIdError)),
            ("", Err(EventIdError)),
            ("1", Err(EventIdError)),
            ("g:1", Err(EventIdError)),
            ("1:١", Err(EventIdError)),
            (
                "1f:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15",
                Ok(buckets(0x1f, 15)),
            ),
            (
                "1f:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.150-7",
                Ok(buckets(0x1f, 150).unnumbered_at(7)),
            ),
            (
                &longest,
                Ok(EventId::of_buckets(u64::MAX, &[u64::MAX; 16]).unnumbered_at(i64::MAX as u64)),
            ),
            ("1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14", Err(EventIdError)),
            (
                "1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16",
                Err(EventIdError),
            ),
            ("1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.", Err(EventIdError)),
            ("1:.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15", Err(EventIdError)),
            (
                "1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.",
                Err(EventIdError),
            ),
            (
                "1:0.01.2.3.4.5.6.7.8.9.10.11.12.13.14.15",
                Err(EventIdError),
            ),
            (
                "1:0.+1.2.3.4.5.6.7.8.9.10.11.12.13.14.15",
                Err(EventIdError),
            ),
            ("1:0.a.2.3.4.5.6.7.8.9.10.11.12.13.14.15", Err(EventIdError)),
            (
                "1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15-0",
                Err(EventIdError),
            ),
            (
                "1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15-1.1",
                Err(EventIdError),
            ),
            (
                "1.1:0.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15",
                Err(EventIdError),
            ),
            ("1:1.1", Err(EventIdError)),
            ("1:.", Err(EventIdError)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<EventId>(), *expected, "{text:?}");
            if let Ok(id) = expected {
                assert_eq!(id.to_string(), *text);
                let mut encoded = Vec::new();
                id.encode(&mut encoded);
                assert_eq!(encoded, text.as_bytes());
            }
        }
    }

    #[test]
    fn the_error_of_an_id_says_what_was_expected() {
        assert_eq!(
            EventIdError.to_string(),
            "not an event id: EPOCH:NUMBER expected"
        );
    }

    #[test]
    fn numbers_of_buckets() {
        let cases: &[(&[u64], u64)] = &[
            (&[7], 7),
            (&[1, 2], 3),
            (&[0; 16], 0),
            (&[u64::MAX; 16], u64::MAX),
        ];
        for (numbers, sum) in cases {
            let id = EventId::of_buckets(0xe, numbers);
            assert_eq!((id.epoch, id.number), (0xe, *sum));
            assert_eq!(id.bucket_count(), numbers.len());
            let all: Vec<u64> = (0..numbers.len()).map(|it| id.number_in(it)).collect();
            assert_eq!(all, *numbers);
            assert_eq!(id.number_in(numbers.len()), 0);
        }
        assert_eq!(EventId::of_buckets(0xe, &[7]), EventId::new(0xe, 7));
    }

    #[test]
    fn cursors_are_raised() {
        let buckets = EventId::of_buckets(0xe, &[3, 0, 5]);
        let cases: &[(EventId, &[u64], &str)] = &[
            (EventId::new(0xe, 7).unnumbered_at(9), &[], "e:7-9"),
            (EventId::new(0xe, 7).unnumbered_at(9), &[7], "e:7-9"),
            (EventId::new(0xe, 7).unnumbered_at(9), &[8], "e:8-9"),
            (EventId::new(0xe, 7).numbered_at(0, 9), &[7], "e:7"),
            (buckets.numbered_at(0, 9), &[], "e:3.0.5~9"),
            (buckets.numbered_at(0, 9), &[2, 0, 5], "e:3.0.5~9"),
            (buckets.numbered_at(0, 9), &[2, 1, 6], "e:3.1.6-9"),
            (buckets.unnumbered_at(9), &[4, 0, 0], "e:4.0.5-9"),
        ];
        for (id, numbers, raised) in cases {
            assert_eq!(id.raised_to(numbers).to_string(), *raised);
        }
    }

    #[test]
    fn cursors_before_a_publication() {
        let buckets = EventId::of_buckets(0xe, &[3, 0, 5]);
        let cases = [
            (EventId::new(0xe, 7), "e:6"),
            (EventId::new(0xe, 7).numbered_at(0, 9), "e:6-8"),
            (EventId::new(0xe, 7).unnumbered_at(9), "e:7-8"),
            (buckets.numbered_at(0, 9), "e:2.0.5-8"),
            (buckets.numbered_at(2, 9), "e:3.0.4-8"),
            (buckets.unnumbered_at(9), "e:3.0.5-8"),
            // Before the publication in each bucket that it can be of.
            (buckets, "e:2.0.4"),
        ];
        for (id, before) in cases {
            assert_eq!(id.cursor_before().to_string(), before, "{id}");
        }
    }
}
