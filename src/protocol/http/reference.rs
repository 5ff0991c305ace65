//! References to URLs, as a server gives them in `Location`.
//!
//! Source: RFC 3986, section 5.2; RFC 9110, section 10.2.2.

use super::forwarded::Scheme;
use super::url::{Url, UrlError};

/// The URL that a reference means, seen from a URL of HTTP. A fragment is left out. Bytes above ASCII, which servers
/// send in paths, are percent-encoded.
///
/// # Errors
///
/// [`UrlError`] where the result is not a URL of HTTP, and where it names a user: a server that could choose it could
/// hide the host from a reader.
pub fn resolve_reference(base: &Url<'_>, reference: &str) -> Result<String, UrlError> {
    let reference = reference.split('#').next().unwrap_or_default();
    let resolved = match reference {
        _ if has_scheme(reference) => reference.to_owned(),
        _ if reference.starts_with("//") => format!("{}:{reference}", scheme_of(base)),
        _ => format!(
            "{}://{}{}",
            scheme_of(base),
            base.host_header(),
            target(base, reference)
        ),
    };
    let resolved = encode_above_ascii(&resolved);
    let url = Url::of_http(&resolved)?;
    match url.credentials() {
        Ok(None) => Ok(resolved),
        Ok(Some(_)) | Err(_) => Err(UrlError::UserInfo),
    }
}

fn scheme_of(base: &Url<'_>) -> &'static str {
    match base.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// Whether a reference begins with a scheme. Source: RFC 3986, section 3.1.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else {
        return false;
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(is_allowed)
}

/// Path and query that a reference without scheme and host means.
fn target(base: &Url<'_>, reference: &str) -> String {
    let whole = base.target();
    let (base_path, base_query) = split_query(&whole);
    let (path, query) = split_query(reference);
    let (path, query) = match path {
        "" => (base_path.to_owned(), query.or(base_query)),
        path if path.starts_with('/') => (without_dots(path), query),
        path => {
            let folder = base_path.rfind('/').map_or(0, |slash| slash + 1);
            (
                without_dots(&format!("{}{path}", &base_path[..folder])),
                query,
            )
        }
    };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}

/// A path without the segments `.` and `..`. Source: RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        // A dot at the end means a folder.
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

fn encode_above_ascii(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii() {
            encoded.push(char);
        } else {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::UrlError as E;
    use super::*;

    #[test]
    fn references() {
        let cases: &[(&str, Result<&str, UrlError>)] = &[
            ("https://other/x", Ok("https://other/x")),
            ("HTTP://other", Ok("HTTP://other")),
            ("//other:81/x?y", Ok("http://other:81/x?y")),
            ("/x", Ok("http://h/x")),
            ("/x?y#z", Ok("http://h/x?y")),
            ("?y", Ok("http://h/b/c/d;p?y")),
            ("", Ok("http://h/b/c/d;p?q")),
            ("#z", Ok("http://h/b/c/d;p?q")),
            // Source: RFC 3986, section 5.4.
            ("g", Ok("http://h/b/c/g")),
            ("./g", Ok("http://h/b/c/g")),
            ("g/", Ok("http://h/b/c/g/")),
            ("g?y", Ok("http://h/b/c/g?y")),
            (";x", Ok("http://h/b/c/;x")),
            (".", Ok("http://h/b/c/")),
            ("./", Ok("http://h/b/c/")),
            ("..", Ok("http://h/b/")),
            ("../g", Ok("http://h/b/g")),
            ("../..", Ok("http://h/")),
            ("../../../g", Ok("http://h/g")),
            ("/./g", Ok("http://h/g")),
            ("/../g", Ok("http://h/g")),
            ("g.", Ok("http://h/b/c/g.")),
            ("..g", Ok("http://h/b/c/..g")),
            ("g/./h", Ok("http://h/b/c/g/h")),
            ("g/../h", Ok("http://h/b/c/h")),
            ("g?y/../x", Ok("http://h/b/c/g?y/../x")),
            ("a/b:c", Ok("http://h/b/c/a/b:c")),
            ("/caf\u{e9}", Ok("http://h/caf%C3%A9")),
            ("/a b", Err(E::Target)),
            ("/a\r\nB: c", Err(E::Target)),
            ("http://u:p@other/", Err(E::UserInfo)),
            ("//u@other/", Err(E::UserInfo)),
            ("http:///x", Err(E::Host)),
            ("ftp://other/", Err(E::Scheme)),
            ("javascript:alert(1)", Err(E::Scheme)),
            ("http:x", Err(E::Scheme)),
            ("//", Err(E::Host)),
        ];
        let base = Url::of_http("http://h/b/c/d;p?q").unwrap();
        for (reference, expected) in cases {
            let resolved = resolve_reference(&base, reference);
            assert_eq!(resolved.as_deref(), expected.as_deref(), "{reference:?}");
        }
        let base = Url::of_http("https://[::1]:81").unwrap();
        let resolved = resolve_reference(&base, "x");
        assert_eq!(resolved.as_deref(), Ok("https://[::1]:81/x"));
    }
}
