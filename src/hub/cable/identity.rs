//! The identity of a client: the identifiers in a JSON Web Token, as AnyCable's libraries make it.
//!
//! The claim `ext` is an object of JSON in a text, with the identifiers of the connection. Rails and a backend know the
//! connection by the values, sorted and joined by colons.
//!
//! Source: AnyCable's documentation, "JWT authentication"; Rails 8.1, `ActionCable::Connection::Identification`.

use std::borrow::Cow;

use crate::hub::jwt::{Object, TokenError, string_of};
use crate::protocol::base64::to_base64;
use crate::session::handler::Handshake;

/// The front of the subprotocol by which a client shows its token.
const TOKEN_SUBPROTOCOL: &str = "anycable-token.";

/// The most bytes of the identifiers of one connection.
const IDENTIFIERS_BYTES_MAX: usize = 2048;

/// The token that a client shows: in the query, in a header, or as a subprotocol that it offers.
pub(super) fn token_of<'h>(handshake: &Handshake<'h>) -> Option<Cow<'h, str>> {
    let headers = handshake.headers();
    let offered = headers.all("sec-websocket-protocol");
    let mut offered = offered.flat_map(|line| line.split(',')).map(str::trim);
    let by_header = || headers.first("x-jid").map(Cow::Borrowed);
    let mut by_subprotocol = || offered.find_map(|it| it.strip_prefix(TOKEN_SUBPROTOCOL));
    handshake
        .query("jid")
        .or_else(by_header)
        .or_else(|| by_subprotocol().map(Cow::Borrowed))
}

/// The identifiers in the claims of a token, as one object of JSON.
///
/// # Errors
///
/// [`TokenError::Claim`] where there are none.
pub(super) fn identifiers_of(payload: &str) -> Result<String, TokenError> {
    let claims = Object::parse(payload).ok_or(TokenError::Payload)?;
    let identifiers = claims.value("ext").and_then(string_of);
    let identifiers = identifiers.filter(|it| it.len() <= IDENTIFIERS_BYTES_MAX);
    let identifiers = identifiers.ok_or(TokenError::Claim("ext"))?;
    match Object::parse(&identifiers) {
        Some(_) => Ok(identifiers),
        None => Err(TokenError::Claim("ext")),
    }
}

/// The name by which Rails and a backend know a connection with these identifiers. `None` where they are no object of
/// texts and numbers.
pub(super) fn connection_name(identifiers: &str) -> Option<String> {
    let object = Object::parse(identifiers)?;
    let values = object.values().map(|value| match string_of(value) {
        Some(text) => Some(parameter_of(text)),
        // As Rails writes an identifier that is no model.
        None => match value.get() {
            "null" => Some(String::new()),
            value if value.starts_with(['{', '[']) => None,
            value => Some(value.to_owned()),
        },
    });
    let mut values: Vec<String> = values.collect::<Option<_>>()?;
    // Rails leaves out identifiers that have no value.
    values.retain(|value| !value.is_empty());
    values.sort_unstable();
    Some(values.join(":"))
}

/// A model of the application is named by its global id in base64, without padding and with the letters of URLs.
fn parameter_of(value: String) -> String {
    if !value.starts_with("gid://") {
        return value;
    }
    let encoded = to_base64(value.as_bytes());
    let encoded = encoded.trim_end_matches('=');
    encoded.replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_in_claims() {
        let payload = r#"{"ext":"{\"current_user\":\"u1\"}","exp":1}"#;
        assert_eq!(
            identifiers_of(payload).as_deref(),
            Ok(r#"{"current_user":"u1"}"#)
        );
        let long = format!(r#"{{"ext":"{{\"a\":\"{}\"}}"}}"#, "x".repeat(2048));
        for payload in [
            "{}",
            r#"{"ext":{}}"#,
            r#"{"ext":"[]"}"#,
            r#"{"ext":"x"}"#,
            &long,
        ] {
            assert!(identifiers_of(payload).is_err(), "{payload}");
        }
    }

    #[test]
    fn names_of_connections() {
        for (identifiers, expected) in [
            (r#"{"current_user":"u1"}"#, Some("u1")),
            (r#"{"b":"x","a":7,"c":null}"#, Some("7:x")),
            // Rails: `gid://TestApp/Post/1`.to_gid_param
            (
                r#"{"post":"gid://TestApp/Post/1"}"#,
                Some("Z2lkOi8vVGVzdEFwcC9Qb3N0LzE"),
            ),
            ("{}", Some("")),
            (r#"{"a":{}}"#, None),
            (r#"{"a":[1]}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(
                connection_name(identifiers).as_deref(),
                expected,
                "{identifiers}"
            );
        }
    }
}
