//! Status codes and their reason phrases.

use std::fmt;

/// A status code of three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

macro_rules! statuses {
    ($($name:ident $code:literal $reason:literal,)*) => {
        impl Status {
            $(#[doc = concat!($code, " ", $reason)] pub const $name: Status = Status($code);)*

            /// The usual phrase of the status; that of its class where the status has no constant.
            pub fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)*
                    100..=199 => "Informational",
                    200..=299 => "Success",
                    300..=399 => "Redirection",
                    400..=499 => "Client Error",
                    _ => "Server Error",
                }
            }

            #[cfg(test)]
            const NAMED: &'static [Status] = &[$(Status::$name,)*];
        }
    };
}

statuses! {
    CONTINUE 100 "Continue",
    SWITCHING_PROTOCOLS 101 "Switching Protocols",
    EARLY_HINTS 103 "Early Hints",
    OK 200 "OK",
    CREATED 201 "Created",
    ACCEPTED 202 "Accepted",
    NO_CONTENT 204 "No Content",
    RESET_CONTENT 205 "Reset Content",
    PARTIAL_CONTENT 206 "Partial Content",
    MULTIPLE_CHOICES 300 "Multiple Choices",
    MOVED_PERMANENTLY 301 "Moved Permanently",
    FOUND 302 "Found",
    SEE_OTHER 303 "See Other",
    NOT_MODIFIED 304 "Not Modified",
    TEMPORARY_REDIRECT 307 "Temporary Redirect",
    PERMANENT_REDIRECT 308 "Permanent Redirect",
    BAD_REQUEST 400 "Bad Request",
    UNAUTHORIZED 401 "Unauthorized",
    FORBIDDEN 403 "Forbidden",
    NOT_FOUND 404 "Not Found",
    METHOD_NOT_ALLOWED 405 "Method Not Allowed",
    NOT_ACCEPTABLE 406 "Not Acceptable",
    PROXY_AUTHENTICATION_REQUIRED 407 "Proxy Authentication Required",
    REQUEST_TIMEOUT 408 "Request Timeout",
    CONFLICT 409 "Conflict",
    GONE 410 "Gone",
    LENGTH_REQUIRED 411 "Length Required",
    PRECONDITION_FAILED 412 "Precondition Failed",
    CONTENT_TOO_LARGE 413 "Content Too Large",
    URI_TOO_LONG 414 "URI Too Long",
    UNSUPPORTED_MEDIA_TYPE 415 "Unsupported Media Type",
    RANGE_NOT_SATISFIABLE 416 "Range Not Satisfiable",
    EXPECTATION_FAILED 417 "Expectation Failed",
    MISDIRECTED_REQUEST 421 "Misdirected Request",
    UNPROCESSABLE_CONTENT 422 "Unprocessable Content",
    UPGRADE_REQUIRED 426 "Upgrade Required",
    PRECONDITION_REQUIRED 428 "Precondition Required",
    TOO_MANY_REQUESTS 429 "Too Many Requests",
    REQUEST_HEADER_FIELDS_TOO_LARGE 431 "Request Header Fields Too Large",
    INTERNAL_SERVER_ERROR 500 "Internal Server Error",
    NOT_IMPLEMENTED 501 "Not Implemented",
    BAD_GATEWAY 502 "Bad Gateway",
    SERVICE_UNAVAILABLE 503 "Service Unavailable",
    GATEWAY_TIMEOUT 504 "Gateway Timeout",
    HTTP_VERSION_NOT_SUPPORTED 505 "HTTP Version Not Supported",
}

impl Status {
    /// The status with this code; `None` outside of 100 to 599. Source: RFC 9110, section 15.
    pub const fn new(code: u16) -> Option<Status> {
        if 100 <= code && code <= 599 {
            Some(Status(code))
        } else {
            None
        }
    }

    /// The code, 100 to 599.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether it is 1xx. After such a status, except 101, the final answer follows.
    pub const fn is_informational(self) -> bool {
        self.0 < 200
    }

    /// Whether it is 2xx.
    pub const fn is_success(self) -> bool {
        200 <= self.0 && self.0 < 300
    }

    /// Whether an answer with this status has a body, which may be empty. 1xx, 204 and 304 have none.
    /// Source: RFC 9112, section 6.3.
    pub const fn has_body(self) -> bool {
        !self.is_informational() && self.0 != 204 && self.0 != 304
    }
}

/// Writes the status as in a status line: `404 Not Found`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

impl TryFrom<u16> for Status {
    type Error = u16;

    /// The status with this code, or the code back.
    fn try_from(code: u16) -> Result<Status, u16> {
        Status::new(code).ok_or(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_phrases() {
        assert_eq!(Status::NOT_FOUND.to_string(), "404 Not Found");
        assert_eq!(Status::new(499).map(Status::reason), Some("Client Error"));
        assert_eq!(Status::new(200), Some(Status::OK));
        for code in [0, 99, 600, 999, u16::MAX] {
            assert_eq!(Status::try_from(code), Err(code));
        }
        for status in Status::NAMED {
            assert_eq!(Status::new(status.code()), Some(*status));
        }
    }

    #[test]
    fn bodies() {
        for (status, expected) in [
            (Status::CONTINUE, false),
            (Status::SWITCHING_PROTOCOLS, false),
            (Status::NO_CONTENT, false),
            (Status::NOT_MODIFIED, false),
            (Status::OK, true),
            (Status::NOT_FOUND, true),
        ] {
            assert_eq!(status.has_body(), expected, "{status}");
        }
    }
}
