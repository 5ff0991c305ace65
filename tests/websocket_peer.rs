//! The WebSocket machine against `tungstenite`, an implementation that shares no code with it.

use std::io::{self, Cursor, Read, Write};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tungstenite::protocol::{Role as PeerRole, WebSocketConfig};
use tungstenite::{Message as PeerMessage, WebSocket};
use waterwheel::protocol::websocket::{
    Error, Event, Limits, Machine, Message, Role, encode_close, encode_message, encode_ping,
    encode_pong, random_mask,
};

const LIMITS: Limits = Limits {
    frame_bytes_max: 100_000,
    message_bytes_max: 150_000,
    fragments_max: None,
};

/// Reads from one buffer to its end, writes to another.
struct Memory {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn peer(role: PeerRole, input: Vec<u8>) -> WebSocket<Memory> {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(LIMITS.frame_bytes_max))
        .max_message_size(Some(LIMITS.message_bytes_max));
    let memory = Memory {
        input: Cursor::new(input),
        output: Vec::new(),
    };
    WebSocket::from_raw_socket(memory, role, Some(config))
}

/// The properties of a message that both implementations report.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Seen {
        match event {
            Event::Text(text) => Seen::Text(text.into_owned()),
            Event::Binary(bytes) => Seen::Binary(bytes.into_owned()),
            Event::Ping(payload) => Seen::Ping(payload.to_vec()),
            Event::Pong(payload) => Seen::Pong(payload.to_vec()),
            Event::Close(code, reason) => Seen::Close(code.map(u16::from), reason.to_owned()),
        }
    }
}

impl From<PeerMessage> for Seen {
    fn from(message: PeerMessage) -> Seen {
        match message {
            PeerMessage::Text(text) => Seen::Text(text.to_string()),
            PeerMessage::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            PeerMessage::Ping(payload) => Seen::Ping(payload.to_vec()),
            PeerMessage::Pong(payload) => Seen::Pong(payload.to_vec()),
            PeerMessage::Close(None) => Seen::Close(None, String::new()),
            PeerMessage::Close(Some(close)) => {
                Seen::Close(Some(close.code.into()), close.reason.to_string())
            }
            PeerMessage::Frame(_) => unreachable!("never read"),
        }
    }
}

/// The messages that our machine reads from `wire` in pieces of up to `piece_bytes_max` bytes.
fn read_by_machine(
    role: Role,
    wire: &[u8],
    piece_bytes_max: usize,
    random: &mut StdRng,
) -> (Vec<Seen>, Option<Error>) {
    let mut machine = Machine::new(role);
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, after) =
            rest.split_at(random.random_range(1..=piece_bytes_max.min(rest.len())));
        rest = after;
        kept.extend_from_slice(piece);
        let mut input = kept.as_mut_slice();
        loop {
            match machine.next_event(&mut input, &LIMITS) {
                Ok(Some(event)) => seen.push(event.into()),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        kept = input.to_vec();
    }
    (seen, None)
}

