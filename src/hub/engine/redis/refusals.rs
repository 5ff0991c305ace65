//! Commands that Redis refuses to carry out for as long as nobody mends the cause: a key is of another type, or the user
//! of the URL may not read it. The log says so once a minute for each command and key.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::RedisError;
use crate::protocol::resp::Reply;

/// The time from one log line about a key to the next.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Most keys that the log names in that time.
const LOGGED_MAX: usize = 20;

/// The words where there is nothing to mend.
const TRIED_AGAIN: &str = "it is tried again";

/// Why something was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is no answer.
    Link(RedisError),
    Refused(Refusal),
}

impl ReadError {
    /// The answer of Redis, if there is one.
    pub(super) fn into_refusal(self) -> Option<Refusal> {
        match self {
            ReadError::Link(_) => None,
            ReadError::Refused(refusal) => Some(refusal),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Link(error) => error.fmt(f),
            ReadError::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// An error that is the answer to a command.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The command and its key.
    command: Box<str>,
    /// The error, as Redis has written it.
    text: Box<str>,
    /// The topic whose publications are in the key, if it is that of one topic.
    topic: Option<Rc<str>>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused: {}", self.command, self.text)
    }
}

impl Refusal {
    /// Whether the same command is refused again until a person mends the cause.
    pub(super) fn is_lasting(&self) -> bool {
        self.remedy().is_some()
    }

    fn remedy(&self) -> Option<String> {
        match self.text.split(' ').next()? {
            "WRONGTYPE" => {
                let remedy = "another program has written this key: delete or rename it";
                Some(match self.head() {
                    Some(head) => format!(
                        "{remedy}, and then run HDEL {head} epoch: the next publication begins a new epoch, and each \
                         client is told of a gap"
                    ),
                    None => remedy.to_owned(),
                })
            }
            "NOPERM" => Some("allow it to the user of the URL, with ACL SETUSER".to_owned()),
            _ => None,
        }
    }

    /// The key with the epoch of a list of topics, if the refused key is such a list. Without the list clients that come
    /// back get no publication of the topics that it had, and no gap, as long as the epoch stays. The rest of the head
    /// has to stay: the next number must be higher than those of the streams.
    fn head(&self) -> Option<String> {
        let (_, key) = self.command.split_once(' ')?;
        let (bucket, name) = key.rsplit_once(':')?;
        let is_list = self.topic.is_none() && matches!(name, "topics" | "raw");
        is_list.then(|| format!("{bucket}:head"))
    }

    /// The same for the key of a topic.
    pub(super) fn of_topic(self, topic: &Rc<str>) -> Refusal {
        Refusal {
            topic: Some(Rc::clone(topic)),
            ..self
        }
    }
}

/// The answer to a command, unless it is an error: an answer without entries would be a loss in silence.
pub(super) fn answered<'b>(
    command: &str,
    key: &str,
    reply: Result<Reply<'b>, RedisError>,
) -> Result<Reply<'b>, ReadError> {
    match reply {
        Ok(Reply::Error(text)) => Err(ReadError::Refused(Refusal {
            command: format!("{command} {key}").into(),
            text: String::from_utf8_lossy(text).into(),
            topic: None,
        })),
        Ok(reply) => Ok(reply),
        Err(error) => Err(ReadError::Link(error)),
    }
}

/// The refusals that were logged in the last minute.
#[derive(Default)]
pub(super) struct RefusalLog {
    logged_at: HashMap<Box<str>, Duration>,
}

impl RefusalLog {
    /// Logs that clients are told of a gap because of a refusal.
    pub(super) fn note_gap(&mut self, refusal: &Refusal, now: Duration) {
        if self.may_log(&refusal.command, now) {
            let clients = match &refusal.topic {
                Some(topic) => format!("clients of the topic {topic:?}"),
                None => "clients that come back".to_owned(),
            };
            let remedy = refusal.remedy().unwrap_or_else(|| TRIED_AGAIN.to_owned());
            log::warn!("redis: {clients} are told of a gap: {refusal}; {remedy}");
        }
    }

