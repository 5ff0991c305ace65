//! One order for the publications of several reactors, and a mailbox for each of them.
//!
//! ```text
//!  publisher ─▶ lock of the order ── number, history ──┬─▶ mailbox ─▶ reactor ─▶ its members ─┐
//!      ▲                                               ├─▶ mailbox ─▶ reactor ─▶ its members ─┤
//!      │                                               └─▶ its own mailbox ─▶ its members ────┤
//!      └────────────────── outcome: the members of all, from the last reactor ◀───────────────┘
//! ```
//!
//! All mailboxes get all publications in the order of their numbers. Under the lock of the order a publication is
//! numbered, put into the history, and its shared body appended to each mailbox. Encoding, logging, dropping
//! and waking happen outside. The locks are taken in one order: that of the order, then that of a mailbox.
//!
//! Users that join and leave topics take the same way, without a number: see `presence.rs`.
//!
//! A reactor that does not take its post is behind alone: when its mailbox is full, what comes next is not put
//! in, and the reactor reads it from the history when it goes on. Its members are told of a gap where the
//! history has forgotten something by then.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::body::Body;
use super::event_id::EventId;
use super::history::History;
use super::presence::{COUNT_INTERVAL, PRESENCE_USERS_MAX, Presence, TopicChange};

/// The bytes that a post counts beside its body.
const POST_BYTES: usize = 2 * size_of::<Post>() + size_of::<Receipt>();

/// Most posts that a reactor takes under one hold of the lock of its mailbox.
pub const TAKE_MAX: usize = 256;

/// The least time between two counts of one topic's users in a group. Twice that of one reactor, because the
/// clocks of reactors agree to a second only.
const GROUP_COUNT_INTERVAL: Duration = COUNT_INTERVAL.saturating_mul(2);

/// Wakes a reactor that may be waiting in its poll. Called without any lock.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// The order of several reactors, which each have a place in it.
pub struct Sequencer {
    epoch: u64,
    order: Mutex<Order>,
    places: Box<[Place]>,
    /// The limit of each mailbox, in bytes.
    mailbox_bytes_max: usize,
}

struct Order {
    history: History,
    /// Each reactor has a share of its own, by its place.
    presence: Presence,
}

struct Place {
    mailbox: Mutex<Mailbox>,
    /// Set with each post, and taken away before the mailbox is read: the bell rings once for all that is put
    /// in between.
    has_post: AtomicBool,
    bell: OnceLock<Bell>,
}

#[derive(Default)]
struct Mailbox {
    /// A reactor has taken the place and has not ended.
    is_open: bool,
    /// It has not come to its mailbox for long: no publisher waits for it.
    is_stuck: bool,
    posts: VecDeque<Post>,
    bytes: usize,
    /// Changes of presence found the mailbox full.
    has_lost_changes: bool,
    /// Marks that found the mailbox full, in their order.
    lost_marks: Vec<u64>,
    /// Publications from this number on found the mailbox full.
    lost_from: Option<u64>,
    outcomes: Vec<Outcome>,
}

/// A publication on its way to one reactor, or a change of presence.
pub struct Post {
    /// Its number; of a change that of the last publication before it.
    pub number: u64,
    /// The publication or the change.
    pub content: Content,
    /// A place, and the member there that is left out.
    except: Option<(u16, u64)>,
    /// Where the members are counted, for a publisher that wants to know.
    receipt: Option<Arc<Receipt>>,
}

/// The content of a [`Post`].
#[derive(Clone)]
pub enum Content {
    /// A publication.
    Publication(Body),
    /// A change of presence.
    Change(Arc<TopicChange>),
    /// A place between the changes that a reactor has marked for itself, with its number for it.
    Mark(u64),
}

/// The outcome of a publication, for a publisher that wants to know how many members got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The number that the publisher gave it.
    pub token: u64,
    /// The id of the publication.
    pub id: EventId,
    /// The members of all reactors that have taken it.
    pub delivered: usize,
}

