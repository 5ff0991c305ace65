//! The subscriptions at a Redis server: one for each distinct name, however many want it.
//!
//! ```text
//!             hold                 SUBSCRIBE sent           acknowledged
//!   (absent) ─────▶ wanted, idle ───────────────▶ asked ──────────────────▶ active
//!       ▲                 ▲                                                   │ the last release, and LINGER over
//!       │ acknowledged    │ the connection has ended                         ▼
//!       └─────────────────┴──────────────────────── left ◀──────── UNSUBSCRIBE sent
//! ```
//!
//! Acknowledgements come in the order of the commands, and in one stream with the messages. So `is_active` says of
//! each message whether the server took it to be for this name too. A name for which another command is under way
//! is not confirmed before the acknowledgement of the last one. A new connection begins with all that is wanted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::pubsub::pattern;

/// How long a name stays subscribed that is no longer wanted: clients that come back soon find it as it was.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// The kinds of subscriptions that a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SubscriptionKind {
    /// `SUBSCRIBE`: a channel by its name.
    Channel,
    /// `PSUBSCRIBE`: channels by a glob pattern.
    Pattern,
    /// `SSUBSCRIBE`: a sharded channel by its name.
    Sharded,
}

impl SubscriptionKind {
    pub(crate) const ALL: [SubscriptionKind; 3] = [
        SubscriptionKind::Channel,
        SubscriptionKind::Pattern,
        SubscriptionKind::Sharded,
    ];

    pub(crate) fn subscribe_command(self) -> &'static str {
        match self {
            SubscriptionKind::Channel => "SUBSCRIBE",
            SubscriptionKind::Pattern => "PSUBSCRIBE",
            SubscriptionKind::Sharded => "SSUBSCRIBE",
        }
    }

    /// The command that publishes to such a channel.
    pub(crate) fn publish_command(self) -> &'static str {
        match self {
            SubscriptionKind::Channel | SubscriptionKind::Pattern => "PUBLISH",
            SubscriptionKind::Sharded => "SPUBLISH",
        }
    }

    pub(crate) fn unsubscribe_command(self) -> &'static str {
        match self {
            SubscriptionKind::Channel => "UNSUBSCRIBE",
            SubscriptionKind::Pattern => "PUNSUBSCRIBE",
            SubscriptionKind::Sharded => "SUNSUBSCRIBE",
        }
    }
}

/// Whether a name that was asked for is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// The server has acknowledged it.
    Active,
    /// An acknowledgement will come.
    Pending,
}

#[derive(Debug, Default)]
struct Entry {
    hold_count: u32,
    /// Commands whose acknowledgement has not come.
    in_flight: u32,
    /// The last command was to subscribe.
    is_asked: bool,
    /// The server has it subscribed at this place of the stream: the number of the activation, from one on.
    active_since: Option<u64>,
    /// It stands in the list of names that must be sent.
    is_listed: bool,
}

impl Entry {
    fn is_confirmed(&self) -> bool {
        self.is_asked && self.in_flight == 0 && self.active_since.is_some()
    }
}

/// The meaning of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The name is confirmed now.
    Confirmed,
    /// The server has ended the subscription itself, and it is not asked for again.
    Ended,
    /// No more than that: it stays as it is for those who want the name.
    Noted,
}

type Key = (SubscriptionKind, Box<[u8]>);

/// The subscriptions of one client of a server.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    entries: HashMap<Key, Entry>,
    /// Names for which a command may have to be sent.
    listed: Vec<Key>,
    /// Names without holds, each with the time at which it is given up. Ascending.
    lingering: VecDeque<(Duration, Key)>,
    activations: u64,
    /// The patterns that are active, the oldest first.
    patterns: Vec<(u64, Box<[u8]>)>,
    /// The server is a node of a cluster: a sharded name that it ends belongs to another node, and is not asked for again.
    is_of_node: bool,
}

impl Upstream {
    /// The subscriptions at one node of a cluster.
    pub(crate) fn of_node() -> Upstream {
        Upstream {
            is_of_node: true,
            ..Upstream::default()
        }
    }

