//! The limits and deadlines of an HTTP client.

use std::time::Duration;

use crate::client::client_transport::ClientTransport;
use crate::protocol::http::Limits;
use crate::reactor::config::{ConfigError, at_least, not_zero};

/// The limits and deadlines of an HTTP client. `docs/limits.md` lists them with their defaults.
#[derive(Clone, Debug)]
pub struct HttpClientOptions {
    /// Most connections to one scheme, host and port. Further requests wait. 8 by default.
    pub connections_per_host_max: usize,
    /// Most connections to all hosts together. Further requests wait. 64 by default.
    pub connections_max: usize,
    /// Most requests that wait for a connection. One more fails with
    /// [`HttpRequestError::Full`](crate::HttpRequestError::Full). All requests of one callback wait until it has
    /// returned. 1000 by default.
    pub waiting_requests_max: usize,
    /// Most bytes of waiting requests, with their bodies. 16 MiB by default.
    pub waiting_bytes_max: usize,
    /// How long a connection without a request is kept. A server that says less in `Keep-Alive` gets less. 30
    /// seconds by default.
    pub keep_alive_timeout: Duration,
    /// How long a connection may take to be made: the look-up of the name, all addresses, the tunnel of a proxy and
    /// the TLS handshake together. 10 seconds by default.
    pub connect_timeout: Duration,
    /// How long the server may take none of the bytes of a request. 30 seconds by default.
    pub write_timeout: Duration,
    /// How long the head of the answer may take, from the moment at which a connection gets the request; as long again
    /// if bytes of the request still wait for the socket then. 30 seconds by default.
    pub head_timeout: Duration,
    /// How long the next bytes of a body may take, while it is not paused. 30 seconds by default.
    pub body_piece_timeout: Duration,
    /// How long a request may take from its first waiting to the last byte of the answer, with all redirects. Not
    /// for streams, which may be endless; [`HttpRequest::timeout`](crate::HttpRequest::timeout) sets one for them.
    /// 60 seconds by default.
    pub request_timeout: Duration,
    /// The longest head of an answer, most lines of it, and the longest body of a whole answer, in bytes. A
    /// stream has no limit of its body. As for the requests to a server by default: 16 KiB, 100 lines, 1 MiB.
    pub http: Limits,
    /// The address to connect from, the proxy, and the TLS of `https://` URLs. By default the connection is direct and
    /// trusts the authorities of the system, which are read at the first such request of the process. A proxy is asked
    /// for a tunnel for `http://` URLs too.
    pub transport: ClientTransport,
}

impl Default for HttpClientOptions {
    fn default() -> HttpClientOptions {
        HttpClientOptions {
            connections_per_host_max: 8,
            connections_max: 64,
            waiting_requests_max: 1000,
            waiting_bytes_max: 16 * 1024 * 1024,
            keep_alive_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(30),
            body_piece_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            http: Limits::default(),
            transport: ClientTransport::default(),
        }
    }
}

impl HttpClientOptions {
    /// Returns the same options if every value is possible with a read buffer of this size. A client checks its
    /// own when it is made.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that is refused: a limit below 1, a timeout of zero, or a head that
    /// does not fit into the read buffer.
    pub(super) fn checked(
        self,
        read_buffer_bytes: usize,
    ) -> Result<HttpClientOptions, ConfigError> {
        let limits = [
            ("connections_per_host_max", self.connections_per_host_max),
            ("connections_max", self.connections_max),
            ("waiting_requests_max", self.waiting_requests_max),
            ("waiting_bytes_max", self.waiting_bytes_max),
            ("http.head_bytes_max", self.http.head_bytes_max),
        ];
        for (field, value) in limits {
            at_least(field, value, 1)?;
        }
        // A head that fills the buffer leaves no room to read on.
        if read_buffer_bytes <= self.http.head_bytes_max {
            return Err(ConfigError {
                field: "http.head_bytes_max",
                value: self.http.head_bytes_max.to_string(),
                expected: format!("less than read_buffer_bytes, which is {read_buffer_bytes}"),
            });
        }
        let timeouts = [
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("connect_timeout", self.connect_timeout),
            ("write_timeout", self.write_timeout),
            ("head_timeout", self.head_timeout),
            ("body_piece_timeout", self.body_piece_timeout),
            ("request_timeout", self.request_timeout),
        ];
        for (field, value) in timeouts {
            not_zero(field, value)?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_which_a_client_could_not_work_are_refused() {
        type Change = fn(&mut HttpClientOptions);
        let cases: &[(&str, Change)] = &[
            ("connections_per_host_max", |it| {
                it.connections_per_host_max = 0
            }),
            ("connections_max", |it| it.connections_max = 0),
            ("waiting_requests_max", |it| it.waiting_requests_max = 0),
            ("waiting_bytes_max", |it| it.waiting_bytes_max = 0),
            ("http.head_bytes_max", |it| it.http.head_bytes_max = 0),
            ("http.head_bytes_max", |it| it.http.head_bytes_max = 1 << 16),
            ("keep_alive_timeout", |it| {
                it.keep_alive_timeout = Duration::ZERO
            }),
            ("connect_timeout", |it| it.connect_timeout = Duration::ZERO),
            ("write_timeout", |it| it.write_timeout = Duration::ZERO),
            ("head_timeout", |it| it.head_timeout = Duration::ZERO),
            ("body_piece_timeout", |it| {
                it.body_piece_timeout = Duration::ZERO
            }),
            ("request_timeout", |it| it.request_timeout = Duration::ZERO),
        ];
        for (field, change) in cases {
            let mut options = HttpClientOptions::default();
            change(&mut options);
            let error = options.checked(1 << 16).unwrap_err();
            assert_eq!(error.field, *field);
        }
        assert!(HttpClientOptions::default().checked(1 << 16).is_ok());
    }
}
