//! The topics to which other programs have published: a plain `PUBLISH` has no number and no stream, so that only the log of a
//! reactor that heard it has the message.

use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::RedisError;
use crate::protocol::resp::Reply;
use crate::pubsub::pattern;
use crate::reactor::reactor::{Cx, Reactor};

use super::refusals::{ReadError, answered};
use super::shared::Shared;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most topics with messages of other programs that are looked at for a pattern.
const TOPICS_MAX: usize = 10_000;

/// Finds the names, each with whether it is a pattern, that have messages of other programs. `done` gets them with their indexes. A
/// name for which that cannot be told is among them: where there are too many topics, or where Redis refuses for good, which
/// is logged.
pub(super) fn find<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    names: Vec<(Box<str>, bool)>,
    done: impl FnOnce(&mut Reactor<S>, Result<Vec<(usize, Box<str>)>, ReadError>) + 'static,
) {
    let key = shared.keys().raw_topics();
    let has_pattern = names.iter().any(|(_, is_pattern)| *is_pattern);
    let mut words = match has_pattern {
        true => vec![
            "ZRANGE".to_owned(),
            key,
            "0".to_owned(),
            TOPICS_MAX.to_string(),
        ],
        false => vec!["ZMSCORE".to_owned(), key],
    };
    if !has_pattern {
        words.extend(names.iter().map(|(name, _)| name.to_string()));
    }
    let again = Rc::clone(shared);
    let (command, key) = (words[0].clone(), words[1].clone());
    let answer = move |cx: &mut Cx<'_, S>, reply: Result<Reply<'_>, RedisError>| {
        let reply = match answered(&command, &key, reply) {
            Ok(reply) => reply,
            Err(ReadError::Refused(refusal)) if refusal.is_lasting() => {
                let now = cx.reactor.now();
                again.refusals().borrow_mut().note_gap(&refusal, now);
                let all = names.into_iter().map(|(name, _)| name).enumerate();
                return done(cx.reactor, Ok(all.collect()));
            }
            Err(error) => return done(cx.reactor, Err(error)),
        };
        let topics = reply.as_array().unwrap_or_default();
        let has_all = has_pattern && TOPICS_MAX < topics.len();
        let has_raw = |index: usize, name: &str, is_pattern: bool| match has_pattern {
            true => (topics.iter().filter_map(Reply::as_bytes)).any(|topic| match is_pattern {
                true => pattern::matches(name.as_bytes(), topic),
                false => name.as_bytes() == topic,
            }),
            // One score for each name.
            false => topics.get(index).is_some_and(|it| *it != Reply::Null),
        };
        let found = names.into_iter().enumerate();
        let found = found
            .filter(|(index, (name, is_pattern))| has_all || has_raw(*index, name, *is_pattern));
        let found = found.map(|(index, (name, _))| (index, name));
        done(cx.reactor, Ok(found.collect()));
    };
    (shared.links()).command_within(reactor, 0, &words, TIMEOUT, answer);
}
