//! Redirects: the request that follows an answer.
//!
//! Pure. Source: RFC 9110, section 15.4.

use crate::protocol::http::{Status, Url, UrlError, resolve_reference};

use super::error::HttpRequestError;
use super::origin::Origin;
use super::request::HttpRequest;
use super::response::{HttpResponse, NOT_TEXT};

/// Headers that are meant for one server and must not reach another.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Headers about a body. A request that becomes a GET has none.
const ABOUT_BODY: [&str; 4] = [
    "content-encoding",
    "content-language",
    "content-location",
    "content-type",
];

/// The request that follows the answer to another one; `None` where the answer is the last. `count` redirects were
/// followed before.
///
/// # Errors
///
/// [`HttpRequestError`] where the redirect must not be followed.
pub(super) fn redirected(
    request: &HttpRequest,
    response: &HttpResponse,
    count: u8,
) -> Result<Option<HttpRequest>, HttpRequestError> {
    let becomes_get = match (response.status, request.method.as_str()) {
        _ if request.redirects_max == 0 => return Ok(None),
        (Status::MOVED_PERMANENTLY | Status::FOUND, method) => method == "POST",
        (Status::SEE_OTHER, method) => method != "HEAD",
        (Status::TEMPORARY_REDIRECT | Status::PERMANENT_REDIRECT, _) => false,
        _ => return Ok(None),
    };
    let mut locations = response.headers.all("location");
    let Some(location) = locations.next() else {
        return Ok(None);
    };
    if request.redirects_max <= count {
        return Err(HttpRequestError::TooManyRedirects);
    }
    let base = Url::of_http(&request.url).map_err(HttpRequestError::Url)?;
    if locations.next().is_some() {
        return Err(HttpRequestError::RepeatedLocation);
    }
    // The stand-in would be resolved as a path.
    if location == NOT_TEXT {
        return Err(HttpRequestError::Redirect(UrlError::Target));
    }
    let url = resolve_reference(&base, location).map_err(HttpRequestError::Redirect)?;
    let to = Url::of_http(&url).map_err(HttpRequestError::Redirect)?;
    if base.has_tls() && !to.has_tls() && !request.redirects_to_http {
        return Err(HttpRequestError::InsecureRedirect);
    }
    let is_same_origin = Origin::of(&base) == Origin::of(&to);
    // The credentials of the first URL are not part of the new one.
    let credentials = base.credentials().map_err(HttpRequestError::Url)?;
    let mut next = HttpRequest {
        url: url.clone(),
        ..request.clone()
    };
    if becomes_get {
        next.method = "GET".to_owned();
        next.body = None;
        remove_headers(&mut next, &ABOUT_BODY);
    }
    match credentials {
        _ if !is_same_origin => remove_headers(&mut next, &CREDENTIALS),
        Some((user, password)) => next.authorize(&user, &password),
        None => {}
    }
    Ok(Some(next))
}

