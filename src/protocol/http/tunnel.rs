//! The request for a tunnel through a proxy, and the proxy's answer.
//!
//! Pure. The answer is read without a byte of what follows it, because that belongs to another protocol:
//! [`TunnelAnswer::missing_bytes`] says how many bytes can be read that are surely part of the head.
//!
//! Source: RFC 9110, section 9.3.6; RFC 9112, section 3.2.3.

use std::fmt;

use super::encode::put_header;
use super::error::{EncodeError, HttpError};
use super::headers::{HeaderStorage, is_value};
use super::limits::Limits;
use super::response::parse_response_head;
use super::status::Status;
use super::target::is_host;

/// Most bytes of all heads with which a proxy answers.
pub const TUNNEL_ANSWER_BYTES_MAX: usize = 16 * 1024;

const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// Why a proxy made no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelError {
    /// The status of its answer is not 2xx: 407 when it wants a user and a password, or others, 502 or 504 when it
    /// cannot connect to the host.
    Status(Status),
    /// Its answer is not HTTP/1.1, or is longer than 16 KiB.
    Http(HttpError),
    /// It ended the connection before its answer was there.
    Closed,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunnelError::Status(status) => write!(f, "the proxy answered {status}"),
            TunnelError::Http(error) => write!(f, "the proxy's answer is not HTTP/1.1: {error}"),
            TunnelError::Closed => f.write_str("the proxy ended the connection without an answer"),
        }
    }
}

impl std::error::Error for TunnelError {}

/// Appends the request for a tunnel to `address`, which is `HOST:PORT`. `authorization` is the value of
/// `Proxy-Authorization`.
///
/// # Errors
///
/// [`EncodeError`] when one of them cannot be part of a request. The output is unchanged then.
pub fn encode_connect(
    address: &str,
    authorization: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if !is_host(address) {
        return Err(EncodeError::BadHost);
    }
    if !authorization.is_none_or(|value| is_value(value.as_bytes())) {
        return Err(EncodeError::BadValue);
    }
    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(address.as_bytes());
    out.extend_from_slice(b" HTTP/1.1");
    put_header("Host", address.as_bytes(), out);
    if let Some(authorization) = authorization {
        put_header("Proxy-Authorization", authorization.as_bytes(), out);
    }
    out.extend_from_slice(HEAD_END);
    Ok(())
}

/// The answer to a request for a tunnel, as far as it has come.
#[derive(Debug, Default)]
pub struct TunnelAnswer {
    /// The head that is coming. Interim heads before it are dropped.
    head: Vec<u8>,
    /// The bytes of all heads.
    taken_bytes: usize,
}

impl TunnelAnswer {
    /// How many bytes at least are missing: 1 to 4. Reading more than these could take bytes from the tunnel.
    pub fn missing_bytes(&self) -> usize {
        let matched = (1..HEAD_END.len())
            .rev()
            .find(|count| self.head.ends_with(&HEAD_END[..*count]));
        HEAD_END.len() - matched.unwrap_or(0)
    }