/// The messages that tungstenite reads, and the error that ended it before the end of `wire`.
fn read_by_tungstenite(role: PeerRole, wire: &[u8]) -> (Vec<Seen>, Option<tungstenite::Error>) {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;

    let mut socket = peer(role, wire.to_vec());
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => seen.push(message.into()),
            Err(
                tungstenite::Error::ConnectionClosed
                | tungstenite::Error::Protocol(ResetWithoutClosingHandshake),
            ) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

fn random_text(random: &mut StdRng) -> String {
    let count = match random.random_range(0..40) {
        0 => 0,
        1..=30 => random.random_range(1..60),
        31..=38 => random.random_range(100..600),
        _ => 20_000,
    };
    (0..count)
        .map(|_| ['a', 'é', '€', '😀', ' ', 'κ'][random.random_range(0..6)])
        .collect()
}

/// A stream of messages, some in fragments with control frames between them, and its content.
fn random_stream(is_masked: bool, random: &mut StdRng) -> (Vec<u8>, Vec<Seen>) {
    let (mut wire, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..random.random_range(1..8) {
        let text = random_text(random);
        match random.random_range(0..6) {
            0 => {
                let payload = random_control(random);
                encode_ping(mask_if(is_masked), &payload, &mut wire).unwrap();
                messages.push(Seen::Ping(payload));
            }
            1 => {
                let payload = random_control(random);
                encode_pong(mask_if(is_masked), &payload, &mut wire).unwrap();
                messages.push(Seen::Pong(payload));
            }
            2 => {
                encode_message(mask_if(is_masked), Message::Text(&text), &mut wire);
                messages.push(Seen::Text(text));
            }
            3 => {
                encode_message(
                    mask_if(is_masked),
                    Message::Binary(text.as_bytes()),
                    &mut wire,
                );
                messages.push(Seen::Binary(text.into_bytes()));
            }
            kind => {
                let is_text = kind == 4;
                let mut rest = text.as_bytes();
                let mut opcode = if is_text { 1 } else { 2 };
                for _ in 0..random.random_range(0..4) {
                    let (fragment, after) = rest.split_at(random.random_range(0..=rest.len()));
                    write_fragment(opcode, is_masked, fragment, &mut wire);
                    (rest, opcode) = (after, 0);
                    if random.random_bool(0.3) {
                        let payload = random_control(random);
                        encode_ping(mask_if(is_masked), &payload, &mut wire).unwrap();
                        messages.push(Seen::Ping(payload));
                    }
                }
                write_fragment(0x80 | opcode, is_masked, rest, &mut wire);
                messages.push(if is_text {
                    Seen::Text(text)
                } else {
                    Seen::Binary(text.into_bytes())
                });
            }
        }
    }
    if random.random_bool(0.5) {
        encode_close(mask_if(is_masked), Some(1001.into()), "gone", &mut wire);
        messages.push(Seen::Close(Some(1001), "gone".to_owned()));
    }
    (wire, messages)
}

fn random_control(random: &mut StdRng) -> Vec<u8> {
    vec![7; random.random_range(0..=125)]
}

fn mask_if(is_masked: bool) -> Option<[u8; 4]> {
    is_masked.then(random_mask)
}

// A whole frame with its first byte replaced.
fn write_fragment(first: u8, is_masked: bool, payload: &[u8], wire: &mut Vec<u8>) {
    let start = wire.len();
    encode_message(mask_if(is_masked), Message::Binary(payload), wire);
    wire[start] = first;
}

#[test]
fn both_implementations_read_the_same_messages() {
    for seed in 0..300 {
        let random = &mut StdRng::seed_from_u64(seed);
        for (role, peer_role) in [
            (Role::Server, PeerRole::Server),
            (Role::Client, PeerRole::Client),
        ] {
            let (wire, messages) = random_stream(role == Role::Server, random);
            let piece_bytes_max = [1, 10, 1000, usize::MAX][random.random_range(0..4)];
            let (ours, error) = read_by_machine(role, &wire, piece_bytes_max, random);
            assert_eq!(
                (ours, error),
                (messages.clone(), None),
                "seed {seed}, {role:?}"
            );
            let (theirs, error) = read_by_tungstenite(peer_role, &wire);
            assert!(error.is_none(), "seed {seed}: {error:?}");
            assert_eq!(theirs, messages, "seed {seed}, {role:?}");
        }
    }
}

#[test]
fn frames_written_by_tungstenite_are_read() {
    for seed in 0..50 {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut socket = peer(PeerRole::Client, Vec::new());
        let mut messages = Vec::new();
        for _ in 0..20 {
            let text = random_text(random);
            let message = match random.random_range(0..3) {
                0 => PeerMessage::text(text),
                1 => PeerMessage::binary(text.into_bytes()),
                _ => PeerMessage::Ping(random_control(random).into()),
            };
            messages.push(message.clone().into());
            socket.send(message).unwrap();
        }
        let wire = &socket.get_ref().output;
        assert_eq!(
            read_by_machine(Role::Server, wire, 100, random),
            (messages, None),
            "seed {seed}"
        );
    }
}

/// One byte of a valid stream is changed. Both implementations see the same messages up to the
/// first error, and an error of tungstenite is one of ours too.
#[test]
fn both_implementations_refuse_the_same_damage() {
    for seed in 0..2000 {
        let random = &mut StdRng::seed_from_u64(seed);
        let (mut wire, _) = random_stream(true, random);
        // Most changes are near the front, where the headers are.
        let index = random.random_range(0..wire.len().min(40));
        wire[index] ^= 1 << random.random_range(0..8);
        let (ours, our_error) = read_by_machine(Role::Server, &wire, usize::MAX, random);
        let (theirs, their_error) = read_by_tungstenite(PeerRole::Server, &wire);
        match (our_error, their_error) {
            (None, None) => assert_eq!(ours, theirs, "seed {seed}"),
            // Tungstenite accepts a length in more bytes than it needs.
            (Some(Error::LengthNotMinimal), _) => assert!(theirs.starts_with(&ours), "seed {seed}"),
            (Some(_), Some(_)) => assert_eq!(ours, theirs, "seed {seed}"),
            (None, Some(error)) => panic!("seed {seed}: only tungstenite reports {error}"),
            // Tungstenite does not report a bad close code as an error, and does not look at an
            // incomplete frame.
            (Some(_), None) => assert!(theirs.starts_with(&ours), "seed {seed}"),
        }
    }
}