/// Counts the members of one publication on all reactors. Each mailbox that has the publication holds a
/// reference; dropping the last one reports to the publisher, also where a reactor has ended.
struct Receipt {
    sequencer: Arc<Sequencer>,
    publisher: usize,
    token: u64,
    id: OnceLock<EventId>,
    delivered: AtomicUsize,
}

/// A part of a mailbox that its reactor has taken.
#[derive(Default)]
pub struct Taken {
    /// In the order of their numbers.
    pub posts: VecDeque<Post>,
    /// Of publications of this reactor.
    pub outcomes: Vec<Outcome>,
    /// Behind `posts`, the publications after the first of these numbers up to the second were not put in.
    pub lost: Option<(u64, u64)>,
    /// Behind all these, changes of presence were not put in.
    pub has_lost_changes: bool,
    /// Marks that stood between the changes that were not put in.
    pub lost_marks: Vec<u64>,
}

impl Post {
    /// The member at a place that is left out.
    pub fn except(&self, place: usize) -> Option<u64> {
        let (publisher, member) = self.except?;
        (usize::from(publisher) == place).then_some(member)
    }

    /// Counts members that have got it.
    pub fn add_delivered(&self, delivered: usize) {
        if let Some(receipt) = &self.receipt {
            receipt.delivered.fetch_add(delivered, Ordering::Relaxed);
        }
    }

    fn counted_bytes(&self) -> usize {
        let content_bytes = match &self.content {
            Content::Publication(body) => body.counted_bytes(),
            Content::Change(change) => change.counted_bytes(),
            Content::Mark(_) => 0,
        };
        POST_BYTES + content_bytes
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            let outcome = Outcome {
                token: self.token,
                id: *id,
                delivered: *self.delivered.get_mut(),
            };
            self.sequencer.report(self.publisher, outcome);
        }
    }
}

impl Sequencer {
    /// An order with so many places, whose mailboxes have at most `mailbox_bytes_max` bytes each.
    pub fn new(place_count: usize, mailbox_bytes_max: usize, history: History) -> Sequencer {
        let place = |_| Place {
            mailbox: Mutex::default(),
            has_post: AtomicBool::new(false),
            bell: OnceLock::new(),
        };
        let mut presence = Presence::new(PRESENCE_USERS_MAX);
        presence.set_count_interval(GROUP_COUNT_INTERVAL);
        Sequencer {
            epoch: history.head().epoch,
            order: Mutex::new(Order { history, presence }),
            places: (0..place_count).map(place).collect(),
            mailbox_bytes_max,
        }
    }

    /// The run of the order; see [`EventId::epoch`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes a place: from now on its mailbox gets every publication. Returns the id of the last one before.
    pub fn open(&self, place: usize, bell: Bell) -> EventId {
        let order = self.order();
        let _ = self.places[place].bell.set(bell);
        self.mailbox(place).is_open = true;
        order.history.head()
    }

    /// Gives a place back. The content of its mailbox is dropped without any lock. The users of its connections
    /// have left.
    pub fn close(&self, place: usize) {
        let mut order = self.order();
        let mailbox = take(&mut *self.mailbox(place));
        let changes = order.presence.remove_share(place as u16);
        self.post_changes(order, changes, None);
        drop(mailbox);
    }

    /// Changes the presence of a place, and puts the changes that members have to be told into every open mailbox.
    /// Behind these comes a mark with the number `mark`, in the mailbox of the place alone. Returns the moment at which
    /// counts are [due](Presence::next_due).
    pub fn change_presence(
        &self,
        place: usize,
        mark: Option<u64>,
        call: impl FnOnce(&mut Presence, u16) -> Vec<TopicChange>,
    ) -> Option<Duration> {
        let mut order = self.order();
        let changes = call(&mut order.presence, place as u16);
        let due = order.presence.next_due();
        self.post_changes(order, changes, mark.map(|mark| (place, mark)));
        due
    }

    /// Looks at the presence of all places.
    pub fn with_presence<R>(&self, call: impl FnOnce(&mut Presence) -> R) -> R {
        call(&mut self.order().presence)
    }