    /// Wants a name, in addition to those who want it already.
    pub(crate) fn hold(&mut self, kind: SubscriptionKind, name: &[u8]) -> Held {
        let key = (kind, Box::from(name));
        let entry = self.entries.entry(key).or_default();
        entry.hold_count += 1;
        if entry.is_confirmed() {
            return Held::Active;
        }
        if !entry.is_asked && !entry.is_listed {
            entry.is_listed = true;
            self.listed.push((kind, name.into()));
        }
        Held::Pending
    }

    /// Gives up what [`hold`](Self::hold) wanted. The name stays subscribed for [`LINGER`].
    pub(crate) fn release(&mut self, kind: SubscriptionKind, name: &[u8], now: Duration) {
        let key = (kind, Box::from(name));
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.hold_count = entry.hold_count.saturating_sub(1);
        if entry.hold_count == 0 {
            self.lingering.push_back((now + LINGER, key));
        }
    }

    /// When the next name is to be given up.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.lingering.front().map(|(due, _)| *due)
    }

    /// Lists the names for which the time is over.
    pub(crate) fn end_lingering(&mut self, now: Duration) {
        while self.next_due().is_some_and(|due| due <= now)
            && let Some((_, key)) = self.lingering.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.hold_count != 0 || entry.is_listed {
                continue;
            }
            if entry.is_asked {
                entry.is_listed = true;
                self.listed.push(key);
            } else if entry.in_flight == 0 {
                self.entries.remove(&key);
            }
        }
    }

    /// Whether commands have to be sent.
    pub(crate) fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Takes the names to subscribe and those to unsubscribe, each by its kind, and counts them as sent.
    pub(crate) fn take_commands(&mut self) -> Vec<(SubscriptionKind, bool, Vec<Box<[u8]>>)> {
        let mut commands = Vec::new();
        let listed = std::mem::take(&mut self.listed);
        let mut names = HashMap::<_, Vec<_>>::new();
        for key in listed {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.is_listed = false;
            let is_wanted = entry.hold_count != 0;
            if is_wanted == entry.is_asked {
                continue;
            }
            entry.is_asked = is_wanted;
            entry.in_flight += 1;
            names.entry((key.0, is_wanted)).or_default().push(key.1);
        }
        for kind in SubscriptionKind::ALL {
            for is_wanted in [false, true] {
                if let Some(names) = names.remove(&(kind, is_wanted)) {
                    commands.push((kind, is_wanted, names));
                }
            }
        }
        commands
    }

    /// The server has acknowledged a command, or ended a subscription.
    pub(crate) fn acknowledge(
        &mut self,
        kind: SubscriptionKind,
        name: &[u8],
        is_subscribed: bool,
    ) -> Acknowledged {
        let key = (kind, Box::from(name));
        let Some(entry) = self.entries.get_mut(&key) else {
            return Acknowledged::Noted;
        };
        // Without a command the server has ended it itself, as it does with the channels of a slot that moves.
        let was_asked = entry.in_flight != 0;
        entry.in_flight = entry.in_flight.saturating_sub(1);
        let was_active = entry.active_since;
        if is_subscribed && was_active.is_none() {
            self.activations += 1;
            entry.active_since = Some(self.activations);
            if kind == SubscriptionKind::Pattern {
                self.patterns.push((self.activations, name.into()));
            }
        } else if !is_subscribed {
            entry.active_since = None;
            if kind == SubscriptionKind::Pattern {
                self.patterns
                    .retain(|(since, _)| Some(*since) != was_active);
            }
            if !was_asked {
                entry.is_asked = false;
                if self.is_of_node && entry.hold_count != 0 {
                    return Acknowledged::Ended;
                }
                if entry.hold_count != 0 && !entry.is_listed {
                    entry.is_listed = true;
                    self.listed.push(key);
                    return Acknowledged::Noted;
                }
            }
            if !entry.is_asked && entry.in_flight == 0 && entry.hold_count == 0 && !entry.is_listed
            {
                self.entries.remove(&key);
                return Acknowledged::Noted;
            }
        }
        let entry = self.entries.get(&key);
        match entry.is_some_and(Entry::is_confirmed) {
            true => Acknowledged::Confirmed,
            false => Acknowledged::Noted,
        }
    }

    /// Whether a name is subscribed, and no command about it is under way.
    pub(crate) fn is_confirmed(&self, kind: SubscriptionKind, name: &[u8]) -> bool {
        let entry = self.entries.get(&(kind, Box::from(name)));
        entry.is_some_and(Entry::is_confirmed)
    }

    /// The server has refused to subscribe a name. It is tried again when another one wants it, and with the next
    /// connection.
    pub(crate) fn refuse(&mut self, kind: SubscriptionKind, name: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&(kind, Box::from(name))) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
            // A later command under way has its own answer.
            entry.is_asked &= entry.in_flight != 0;
        }
    }

    /// The server has refused a command with this name among others. Returns whether the name is to be asked for alone: not
    /// where a later command is under way, or the name was given up.
    pub(crate) fn ask_again(&mut self, kind: SubscriptionKind, name: &[u8]) -> bool {
        let Some(entry) = self.entries.get_mut(&(kind, Box::from(name))) else {
            return false;
        };
        if entry.is_asked && entry.in_flight <= 1 {
            entry.in_flight = 1;
            return true;
        }
        entry.in_flight = entry.in_flight.saturating_sub(1);
        false
    }

    /// The connection has ended, and with it all subscriptions. All wanted names are listed for the next one.
    pub(crate) fn reset(&mut self) {
        self.patterns.clear();
        self.listed.clear();
        self.entries.retain(|_, entry| entry.hold_count != 0);
        for (key, entry) in &mut self.entries {
            (entry.in_flight, entry.is_asked, entry.active_since) = (0, false, None);
            entry.is_listed = true;
            self.listed.push(key.clone());
        }
    }

    /// Whether a message of a channel that came by a pattern is the one to take: not where it also comes by the
    /// channel's own name, and only by the oldest of the patterns that match.
    pub(crate) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        let by_name = self
            .entries
            .get(&(SubscriptionKind::Channel, Box::from(channel)));
        if by_name.is_some_and(|entry| entry.active_since.is_some()) {
            return false;
        }
        for (_, other) in &self.patterns {
            if **other == *pattern {
                return true;
            }
            if pattern::matches(other, channel) {
                return false;
            }
        }
        true
    }

    /// Whether a message of a channel that came by a pattern is the one to take where these patterns have one owner: only by
    /// the one of them that matches and was active first.
    pub(crate) fn is_first_of(
        &self,
        patterns: &[Box<[u8]>],
        pattern: &[u8],
        channel: &[u8],
    ) -> bool {
        let since = |name: &[u8]| {
            let entry = self
                .entries
                .get(&(SubscriptionKind::Pattern, Box::from(name)));
            entry.and_then(|entry| entry.active_since)
        };
        let own = since(pattern).unwrap_or(u64::MAX);
        let is_earlier = |other: &[u8]| since(other).is_some_and(|since| since < own);
        !(patterns.iter()).any(|other| pattern::matches(other, channel) && is_earlier(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Acknowledged::{Confirmed, Noted};
    use SubscriptionKind::{Channel, Pattern};

    const NOW: Duration = Duration::ZERO;

    fn sent(upstream: &mut Upstream) -> Vec<String> {
        let mut commands = Vec::new();
        for (kind, is_wanted, names) in upstream.take_commands() {
            for name in names {
                let command = match is_wanted {
                    true => kind.subscribe_command(),
                    false => kind.unsubscribe_command(),
                };
                commands.push(format!("{command} {}", String::from_utf8_lossy(&name)));
            }
        }
        commands.sort();
        commands
    }

    #[test]
    fn one_subscription_serves_all_who_want_a_name() {
        let mut upstream = Upstream::default();
        assert_eq!(upstream.hold(Channel, b"a"), Held::Pending);
        assert_eq!(upstream.hold(Channel, b"a"), Held::Pending);
        assert_eq!(sent(&mut upstream), ["SUBSCRIBE a"]);
        assert_eq!(upstream.hold(Channel, b"a"), Held::Pending);
        assert_eq!(sent(&mut upstream), [""; 0]);
        assert_eq!(upstream.acknowledge(Channel, b"a", true), Confirmed);
        assert_eq!(upstream.hold(Channel, b"a"), Held::Active);
        for _ in 0..4 {
            upstream.release(Channel, b"a", NOW);
        }
        upstream.end_lingering(NOW);
        assert_eq!(sent(&mut upstream), [""; 0]);
        assert_eq!(upstream.next_due(), Some(LINGER));
        upstream.end_lingering(LINGER);
        assert_eq!(sent(&mut upstream), ["UNSUBSCRIBE a"]);
        assert_eq!(upstream.acknowledge(Channel, b"a", false), Noted);
        assert!(upstream.entries.is_empty());
    }

    // The acknowledgement of an earlier command does not confirm a later one.
    #[test]
    fn a_name_that_comes_back_while_it_is_given_up_is_confirmed_by_its_own_acknowledgement() {
        let mut upstream = Upstream::default();
        upstream.hold(Channel, b"a");
        sent(&mut upstream);
        upstream.release(Channel, b"a", NOW);
        upstream.end_lingering(LINGER);
        assert_eq!(sent(&mut upstream), ["UNSUBSCRIBE a"]);
        assert_eq!(upstream.hold(Channel, b"a"), Held::Pending);
        assert_eq!(sent(&mut upstream), ["SUBSCRIBE a"]);
        assert_eq!(upstream.acknowledge(Channel, b"a", true), Noted);
        assert_eq!(upstream.acknowledge(Channel, b"a", false), Noted);
        assert_eq!(upstream.acknowledge(Channel, b"a", true), Confirmed);
    }

    #[test]
    fn a_name_that_comes_back_in_time_is_still_active() {
        let mut upstream = Upstream::default();
        upstream.hold(Pattern, b"a*");
        sent(&mut upstream);
        upstream.acknowledge(Pattern, b"a*", true);
        upstream.release(Pattern, b"a*", NOW);
        assert_eq!(upstream.hold(Pattern, b"a*"), Held::Active);
        upstream.end_lingering(LINGER);
        assert_eq!(sent(&mut upstream), [""; 0]);
        // The second release begins a time of its own.
        upstream.release(Pattern, b"a*", LINGER);
        upstream.end_lingering(LINGER);
        assert_eq!(sent(&mut upstream), [""; 0]);
        upstream.end_lingering(2 * LINGER);
        assert_eq!(sent(&mut upstream), ["PUNSUBSCRIBE a*"]);
    }

    #[test]
    fn a_new_connection_begins_with_all_that_is_wanted() {
        let mut upstream = Upstream::default();
        upstream.hold(Channel, b"a");
        upstream.hold(Pattern, b"b*");
        upstream.hold(Channel, b"c");
        sent(&mut upstream);
        upstream.acknowledge(Channel, b"a", true);
        upstream.acknowledge(Channel, b"c", true);
        upstream.release(Channel, b"c", NOW);
        upstream.reset();
        assert_eq!(upstream.hold(Channel, b"a"), Held::Pending);
        assert_eq!(sent(&mut upstream), ["PSUBSCRIBE b*", "SUBSCRIBE a"]);
        // The name that was given up with the connection lingers no longer.
        upstream.end_lingering(LINGER);
        assert_eq!(sent(&mut upstream), [""; 0]);
        assert_eq!(upstream.acknowledge(Channel, b"a", true), Confirmed);
    }

    #[test]
    fn a_subscription_that_the_server_ends_is_asked_for_again() {
        let mut upstream = Upstream::default();
        upstream.hold(SubscriptionKind::Sharded, b"s");
        sent(&mut upstream);
        assert_eq!(
            upstream.acknowledge(SubscriptionKind::Sharded, b"s", true),
            Confirmed
        );
        assert_eq!(
            upstream.acknowledge(SubscriptionKind::Sharded, b"s", false),
            Noted
        );
        assert_eq!(sent(&mut upstream), ["SSUBSCRIBE s"]);
    }

    #[test]
    fn a_sharded_name_that_a_node_ends_is_left_to_the_cluster() {
        let sharded = SubscriptionKind::Sharded;
        let mut upstream = Upstream::of_node();
        upstream.hold(sharded, b"s");
        sent(&mut upstream);
        assert_eq!(upstream.acknowledge(sharded, b"s", true), Confirmed);
        assert_eq!(
            upstream.acknowledge(sharded, b"s", false),
            Acknowledged::Ended
        );
        assert_eq!(sent(&mut upstream), [""; 0]);
        // The slot may come back.
        assert_eq!(upstream.hold(sharded, b"s"), Held::Pending);
        assert_eq!(sent(&mut upstream), ["SSUBSCRIBE s"]);
        for _ in 0..2 {
            upstream.release(sharded, b"s", NOW);
        }
        assert_eq!(upstream.acknowledge(sharded, b"s", true), Confirmed);
        assert_eq!(upstream.acknowledge(sharded, b"s", false), Noted);
        assert!(upstream.entries.is_empty());
    }

    #[test]
    fn a_message_by_several_subscriptions_is_taken_once() {
        let mut upstream = Upstream::default();
        for pattern in [&b"a*"[..], b"*b", b"x*"] {
            upstream.hold(Pattern, pattern);
        }
        sent(&mut upstream);
        for pattern in [&b"x*"[..], b"*b", b"a*"] {
            upstream.acknowledge(Pattern, pattern, true);
        }
        let takes = |upstream: &Upstream, channel: &[u8]| {
            [&b"a*"[..], b"*b", b"x*"].map(|pattern| upstream.is_first_by_pattern(pattern, channel))
        };
        assert_eq!(takes(&upstream, b"ab")[..2], [false, true]);
        assert!(takes(&upstream, b"ac")[0]);
        upstream.hold(Channel, b"ab");
        sent(&mut upstream);
        // Not before the acknowledgement: messages before it come by the patterns alone.
        assert_eq!(takes(&upstream, b"ab")[..2], [false, true]);
        upstream.acknowledge(Channel, b"ab", true);
        assert_eq!(takes(&upstream, b"ab")[..2], [false, false]);
        upstream.acknowledge(Pattern, b"*b", false);
        upstream.acknowledge(Channel, b"ab", false);
        assert!(takes(&upstream, b"ab")[0]);
    }

    #[test]
    fn a_message_by_several_patterns_of_one_owner_is_taken_once() {
        let mut upstream = Upstream::default();
        let all = [&b"a*"[..], b"*b", b"?b", b"x*"];
        for pattern in all {
            upstream.hold(Pattern, pattern);
        }
        sent(&mut upstream);
        // The last one is not acknowledged yet, so no message comes by it.
        for pattern in [&b"x*"[..], b"*b", b"a*"] {
            upstream.acknowledge(Pattern, pattern, true);
        }
        let takes = |upstream: &Upstream, patterns: &[&[u8]]| -> Vec<bool> {
            let patterns: Vec<Box<[u8]>> = patterns.iter().map(|it| Box::from(*it)).collect();
            let takes = |pattern: &&[u8]| upstream.is_first_of(&patterns, pattern, b"ab");
            [b"a*", b"*b"].map(|it| takes(&&it[..])).into()
        };
        assert_eq!(takes(&upstream, &all), [false, true]);
        // The owner has the later one of the two only.
        assert_eq!(takes(&upstream, &[b"a*", b"x*", b"?b"])[..1], [true]);
        upstream.acknowledge(Pattern, b"*b", false);
        assert_eq!(takes(&upstream, &all)[..1], [true]);
    }
}
