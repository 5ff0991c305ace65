//! The reasons why a request has no answer.

use std::fmt;

use crate::protocol::http::{EncodeError, HttpError, UrlError};
use crate::reactor::close::{Close, CloseCause, Deadline};

/// Why a request has no answer. An answer with any status is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpRequestError {
    /// The URL cannot be requested.
    Url(UrlError),
    /// The method or a header cannot be sent.
    Request(EncodeError),
    /// As many requests wait as [`waiting_requests_max`](crate::HttpClientOptions::waiting_requests_max) or
    /// [`waiting_bytes_max`](crate::HttpClientOptions::waiting_bytes_max) allows.
    Full,
    /// This step took too long.
    TimedOut(HttpStep),
    /// The connection could not be made, or has ended before the answer was complete.
    Connection {
        /// The side that ended it, and why.
        cause: CloseCause,
        /// More about the cause, usually empty. When a look-up has failed, the name and what the system says; when TLS
        /// has failed, the details; when no connection could be begun, as where the system's authorities cannot be
        /// read, a sentence that says why.
        reason: Box<str>,
    },
    /// The server broke HTTP/1.1, or its answer is above a limit.
    Response(HttpError),
    /// A redirect beyond [`redirects_max`](crate::HttpRequest::redirects_max).
    TooManyRedirects,
    /// A redirect to a URL that cannot be requested.
    Redirect(UrlError),
    /// A redirect with several `Location` headers, of which two readers could follow different ones.
    RepeatedLocation,
    /// A redirect from `https://` to `http://`, which is followed only if
    /// [asked](crate::HttpRequest::redirects_to_http).
    InsecureRedirect,
}

/// The steps of a request that have a deadline. The durations are fields of
/// [`HttpClientOptions`](crate::HttpClientOptions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpStep {
    /// The connection is made, with all addresses of its name, the tunnel of a proxy and the TLS handshake:
    /// `connect_timeout`.
    Connect,
    /// The server takes some bytes of the request: `write_timeout`.
    Send,
    /// The head of the answer has come: `head_timeout`.
    Head,
    /// The next bytes of the body come: `body_piece_timeout`.
    Body,
    /// The request is done: `request_timeout`.
    Request,
}

impl HttpRequestError {
    /// The error of a request whose connection ended so.
    pub(super) fn of_close(close: &Close) -> HttpRequestError {
        let step = match close.cause {
            CloseCause::TimedOut(Deadline::Connect | Deadline::Handshake) => HttpStep::Connect,
            CloseCause::TimedOut(Deadline::Write) => HttpStep::Send,
            CloseCause::TimedOut(Deadline::Head) => HttpStep::Head,
            CloseCause::TimedOut(Deadline::Body) => HttpStep::Body,
            CloseCause::Http(error) => return HttpRequestError::Response(error),
            cause => {
                return HttpRequestError::Connection {
                    cause,
                    reason: close.reason.clone(),
                };
            }
        };
        HttpRequestError::TimedOut(step)
    }
}

impl fmt::Display for HttpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HttpStep::Connect => "connect",
            HttpStep::Send => "send",
            HttpStep::Head => "head",
            HttpStep::Body => "body",
            HttpStep::Request => "request",
        })
    }
}

impl fmt::Display for HttpRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpRequestError::Url(error) => error.fmt(f),
            HttpRequestError::Request(error) => error.fmt(f),
            HttpRequestError::Full => f.write_str("too many requests wait"),
            HttpRequestError::TimedOut(step) => write!(f, "{step} deadline passed"),
            HttpRequestError::Connection { cause, reason } if reason.is_empty() => cause.fmt(f),
            HttpRequestError::Connection { cause, reason } => {
                write!(f, "{cause}: {}", reason.escape_debug())
            }
            HttpRequestError::Response(error) => write!(f, "not accepted: {error}"),
            HttpRequestError::TooManyRedirects => f.write_str("too many redirects"),
            HttpRequestError::Redirect(error) => write!(f, "a redirect was refused: {error}"),
            HttpRequestError::RepeatedLocation => f.write_str("a redirect to several URLs"),
            HttpRequestError::InsecureRedirect => {
                f.write_str("a redirect from https:// to http:// was refused")
            }
        }
    }
}

impl std::error::Error for HttpRequestError {}
