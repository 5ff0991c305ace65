//! `GET /topics` and `GET /topics/NAME`: the topics that there are, for the back end.

use std::collections::{BTreeMap, BinaryHeap};

use crate::protocol::digits::push_decimal;
use crate::protocol::http::{Status, form};
use crate::pubsub::{self, EventId, Rules, pattern};
use crate::reactor::reactor::{Cx, Reactor};
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::engine::Engine;
use super::guesses::{self, Denied};
use super::once::json_reply;
use super::parts::Parts;
use super::rights::{Lack, Scope, Shown};
use crate::protocol::json::push_string;

/// Most topics of one answer.
pub(super) const TOPICS_MAX: usize = 1000;

/// A topic that has members, or had a publication that the history knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// How many clients have subscribed to it by its name.
    pub members: usize,
    /// How many users are present. `None` for a topic whose rule has no presence.
    pub users: Option<usize>,
    /// How many publications the history has.
    pub history: usize,
    /// The id of the oldest of these.
    pub first: Option<EventId>,
    /// The id of the newest publication, which may be forgotten. `None` when the history knows of none.
    pub last: Option<EventId>,
}

/// The first topics of a hub, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicList {
    /// At most 1,000, in the order of their names.
    pub topics: Vec<TopicInfo>,
    /// There are more, behind the last of these.
    pub has_more: bool,
}

/// The topics that are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) pattern: Option<String>,
    pub(super) after: Option<String>,
    /// Leaves out the topics that are private by these rules.
    pub(super) public_by: Option<Rules>,
}

impl Question {
    fn wants(&self, topic: &str) -> bool {
        let pattern = self.pattern.as_ref();
        let rules = self.public_by.as_ref();
        self.after.as_deref().is_none_or(|after| after < topic)
            && pattern.is_none_or(|it| pattern::matches(it.as_bytes(), topic.as_bytes()))
            && rules.is_none_or(|rules| !rules.of(topic).is_private)
    }
}

/// The first names that are wanted and one more, each with a number.
///
/// Looks at each name, which takes about 50 ns: 10,000 topics take half a millisecond. Their order by name would
/// cost every subscription more than that costs the few who ask.
struct FirstNames<'q> {
    question: &'q Question,
    names: BinaryHeap<(String, usize)>,
}

impl<'q> FirstNames<'q> {
    fn new(question: &'q Question) -> FirstNames<'q> {
        FirstNames {
            question,
            names: BinaryHeap::new(),
        }
    }

    fn add(&mut self, name: &str, number: usize) {
        let is_full = TOPICS_MAX < self.names.len();
        let last = self.names.peek().filter(|_| is_full);
        if last.is_some_and(|(last, _)| **last <= *name) || !self.question.wants(name) {
            return;
        }
        if is_full {
            self.names.pop();
        }
        self.names.push((name.to_owned(), number));
    }
}

/// The first topics of this reactor that have members, each with their count.
fn members_of<S: 'static>(reactor: &Reactor<S>, question: &Question) -> Vec<(String, usize)> {
    let mut first = FirstNames::new(question);
    for (name, count) in reactor.topics_with_members() {
        first.add(name, count);
    }
    first.names.into_vec()
}

/// The first topics that the history knows. Publishing in a group goes on between the steps.
fn kept_topics<S: 'static>(reactor: &mut Reactor<S>, question: &Question) -> Vec<(String, usize)> {
    let mut first = FirstNames::new(question);
    for step in 0.. {
        let is_end = reactor.with_history(|history| {
            let topics = history.topics_of_step(step);
            let is_end = topics.is_none();
            for topic in topics.into_iter().flatten() {
                first.add(topic.topic, 0);
            }
            is_end
        });
        if is_end {
            break;
        }
    }
    first.names.into_vec()
}

