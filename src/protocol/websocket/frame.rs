//! Frames: the header in both directions, and the mask.
//!
//! The header is parsed and written by hand, because every message has one; `tungstenite`'s
//! `FrameHeader` is the oracle of the tests. Its opcodes are used as they are.
//!
//! [`random_mask`] is the only function here whose result does not follow from its arguments: it
//! draws from the thread's cryptographic generator. The functions that encode a frame get their
//! mask from the caller.
//!
//! Source: RFC 6455, sections 5.2 and 5.3.

use std::cell::RefCell;

use rand::Rng;

use super::control::CONTROL_BYTES_MAX;
use super::error::{EncodeError, Error};
use super::message::Message;
use super::role::Role;

pub use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Length of a header without a mask, for a payload of at most [`SHORT_BYTES_MAX`], in bytes.
pub(super) const SHORT_HEADER_BYTES: usize = 2;

/// Length of a header with a mask, for a payload of at most [`SHORT_BYTES_MAX`], in bytes.
pub(super) const SHORT_MASKED_HEADER_BYTES: usize = 6;

/// Longest payload whose length fits into the second byte of the header, in bytes.
pub(super) const SHORT_BYTES_MAX: usize = 125;

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// In the first byte: the frame is the last of its message.
const FINAL: u8 = 0x80;
/// In the first byte: the opcode.
const OPCODE: u8 = 0x0f;
/// In the first byte: RSV1, RSV2 and RSV3, which belong to extensions.
const RESERVED: u8 = 0x70;
/// In the first byte: RSV1, the message is compressed. Source: RFC 7692, section 6.
pub(super) const COMPRESSED: u8 = 0x40;
/// In the second byte: a mask follows the length.
const MASKED: u8 = 0x80;

/// First byte of an unfragmented text message.
pub(super) const WHOLE_TEXT: u8 = FINAL | 1;
/// First byte of an unfragmented binary message.
pub(super) const WHOLE_BINARY: u8 = FINAL | 2;

/// The reserved bits that a frame may have set, because a negotiated extension gives them a meaning.
///
/// The machine's `allowed_reserved_bits` returns them; the fast path is not concerned, since it takes
/// only frames that have none of these bits set.
///
/// Source: RFC 6455, sections 5.2 and 9.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReservedBits(u8);

impl ReservedBits {
    /// Every reserved bit is an error.
    pub(super) const NONE: ReservedBits = ReservedBits(0);

    /// RSV1 on the first frame of a message. Source: RFC 7692, section 6.
    #[cfg(feature = "deflate")]
    pub(super) const DEFLATE: ReservedBits = ReservedBits(COMPRESSED);

    /// Checks the first byte of a frame.
    fn check(self, first: u8) -> Result<(), Error> {
        let reserved = first & RESERVED;
        let begins_message = matches!(first & OPCODE, 1 | 2);
        if reserved == 0 || (reserved & !self.0 == 0 && begins_message) {
            Ok(())
        } else {
            Err(Error::ReservedBits)
        }
    }
}

/// The header of a frame, in front of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    /// Only where it is [allowed](ReservedBits).
    pub(super) is_compressed: bool,
    pub(super) opcode: OpCode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) header_bytes: usize,
    pub(super) payload_bytes: u64,
}

impl Header {
    /// The header at the front of `input`, or `None` when more bytes are needed. Consumes nothing.
    ///
    /// A header whose first bytes are wrong already is refused before the rest has come.
    ///
    /// # Errors
    ///
    /// Every error that a header alone can show, in a frame that is sent to `role`.
    pub(super) fn parse(
        input: &[u8],
        role: Role,
        allowed: ReservedBits,
    ) -> Result<Option<Header>, Error> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        allowed.check(first)?;
        let is_final = first & FINAL != 0;
        let opcode = OpCode::from(first & OPCODE);
        match opcode {
            OpCode::Data(Data::Reserved(opcode)) | OpCode::Control(Control::Reserved(opcode)) => {
                return Err(Error::ReservedOpcode { opcode });
            }
            OpCode::Control(_) if !is_final => return Err(Error::FragmentedControl),
            OpCode::Control(_) | OpCode::Data(_) => {}
        }

