//! `--redirect`: a plain port that sends clients to the port with TLS.

use waterwheel::{Reply, Router, Status};

/// Answers each request with the same URL by https. `port` is that of TLS.
///
/// The status 308 lets a client repeat a POST as it was. A request whose host is not one is refused: the answer
/// would lead to another place.
pub fn redirect(router: &mut Router<()>, port: u16) {
    router.method("*", "*", move |request| {
        let query = request.query_string();
        let target = match query {
            Some(query) => format!("{}?{query}", request.path()),
            None => request.path().to_owned(),
        };
        let reply = match request
            .host()
            .and_then(|host| location(host, port, &target))
        {
            Some(location) => Reply::new(Status::PERMANENT_REDIRECT).header("Location", location),
            None => Reply::new(Status::BAD_REQUEST)
                .body("This port sends clients to https, and the request has no host.\n"),
        };
        request.reply(reply);
    });
}

/// The URL by https, with the host of a request. `None` where there is none.
fn location(host: &str, port: u16, target: &str) -> Option<String> {
    // The colons of an IPv6 address stand in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    if name.is_empty() || !target.starts_with('/') {
        return None;
    }
    Some(match port {
        443 => format!("https://{name}{target}"),
        _ => format!("https://{name}:{port}{target}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_the_host_and_the_target() {
        let cases = [
            ("example.org", 443, "/a?b", Some("https://example.org/a?b")),
            ("example.org:80", 443, "/", Some("https://example.org/")),
            (
                "example.org:8080",
                8443,
                "/",
                Some("https://example.org:8443/"),
            ),
            ("[::1]:80", 443, "/", Some("https://[::1]/")),
            ("[::1]", 8443, "/", Some("https://[::1]:8443/")),
            ("", 443, "/", None),
            (":80", 443, "/", None),
            ("example.org", 443, "*", None),
        ];
        for (host, port, target, expected) in cases {
            assert_eq!(location(host, port, target).as_deref(), expected, "{host}");
        }
    }
}
