//! The connections whose clients are known: who they are, what they may have, and when that ends.
//!
//! A connection has an entry when its client has shown a token, and, where there are private topics, when it is a
//! member by a pattern. Others cost nothing here. There are at most as many entries as connections.
//!
//! One timer waits for the token that ends first.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::pubsub::{Rule, Rules, User};
use crate::reactor::id::{ConnId, ConnMap};
use crate::reactor::pattern_filter::PatternFilter;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;

use super::jwt::Claims;
use super::rights::{Rights, STRANGERS_BYTES_MAX, Scope};
use super::subscribe::unsubscribe_name;

/// The longest time between two looks at the time of day, which may be set, and goes on while the machine is
/// suspended and the clock of the reactor stands still.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The most tokens that end in one turn.
const ENDS_IN_A_TURN_MAX: usize = 256;

/// Tells a client, in the words of its protocol, that it is a member no more of these names.
pub(super) type OnEnd<S> = fn(&mut Reactor<S>, ConnId, &[String], EndReason);

/// Why subscriptions of a client have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its token has ended.
    Expired,
    /// The back end has ended them.
    Forced,
}

/// A connection belongs to one user, and shows the token of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnotherUser;

/// The known clients of a hub on one reactor. A clone is the same.
pub(super) struct Identities<S> {
    known: Rc<RefCell<Known<S>>>,
}

struct Known<S> {
    rules: Rules,
    has_private_topics: bool,
    has_presence: bool,
    has_filter: bool,
    entries: ConnMap<Identity<S>>,
    /// The tokens by the second, since 1970, in which they are no longer valid, and by connection.
    ends: BTreeSet<(u64, u64)>,
    /// The timer for the first end, and the second since 1970 for which it is set.
    timer: Option<(TimerId, u64)>,
}

struct Identity<S> {
    rights: Rights,
    /// The user of the first token on this connection. Kept when that token has ended.
    user: Option<Box<str>>,
    has_shown_token: bool,
    on_end: OnEnd<S>,
}

impl<S> Clone for Identities<S> {
    fn clone(&self) -> Self {
        Identities {
            known: Rc::clone(&self.known),
        }
    }
}

