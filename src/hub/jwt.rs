//! JSON Web Tokens: reads a signed token and checks it.
//!
//! Pure: the text, the secrets and the time are arguments; no socket, no clock, no log. HMAC is the only
//! kind of signature, because one secret that both sides hold is all that the hub needs, and a choice of
//! kinds is what attacks on such tokens use. The signature is checked before the claims are read, and it
//! is compared in constant time.
//!
//! A token is refused where its text is open to two readings: base64 with padding or with bits that do not
//! count, a name that stands twice in one object, `crit`. The claims `aud`, `iss` and `jti` are not looked at:
//! all rights come from the claim `waterwheel`, which names this hub.
//!
//! Sources: RFC 7515 (JWS), section 5.2; RFC 7518, section 3.2; RFC 7519 (JWT), section 7.2; RFC 8725.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde_core::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Sha256, Sha384, Sha512};

use crate::pubsub;

use crate::protocol::json;

/// The longest token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 4096;

/// The shortest secret, in bytes: the length of the digest of HS256.
///
/// Source: RFC 7518, section 3.2.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// The time by which the clocks of the hub and of the issuer may differ, in seconds.
pub(super) const LEEWAY_SECONDS: u64 = 30;

/// The most patterns of each kind in a token. Each is compared with a topic that the client asks for.
const PATTERNS_MAX: usize = 100;

/// The deepest nesting of `info`. It is sent on inside of other objects.
const INFO_DEPTH_MAX: usize = 32;

/// The most names in one object of a token.
const NAMES_MAX: usize = 64;

/// The largest number of seconds, up to which a number of JSON is exact.
const SECONDS_MAX: f64 = 9_007_199_254_740_991.0;

/// The claims of a valid token.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// `sub`, the user: 1 to 256 bytes without control characters.
    pub(super) user: Option<Box<str>>,
    /// `exp`, in seconds since 1970.
    pub(super) expires_unix: u64,
    /// The patterns of the private topics that the user may subscribe to.
    pub(super) subscribe: Vec<Box<str>>,
    /// The patterns of the topics that the user may publish to.
    pub(super) publish: Vec<Box<str>>,
    /// The rest that others learn about the user: valid JSON, at most 32 deep.
    pub(super) info: Option<Box<str>>,
}

impl Claims {
    /// The first second, since 1970, in which the token is no longer valid.
    pub(super) fn end_unix(&self) -> u64 {
        self.expires_unix + LEEWAY_SECONDS
    }
}

/// Names the user and the end. The rest may be long, and `info` is personal.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("user", &self.user)
            .field("expires_unix", &self.expires_unix)
            .finish_non_exhaustive()
    }
}

/// Why a token is refused. It holds no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// Not three parts in base64url.
    Parts,
    /// The header is no JSON object, or has a parameter that the hub cannot obey.
    Header,
    /// Another algorithm than HS256, HS384 and HS512.
    Algorithm,
    /// The signature is of none of the secrets.
    Signature,
    /// It is signed, and its payload is not one JSON object without repeated names.
    Payload,
    /// It is signed, and this claim is missing or not as it should be.
    Claim(&'static str),
    /// It is signed, and its time is over.
    Expired,
    /// It is signed, and its time has not come.
    NotYetValid,
}