    /// Logs that a read for a client is tried again because of a refusal.
    pub(super) fn note_retry(&mut self, refusal: &Refusal, now: Duration) {
        if self.may_log(&refusal.command, now) {
            let remedy = refusal.remedy().unwrap_or_else(|| TRIED_AGAIN.to_owned());
            log::warn!("redis: a client that comes back has to wait: {refusal}; {remedy}");
        }
    }

    fn may_log(&mut self, command: &str, now: Duration) -> bool {
        let is_recent = |at: Duration| now.saturating_sub(at) < LOG_INTERVAL;
        if self.logged_at.get(command).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if LOGGED_MAX <= self.logged_at.len() {
            self.logged_at.retain(|_, at| is_recent(*at));
        }
        let has_room = self.logged_at.len() < LOGGED_MAX;
        if has_room {
            self.logged_at.insert(command.into(), now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;
    use super::*;

    fn refusal(command: &str, key: &str, text: &str) -> Refusal {
        let reply = Ok(Reply::Error(text.as_bytes()));
        let refused = answered(command, key, reply).err();
        refused.and_then(ReadError::into_refusal).expect("an error")
    }

    #[test]
    fn a_key_is_logged_once_a_minute_and_not_all_keys_are() {
        let mut log = RefusalLog::default();
        let seconds = Duration::from_secs;
        let cases = [(0, true), (0, false), (59, false), (60, true), (61, false)];
        for (second, expected) in cases {
            assert_eq!(
                log.may_log("XRANGE a", seconds(second)),
                expected,
                "{second}"
            );
        }
        for index in 1..LOGGED_MAX {
            assert!(log.may_log(&format!("XRANGE {index}"), seconds(70)));
        }
        assert!(!log.may_log("XRANGE b", seconds(119)));
        // The oldest is over.
        assert!(log.may_log("XRANGE b", seconds(120)));
        assert!(!log.may_log("XRANGE c", seconds(120)));
    }

    #[test]
    fn refusals_of_keys_and_of_rights_last() {
        let cases = [
            ("WRONGTYPE Operation against a key", true),
            ("NOPERM this user has no permissions", true),
            ("LOADING Redis is loading", false),
            ("BUSY Redis is busy", false),
            ("ERR WRONGTYPE", false),
            ("WRONGTYPES", false),
            ("", false),
        ];
        for (text, expected) in cases {
            let refusal = refusal("XRANGE", "s:a", text);
            assert_eq!(refusal.is_lasting(), expected, "{text}");
            assert_eq!(
                refusal.to_string(),
                format!("XRANGE s:a is refused: {text}")
            );
        }
    }

    // A list of topics that was only deleted left clients without messages and without a gap.
    #[test]
    fn the_remedy_of_a_list_of_topics_ends_the_epoch() {
        let all = [
            Keys::new(None),
            Keys::new(Some("shop")),
            Keys::of_cluster(None).unwrap(),
            Keys::of_cluster(Some("shop")).unwrap(),
        ];
        for keys in all {
            let head = keys.head(0);
            let command = format!("HDEL {head} epoch");
            let topic: Rc<str> = "raw".into();
            let remedy = |refusal: Refusal| refusal.remedy().unwrap();
            for list in [keys.topics(0), keys.raw_topics()] {
                let remedy = remedy(refusal("ZMSCORE", &list, "WRONGTYPE x"));
                assert!(remedy.contains(&command), "{list}: {remedy}");
            }
            let others = [
                refusal("HMGET", &head, "WRONGTYPE x"),
                refusal("XRANGE", &keys.stream(&topic), "WRONGTYPE x").of_topic(&topic),
                refusal("ZMSCORE", &keys.topics(0), "NOPERM x"),
            ];
            for refusal in others {
                let remedy = remedy(refusal);
                assert!(!remedy.contains("HDEL"), "{head}: {remedy}");
            }
        }
    }
}
