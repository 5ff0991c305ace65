//! Checks deliveries: every subscriber gets each message of each publisher once and in order.

use super::payload::Stamp;
use super::problems::{Kind, Problems};
use super::report::counted;
use super::sequence::{Arrival, Sequence};

/// All that was published and delivered.
pub struct Deliveries {
    subscribers: usize,
    /// A sequence for each pair of a subscriber and a publisher.
    sequences: Vec<Sequence>,
    publishers: Vec<Published>,
    /// Messages that came and could not be read, and so are missing from their sequences.
    unreadable: u64,
    pub delivered: u64,
    pub expected: u64,
}

/// One publisher.
#[derive(Clone)]
struct Published {
    count: u64,
    /// For each message under way, the number of subscribers that have not got it.
    owed: Vec<u32>,
    /// Messages before this number were given up, so they take no place in `owed`.
    base: u64,
}

impl Deliveries {
    /// In a closed loop each publisher has `in_flight` messages under way.
    pub fn new(subscribers: usize, publishers: usize, in_flight: usize) -> Deliveries {
        let published = Published {
            count: 0,
            owed: vec![0; in_flight],
            base: 0,
        };
        Deliveries {
            subscribers,
            sequences: vec![Sequence::default(); subscribers * publishers],
            publishers: vec![published; publishers],
            unreadable: 0,
            delivered: 0,
            expected: 0,
        }
    }

    /// How many messages a publisher has published: the number of its next one.
    pub fn published(&self, publisher: usize) -> u64 {
        self.publishers[publisher].count
    }

    pub fn published_total(&self) -> u64 {
        self.publishers
            .iter()
            .map(|publisher| publisher.count)
            .sum()
    }

    /// Whether a publisher may have one more message under way.
    #[inline]
    pub fn has_room(&self, publisher: usize) -> bool {
        let published = &self.publishers[publisher];
        published.owed[slot(published, published.count)] == 0
    }

    /// Records that a publisher has published its next message.
    pub fn publish(&mut self, publisher: usize) {
        let published = &mut self.publishers[publisher];
        let slot = slot(published, published.count);
        published.owed[slot] = self.subscribers as u32;
        published.count += 1;
        self.expected += self.subscribers as u64;
    }

    /// Stops waiting for the messages that a publisher has under way.
    pub fn give_up(&mut self, publisher: usize) {
        let published = &mut self.publishers[publisher];
        published.owed.fill(0);
        published.base = published.count;
    }

    /// Records a message that came to a subscriber. Returns whether it was expected.
    #[inline]
    pub fn take(&mut self, subscriber: usize, stamp: &Stamp, problems: &mut Problems) -> bool {
        let publisher = stamp.publisher as usize;
        let number = stamp.number;
        if self.publishers.len() <= publisher || self.publishers[publisher].count <= number {
            problems.add(Kind::Altered, || {
                format!("subscriber {subscriber} got message {number} of publisher {publisher}, which was not sent")
            });
            return false;
        }
        let sequence = &mut self.sequences[subscriber * self.publishers.len() + publisher];
        match sequence.take(number) {
            Arrival::InOrder | Arrival::Ahead(_) => {}
            Arrival::Late => problems.add(Kind::Reordered, || {
                format!("subscriber {subscriber} got message {number} of publisher {publisher} after a later one")
            }),
            Arrival::Duplicate => {
                problems.add(Kind::Duplicated, || {
                    format!("subscriber {subscriber} got message {number} of publisher {publisher} again")
                });
                return false;
            }
        }
        self.delivered += 1;
        let published = &mut self.publishers[publisher];
        let is_under_way =
            published.base <= number && published.count <= number + published.owed.len() as u64;
        if is_under_way {
            let slot = slot(published, number);
            published.owed[slot] = published.owed[slot].saturating_sub(1);
        }
        true
    }

    /// Records bytes that came to a subscriber and are not a message of this load.
    pub fn take_unreadable(&mut self, subscriber: usize, bytes: &[u8], problems: &mut Problems) {
        self.unreadable += 1;
        problems.add(Kind::Altered, || {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(48)]);
            format!(
                "subscriber {subscriber} got {} bytes that were not sent: {shown:?}",
                bytes.len()
            )
        });
    }

    /// Whether all deliveries have come.
    pub fn is_complete(&self) -> bool {
        self.delivered + self.unreadable == self.expected
    }

    /// Counts the deliveries that have not come as lost.
    pub fn count_missing(&self, problems: &mut Problems) {
        let mut missing_total = 0;
        let mut first = None;
        for (index, sequence) in self.sequences.iter().enumerate() {
            let subscriber = index / self.publishers.len();
            let publisher = index % self.publishers.len();
            let missing = sequence.missing_of(self.publishers[publisher].count);
            missing_total += missing;
            if missing != 0 {
                first.get_or_insert((subscriber, publisher, missing));
            }
        }
        // An unreadable message is counted as altered already, and not also as lost.
        let lost = missing_total.saturating_sub(self.unreadable);
        problems.add_many(Kind::Lost, lost, || match first {
            Some((subscriber, publisher, missing)) => format!(
                "subscriber {subscriber} never got {} of publisher {publisher}",
                counted(missing, "message")
            ),
            None => "messages never came".to_owned(),
        });
    }
}

#[inline]
fn slot(published: &Published, number: u64) -> usize {
    match published.owed.len() {
        1 => 0,
        length => (number % length as u64) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u32, number: u64) -> Stamp {
        Stamp {
            is_probe: false,
            publisher,
            number,
            sent_at: 0,
        }
    }

    #[test]
    fn a_publisher_waits_until_all_members_have_its_oldest_message() {
        let mut deliveries = Deliveries::new(2, 1, 2);
        let mut problems = Problems::default();
        deliveries.publish(0);
        deliveries.publish(0);
        assert!(!deliveries.has_room(0));
        deliveries.take(0, &stamp(0, 0), &mut problems);
        deliveries.take(0, &stamp(0, 1), &mut problems);
        assert!(!deliveries.has_room(0));
        deliveries.take(1, &stamp(0, 0), &mut problems);
        assert!(deliveries.has_room(0));
        deliveries.publish(0);
        assert!(!deliveries.has_room(0));
        deliveries.give_up(0);
        assert!(deliveries.has_room(0) && !deliveries.is_complete());
        // A late delivery of a message that was given up frees no place of a later message.
        deliveries.publish(0);
        deliveries.publish(0);
        deliveries.take(1, &stamp(0, 1), &mut problems);
        assert!(!deliveries.has_room(0));
        assert_eq!(problems.count(), 0);
    }

    #[test]
    fn each_wrong_delivery_is_counted_by_its_kind() {
        let mut deliveries = Deliveries::new(1, 1, 10);
        let mut problems = Problems::default();
        for _ in 0..6 {
            deliveries.publish(0);
        }
        // 1 comes altered, 2 after 3, 3 again, 5 never; 7 was not sent.
        for number in [0, 3, 2, 3, 4, 7] {
            deliveries.take(0, &stamp(0, number), &mut problems);
        }
        deliveries.take_unreadable(0, b"what", &mut problems);
        deliveries.count_missing(&mut problems);
        let counts = [Kind::Altered, Kind::Reordered, Kind::Duplicated, Kind::Lost]
            .map(|kind| problems.count_of(kind));
        assert_eq!(counts, [2, 1, 1, 1]);
        assert_eq!((deliveries.delivered, deliveries.expected), (4, 6));
    }
}
