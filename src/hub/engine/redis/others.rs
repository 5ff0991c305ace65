//! The members of other reactors, as they have told them.

use std::collections::HashMap;
use std::time::Duration;

use crate::pubsub::{MemberChange, User, check_name};

/// Most other reactors that are known.
const OTHERS_MAX: usize = 1000;

/// Most members of one other reactor: topics, each with the users there.
const MEMBERS_MAX: usize = 100_000;

/// A topic and a user there, or none for all without a name.
pub(super) type Member = (Box<str>, Option<Box<str>>);

/// The members of other reactors.
#[derive(Default)]
pub(super) struct Others {
    pub is_joined: bool,
    /// The number of the last message of this reactor.
    pub sequence: u64,
    /// A state is to be sent in the next turn.
    pub has_state_due: bool,
    pub alive_at: Duration,
    pub by_origin: HashMap<u64, Other>,
}

/// Another reactor.
pub(super) struct Other {
    pub share: u16,
    /// The number of the message up to which its members are known. `None` before its state has come.
    pub sequence: Option<u64>,
    pub heard_at: Duration,
    pub wanted_at: Option<Duration>,
    pub members: HashMap<Member, (Option<User>, u32)>,
    /// The parts of its state that have come.
    pub loading: Option<HashMap<Member, (Option<User>, u32)>>,
}

/// Adds a member, unless there are too many. Returns whether it was added.
pub(super) fn add(
    members: &mut HashMap<Member, (Option<User>, u32)>,
    topic: &str,
    user: Option<User>,
) -> bool {
    if check_name(topic).is_err() {
        return false;
    }
    let member = (
        topic.into(),
        user.as_ref().map(|user| Box::from(&*user.name)),
    );
    if MEMBERS_MAX <= members.len() && !members.contains_key(&member) {
        return false;
    }
    members.entry(member).or_insert((user, 0)).1 += 1;
    true
}

/// The reactor with this origin has sent something.
pub(super) fn hear(others: &mut Others, origin: u64, now: Duration) -> Option<&mut Other> {
    if !others.by_origin.contains_key(&origin) {
        if OTHERS_MAX <= others.by_origin.len() {
            return None;
        }
        let is_used = |share: &u16| others.by_origin.values().any(|it| it.share == *share);
        // Zero is the share of this reactor.
        let share = (1..=u16::MAX).find(|share| !is_used(share))?;
        let other = Other {
            share,
            sequence: None,
            heard_at: now,
            wanted_at: None,
            members: HashMap::new(),
            loading: None,
        };
        others.by_origin.insert(origin, other);
    }
    let other = others.by_origin.get_mut(&origin)?;
    other.heard_at = now;
    Some(other)
}

/// Notes a change of another reactor. Returns whether it is one.
pub(super) fn apply(other: &mut Other, change: &MemberChange) -> bool {
    let MemberChange {
        topic,
        user,
        has_joined,
    } = change;
    if *has_joined {
        return add(&mut other.members, topic, user.clone());
    }
    let member: Member = (
        Box::from(&**topic),
        user.as_ref().map(|user| Box::from(&*user.name)),
    );
    let Some((_, count)) = other.members.get_mut(&member) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        other.members.remove(&member);
    }
    true
}

/// The changes that make the second of the first.
pub(super) fn difference(
    before: &HashMap<Member, (Option<User>, u32)>,
    after: &HashMap<Member, (Option<User>, u32)>,
) -> Vec<MemberChange> {
    let count_in = |members: &HashMap<Member, (Option<User>, u32)>, member| {
        members.get(member).map_or(0, |(_, count)| *count)
    };
    let mut changes = Vec::new();
    for (of, others, has_joined) in [(after, before, true), (before, after, false)] {
        for (member, (user, count)) in of {
            let change = MemberChange {
                topic: (&*member.0).into(),
                user: user.clone(),
                has_joined,
            };
            let missing = count.saturating_sub(count_in(others, member));
            changes.extend(std::iter::repeat_n(change, missing as usize));
        }
    }
    changes
}

/// A change by a user without a description, or by one without a name.
#[cfg(test)]
pub(super) fn change(topic: &str, user: Option<&str>, has_joined: bool) -> MemberChange {
    let user = user.map(|name| User {
        name: name.into(),
        info: None,
    });
    MemberChange {
        topic: topic.into(),
        user,
        has_joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_two_states_makes_one_of_the_other() {
        let states = [
            vec![],
            vec![("a", None)],
            vec![("a", None), ("a", None), ("b", Some("ann"))],
            vec![("a", Some("ann")), ("a", Some("ann")), ("b", Some("bob"))],
            vec![("b", Some("ann"))],
        ];
        let members = |state: &[(&str, Option<&str>)]| {
            let mut members = HashMap::new();
            for (topic, user) in state {
                add(&mut members, topic, change(topic, *user, true).user);
            }
            members
        };
        for before in &states {
            for after in &states {
                let mut other = Other {
                    share: 1,
                    sequence: None,
                    heard_at: Duration::ZERO,
                    wanted_at: None,
                    members: members(before),
                    loading: None,
                };
                for change in difference(&members(before), &members(after)) {
                    assert!(apply(&mut other, &change), "{change:?}");
                }
                assert_eq!(other.members, members(after), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn one_that_was_not_there_does_not_leave() {
        let mut others = Others::default();
        let other = hear(&mut others, 7, Duration::ZERO).unwrap();
        assert!(!apply(other, &change("a", Some("ann"), false)));
        assert!(apply(other, &change("a", Some("ann"), true)));
        assert!(!apply(other, &change("a", None, false)));
        assert!(!apply(other, &change("a\n", None, true)));
        assert!(apply(other, &change("a", Some("ann"), false)));
        assert!(!apply(other, &change("a", Some("ann"), false)));
    }
}
