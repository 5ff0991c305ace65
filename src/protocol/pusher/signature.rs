//! Signatures: HMAC-SHA256 under the secret of the app, in lower-case hexadecimal digits.

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// How far the time of a request may be from ours, in seconds.
pub const TIME_TOLERANCE_SECONDS: u64 = 600;

/// The text that is signed for a subscription. The data is that of the subscription, byte for byte.
pub fn subscription_text(socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
    match channel_data {
        None => format!("{socket_id}:{channel}"),
        Some(data) => format!("{socket_id}:{channel}:{data}"),
    }
}

/// The text that is signed for a sign-in. The data is that of the message, byte for byte.
pub fn sign_in_text(socket_id: &str, user_data: &str) -> String {
    format!("{socket_id}::user::{user_data}")
}

/// The signature of a text.
pub fn sign(secret: &[u8], text: &[u8]) -> String {
    let mac = mac(secret).chain_update(text).finalize();
    to_hex(&mac.into_bytes())
}

/// Whether a signature is that of a text. The comparison takes the same time wherever they differ.
pub fn is_signature(secret: &[u8], text: &[u8], signature: &str) -> bool {
    let Some(signature) = from_hex(signature) else {
        return false;
    };
    mac(secret)
        .chain_update(text)
        .verify_slice(&signature)
        .is_ok()
}

/// Whether `auth` is `KEY:SIGNATURE`, with the key of the app and the signature of a text.
pub fn is_authorized(key: &str, secret: &[u8], text: &str, auth: &str) -> bool {
    let Some((named, signature)) = auth.split_once(':') else {
        return false;
    };
    named == key && is_signature(secret, text.as_bytes(), signature)
}

/// The MD5 digest of a body, in hexadecimal digits.
pub fn body_md5(body: &[u8]) -> String {
    to_hex(&Md5::digest(body))
}

fn mac(secret: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("a key of any length is accepted")
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    pairs.collect()
}

/// A request of a backend, whose query has the signature.
#[derive(Clone, Copy, Debug)]
pub struct ApiRequest<'r> {
    /// The method, in capitals.
    pub method: &'r str,
    /// The path as it came, not decoded.
    pub path: &'r str,
    /// The parameters of the query, decoded, in any order.
    pub query: &'r [(String, String)],
    /// The body.
    pub body: &'r [u8],
}

/// The reason why a request of a backend is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// A parameter of the query is missing, or stands there twice.
    Parameter(&'static str),
    /// `auth_key` is not the key of this app.
    Key,
    /// `auth_version` is not 1.0.
    Version,
    /// `auth_timestamp` is no number, or too far from our time.
    Timestamp,
    /// `body_md5` is not the digest of the body.
    BodyDigest,
    /// `auth_signature` is not that of the request.
    Signature,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::Parameter(name) => write!(f, "the query needs one {name}"),
            ApiError::Key => f.write_str("auth_key is not the key of this app"),
            ApiError::Version => f.write_str("auth_version is not 1.0"),
            ApiError::Timestamp => write!(
                f,
                "auth_timestamp is not within {TIME_TOLERANCE_SECONDS} seconds of the server's time"
            ),
            ApiError::BodyDigest => f.write_str("body_md5 is not the MD5 digest of the body"),
            ApiError::Signature => f.write_str("auth_signature is not that of this request"),
        }
    }
}

impl std::error::Error for ApiError {}

