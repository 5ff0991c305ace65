//! A publisher that posts: pipelined requests on a persistent connection, and their answers.
//!
//! When the server ends the connection with an answer, as it may after a number of requests, the
//! requests behind it are sent again on the next connection.

use std::collections::VecDeque;
use std::fmt::Write;

use waterwheel::protocol::http::{BodyDecoder, HeaderStorage, Limits, Status, parse_response_head};

/// One connection's requests and answers.
pub struct Poster {
    /// The head of each request, up to the value of `Content-Length`.
    head: String,
    unanswered: VecDeque<Vec<u8>>,
    /// The bytes of an incomplete answer.
    input: Vec<u8>,
    body: Vec<u8>,
}

/// The answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of members to whom the server delivered, as it says.
    pub delivered: u64,
    /// Whether another request can follow on this connection.
    pub keeps: bool,
}

impl Poster {
    /// For requests to `target` at `host`.
    pub fn new(host: &str, target: &str, token: Option<&str>) -> Poster {
        let mut head =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n");
        if let Some(token) = token {
            // Writing to a string succeeds.
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        head.push_str("Content-Length: ");
        Poster {
            head,
            unanswered: VecDeque::new(),
            input: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The request that posts a message.
    pub fn request(&mut self, message: &str) -> &[u8] {
        let length = message.len().to_string();
        let mut request = Vec::with_capacity(self.head.len() + length.len() + 4 + message.len());
        for part in [&self.head, &length, "\r\n\r\n", message] {
            request.extend_from_slice(part.as_bytes());
        }
        self.unanswered.push_back(request);
        self.unanswered.back().map_or(&[], Vec::as_slice)
    }

    /// The bytes to send on a new connection: all requests without an answer.
    pub fn restart(&mut self) -> Vec<u8> {
        self.input.clear();
        self.unanswered.iter().flatten().copied().collect()
    }

    /// Takes the bytes that came, and returns the next answer when it is complete.
    ///
    /// # Errors
    ///
    /// A sentence, when the server refused or does not speak HTTP.
    pub fn next_answer(&mut self, came: &mut &[u8]) -> Result<Option<Answer>, String> {
        self.input.extend_from_slice(came);
        *came = &[];
        let limits = Limits::default();
        let mut storage = HeaderStorage::new();
        let parsed = parse_response_head(&self.input, false, &mut storage, &limits)
            .map_err(|error| format!("the answer to a POST is not HTTP: {error}"))?;
        let Some(parsed) = parsed else {
            return Ok(None);
        };
        let mut rest = &self.input[parsed.bytes..];
        self.body.clear();
        let is_complete = BodyDecoder::new(parsed.body)
            .collect(&mut rest, &mut self.body, &limits)
            .map_err(|error| format!("the answer to a POST is not HTTP: {error}"))?;
        if !is_complete {
            return Ok(None);
        }
        let (status, keeps) = (parsed.status, parsed.keep_alive);
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        self.unanswered.pop_front();
        if status != Status::OK {
            let body = String::from_utf8_lossy(&self.body);
            return Err(format!(
                "the server answered {} to a POST: {}",
                status.code(),
                body.trim_end()
            ));
        }
        Ok(Some(Answer {
            delivered: delivered(&self.body),
            keeps,
        }))
    }
}

/// The number behind `"delivered":`, or 0.
fn delivered(body: &[u8]) -> u64 {
    serde_json::from_slice(body)
        .ok()
        .and_then(|value: serde_json::Value| value.get("delivered")?.as_u64())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"delivered\":7}\n\
        HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn answers_are_the_same_for_every_cut_of_the_bytes() {
        for cut in 1..WIRE.len() {
            let mut poster = Poster::new("h", "/publish?topic=t", Some("secret"));
            let request = poster.request("a").to_vec();
            assert_eq!(
                str::from_utf8(&request).unwrap(),
                "POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n\
                 Authorization: Bearer secret\r\nContent-Length: 1\r\n\r\na"
            );
            for message in ["b", "c"] {
                poster.request(message);
            }
            let mut answers = Vec::new();
            for mut piece in WIRE.chunks(cut) {
                while let Some(answer) = poster.next_answer(&mut piece).unwrap() {
                    answers.push((answer.delivered, answer.keeps));
                }
            }
            assert_eq!(answers, [(7, true), (0, false)], "pieces of {cut} bytes");
            let again = poster.restart();
            assert!(again.ends_with(b"\r\n\r\nc") && again.len() == request.len());
        }
    }

    #[test]
    fn a_refusal_is_reported_with_its_status() {
        let mut poster = Poster::new("h", "/publish?topic=t", None);
        poster.request("a");
        let mut input: &[u8] = b"HTTP/1.1 401 x\r\nContent-Length: 6\r\n\r\ntoken\n";
        let error = poster.next_answer(&mut input).unwrap_err();
        assert_eq!(error, "the server answered 401 to a POST: token");
    }
}