        let Some(&second) = input.get(1) else {
            return Ok(None);
        };
        match (role, second & MASKED != 0) {
            (Role::Server, false) => return Err(Error::Unmasked),
            (Role::Client, true) => return Err(Error::Masked),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        let short = second & !MASKED;
        if matches!(opcode, OpCode::Control(_)) && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Error::ControlTooLong);
        }

        let rest = &input[2..];
        let length = match short {
            126 => rest
                .first_chunk()
                .map(|bytes| (4, u64::from(u16::from_be_bytes(*bytes)))),
            127 => rest
                .first_chunk()
                .map(|bytes| (10, u64::from_be_bytes(*bytes))),
            short => Some((2, u64::from(short))),
        };
        if short == 127 && rest.first().is_some_and(|high| high & 0x80 != 0) {
            return Err(Error::LengthTopBit);
        }
        let is_longer_than_needed = match short {
            126 => matches!(rest, [0, 0..=125, ..]),
            127 => rest.starts_with(&[0; 6]),
            _ => false,
        };
        if is_longer_than_needed {
            return Err(Error::LengthNotMinimal);
        }
        let Some((mask_index, payload_bytes)) = length else {
            return Ok(None);
        };

        let (mask, header_bytes) = match role {
            Role::Client => (None, mask_index),
            Role::Server => match input[mask_index..].first_chunk() {
                Some(mask) => (Some(*mask), mask_index + 4),
                None => return Ok(None),
            },
        };
        Ok(Some(Header {
            is_final,
            is_compressed: first & COMPRESSED != 0,
            opcode,
            mask,
            header_bytes,
            payload_bytes,
        }))
    }
}

/// Masks or unmasks a payload in place. The loop over words of eight bytes is one that the compiler
/// turns into vector instructions.
///
/// Source: RFC 6455, section 5.3.
#[inline]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let half = u32::from_ne_bytes(mask);
    let word = (u64::from(half) << 32) | u64::from(half);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    let rest = match rest.split_first_chunk_mut::<4>() {
        Some((bytes, rest)) => {
            *bytes = (u32::from_ne_bytes(*bytes) ^ half).to_ne_bytes();
            rest
        }
        None => rest,
    };
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// How many masks are drawn at once. A call of the generator costs more than masking a short
/// message, so it is made once for so many frames.
const MASKS: usize = 64;

/// The masks of this thread that were drawn and are not used yet.
struct Masks {
    masks: [[u8; 4]; MASKS],
    next: usize,
}

thread_local! {
    static DRAWN: RefCell<Masks> = const {
        RefCell::new(Masks {
            masks: [[0; 4]; MASKS],
            next: MASKS,
        })
    };
}

impl Masks {
    #[inline]
    fn take(&mut self) -> [u8; 4] {
        if self.next == MASKS {
            rand::rng().fill_bytes(self.masks.as_flattened_mut());
            self.next = 0;
        }
        self.next += 1;
        self.masks[self.next - 1]
    }
}

/// A mask for one frame of a client, from the thread's cryptographic generator.
///
/// Source: RFC 6455, section 10.3, which requires that the mask cannot be predicted.
#[inline]
pub fn random_mask() -> [u8; 4] {
    DRAWN.with_borrow_mut(Masks::take)
}