/// Calls `done` with the first topics that are wanted, of all reactors.
pub(super) fn list_topics<S: 'static>(
    engine: &Engine<S>,
    cx: Cx<'_, S>,
    question: Question,
    done: impl FnOnce(&mut Reactor<S>, TopicList) + Send + 'static,
) {
    let asked = question.clone();
    let ask = move |cx: &mut Cx<'_, S>| members_of(cx.reactor, &asked);
    engine.ask_all(cx, ask, move |reactor, answers| {
        let mut members = BTreeMap::new();
        for (topic, count) in answers.answers.into_iter().flatten() {
            *members.entry(topic).or_insert(0) += count;
        }
        for (topic, _) in kept_topics(reactor, &question) {
            members.entry(topic).or_insert(0);
        }
        let has_more = TOPICS_MAX < members.len();
        let topics = members.into_iter().take(TOPICS_MAX);
        let topics = topics.map(|(topic, count)| info(reactor, topic, count));
        let list = TopicList {
            topics: topics.collect(),
            has_more,
        };
        done(reactor, list);
    });
}

/// Calls `done` with what there is of one topic. `None` when it has no member and the history does not know it.
pub(super) fn find_topic<S: 'static>(
    engine: &Engine<S>,
    cx: Cx<'_, S>,
    topic: String,
    done: impl FnOnce(&mut Reactor<S>, Option<TopicInfo>) + Send + 'static,
) {
    let name = topic.clone();
    let ask = move |cx: &mut Cx<'_, S>| cx.reactor.member_count(&name);
    engine.ask_all(cx, ask, move |reactor, answers| {
        let members = answers.answers.into_iter().sum();
        let info = info(reactor, topic, members);
        let is_known = info.members != 0 || info.last.is_some();
        done(reactor, is_known.then_some(info));
    });
}

fn info<S: 'static>(reactor: &mut Reactor<S>, topic: String, members: usize) -> TopicInfo {
    let kept = reactor.with_topic_history(&topic, |kept| (kept.count, kept.first, kept.last));
    let (history, first, last) = kept.unwrap_or_default();
    let has_presence = reactor.with_history(|history| history.rules().of(&topic).has_presence);
    let users = has_presence.then(|| reactor.present_user_count(&topic));
    TopicInfo {
        topic,
        members,
        users,
        history,
        first: first.map(|number| reactor.id_at(number)),
        last: (last != 0).then(|| reactor.id_at(last)),
    }
}

/// `GET /topics[?pattern=P][&after=NAME]`.
pub(super) fn list<S: 'static>(request: &mut Request<'_, '_, S>, access: &Access, hub: &Parts<S>) {
    let rights = match guesses::check_administration(request, access, "/topics") {
        Ok(rights) => rights,
        Err(denied) => return guesses::refuse(request, denied, &hub.guesses),
    };
    let mut question = Question {
        // A client of this machine without a credential learns nothing of private topics.
        public_by: (rights.scope == Scope::Local).then(|| hub.options.rules.clone()),
        ..Question::default()
    };
    for pair in form::try_pairs(request.query_string().unwrap_or_default()) {
        let Some((name, value)) = pair else {
            request.reply((Status::BAD_REQUEST, "the query is not UTF-8 text\n"));
            return;
        };
        let field = match &*name {
            "pattern" => &mut question.pattern,
            "after" => &mut question.after,
            _ => continue,
        };
        if let Err(error) = pubsub::check_name(&value) {
            request.reply((Status::BAD_REQUEST, format!("{name} {value:?}: {error}\n")));
            return;
        }
        *field = Some(value.into_owned());
    }
    let responder = request.reply_later();
    let pattern = question.pattern.clone();
    list_topics(&hub.engine, request.cx(), question, move |reactor, list| {
        reactor.reply(responder, list_reply(&list, pattern.as_deref()));
    });
}