impl TokenError {
    /// Whether the token was made by somebody who has a secret, so that it is no guess.
    pub(super) fn is_signed(self) -> bool {
        match self {
            TokenError::TooLong
            | TokenError::Parts
            | TokenError::Header
            | TokenError::Algorithm
            | TokenError::Signature => false,
            TokenError::Payload
            | TokenError::Claim(_)
            | TokenError::Expired
            | TokenError::NotYetValid => true,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::TooLong => write!(f, "the token has more than {TOKEN_BYTES_MAX} bytes"),
            TokenError::Parts => f.write_str("the token is not three parts in base64url"),
            TokenError::Header => f.write_str("the header of the token is not valid"),
            TokenError::Algorithm => {
                f.write_str("the algorithm of the token is not HS256, HS384 or HS512")
            }
            TokenError::Signature => f.write_str("the signature of the token is wrong"),
            TokenError::Payload => f.write_str("the claims of the token are not one JSON object"),
            TokenError::Claim(name) => write!(f, "the token has no valid claim {name:?}"),
            TokenError::Expired => f.write_str("the token has expired"),
            TokenError::NotYetValid => f.write_str("the token is not valid yet"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

/// Checks a token. It is valid when one of the secrets has signed it, its time has come and is not over, and
/// its claims have the right types. `now_unix` is the time in seconds since 1970.
///
/// # Errors
///
/// The first fault of the token.
pub(super) fn verify(
    token: &str,
    secrets: &[impl AsRef<[u8]>],
    now_unix: u64,
) -> Result<Claims, TokenError> {
    let payload = signed_payload(token, secrets)?;
    let object = Object::parse(&payload).ok_or(TokenError::Payload)?;
    let times = Times::of(&object)?;
    let claims = claims_of(&object, times.expires_unix.ok_or(TokenError::Claim("exp"))?)?;
    times.check(now_unix)?;
    Ok(claims)
}

/// A token of another protocol, whose claims have other names.
#[cfg(any(feature = "cable", feature = "mercure"))]
#[derive(Debug)]
pub(super) struct Foreign {
    /// The claims: one JSON object without repeated names.
    pub(super) payload: String,
    /// The first second, since 1970, in which the token is no longer valid. `None` where it has no end.
    #[allow(dead_code, reason = "a role needs it, and not every build has it")]
    pub(super) end_unix: Option<u64>,
}

/// Checks a token of another protocol: as [`verify`], but the claims are those of that protocol, and `exp` may be missing.
///
/// # Errors
///
/// As [`verify`].
#[cfg(any(feature = "cable", feature = "mercure"))]
pub(super) fn verify_foreign(
    token: &str,
    secrets: &[impl AsRef<[u8]>],
    now_unix: u64,
) -> Result<Foreign, TokenError> {
    let payload = signed_payload(token, secrets)?;
    let object = Object::parse(&payload).ok_or(TokenError::Payload)?;
    let times = Times::of(&object)?;
    times.check(now_unix)?;
    let end_unix = times.expires_unix.map(|expires| expires + LEEWAY_SECONDS);
    Ok(Foreign { payload, end_unix })
}

/// The payload of a token that one of the secrets has signed.
fn signed_payload(token: &str, secrets: &[impl AsRef<[u8]>]) -> Result<String, TokenError> {
    if TOKEN_BYTES_MAX < token.len() {
        return Err(TokenError::TooLong);
    }
    let mut parts = token.split('.');
    let mut next_part = || parts.next().and_then(decode_base64url);
    let (Some(header), Some(payload), Some(signature)) = (next_part(), next_part(), next_part())
    else {
        return Err(TokenError::Parts);
    };
    if parts.next().is_some() {
        return Err(TokenError::Parts);
    }
    let algorithm = algorithm_of(&header)?;
    // The encoded text is what was signed: everything before the last dot.
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    // All secrets are tried, so that the time does not depend on which one it is.
    let is_genuine = secrets.iter().fold(false, |is_genuine, secret| {
        is_genuine | is_signed_with(algorithm, secret.as_ref(), signed.as_bytes(), &signature)
    });
    if !is_genuine {
        return Err(TokenError::Signature);
    }
    String::from_utf8(payload).map_err(|_| TokenError::Payload)
}

/// The algorithm that a header names.
fn algorithm_of(header: &[u8]) -> Result<Algorithm, TokenError> {
    let object = str::from_utf8(header).ok().and_then(Object::parse);
    let object = object.ok_or(TokenError::Header)?;
    // `crit` lists extensions that a reader must know, and the hub knows none. `b64` changes what is
    // signed and is valid only where `crit` lists it. Sources: RFC 7515, section 4.1.11; RFC 7797.
    if object.value("crit").is_some() || object.value("b64").is_some() {
        return Err(TokenError::Header);
    }
    // A token that was signed for another purpose says so here. Source: RFC 8725, section 3.11.
    if let Some(kind) = object.value("typ") {
        let kind = string_of(kind).ok_or(TokenError::Header)?;
        if !["JWT", "at+jwt"]
            .iter()
            .any(|it| kind.eq_ignore_ascii_case(it))
        {
            return Err(TokenError::Header);
        }
    }
    match object.value("alg").and_then(string_of).as_deref() {
        Some("HS256") => Ok(Algorithm::Hs256),
        Some("HS384") => Ok(Algorithm::Hs384),
        Some("HS512") => Ok(Algorithm::Hs512),
        _ => Err(TokenError::Algorithm),
    }
}

/// Whether a secret has signed this text. The comparison takes the same time wherever the signatures differ.
fn is_signed_with(algorithm: Algorithm, secret: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    fn is_mac<M: Mac + KeyInit>(secret: &[u8], signed: &[u8], signature: &[u8]) -> bool {
        // A key of any length is accepted, so there is always a result.
        <M as KeyInit>::new_from_slice(secret)
            .is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok())
    }
    match algorithm {
        Algorithm::Hs256 => is_mac::<Hmac<Sha256>>(secret, signed, signature),
        Algorithm::Hs384 => is_mac::<Hmac<Sha384>>(secret, signed, signature),
        Algorithm::Hs512 => is_mac::<Hmac<Sha512>>(secret, signed, signature),
    }
}

/// When a token is valid, in seconds since 1970.
struct Times {
    expires_unix: Option<u64>,
    begins_unix: u64,
}

impl Times {
    fn of(object: &Object<'_>) -> Result<Times, TokenError> {
        let seconds = |name: &'static str| match object.value(name).map(seconds_of) {
            Some(None) => Err(TokenError::Claim(name)),
            Some(seconds) => Ok(seconds),
            None => Ok(None),
        };
        seconds("iat")?;
        // Fractions of a second make the time of a token shorter, never longer.
        Ok(Times {
            expires_unix: seconds("exp")?.map(|expires| expires.floor() as u64),
            begins_unix: seconds("nbf")?.map_or(0, |begins| begins.ceil() as u64),
        })
    }

    fn check(&self, now_unix: u64) -> Result<(), TokenError> {
        let mut expires_unix = self.expires_unix.iter();
        if expires_unix.any(|expires| expires + LEEWAY_SECONDS <= now_unix) {
            return Err(TokenError::Expired);
        }
        match now_unix + LEEWAY_SECONDS < self.begins_unix {
            true => Err(TokenError::NotYetValid),
            false => Ok(()),
        }
    }
}

/// The claims of a payload whose signature is right.
fn claims_of(object: &Object<'_>, expires_unix: u64) -> Result<Claims, TokenError> {
    let user = match object.value("sub").map(string_of) {
        None => None,
        Some(Some(user)) if pubsub::check_name(&user).is_ok() => Some(user.into()),
        Some(_) => return Err(TokenError::Claim("sub")),
    };
    let mut claims = Claims {
        user,
        expires_unix,
        ..Claims::default()
    };
    if let Some(rights) = object.value("waterwheel") {
        let rights = Object::parse(rights.get()).ok_or(TokenError::Claim("waterwheel"))?;
        claims.subscribe = patterns_of(&rights, "subscribe")?;
        claims.publish = patterns_of(&rights, "publish")?;
        if let Some(info) = rights.value("info") {
            if json::check_depth_max(info.get(), INFO_DEPTH_MAX).is_err() {
                return Err(TokenError::Claim("info"));
            }
            claims.info = Some(info.get().into());
        }
    }
    Ok(claims)
}

/// The patterns of `subscribe` or `publish`, an empty list where the name is missing.
fn patterns_of(rights: &Object<'_>, name: &'static str) -> Result<Vec<Box<str>>, TokenError> {
    let Some(value) = rights.value(name) else {
        return Ok(Vec::new());
    };
    let patterns = serde_json::from_str::<Vec<Box<str>>>(value.get());
    match patterns {
        Ok(patterns)
            if patterns.len() <= PATTERNS_MAX
                && patterns.iter().all(|it| pubsub::check_name(it).is_ok()) =>
        {
            Ok(patterns)
        }
        _ => Err(TokenError::Claim(name)),
    }
}

pub(super) fn string_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A number of seconds since 1970, perhaps with a fraction. Source: RFC 7519, section 2, "NumericDate".
fn seconds_of(value: &RawValue) -> Option<f64> {
    let seconds = serde_json::from_str::<f64>(value.get()).ok()?;
    (0.0..=SECONDS_MAX).contains(&seconds).then_some(seconds)
}

/// An object of JSON, with its values as they stand in the text. No name stands twice in it.
pub(super) struct Object<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Object<'t> {
    /// `None` when the text is something else, or names a value twice, of which another reader could take
    /// the other one.
    pub(super) fn parse(text: &'t str) -> Option<Object<'t>> {
        json::check_depth(text).ok()?;
        serde_json::from_str(text).ok()
    }

    /// The values, in the order of the text.
    #[cfg(feature = "cable")]
    pub(super) fn values(&self) -> impl Iterator<Item = &'t RawValue> {
        self.0.iter().map(|(_, value)| *value)
    }

    pub(super) fn value(&self, name: &str) -> Option<&'t RawValue> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }
}

impl<'t> Deserialize<'t> for Object<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'t> Visitor<'t> for ObjectVisitor {
    type Value = Object<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Object<'t>, A::Error> {
        let mut object = Object(Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if object.value(&name).is_some() || object.0.len() == NAMES_MAX {
                return Err(A::Error::custom(
                    "a name that stands twice, or too many names",
                ));
            }
            let value = map.next_value()?;
            object.0.push((name, value));
        }
        Ok(object)
    }
}

