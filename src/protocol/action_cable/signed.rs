//! Texts that Rails has signed, such as names of streams: JSON in base64, two hyphens, and an HMAC in hexadecimal digits.
//!
//! Source: `ActiveSupport::MessageVerifier` and `ActiveSupport::KeyGenerator` of Rails 8.1; RFC 8018, section 5.2.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use sha1::Sha1;
use sha2::Sha256;

use crate::protocol::base64::from_base64;
use crate::protocol::json;

/// The salt of the key under which Turbo signs the names of streams.
pub const TURBO_SALT: &str = "turbo/signed_stream_verifier_key";

/// The salts of the keys under which CableReady signs the names of streams: of its version 5, and of others.
pub const CABLE_READY_SALTS: [&str; 2] = ["cable_ready/verifier_key", "cable_ready"];

/// The token of backends that broadcast over HTTP, as AnyCable derives it from the secret of an application.
pub fn broadcast_token(secret: &[u8]) -> String {
    let token = Digest::Sha256.hmac(secret, &[b"broadcast-cable"]);
    token.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rounds of [`derive_key`] in Rails.
const ROUNDS: u32 = 1000;

/// The bytes of a key that Rails derives.
const KEY_BYTES: usize = 64;

/// The digests that Rails uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Before the defaults of Rails 7.
    Sha1,
    /// Since the defaults of Rails 7.
    Sha256,
}

impl Digest {
    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            let mut mac =
                <M as KeyInit>::new_from_slice(key).expect("a key of any length is accepted");
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Digest::Sha1 => of::<Hmac<Sha1>>(key, parts),
            Digest::Sha256 => of::<Hmac<Sha256>>(key, parts),
        }
    }

    fn verify(self, key: &[u8], text: &[u8], signature: &[u8]) -> bool {
        fn of<M: Mac + KeyInit>(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
            let mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length is accepted");
            mac.chain_update(text).verify_slice(signature).is_ok()
        }
        match self {
            Digest::Sha1 => of::<Hmac<Sha1>>(key, text, signature),
            Digest::Sha256 => of::<Hmac<Sha256>>(key, text, signature),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Digest::Sha1 => 20,
            Digest::Sha256 => 32,
        }
    }
}

/// The key that Rails derives from its `secret_key_base`, by PBKDF2 with 1,000 rounds.
pub fn derive_key(secret_key_base: &[u8], salt: &str, digest: Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_BYTES + digest.bytes());
    for block in 1_u32.. {
        let mut sum = digest.hmac(secret_key_base, &[salt.as_bytes(), &block.to_be_bytes()]);
        let mut last = sum.clone();
        for _ in 1..ROUNDS {
            last = digest.hmac(secret_key_base, &[&last]);
            for (byte, other) in sum.iter_mut().zip(&last) {
                *byte ^= other;
            }
        }
        key.extend_from_slice(&sum);
        if KEY_BYTES <= key.len() {
            break;
        }
    }
    key.truncate(KEY_BYTES);
    key
}

/// The reason why a signed text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedError {
    /// It is not signed with this key.
    Signature,
    /// It is signed, and no JSON in base64.
    Payload,
    /// Its time is over.
    Expired,
    /// It was signed for another purpose.
    Purpose,
}

impl fmt::Display for SignedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignedError::Signature => "the signature is not right",
            SignedError::Payload => "the signed text is not what Rails signs",
            SignedError::Expired => "the time of the signed text is over",
            SignedError::Purpose => "the text was signed for another purpose",
        })
    }
}

impl std::error::Error for SignedError {}

