//! Compressed messages through a whole reactor, both roles, over memory.

#![cfg(feature = "deflate")]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use waterwheel::protocol::websocket::{
    Data, Deflate, Driver, Event, Limits, OpCode, apply_mask, encode_header, encode_ping,
};
use waterwheel::{Config, Faults, Message, Reactor, Sim, SimStream};

const MIB: usize = 1024 * 1024;

const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A text that compresses well, of this many bytes.
fn text(bytes: usize) -> String {
    let lines =
        (0..).flat_map(|line: u32| format!("{{\"line\":{line},\"on\":true}}\n").into_bytes());
    String::from_utf8(lines.take(bytes).collect()).unwrap()
}

fn echo(deflate: Deflate) -> Sim<()> {
    Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", move |ws| {
            ws.options().deflate = deflate;
            ws.on_message(|ws, message: Message<'_>| ws.send(message));
        })
    })
}

/// A stream to the echo that has asked for an upgrade with this offer; with the answer.
fn open(sim: &mut Sim<()>, offer: &str) -> (waterwheel::SimStream, String) {
    let stream = sim.connect();
    stream.write(format!(
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: {offer}\r\n\r\n"
    ));
    sim.settle();
    let answer = stream.read_text();
    (stream, answer)
}

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn a_route_agrees_to_compression_only_where_it_has_it() {
    let cases = [
        (Deflate::None, None),
        (
            Deflate::Shared,
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"),
        ),
        (Deflate::Dedicated, Some("permessage-deflate\r\n")),
    ];
    for (deflate, expected) in cases {
        let (_, answer) = open(&mut echo(deflate), OFFER);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let answered = answer.split_once("Sec-WebSocket-Extensions: ");
        let value = answered.map(|(_, value)| value.split_inclusive("\r\n").next().unwrap());
        assert_eq!(value, expected, "{deflate:?}");
    }
}

#[test]
fn reserved_bits_belong_to_the_first_frame_of_a_data_message() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let whole = frame(0xc1, hello);
    let cases: &[(&str, Deflate, Vec<u8>, &[u8])] = &[
        ("agreed", Deflate::Shared, whole.clone(), b"\x81\x05Hello"),
        (
            "agreed, dedicated",
            Deflate::Dedicated,
            whole.clone(),
            b"\x81\x05Hello",
        ),
        (
            "not agreed",
            Deflate::None,
            whole.clone(),
            b"\x88\x02\x03\xea",
        ),
        (
            "uncompressed",
            Deflate::Shared,
            frame(0x81, b"Hello"),
            b"\x81\x05Hello",
        ),
        (
            "fragments, and a ping between",
            Deflate::Shared,
            [
                frame(0x41, &hello[..3]),
                frame(0x89, b"?"),
                frame(0x80, &hello[3..]),
            ]
            .concat(),
            b"\x8a\x01?\x81\x05Hello",
        ),
        (
            "empty fragments",
            Deflate::Shared,
            [frame(0x42, b""), frame(0x00, hello), frame(0x80, b"")].concat(),
            b"\x82\x05Hello",
        ),
        (
            "on a continuation",
            Deflate::Shared,
            [frame(0x41, &hello[..3]), frame(0xc0, &hello[3..])].concat(),
            b"\x88\x02\x03\xea",
        ),
        (
            "on a ping",
            Deflate::Shared,
            frame(0xc9, b""),
            b"\x88\x02\x03\xea",
        ),
        (
            "on a close",
            Deflate::Shared,
            frame(0xc8, b""),
            b"\x88\x02\x03\xea",
        ),
        (
            "RSV2",
            Deflate::Shared,
            frame(0xa1, b""),
            b"\x88\x02\x03\xea",
        ),
        (
            "RSV1 and RSV3",
            Deflate::Shared,
            frame(0xd1, hello),
            b"\x88\x02\x03\xea",
        ),
        (
            "not DEFLATE",
            Deflate::Shared,
            frame(0xc1, b"\x06\x00"),
            b"\x88\x02\x03\xef",
        ),
        (
            "not UTF-8",
            Deflate::Shared,
            frame(0xc1, b"\x00\x01\x00\xfe\xff\xff\x00"),
            b"\x88\x02\x03\xef",
        ),
        (
            "any bytes",
            Deflate::Shared,
            frame(0xc2, b"\x00\x01\x00\xfe\xff\xff\x00"),
            b"\x82\x01\xff",
        ),
    ];
    for (name, deflate, wire, expected) in cases {
        let mut sim = echo(*deflate);
        let (stream, _) = open(&mut sim, OFFER);
        stream.write(wire);
        sim.settle();
        assert_eq!(stream.read(), *expected, "{name}");
    }
}