impl<S: 'static> Identities<S> {
    /// No client is known.
    pub(super) fn new(rules: &Rules) -> Identities<S> {
        let has = |is: fn(&Rule) -> bool| rules.iter().any(|(_, rule)| is(rule));
        Identities {
            known: Rc::new(RefCell::new(Known {
                rules: rules.clone(),
                has_private_topics: has(|rule| rule.is_private),
                has_presence: has(|rule| rule.has_presence),
                has_filter: false,
                entries: ConnMap::default(),
                ends: BTreeSet::new(),
                timer: None,
            })),
        }
    }

    /// Keeps publications to private topics from members by pattern that have no right to them. Only the first
    /// call for a hub does something.
    pub(super) fn filter_patterns(&self, reactor: &mut Reactor<S>) {
        let mut known = self.known.borrow_mut();
        if known.has_private_topics && !known.has_filter {
            known.has_filter = true;
            reactor.add_pattern_filter(Rc::<RefCell<Known<S>>>::clone(&self.known) as _);
        }
    }

    /// Notes the rights of a client that has shown a credential. When its token ends, its rights are those of
    /// everybody, its subscriptions end that need more, and `on_end` tells it.
    ///
    /// # Errors
    ///
    /// When the connection has shown the token of another user. Then its rights stay as they were.
    pub(super) fn identify(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        rights: &Rights,
        on_end: OnEnd<S>,
    ) -> Result<(), AnotherUser> {
        let Some(claims) = &rights.claims else {
            // Its rights do not end, and an entry is needed only to take back those of a token before.
            let is_known = self.known.borrow().entries.get(id).is_some();
            if is_known {
                self.set(reactor, id, rights, on_end);
                self.set_user(reactor, id, None);
            }
            return Ok(());
        };
        let is_another = |entry: &Identity<S>| entry.has_shown_token && entry.user != claims.user;
        if self.known.borrow().entries.get(id).is_some_and(is_another) {
            return Err(AnotherUser);
        }
        self.set(reactor, id, rights, on_end);
        let mut known = self.known.borrow_mut();
        if let Some(entry) = known.entries.get_mut(id) {
            entry.user.clone_from(&claims.user);
            entry.has_shown_token = true;
        }
        known.ends.insert((claims.end_unix(), id.to_bits()));
        drop(known);
        self.set_timer(reactor);
        self.set_user(reactor, id, Some(claims));
        Ok(())
    }

    /// As [`identify`](Self::identify), for a request that waits, and not for what comes later on its connection:
    /// a proxy may send the requests of several users on one. Notes a pattern too.
    pub(super) fn identify_request(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        rights: &Rights,
        has_pattern: bool,
        on_end: OnEnd<S>,
    ) {
        let known = self.known.borrow();
        let is_filtered = has_pattern && known.has_private_topics;
        if rights.claims.is_none() && !is_filtered && known.entries.get(id).is_none() {
            return;
        }
        drop(known);
        self.set(reactor, id, rights, on_end);
        let mut known = self.known.borrow_mut();
        if let Some(entry) = known.entries.get_mut(id) {
            entry.user = rights.claims.as_ref().and_then(|it| it.user.clone());
        }
        if let Some(claims) = &rights.claims {
            known.ends.insert((claims.end_unix(), id.to_bits()));
            drop(known);
            self.set_timer(reactor);
        }
    }

    /// Forgets the rights of a request that has waited. The entry of its connection stays for the next one.
    pub(super) fn forget_request(&self, id: ConnId) {
        let mut known = self.known.borrow_mut();
        known.forget_end(id);
        if let Some(entry) = known.entries.get_mut(id) {
            entry.rights = Rights::default();
            entry.user = None;
        }
    }

    /// Sets by whom a connection is present.
    fn set_user(&self, reactor: &mut Reactor<S>, id: ConnId, claims: Option<&Claims>) {
        if !self.known.borrow().has_presence {
            return;
        }
        let user = claims.and_then(|claims| {
            let name = claims.user.as_deref()?.into();
            let info = claims.info.as_deref().map(Into::into);
            Some(User { name, info })
        });
        reactor.set_user(id, user);
    }

    /// Notes that a client is a member by a pattern, for the filter of deliveries.
    pub(super) fn note_pattern(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        rights: &Rights,
        on_end: OnEnd<S>,
    ) {
        let known = self.known.borrow();
        if known.has_private_topics && known.entries.get(id).is_none() {
            drop(known);
            self.set(reactor, id, rights, on_end);
        }
    }

    fn set(&self, reactor: &mut Reactor<S>, id: ConnId, rights: &Rights, on_end: OnEnd<S>) {
        // The entry goes with the call of `on_close`, which a connection that has ended does not get any more.
        if !reactor.is_open(id) {
            return;
        }
        let mut known = self.known.borrow_mut();
        known.forget_end(id);
        if let Some(entry) = known.entries.get_mut(id) {
            entry.rights = rights.clone();
            entry.on_end = on_end;
            return;
        }
        let entry = Identity {
            rights: rights.clone(),
            user: None,
            has_shown_token: false,
            on_end,
        };
        known.entries.insert(id, entry);
        let of_connection = Rc::clone(&self.known);
        reactor.on_close(id, move |_, _| {
            let mut known = of_connection.borrow_mut();
            known.forget_end(id);
            known.entries.remove(id);
        });
    }

    /// The rights of a client whose scope is known. Those of a token are everybody's when it has ended.
    pub(super) fn rights_of(&self, id: ConnId, scope: Scope) -> Rights {
        let known = self.known.borrow();
        match (scope, known.entries.get(id)) {
            // A command that is under way may know the scope before a token was shown.
            (_, Some(entry)) if entry.has_shown_token => entry.rights.clone(),
            (Scope::Token, _) => Rights::default(),
            (Scope::Public | Scope::Local | Scope::All, _) => Rights::new(scope),
        }
    }

    /// The connections of a user, also of one whose token has ended. Looks at all entries.
    pub(super) fn connections_of(&self, user: &str) -> Vec<ConnId> {
        let known = self.known.borrow();
        let entries = known.entries.iter();
        let of_user = entries.filter(|(_, entry)| entry.user.as_deref() == Some(user));
        of_user.map(|(id, _)| id).collect()
    }

    /// Tells a client of a subscription that the back end has ended.
    pub(super) fn tell_unsubscribed(&self, reactor: &mut Reactor<S>, id: ConnId, name: &str) {
        let on_end = self.known.borrow().entries.get(id).map(|it| it.on_end);
        if let Some(on_end) = on_end {
            on_end(reactor, id, &[name.to_owned()], EndReason::Forced);
        }
    }

    /// Sets the timer for the token that ends first.
    fn set_timer(&self, reactor: &mut Reactor<S>) {
        let mut known = self.known.borrow_mut();
        let Some((end_unix, _)) = known.ends.first().copied() else {
            return;
        };
        match known.timer {
            Some((_, due_unix)) if due_unix <= end_unix => return,
            Some((timer, _)) => drop(reactor.cancel(timer)),
            None => {}
        }
        let wait = end_unix.saturating_sub(reactor.system_unix_time());
        let wait = Duration::from_secs(wait).min(LOOK_INTERVAL);
        let identities = self.clone();
        let timer = reactor.after(wait, move |cx: &mut Cx<'_, S>| {
            identities.known.borrow_mut().timer = None;
            identities.end_tokens(cx.reactor);
        });
        known.timer = Some((timer, end_unix));
    }

    /// Ends the tokens whose time is over.
    fn end_tokens(&self, reactor: &mut Reactor<S>) {
        let now_unix = reactor.system_unix_time();
        for _ in 0..ENDS_IN_A_TURN_MAX {
            let (id, on_end) = {
                let mut known = self.known.borrow_mut();
                let Some((end_unix, bits)) = known.ends.first().copied() else {
                    break;
                };
                if now_unix < end_unix {
                    break;
                }
                known.ends.pop_first();
                let id = ConnId::from_bits(bits);
                let Some(entry) = known.entries.get_mut(id) else {
                    continue;
                };
                // On an open hub a token has granted nothing, and only said who the client is.
                let scope = match entry.rights.scope {
                    Scope::All => Scope::All,
                    Scope::Public | Scope::Local | Scope::Token => Scope::Public,
                };
                entry.rights = Rights::new(scope);
                if scope == Scope::Public {
                    reactor.set_message_bytes_max(id, Some(STRANGERS_BYTES_MAX));
                }
                (id, entry.on_end)
            };
            let ended = self.end_subscriptions(reactor, id);
            self.set_user(reactor, id, None);
            on_end(reactor, id, &ended, EndReason::Expired);
        }
        self.set_timer(reactor);
    }

    /// Ends the subscriptions of a client to which it has no right any more. Returns their names.
    pub(super) fn end_subscriptions(&self, reactor: &mut Reactor<S>, id: ConnId) -> Vec<String> {
        let known = self.known.borrow();
        let Some(entry) = known.entries.get(id) else {
            return Vec::new();
        };
        let lacks = |name: &&str| entry.rights.may_subscribe(&known.rules, name).is_err();
        let names = reactor.subscriptions(id).filter(lacks);
        let names: Vec<String> = names.map(str::to_owned).collect();
        drop(known);
        for name in &names {
            unsubscribe_name(reactor, id, name);
        }
        names
    }
}

impl<S> Known<S> {
    fn forget_end(&mut self, id: ConnId) {
        let end = self
            .entries
            .get(id)
            .and_then(|entry| entry.rights.end_unix());
        if let Some(end_unix) = end {
            self.ends.remove(&(end_unix, id.to_bits()));
        }
    }
}

impl<S> PatternFilter for RefCell<Known<S>> {
    fn is_about(&self, topic: &str) -> bool {
        self.borrow().rules.of(topic).is_private
    }

    /// A member without an entry is not one of this hub.
    fn hides(&self, topic: &str, member: ConnId) -> bool {
        let known = self.borrow();
        let entry = known.entries.get(member);
        entry.is_some_and(|entry| !entry.rights.may_have_private(topic))
    }
}
