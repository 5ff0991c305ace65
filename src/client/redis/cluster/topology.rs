//! The slots of a Redis Cluster and their masters, as a node tells them.
//!
//! Pure: replies in, addresses out. A node that does not know its own host, or that of another, leaves it out; it is
//! then the host at which the node was asked.
//!
//! Source: the commands `CLUSTER SLOTS` of Redis 7, and "MOVED Redirection", "ASK redirection" of the Redis Cluster
//! specification.

use std::fmt;

use crate::protocol::resp::Reply;

/// Most ranges of slots that are taken. A cluster has at most 16384 slots, each of which may be a range of its own.
const RANGES_MAX: usize = 16_384;

/// Most addresses of nodes that are kept.
const NODES_MAX: usize = 1000;

/// Slots and their master.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: String,
}

/// The answer to `CLUSTER SLOTS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topology {
    ranges: Vec<Range>,
    /// The addresses of all nodes, each once.
    nodes: Vec<String>,
}

/// Why a reply is no topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopologyError {
    /// The server is no node of a cluster.
    NotCluster,
    /// The server has answered an error.
    Refused(String),
    /// The reply has another form.
    Malformed,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::NotCluster => f.write_str(
                "the server is not a node of a Redis Cluster; its URL begins with redis://",
            ),
            TopologyError::Refused(text) => write!(f, "CLUSTER SLOTS: {text}"),
            TopologyError::Malformed => {
                f.write_str("the answer to CLUSTER SLOTS is not understood")
            }
        }
    }
}

impl Topology {
    /// Reads the answer of the node with the address `asked`.
    ///
    /// # Errors
    ///
    /// [`TopologyError`].
    pub(super) fn parse(reply: &Reply<'_>, asked: &str) -> Result<Topology, TopologyError> {
        if let Some(text) = reply.as_error() {
            return Err(match text.contains("cluster support disabled") {
                true => TopologyError::NotCluster,
                false => TopologyError::Refused(text.into_owned()),
            });
        }
        let ranges = reply.as_array().ok_or(TopologyError::Malformed)?;
        if RANGES_MAX < ranges.len() {
            return Err(TopologyError::Malformed);
        }
        let mut topology = Topology::default();
        for range in ranges {
            let range = topology.read_range(range, asked);
            topology.ranges.push(range.ok_or(TopologyError::Malformed)?);
        }
        Ok(topology)
    }

    /// Reads `[FIRST, LAST, MASTER, REPLICA, ...]`.
    fn read_range(&mut self, range: &Reply<'_>, asked: &str) -> Option<Range> {
        let [first, last, nodes @ ..] = range.as_array()? else {
            return None;
        };
        let slot = |reply: &Reply<'_>| u16::try_from(reply.as_integer()?).ok();
        let addresses: Option<Vec<String>> = (nodes.iter())
            .map(|node| match node.as_array()? {
                [host, port, ..] => address(host.as_str(), port.as_integer()?, asked),
                _ => None,
            })
            .collect();
        let addresses = addresses?;
        for address in &addresses {
            if !self.nodes.contains(address) && self.nodes.len() < NODES_MAX {
                self.nodes.push(address.clone());
            }
        }
        Some(Range {
            first: slot(first)?,
            last: slot(last)?,
            master: addresses.into_iter().next()?,
        })
    }

    /// The address of the master of a slot.
    pub(super) fn master_of(&self, slot: u16) -> Option<&str> {
        let mut ranges = self.ranges.iter();
        let range = ranges.find(|range| (range.first..=range.last).contains(&slot))?;
        Some(&range.master)
    }

    /// The addresses of all nodes, each once.
    pub(super) fn nodes(&self) -> &[String] {
        &self.nodes
    }
}

/// Whether the node that has answered this to `CLUSTER NODES` is moving a slot to another one.
pub(super) fn is_migrating(nodes: &str, slot: u16) -> bool {
    let mark = format!("[{slot}->-");
    let mut lines = nodes.lines().map(|line| line.split(' '));
    lines.any(|mut words| {
        let is_own = (words.nth(2)).is_some_and(|flags| flags.split(',').any(|it| it == "myself"));
        is_own && words.any(|word| word.starts_with(&mark))
    })
}

/// An error of a node that has not carried out a command, because another one has the slot or none has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another node has the slot.
    Moved { slot: u16, address: String },
    /// The slot is on its way to another node, which has the keys of this command already.
    Ask { slot: u16, address: String },
    /// The slot is on its way, and only some of the keys of this command have arrived.
    TryAgain,
    /// The node cannot serve the slot now.
    Unavailable,
}

impl Refusal {
    /// Reads an error of the node with the address `asked`. `None` for an error that is an answer.
    pub(super) fn parse(text: &str, asked: &str) -> Option<Refusal> {
        let mut words = text.split(' ');
        match words.next()? {
            "TRYAGAIN" => Some(Refusal::TryAgain),
            "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" => Some(Refusal::Unavailable),
            word @ ("MOVED" | "ASK") => {
                let slot = words.next()?.parse().ok()?;
                let (host, port) = words.next()?.rsplit_once(':')?;
                let address = address(Some(host), port.parse().ok()?, asked)?;
                Some(match word {
                    "MOVED" => Refusal::Moved { slot, address },
                    _ => Refusal::Ask { slot, address },
                })
            }
            _ => None,
        }
    }
}