#[test]
fn the_roles_understand_each_other() {
    for server in [Deflate::None, Deflate::Shared, Deflate::Dedicated] {
        for client in [Deflate::None, Deflate::Shared, Deflate::Dedicated] {
            let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<usize>>| {
                reactor.websocket("0.0.0.0:80", move |ws| {
                    ws.options().deflate = server;
                    ws.on_message(|ws, message: Message<'_>| ws.send(message));
                })?;
                reactor.connect_websocket("ws://127.0.0.1:80/", move |ws| {
                    ws.options().deflate = client;
                    ws.on_open(|ws, handshake| {
                        let answer = handshake.header("sec-websocket-extensions").is_some();
                        ws.state.push(usize::from(answer));
                        for bytes in [0, 1, 1023, 1024, 40_000, 40_000, 300_000] {
                            ws.send(text(bytes));
                        }
                    });
                    ws.on_message(|ws, message: Message<'_>| {
                        let length = message.as_bytes().len();
                        assert_eq!(message.as_text(), Some(&*text(length)));
                        ws.state.push(length);
                    });
                })
            });
            sim.settle();
            let agreed = server != Deflate::None && client != Deflate::None;
            let expected = [
                usize::from(agreed),
                0,
                1,
                1023,
                1024,
                40_000,
                40_000,
                300_000,
            ];
            assert_eq!(sim.state(), &expected, "{server:?} {client:?}");
        }
    }
}

#[test]
fn the_limit_of_a_message_is_that_of_the_inflated_one() {
    for deflate in [Deflate::Shared, Deflate::Dedicated] {
        let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<u16>>| {
            reactor.websocket("0.0.0.0:80", move |ws| {
                ws.options().deflate = deflate;
                ws.options().websocket = Limits {
                    frame_bytes_max: 10_000,
                    message_bytes_max: 10_000,
                    fragments_max: None,
                };
                ws.on_message(|ws, message: Message<'_>| ws.send(message));
            })?;
            for bytes in [10_000, 10_001] {
                reactor.connect_websocket("ws://127.0.0.1:80/", move |ws| {
                    ws.options().deflate = deflate;
                    ws.on_open(move |ws, _| ws.send(text(bytes)));
                    ws.on_message(|ws, _| ws.close_with(4000, ""));
                    ws.on_close(|ws, close| ws.state.push(close.code));
                })?;
            }
            std::io::Result::Ok(())
        });
        sim.settle();
        let mut codes = sim.state().clone();
        codes.sort();
        assert_eq!(codes, [1009, 4000], "{deflate:?}");
    }
}

/// The payload of a message of so many MiB of zeros, without the last four bytes of its flush.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut mebibyte = Vec::with_capacity(64 * 1024);
    let flush = flate2::FlushCompress::Full;
    compress
        .compress_vec(&vec![0; MIB], &mut mebibyte, flush)
        .unwrap();
    assert_eq!(compress.total_in(), MIB as u64);
    let mut payload = mebibyte.repeat(mebibytes);
    payload.truncate(payload.len() - 4);
    payload
}

// All allocations count that are made while a bomb comes in and is inflated.
#[test]
fn a_bomb_ends_at_the_limit_of_a_message_in_flat_memory() {
    for (mebibytes, limit) in [(1, MIB / 2), (64, MIB), (1024, 2 * MIB), (1024, 64 * MIB)] {
        let payload = bomb(mebibytes);
        assert!(payload.len() < 1100 * mebibytes, "{}", payload.len());
        let pieces = payload.chunks(payload.len().div_ceil(100));
        let mut frames = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let first = if index == 0 { 0x42 } else { 0x00 };
            put_frame(first, Some([1, 2, 3, 4]), piece, &mut frames);
        }
        put_frame(0x80, Some([1, 2, 3, 4]), b"", &mut frames);
        for deflate in [Deflate::Shared, Deflate::Dedicated] {
            let limits = Limits {
                frame_bytes_max: limit,
                message_bytes_max: limit,
                fragments_max: None,
            };
            let (_, mut server) = pair_with(deflate, deflate, limits);
            // Unmasked in place.
            let mut frames = frames.clone();
            let mut has_message = false;
            let held = allocation_counter::measure(|| {
                for piece in frames.chunks_mut(64 * 1024) {
                    server.receive(piece, |_, event| {
                        has_message |= matches!(event, Event::Binary(_));
                    });
                }
            });
            let name = format!("{mebibytes} MiB, at most {limit} bytes, {deflate:?}");
            assert!(!has_message, "{name}");
            let close = server.take_output();
            assert_eq!(close[..4], [0x88, close[1], 0x03, 0xf1], "1009: {name}");
            let most = (limit + 2 * MIB) as u64;
            assert!(held.bytes_max <= most, "{name}: {} held", held.bytes_max);
        }
    }
}

