//! Presence: the users that are members of topics, on this reactor or on all of a group.
//!
//! The counts are kept in `pubsub/presence.rs`: by this reactor, or by the group under the lock of its order.
//! Here it is known which connection has joined which topics, so that it leaves each of them once: when it
//! unsubscribes, when it ends, whatever ended it, or with all others when its reactor leaves the group.
//!
//! Members are told in the order of the publications. In a group a client may get changes that its snapshot has
//! already, since they were in the mailbox of its reactor: a user that is there joins again, one that is not
//! leaves. Applied to a list of users they change nothing in the end, because the last change of each user is
//! the one that the snapshot has. For that each member must get all of them, also its own joining.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::id::ConnId;
use super::reactor::Reactor;
use super::sequence::Sequence;
use crate::pubsub::{Audience, MemberChange, Notice, Presence, Snapshot, TopicChange, User};

/// # Presence
impl<S: 'static> Reactor<S> {
    /// Sets how many users of a topic are listed; with more they are counted. The default is 1,000. In a group it
    /// holds for all reactors.
    pub fn set_presence_users_max(&mut self, users_max: usize) {
        match &mut self.sequence {
            Sequence::Own(own) => own.presence_mut().set_users_max(users_max),
            Sequence::Shared(place) => {
                let sequencer = place.sequencer();
                sequencer.with_presence(|presence| presence.set_users_max(users_max));
            }
        }
    }

    /// Sets the user of a connection, by whom it is present. With `None` it is anonymous, as it is at first. The
    /// topics that it has joined are left by the old user and joined by the new one.
    pub fn set_user(&mut self, id: ConnId, user: Option<User>) {
        if self.table.open_mut(id).is_none() {
            return;
        }
        let Some((old, topics)) = self.present.set_user(id, user.clone()) else {
            return;
        };
        for topic in topics {
            self.note_member_change(&topic, &user, true);
            self.note_member_change(&topic, &old, false);
            self.change_presence(None, |presence, share, now| {
                // The new one first: a user whose description alone is new does not leave.
                let joined = presence.join(share, &topic, user.as_ref(), now);
                let left = presence.leave(share, &topic, name_of(&old), now);
                joined.into_iter().chain(left).collect()
            });
        }
    }

    /// Makes a connection present in a topic, until it unsubscribes from the topic or ends. The other members of the
    /// topic by name are told if it is the first of its user.
    ///
    /// The connection is a member of the topic by name. A second call for the same topic changes nothing.
    pub fn join_presence(&mut self, id: ConnId, topic: &str) {
        if self.table.open_mut(id).is_none() {
            return;
        }
        let Some(user) = self.present.user_to_join(id, topic) else {
            return;
        };
        let mut name = None;
        self.change_presence(Some(id), |presence, share, now| {
            let change = presence.join(share, topic, user.as_ref(), now);
            name = presence.topic_name(topic);
            change.into_iter().collect()
        });
        // The name is shared by all that have joined.
        let name = name.expect("the topic has a member");
        self.note_member_change(&name, &user, true);
        self.present.join(id, name);
    }

    /// The users that are present in a topic; in a group those of all reactors.
    pub fn presence(&mut self, topic: &str) -> Snapshot {
        let snapshot = match &self.sequence {
            Sequence::Own(own) => own.presence().snapshot(topic),
            Sequence::Shared(place) => place
                .sequencer()
                .with_presence(|presence| presence.snapshot(topic)),
        };
        // A client may ask again and again.
        let steps = snapshot.users.as_ref().map_or(0, Vec::len) / 8;
        self.budget.charge(u32::try_from(steps).unwrap_or(u32::MAX));
        snapshot
    }

    /// How many users are present in a topic; in a group those of all reactors.
    pub fn present_user_count(&self, topic: &str) -> usize {
        match &self.sequence {
            Sequence::Own(own) => own.presence().user_count(topic),
            Sequence::Shared(place) => place
                .sequencer()
                .with_presence(|presence| presence.user_count(topic)),
        }
    }

    /// A connection is no longer a member of a topic by name.
    pub(super) fn leave_presence(&mut self, id: ConnId, topic: &str) {
        let Some(user) = self.present.leave(id, topic) else {
            return;
        };
        self.note_member_change(&topic.into(), &user, false);
        self.change_presence(None, |presence, share, now| {
            presence
                .leave(share, topic, name_of(&user), now)
                .into_iter()
                .collect()
        });
    }

    /// A connection has ended.
    pub(super) fn end_presence(&mut self, id: ConnId) {
        if self.present.is_empty() {
            return;
        }
        let Some((user, topics)) = self.present.remove(id) else {
            return;
        };
        if topics.is_empty() {
            return;
        }
        for topic in &topics {
            self.note_member_change(topic, &user, false);
        }
        self.change_presence(None, |presence, share, now| {
            let leave = |topic: &Arc<str>| presence.leave(share, topic, name_of(&user), now);
            topics.iter().filter_map(leave).collect()
        });
    }

    fn note_member_change(&mut self, topic: &Arc<str>, user: &Option<User>, has_joined: bool) {
        if !self.present.note_change(topic, user, has_joined) {
            return;
        }
        self.next_tick(|cx| {
            let reactor = &mut *cx.reactor;
            let changes = reactor.present.take_changes();
            if let (false, Some(call)) = (changes.is_empty(), reactor.on_member_changes.clone()) {
                call(reactor, changes);
            }
        });
    }

    /// Changes the presence of connections of this reactor, and has the members told. `except` is left out.
    fn change_presence(
        &mut self,
        except: Option<ConnId>,
        call: impl FnOnce(&mut Presence, u16, Duration) -> Vec<TopicChange>,
    ) {
        let now = self.presence_time();
        let due = match &mut self.sequence {
            Sequence::Own(own) => {
                let presence = own.presence_mut();
                let changes = call(presence, 0, now);
                let due = presence.next_due();
                for change in changes {
                    self.deliver_change(&change, except);
                }
                due
            }
            Sequence::Shared(place) => {
                // No member is left out: one that joins may have the leaving of its user still before it in the
                // mailbox, and its own joining must come behind that.
                place.change_presence(|presence, share| call(presence, share, now))
            }
        };
        if let Some(due) = due {
            self.arm_counts(due.saturating_sub(now));
        }
    }

    /// Has the counts told that come too soon now.
    fn arm_counts(&mut self, wait: Duration) {
        if self.present.set_timer(true) {
            return;
        }
        self.after(wait, |cx| {
            let reactor = &mut *cx.reactor;
            reactor.present.set_timer(false);
            // Arms the next timer, where one is needed.
            reactor.change_presence(None, |presence, _, now| presence.take_due(now));
        });
    }

    /// Tells the members of a topic by name.
    pub(super) fn deliver_change(&mut self, change: &TopicChange, except: Option<ConnId>) {
        let notice = Notice::from(&change.change);
        self.deliver_notice(&change.topic, &notice, Audience::ByName, except);
    }

    /// Tells the members of all topics that connections of this reactor have joined the users that are present
    /// now: changes were lost.
    pub(super) fn deliver_present_users(&mut self) {
        for topic in self.present.topics() {
            let snapshot = self.presence(&topic);
            let notice = Notice::Present {
                snapshot: &snapshot,
            };
            self.deliver_notice(&topic, &notice, Audience::ByName, None);
        }
    }

    /// The time for the counts of users. That of the reactors of a group differs by less than a second.
    fn presence_time(&self) -> Duration {
        let started = Duration::from_secs(self.unix_time() - self.now().as_secs());
        started + self.now()
    }
}