impl ApiRequest<'_> {
    /// Checks that the app with this key and secret has signed the request, at about this time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`ApiError`], the first that is found.
    pub fn check(&self, key: &str, secret: &[u8], now_unix: u64) -> Result<(), ApiError> {
        if self.parameter("auth_key")? != key {
            return Err(ApiError::Key);
        }
        if self.parameter("auth_version")? != "1.0" {
            return Err(ApiError::Version);
        }
        let timestamp = self.parameter("auth_timestamp")?.parse::<u64>();
        let is_near = |time: u64| time.abs_diff(now_unix) <= TIME_TOLERANCE_SECONDS;
        if !timestamp.is_ok_and(is_near) {
            return Err(ApiError::Timestamp);
        }
        let signature = self.parameter("auth_signature")?;
        if !is_signature(secret, self.signed_text().as_bytes(), signature) {
            return Err(ApiError::Signature);
        }
        // Without a body there may be no digest. With one of no bytes some libraries send the digest nevertheless.
        match (self.body.is_empty(), self.parameter("body_md5")) {
            (true, Err(_)) => Ok(()),
            (_, Ok(digest)) if digest.eq_ignore_ascii_case(&body_md5(self.body)) => Ok(()),
            (false, Err(missing)) => Err(missing),
            (_, Ok(_)) => Err(ApiError::BodyDigest),
        }
    }

    /// The text that is signed: the method, the path and the sorted parameters without the signature.
    fn signed_text(&self) -> String {
        let mut parameters: Vec<(String, &str)> = self
            .query
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.as_str()))
            .filter(|(name, _)| name != "auth_signature")
            .collect();
        parameters.sort();
        let mut text = format!("{}\n{}\n", self.method, self.path);
        for (index, (name, value)) in parameters.iter().enumerate() {
            if index != 0 {
                text.push('&');
            }
            let _ = write!(text, "{name}={value}");
        }
        text
    }

    fn parameter(&self, name: &'static str) -> Result<&str, ApiError> {
        let mut values = self.query.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(value),
            _ => Err(ApiError::Parameter(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "278d425bdf160c739803";
    const SECRET: &[u8] = b"7ad3773142a6692b25b8";
    const BODY: &[u8] = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;

    // Source: the documentation of Pusher Channels.
    #[test]
    fn the_signatures_of_the_documentation() {
        let presence = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
        for (text, expected) in [
            (
                subscription_text("1234.1234", "private-foobar", None),
                "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
            ),
            (
                subscription_text("1234.1234", "presence-foobar", Some(presence)),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
            (
                sign_in_text("1234.1234", r#"{"id":"12345"}"#),
                "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
            ),
            (
                r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"test"}]}"#.to_owned(),
                "abfea5004a8dd261c09cf7357e59a6dbdbfd3d6a9846970f7d549e8e2b57bb32",
            ),
        ] {
            assert_eq!(sign(SECRET, text.as_bytes()), expected, "{text}");
            assert!(is_authorized(KEY, SECRET, &text, &format!("{KEY}:{expected}")));
        }
    }

    #[test]
    fn a_subscription_without_the_right_signature_is_not_authorized() {
        let text = subscription_text("1234.1234", "private-foobar", None);
        let right = sign(SECRET, text.as_bytes());
        let other_socket = sign(SECRET, b"1234.1235:private-foobar");
        for auth in [
            String::new(),
            KEY.to_owned(),
            format!("{KEY}:"),
            right.clone(),
            format!("other:{right}"),
            format!("{KEY}:{}", &right[..62]),
            format!("{KEY}:{right}00"),
            format!("{KEY}:{}", right.replace(|c: char| c.is_ascii_digit(), "g")),
            format!("{KEY}:{other_socket}"),
            format!("{KEY}:ä{}", &right[2..]),
        ] {
            assert!(!is_authorized(KEY, SECRET, &text, &auth), "{auth}");
        }
        assert!(is_authorized(KEY, SECRET, &text, &format!("{KEY}:{right}")));
    }

    fn query(changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut query = vec![
            ("auth_key", KEY),
            ("auth_timestamp", "1353088179"),
            ("auth_version", "1.0"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
            (
                "auth_signature",
                "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
            ),
        ];
        for (name, value) in changes {
            query.retain(|(known, _)| known != name);
            if !value.is_empty() {
                query.push((name, value));
            }
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        query.into_iter().map(owned).collect()
    }

    fn check(changes: &[(&str, &str)], body: &[u8], now_unix: u64) -> Result<(), ApiError> {
        let query = query(changes);
        let request = ApiRequest {
            method: "POST",
            path: "/apps/3/events",
            query: &query,
            body,
        };
        request.check(KEY, SECRET, now_unix)
    }

    // Source: the documentation of Pusher Channels.
    #[test]
    fn a_request_of_the_documentation_and_ones_that_are_not_signed() {
        const NOW: u64 = 1_353_088_179;
        assert_eq!(check(&[], BODY, NOW), Ok(()));
        assert_eq!(check(&[], BODY, NOW + 600), Ok(()));
        assert_eq!(check(&[], BODY, NOW - 600), Ok(()));
        let other = "0".repeat(64);
        for (changes, body, now_unix, expected) in [
            (&[][..], BODY, NOW + 601, ApiError::Timestamp),
            (&[], BODY, NOW - 601, ApiError::Timestamp),
            (&[], &BODY[1..], NOW, ApiError::BodyDigest),
            (&[], b"", NOW, ApiError::BodyDigest),
            (
                &[("auth_key", "")],
                BODY,
                NOW,
                ApiError::Parameter("auth_key"),
            ),
            (&[("auth_key", "other")], BODY, NOW, ApiError::Key),
            (&[("auth_version", "2.0")], BODY, NOW, ApiError::Version),
            (
                &[("auth_timestamp", "soon")],
                BODY,
                NOW,
                ApiError::Timestamp,
            ),
            (
                &[("auth_timestamp", "1353088178")],
                BODY,
                NOW,
                ApiError::Signature,
            ),
            (
                &[("auth_signature", &other)],
                BODY,
                NOW,
                ApiError::Signature,
            ),
            (
                &[("auth_signature", "")],
                BODY,
                NOW,
                ApiError::Parameter("auth_signature"),
            ),
            (&[("body_md5", "")], BODY, NOW, ApiError::Signature),
            (&[("info", "x")], BODY, NOW, ApiError::Signature),
        ] {
            assert_eq!(check(changes, body, now_unix), Err(expected), "{changes:?}");
        }
    }

    #[test]
    fn parameters_are_signed_in_order_and_a_body_needs_its_digest() {
        let sign_query = |names: &str, body: &[u8]| {
            let text = format!("GET\n/apps/3/channels\n{names}");
            let mut query = query(&[("body_md5", ""), ("auth_signature", "")]);
            query.insert(0, ("info".to_owned(), "user_count,x y".to_owned()));
            query.push(("auth_signature".to_owned(), sign(SECRET, text.as_bytes())));
            let request = ApiRequest {
                method: "GET",
                path: "/apps/3/channels",
                query: &query,
                body,
            };
            request.check(KEY, SECRET, 1_353_088_179)
        };
        let names = format!(
            "auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&info=user_count,x y"
        );
        assert_eq!(sign_query(&names, b""), Ok(()));
        assert_eq!(
            sign_query(&names, b"{}"),
            Err(ApiError::Parameter("body_md5"))
        );
    }
}