    /// Takes bytes that came, at most [`missing_bytes`](Self::missing_bytes). Returns whether the tunnel is made.
    ///
    /// # Errors
    ///
    /// [`TunnelError`]: there will be no tunnel on this connection.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, TunnelError> {
        self.head.extend_from_slice(bytes);
        self.taken_bytes += bytes.len();
        if TUNNEL_ANSWER_BYTES_MAX < self.taken_bytes {
            return Err(TunnelError::Http(HttpError::HeadTooLong));
        }
        // Another protocol shows in the first bytes. Waiting for the end of a head could take for ever.
        let begins_as_http = self
            .head
            .iter()
            .zip(b"HTTP/1.")
            .all(|(got, wanted)| got == wanted);
        if !begins_as_http {
            return Err(TunnelError::Http(HttpError::BadStatusLine));
        }
        if !self.head.ends_with(HEAD_END) {
            return Ok(false);
        }
        let limits = Limits {
            head_bytes_max: TUNNEL_ANSWER_BYTES_MAX,
            ..Limits::default()
        };
        let mut storage = HeaderStorage::new();
        // As the answer to a request without a body: in a 2xx to CONNECT, a length has no meaning.
        let parsed = parse_response_head(&self.head, true, &mut storage, &limits);
        let Some(parsed) = parsed.map_err(TunnelError::Http)? else {
            return Err(TunnelError::Http(HttpError::BadStatusLine));
        };
        let status = parsed.status;
        if status == Status::SWITCHING_PROTOCOLS || !status.is_informational() {
            return match status.is_success() {
                true => Ok(true),
                false => Err(TunnelError::Status(status)),
            };
        }
        self.head.clear();
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let cases = [
            (
                "h:443",
                None,
                Ok("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
            ),
            (
                "[::1]:80",
                Some("Basic eDp5"),
                Ok(
                    "CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
                ),
            ),
            ("h:80\r\nX: y", None, Err(EncodeError::BadHost)),
            ("h:80", Some("Basic\r\nX: y"), Err(EncodeError::BadValue)),
        ];
        for (address, authorization, expected) in cases {
            let mut out = Vec::new();
            let encoded = encode_connect(address, authorization, &mut out);
            let encoded = encoded.map(|()| str::from_utf8(&out).unwrap());
            assert_eq!(encoded, expected, "{address}");
        }
    }

    /// The outcome of an answer that comes in pieces of at most so many bytes, and what is left of the input.
    fn answer(mut input: &[u8], at_most: usize) -> (Result<bool, TunnelError>, &[u8]) {
        let mut answer = TunnelAnswer::default();
        while !input.is_empty() {
            let count = answer.missing_bytes().min(at_most).min(input.len());
            let (bytes, rest) = input.split_at(count);
            input = rest;
            match answer.take(bytes) {
                Ok(false) => {}
                done => return (done, input),
            }
        }
        (Ok(false), input)
    }

    #[test]
    fn answers() {
        let status = |status| Err(TunnelError::Status(status));
        let cases: &[(&str, Result<bool, TunnelError>, &str)] = &[
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(true), ""),
            (
                "HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0",
                Ok(true),
                "SSH-2.0",
            ),
            (
                "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n\r\n\r\n",
                Ok(true),
                "\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                Ok(true),
                "abc",
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n\r\nabc",
                Ok(true),
                "abc",
            ),
            ("HTTP/1.1 200 OK\r\n\r", Ok(false), ""),
            ("", Ok(false), ""),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\nbody",
                status(Status::PROXY_AUTHENTICATION_REQUIRED),
                "body",
            ),
            (
                "HTTP/1.1 502 Bad Gateway\r\n\r\n",
                status(Status::BAD_GATEWAY),
                "",
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
                status(Status::FOUND),
                "",
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                status(Status::SWITCHING_PROTOCOLS),
                "",
            ),
        ];
        for (input, expected, rest) in cases {
            for at_most in 1..5 {
                let (outcome, left) = answer(input.as_bytes(), at_most);
                assert_eq!(outcome, *expected, "{input:?}");
                assert_eq!(str::from_utf8(left), Ok(*rest), "{input:?}");
            }
        }
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        for input in [
            "SSH-2.0-OpenSSH\r\n",
            "\r\n",
            "HTTP/2 200\r\n\r\n",
            "\x16\x03\x01",
        ] {
            let (outcome, left) = answer(input.as_bytes(), 4);
            let expected = TunnelError::Http(HttpError::BadStatusLine);
            assert_eq!(outcome, Err(expected), "{input:?}");
            assert!(left.len() + 8 >= input.len(), "{input:?}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(TUNNEL_ANSWER_BYTES_MAX / 25 + 1);
        let line = format!("HTTP/1.1 200 {}", "x".repeat(TUNNEL_ANSWER_BYTES_MAX));
        for input in [interim, line] {
            let (outcome, _) = answer(input.as_bytes(), 4);
            let expected = TunnelError::Http(HttpError::HeadTooLong);
            assert_eq!(outcome, Err(expected));
        }
    }
}
