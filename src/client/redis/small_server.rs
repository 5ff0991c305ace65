//! A small Redis server for tests: bytes of a connection in, replies out.

use std::collections::HashSet;

use super::upstream::SubscriptionKind;
use crate::protocol::resp::ReplyDecoder;

/// The side of the server of one connection.
pub(super) struct SmallServer {
    decoder: ReplyDecoder,
    input: Vec<u8>,
    pub(super) has_resp3: bool,
    is_resp3: bool,
    /// It is a replica, and refuses to write.
    pub(super) is_replica: bool,
    /// It loads its data set.
    pub(super) is_loading: bool,
    /// Names to which a user may not subscribe.
    pub(super) refused: Vec<String>,
    /// The replies to commands that begin so, in place of its own.
    pub(super) answers: Vec<(String, String)>,
    subscribed: HashSet<(SubscriptionKind, String)>,
    /// Names that were subscribed while they were subscribed already.
    pub(super) repeated: Vec<String>,
    /// The commands that came, in words.
    pub(super) commands: Vec<Vec<String>>,
}

impl SmallServer {
    pub(super) fn new(has_resp3: bool) -> SmallServer {
        SmallServer {
            decoder: ReplyDecoder::new(1024 * 1024),
            input: Vec::new(),
            has_resp3,
            is_resp3: false,
            is_replica: false,
            is_loading: false,
            refused: Vec::new(),
            answers: Vec::new(),
            subscribed: HashSet::new(),
            repeated: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Takes bytes of the client, and returns the replies to the commands that are complete.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let (mut rest, mut replies) = (&input[..], Vec::new());
        while let Some(command) = self.decoder.next_reply(&mut rest).unwrap() {
            let words = command.as_array().unwrap().iter();
            let words: Vec<String> = words
                .map(|word| word.as_str().unwrap().to_owned())
                .collect();
            self.answer(&words, &mut replies);
            self.commands.push(words);
        }
        self.input = rest.to_vec();
        replies
    }

    fn answer(&mut self, words: &[String], replies: &mut Vec<u8>) {
        use SubscriptionKind::{Channel, Pattern, Sharded};
        let mut put = |text: &str| replies.extend_from_slice(text.as_bytes());
        let command = words.join(" ");
        let mut answers = self.answers.iter();
        if let Some((_, answer)) = answers.find(|(begin, _)| command.starts_with(begin)) {
            return put(answer);
        }
        let (kind, is_wanted) = match &*words[0] {
            "HELLO" if self.has_resp3 => {
                self.is_resp3 = true;
                let role = if self.is_replica { "replica" } else { "master" };
                put("%2\r\n$5\r\nproto\r\n:3\r\n$4\r\nrole\r\n");
                return put(&format!("${}\r\n{role}\r\n", role.len()));
            }
            "PING" | "ECHO" if self.is_loading => {
                return put("-LOADING Redis is loading the dataset in memory\r\n");
            }
            "ROLE" if self.is_replica => return put("*1\r\n$5\r\nslave\r\n"),
            "ROLE" => return put("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            "SET" if self.is_replica => {
                return put("-READONLY You can't write against a read only replica.\r\n");
            }
            "AUTH" | "SELECT" | "CLIENT" | "SET" => return put("+OK\r\n"),
            "PING" if !self.is_resp3 && !self.subscribed.is_empty() => {
                return put("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
            }
            "PING" => return put("+PONG\r\n"),
            "ECHO" => return put(&format!("${}\r\n{}\r\n", words[1].len(), words[1])),
            "SUBSCRIBE" => (Channel, true),
            "PSUBSCRIBE" => (Pattern, true),
            "SSUBSCRIBE" => (Sharded, true),
            "UNSUBSCRIBE" => (Channel, false),
            "PUNSUBSCRIBE" => (Pattern, false),
            "SUNSUBSCRIBE" => (Sharded, false),
            other => return put(&format!("-ERR unknown command '{other}'\r\n")),
        };
        let names = &words[1..];
        if names.iter().any(|name| self.refused.contains(name)) {
            return put("-NOPERM No permissions to access a channel\r\n");
        }
        let aggregate = if self.is_resp3 { '>' } else { '*' };
        let command = words[0].to_lowercase();
        for name in names {
            let key = (kind, name.clone());
            if !is_wanted {
                self.subscribed.remove(&key);
            } else if !self.subscribed.insert(key) {
                self.repeated.push(name.clone());
            }
            let count = self.subscribed.len();
            put(&format!(
                "{aggregate}3\r\n${}\r\n{command}\r\n${}\r\n{name}\r\n:{count}\r\n",
                command.len(),
                name.len()
            ));
        }
    }

    /// The names that are subscribed, each with the command by which it was, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.subscribed.iter();
        let mut names: Vec<_> = names
            .map(|(kind, name)| format!("{} {name}", kind.subscribe_command()))
            .collect();
        names.sort();
        names
    }

    /// The message that a subscription to `name` gets.
    pub(super) fn message(&self, kind: SubscriptionKind, name: &str, payload: &str) -> Vec<u8> {
        if !self.subscribed.contains(&(kind, name.to_owned())) {
            return Vec::new();
        }
        let words = match kind {
            SubscriptionKind::Channel => vec!["message", name, payload],
            SubscriptionKind::Pattern => vec!["pmessage", name, "some channel", payload],
            SubscriptionKind::Sharded => vec!["smessage", name, payload],
        };
        let aggregate = if self.is_resp3 { '>' } else { '*' };
        let mut bytes = format!("{aggregate}{}\r\n", words.len());
        for word in words {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        bytes.into_bytes()
    }
}
