//! How connections have ended, counted by close code and cause.
//!
//! A peer chooses the code and may send any of 65,536, so codes that are not registered are counted in groups:
//! the number of counters is bounded, whatever peers do.

use std::collections::BTreeMap;

use super::close::{Close, CloseCause, Deadline};

/// How often connections have ended with each pair of close code and cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseCounts(BTreeMap<(&'static str, &'static str), u64>);

impl CloseCounts {
    /// Counts the end of a connection.
    pub(crate) fn record(&mut self, close: &Close) {
        let key = (code_name(close.code), cause_name(close.cause));
        *self.0.entry(key).or_default() += 1;
    }

    /// Adds the counts of another reactor.
    pub(crate) fn add(&mut self, other: &CloseCounts) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    /// Returns the code, the cause and the count of each pair that has occurred.
    ///
    /// The code is `none` on connections that are not WebSockets, a registered code such as `1001`, `4401`, or a
    /// group: `3xxx`, `4xxx` or `other`. The cause is a word such as `peer` or `slow_consumer`, and
    /// `timeout_` with the name of the deadline.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let counts = self.0.iter();
        counts.map(|((code, cause), count)| (*code, *cause, *count))
    }
}

/// Source: RFC 6455, section 7.4; IANA, "WebSocket Close Code Number Registry".
fn code_name(code: u16) -> &'static str {
    match code {
        0 => "none",
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1005 => "1005",
        1006 => "1006",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1010 => "1010",
        1011 => "1011",
        1012 => "1012",
        1013 => "1013",
        1014 => "1014",
        3000..=3999 => "3xxx",
        // The end of a token, which the hub says with this code.
        4401 => "4401",
        4000..=4999 => "4xxx",
        _ => "other",
    }
}

fn cause_name(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::Peer => "peer",
        CloseCause::Local => "local",
        CloseCause::Drained => "drained",
        CloseCause::TimedOut(deadline) => deadline_name(deadline),
        CloseCause::Protocol(_) => "protocol",
        CloseCause::Http(_) => "http",
        CloseCause::Framing(_) => "framing",
        CloseCause::Upgrade(_) => "upgrade",
        CloseCause::SlowConsumer => "slow_consumer",
        CloseCause::MemoryLimit => "memory_limit",
        CloseCause::AgeLimit => "age_limit",
        CloseCause::ProxyHeader(_) => "proxy_header",
        CloseCause::AddressLimit => "address_limit",
        CloseCause::Panicked => "panicked",
        CloseCause::CallbackError => "callback_error",
        CloseCause::Tunnel(_) => "tunnel",
        CloseCause::Lookup => "lookup",
        CloseCause::Tls(_) => "tls",
        CloseCause::Io(_) => "io",
    }
}

fn deadline_name(deadline: Deadline) -> &'static str {
    match deadline {
        Deadline::Connect => "timeout_connect",
        Deadline::Handshake => "timeout_handshake",
        Deadline::Head => "timeout_head",
        Deadline::Body => "timeout_body",
        Deadline::KeepAlive => "timeout_keep_alive",
        Deadline::Reply => "timeout_reply",
        Deadline::Idle => "timeout_idle",
        Deadline::Heartbeat => "timeout_heartbeat",
        Deadline::Pong => "timeout_pong",
        Deadline::Age => "timeout_age",
        Deadline::Write => "timeout_write",
        Deadline::Close => "timeout_close",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_sends_every_code_makes_few_counters() {
        let mut counts = CloseCounts::default();
        for code in 0..=u16::MAX {
            counts.record(&Close {
                code,
                ..Close::new(CloseCause::Peer)
            });
        }
        assert!(counts.iter().count() <= 20);
        let total: u64 = counts.iter().map(|(_, _, count)| count).sum();
        assert_eq!(total, 65_536);
        let of = |wanted: &str| {
            let found = counts.iter().find(|(code, _, _)| *code == wanted);
            found.map_or(0, |(_, _, count)| count)
        };
        let cases = [
            ("none", 1),
            ("1000", 1),
            ("3xxx", 1000),
            ("4401", 1),
            ("4xxx", 999),
        ];
        for (code, count) in cases {
            assert_eq!(of(code), count, "{code}");
        }
    }

    #[test]
    fn the_counts_of_reactors_are_added() {
        let mut all = CloseCounts::default();
        for cause in [
            CloseCause::Peer,
            CloseCause::Peer,
            CloseCause::TimedOut(Deadline::Pong),
        ] {
            let mut one = CloseCounts::default();
            one.record(&Close::new(cause));
            all.add(&one);
        }
        let counts: Vec<_> = all.iter().collect();
        assert_eq!(counts, [("none", "peer", 2), ("none", "timeout_pong", 1)]);
    }
}
