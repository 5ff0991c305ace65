//! Presence on several nodes: each reactor tells the others who has joined and left it, and that it is alive.
//!
//! ```text
//!   present N   who has joined and left; N grows by one with each message
//!   alive N     every 2 seconds, with the number of the last message
//!   want        asks one reactor, or all, for the whole
//!   state N     all members of a reactor, in parts, up to its message N
//! ```
//!
//! The members of another reactor are a share of its own in the table of this one, so that a user is told as joined and
//! left once, on whichever nodes it has connections. A number that is not the next one means that messages were missed: the
//! reactor asks for the state, and applies the difference. A reactor that was silent for 8 seconds has ended, and its
//! members leave. While the own link is lost, others are silent for that reason, and stay.

use std::rc::Rc;
use std::time::Duration;

use crate::pubsub::MemberChange;
use crate::reactor::reactor::Reactor;

use super::message::{ControlMessage, Part};
use super::others::{Other, add, apply, difference, hear};
use super::shared::Shared;

/// The time from one sign of life to the next.
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A reactor that was silent for so long has ended.
const LEASE: Duration = Duration::from_secs(8);

/// The time from one look at the leases to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The time from one question for the state of a reactor to the next.
const WANT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a message may wait for its answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// About the most bytes of one message.
const MESSAGE_BYTES: usize = 32 * 1024;

/// The bytes that a member counts beside its texts.
const MEMBER_BYTES: usize = 64;

/// Tells the others who is present here from now on, and hears who is present there. The first call counts.
pub(super) fn join<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    if std::mem::replace(&mut shared.others().borrow_mut().is_joined, true) {
        return;
    }
    let watching = Rc::clone(shared);
    reactor.watch_presence(move |reactor, changes| send_changes(&watching, reactor, &changes));
    look_later(Rc::clone(shared), reactor);
}

fn send<S: 'static>(shared: &Shared<S>, reactor: &mut Reactor<S>, message: &ControlMessage) {
    if !shared.recovery().borrow().is_raw_ready() {
        // The others see by the next number that they have missed it.
        return;
    }
    let channel = shared.keys().control_channel();
    let bytes = message.encode();
    let words: [&[u8]; 3] = [b"PUBLISH", channel.as_bytes(), &bytes];
    (shared.links()).command_anywhere(reactor, &words, TIMEOUT, |_, _| {});
}

/// Parts of about as many bytes as a message may have. At least one.
fn parts(changes: &[MemberChange]) -> Vec<&[MemberChange]> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (index, change) in changes.iter().enumerate() {
        let user = change.user.as_ref();
        let info_bytes = user
            .and_then(|it| it.info.as_ref())
            .map_or(0, |it| it.len());
        let user_bytes = user.map_or(0, |it| it.name.len());
        let next = MEMBER_BYTES + change.topic.len() + user_bytes + info_bytes;
        if MESSAGE_BYTES < bytes + next && begin < index {
            parts.push(&changes[begin..index]);
            (begin, bytes) = (index, 0);
        }
        bytes += next;
    }
    parts.push(&changes[begin..]);
    parts
}

/// Tells the others who has joined and left here.
fn send_changes<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    changes: &[MemberChange],
) {
    for part in parts(changes) {
        let sequence = {
            let mut others = shared.others().borrow_mut();
            others.sequence += 1;
            others.sequence
        };
        let message = ControlMessage::Present {
            origin: shared.origin(),
            sequence,
            changes: part.to_vec(),
        };
        send(shared, reactor, &message);
    }
}

fn tell_alive<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    let mut others = shared.others().borrow_mut();
    others.alive_at = reactor.now();
    let message = ControlMessage::Alive {
        origin: shared.origin(),
        sequence: others.sequence,
    };
    drop(others);
    send(shared, reactor, &message);
}

/// The link is ready: tells the others, and asks them who is present there.
pub(super) fn begin<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    let mut others = shared.others().borrow_mut();
    if !others.is_joined {
        return;
    }
    let now = reactor.now();
    for other in others.by_origin.values_mut() {
        other.heard_at = now;
        other.loading = None;
    }
    drop(others);
    let want = ControlMessage::Want {
        origin: shared.origin(),
        target: None,
    };
    send(shared, reactor, &want);
    tell_alive(shared, reactor);
}

/// Looks at the leases again and again.
fn look_later<S: 'static>(shared: Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    reactor.after(LOOK_INTERVAL, move |cx| {
        look(&shared, cx.reactor);
        look_later(shared, cx.reactor);
    });
}

fn look<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    if !shared.recovery().borrow().is_raw_ready() {
        return;
    }
    let now = reactor.now();
    let is_due = shared.others().borrow().alive_at + ALIVE_INTERVAL <= now;
    if is_due {
        tell_alive(shared, reactor);
    }
    let mut others = shared.others().borrow_mut();
    let is_over = |other: &Other| other.heard_at + LEASE <= now;
    let over = others.by_origin.iter().filter(|(_, it)| is_over(it));
    let over: Vec<(u64, u16)> = over.map(|(origin, it)| (*origin, it.share)).collect();
    for (origin, _) in &over {
        others.by_origin.remove(origin);
    }
    drop(others);
    // Of those that are there, one tells the program what has ended.
    let is_heir = is_heir(shared);
    for (_, share) in over {
        reactor.remove_remote_presence(share, is_heir);
    }
}

