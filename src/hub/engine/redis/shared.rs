//! The parts of the engine that its files have in common: publishing, and delivering what was heard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::client::redis::RedisError;
use crate::protocol::digits::{push_decimal, push_hexadecimal};
use crate::protocol::resp::Reply;
use crate::pubsub::{Event, EventId, Rule, Rules, check_name};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::{Cx, Reactor};

use super::counts::RedisCounts;
use super::keys::{Channel, Keys};
use super::links::{Bucket, Links};
use super::names::Names;
use super::once::OnceDigests;
use super::others::Others;
use super::payload::{self, Numbered, Sender};
use super::questions::Questions;
use super::recovery::Recovery;
use super::refusals::RefusalLog;
use super::words::Words;
use crate::hub::engine::repeat::PublishedOnce;

/// The script that numbers, stores and publishes.
pub(super) const PUBLISH: &str = include_str!("publish.lua");

/// How long a publication may take.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long Redis recognises the repeat of a request that has a key.
const ONCE_SECONDS: &str = "300";

/// Most topics whose last number Redis keeps.
const TOPICS_MAX: &str = "1000000";

/// A message of another program that is longer is left out, in bytes.
const RAW_BYTES_MAX: usize = 1024 * 1024;

/// A topic with messages of other programs is marked in Redis again after so many seconds.
const RAW_MARK_SECONDS: u64 = 60;

/// Most topics whose mark is remembered here.
const RAW_MARKS_MAX: usize = 10_000;

/// Why an event was not published, or perhaps not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisPublishError {
    /// There is no link, or too much waits. It was not published.
    Away(RedisError),
    /// The answer did not come. It is not known whether it was published.
    Unknown(RedisError),
    /// Redis has refused it, for example because it has no memory left. The reason is in the log.
    Refused,
    /// Its idempotency key was used for another request. It was not published.
    KeyUsed,
}

impl fmt::Display for RedisPublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisPublishError::Away(error) => write!(f, "not published: {error}"),
            RedisPublishError::Unknown(error) => error.fmt(f),
            RedisPublishError::Refused => f.write_str("Redis has refused the publication"),
            RedisPublishError::KeyUsed => {
                f.write_str("the idempotency key was used for another request")
            }
        }
    }
}

/// The engine on one reactor, apart from its link's news.
pub(super) struct Shared<S: 'static> {
    links: Links<S>,
    keys: Keys,
    /// Of each bucket, once there is a log.
    orders: RefCell<Vec<BucketOrder>>,
    /// This reactor, among all.
    origin: u64,
    rules: RefCell<Rules>,
    publisher: RefCell<Publisher<S>>,
    names: Rc<RefCell<Names<S>>>,
    recovery: RefCell<Recovery>,
    questions: RefCell<Questions<S>>,
    others: RefCell<Others>,
    refusals: RefCell<RefusalLog>,
    raw: RefCell<Raw>,
    counts: Arc<RedisCounts>,
    /// Where there are other reactors on this node.
    node_count: RefCell<Option<CountOnNode<S>>>,
}

/// A publication of which the members on all reactors of a node are counted.
#[derive(Debug)]
pub struct HeardPublication {
    pub topic: Box<str>,
    pub bucket: usize,
    pub number: u64,
}

/// Counts the members on all reactors of a node that got a publication.
pub type CountOnNode<S> =
    Rc<dyn Fn(&mut Reactor<S>, HeardPublication, Box<dyn FnOnce(&mut Reactor<S>, usize)>)>;

/// The order of a bucket, as far as this reactor knows it.
#[derive(Clone, Copy, Default)]
struct BucketOrder {
    epoch: u64,
    /// The highest number in an answer to a publication of this reactor.
    acknowledged: u64,
}

/// The publications of this reactor that are under way.
struct Publisher<S> {
    /// The digest of the script, as the server has named it.
    script: Rc<str>,
    last_token: u64,
    waiting: HashMap<u64, Waiting<S>>,
}

pub(super) type Done<S> =
    Box<dyn FnOnce(&mut Reactor<S>, Result<PublishedOnce, RedisPublishError>)>;

