//! The known requests with an `Idempotency-Key`, so that a repeat publishes nothing twice.
//!
//! ```text
//!              begin                    finish, is_kept
//!   (unknown) ───────▶ under way ─────────────────────────▶ kept ──▶ forgotten, 5 minutes after `begin`
//!                         │  ▲ begin: waits                  │ begin: the first answer
//!                         └──┴── finish, not kept ──▶ (unknown)
//! ```
//!
//! A key belongs to the credential that it came with: two back ends with different tokens may use the same key. A
//! request is recognised by a hash of everything that it publishes; another one with the same key is a mistake of
//! the client, and is refused.
//!
//! Pure: the time is an argument, in seconds, and those who wait are values of the caller.
//!
//! Source: draft-ietf-httpapi-idempotency-key-header, section 2.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex};

/// Most bytes of a key.
pub(super) const KEY_BYTES_MAX: usize = 255;

/// How long an answer is kept, in seconds.
const KEPT_SECONDS: u64 = 300;

/// Most keys that are kept.
const KEYS_MAX: usize = 100_000;

/// Most bytes that all keys and answers take, about. The oldest are forgotten above it.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The bytes that a key takes beside itself and its answer: its places in two maps.
const ENTRY_BYTES: usize = 256;

/// The most keys that are forgotten in one step for their age. Each step adds one, so they are gone in time.
const FORGOTTEN_PER_STEP: usize = 16;

/// A key with the hash of its credential. The credential itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ScopedKey {
    scope: u64,
    key: Arc<[u8]>,
}

#[derive(Debug)]
enum State<W> {
    UnderWay(Vec<W>),
    Kept(Arc<[u8]>),
}

#[derive(Debug)]
struct Entry<W> {
    key: ScopedKey,
    request: [u64; 2],
    until: u64,
    state: State<W>,
}

impl<W> Entry<W> {
    fn counted_bytes(&self) -> usize {
        let answer_bytes = match &self.state {
            State::UnderWay(_) => 0,
            State::Kept(answer) => answer.len(),
        };
        ENTRY_BYTES + self.key.key.len() + answer_bytes
    }
}

/// The keys of one hub, for all of its reactors.
pub(super) type SharedIdempotency = Arc<Mutex<Idempotency<Waiter>>>;

/// Called with the answer, or with `None` when the request has done nothing.
pub(super) type Waiter = Box<dyn FnOnce(Option<Arc<[u8]>>) + Send>;

/// The keys of the requests that are known, each with `W` for those who wait.
pub(super) struct Idempotency<W> {
    /// By a number that grows with each request, so that the first one is the oldest.
    entries: BTreeMap<u64, Entry<W>>,
    numbers: HashMap<ScopedKey, u64>,
    last_number: u64,
    bytes: usize,
    hashers: [RandomState; 2],
}

/// The answer to [`Idempotency::begin`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It is new, and is to be carried out. The number is for [`Idempotency::finish`].
    New(u64),
    /// It is a repeat. Here is the first answer.
    Repeat(Arc<[u8]>),
    /// It is a repeat of one that is under way. The one who waits is told by `finish`.
    Waits,
    /// The key was used for another request.
    Mismatch,
}

impl<W> Default for Idempotency<W> {
    fn default() -> Self {
        Idempotency {
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            last_number: 0,
            bytes: 0,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }
}

impl<W> Idempotency<W> {
    /// Begins a request with this key at the second `now`. `waiter` is kept where the same one is under way.
    pub(super) fn begin(
        &mut self,
        credential: Option<&str>,
        key: &[u8],
        request: &impl Hash,
        now: u64,
        waiter: impl FnOnce() -> W,
    ) -> Begun {
        self.forget_old(now);
        let key = ScopedKey {
            scope: self.hashers[0].hash_one(credential),
            key: key.into(),
        };
        let request = [
            self.hashers[0].hash_one(request),
            self.hashers[1].hash_one(request),
        ];
        if let Some(number) = self.numbers.get(&key) {
            let entry = self.entries.get_mut(number).expect("each number has one");
            // The time is judged here too, because old ones are forgotten in steps.
            if now < entry.until {
                return match &mut entry.state {
                    _ if entry.request != request => Begun::Mismatch,
                    State::UnderWay(waiting) => {
                        waiting.push(waiter());
                        Begun::Waits
                    }
                    State::Kept(answer) => Begun::Repeat(Arc::clone(answer)),
                };
            }
            let number = *number;
            self.remove(number);
        }
        self.make_room();
        self.last_number += 1;
        let number = self.last_number;
        let entry = Entry {
            key: key.clone(),
            request,
            until: now.saturating_add(KEPT_SECONDS),
            state: State::UnderWay(Vec::new()),
        };
        self.bytes += entry.counted_bytes();
        self.numbers.insert(key, number);
        self.entries.insert(number, entry);
        Begun::New(number)
    }

    /// Ends a request. The answer is kept for repeats; without one the key may be used again, because nothing was
    /// done. Returns those who wait for it.
    pub(super) fn finish(&mut self, number: u64, answer: Option<Arc<[u8]>>) -> Vec<W> {
        let is_under_way = self
            .entries
            .get(&number)
            .is_some_and(|entry| matches!(entry.state, State::UnderWay(_)));
        // The end of one that was ended before, or has been forgotten, changes nothing.
        if !is_under_way {
            return Vec::new();
        }
        let Some(mut entry) = self.remove(number) else {
            return Vec::new();
        };
        let State::UnderWay(waiting) =
            std::mem::replace(&mut entry.state, State::UnderWay(Vec::new()))
        else {
            return Vec::new();
        };
        if let Some(answer) = answer {
            entry.state = State::Kept(answer);
            self.bytes += entry.counted_bytes();
            self.numbers.insert(entry.key.clone(), number);
            self.entries.insert(number, entry);
            self.make_room();
        }
        waiting
    }