/// Frames of a client that holds a window, and the answers of an echo, one by one.
fn conversation(deflate: Deflate) -> (Vec<u8>, Vec<String>) {
    let mut client = Driver::client(Limits::default(), "h", "/", &[]).unwrap();
    client = client.with_deflate(deflate, 0);
    let mut server = Driver::server(Limits::default()).with_deflate(deflate, 0);
    let mut wire = client.take_output();
    server.receive(&mut wire.clone(), |_, _| {});
    client.receive(&mut server.take_output(), |_, _| {});
    let texts: Vec<String> = [0, 1, 20, 200, 200, 3000].map(text).to_vec();
    for text in &texts {
        client.text(text);
        client.ping(b"?").unwrap();
    }
    wire.extend(client.take_output());
    (wire, texts)
}

#[test]
fn messages_may_be_cut_at_every_byte() {
    for deflate in [Deflate::Shared, Deflate::Dedicated] {
        let (wire, texts) = conversation(deflate);
        for cut in 0..wire.len() {
            let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<String>>| {
                reactor.websocket("0.0.0.0:80", move |ws| {
                    ws.options().deflate = deflate;
                    ws.on_message(|ws, message: Message<'_>| ws.state.push(message.to_string()));
                })
            });
            let stream = sim.connect();
            stream.write(&wire[..cut]);
            sim.settle();
            stream.write(&wire[cut..]);
            sim.settle();
            assert_eq!(sim.state(), &texts, "{deflate:?}, cut at {cut}");
        }
    }
}