    /// `mark` is a place, and the number of the mark that it gets behind the changes.
    fn post_changes(
        &self,
        order: MutexGuard<'_, Order>,
        changes: Vec<TopicChange>,
        mark: Option<(usize, u64)>,
    ) {
        if changes.is_empty() && mark.is_none() {
            return;
        }
        let number = order.history.head().number;
        let post = |content| Post {
            number,
            content,
            except: None,
            receipt: None,
        };
        let changes = changes.into_iter().map(Arc::new).map(Content::Change);
        let posts: Vec<Post> = changes.map(post).collect();
        for index in 0..self.places.len() {
            let mut mailbox = self.mailbox(index);
            for post in &posts {
                mailbox.put(post, self.mailbox_bytes_max);
            }
            if let Some((place, mark)) = mark.filter(|(place, _)| *place == index) {
                mailbox.put(&post(Content::Mark(mark)), self.mailbox_bytes_max);
                if posts.is_empty() {
                    drop(mailbox);
                    self.places[place].ring();
                }
            }
        }
        drop(order);
        if posts.is_empty() {
            return;
        }
        drop(posts);
        for place in &self.places {
            place.ring();
        }
    }

    /// Looks at the order and its history, or changes it. Publishing waits meanwhile: no more than a page of
    /// history may be read at once.
    pub fn with_history<R>(&self, call: impl FnOnce(&mut History) -> R) -> R {
        let mut order = self.order();
        let result = call(&mut order.history);
        let evicted = order.history.take_evicted();
        drop(order);
        drop(evicted);
        result
    }

    /// Numbers a publication and puts it into the history and into every open mailbox. `except` is a place, and a member
    /// there that is left out. With a token, an [`Outcome`] comes to the publisher when all have taken it.
    /// Returns the id.
    pub fn publish(
        self: &Arc<Self>,
        publisher: usize,
        second: u32,
        body: Body,
        except: Option<(u16, u64)>,
        token: Option<u64>,
    ) -> EventId {
        let receipt = token.map(|token| {
            Arc::new(Receipt {
                sequencer: Arc::clone(self),
                publisher,
                token,
                id: OnceLock::new(),
                delivered: AtomicUsize::new(0),
            })
        });
        let mut order = self.order();
        let id = order.history.append(body.topic(), second, || body.clone());
        if let Some(receipt) = &receipt {
            let _ = receipt.id.set(id);
        }
        let post = Post {
            number: id.number,
            content: Content::Publication(body),
            except,
            receipt,
        };
        for index in 0..self.places.len() {
            self.mailbox(index).put(&post, self.mailbox_bytes_max);
        }
        let evicted = order.history.take_evicted();
        drop(order);
        drop(evicted);
        drop(post);
        for place in &self.places {
            place.ring();
        }
        id
    }

    /// Whether there is something to take at a place.
    #[inline]
    pub fn has_post(&self, place: usize) -> bool {
        self.places[place].has_post.load(Ordering::Acquire)
    }

    /// Takes the next posts of a place, at most [`TAKE_MAX`].
    pub fn take(&self, place: usize) -> Taken {
        // Before the mailbox is read: a post that comes in between rings the bell once more for nothing.
        self.places[place].has_post.store(false, Ordering::Release);
        let mut mailbox = self.mailbox(place);
        mailbox.is_stuck = false;
        if mailbox.posts.is_empty() && mailbox.lost_from.is_some() {
            drop(mailbox);
            return self.take_lost(place);
        }
        let outcomes = take(&mut mailbox.outcomes);
        let count = mailbox.posts.len().min(TAKE_MAX);
        let rest = mailbox.posts.split_off(count);
        let posts = std::mem::replace(&mut mailbox.posts, rest);
        mailbox.bytes -= posts.iter().map(Post::counted_bytes).sum::<usize>();
        let has_more = !mailbox.posts.is_empty() || mailbox.lost_from.is_some();
        let (mut has_lost_changes, mut lost_marks) = (false, Vec::new());
        if !has_more {
            has_lost_changes = take(&mut mailbox.has_lost_changes);
            lost_marks = take(&mut mailbox.lost_marks);
        }
        drop(mailbox);
        if has_more {
            self.places[place].has_post.store(true, Ordering::Release);
        }
        Taken {
            posts,
            outcomes,
            lost: None,
            has_lost_changes,
            lost_marks,
        }
    }

