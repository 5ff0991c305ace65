//! Records that no honest implementation sends: made with the keys of a real handshake.

use rustls::ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ContentType, ExtractedSecrets, ProtocolVersion, ServerConnection};

use super::*;

/// Encrypts records of TLS 1.3 in the place of a connection of rustls.
pub struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    /// The forger of a client whose handshake is done.
    fn of_client(peer: Peer) -> (SimStream, Forger) {
        let Peer { stream, tls, .. } = peer;
        let suite = tls.negotiated_cipher_suite().unwrap();
        let extracted = tls.dangerous_extract_secrets().unwrap();
        (stream, Forger::of(suite, extracted))
    }

    fn of(suite: rustls::SupportedCipherSuite, extracted: ExtractedSecrets) -> Forger {
        let suite = suite.tls13().expect("TLS 1.3");
        let (sequence, secrets) = extracted.tx;
        let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) =
            secrets
        else {
            panic!("an unknown cipher");
        };
        Forger {
            encrypter: suite.aead_alg.encrypter(key, iv),
            sequence,
        }
    }

    pub fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        record.encode()
    }

    /// The beginning of a message of 64 KiB, in records of a byte each.
    pub fn fragments(&mut self, count: usize) -> Vec<u8> {
        let message = [&b"\x04\x00\xff\xff"[..], &vec![0; count]].concat();
        let records = message[..count].chunks(1);
        records
            .flat_map(|byte| self.record(ContentType::Handshake, byte))
            .collect()
    }
}

/// As [`client_config`], with keys that a test may take out.
fn open_config() -> Arc<ClientConfig> {
    let mut config = (*client_config(&[&version::TLS13])).clone();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// A client whose handshake is done.
fn forger(sim: &mut Sim<Log>) -> (SimStream, Forger) {
    let mut peer = Peer::new(sim.connect(), open_config());
    peer.settle(sim);
    Forger::of_client(peer)
}

#[test]
fn a_server_keeps_no_long_message_of_a_client() {
    let mut sim = echo_sim();
    let (stream, mut forger) = forger(&mut sim);
    let before = sim.reactor().memory_bytes();
    let mut most = 0;
    for _ in 0..20 {
        stream.write(forger.fragments(100));
        sim.settle();
        most = most.max(sim.reactor().memory_bytes());
    }
    let expected = [
        "open",
        "closed: TLS failed: not TLS, or a breach of its rules",
    ];
    assert_eq!(sim.state(), &expected);
    assert!(most < before + 40_000, "{most} bytes, {before} before");
}

/// A server of rustls' own on a raw listener, for one client, which sends the beginning of a message of 64 KiB
/// behind the handshake, in pieces of a byte.
fn fragmenting_server(reactor: &mut Reactor<Log>, count: usize) {
    let mut config = (*server_config("server")).clone();
    config.enable_secret_extraction = true;
    let mut tls = Some(ServerConnection::new(Arc::new(config)).unwrap());
    let listening = reactor.stream("0.0.0.0:443", move |stream| {
        stream.on_data(move |stream, mut bytes| {
            let Some(mut server) = tls.take() else {
                return;
            };
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
            let mut out = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut out).unwrap();
            }
            if server.is_handshaking() {
                tls = Some(server);
            } else {
                let suite = server.negotiated_cipher_suite().unwrap();
                let extracted = server.dangerous_extract_secrets().unwrap();
                out.extend(Forger::of(suite, extracted).fragments(count));
            }
            stream.send(out);
        });
    });
    listening.unwrap();
}

// A ticket may come in several records.
#[test]
fn a_client_keeps_a_long_message_of_a_server_up_to_a_limit() {
    for (count, is_refused) in [(2000, false), (4000, true)] {
        let mut sim = Sim::new(Log::new(), |reactor| fragmenting_server(reactor, count));
        let tls = ClientTls::new(client_config(&[&version::TLS13]));
        let options = ConnectOptions::new("localhost:443").tls(tls);
        let connecting = sim.reactor().connect_stream(options, |stream| {
            stream.on_close(|stream, close| stream.state.push(close.to_string()));
        });
        connecting.unwrap();
        sim.settle();
        assert!(sim.reactor().memory_bytes() < 200_000);
        let expected: &[&str] = match is_refused {
            true => &[
                "TLS failed: not TLS, or a breach of its rules: a message of more than 65536 bytes",
            ],
            false => &[],
        };
        assert_eq!(sim.state(), expected);
    }
}

#[test]
fn many_records_without_data_end_the_connection() {
    for (count, is_refused) in [(20, false), (5_000, true)] {
        let mut sim = echo_sim();
        sim.socket_bytes(1024 * 1024);
        let (stream, mut forger) = forger(&mut sim);
        let mut records = Vec::new();
        for _ in 0..count {
            records.extend(forger.record(ContentType::ApplicationData, b""));
        }
        assert_eq!(stream.write(&records), records.len());
        sim.settle();
        let expected: &[&str] = match is_refused {
            true => &[
                "open",
                "closed: TLS failed: not TLS, or a breach of its rules",
            ],
            false => &["open"],
        };
        assert_eq!(sim.state(), expected, "{count} records");
    }
}
