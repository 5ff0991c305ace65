//! Which sentinel is asked for the address of a master, and the meaning of its answer.
//!
//! ```text
//!   begin ─▶ ask the sentinel that answered last ──▶ an address ─▶ found
//!                 │ no answer in time, unknown name, an error
//!                 ▼
//!            ask the next one ──── all were asked ─▶ failed: one line with the reason of each
//! ```
//!
//! A sentinel may be behind the others. When its address turns out to be wrong, the next inquiry begins with another one.
//!
//! Pure: no socket, no clock, no log.
//!
//! Source: the Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel".

use std::time::Duration;

use super::refusal::one_line;
use super::url::SentinelUrl;
use crate::protocol::resp::{Reply, ReplyDecoder, encode_command};

/// How long one sentinel has for its answer, with the time to connect to it.
pub(super) const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest answer of a sentinel, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The outcome of one question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The address of the master, `HOST:PORT`.
    Found(String),
    /// The next sentinel is to be asked.
    Next,
    /// No sentinel knows the address. The text has the reason of each.
    Failed(String),
}

/// The questions to the sentinels of a URL, one after the other.
pub(super) struct Inquiry {
    url: SentinelUrl,
    /// The index of the sentinel that is asked first.
    first: usize,
    /// The sentinels that have given no address since the inquiry began, each with the reason.
    failures: Vec<String>,
    decoder: ReplyDecoder,
    input: Vec<u8>,
    /// An answer to `AUTH` comes first.
    is_authenticating: bool,
}

impl Inquiry {
    pub(super) fn new(url: SentinelUrl) -> Inquiry {
        Inquiry {
            url,
            first: 0,
            failures: Vec::new(),
            decoder: ReplyDecoder::new(ANSWER_BYTES_MAX),
            input: Vec::new(),
            is_authenticating: false,
        }
    }

    // ── what comes in ────────────────────────────────────────────────────────────────────────

    /// Bytes of the sentinel that was asked came. Returns the outcome when the answer is complete.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            match self.decoder.next_reply(&mut rest) {
                Ok(Some(reply)) => {
                    let is_of_auth = std::mem::take(&mut self.is_authenticating);
                    if let Some(error) = reply.as_error() {
                        return Some(self.handle_failure(&one_line(&error)));
                    }
                    if !is_of_auth {
                        return Some(self.handle_answer(&reply));
                    }
                }
                Ok(None) => {
                    self.input = rest.to_vec();
                    return None;
                }
                Err(error) => return Some(self.handle_failure(&error.to_string())),
            }
        }
    }

    /// The sentinel that was asked gives no address.
    pub(super) fn handle_failure(&mut self, why: &str) -> Answer {
        let failure = format!("{}: {why}", self.address());
        self.failures.push(failure);
        if self.failures.len() < self.url.addresses.len() {
            return Answer::Next;
        }
        let reasons = std::mem::take(&mut self.failures).join("; ");
        Answer::Failed(format!("no sentinel has named the master: {reasons}"))
    }

    fn handle_answer(&mut self, reply: &Reply<'_>) -> Answer {
        let words = match reply {
            Reply::Array(words) => &words[..],
            Reply::Null => {
                return self.handle_failure("this sentinel knows no master of this name");
            }
            _ => &[],
        };
        let words: Vec<&str> = words.iter().filter_map(Reply::as_str).collect();
        let address = match words[..] {
            [host, port] => address_of(host, port),
            _ => None,
        };
        let Some(address) = address else {
            return self.handle_failure("the answer is not an address");
        };
        self.first = self.index();
        self.failures.clear();
        Answer::Found(address)
    }

    // ── what the owner orders ────────────────────────────────────────────────────────────────

    /// Begins again, with the sentinel that answered last.
    pub(super) fn begin(&mut self) {
        self.failures.clear();
    }

    /// The address that was found is wrong, or another sentinel is to be heard too. Call it when no question is open.
    pub(super) fn reject(&mut self) {
        self.first = (self.first + 1) % self.url.addresses.len();
    }

    // ── what goes out ────────────────────────────────────────────────────────────────────────

    /// The bytes for a new connection to the sentinel that is to be asked.
    pub(super) fn question(&mut self) -> Vec<u8> {
        self.decoder = ReplyDecoder::new(ANSWER_BYTES_MAX);
        self.input.clear();
        let mut bytes = Vec::new();
        let url = &self.url;
        self.is_authenticating = url.password.is_some();
        match (&url.user, &url.password) {
            (Some(user), Some(password)) => encode_command(&["AUTH", user, password], &mut bytes),
            (None, Some(password)) => encode_command(&["AUTH", password], &mut bytes),
            _ => {}
        }
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &url.master];
        encode_command(&words, &mut bytes);
        bytes
    }

    // ── what one may ask ─────────────────────────────────────────────────────────────────────

    /// The address of the sentinel that is to be asked.
    pub(super) fn address(&self) -> &str {
        &self.url.addresses[self.index()]
    }

    /// The name of the master.
    pub(super) fn master(&self) -> &str {
        &self.url.master
    }

    fn index(&self) -> usize {
        (self.first + self.failures.len()) % self.url.addresses.len()
    }
}

