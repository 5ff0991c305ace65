//! Certificates that are exchanged while a thousand clients exchange messages.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::{PATIENCE, Server, Socket};
use waterwheel::tls::ClientTls;
use waterwheel::{ClientTransport, Reactor, Remote};

const CLIENT_COUNT: usize = 1000;

/// How many clients connect at the same time.
const HANDSHAKES_MAX: usize = 50;

/// How many more messages each client gets at each step of a test.
const STEP_MESSAGES: u64 = 3;

fn file(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    directory.join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

// ── clients ──────────────────────────────────────────────────────────────────────────────────────

/// The state of all clients. Each sends a number, waits until it comes back, and sends the next.
struct Clients {
    /// The number that each client waits for; zero before it is connected.
    awaited: Vec<u64>,
    /// Connections that have ended, and messages that were not awaited.
    wrong: Vec<String>,
    goal: Option<Goal>,
}

/// Every client has got its number. `reached` gets the list of what was wrong.
struct Goal {
    awaited: Vec<u64>,
    missing_count: usize,
    reached: Sender<Vec<String>>,
}

impl Clients {
    /// Takes the answer of a client, and returns its next message.
    fn next(&mut self, client: usize, answer: &str) -> String {
        let awaited = &mut self.awaited[client];
        if *awaited != 0 && answer != awaited.to_string() {
            let wrong = format!("client {client} got {answer} instead of {awaited}");
            self.wrong.push(wrong);
        }
        *awaited += 1;
        let next = awaited.to_string();
        if let Some(goal) = &mut self.goal
            && goal.awaited[client] == self.awaited[client]
        {
            goal.missing_count -= 1;
        }
        self.report_goal();
        next
    }

    fn closed(&mut self, why: String) {
        self.wrong.push(why);
        self.report_goal();
    }

    fn report_goal(&mut self) {
        let is_over = |goal: &mut Goal| goal.missing_count == 0 || !self.wrong.is_empty();
        if let Some(goal) = self.goal.take_if(is_over) {
            let _ = goal.reached.send(self.wrong.clone());
        }
    }
}

/// The server, as the clients know it.
#[derive(Clone)]
struct Target {
    url: String,
    tls: ClientTls,
}

impl Target {
    fn connect(&self, reactor: &mut Reactor<Clients>, client: usize) -> io::Result<()> {
        let target = self.clone();
        let connecting = reactor.connect_websocket(&self.url, |ws| {
            ws.transport(ClientTransport::default().tls(self.tls.clone()));
            ws.on_open(move |ws, _| {
                let first = ws.state.next(client, "");
                ws.send(first);
                // Not all at once: on a busy machine the last of them would be late for the deadline.
                match client + HANDSHAKES_MAX {
                    later if later < CLIENT_COUNT => target.connect(ws.reactor, later),
                    _ => Ok(()),
                }
            });
            ws.on_message(move |ws, answer| {
                let next = ws.state.next(client, &answer.to_string());
                ws.send(next)
            });
            ws.on_close(move |ws, close| {
                let why = format!("client {client}: {close}");
                ws.state.closed(why);
            });
        });
        connecting.map(drop)
    }
}

/// The reactor of all clients, in a thread of its own, until it is dropped.
struct Load {
    remote: Remote<Clients>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start(server: &Server) -> Load {
        let url = format!("wss://localhost:{}/", server.address.port());
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let clients = Clients {
                awaited: vec![0; CLIENT_COUNT],
                wrong: Vec::new(),
                goal: None,
            };
            let tls = ClientTls::builder().ca(file("ca.pem")).build().unwrap();
            let server = Target { url, tls };
            let ended = Reactor::run(clients, |reactor| {
                sender.send(reactor.remote()).unwrap();
                (0..HANDSHAKES_MAX).try_for_each(|client| server.connect(reactor, client))
            });
            ended.unwrap();
        });
        Load {
            remote: receiver.recv().unwrap(),
            thread: Some(thread),
        }
    }

    /// Waits until each client has got some more messages, in order, on the connection that it had.
    fn goes_on(&self) {
        let (reached, receiver) = mpsc::channel();
        let asked = self.remote.run(move |cx| {
            let awaited = cx.state.awaited.iter();
            cx.state.goal = Some(Goal {
                awaited: awaited.map(|awaited| awaited + STEP_MESSAGES).collect(),
                missing_count: CLIENT_COUNT,
                reached,
            });
            cx.state.report_goal();
        });
        asked.unwrap();
        let wrong = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.remote.run(|cx| cx.reactor.stop());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

// ── the server ───────────────────────────────────────────────────────────────────────────────────

/// A certificate and its key that are exchanged, in a folder that goes with this value.
struct Pair {
    directory: PathBuf,
}

impl Pair {
    fn new() -> Pair {
        let name = format!("waterwheel-reload-under-load-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Pair { directory }
    }

    fn put(&self, certificate: &str, key: &str) {
        fs::copy(file(certificate), self.certificate()).unwrap();
        fs::copy(file(key), self.key()).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join("tls.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("tls.key")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The certificate that a new connection gets. Each connection comes without a session.
fn presented(server: &Server) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = Socket::connect(server.address).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    tls.peer_certificates().unwrap()[0].clone().into_owned()
}

/// The clients and the connections of this process, which keeps some for itself.
fn raise_descriptor_limit() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = (CLIENT_COUNT as u64 + 200).min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, wanted.max(soft), hard).unwrap();
}

#[test]
fn a_thousand_clients_stay_while_the_certificate_is_exchanged() {
    raise_descriptor_limit();
    let pair = Pair::new();
    pair.put("server.pem", "server.key");
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args([
        "echo",
        "--log",
        "info",
        "--listen",
        "tls:127.0.0.1:0",
        "--tls-certificate",
    ]);
    command
        .arg(pair.certificate())
        .arg("--tls-key")
        .arg(pair.key());
    let mut server = Server::run_with_stderr(command, Stdio::piped());
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    let mut log = stderr.lines().map(Result::unwrap);
    let mut hang_up = |expected: &str| {
        server.signal("-HUP");
        let line = log.find(|line| line.contains("HUP: ")).unwrap();
        assert!(line.contains(expected), "{line}");
    };
    let load = Load::start(&server);
    load.goes_on();
    assert_eq!(presented(&server), certificate("server.pem"));

    pair.put("server_rsa.pem", "server_rsa.key");
    hang_up("HUP: read 1 certificate;");
    assert_eq!(presented(&server), certificate("server_rsa.pem"));
    load.goes_on();

    pair.put("server.pem", "other.key");
    hang_up("does not belong to the certificate");
    assert_eq!(presented(&server), certificate("server_rsa.pem"));
    load.goes_on();
}
