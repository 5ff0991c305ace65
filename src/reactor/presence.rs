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
use super::present::{Join, JoinedAs};
use super::reactor::Reactor;
use super::sequence::Sequence;
use crate::pubsub::{
    Audience, MemberChange, Notice, Occupancy, Presence, PresenceCounts, Snapshot, TopicChange,
    TopicError, User,
};

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
            self.change_presence(None, None, |presence, share, now| {
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
        if !self.present.has_joined(id, topic) {
            let user = self.present.user(id);
            self.join_with(
                id,
                topic,
                user,
                JoinedAs::OfConnection,
                (Some(id), None),
                |_| (),
            );
        }
    }

    /// As [`join_presence`](Self::join_presence), as a user that is named for this topic alone, whoever the user of the
    /// connection is. The connection need not be a member of the topic; it has left when it unsubscribes.
    pub fn join_presence_as(&mut self, id: ConnId, topic: &str, user: User) {
        if !self.present.has_joined(id, topic) {
            let joined_as = JoinedAs::Named(user.clone());
            self.join_with(id, topic, Some(user), joined_as, (Some(id), None), |_| ());
        }
    }

    /// As [`join_presence_as`](Self::join_presence_as); the connection itself is told of it too, where it is a member.
    #[allow(dead_code, reason = "a role needs it, and not every build has it")]
    pub(crate) fn join_presence_told(&mut self, id: ConnId, topic: &str, user: User) {
        if !self.present.has_joined(id, topic) {
            let joined_as = JoinedAs::Named(user.clone());
            self.join_with(id, topic, Some(user), joined_as, (None, None), |_| ());
        }
    }

    /// Makes a connection a member of a topic by name, and present there as `user`, as
    /// [`join_presence_as`](Self::join_presence_as) does; it is present at once. A connection that has joined the topic
    /// before keeps the user that it has there.
    ///
    /// `done` is called when the connection has become a member, with the users of the topic at this moment, or with
    /// the reason why it cannot be one, and is then present no more. After `done` it gets all later changes and
    /// publications, and none before; not its own joining. In a group this waits until the changes before it were told,
    /// so that `done` may be called while something is being published: it calls nothing of the application. It is
    /// not called where the connection has left meanwhile.
    pub fn subscribe_present(
        &mut self,
        id: ConnId,
        topic: &str,
        user: User,
        done: impl FnOnce(&mut Reactor<S>, Result<Snapshot, TopicError>) + 'static,
    ) {
        let mark = match &self.sequence {
            Sequence::Own(_) => None,
            Sequence::Shared(_) => Some(self.parked.reserve()),
        };
        let joined_as = JoinedAs::Named(user.clone());
        let read = |presence: &Presence| presence.snapshot(topic);
        let Some(snapshot) =
            self.join_with(id, topic, Some(user), joined_as, (Some(id), mark), read)
        else {
            return;
        };
        let number = self.present.join_number(id, topic);
        let topic: Box<str> = topic.into();
        let become_member = move |reactor: &mut Reactor<S>| {
            // It may have left meanwhile, and perhaps joined again.
            if reactor.present.join_number(id, &topic) != number {
                return;
            }
            let subscribed = reactor.subscribe(id, &topic);
            if subscribed.is_err() {
                reactor.leave_presence(id, &topic);
            }
            done(reactor, subscribed.map(|_| snapshot));
        };
        match mark {
            None => become_member(self),
            Some(mark) => {
                let call = move |reactor: &mut Reactor<S>, _| become_member(reactor);
                self.parked.put(mark, Box::new(call));
            }
        }
    }

    /// Notes that a connection joins a topic, if it has not, and reads the presence at this moment. `None` when the
    /// connection has ended.
    fn join_with<R>(
        &mut self,
        id: ConnId,
        topic: &str,
        user: Option<User>,
        joined_as: JoinedAs,
        (except, mark): (Option<ConnId>, Option<u64>),
        read: impl FnOnce(&Presence) -> R,
    ) -> Option<R> {
        self.table.open_mut(id)?;
        let is_new = !self.present.has_joined(id, topic);
        let (mut name, mut result) = (None, None);
        self.change_presence(except, mark, |presence, share, now| {
            let join = || presence.join(share, topic, user.as_ref(), now);
            let change = is_new.then(join).flatten();
            name = presence.topic_name(topic);
            result = Some(read(presence));
            change.into_iter().collect()
        });
        if is_new {
            // The name is shared by all that have joined.
            let name = name.expect("the topic has a member");
            self.note_member_change(&name, &user, true);
            self.present.join(id, name, joined_as);
        }
        result
    }

    /// The users that are present in a topic; in a group those of all reactors.
    pub fn presence(&mut self, topic: &str) -> Snapshot {
        let snapshot = self.with_presence(|presence| presence.snapshot(topic));
        // A client may ask again and again.
        let steps = snapshot.users.as_ref().map_or(0, Vec::len) / 8;
        self.budget.charge(u32::try_from(steps).unwrap_or(u32::MAX));
        snapshot
    }

    /// The user as which a connection is present in a topic. `None` when it has not joined, or has no name there.
    pub fn present_user(&self, id: ConnId, topic: &str) -> Option<User> {
        self.present.user_in(id, topic)
    }

    /// How many users are present in a topic; in a group those of all reactors.
    pub fn present_user_count(&self, topic: &str) -> usize {
        self.with_presence(|presence| presence.user_count(topic))
    }

    /// How many users and connections are present in a topic; in a group those of all reactors.
    pub fn presence_counts(&self, topic: &str) -> PresenceCounts {
        self.with_presence(|presence| presence.counts(topic))
    }

    /// The topics in which there is somebody, whose names begin with `prefix` and come behind `after`, in the order of
    /// their names: at most `count_max`, each with its counts.
    pub fn topics_with_presence(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Vec<(Arc<str>, PresenceCounts)> {
        self.with_presence(|presence| presence.topics_with_prefix(prefix, after, count_max))
    }

    fn with_presence<R>(&self, call: impl FnOnce(&Presence) -> R) -> R {
        match &self.sequence {
            Sequence::Own(own) => call(own.presence()),
            Sequence::Shared(place) => place.sequencer().with_presence(|presence| call(presence)),
        }
    }

    /// Ends the presence of a connection in a topic. Does nothing where it is not present.
    pub(crate) fn leave_presence(&mut self, id: ConnId, topic: &str) {
        let Some(user) = self.present.leave(id, topic) else {
            return;
        };
        self.note_member_change(&topic.into(), &user, false);
        self.change_presence(None, None, |presence, share, now| {
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
        let Some((user, joins)) = self.present.remove(id) else {
            return;
        };
        if joins.is_empty() {
            return;
        }
        for join in &joins {
            self.note_member_change(join.topic(), &join.user(&user), false);
        }
        self.change_presence(None, None, |presence, share, now| {
            let leave = |join: &Join| {
                let user = join.user(&user);
                presence.leave(share, join.topic(), name_of(&user), now)
            };
            joins.iter().filter_map(leave).collect()
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

    /// Changes the presence of connections of this reactor, and has the members told. `except` is left out. In a group
    /// the call that is parked as `mark` is called when the changes before it, and these, have been told.
    fn change_presence(
        &mut self,
        except: Option<ConnId>,
        mark: Option<u64>,
        call: impl FnOnce(&mut Presence, u16, Duration) -> Vec<TopicChange>,
    ) {
        let now = self.presence_time();
        let mut occupancy = Vec::new();
        let due = match &mut self.sequence {
            Sequence::Own(own) => {
                let presence = own.presence_mut();
                let changes = call(presence, 0, now);
                occupancy = presence.take_occupancy();
                let due = presence.next_due();
                for change in changes {
                    self.deliver_change(&change, except);
                }
                due
            }
            Sequence::Shared(place) => {
                // No member is left out: one that joins may have the leaving of its user still before it in the
                // mailbox, and its own joining must come behind that.
                place.change_presence(mark, |presence, share| {
                    let changes = call(presence, share, now);
                    occupancy = presence.take_occupancy();
                    changes
                })
            }
        };
        self.note_occupancy(occupancy);
        if let Some(due) = due {
            self.arm_counts(due.saturating_sub(now));
        }
    }

    /// Has the program told who has joined and left, in the next turn.
    fn note_occupancy(&mut self, changes: Vec<Occupancy>) {
        if changes.is_empty() || !self.present.note_occupancy(changes) {
            return;
        }
        self.next_tick(|cx| {
            let reactor = &mut *cx.reactor;
            let changes = reactor.present.take_occupancy();
            if let (false, Some(call)) = (changes.is_empty(), reactor.on_occupancy.clone()) {
                call(reactor, changes);
            }
        });
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
            reactor.change_presence(None, None, |presence, _, now| presence.take_due(now));
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

/// # Occupancy
#[allow(dead_code, reason = "a role needs it, and not every build has one")]
impl<S: 'static> Reactor<S> {
    /// Gives the changes of topics whose names begin with `prefix` to `call`, in the turn after: those that connections
    /// of this reactor have made, and of those of other nodes the counts alone. The first call for a reactor holds.
    pub(crate) fn watch_occupancy(
        &mut self,
        prefix: &'static str,
        call: impl Fn(&mut Reactor<S>, Vec<Occupancy>) + 'static,
    ) {
        self.on_occupancy.get_or_insert_with(|| Rc::new(call));
        match &mut self.sequence {
            Sequence::Own(own) => own.presence_mut().watch(prefix),
            Sequence::Shared(place) => {
                place
                    .sequencer()
                    .with_presence(|presence| presence.watch(prefix));
            }
        }
    }

    /// Whether a topic that was vacated has had no connection since, for as long as that counts. Says so once.
    pub(crate) fn is_vacated(&mut self, topic: &str) -> bool {
        let now = self.presence_time();
        match &mut self.sequence {
            Sequence::Own(own) => own.presence_mut().is_vacated(topic, now),
            Sequence::Shared(place) => {
                (place.sequencer()).with_presence(|presence| presence.is_vacated(topic, now))
            }
        }
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
        self.change_presence(None, None, |presence, _, now| {
            let change = |it: &MemberChange| match it.has_joined {
                true => presence.join(share, &it.topic, it.user.as_ref(), now),
                false => presence.leave(share, &it.topic, name_of(&it.user), now),
            };
            let changes = changes.iter().filter_map(change).collect();
            // That node tells its program of the rest.
            presence.keep_counts();
            changes
        });
    }

    /// Another node has ended. `is_heir` says whether this reactor tells its program what that one cannot.
    pub(crate) fn remove_remote_presence(&mut self, share: u16, is_heir: bool) {
        self.change_presence(None, None, |presence, _, _| {
            let changes = presence.remove_share(share);
            if !is_heir {
                presence.keep_counts();
            }
            changes
        });
    }
}

fn name_of(user: &Option<User>) -> Option<&str> {
    user.as_ref().map(|user| &*user.name)
}