    fn forget_old(&mut self, now: u64) {
        for _ in 0..FORGOTTEN_PER_STEP {
            match self.entries.first_key_value() {
                Some((number, oldest)) if oldest.until <= now => {
                    let number = *number;
                    self.remove(number);
                }
                _ => return,
            }
        }
    }

    fn make_room(&mut self) {
        while KEYS_MAX <= self.entries.len() || BYTES_MAX < self.bytes {
            let Some((number, _)) = self.entries.first_key_value() else {
                return;
            };
            let number = *number;
            self.remove(number);
        }
    }

    /// Those who wait for a request that is removed under way are dropped with it.
    fn remove(&mut self, number: u64) -> Option<Entry<W>> {
        let entry = self.entries.remove(&number)?;
        self.numbers.remove(&entry.key);
        self.bytes -= entry.counted_bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = Idempotency<&'static str>;

    fn begin(table: &mut Table, key: &str, request: &str, now: u64) -> Begun {
        table.begin(None, key.as_bytes(), &request, now, || "one who waits")
    }

    fn number(begun: Begun) -> u64 {
        match begun {
            Begun::New(number) => number,
            other => panic!("{other:?}"),
        }
    }

    fn answer(text: &str) -> Option<Arc<[u8]>> {
        Some(text.as_bytes().into())
    }

    #[test]
    fn a_repeat_gets_the_first_answer() {
        let mut table = Table::default();
        let first = number(begin(&mut table, "k", "a", 0));
        assert!(table.finish(first, answer("first")).is_empty());
        for now in [0, 1, 299] {
            assert_eq!(
                begin(&mut table, "k", "a", now),
                Begun::Repeat(answer("first").unwrap())
            );
            assert_eq!(begin(&mut table, "k", "b", now), Begun::Mismatch, "{now}");
        }
        let second = number(begin(&mut table, "k", "b", 300));
        assert_ne!(first, second);
        // The end of the first does not touch the second.
        assert!(table.finish(first, answer("late")).is_empty());
        assert_eq!(begin(&mut table, "k", "b", 301), Begun::Waits);
    }

    #[test]
    fn a_repeat_of_one_that_is_under_way_waits() {
        let mut table = Table::default();
        let first = number(begin(&mut table, "k", "a", 0));
        assert_eq!(begin(&mut table, "k", "a", 1), Begun::Waits);
        assert_eq!(begin(&mut table, "k", "a", 2), Begun::Waits);
        assert_eq!(begin(&mut table, "k", "b", 2), Begun::Mismatch);
        assert_eq!(table.finish(first, answer("x")).len(), 2);
        // A second end changes nothing.
        assert!(table.finish(first, answer("y")).is_empty());
        assert!(table.finish(first, None).is_empty());
        assert_eq!(
            begin(&mut table, "k", "a", 3),
            Begun::Repeat(answer("x").unwrap())
        );
    }

    #[test]
    fn one_that_did_nothing_may_be_sent_again() {
        let mut table = Table::default();
        let first = number(begin(&mut table, "k", "a", 0));
        assert_eq!(begin(&mut table, "k", "a", 1), Begun::Waits);
        assert_eq!(table.finish(first, None), ["one who waits"]);
        number(begin(&mut table, "k", "other", 2));
    }

    #[test]
    fn a_key_belongs_to_its_credential() {
        let mut table = Table::default();
        let credentials = [None, Some(""), Some("a"), Some("b")];
        for credential in credentials {
            let begun = table.begin(credential, b"k", &1, 0, || "");
            table.finish(number(begun), answer("x"));
        }
        for credential in credentials {
            let again = table.begin(credential, b"k", &1, 0, || "");
            assert!(matches!(again, Begun::Repeat(_)), "{credential:?}");
        }
    }

    #[test]
    fn keys_and_bytes_are_bounded() {
        let mut table = Table::default();
        for index in 0..KEYS_MAX + 10 {
            let begun = begin(&mut table, &index.to_string(), "a", 0);
            table.finish(number(begun), answer("x"));
        }
        assert!(table.entries.len() <= KEYS_MAX);
        assert_eq!(table.entries.len(), table.numbers.len());
        // The oldest was forgotten, the newest is there.
        number(begin(&mut table, "0", "a", 0));
        let last = (KEYS_MAX + 9).to_string();
        assert!(matches!(begin(&mut table, &last, "a", 0), Begun::Repeat(_)));

        let mut table = Table::default();
        let long = "x".repeat(1024 * 1024);
        for index in 0..50 {
            let begun = begin(&mut table, &index.to_string(), "a", 0);
            table.finish(number(begun), answer(&long));
        }
        assert!((20..32).contains(&table.entries.len()));
        assert!(table.bytes <= BYTES_MAX);
        let all: usize = table.entries.values().map(Entry::counted_bytes).sum();
        assert_eq!(all, table.bytes);
        // Old ones go in steps, and count no more before that.
        for second in 0..40 {
            begin(&mut table, &format!("later {second}"), "a", 300);
        }
        let kept = |entry: &&Entry<_>| matches!(entry.state, State::Kept(_));
        assert_eq!(table.entries.values().filter(kept).count(), 0);
    }
}