    /// Under both locks, so that the next publication is put into the mailbox again.
    fn take_lost(&self, place: usize) -> Taken {
        let order = self.order();
        let mut mailbox = self.mailbox(place);
        let posts = take(&mut mailbox.posts);
        mailbox.bytes = 0;
        let lost_from = mailbox.lost_from.take();
        Taken {
            posts,
            outcomes: take(&mut mailbox.outcomes),
            lost: lost_from.map(|from| (from - 1, order.history.head().number)),
            has_lost_changes: take(&mut mailbox.has_lost_changes),
            lost_marks: take(&mut mailbox.lost_marks),
        }
    }

    /// No publisher waits any longer for the reactors that have not taken the publication with this number. They
    /// are waited for again when they come to their mailboxes.
    pub fn skip_stuck(&self, number: u64) {
        for place in 0..self.places.len() {
            let mut mailbox = self.mailbox(place);
            let is_stuck = |first: &Post| match first.content {
                Content::Publication(_) => first.number <= number,
                Content::Change(_) | Content::Mark(_) => first.number < number,
            };
            if !mailbox.posts.front().is_some_and(is_stuck) {
                continue;
            }
            mailbox.is_stuck = true;
            let posts = mailbox.posts.iter_mut();
            let receipts: Vec<_> = posts.filter_map(|post| post.receipt.take()).collect();
            // Dropping a receipt takes the lock of the publisher's mailbox.
            drop(mailbox);
            drop(receipts);
        }
    }

    fn report(&self, publisher: usize, outcome: Outcome) {
        let mut mailbox = self.mailbox(publisher);
        if !mailbox.is_open {
            return;
        }
        mailbox.outcomes.push(outcome);
        drop(mailbox);
        self.places[publisher].ring();
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self, place: usize) -> MutexGuard<'_, Mailbox> {
        let mailbox = &self.places[place].mailbox;
        mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    fn put(&mut self, post: &Post, bytes_max: usize) {
        if !self.is_open {
            return;
        }
        let bytes = post.counted_bytes();
        let is_full = bytes_max < self.bytes + bytes && !self.posts.is_empty();
        // A change that comes behind lost ones would be told before them.
        let is_behind = match post.content {
            Content::Publication(_) => false,
            Content::Change(_) | Content::Mark(_) => self.has_lost_changes,
        };
        if is_full || is_behind || self.lost_from.is_some() {
            match post.content {
                Content::Publication(_) => _ = self.lost_from.get_or_insert(post.number),
                Content::Change(_) => self.has_lost_changes = true,
                Content::Mark(mark) => {
                    self.has_lost_changes = true;
                    self.lost_marks.push(mark);
                }
            }
            return;
        }
        self.bytes += bytes;
        let receipt = match self.is_stuck {
            true => None,
            false => post.receipt.clone(),
        };
        self.posts.push_back(Post {
            number: post.number,
            content: post.content.clone(),
            except: post.except,
            receipt,
        });
    }
}

