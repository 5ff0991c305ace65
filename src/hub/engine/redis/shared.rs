//! The parts of the engine that its files have in common: publishing, and delivering what was heard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::client::redis::{Redis, RedisError};
use crate::protocol::resp::Reply;
use crate::pubsub::{Event, EventId, Rule, Rules, check_name};
use crate::reactor::id::ConnId;
use crate::reactor::published::Published;
use crate::reactor::reactor::Reactor;

use super::counts::RedisCounts;
use super::keys::{Channel, Keys};
use super::names::Names;
use super::once::OnceDigests;
use super::others::Others;
use super::payload::{self, Numbered, Sender};
use super::questions::Questions;
use super::recovery::Recovery;
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
    redis: Redis<S>,
    keys: Keys,
    /// This reactor, among all.
    origin: u64,
    rules: RefCell<Rules>,
    publisher: RefCell<Publisher<S>>,
    names: Rc<RefCell<Names<S>>>,
    recovery: RefCell<Recovery>,
    questions: RefCell<Questions<S>>,
    others: RefCell<Others>,
    raw: RefCell<Raw>,
    counts: Arc<RedisCounts>,
}

/// The publications of this reactor that are under way.
struct Publisher<S> {
    /// The digest of the script, as the server has named it.
    script: String,
    last_token: u64,
    waiting: HashMap<u64, Waiting<S>>,
}

pub(super) type Done<S> =
    Box<dyn FnOnce(&mut Reactor<S>, Result<PublishedOnce, RedisPublishError>)>;

struct Waiting<S> {
    done: Done<S>,
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
    pub(super) fn new(
        redis: &Redis<S>,
        prefix: Option<&str>,
        counts: Arc<RedisCounts>,
    ) -> Shared<S> {
        counts.note_link();
        let keys = Keys::new(prefix);
        Shared {
            redis: redis.clone(),
            names: Rc::new(RefCell::new(Names::new(redis, &keys))),
            keys,
            origin: rand::random(),
            rules: RefCell::default(),
            publisher: RefCell::new(Publisher {
                script: String::new(),
                last_token: 0,
                waiting: HashMap::new(),
            }),
            recovery: RefCell::default(),
            questions: RefCell::default(),
            others: RefCell::default(),
            raw: RefCell::default(),
            counts,
        }
    }

    pub(super) fn counts(&self) -> &RedisCounts {
        &self.counts
    }

    pub(super) fn redis(&self) -> &Redis<S> {
        &self.redis
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

    pub(super) fn recovery(&self) -> &RefCell<Recovery> {
        &self.recovery
    }

    /// The server knows the script by this digest.
    pub(super) fn set_script(&self, digest: String) {
        self.publisher.borrow_mut().script = digest;
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
        except: Option<ConnId>,
        once: Option<&OnceDigests>,
        done: Done<S>,
    ) {
        let mut publisher = self.publisher.borrow_mut();
        publisher.last_token += 1;
        let token = publisher.last_token;
        let waiting = Waiting {
            done,
            id: None,
            delivered: None,
        };
        publisher.waiting.insert(token, waiting);
        let script = publisher.script.clone();
        drop(publisher);
        let sender = Sender {
            origin: self.origin,
            token,
            except: except.map_or(0, ConnId::to_bits),
        };
        let words = self.publish_words(reactor, topic, event, sender, once);
        self.send_publication(reactor, token, script, words);
    }

    /// The keys and arguments of the script.
    fn publish_words(
        &self,
        reactor: &Reactor<S>,
        topic: &str,
        event: &Event<'_>,
        sender: Sender,
        once: Option<&OnceDigests>,
    ) -> Vec<Vec<u8>> {
        let keys = &self.keys;
        let seen = reactor.cursor();
        let mut content = Vec::with_capacity(64 + event.payload().as_bytes().len());
        payload::encode(sender, event, &mut content);
        let rules = self.rules.borrow();
        let rule: &Rule = rules.of(topic);
        let text = |text: String| text.into_bytes();
        let mut words = vec![
            text(if once.is_some() { "5" } else { "4" }.to_owned()),
            text(keys.head()),
            text(keys.topics()),
            text(keys.stream(topic)),
            text(keys.values(topic)),
        ];
        words.extend(once.map(|once| text(keys.once(&once.key))));
        words.extend([
            text(format!("{:x}", rand::random::<u64>())),
            text(format!("{:x}", seen.epoch)),
            text(seen.number.to_string()),
            topic.as_bytes().to_vec(),
            text(keys.numbered_channel(topic)),
            content,
            text(rule.history_count.to_string()),
            text(rule.history_age.as_secs().max(1).to_string()),
            event.key_name().unwrap_or_default().as_bytes().to_vec(),
            TOPICS_MAX.as_bytes().to_vec(),
            text(u8::from(rule.keeps_latest).to_string()),
            text(reactor.unix_time().to_string()),
        ]);
        if let Some(once) = once {
            words.extend([text(once.request.clone()), ONCE_SECONDS.into()]);
        }
        words
    }

    /// Sends a publication. A server that does not know the script gets its text.
    fn send_publication(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        token: u64,
        script: String,
        arguments: Vec<Vec<u8>>,
    ) {
        let head = match script.is_empty() {
            true => [b"EVAL".to_vec(), PUBLISH.as_bytes().to_vec()],
            false => [b"EVALSHA".to_vec(), script.clone().into_bytes()],
        };
        let words: Vec<&[u8]> = head.iter().chain(&arguments).map(Vec::as_slice).collect();
        let shared = Rc::clone(self);
        // The words are kept until the answer, for a server that was told to forget its scripts.
        let again = arguments.clone();
        self.redis
            .command_within(reactor, &words, PUBLISH_TIMEOUT, move |cx, reply| {
                let is_forgotten = |reply: &Reply<'_>| {
                    reply
                        .as_error()
                        .is_some_and(|text| text.starts_with("NOSCRIPT"))
                };
                if reply.as_ref().is_ok_and(is_forgotten) && !script.is_empty() {
                    shared.publisher.borrow_mut().script.clear();
                    return shared.send_publication(cx.reactor, token, String::new(), again);
                }
                shared.handle_published(cx.reactor, token, reply);
            });
    }