/// The address of a node, with the host of `asked` where the node has not told one.
fn address(host: Option<&str>, port: i64, asked: &str) -> Option<String> {
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    match host {
        None | Some("" | "?") => {
            let (host, _) = asked.rsplit_once(':')?;
            Some(format!("{host}:{port}"))
        }
        // An IPv6 address stands in brackets in front of a port.
        Some(host) if host.contains(':') && !host.starts_with('[') => {
            Some(format!("[{host}]:{port}"))
        }
        Some(host) => Some(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp::ReplyDecoder;

    const ASKED: &str = "10.0.0.9:7000";

    fn parse(text: &str) -> Result<Topology, TopologyError> {
        let mut decoder = ReplyDecoder::new(1024 * 1024);
        let mut input = text.as_bytes();
        let reply = decoder.next_reply(&mut input).unwrap().unwrap();
        Topology::parse(&reply, ASKED)
    }

    #[test]
    fn slots_have_masters() {
        let text = "*2\r\n\
            *4\r\n:0\r\n:5460\r\n\
            *4\r\n$9\r\n127.0.0.1\r\n:30001\r\n$1\r\na\r\n*0\r\n\
            *4\r\n$9\r\n127.0.0.1\r\n:30004\r\n$1\r\nb\r\n*0\r\n\
            *3\r\n:5461\r\n:10922\r\n*3\r\n$3\r\n::1\r\n:30002\r\n$1\r\nc\r\n";
        let topology = parse(text).unwrap();
        let nodes = ["127.0.0.1:30001", "127.0.0.1:30004", "[::1]:30002"];
        assert_eq!(topology.nodes(), nodes);
        let masters = [0, 5460, 5461, 10922, 10923].map(|slot| topology.master_of(slot));
        let (first, second) = (Some(nodes[0]), Some(nodes[2]));
        assert_eq!(masters, [first, first, second, second, None]);
    }

    #[test]
    fn a_host_that_is_not_told_is_the_one_that_was_asked() {
        for host in ["$0\r\n\r\n", "$1\r\n?\r\n", "$-1\r\n", "_\r\n"] {
            let text = format!("*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n{host}:7001\r\n");
            let topology = parse(&text).unwrap();
            assert_eq!(topology.master_of(0), Some("10.0.0.9:7001"), "{host:?}");
        }
    }

    #[test]
    fn other_answers_are_errors() {
        let refused = |text: &str| Err(TopologyError::Refused(text.into()));
        let cases = [
            (
                "-ERR This instance has cluster support disabled\r\n",
                Err(TopologyError::NotCluster),
            ),
            ("-NOPERM no\r\n", refused("NOPERM no")),
            ("+OK\r\n", Err(TopologyError::Malformed)),
            ("*1\r\n:1\r\n", Err(TopologyError::Malformed)),
            ("*1\r\n*2\r\n:0\r\n:1\r\n", Err(TopologyError::Malformed)),
            (
                "*1\r\n*3\r\n:0\r\n:-1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
                Err(TopologyError::Malformed),
            ),
            (
                "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:0\r\n",
                Err(TopologyError::Malformed),
            ),
            (
                "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:65536\r\n",
                Err(TopologyError::Malformed),
            ),
            ("*0\r\n", Ok(Topology::default())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_slot_that_is_on_its_way_is_marked() {
        let own = "07c3 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460";
        let other = "67ed 127.0.0.1:3@4 master - 0 1426238316232 2 connected 5461-10922";
        let cases = [
            (format!("{own}\n{other}\n"), false),
            (format!("{own} [93->-67ed]\n{other}\n"), true),
            (format!("{other}\n{own} [77-<-67ed] [93->-67ed]\n"), true),
            (format!("{own} [93-<-67ed]\n{other}\n"), false),
            (format!("{own} [933->-67ed]\n{other}\n"), false),
            (format!("{own}\n{other} [93->-07c3]\n"), false),
            (String::new(), false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_migrating(&text, 93), expected, "{text}");
        }
    }

    #[test]
    fn errors_that_lead_elsewhere() {
        let moved = |slot, address: &str| {
            let address = address.into();
            Some(Refusal::Moved { slot, address })
        };
        let ask = |slot, address: &str| {
            let address = address.into();
            Some(Refusal::Ask { slot, address })
        };
        let cases = [
            ("MOVED 3999 127.0.0.1:6381", moved(3999, "127.0.0.1:6381")),
            ("MOVED 3999 :6381", moved(3999, "10.0.0.9:6381")),
            ("MOVED 3999 ::1:6381", moved(3999, "[::1]:6381")),
            (
                "MOVED 3999 redis-1.local:6381",
                moved(3999, "redis-1.local:6381"),
            ),
            ("ASK 1 127.0.0.1:6381", ask(1, "127.0.0.1:6381")),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Some(Refusal::TryAgain),
            ),
            (
                "CLUSTERDOWN The cluster is down",
                Some(Refusal::Unavailable),
            ),
            ("LOADING Redis is loading", Some(Refusal::Unavailable)),
            (
                "MASTERDOWN Link with MASTER is down",
                Some(Refusal::Unavailable),
            ),
            (
                "READONLY You can't write against a read only replica.",
                Some(Refusal::Unavailable),
            ),
            ("MOVED", None),
            ("MOVED x y", None),
            ("MOVED 1", None),
            ("MOVED 1 host", None),
            ("MOVED 1 host:0", None),
            ("MOVED 65536 host:1", None),
            ("MOVEDX 1 host:1", None),
            ("ERR unknown command", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Refusal::parse(text, ASKED), expected, "{text}");
        }
    }
}
