//! Close frames: codes, which of them may be sent, and the payload in both directions.
//!
//! Source: RFC 6455, sections 5.5.1 and 7.4.

use super::error::{EncodeError, Error};
use super::frame::{CONTROL_BYTES_MAX, Control, encode_control};

pub use tungstenite::protocol::frame::coding::CloseCode;

/// Longest close reason, in bytes: what a control frame holds beside the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Appends a close frame, whose payload is empty where there is no code.
///
/// A reason above [`CLOSE_REASON_BYTES_MAX`] is cut at a code point: it is for a log at the other
/// end, and a close that fails for the length of its explanation helps nobody.
///
/// # Errors
///
/// [`EncodeError::BadCloseCode`] for a code that must not be sent. Nothing is written then.
pub fn encode_close(
    mask: Option<[u8; 4]>,
    code: Option<CloseCode>,
    reason: &str,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match code {
        Some(code) if !may_be_sent(code) => {
            return Err(EncodeError::BadCloseCode { code: code.into() });
        }
        Some(code) => encode_close_unchecked(mask, code.into(), reason, out),
        None => encode_control(Control::Close, mask, &[], out),
    }
    Ok(())
}

/// [`encode_close`] for codes of ours, known to be allowed.
pub(super) fn encode_close_unchecked(
    mask: Option<[u8; 4]>,
    code: u16,
    reason: &str,
    out: &mut Vec<u8>,
) {
    let reason = cut_reason(reason).as_bytes();
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason);
    encode_control(Control::Close, mask, &payload[..2 + reason.len()], out);
}

/// As much of a reason as a close frame holds, cut at a code point.
pub(crate) fn cut_reason(reason: &str) -> &str {
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Code and reason of a close payload.
///
/// # Errors
///
/// [`Error::ClosePayloadOfOneByte`], [`Error::BadCloseCode`], or [`Error::InvalidUtf8`] for the
/// reason.
pub(super) fn parse_close(payload: &[u8]) -> Result<(Option<CloseCode>, &str), Error> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(Error::ClosePayloadOfOneByte),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code.into()) {
                return Err(Error::BadCloseCode { code });
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Error::InvalidUtf8)?;
            Ok((Some(code.into()), reason))
        }
    }
}

// IANA has registered 1014 (bad gateway) after tungstenite's list was made.
fn may_be_sent(code: CloseCode) -> bool {
    code.is_allowed() || u16::from(code) == 1014
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_payloads() {
        let bad = |code| Err(Error::BadCloseCode { code });
        let ok = |code: u16, reason| Ok((Some(CloseCode::from(code)), reason));
        type Parsed<'p> = Result<(Option<CloseCode>, &'p str), Error>;
        let cases: &[(&str, &[u8], Parsed<'_>)] = &[
            ("empty", b"", Ok((None, ""))),
            ("one byte", b"\x03", Err(Error::ClosePayloadOfOneByte)),
            ("code alone", b"\x03\xe8", ok(1000, "")),
            ("code and reason", b"\x03\xe9bye", ok(1001, "bye")),
            (
                "reason not UTF-8",
                b"\x03\xe8\xce\xba\xff",
                Err(Error::InvalidUtf8),
            ),
            (
                "reason ends early",
                b"\x03\xe8\xce",
                Err(Error::InvalidUtf8),
            ),
            ("bad code before bad reason", b"\x03\xe7\xff", bad(999)),
        ];
        for (name, payload, expected) in cases {
            assert_eq!(parse_close(payload), *expected, "{name}");
        }
    }

    #[test]
    fn codes_that_may_be_sent() {
        let allowed = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        for code in 0..=u16::MAX {
            assert_eq!(may_be_sent(code.into()), allowed(code), "{code}");
        }
    }

    #[test]
    fn encoded_close_payloads_are_parsed_to_the_same() {
        let mut out = Vec::new();
        encode_close(None, Some(CloseCode::Away), "later", &mut out).unwrap();
        assert_eq!(out[..2], [0x88, 7]);
        assert_eq!(parse_close(&out[2..]), Ok((Some(CloseCode::Away), "later")));

        out.clear();
        encode_close(None, None, "not sent without a code", &mut out).unwrap();
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn long_reasons_are_cut_at_a_code_point() {
        let mut out = Vec::new();
        encode_close(None, Some(CloseCode::Normal), &"é".repeat(100), &mut out).unwrap();
        assert_eq!(
            parse_close(&out[2..]),
            Ok((Some(CloseCode::Normal), "é".repeat(61).as_str()))
        );
    }

    #[test]
    fn forbidden_codes_are_refused_and_write_nothing() {
        let mut out = Vec::new();
        for code in [
            CloseCode::Status,
            CloseCode::Abnormal,
            CloseCode::Tls,
            5000.into(),
        ] {
            let refused = encode_close(None, Some(code), "", &mut out);
            assert_eq!(
                refused,
                Err(EncodeError::BadCloseCode { code: code.into() })
            );
        }
        assert!(out.is_empty());
    }
}