fn remove_headers(request: &mut HttpRequest, names: &[&str]) {
    let is_kept = |name: &String| !names.iter().any(|given| given.eq_ignore_ascii_case(name));
    request.headers.retain(|(name, _)| is_kept(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::{HeaderStorage, Limits, parse_response_head};

    fn response(status: u16, lines: &str) -> HttpResponse {
        let head = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        let mut storage = HeaderStorage::new();
        let parsed = parse_response_head(head.as_bytes(), false, &mut storage, &Limits::default());
        HttpResponse::of(&parsed.unwrap().unwrap(), "")
    }

    fn request(method: &str, url: &str) -> HttpRequest {
        HttpRequest::new(method, url)
            .header("Authorization", "secret")
            .header("COOKIE", "a=b")
            .header("X-A", "y")
            .body("text/plain", "hello")
            .redirects_max(2)
    }

    /// Method, URL, body and header names of the request that follows.
    fn followed(request: &HttpRequest, response: &HttpResponse) -> String {
        match redirected(request, response, 0) {
            Ok(None) => "none".to_owned(),
            Ok(Some(next)) => {
                let body = next.body.map_or(String::new(), |body| {
                    format!(" {}", String::from_utf8(body).unwrap())
                });
                let names: Vec<_> = next.headers.iter().map(|(name, _)| name.as_str()).collect();
                format!("{} {}{body} {}", next.method, next.url, names.join(","))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn methods_and_bodies() {
        let same = "hello Authorization,COOKIE,X-A,Content-Type";
        let bare = "Authorization,COOKIE,X-A";
        let cases: &[(&str, u16, &str, &str)] = &[
            ("GET", 301, "GET", same),
            ("POST", 301, "GET", bare),
            ("PUT", 301, "PUT", same),
            ("HEAD", 302, "HEAD", same),
            ("POST", 302, "GET", bare),
            ("GET", 303, "GET", bare),
            ("POST", 303, "GET", bare),
            ("DELETE", 303, "GET", bare),
            ("HEAD", 303, "HEAD", same),
            ("POST", 307, "POST", same),
            ("POST", 308, "POST", same),
            ("PUT", 308, "PUT", same),
        ];
        for (method, status, next, rest) in cases {
            let response = response(*status, "Location: /b\r\n");
            let expected = format!("{next} http://h/b {rest}");
            let followed = followed(&request(method, "http://h/a"), &response);
            assert_eq!(followed, expected, "{method} {status}");
        }
    }

    #[test]
    fn answers_that_are_not_followed() {
        let cases: &[(u16, &str, &str)] = &[
            (200, "Location: /b\r\n", "none"),
            (201, "Location: /b\r\n", "none"),
            (300, "Location: /b\r\n", "none"),
            (304, "Location: /b\r\n", "none"),
            (305, "Location: /b\r\n", "none"),
            (404, "Location: /b\r\n", "none"),
            (302, "", "none"),
            (
                302,
                "Location: ftp://h/\r\n",
                "a redirect was refused: a URL must begin with http:// or https://",
            ),
            (
                302,
                "Location: http://u@h/\r\n",
                "a redirect was refused: the URL must not have a user name or a password",
            ),
            (
                302,
                "Location: /b\r\nLocation: /c\r\n",
                "a redirect to several URLs",
            ),
        ];
        for (status, lines, expected) in cases {
            let response = response(*status, lines);
            let followed = followed(&request("GET", "http://h/a"), &response);
            assert_eq!(followed, *expected, "{status} {lines}");
        }
        let not_asked = HttpRequest::get("http://h/a");
        let response = response(302, "Location: /b\r\n");
        assert_eq!(followed(&not_asked, &response), "none");
    }

    #[test]
    fn redirects_are_counted() {
        let response = response(302, "Location: /b\r\n");
        let request = request("GET", "http://h/a");
        assert!(matches!(redirected(&request, &response, 1), Ok(Some(_))));
        let beyond = redirected(&request, &response, 2);
        assert_eq!(beyond.err(), Some(HttpRequestError::TooManyRedirects));
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let all = "hello Authorization,COOKIE,X-A,Content-Type";
        let few = "hello X-A,Content-Type";
        let cases: &[(&str, &str, &str)] = &[
            ("http://h/a", "http://H:80/b", all),
            ("http://h/a", "http://h:81/b", few),
            ("http://h/a", "https://h/b", few),
            ("http://h/a", "http://i/b", few),
            ("http://h/a", "//h.i/b", few),
            ("https://h/a", "https://h:443/b", all),
            ("http://u:p@h/a", "http://i/b", few),
        ];
        for (from, to, expected) in cases {
            let response = response(307, &format!("Location: {to}\r\n"));
            let followed = followed(&request("GET", from), &response);
            assert!(followed.ends_with(expected), "{from} to {to}: {followed}");
        }
        // The user of the first URL is not lost on the same host, and does not reach another one.
        let with_user = HttpRequest::get("http://u:p@h/a").redirects_max(1);
        let to = |location: &str| response(302, &format!("Location: {location}\r\n"));
        assert_eq!(
            followed(&with_user, &to("/b")),
            "GET http://h/b Authorization"
        );
        assert_eq!(followed(&with_user, &to("http://i/b")), "GET http://i/b ");
    }

    #[test]
    fn a_redirect_into_the_clear_must_be_asked_for() {
        let response = response(302, "Location: http://h/b\r\n");
        let request = HttpRequest::get("https://h/a").redirects_max(1);
        let refused = redirected(&request, &response, 0);
        assert_eq!(refused.err(), Some(HttpRequestError::InsecureRedirect));
        let asked = request.redirects_to_http(true);
        assert_eq!(followed(&asked, &response), "GET http://h/b ");
        let wrong = HttpRequest::get("h:80").redirects_max(1);
        let error = redirected(&wrong, &response, 0).err();
        assert_eq!(error, Some(HttpRequestError::Url(UrlError::Scheme)));
    }
}