struct Waiting<S> {
    done: Done<S>,
    /// Where the members on other reactors count.
    topic: Option<Box<str>>,
    bucket: usize,
    /// The answer of Redis.
    id: Option<EventId>,
    /// The members here, when it was heard.
    delivered: Option<usize>,
}

/// The state about messages of other programs.
#[derive(Default)]
struct Raw {
    /// Topics that are marked in Redis, each with the second of the mark.
    marks: HashMap<Box<str>, u64>,
    /// Messages that were left out since the last log line.
    left_out: u64,
    logged_at: Option<Duration>,
}

impl<S: 'static> Shared<S> {
    pub(super) fn new(links: &Links<S>, keys: &Keys, counts: Arc<RedisCounts>) -> Shared<S> {
        counts.note_link();
        let recovery = Recovery::new(keys.bucket_count());
        let names = Names::new(links, keys, recovery.part_count());
        Shared {
            links: links.clone(),
            names: Rc::new(RefCell::new(names)),
            keys: keys.clone(),
            orders: RefCell::new(vec![BucketOrder::default(); keys.bucket_count()]),
            origin: rand::random(),
            rules: RefCell::default(),
            publisher: RefCell::new(Publisher {
                script: "".into(),
                last_token: 0,
                waiting: HashMap::new(),
            }),
            recovery: RefCell::new(recovery),
            questions: RefCell::default(),
            others: RefCell::default(),
            refusals: RefCell::default(),
            raw: RefCell::default(),
            counts,
            node_count: RefCell::default(),
        }
    }

    pub(super) fn set_node_count(&self, count: CountOnNode<S>) {
        *self.node_count.borrow_mut() = Some(count);
    }

    pub(super) fn counts(&self) -> &RedisCounts {
        &self.counts
    }

    pub(super) fn links(&self) -> &Links<S> {
        &self.links
    }

    pub(super) fn bucket(&self, index: usize) -> Bucket<S> {
        Bucket::new(&self.links, &self.keys, index)
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn rules(&self) -> &RefCell<Rules> {
        &self.rules
    }

    pub(super) fn names(&self) -> &Rc<RefCell<Names<S>>> {
        &self.names
    }

    /// This reactor, among all.
    pub(super) fn origin(&self) -> u64 {
        self.origin
    }

    pub(super) fn questions(&self) -> &RefCell<Questions<S>> {
        &self.questions
    }

    pub(super) fn others(&self) -> &RefCell<Others> {
        &self.others
    }

    pub(super) fn refusals(&self) -> &RefCell<RefusalLog> {
        &self.refusals
    }

    pub(super) fn recovery(&self) -> &RefCell<Recovery> {
        &self.recovery
    }

    // ── the order of the buckets ─────────────────────────────────────────────────────────────

    /// The epoch of a bucket, and the highest number that this reactor has seen there. Zeros before there is a log.
    pub(super) fn seen(&self, reactor: &Reactor<S>, bucket: usize) -> (u64, u64) {
        if !self.recovery.borrow().has_log() {
            return (0, 0);
        }
        let order = self.orders.borrow()[bucket];
        let heard = reactor.newest_number(bucket);
        (order.epoch, heard.max(order.acknowledged))
    }

    pub(super) fn is_epoch(&self, bucket: usize, epoch: u64) -> bool {
        self.orders.borrow()[bucket].epoch == epoch
    }

    /// Begins the log, with the epoch and the number of each bucket.
    pub(super) fn begin_log(&self, reactor: &mut Reactor<S>, begins: &[(u64, u64)]) {
        for (order, (epoch, _)) in self.orders.borrow_mut().iter_mut().zip(begins) {
            // A number that was acknowledged in the same epoch may still be found to be lost.
            if order.epoch != *epoch {
                *order = BucketOrder {
                    epoch: *epoch,
                    acknowledged: 0,
                };
            }
        }
        let numbers: Vec<u64> = begins.iter().map(|(_, number)| *number).collect();
        reactor.begin_log(self.epoch(), &numbers, rand::random());
        self.recovery.borrow_mut().note_log();
    }

    /// The epoch of all buckets together: another one when that of a bucket is another one.
    fn epoch(&self) -> u64 {
        let orders = self.orders.borrow();
        let mix = |all: u64, order: &BucketOrder| all.rotate_left(5) ^ order.epoch;
        orders.iter().fold(0, mix)
    }

    fn note_acknowledged(&self, bucket: usize, epoch: u64, number: u64) {
        let order = &mut self.orders.borrow_mut()[bucket];
        if order.epoch == epoch {
            order.acknowledged = order.acknowledged.max(number);
        }
    }

    /// The id of a publication with a number in a bucket: a cursor behind it, and behind what this reactor knows of the
    /// other buckets.
    fn id_of(&self, reactor: &Reactor<S>, bucket: usize, epoch: u64, number: u64) -> EventId {
        let buckets = 0..self.keys.bucket_count();
        let mut numbers: Vec<u64> = buckets.map(|it| reactor.newest_number(it)).collect();
        numbers[bucket] = number;
        let epoch = match self.is_epoch(bucket, epoch) {
            true => self.epoch(),
            false => epoch,
        };
        EventId::of_buckets(epoch, &numbers)
    }

    // ── publishing ───────────────────────────────────────────────────────────────────────────

    /// The server knows the script by this digest.
    pub(super) fn set_script(&self, digest: String) {
        self.publisher.borrow_mut().script = digest.into();
    }

    /// How many publications are under way.
    pub(super) fn publishing_count(&self) -> usize {
        self.publisher.borrow().waiting.len()
    }

    /// Publishes an event; see [`RedisEngine::publish`](super::RedisEngine).
    pub(super) fn publish(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        except: Option<(u64, ConnId)>,
        once: Option<&OnceDigests>,
        done: Done<S>,
    ) {
        let mut publisher = self.publisher.borrow_mut();
        publisher.last_token += 1;
        let token = publisher.last_token;
        let waiting = Waiting {
            done,
            topic: self.node_count.borrow().is_some().then(|| topic.into()),
            bucket: self.keys.bucket_of(topic),
            id: None,
            delivered: None,
        };
        publisher.waiting.insert(token, waiting);
        let script = Rc::clone(&publisher.script);
        drop(publisher);
        let sender = Sender {
            origin: self.origin,
            token,
            except: except.map_or(0, |(_, id)| id.to_bits()),
            except_origin: except.map_or(self.origin, |(origin, _)| origin),
        };
        let words = self.publish_words(reactor, topic, event, sender, once);
        self.send_publication(reactor, token, &script, Rc::new(words));
    }

    /// The keys and arguments of the script.
    fn publish_words(
        &self,
        reactor: &Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        sender: Sender,
        once: Option<&OnceDigests>,
    ) -> Words {
        let keys = &self.keys;
        let bucket = keys.bucket_of(topic);
        let (seen_epoch, seen_number) = self.seen(reactor, bucket);
        let rules = self.rules.borrow();
        let rule: &Rule = rules.of(topic);
        let key = event.key_name().unwrap_or_default();
        let bytes = 384 + 4 * topic.len() + key.len() + event.payload().as_bytes().len();
        let mut words = Words::with_capacity(24, bytes);
        words.add(if once.is_some() { "5" } else { "4" });
        words.add(keys.head(bucket));
        words.add(keys.topics(bucket));
        words.add(keys.stream(topic));
        words.add(keys.values(topic));
        if let Some(once) = once {
            words.add(keys.once(topic, &once.key));
        }
        words.add_with(|out| push_hexadecimal(rand::random(), out));
        words.add_with(|out| push_hexadecimal(seen_epoch, out));
        words.add_with(|out| push_decimal(seen_number, out));
        words.add(topic);
        words.add(keys.numbered_channel(topic));
        words.add_with(|out| payload::encode(sender, event, out));
        words.add_with(|out| push_decimal(rule.history_count as u64, out));
        words.add_with(|out| push_decimal(rule.history_age.as_secs().max(1), out));
        words.add(key);
        words.add(TOPICS_MAX);
        words.add(if rule.keeps_latest { "1" } else { "0" });
        words.add_with(|out| push_decimal(reactor.unix_time(), out));
        words.add(keys.numbered_kind().publish_command());
        words.add(keys.feed(bucket).unwrap_or_default());
        if let Some(once) = once {
            words.add(&once.request);
            words.add(ONCE_SECONDS);
        }
        words
    }

    /// Sends a publication. A server that does not know the script gets its text.
    fn send_publication(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        token: u64,
        script: &str,
        arguments: Rc<Words>,
    ) {
        let Some(bucket) = self.bucket_of_publication(token) else {
            return;
        };
        let head: [&[u8]; 2] = match script.is_empty() {
            true => [b"EVAL", PUBLISH.as_bytes()],
            false => [b"EVALSHA", script.as_bytes()],
        };
        let mut words: Vec<&[u8]> = Vec::with_capacity(28);
        words.extend(head.into_iter().chain(arguments.iter()));
        let (shared, has_digest) = (Rc::clone(self), !script.is_empty());
        // The words are kept until the answer, for a server that was told to forget its scripts.
        let again = Rc::clone(&arguments);
        let done = move |cx: &mut Cx<'_, S>, reply: Result<Reply<'_>, RedisError>| {
            let error = reply.as_ref().ok().and_then(Reply::as_error);
            let is_forgotten = error.is_some_and(|text| text.starts_with("NOSCRIPT"));
            match is_forgotten && has_digest {
                true => shared.send_publication(cx.reactor, token, "", again),
                false => shared.handle_published(cx.reactor, token, reply),
            }
        };
        (self.links).command_within(reactor, bucket, &words, PUBLISH_TIMEOUT, done);
    }

    fn bucket_of_publication(&self, token: u64) -> Option<usize> {
        let publisher = self.publisher.borrow();
        publisher.waiting.get(&token).map(|it| it.bucket)
    }

    /// Redis has answered a publication.
    fn handle_published(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        token: u64,
        reply: Result<Reply<'_>, RedisError>,
    ) {
        let Some(bucket) = self.bucket_of_publication(token) else {
            return;
        };
        let id = match reply {
            Ok(reply) => match answer_of(&reply) {
                Some(Answer::New(epoch, number)) => {
                    self.note_acknowledged(bucket, epoch, number);
                    self.id_of(reactor, bucket, epoch, number)
                }
                Some(Answer::Repeat(epoch, number)) => {
                    let id = self.id_of(reactor, bucket, epoch, number);
                    let known = PublishedOnce {
                        published: Published::new(id, 0),
                        is_repeat: true,
                    };
                    return self.end_publication(reactor, token, Ok(known));
                }
                Some(Answer::OtherRequest) => {
                    return self.end_publication(reactor, token, Err(RedisPublishError::KeyUsed));
                }
                None if reply.as_error().is_some_and(|text| is_of_replica(&text)) => {
                    // A failover is under way. The script writes before it publishes, so it has done neither.
                    let away = RedisPublishError::Away(RedisError::Away);
                    return self.end_publication(reactor, token, Err(away));
                }
                None => {
                    let why = reply.as_error().unwrap_or("an unexpected answer".into());
                    log::error!("redis: cannot publish: {why}");
                    return self.end_publication(reactor, token, Err(RedisPublishError::Refused));
                }
            },
            Err(error) => {
                let error = match error.is_unsent() {
                    true => RedisPublishError::Away(error),
                    false => RedisPublishError::Unknown(error),
                };
                return self.end_publication(reactor, token, Err(error));
            }
        };
        let mut publisher = self.publisher.borrow_mut();
        let Some(waiting) = publisher.waiting.get_mut(&token) else {
            return;
        };
        waiting.id = Some(id);
        let topic_is_heard = waiting.delivered.is_some();
        drop(publisher);
        if topic_is_heard {
            return self.end_delivered(reactor, token, id);
        }
        // The publication is on its way to this reactor too, unless it has no members here.
        let shared = Rc::clone(self);
        self.links.barrier(reactor, bucket, move |cx, _| {
            shared.end_delivered(cx.reactor, token, id);
        });
    }

    /// A publication has an id, and the members of this reactor have it.
    fn end_delivered(self: &Rc<Self>, reactor: &mut Reactor<S>, token: u64, id: EventId) {
        let mut publisher = self.publisher.borrow_mut();
        let Some(waiting) = publisher.waiting.get_mut(&token) else {
            return;
        };
        let (delivered, bucket) = (waiting.delivered.unwrap_or_default(), waiting.bucket);
        let topic = waiting.topic.take();
        drop(publisher);
        let end = move |shared: &Shared<S>, reactor: &mut Reactor<S>, delivered| {
            let published = PublishedOnce::new(Published::new(id, delivered));
            shared.end_publication(reactor, token, Ok(published));
        };
        let count = self.node_count.borrow().clone();
        let Some(count) = count else {
            return end(self, reactor, delivered);
        };
        // Without a topic they are being counted.
        let Some(topic) = topic else {
            return;
        };
        let publication = HeardPublication {
            topic,
            bucket,
            number: id.number_in(bucket),
        };
        let shared = Rc::clone(self);
        let done = Box::new(move |reactor: &mut Reactor<S>, count| end(&shared, reactor, count));
        count(reactor, publication, done);
    }

    fn end_publication(
        &self,
        reactor: &mut Reactor<S>,
        token: u64,
        outcome: Result<PublishedOnce, RedisPublishError>,
    ) {
        let waiting = self.publisher.borrow_mut().waiting.remove(&token);
        if let Some(waiting) = waiting {
            let is_failure = |error: &RedisPublishError| *error != RedisPublishError::KeyUsed;
            if outcome.as_ref().is_err_and(is_failure) {
                self.counts.note_unpublished();
            }
            (waiting.done)(reactor, outcome);
        }
    }

    /// Delivers a publication with a number to the members, unless it was delivered before.
    pub(super) fn deliver_numbered(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        topic: &str,
        numbered: &Numbered<'_>,
    ) {
        let bucket = self.keys.bucket_of(topic);
        if !self.is_epoch(bucket, numbered.epoch) {
            let before = numbered.number.saturating_sub(1);
            self.begin_epoch(reactor, bucket, numbered.epoch, before);
        } else if numbered.number <= reactor.newest_number(bucket) {
            return;
        }
        let Numbered { sender, event, .. } = numbered;
        let is_own = sender.origin == self.origin;
        let is_left_out = sender.except != 0 && sender.except_origin == self.origin;
        let except = is_left_out.then(|| ConnId::from_bits(sender.except));
        let published =
            reactor.publish_heard(topic, event, Some((bucket, numbered.number)), except);
        if !is_own {
            return;
        }
        let mut publisher = self.publisher.borrow_mut();
        if let Some(waiting) = publisher.waiting.get_mut(&sender.token) {
            waiting.delivered = Some(published.delivered);
            if let Some(id) = waiting.id {
                drop(publisher);
                self.end_delivered(reactor, sender.token, id);
            }
        }
    }

    /// Delivers a message of another program.
    fn deliver_raw(self: &Rc<Self>, reactor: &mut Reactor<S>, topic: &[u8], payload: &[u8]) {
        let text = (payload.len() <= RAW_BYTES_MAX)
            .then(|| str::from_utf8(payload).ok())
            .flatten();
        let topic = str::from_utf8(topic).ok();
        let (Some(topic), Some(text)) = (topic.filter(|it| check_name(it).is_ok()), text) else {
            return self.note_left_out(reactor.now());
        };
        self.deliver_unnumbered(reactor, topic, &Event::message(text), None);
    }

    /// Delivers an event without a number, which the log of this reactor alone has.
    pub(super) fn deliver_unnumbered(
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        except: Option<ConnId>,
    ) {
        reactor.publish_heard(topic, event, None, except);
        self.mark_raw(reactor, topic);
    }

    pub(super) fn note_left_out(&self, now: Duration) {
        self.counts.note_left_out();
        let mut raw = self.raw.borrow_mut();
        raw.left_out += 1;
        let is_due = |at: Duration| Duration::from_secs(60) <= now.saturating_sub(at);
        if raw.logged_at.is_none_or(is_due) {
            raw.logged_at = Some(now);
            let count = std::mem::take(&mut raw.left_out);
            log::warn!(
                "redis: {count} messages were left out: they are not UTF-8 text, are longer than {RAW_BYTES_MAX} bytes, or their channel is no topic"
            );
        }
    }

    /// Marks in Redis that a topic has messages without numbers, which a node that did not hear them cannot replay.
    fn mark_raw(&self, reactor: &mut Reactor<S>, topic: &str) {
        let second = reactor.unix_time();
        let mut raw = self.raw.borrow_mut();
        if raw
            .marks
            .get(topic)
            .is_some_and(|at| second < at + RAW_MARK_SECONDS)
        {
            return;
        }
        if RAW_MARKS_MAX <= raw.marks.len() {
            raw.marks.clear();
        }
        raw.marks.insert(topic.into(), second);
        drop(raw);
        let words = ["ZADD", &self.keys.raw_topics(), &second.to_string(), topic];
        (self.links).command_within(reactor, 0, &words, PUBLISH_TIMEOUT, |_, _| {});
    }

    /// The order of a bucket began again: cursors of before are not found, and members may have missed messages.
    pub(super) fn begin_epoch(
        &self,
        reactor: &mut Reactor<S>,
        bucket: usize,
        epoch: u64,
        number: u64,
    ) {
        self.counts.note_epoch();
        let orders = self.orders.borrow().clone();
        let mut begins: Vec<(u64, u64)> = (orders.iter().enumerate())
            .map(|(bucket, order)| (order.epoch, reactor.newest_number(bucket)))
            .collect();
        begins[bucket] = (epoch, number);
        self.begin_log(reactor, &begins);
        let place = reactor.tell_gap_to_all();
        let mut recovery = self.recovery.borrow_mut();
        recovery.note_break();
        recovery.note_gap(place);
        self.names.borrow_mut().cover_from(place);
    }

    /// Delivers what was published to a channel.
    pub(super) fn deliver(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        channel: Channel<'_>,
        payload: &[u8],
    ) {
        match channel {
            Channel::Control | Channel::Foreign => {}
            Channel::Raw(topic) => self.deliver_raw(reactor, topic, payload),
            Channel::Numbered(bucket, topic) => {
                let topic = str::from_utf8(topic)
                    .ok()
                    .filter(|it| check_name(it).is_ok() && self.keys.bucket_of(it) == bucket);
                match (topic, payload::parse(payload)) {
                    (Some(topic), Some(numbered)) => {
                        self.deliver_numbered(reactor, topic, &numbered);
                    }
                    _ => self.note_left_out(reactor.now()),
                }
            }
            Channel::Feed(bucket) => match payload.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let topic = Channel::Numbered(bucket, &payload[..end]);
                    self.deliver(reactor, topic, &payload[end + 1..]);
                }
                None => self.note_left_out(reactor.now()),
            },
        }
    }
}