/// The JSON value that was signed.
///
/// # Errors
///
/// [`SignedError`]: first of all where the signature is not right, in a comparison that takes the same time wherever they
/// differ. A text with a purpose is refused, because names of streams have none.
pub fn verify(
    key: &[u8],
    digest: Digest,
    text: &str,
    now_unix: u64,
) -> Result<String, SignedError> {
    // The text before may have hyphens too, in the other alphabet of base64.
    let digits = 2 * digest.bytes();
    let (front, signature) = text
        .len()
        .checked_sub(digits)
        .and_then(|at| text.split_at_checked(at))
        .ok_or(SignedError::Signature)?;
    let encoded = front.strip_suffix("--").ok_or(SignedError::Signature)?;
    let signature = from_hex(signature).ok_or(SignedError::Signature)?;
    if !digest.verify(key, encoded.as_bytes(), &signature) {
        return Err(SignedError::Signature);
    }
    let json = decode(encoded).ok_or(SignedError::Payload)?;
    json::check(&json).map_err(|_| SignedError::Payload)?;
    let Ok([Some(rails)]) = json::fields(&json, &["_rails"]) else {
        return Ok(json);
    };
    let [message, data, expires, purpose] =
        json::fields(rails.get(), &["message", "data", "exp", "pur"])
            .map_err(|_| SignedError::Payload)?;
    let given = |field: Option<&RawValue>| field.filter(|it| it.get() != "null").is_some();
    if given(purpose) {
        return Err(SignedError::Purpose);
    }
    if given(expires) {
        let expires = expires.and_then(json::string);
        let end_unix = expires.and_then(|text| unix_time(&text));
        if end_unix.ok_or(SignedError::Payload)? <= now_unix {
            return Err(SignedError::Expired);
        }
    }
    match (message.and_then(json::string), data) {
        (Some(message), _) => decode(&message).ok_or(SignedError::Payload),
        (None, Some(data)) => Ok(data.get().to_owned()),
        (None, None) => Err(SignedError::Payload),
    }
}

/// The name of a stream that was signed.
///
/// # Errors
///
/// As [`verify`], and [`SignedError::Payload`] where it is no text.
pub fn stream_name(
    key: &[u8],
    digest: Digest,
    text: &str,
    now_unix: u64,
) -> Result<String, SignedError> {
    let json = verify(key, digest, text, now_unix)?;
    let value = serde_json::from_str::<&RawValue>(&json).map_err(|_| SignedError::Payload)?;
    let name = json::string(value).ok_or(SignedError::Payload)?;
    Ok(name.into_owned())
}

fn decode(encoded: &str) -> Option<String> {
    String::from_utf8(from_base64(encoded)?).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    pairs.collect()
}