/// Whether this reactor is the first of those that are alive, by their names.
fn is_heir<S: 'static>(shared: &Rc<Shared<S>>) -> bool {
    let others = shared.others().borrow();
    others
        .by_origin
        .keys()
        .all(|other| shared.origin() < *other)
}

/// Asks a reactor for its members, unless that was asked just before.
fn want<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>, target: u64) {
    let now = reactor.now();
    let mut others = shared.others().borrow_mut();
    let Some(other) = others.by_origin.get_mut(&target) else {
        return;
    };
    if other.wanted_at.is_some_and(|at| now < at + WANT_INTERVAL) {
        return;
    }
    other.wanted_at = Some(now);
    drop(others);
    let message = ControlMessage::Want {
        origin: shared.origin(),
        target: Some(target),
    };
    send(shared, reactor, &message);
}

/// Sends the members of this reactor, once for all that have asked in this turn.
fn send_state_later<S: 'static>(shared: &Rc<Shared<S>>, reactor: &mut Reactor<S>) {
    if std::mem::replace(&mut shared.others().borrow_mut().has_state_due, true) {
        return;
    }
    let shared = Rc::clone(shared);
    reactor.next_tick(move |cx| {
        let reactor = &mut *cx.reactor;
        // The changes of this turn are in the state, so that no message behind it may have them.
        let changes = reactor.take_member_changes();
        if !changes.is_empty() {
            send_changes(&shared, reactor, &changes);
        }
        let sequence = {
            let mut others = shared.others().borrow_mut();
            others.has_state_due = false;
            others.sequence
        };
        let members = reactor.present_members();
        let parts = parts(&members);
        let count = parts.len();
        for (index, part) in parts.into_iter().enumerate() {
            let message = ControlMessage::State {
                origin: shared.origin(),
                sequence,
                part: Part {
                    is_first: index == 0,
                    is_last: index + 1 == count,
                },
                members: part.to_vec(),
            };
            send(&shared, reactor, &message);
        }
    });
}

/// A message about presence has come.
pub(super) fn handle<S: 'static>(
    shared: &Rc<Shared<S>>,
    reactor: &mut Reactor<S>,
    message: ControlMessage,
) {
    let now = reactor.now();
    let own = shared.origin();
    let mut others = shared.others().borrow_mut();
    if !others.is_joined {
        return;
    }
    match message {
        ControlMessage::Want { origin, target } => {
            drop(others);
            if origin != own && target.is_none_or(|target| target == own) {
                send_state_later(shared, reactor);
            }
        }
        ControlMessage::Alive { origin, sequence } if origin != own => {
            let is_known = hear(&mut others, origin, now)
                .is_some_and(|other| other.sequence == Some(sequence));
            drop(others);
            if !is_known {
                want(shared, reactor, origin);
            }
        }
        ControlMessage::Present {
            origin,
            sequence,
            changes,
        } if origin != own => {
            let Some(other) = hear(&mut others, origin, now) else {
                return;
            };
            if other.sequence.is_some_and(|known| sequence <= known) {
                return;
            }
            let is_next = other.sequence.is_some() && other.sequence == sequence.checked_sub(1);
            if !is_next {
                drop(others);
                return want(shared, reactor, origin);
            }
            other.sequence = Some(sequence);
            let share = other.share;
            let changes: Vec<_> = changes.into_iter().filter(|it| apply(other, it)).collect();
            drop(others);
            reactor.change_remote_presence(share, &changes);
        }
        ControlMessage::State {
            origin,
            sequence,
            part,
            members,
        } if origin != own => {
            let Some(other) = hear(&mut others, origin, now) else {
                return;
            };
            if part.is_first {
                other.loading = Some(Default::default());
            }
            let Some(loading) = &mut other.loading else {
                return;
            };
            for MemberChange { topic, user, .. } in members {
                add(loading, &topic, user);
            }
            if part.is_last
                && let Some(loaded) = other.loading.take()
            {
                other.sequence = Some(sequence);
                let changes = difference(&other.members, &loaded);
                other.members = loaded;
                let share = other.share;
                drop(others);
                reactor.change_remote_presence(share, &changes);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::others::change;
    use super::*;

    #[test]
    fn parts_are_bounded_and_whole() {
        let long = "x".repeat(1000);
        for count in [0, 1, 31, 100] {
            let changes = vec![change(&long, Some("ann"), true); count];
            let parts = parts(&changes);
            assert_eq!(parts.concat(), changes);
            let most = parts.iter().map(|part| part.len()).max().unwrap();
            assert!(most <= MESSAGE_BYTES / 1000, "{most}");
        }
    }
}
