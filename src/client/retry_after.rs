//! The time after which a server wants to be asked again.

use std::time::Duration;

use crate::protocol::digits::parse_decimal;
use crate::protocol::http::Status;

/// The time that an answer with 429 or 503 asks for in its `Retry-After`, in seconds. A date is ignored: the clocks of
/// both sides would have to agree.
///
/// Source: RFC 9110, section 10.2.3; RFC 6585, section 4.
pub(super) fn retry_after(status: Status, value: Option<&str>) -> Option<Duration> {
    let may_ask = [Status::TOO_MANY_REQUESTS, Status::SERVICE_UNAVAILABLE].contains(&status);
    let value = value.filter(|_| may_ask)?;
    parse_decimal(value.as_bytes()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_servers_ask_for() {
        let cases = [
            (Status::SERVICE_UNAVAILABLE, Some("20"), Some(20)),
            (Status::TOO_MANY_REQUESTS, Some("0"), Some(0)),
            (Status::SERVICE_UNAVAILABLE, None, None),
            (Status::SERVICE_UNAVAILABLE, Some("-1"), None),
            (Status::SERVICE_UNAVAILABLE, Some("1.5"), None),
            (
                Status::SERVICE_UNAVAILABLE,
                Some("Fri, 31 Dec 1999 23:59:59 GMT"),
                None,
            ),
            (Status::NOT_FOUND, Some("20"), None),
        ];
        for (status, value, expected) in cases {
            let asked = retry_after(status, value).map(|time| time.as_secs());
            assert_eq!(asked, expected, "{status}: {value:?}");
        }
    }
}