    /// Redis has answered a publication.
    fn handle_published(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        token: u64,
        reply: Result<Reply<'_>, RedisError>,
    ) {
        let id = match reply {
            Ok(reply) => match answer_of(&reply) {
                Some(Answer::New(id)) => id,
                Some(Answer::Repeat(id)) => {
                    let known = PublishedOnce {
                        published: Published::new(id, 0),
                        is_repeat: true,
                    };
                    return self.end_publication(reactor, token, Ok(known));
                }
                Some(Answer::OtherRequest) => {
                    return self.end_publication(reactor, token, Err(RedisPublishError::KeyUsed));
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
        self.redis.barrier(reactor, move |cx, _| {
            shared.end_delivered(cx.reactor, token, id);
        });
    }

    /// A publication has an id, and the members of this reactor have it.
    fn end_delivered(&self, reactor: &mut Reactor<S>, token: u64, id: EventId) {
        let delivered = {
            let publisher = self.publisher.borrow();
            let waiting = publisher.waiting.get(&token);
            waiting.and_then(|it| it.delivered).unwrap_or_default()
        };
        let published = PublishedOnce::new(Published::new(id, delivered));
        self.end_publication(reactor, token, Ok(published));
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
        &self,
        reactor: &mut Reactor<S>,
        topic: &str,
        numbered: &Numbered<'_>,
    ) {
        let newest = reactor.cursor();
        if numbered.epoch != newest.epoch {
            let before = numbered.number.saturating_sub(1);
            self.begin_epoch(reactor, numbered.epoch, before);
        } else if numbered.number <= newest.number {
            return;
        }
        let Numbered { sender, event, .. } = numbered;
        let is_own = sender.origin == self.origin;
        let except = (is_own && sender.except != 0).then(|| ConnId::from_bits(sender.except));
        let published = reactor.publish_heard(topic, event, Some(numbered.number), except);
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
        reactor.publish_heard(topic, &Event::message(text), None, None);
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
        self.redis.command(reactor, words, |_, _| {});
    }

    /// The order of Redis began again: cursors of before are not found, and members may have missed messages.
    pub(super) fn begin_epoch(&self, reactor: &mut Reactor<S>, epoch: u64, number: u64) {
        self.counts.note_epoch();
        reactor.begin_log(epoch, number, rand::random());
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
            Channel::Numbered(topic) => {
                let topic = str::from_utf8(topic)
                    .ok()
                    .filter(|it| check_name(it).is_ok());
                match (topic, payload::parse(payload)) {
                    (Some(topic), Some(numbered)) => {
                        self.deliver_numbered(reactor, topic, &numbered);
                    }
                    _ => self.note_left_out(reactor.now()),
                }
            }
        }
    }
}

/// The answer of the script.
enum Answer {
    New(EventId),
    Repeat(EventId),
    OtherRequest,
}

fn answer_of(reply: &Reply<'_>) -> Option<Answer> {
    let words = reply.as_array()?;
    match words.get(2).map(|kind| kind.as_bytes()) {
        None => published_id(reply).map(Answer::New),
        Some(Some(b"repeat")) => id_of(&words[0], &words[1]).map(Answer::Repeat),
        Some(Some(b"other request")) => Some(Answer::OtherRequest),
        Some(_) => None,
    }
}

/// The id in the answer to a publication.
pub(super) fn published_id(reply: &Reply<'_>) -> Option<EventId> {
    let [epoch, number] = reply.as_array()? else {
        return None;
    };
    id_of(epoch, number)
}

fn id_of(epoch: &Reply<'_>, number: &Reply<'_>) -> Option<EventId> {
    let epoch = u64::from_str_radix(epoch.as_str()?, 16).ok()?;
    Some(EventId::new(epoch, number.as_str()?.parse().ok()?))
}
