//! Close frames: which codes may be sent, and the payload in both directions.
//!
//! Source: RFC 6455, sections 5.5.1 and 7.4.

use super::control::{CONTROL_BYTES_MAX, CloseCode};
use super::error::Error;
use super::frame::{Control, encode_control};

/// Longest close reason, in bytes: a control frame without the two bytes of the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Appends a close frame with `code` and `reason`, or with an empty payload for `None`. Returns the
/// code that the peer will see: 1005, "no code", where the frame has none.
///
/// A code that must not be sent, such as 1005 and 1006, goes out as 1000, so that the reason still
/// arrives. A reason above [`CLOSE_REASON_BYTES_MAX`] is cut at a code point: it is for the log of
/// the other end, and its length is no cause to leave the close unsent.
///
/// Source: RFC 6455, sections 5.5.1 and 7.4.
pub fn encode_close(
    mask: Option<[u8; 4]>,
    code: Option<CloseCode>,
    reason: &str,
    out: &mut Vec<u8>,
) -> u16 {
    let Some(code) = code else {
        encode_control(Control::Close, mask, &[], out);
        return CloseCode::Status.into();
    };
    let code: u16 = if may_be_sent(code) {
        code.into()
    } else {
        CloseCode::Normal.into()
    };
    let reason = cut_reason(reason).as_bytes();
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason);
    encode_control(Control::Close, mask, &payload[..2 + reason.len()], out);
    code
}

/// The part of a reason that fits into a close frame, cut at a code point.
pub(crate) fn cut_reason(reason: &str) -> &str {
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Code and reason in the payload of a close frame.
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

// IANA registered 1014 (bad gateway) after tungstenite's list was made.
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
    fn encoded_closes_are_parsed_again() {
        let mut out = Vec::new();
        let code = encode_close(None, Some(CloseCode::Away), "later", &mut out);
        assert_eq!(code, 1001);
        assert_eq!(out[..2], [0x88, 7]);
        assert_eq!(parse_close(&out[2..]), Ok((Some(CloseCode::Away), "later")));

        out.clear();
        let code = encode_close(None, None, "not sent without a code", &mut out);
        assert_eq!(code, 1005);
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn long_reasons_are_cut_at_a_code_point() {
        let mut out = Vec::new();
        encode_close(None, Some(CloseCode::Normal), &"é".repeat(100), &mut out);
        assert_eq!(
            parse_close(&out[2..]),
            Ok((Some(CloseCode::Normal), "é".repeat(61).as_str()))
        );
    }

    #[test]
    fn a_code_that_must_not_be_sent_goes_out_as_1000_with_the_reason() {
        for code in [
            CloseCode::Status,
            CloseCode::Abnormal,
            CloseCode::Tls,
            0.into(),
            5000.into(),
        ] {
            let mut out = Vec::new();
            assert_eq!(encode_close(None, Some(code), "why", &mut out), 1000);
            assert_eq!(out, b"\x88\x05\x03\xe8why", "{code}");
        }
    }
}