impl Place {
    fn ring(&self) {
        if let Some(bell) = self.bell.get()
            && !self.has_post.swap(true, Ordering::AcqRel)
        {
            bell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Scratch;
    use super::super::event::Event;
    use super::super::presence::{PresenceChange, User};
    use super::super::rules::Rules;
    use super::*;

    fn sequencer(bytes_max: usize, rings: &Arc<AtomicUsize>) -> Arc<Sequencer> {
        let mut history = History::new(1);
        history.keep(Rules::new(), 1 << 20);
        let sequencer = Arc::new(Sequencer::new(3, bytes_max, history));
        for place in 0..2 {
            let rings = Arc::clone(rings);
            let bell = move || {
                rings.fetch_add(1, Ordering::Relaxed);
            };
            assert_eq!(sequencer.open(place, Box::new(bell)).number, 0);
        }
        sequencer
    }

    fn publish(sequencer: &Arc<Sequencer>, text: &str, token: Option<u64>) -> u64 {
        let event: Event<'_> = text.into();
        let body = Body::new("t", &event, &mut Scratch::default());
        sequencer.publish(0, 0, body, Some((0, 5)), token).number
    }

    fn numbers(taken: &Taken) -> Vec<u64> {
        taken.posts.iter().map(|post| post.number).collect()
    }

    #[test]
    fn every_open_mailbox_gets_all_in_order() {
        let rings = Arc::default();
        let sequencer = sequencer(1 << 20, &rings);
        for _ in 0..300 {
            publish(&sequencer, "x", None);
        }
        assert_eq!(
            rings.load(Ordering::Relaxed),
            2,
            "one for each, until it is taken"
        );
        for place in 0..2 {
            let first = sequencer.take(place);
            assert_eq!(numbers(&first), (1..=256).collect::<Vec<_>>());
            assert_eq!(first.posts[0].except(place), (place == 0).then_some(5));
            assert!(sequencer.has_post(place));
            assert_eq!(
                numbers(&sequencer.take(place)),
                (257..=300).collect::<Vec<_>>()
            );
            assert!(!sequencer.has_post(place));
        }
        assert!(sequencer.take(2).posts.is_empty(), "no reactor is there");
    }

    #[test]
    fn an_outcome_comes_when_all_have_taken_it_or_ended() {
        let rings = Arc::default();
        let sequencer = sequencer(1 << 20, &rings);
        for token in [7, 8] {
            let number = publish(&sequencer, "x", Some(token));
            let own = sequencer.take(0);
            own.posts[0].add_delivered(2);
            drop(own);
            assert_eq!(sequencer.take(0).outcomes, []);
            if token == 7 {
                sequencer.take(1).posts[0].add_delivered(3);
            } else {
                sequencer.close(1);
            }
            let delivered = if token == 7 { 5 } else { 2 };
            let id = EventId::new(1, number);
            let outcome = Outcome {
                token,
                id,
                delivered,
            };
            assert!(sequencer.has_post(0));
            assert_eq!(sequencer.take(0).outcomes, [outcome]);
        }
    }

    #[test]
    fn a_full_mailbox_says_what_it_has_not() {
        let rings = Arc::default();
        let sequencer = sequencer(2000, &rings);
        let text = "x".repeat(400);
        let mut tokens = Vec::new();
        let mut take_own = || {
            let taken = sequencer.take(0);
            tokens.extend(taken.outcomes.iter().map(|it| it.token));
        };
        for token in 1..=10 {
            publish(&sequencer, &text, Some(token));
            take_own();
        }
        let first = sequencer.take(1);
        let (count, last) = (first.posts.len(), first.posts.back().map(|it| it.number));
        assert!(0 < count && count < 10 && first.lost.is_none());
        // Still lost: the order of the numbers must not break.
        let eleventh = publish(&sequencer, "x", None);
        let lost = sequencer.take(1);
        assert_eq!(lost.lost, Some((last.unwrap(), eleventh)));
        assert!(lost.posts.is_empty() && !sequencer.has_post(1));
        drop(first);
        publish(&sequencer, "x", None);
        assert_eq!(numbers(&sequencer.take(1)), [12]);
        take_own();
        tokens.sort_unstable();
        assert_eq!(
            tokens,
            (1..=10).collect::<Vec<_>>(),
            "the publisher hears of all"
        );
    }

    #[test]
    fn a_reactor_that_is_stuck_is_not_waited_for() {
        let rings = Arc::default();
        let sequencer = sequencer(1 << 20, &rings);
        for token in 1..=3 {
            let number = publish(&sequencer, "x", Some(token));
            let own = sequencer.take(0);
            assert_eq!(own.outcomes.len(), usize::from(token == 3));
            drop(own);
            if token == 1 {
                sequencer.skip_stuck(number);
                assert_eq!(sequencer.take(0).outcomes.len(), 1);
            }
            if token == 2 {
                assert!(sequencer.has_post(0), "the second one waits for nobody");
            }
        }
        assert_eq!(numbers(&sequencer.take(1)), [1, 2, 3]);
        publish(&sequencer, "x", Some(4));
        drop(sequencer.take(0));
        assert!(!sequencer.has_post(0), "it is waited for again");
    }

    #[test]
    fn a_body_that_is_larger_than_the_mailbox_goes_alone() {
        let rings = Arc::default();
        let sequencer = sequencer(100, &rings);
        publish(&sequencer, &"x".repeat(1000), None);
        assert_eq!(numbers(&sequencer.take(1)), [1]);
    }

    fn join(sequencer: &Sequencer, place: usize, name: &str) {
        let user = User {
            name: name.into(),
            info: None,
        };
        sequencer.change_presence(place, None, |presence, share| {
            let change = presence.join(share, "t", Some(&user), Duration::ZERO);
            change.into_iter().collect()
        });
    }

    /// The posts in short: the number of a publication, the user of a change.
    fn short(taken: &Taken) -> Vec<String> {
        let short = |post: &Post| match &post.content {
            Content::Publication(_) => post.number.to_string(),
            Content::Change(change) => match &change.change {
                PresenceChange::Joined(user) => format!("+{}", user.name),
                PresenceChange::Left(user) => format!("-{user}"),
                other => panic!("{other:?}"),
            },
            Content::Mark(mark) => format!("mark {mark}"),
        };
        taken.posts.iter().map(short).collect()
    }

    #[test]
    fn changes_of_presence_stand_among_the_publications() {
        let sequencer = sequencer(1 << 20, &Arc::default());
        publish(&sequencer, "x", None);
        join(&sequencer, 0, "ann");
        join(&sequencer, 1, "ann");
        publish(&sequencer, "x", None);
        join(&sequencer, 1, "bob");
        sequencer.close(1);
        let taken = sequencer.take(0);
        assert_eq!(short(&taken), ["1", "+ann", "2", "+bob", "-bob"]);
        assert!(!taken.has_lost_changes);
        // The place is given back: its mailbox has nothing, and gets nothing.
        assert_eq!(short(&sequencer.take(1)), [""; 0]);
        assert_eq!(
            sequencer.with_presence(|presence| presence.user_count("t")),
            1
        );
    }

    #[test]
    fn a_full_mailbox_says_behind_the_rest_that_it_has_no_room_for_changes() {
        for publishes in [false, true] {
            let sequencer = sequencer(4000, &Arc::default());
            publish(&sequencer, "x", None);
            for name in 0..100 {
                join(&sequencer, 0, &name.to_string());
                if publishes {
                    publish(&sequencer, "x", None);
                }
            }
            let taken = sequencer.take(1);
            assert_eq!(short(&taken)[..2], ["1", "+0"]);
            assert!(taken.posts.len() < 100 && taken.lost.is_none());
            assert_eq!(taken.has_lost_changes, !publishes);
            if publishes {
                let rest = sequencer.take(1);
                assert!(rest.posts.is_empty() && rest.has_lost_changes);
                assert_eq!(rest.lost.map(|(_, end)| end), Some(101));
            }
            join(&sequencer, 0, "last");
            let taken = sequencer.take(1);
            assert_eq!(short(&taken), ["+last"]);
            assert!(!taken.has_lost_changes);
        }
    }

    // It has taken the publication, and only the change behind it waits.
    #[test]
    fn a_change_that_waits_does_not_make_its_reactor_stuck() {
        let sequencer = sequencer(1 << 20, &Arc::default());
        let number = publish(&sequencer, "x", None);
        sequencer.take(1);
        join(&sequencer, 0, "ann");
        sequencer.skip_stuck(number);
        publish(&sequencer, "x", Some(9));
        sequencer.take(0);
        let outcomes = |place| sequencer.take(place).outcomes.len();
        assert_eq!(outcomes(0), 0, "the other reactor is waited for");
        sequencer.take(1);
        assert_eq!(outcomes(0), 1);
    }
}