/// Appends a message as one frame, masked where there is a mask, which a client must give.
#[inline(always)]
pub fn encode_message(mask: Option<[u8; 4]>, message: Message<'_>, out: &mut Vec<u8>) {
    let (first, payload) = message_frame(message);
    // A short message has a header of fixed length, which is written here with one reservation;
    // the general encoder is a function call away.
    if SHORT_BYTES_MAX < payload.len() {
        return encode_frame(first, mask, payload, out);
    }
    let second = payload.len() as u8;
    out.reserve(HEADER_BYTES_MAX + SHORT_BYTES_MAX);
    match mask {
        None => {
            out.extend_from_slice(&[first, second]);
            out.extend_from_slice(payload);
        }
        Some(mask) => {
            let [a, b, c, d] = mask;
            out.extend_from_slice(&[first, MASKED | second, a, b, c, d]);
            let start = out.len();
            out.extend_from_slice(payload);
            apply_mask(&mut out[start..], mask);
        }
    }
}

/// Appends a compressed message as one frame: the payload as it goes out, of a text or of binary data.
#[cfg(feature = "deflate")]
pub(crate) fn encode_compressed(
    mask: Option<[u8; 4]>,
    is_text: bool,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let first = if is_text { WHOLE_TEXT } else { WHOLE_BINARY };
    encode_frame(COMPRESSED | first, mask, payload, out);
}

/// Appends a message as one frame: a text whose UTF-8 was checked, or binary data.
#[cfg(feature = "deflate")]
pub(super) fn encode_uncompressed(
    mask: Option<[u8; 4]>,
    is_text: bool,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let first = if is_text { WHOLE_TEXT } else { WHOLE_BINARY };
    encode_frame(first, mask, payload, out);
}

/// Appends the unmasked header of a message, for a server that writes the payload from its own
/// buffer, without a copy.
pub fn encode_message_header(message: Message<'_>, out: &mut Vec<u8>) {
    let (first, payload) = message_frame(message);
    encode_header_from(first, payload.len(), None, out);
}

// The first byte of a message in one frame, and its payload.
#[inline]
fn message_frame(message: Message<'_>) -> (u8, &[u8]) {
    match message {
        Message::Text(text) => (WHOLE_TEXT, text.as_bytes()),
        Message::Binary(bytes) => (WHOLE_BINARY, bytes),
    }
}

/// Appends a ping.
///
/// # Errors
///
/// [`EncodeError::ControlTooLong`] above [`CONTROL_BYTES_MAX`]. The output is unchanged then.
pub fn encode_ping(
    mask: Option<[u8; 4]>,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode_checked_control(Control::Ping, mask, payload, out)
}

/// Appends a pong. One that answers a ping has the payload of that ping.
///
/// # Errors
///
/// [`EncodeError::ControlTooLong`] above [`CONTROL_BYTES_MAX`]. The output is unchanged then.
pub fn encode_pong(
    mask: Option<[u8; 4]>,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode_checked_control(Control::Pong, mask, payload, out)
}

fn encode_checked_control(
    control: Control,
    mask: Option<[u8; 4]>,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if payload.len() > CONTROL_BYTES_MAX {
        return Err(EncodeError::ControlTooLong {
            bytes: payload.len(),
        });
    }
    encode_control(control, mask, payload, out);
    Ok(())
}

/// Appends the header of an unfragmented frame, for callers that write the payload themselves and
/// mask it where there is a mask.
#[inline]
pub fn encode_header(
    opcode: OpCode,
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    encode_header_from(FINAL | u8::from(opcode), payload_bytes, mask, out);
}