#[test]
fn a_client_reads_messages_that_come_in_pieces() {
    for deflate in [Deflate::Shared, Deflate::Dedicated] {
        for seed in 0..50 {
            let texts: Vec<String> = [0, 1, 200, 200, 3000, 100_000, 100_000].map(text).to_vec();
            let sent = texts.clone();
            let mut sim = Sim::new(Vec::new(), move |reactor: &mut Reactor<Vec<String>>| {
                reactor.websocket("0.0.0.0:80", move |ws| {
                    ws.options().deflate = deflate;
                    ws.on_message(|ws, message: Message<'_>| ws.send(message));
                })?;
                reactor.connect_websocket("ws://127.0.0.1:80/", move |ws| {
                    ws.options().deflate = deflate;
                    let sent = sent.clone();
                    ws.on_open(move |ws, _| {
                        for text in &sent {
                            ws.send(text);
                        }
                    });
                    ws.on_message(|ws, message: Message<'_>| ws.state.push(message.to_string()));
                })
            });
            sim.faults(
                seed,
                Faults {
                    short_reads_percent: 60,
                    short_writes_percent: 60,
                    refused_writes_percent: 20,
                    ..Faults::default()
                },
            );
            sim.settle();
            assert_eq!(sim.state(), &texts, "{deflate:?}, seed {seed}");
        }
    }
}

/// Drivers of a client and a server that have agreed.
fn pair(client: Deflate, server: Deflate) -> (Driver, Driver) {
    pair_with(client, server, Limits::default())
}

/// As [`pair`], with limits of the server.
fn pair_with(client: Deflate, server: Deflate, limits: Limits) -> (Driver, Driver) {
    let mut client = Driver::client(Limits::default(), "h", "/", &[])
        .unwrap()
        .with_deflate(client, 0);
    let mut server = Driver::server(limits).with_deflate(server, 0);
    server.receive(&mut client.take_output(), |_, _| {});
    client.receive(&mut server.take_output(), |_, _| {});
    assert!(client.is_open() && server.is_open());
    (client, server)
}

/// One masked or unmasked frame as several, cut at the places that `random` gives, with a ping between two of them.
fn fragmented(frame: &[u8], random: &mut StdRng) -> Vec<u8> {
    let is_masked = frame[1] & 0x80 != 0;
    let (length, header_bytes) = match frame[1] & 0x7f {
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (
            u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
            10,
        ),
        length => (usize::from(length), 2),
    };
    let mut payload = frame[header_bytes + 4 * usize::from(is_masked)..].to_vec();
    assert_eq!(payload.len(), length);
    if is_masked {
        apply_mask(
            &mut payload,
            frame[header_bytes..header_bytes + 4].try_into().unwrap(),
        );
    }
    let mask = is_masked.then_some([1, 2, 3, 4]);
    let (mut out, mut rest, mut first) = (Vec::new(), payload.as_slice(), frame[0] & 0x7f);
    while random.random_bool(0.7) {
        let (piece, after) = rest.split_at(random.random_range(0..=rest.len()));
        put_frame(first, mask, piece, &mut out);
        encode_ping(mask, b"?", &mut out).unwrap();
        (rest, first) = (after, 0);
    }
    put_frame(first | 0x80, mask, rest, &mut out);
    out
}

fn put_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    encode_header(OpCode::Data(Data::Binary), payload.len(), mask, out);
    out[start] = first;
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

#[test]
fn random_messages_come_back_however_they_are_fragmented() {
    let modes = [Deflate::Shared, Deflate::Dedicated];
    for seed in 0..200_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let (client, server) = (modes[seed as usize % 2], modes[seed as usize / 2 % 2]);
        let (mut client, mut server) = pair(client, server);
        if seed % 3 == 0 {
            std::mem::swap(&mut client, &mut server);
        }
        for _ in 0..10 {
            let length = 1 << random.random_range(0..16);
            let length = random.random_range(0..=length);
            // Few letters compress, all bytes do not.
            let letters = 1 << random.random_range(1..=8);
            let message: Vec<u8> = (0..length)
                .map(|_| random.random_range(0..letters) as u8)
                .collect();
            client.binary(&message);
            let mut wire = fragmented(&client.take_output(), &mut random);
            let mut came = None;
            let mut rest = wire.as_mut_slice();
            while !rest.is_empty() {
                let count = random.random_range(1..=rest.len());
                let (piece, after) = rest.split_at_mut(count);
                rest = after;
                server.receive(piece, |_, event| {
                    if let Event::Binary(bytes) = event {
                        came = Some(bytes.into_owned());
                    }
                });
            }
            assert_eq!(server.error(), None, "seed {seed}");
            assert_eq!(came.as_deref(), Some(&*message), "seed {seed}");
            server.take_output();
        }
    }
}

// ── publications ─────────────────────────────────────────────────────────────────────────────────

/// Members of "room", which have agreed to what the route has.
fn members(deflate: Deflate, offers: &[Option<&str>]) -> (Sim<()>, Vec<SimStream>) {
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", move |ws| {
            ws.options().deflate = deflate;
            ws.on_open(|ws, _| ws.subscribe("room"));
        })
    });
    let streams = offers.iter().map(|offer| match offer {
        Some(offer) => open(&mut sim, offer).0,
        None => {
            let socket = sim.websocket("/");
            socket.stream().clone()
        }
    });
    let streams = streams.collect();
    (sim, streams)
}

#[test]
fn a_publication_is_compressed_once_for_all_members() {
    let (mut sim, streams) = members(Deflate::Shared, &[Some(OFFER); 100]);
    let message = text(20_000);
    // The first ones make the compressor and grow the queues.
    for _ in 0..3 {
        sim.reactor().publish("room", &message);
        sim.settle();
    }
    let expected = streams[0].read();
    assert_eq!(expected[0], 0xc1);
    assert!(expected.len() < 3 * 4000, "{} bytes", expected.len());
    for stream in &streams[1..] {
        assert!(stream.read() == expected);
    }
    let cost = allocation_counter::measure(|| {
        sim.reactor().publish("room", &message);
    });
    assert!(cost.count_total <= 8, "{cost:?}");
    assert_eq!(sim.reactor().stats().deflated_messages, 4);
}