/// Seconds since 1970 of a time such as `2026-11-23T08:00:00.000Z`.
fn unix_time(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text
            .split(by)
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_date =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    // Days since the first of March of the year 0, as that year ends with its leap day.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::base64::to_base64;

    fn sign(key: &[u8], digest: Digest, json: &str) -> String {
        let encoded = to_base64(json.as_bytes());
        let signature = digest.hmac(key, &[encoded.as_bytes()]);
        let digits: Vec<String> = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{encoded}--{}", digits.concat())
    }

    // Source: made by Rails 6.1; the second one stands in AnyCable's tests too.
    #[test]
    fn names_that_rails_has_signed() {
        for (signed, expected) in [
            (
                "ImNoYXQvMjAyNCI=--82a3fbb6e2c6083afdbd1a63564580bfcf9284f8bef3bce300c4b31b0b3e45e6",
                "chat/2024",
            ),
            (
                "ImNoYXQ6MjAyMSI=--f9ee45dbccb1da04d8ceb99cc820207804370ba0d06b46fc3b8b373af1315628",
                "chat:2021",
            ),
        ] {
            let name = stream_name(b"s3Krit", Digest::Sha256, signed, 0);
            assert_eq!(name.as_deref(), Ok(expected));
            assert_eq!(
                stream_name(b"other", Digest::Sha256, signed, 0),
                Err(SignedError::Signature)
            );
        }
    }

    // Source: made by Rails 6.1.
    #[test]
    fn the_key_of_turbo_is_derived_from_the_secret() {
        let secret = [b'a'; 128];
        let key = derive_key(&secret, TURBO_SALT, Digest::Sha256);
        assert_eq!(key.len(), 64);
        assert!(key.starts_with(&[0x99, 0x4f, 0x7c, 0x7f, 0x3c, 0x3e, 0x84, 0x4d]));
        assert!(key.ends_with(&[0xb7, 0x21, 0x6e]));
        let signed = "IloybGtPaTh2VkdWemRFRndjQzlRYjNOMEx6RTpjb21tZW50cyI=--3672eedc111f12600dd92f2ffbe154c5fb6b727815e0f7e79a66665795bdc851";
        assert_eq!(
            stream_name(&key, Digest::Sha256, signed, 0).as_deref(),
            Ok("Z2lkOi8vVGVzdEFwcC9Qb3N0LzE:comments")
        );
        // Another implementation of PBKDF2 says so.
        let key = derive_key(&secret, TURBO_SALT, Digest::Sha1);
        assert!(key.starts_with(&[0x54, 0x97, 0x32, 0x45, 0xc3, 0xb9, 0x27, 0xa4]));
        assert!(key.ends_with(&[0x24, 0x82, 0x81]));
    }

    #[test]
    fn texts_that_are_not_right() {
        let (key, digest) = (b"key", Digest::Sha256);
        let signed = sign(key, digest, "\"a\"");
        assert_eq!(verify(key, digest, &signed, 0).as_deref(), Ok("\"a\""));
        let changed = signed.replace("ImEi", "ImIi");
        let cut = &signed[..signed.len() - 1];
        let one_hyphen = signed.replace("--", "-");
        for text in [
            "",
            "--",
            "ä",
            &changed,
            cut,
            &one_hyphen,
            &signed[4..],
            &format!("x{signed}"),
        ] {
            let result = verify(key, digest, text, 0);
            assert_eq!(result, Err(SignedError::Signature), "{text}");
        }
        assert_eq!(
            verify(key, Digest::Sha1, &signed, 0),
            Err(SignedError::Signature)
        );
        for payload in ["", "x", "{\"a\":", "[] []"] {
            let signed = sign(key, digest, payload);
            assert_eq!(
                verify(key, digest, &signed, 0),
                Err(SignedError::Payload),
                "{payload}"
            );
        }
        assert_eq!(
            stream_name(key, digest, &sign(key, digest, "7"), 0),
            Err(SignedError::Payload)
        );
    }

    #[test]
    fn texts_with_an_end_or_a_purpose() {
        let (key, digest) = (b"key", Digest::Sha1);
        let of = |rails: &str| sign(key, digest, &format!("{{\"_rails\":{rails}}}"));
        let message = to_base64(b"\"a\"");
        let end = "2026-11-23T08:00:00.000Z";
        let end_unix = 1_795_420_800;
        for (rails, now_unix, expected) in [
            (format!(r#"{{"message":"{message}"}}"#), 0, Ok("a")),
            (
                format!(r#"{{"message":"{message}","exp":null,"pur":null}}"#),
                0,
                Ok("a"),
            ),
            (r#"{"data":"a"}"#.to_owned(), 0, Ok("a")),
            (
                format!(r#"{{"message":"{message}","exp":"{end}"}}"#),
                end_unix - 1,
                Ok("a"),
            ),
            (
                format!(r#"{{"message":"{message}","exp":"{end}"}}"#),
                end_unix,
                Err(SignedError::Expired),
            ),
            (
                format!(r#"{{"message":"{message}","exp":"tomorrow"}}"#),
                0,
                Err(SignedError::Payload),
            ),
            (
                format!(r#"{{"message":"{message}","pur":"login"}}"#),
                0,
                Err(SignedError::Purpose),
            ),
            ("{}".to_owned(), 0, Err(SignedError::Payload)),
            ("7".to_owned(), 0, Err(SignedError::Payload)),
        ] {
            let name = stream_name(key, digest, &of(&rails), now_unix);
            assert_eq!(name.as_deref(), expected.as_ref().map(|it| *it), "{rails}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:01.999Z", Some(1)),
            ("2000-02-29T12:34:56.000Z", Some(951_827_696)),
            ("2024-12-31T23:59:59Z", Some(1_735_689_599)),
            ("2026-11-23T08:00:00.000Z", Some(1_795_420_800)),
            ("2026-11-23", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("99999-01-01T00:00:00Z", None),
            ("x-y-zT1:2:3Z", None),
        ] {
            assert_eq!(unix_time(text), expected, "{text}");
        }
    }
}