fn list_reply(list: &TopicList, pattern: Option<&str>) -> Reply {
    let mut json = vec![b'['];
    for (index, topic) in list.topics.iter().enumerate() {
        if 0 < index {
            json.push(b',');
        }
        push_topic(topic, &mut json);
        json.push(b'}');
    }
    json.extend_from_slice(b"]\n");
    let reply = json_reply(json);
    let Some(last) = list.topics.last().filter(|_| list.has_more) else {
        return reply;
    };
    let mut next = format!("</topics?after={}", form::encode_component(&last.topic));
    if let Some(pattern) = pattern {
        next.push_str(&format!("&pattern={}", form::encode_component(pattern)));
    }
    // Source: RFC 8288, section 3.
    reply.header("Link", format!("{next}>; rel=\"next\""))
}

/// `GET /topics/NAME`.
pub(super) fn one<S: 'static>(request: &mut Request<'_, '_, S>, access: &Access, hub: &Parts<S>) {
    let what = "/topics";
    let rights = match guesses::check_administration(request, access, what) {
        Ok(rights) => rights,
        Err(denied) => return guesses::refuse(request, denied, &hub.guesses),
    };
    let topic = request.param("*").unwrap_or_default().into_owned();
    if let Err(error) = pubsub::check_name(&topic) {
        request.reply((Status::BAD_REQUEST, format!("topic {topic:?}: {error}\n")));
        return;
    }
    if !rights.may_have(&hub.options.rules, &topic) {
        let denied = Denied::NotGranted {
            what,
            lack: Lack::Credential,
            shown: Shown::Nothing,
        };
        return guesses::refuse(request, denied, &hub.guesses);
    }
    let responder = request.reply_later();
    find_topic(&hub.engine, request.cx(), topic, move |reactor, info| {
        let reply = match info {
            Some(info) => json_reply(one_json(&info)),
            None => (
                Status::NOT_FOUND,
                "this topic has no members and no history\n",
            )
                .into(),
        };
        reactor.reply(responder, reply);
    });
}

fn one_json(topic: &TopicInfo) -> Vec<u8> {
    let mut json = Vec::new();
    push_topic(topic, &mut json);
    for (name, id) in [("first", topic.first), ("last", topic.last)] {
        if let Some(id) = id {
            json.extend_from_slice(format!(",\"{name}\":\"{id}\"").as_bytes());
        }
    }
    json.extend_from_slice(b"}\n");
    json
}

/// Appends an object that is not closed yet.
fn push_topic(topic: &TopicInfo, json: &mut Vec<u8>) {
    json.extend_from_slice(b"{\"topic\":");
    push_string(&topic.topic, json);
    json.extend_from_slice(b",\"members\":");
    push_decimal(topic.members as u64, json);
    json.extend_from_slice(b",\"history\":");
    push_decimal(topic.history as u64, json);
    if let Some(users) = topic.users {
        json.extend_from_slice(b",\"presence\":");
        push_decimal(users as u64, json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(names: &[&str], pattern: Option<&str>, after: Option<&str>) -> Vec<String> {
        let question = Question {
            pattern: pattern.map(str::to_owned),
            after: after.map(str::to_owned),
            public_by: None,
        };
        let mut first = FirstNames::new(&question);
        for name in names {
            first.add(name, 0);
        }
        let first = first.names.into_sorted_vec().into_iter();
        first.map(|(name, _)| name).collect()
    }

    #[test]
    fn the_first_names_by_pattern_and_place() {
        let names = ["b.2", "a", "b.1", "c"];
        assert_eq!(first(&names, None, None), ["a", "b.1", "b.2", "c"]);
        assert_eq!(first(&names, Some("b.*"), None), ["b.1", "b.2"]);
        assert_eq!(first(&names, None, Some("b.1")), ["b.2", "c"]);
        assert_eq!(first(&names, Some("b.*"), Some("b.2")), [""; 0]);
    }

    #[test]
    fn at_most_one_more_than_an_answer_has() {
        let names: Vec<String> = (0..3000).rev().map(|n| format!("{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let first = first(&names, None, None);
        assert_eq!(first.len(), TOPICS_MAX + 1);
        assert_eq!((&*first[0], &*first[TOPICS_MAX]), ("0000", "1000"));
    }
}