fn encode_header_from(first: u8, payload_bytes: usize, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mask_bit = if mask.is_some() { MASKED } else { 0 };
    if payload_bytes <= SHORT_BYTES_MAX {
        out.extend_from_slice(&[first, mask_bit | payload_bytes as u8]);
    } else if let Ok(bytes) = u16::try_from(payload_bytes) {
        let [high, low] = bytes.to_be_bytes();
        out.extend_from_slice(&[first, mask_bit | 126, high, low]);
    } else {
        let [a, b, c, d, e, f, g, h] = (payload_bytes as u64).to_be_bytes();
        out.extend_from_slice(&[first, mask_bit | 127, a, b, c, d, e, f, g, h]);
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// Appends a frame with any first byte, its payload masked where there is a mask.
pub(super) fn encode_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header_from(first, payload.len(), mask, out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Appends a control frame whose payload is known to fit.
pub(super) fn encode_control(
    control: Control,
    mask: Option<[u8; 4]>,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    debug_assert!(
        payload.len() <= CONTROL_BYTES_MAX,
        "control frame of {} bytes",
        payload.len()
    );
    encode_frame(
        FINAL | u8::from(OpCode::Control(control)),
        mask,
        payload,
        out,
    );
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn masks_do_not_repeat() {
        let masks: Vec<_> = (0..3 * MASKS).map(|_| random_mask()).collect();
        // A pair may be equal by chance, but hardly two pairs.
        let drawn: std::collections::HashSet<_> = masks.iter().collect();
        assert!(masks.len() - 2 <= drawn.len(), "{masks:?}");
    }

    #[test]
    fn headers() {
        let header = |is_final, opcode, mask, header_bytes, payload_bytes| {
            Ok(Some(Header {
                is_final,
                is_compressed: false,
                opcode,
                mask,
                header_bytes,
                payload_bytes,
            }))
        };
        let text = OpCode::Data(Data::Text);
        let ping = OpCode::Control(Control::Ping);
        type Expected = Result<Option<Header>, Error>;
        let cases: &[(&str, Role, &[u8], Expected)] = &[
            ("nothing", Role::Server, b"", Ok(None)),
            ("one byte", Role::Server, b"\x81", Ok(None)),
            (
                "mask incomplete",
                Role::Server,
                b"\x81\x85\x37\xfa\x21",
                Ok(None),
            ),
            (
                "masked",
                Role::Server,
                b"\x81\x85\x37\xfa\x21\x3d",
                header(true, text, Some(MASK), 6, 5),
            ),
            (
                "unmasked",
                Role::Client,
                b"\x01\x05",
                header(false, text, None, 2, 5),
            ),
            (
                "16 bits incomplete",
                Role::Client,
                b"\x81\x7e\x00",
                Ok(None),
            ),
            (
                "16 bits",
                Role::Client,
                b"\x81\x7e\x01\x00",
                header(true, text, None, 4, 256),
            ),
            (
                "16 bits, the least",
                Role::Client,
                b"\x81\x7e\0\x7e",
                header(true, text, None, 4, 126),
            ),
            (
                "16 bits for 125",
                Role::Client,
                b"\x81\x7e\0\x7d",
                Err(Error::LengthNotMinimal),
            ),
            (
                "16 bits for nothing, the mask not there yet",
                Role::Server,
                b"\x81\xfe\0\0",
                Err(Error::LengthNotMinimal),
            ),
            (
                "64 bits, the least",
                Role::Client,
                b"\x81\x7f\0\0\0\0\0\x01\0\0",
                header(true, text, None, 10, 65536),
            ),
            (
                "64 bits for 65535",
                Role::Client,
                b"\x81\x7f\0\0\0\0\0\0\xff\xff",
                Err(Error::LengthNotMinimal),
            ),
            (
                "64 bits for a length of 16 bits, six zero bytes there",
                Role::Client,
                b"\x81\x7f\0\0\0\0\0\0",
                Err(Error::LengthNotMinimal),
            ),
            (
                "64 bits incomplete",
                Role::Client,
                b"\x81\x7f\0\0\0\0\0\x01\0",
                Ok(None),
            ),
            (
                "63 bits",
                Role::Client,
                b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
                header(true, text, None, 10, u64::MAX >> 1),
            ),
            (
                "top bit, first byte of it",
                Role::Client,
                b"\x81\x7f\x80",
                Err(Error::LengthTopBit),
            ),
            (
                "top bit",
                Role::Client,
                b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
                Err(Error::LengthTopBit),
            ),
            ("RSV1", Role::Server, b"\xc1", Err(Error::ReservedBits)),
            ("RSV2", Role::Server, b"\xa1", Err(Error::ReservedBits)),
            ("RSV3", Role::Server, b"\x91", Err(Error::ReservedBits)),
            (
                "opcode 3",
                Role::Server,
                b"\x83",
                Err(Error::ReservedOpcode { opcode: 3 }),
            ),
            (
                "opcode 7",
                Role::Server,
                b"\x87",
                Err(Error::ReservedOpcode { opcode: 7 }),
            ),
            (
                "opcode 11",
                Role::Server,
                b"\x8b",
                Err(Error::ReservedOpcode { opcode: 11 }),
            ),
            (
                "opcode 15",
                Role::Server,
                b"\x8f",
                Err(Error::ReservedOpcode { opcode: 15 }),
            ),
            (
                "fragmented ping",
                Role::Server,
                b"\x09",
                Err(Error::FragmentedControl),
            ),
            (
                "ping of 125",
                Role::Client,
                b"\x89\x7d",
                header(true, ping, None, 2, 125),
            ),
            (
                "ping of 126",
                Role::Client,
                b"\x89\x7e",
                Err(Error::ControlTooLong),
            ),
            (
                "ping of 64 bits",
                Role::Client,
                b"\x89\x7f",
                Err(Error::ControlTooLong),
            ),
            (
                "client forgot the mask",
                Role::Server,
                b"\x81\x05",
                Err(Error::Unmasked),
            ),
            (
                "server masked",
                Role::Client,
                b"\x81\x85",
                Err(Error::Masked),
            ),
        ];
        for (name, role, wire, expected) in cases {
            let parsed = Header::parse(wire, *role, ReservedBits::NONE);
            assert_eq!(parsed, *expected, "{name}");
        }
    }

    #[test]
    fn a_reserved_bit_passes_only_where_an_extension_allows_it() {
        let rsv1 = ReservedBits(0x40);
        for first in 0..=255_u8 {
            let reserved = first & 0x70;
            assert_eq!(ReservedBits::NONE.check(first).is_ok(), reserved == 0);
            // Not on a continuation or a control frame.
            let may_have = matches!(first & 0x0f, 1 | 2) && reserved & !0x40 == 0;
            assert_eq!(rsv1.check(first).is_ok(), reserved == 0 || may_have);
        }
        let compressed = Header::parse(b"\xc1\x02", Role::Client, rsv1);
        let plain = Header::parse(b"\x81\x02", Role::Client, rsv1);
        let (compressed, plain) = (compressed.unwrap().unwrap(), plain.unwrap().unwrap());
        assert_eq!(
            (compressed.is_compressed, plain.is_compressed),
            (true, false)
        );
        assert_eq!(compressed.opcode, plain.opcode);
    }

    // Every pair of first bytes, followed by enough bytes for the header or by too few.
    #[test]
    fn headers_agree_with_tungstenite() {
        let rest = [
            0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
        ];
        for first in 0..=255 {
            for second in 0..=255 {
                for count in 0..=rest.len() {
                    let wire = [&[first, second], &rest[..count]].concat();
                    let role = if second & 0x80 != 0 {
                        Role::Server
                    } else {
                        Role::Client
                    };
                    agree(&wire, Header::parse(&wire, role, ReservedBits::NONE));
                }
            }
        }
    }

    fn agree(wire: &[u8], ours: Result<Option<Header>, Error>) {
        let mut cursor = Cursor::new(wire);
        let theirs = FrameHeader::parse(&mut cursor);
        match (ours, theirs) {
            (Ok(Some(ours)), Ok(Some((theirs, payload_bytes)))) => {
                assert_eq!(ours.is_final, theirs.is_final);
                assert_eq!(ours.opcode, theirs.opcode);
                assert_eq!(ours.mask, theirs.mask);
                assert_eq!(ours.header_bytes as u64, cursor.position());
                assert_eq!(ours.payload_bytes, payload_bytes);
                assert!(!theirs.rsv1 && !theirs.rsv2 && !theirs.rsv3);
            }
            (Ok(None), Ok(None)) => {}
            // Tungstenite finds these errors later than in its header parser.
            (Err(Error::ReservedBits | Error::FragmentedControl | Error::ControlTooLong), _) => {}
            // Tungstenite accepts a length in a longer form.
            (Err(Error::LengthNotMinimal), Ok(_)) => {}
            // Our parser knows this from the first byte, before the header is complete.
            (Err(Error::ReservedOpcode { .. }), Err(_) | Ok(None)) => {}
            (ours, theirs) => panic!("{wire:x?}: {ours:?} here, {theirs:?} there"),
        }
    }

    #[test]
    fn written_headers_agree_with_tungstenite() {
        let opcodes = [
            OpCode::Data(Data::Text),
            OpCode::Data(Data::Binary),
            OpCode::Control(Control::Ping),
        ];
        for opcode in opcodes {
            for mask in [None, Some(MASK)] {
                for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
                    let header = FrameHeader {
                        opcode,
                        mask,
                        ..FrameHeader::default()
                    };
                    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                    encode_header(opcode, length, mask, &mut ours);
                    header.format(length as u64, &mut theirs).unwrap();
                    assert_eq!(ours, theirs, "{opcode} {length}");
                }
            }
        }
    }

    #[test]
    fn masking_agrees_with_a_naive_loop_at_all_alignments() {
        let original: Vec<u8> = (0..200_u8).collect();
        for start in 0..16 {
            for end in start..=original.len() {
                let mut masked = original.clone();
                apply_mask(&mut masked[start..end], MASK);
                for (index, byte) in masked.iter().enumerate() {
                    let key = if (start..end).contains(&index) {
                        MASK[(index - start) % 4]
                    } else {
                        0
                    };
                    assert_eq!(*byte, original[index] ^ key, "{start}..{end} at {index}");
                }
            }
        }
    }

    #[test]
    fn messages_are_written() {
        let long = "x".repeat(126);
        type Case<'c> = (&'c str, Option<[u8; 4]>, Message<'c>, &'c [u8]);
        let cases: &[Case<'_>] = &[
            ("empty", None, Message::Text(""), b"\x81\x00"),
            ("text", None, Message::Text("Hello"), b"\x81\x05Hello"),
            (
                "binary",
                None,
                Message::Binary(b"\x00\xff"),
                b"\x82\x02\x00\xff",
            ),
            // RFC 6455, section 5.7.
            (
                "masked",
                Some(MASK),
                Message::Text("Hello"),
                b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            ),
            (
                "16 bits",
                None,
                Message::Text(&long),
                &[b"\x81\x7e\x00\x7e", long.as_bytes()].concat(),
            ),
        ];
        for (name, mask, message, expected) in cases {
            let mut out = b"before".to_vec();
            encode_message(*mask, *message, &mut out);
            assert_eq!(out[6..], **expected, "{name}");
            if mask.is_none() {
                let mut out = Vec::new();
                encode_message_header(*message, &mut out);
                assert_eq!(
                    [&out, message.as_bytes()].concat(),
                    *expected,
                    "{name}, header"
                );
            }
        }
    }

    #[test]
    fn control_frames_have_a_length() {
        let mut out = Vec::new();
        encode_ping(None, b"hi", &mut out).unwrap();
        encode_pong(Some([0; 4]), b"hi", &mut out).unwrap();
        assert_eq!(out, b"\x89\x02hi\x8a\x82\0\0\0\0hi");

        let refused = encode_ping(None, &[0; 126], &mut out);
        assert_eq!(refused, Err(EncodeError::ControlTooLong { bytes: 126 }));
        assert_eq!(out.len(), 12);
    }
}
