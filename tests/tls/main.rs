//! TLS as a transport: in a simulation, and on real sockets against rustls' own client.

#![cfg(feature = "tls")]

mod client_role;
mod configuration;
mod crowd;
mod early_data;
mod forged;
mod hostile;
mod limits;
mod peers;
mod streams;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use waterwheel::tls::{ClientTls, ServerTls, ServerTlsBuilder};
use waterwheel::{
    Config, ConnectOptions, EventLoop, Faults, ListenOptions, Reactor, Remote, Reply, Sim,
    SimStream, Stats,
};

type Log = Vec<String>;

fn file(name: &str) -> String {
    format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn server_config(pair: &str) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(file(&format!("{pair}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file(&format!("{pair}.key"))).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn client_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(file("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A server that sends back what it gets.
fn echo(reactor: &mut Reactor<Log>, options: ListenOptions<'_>) {
    let listening = reactor.stream(options, |stream| {
        stream.on_open(|stream| stream.state.push("open".into()));
        stream.on_data(|stream, bytes| stream.send(bytes));
        stream.on_close(|stream, close| stream.state.push(format!("closed: {}", close.cause)));
    });
    listening.unwrap();
}

fn server_tls(pair: &str) -> ServerTls {
    static SERVER: OnceLock<ServerTls> = OnceLock::new();
    match pair {
        // Shared by the many runs of some tests.
        "server" => SERVER
            .get_or_init(|| builder(&[pair]).build().unwrap())
            .clone(),
        _ => builder(&[pair]).build().unwrap(),
    }
}

fn builder(pairs: &[&str]) -> ServerTlsBuilder {
    pairs.iter().fold(ServerTls::builder(), |builder, pair| {
        builder.pair(file(&format!("{pair}.pem")), file(&format!("{pair}.key")))
    })
}

fn ca() -> ClientTls {
    ClientTls::builder().ca(file("ca.pem")).build().unwrap()
}

fn echo_sim() -> Sim<Log> {
    let tls = server_tls("server");
    Sim::new(Log::new(), |reactor| {
        echo(reactor, ListenOptions::new("0.0.0.0:443").tls(tls));
    })
}

/// rustls' own client over a simulated stream.
struct Peer {
    stream: SimStream,
    tls: ClientConnection,
    received: Vec<u8>,
    /// The most that is sent to the server at once.
    piece_bytes: usize,
    has_close_notify: bool,
}

impl Peer {
    fn new(stream: SimStream, config: Arc<ClientConfig>) -> Peer {
        let name = ServerName::try_from("localhost").unwrap();
        Peer::named(stream, config, name)
    }

    fn named(stream: SimStream, config: Arc<ClientConfig>, name: ServerName<'static>) -> Peer {
        let tls = ClientConnection::new(config, name).unwrap();
        Peer {
            stream,
            tls,
            received: Vec::new(),
            piece_bytes: usize::MAX,
            has_close_notify: false,
        }
    }

    /// Exchanges records until both sides have nothing to say.
    fn settle<S>(&mut self, sim: &mut Sim<S>) {
        while self.exchange(sim) {}
    }

    /// Sends what there is to send, and takes what comes. Returns whether there was something.
    fn exchange<S>(&mut self, sim: &mut Sim<S>) -> bool {
        let out = self.take_flight();
        let mut had_input = false;
        let mut sent: usize = 0;
        loop {
            let piece = &out[sent..out.len().min(sent.saturating_add(self.piece_bytes))];
            sent += self.stream.write(piece);
            sim.settle();
            let input = self.stream.read();
            had_input |= !input.is_empty();
            let mut input = &input[..];
            while !input.is_empty() {
                self.tls.read_tls(&mut input).unwrap();
                let state = self.tls.process_new_packets().unwrap();
                self.has_close_notify |= state.peer_has_closed();
                // An error means that no more is there.
                let _ = self.tls.reader().read_to_end(&mut self.received);
            }
            if sent == out.len() || self.stream.is_closed() {
                return had_input || !out.is_empty();
            }
        }
    }

    /// The records that the client has to send now.
    fn take_flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut flight).unwrap();
        }
        flight
    }

    fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
    }

    fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }
}