/// Decodes base64url without padding. `None` for any other text, also for one that another text decodes to
/// the same bytes.
///
/// Source: RFC 4648, sections 3.5 and 5; RFC 7515, section 2.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut bit_count) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        bit_count += 6;
        if 8 <= bit_count {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    // Six bits that are left are a letter too many; bits that do not count must be zero.
    (bit_count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../tests/hub/tokens/good.txt");
    const BAD: &str = include_str!("../../tests/hub/tokens/bad.txt");
    const SECRETS: [&str; 2] = [
        "the first secret of the tests, 40 bytes.",
        "the second secret of the tests, which is accepted too",
    ];
    const NOW: u64 = 1_000_000_000;

    fn lines(file: &str) -> impl Iterator<Item = (&str, &str)> {
        file.lines()
            .map(|line| line.split_once('\t').expect("a tab"))
    }

    #[test]
    fn good_tokens() {
        let mut count = 0;
        for (name, token) in lines(GOOD) {
            let claims = verify(token, &SECRETS, NOW);
            let claims = claims.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(claims.user.as_deref(), Some("ann"), "{name}");
            assert!(claims.subscribe.iter().all(|it| &**it == "*"), "{name}");
            assert_eq!(claims.publish, ["*".into()], "{name}");
            let begins = name == "within the leeway before nbf";
            let before = verify(token, &SECRETS, if begins { NOW - 1 } else { NOW });
            assert_eq!(before.is_err(), begins, "{name}");
            let (last, end) = (claims.end_unix() - 1, claims.end_unix());
            assert!(verify(token, &SECRETS, last).is_ok(), "{name}");
            let expired = Err(TokenError::Expired);
            assert_eq!(verify(token, &SECRETS, end), expired, "{name}");
            count += 1;
        }
        assert_eq!(count, 18);
    }

    #[test]
    fn bad_tokens() {
        let mut count = 0;
        for (name, rest) in lines(BAD) {
            let (expected, token) = rest.split_once('\t').expect("a tab");
            let outcome = verify(token, &SECRETS, NOW);
            let Err(error) = outcome else {
                panic!("{name}: {outcome:?}")
            };
            assert_eq!(format!("{error:?}"), expected, "{name}");
            // The token stays out of logs.
            let shown = error.to_string();
            assert!(token.len() < 8 || !shown.contains(token), "{name}");
            count += 1;
        }
        assert_eq!(count, 133);
    }

    // Every cut of a good token, every letter left out, and every letter replaced by another.
    #[test]
    fn damaged_tokens() {
        for (name, token) in lines(GOOD) {
            for index in 0..token.len() {
                let (start, end) = (&token[..index], &token[index..]);
                let other = if end.starts_with('A') { "B" } else { "A" };
                let replaced = format!("{start}{other}{}", &end[1..]);
                let shorter = format!("{start}{}", &end[1..]);
                for damaged in [start, &shorter, &replaced] {
                    let outcome = verify(damaged, &SECRETS, NOW);
                    // Of two equal letters side by side one may be left out, and the other stays.
                    assert!(outcome.is_err(), "{name}: {damaged}");
                }
            }
        }
    }

    // Source: RFC 7515, appendix A.1.
    #[test]
    fn the_example_of_the_standard() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = decode_base64url(key).expect("base64url");
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                     .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let claims = verify(token, &[&key], 1_300_819_379).expect("a valid token");
        assert_eq!(claims.expires_unix, 1_300_819_380);
        assert_eq!((claims.user, claims.info), (None, None));
        // Without the claim of this hub it grants nothing.
        assert!(claims.subscribe.is_empty() && claims.publish.is_empty());
        assert_eq!(
            verify(token, &[&key], 1_300_819_410),
            Err(TokenError::Expired)
        );
        let none: [&[u8]; 0] = [];
        assert_eq!(
            verify(token, &none, 1_300_819_379),
            Err(TokenError::Signature)
        );
    }

    #[cfg(any(feature = "cable", feature = "mercure"))]
    #[test]
    fn tokens_of_other_protocols() {
        // {"alg":"HS256"}, and {"mercure":{"publish":["*"]}} without an end.
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0.";
        let key = b"a secret of another protocol, 40 bytes..";
        let signed = token.trim_end_matches('.');
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
        let signature = mac.chain_update(signed).finalize().into_bytes();
        let token = format!("{token}{}", encode_base64url(&signature));
        let foreign = verify_foreign(&token, &[key], 1_000_000_000).unwrap();
        assert_eq!(foreign.payload, r#"{"mercure":{"publish":["*"]}}"#);
        assert_eq!(foreign.end_unix, None);
        let refused = verify_foreign(&token, &[b"another"], 1_000_000_000);
        assert_eq!(refused.unwrap_err(), TokenError::Signature);
        // The hub's own tokens have an end.
        let refused = verify(&token, &[key], 1_000_000_000);
        assert_eq!(refused, Err(TokenError::Claim("exp")));
    }

    #[cfg(any(feature = "cable", feature = "mercure"))]
    fn encode_base64url(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let mut bits = [0; 4];
            bits[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(bits);
            for index in 0..=group.len() {
                text.push(char::from(
                    LETTERS[(bits >> (18 - 6 * index) & 63) as usize],
                ));
            }
        }
        text
    }

    #[test]
    fn base64url() {
        // RFC 4648, section 10, without the padding.
        let cases: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("Zg", Some(b"f")),
            ("Zm8", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg", Some(b"foob")),
            ("Zm9vYmE", Some(b"fooba")),
            ("Zm9vYmFy", Some(b"foobar")),
            ("-_-_", Some(&[0xfb, 0xff, 0xbf])),
            ("Zh", None),
            ("Zm9", None),
            ("Z", None),
            ("Zm9vY", None),
            ("Zg==", None),
            ("Zm8=", None),
            ("+/+/", None),
            ("Zm9v\n", None),
            (" Zm9v", None),
            ("Zm\u{f6}v", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decode_base64url(text).as_deref(), *expected, "{text:?}");
        }
    }
}