/// Whether a server has refused to write because it is a replica. Before Redis 7 a script puts words before it.
fn is_of_replica(text: &str) -> bool {
    text.starts_with("READONLY") || text.contains("-READONLY ")
}

/// The answer of the script: the epoch and the number in the bucket.
enum Answer {
    New(u64, u64),
    Repeat(u64, u64),
    OtherRequest,
}

fn answer_of(reply: &Reply<'_>) -> Option<Answer> {
    let words = reply.as_array()?;
    match words.get(2).map(|kind| kind.as_bytes()) {
        None => published_at(reply).map(|(epoch, number)| Answer::New(epoch, number)),
        Some(Some(b"repeat")) => {
            place_of(&words[0], &words[1]).map(|(epoch, number)| Answer::Repeat(epoch, number))
        }
        Some(Some(b"other request")) => Some(Answer::OtherRequest),
        Some(_) => None,
    }
}

/// The epoch and the number in an answer of these two.
pub(super) fn published_at(reply: &Reply<'_>) -> Option<(u64, u64)> {
    let [epoch, number] = reply.as_array()? else {
        return None;
    };
    place_of(epoch, number)
}

fn place_of(epoch: &Reply<'_>, number: &Reply<'_>) -> Option<(u64, u64)> {
    let epoch = u64::from_str_radix(epoch.as_str()?, 16).ok()?;
    Some((epoch, number.as_str()?.parse().ok()?))
}