/// # Presence on several nodes
#[allow(dead_code, reason = "an engine needs it, and not every build has one")]
impl<S: 'static> Reactor<S> {
    /// Gives the joins and leaves of connections of this reactor to `call`, in the turn after.
    pub(crate) fn watch_presence(
        &mut self,
        call: impl Fn(&mut Reactor<S>, Vec<MemberChange>) + 'static,
    ) {
        self.present.watch();
        self.on_member_changes = Some(Rc::new(call));
    }

    /// Takes the joins and leaves that were not given to the engine.
    pub(crate) fn take_member_changes(&mut self) -> Vec<MemberChange> {
        self.present.take_changes()
    }

    /// The connections of this reactor in each topic that they have joined.
    pub(crate) fn present_members(&self) -> Vec<MemberChange> {
        self.present.members()
    }

    /// Connections of another node have joined and left. `share` is that node's, and not zero. One that leaves has joined
    /// before.
    pub(crate) fn change_remote_presence(&mut self, share: u16, changes: &[MemberChange]) {
        self.change_presence(None, |presence, _, now| {
            let change = |it: &MemberChange| match it.has_joined {
                true => presence.join(share, &it.topic, it.user.as_ref(), now),
                false => presence.leave(share, &it.topic, name_of(&it.user), now),
            };
            changes.iter().filter_map(change).collect()
        });
    }

    /// Another node has ended.
    pub(crate) fn remove_remote_presence(&mut self, share: u16) {
        self.change_presence(None, |presence, _, _| presence.remove_share(share));
    }
}

fn name_of(user: &Option<User>) -> Option<&str> {
    user.as_ref().map(|user| &*user.name)
}