// Each of these clients asks for a window of its own size; compressed for each, one publication would cost a thousand
// times as much.
#[test]
fn small_windows_do_not_multiply_the_cost_of_a_publication() {
    let offers: Vec<_> = (9..15)
        .map(|bits| format!("permessage-deflate; server_max_window_bits={bits}"))
        .collect();
    let offers: Vec<_> = offers.iter().map(|it| Some(&**it)).collect();
    let (mut sim, streams) = members(Deflate::Shared, &offers.repeat(10));
    let message = text(5000);
    sim.reactor().publish("room", &message);
    sim.settle();
    for stream in &streams {
        let bytes = stream.read();
        assert_eq!(bytes[0], 0x81);
        assert!(bytes.ends_with(message.as_bytes()));
    }
    assert_eq!(sim.reactor().stats().deflated_messages, 0);
}

#[test]
fn members_of_every_kind_get_a_publication() {
    let offers = [
        None,
        Some(OFFER),
        Some("permessage-deflate; server_max_window_bits=9"),
        Some("permessage-deflate; server_no_context_takeover"),
        None,
        Some(OFFER),
    ];
    for deflate in [Deflate::Shared, Deflate::Dedicated] {
        let (mut sim, streams) = members(deflate, &offers);
        let messages = [text(10), text(5000), text(5000), text(40_000)];
        for message in &messages {
            sim.reactor().publish("room", message);
            sim.settle();
        }
        for (stream, offer) in streams.iter().zip(offers) {
            // A receiver with a window reads what needs none, too.
            let (mut client, _) = match offer {
                Some(_) => pair(Deflate::Dedicated, deflate),
                None => pair(Deflate::None, Deflate::None),
            };
            let mut came = Vec::new();
            client.receive(&mut stream.read(), |_, event| match event {
                Event::Text(text) => came.push(text.into_owned()),
                event => panic!("{event:?}"),
            });
            assert_eq!(client.error(), None);
            assert!(came == messages, "{deflate:?} {offer:?}");
        }
    }
}

// ── memory ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_idle_connection_with_shared_compression_holds_not_one_byte_more() {
    let held_by = |deflate| {
        let mut sim = echo(deflate);
        // The first connection makes what all share.
        let (first, _) = open(&mut sim, OFFER);
        let exchange = |stream: &SimStream, sim: &mut Sim<()>| {
            if deflate != Deflate::None {
                stream.write(frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
            } else {
                stream.write(frame(0x81, b"Hello"));
            }
            sim.settle();
            assert_eq!(stream.read(), b"\x81\x05Hello");
        };
        exchange(&first, &mut sim);
        let mut streams = Vec::with_capacity(1000);
        let mut held = 0;
        for _ in 0..300 {
            let before = sim.reactor().memory_bytes();
            let (stream, _) = open(&mut sim, OFFER);
            exchange(&stream, &mut sim);
            streams.push(stream);
            held = sim.reactor().memory_bytes() - before;
        }
        let allocated = allocation_counter::measure(|| {
            streams.extend((0..500).map(|_| {
                let (stream, _) = open(&mut sim, OFFER);
                exchange(&stream, &mut sim);
                stream
            }));
        });
        (held, allocated.bytes_current)
    };
    let without = held_by(Deflate::None);
    assert_eq!(held_by(Deflate::Shared), without);
    // The account knows what a window takes.
    let (dedicated, _) = held_by(Deflate::Dedicated);
    assert!(without.0 + 40_000 < dedicated, "{dedicated} bytes");
}

#[test]
fn dedicated_connections_end_when_memory_is_short() {
    let config = Config {
        memory_bytes_max: Some(4 * 1024 * 1024),
        ..Config::default()
    };
    let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
        reactor.websocket("0.0.0.0:80", |ws| {
            ws.options().deflate = Deflate::Dedicated;
            ws.on_message(|ws, message: Message<'_>| ws.send(message.to_string().repeat(1000)));
        })
    });
    let streams: Vec<_> = (0..20).map(|_| open(&mut sim, OFFER).0).collect();
    for stream in &streams {
        stream.write(frame(0x81, b"Hello"));
        sim.settle();
    }
    assert!(sim.reactor().stats().memory_ends > 5);
    assert!(sim.reactor().memory_bytes() < 4 * 1024 * 1024);
    assert!(sim.reactor().connection_count() > 5);
}