/// The address that a sentinel names.
fn address_of(host: &str, port: &str) -> Option<String> {
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    // `unix:` begins the path of a socket.
    let is_host =
        !host.is_empty() && host != "unix" && host.bytes().all(|it| it.is_ascii_graphic());
    if !is_port || !is_host {
        return None;
    }
    Some(match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry(count: usize, password: Option<&str>) -> Inquiry {
        Inquiry::new(SentinelUrl {
            addresses: (0..count).map(|it| format!("s{it}:26379")).collect(),
            master: "m".into(),
            user: None,
            password: password.map(str::to_owned),
        })
    }

    fn array(words: &[&str]) -> String {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        text
    }

    #[test]
    fn answers() {
        let found = |address: &str| Answer::Found(address.into());
        let failed = |why: &str| {
            Answer::Failed(format!("no sentinel has named the master: s0:26379: {why}"))
        };
        let no_address = "the answer is not an address";
        let unknown = "this sentinel knows no master of this name";
        let deep = "*1\r\n".repeat(100);
        let cases = [
            (None, array(&["10.0.0.1", "6379"]), found("10.0.0.1:6379")),
            (None, array(&["::1", "6379"]), found("[::1]:6379")),
            (None, array(&["redis.local", "1"]), found("redis.local:1")),
            (
                Some("p"),
                format!("+OK\r\n{}", array(&["h", "1"])),
                found("h:1"),
            ),
            (None, "*-1\r\n".into(), failed(unknown)),
            (None, "_\r\n".into(), failed(unknown)),
            (None, "*0\r\n".into(), failed(no_address)),
            (None, "+OK\r\n".into(), failed(no_address)),
            (None, array(&["h"]), failed(no_address)),
            (None, array(&["", "1"]), failed(no_address)),
            (None, array(&["a b", "1"]), failed(no_address)),
            (None, array(&["unix", "1"]), failed(no_address)),
            (None, array(&["h", "0"]), failed(no_address)),
            (None, array(&["h", "+1"]), failed(no_address)),
            (None, array(&["h", "65536"]), failed(no_address)),
            (None, array(&["h", "1", "2"]), failed(no_address)),
            (
                None,
                "-NOAUTH Authentication required.\r\n".into(),
                failed("NOAUTH Authentication required."),
            ),
            (
                Some("p"),
                "-WRONGPASS invalid password\r\n-NOAUTH x\r\n".into(),
                failed("WRONGPASS invalid password"),
            ),
            (
                None,
                "HTTP/1.1 400 Bad Request\r\n\r\n".into(),
                failed("the server does not speak the Redis protocol: a reply begins with 'H'"),
            ),
            (None, deep, failed("a reply has more than 32 levels")),
            (
                None,
                "$16385\r\n".into(),
                failed("a reply is longer than 16384 bytes"),
            ),
        ];
        for (password, bytes, expected) in cases {
            let mut inquiry = inquiry(1, password);
            inquiry.question();
            let answer = inquiry.handle_bytes(bytes.as_bytes());
            assert_eq!(answer, Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn same_answer_however_the_bytes_are_cut() {
        let bytes = format!("+OK\r\n{}", array(&["10.0.0.1", "6379"]));
        for cut in 0..bytes.len() {
            let mut inquiry = inquiry(1, Some("p"));
            inquiry.question();
            let (first, second) = bytes.as_bytes().split_at(cut);
            assert_eq!(inquiry.handle_bytes(first), None, "{cut}");
            let expected = Some(Answer::Found("10.0.0.1:6379".into()));
            assert_eq!(inquiry.handle_bytes(second), expected, "{cut}");
        }
    }

    #[test]
    fn the_question_is_behind_the_password() {
        let text = |inquiry: &mut Inquiry| String::from_utf8(inquiry.question()).unwrap();
        let question = array(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m"]);
        assert_eq!(text(&mut inquiry(1, None)), question);
        let expected = array(&["AUTH", "p"]) + &question;
        let mut with_password = inquiry(1, Some("p"));
        assert_eq!(text(&mut with_password), expected);
        with_password.url.user = Some("u".into());
        let expected = array(&["AUTH", "u", "p"]) + &question;
        assert_eq!(text(&mut with_password), expected);
    }

    #[test]
    fn the_sentinel_that_answered_last_is_asked_first() {
        let mut inquiry = inquiry(3, None);
        inquiry.begin();
        assert_eq!(inquiry.address(), "s0:26379");
        inquiry.question();
        assert_eq!(inquiry.handle_failure("no answer"), Answer::Next);
        assert_eq!(inquiry.address(), "s1:26379");
        inquiry.question();
        // A half of an answer does not belong to the next one.
        assert_eq!(inquiry.handle_bytes(b"*2\r\n$1"), None);
        assert_eq!(inquiry.handle_failure("closed"), Answer::Next);
        assert_eq!(inquiry.address(), "s2:26379");
        inquiry.question();
        let answer = inquiry.handle_bytes(array(&["h", "1"]).as_bytes());
        assert_eq!(answer, Some(Answer::Found("h:1".into())));
        inquiry.begin();
        assert_eq!(inquiry.address(), "s2:26379");
        assert_eq!(inquiry.handle_failure("a"), Answer::Next);
        assert_eq!(inquiry.handle_failure("b"), Answer::Next);
        let all = "no sentinel has named the master: s2:26379: a; s0:26379: b; s1:26379: c";
        assert_eq!(inquiry.handle_failure("c"), Answer::Failed(all.into()));
        inquiry.begin();
        assert_eq!(inquiry.address(), "s2:26379");
        inquiry.reject();
        assert_eq!(inquiry.address(), "s0:26379");
    }
}
