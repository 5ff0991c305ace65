//! The problems of a run: a count for each kind, and a description of the first.

use std::fmt;

use serde_json::{Value, json};
use waterwheel::{Close, CloseCause, Deadline};

/// The kinds of problems. Each is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection could not be made.
    NotOpened,
    /// A connection ended early.
    Closed,
    /// A message of another length or type than was sent.
    WrongLength,
    /// A message that was not sent, or whose bytes were changed.
    Altered,
    /// A message that was sent and did not come.
    Lost,
    /// A message that came a second time.
    Duplicated,
    /// A message that came after one that was sent later.
    Reordered,
    /// An answer that is an error.
    Refused,
    /// The watched process or the machine could not be measured.
    Machine,
    /// A signal ended the run before it was measured, or before all replies had come.
    Interrupted,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::NotOpened => "not_opened",
            Kind::Closed => "closed",
            Kind::WrongLength => "wrong_length",
            Kind::Altered => "altered",
            Kind::Lost => "lost",
            Kind::Duplicated => "duplicated",
            Kind::Reordered => "reordered",
            Kind::Refused => "refused",
            Kind::Machine => "machine",
            Kind::Interrupted => "interrupted",
        }
    }
}

struct Problem {
    kind: Kind,
    count: u64,
    first: String,
}

#[derive(Default)]
pub struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    /// Counts one. `describe` is called for the first of a kind.
    pub fn add(&mut self, kind: Kind, describe: impl FnOnce() -> String) {
        self.add_many(kind, 1, describe);
    }

    pub fn add_many(&mut self, kind: Kind, count: u64, describe: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        match self.problems.iter_mut().find(|found| found.kind == kind) {
            Some(found) => found.count += count,
            None => self.problems.push(Problem {
                kind,
                count,
                first: describe(),
            }),
        }
    }

    pub fn count(&self) -> u64 {
        self.problems.iter().map(|problem| problem.count).sum()
    }

    pub fn count_of(&self, kind: Kind) -> u64 {
        let of_kind = |problem: &&Problem| problem.kind == kind;
        self.problems
            .iter()
            .find(of_kind)
            .map_or(0, |found| found.count)
    }

    pub fn to_json(&self) -> Value {
        self.problems
            .iter()
            .map(|problem| {
                json!({
                    "kind": problem.kind.name(),
                    "count": problem.count,
                    "first": problem.first,
                })
            })
            .collect()
    }
}

/// A sentence for each kind.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            match problem.count {
                1 => writeln!(f, "waterwheel: {}", problem.first)?,
                count => writeln!(
                    f,
                    "waterwheel: {} ({count} times {}, of which this was the first)",
                    problem.first,
                    problem.kind.name().replace('_', " ")
                )?,
            }
        }
        Ok(())
    }
}

/// Describes why a connection to `address` failed or ended, and what may help.
pub fn describe_close(address: &str, close: &Close) -> String {
    use std::io::ErrorKind;

    match close.cause {
        CloseCause::Io(ErrorKind::ConnectionRefused) => {
            format!(
                "{address} refuses connections: is the server running, and does it listen there?"
            )
        }
        CloseCause::Io(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            format!("the server at {address} reset a connection")
        }
        CloseCause::Io(ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse) => format!(
            "no port is left to connect to {address} from: wait until old connections are forgotten, \
             widen net.ipv4.ip_local_port_range, or use fewer connections"
        ),
        CloseCause::TimedOut(Deadline::Connect) => {
            format!(
                "{address} does not answer: is it the right address, and does a firewall let it through?"
            )
        }
        CloseCause::TimedOut(Deadline::Head) => {
            format!(
                "{address} accepts connections and does not answer the handshake: is it a WebSocket server?"
            )
        }
        CloseCause::Http(error) => {
            format!(
                "{address} did not answer the handshake as a WebSocket server does ({error}): is it one, and is the path right?"
            )
        }
        CloseCause::Upgrade(error) => {
            format!("the server at {address} did not agree to a WebSocket: {error}")
        }
        CloseCause::Peer if close.was_clean => {
            format!("the server at {address} closed a connection: {close}")
        }
        CloseCause::Peer => {
            format!("the server at {address} ended a connection without a close frame")
        }
        _ => format!("a connection to {address} ended: {close}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_reported_once_with_its_first_text() {
        let mut problems = Problems::default();
        for number in 1..=3 {
            problems.add(Kind::Lost, || format!("message {number} is lost"));
        }
        problems.add(Kind::Closed, || "a connection ended".to_owned());
        problems.add_many(Kind::Altered, 0, || unreachable!());
        assert_eq!((problems.count(), problems.count_of(Kind::Lost)), (4, 3));
        assert_eq!(
            problems.to_string(),
            "waterwheel: message 1 is lost (3 times lost, of which this was the first)\n\
             waterwheel: a connection ended\n"
        );
        assert_eq!(
            problems.to_json(),
            json!([
                {"kind": "lost", "count": 3, "first": "message 1 is lost"},
                {"kind": "closed", "count": 1, "first": "a connection ended"},
            ])
        );
    }
}
