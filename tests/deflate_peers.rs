//! Compression against other implementations: npm's `ws`, and PyPI's `websockets`.
//!
//! They are installed from npm (`npm ci --prefix tests/browser`) and PyPI (`tests/python/install`). Without them a test
//! prints why and is skipped; in CI it fails instead.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use support::{Server, skip};
use waterwheel::tls::ClientTls;
use waterwheel::websocket::Deflate;
use waterwheel::{ClientTransport, CloseCause, Config, Message, Reactor};

const MODES: [&str; 2] = ["shared", "dedicated"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deflate_peers")
}

fn certificate(name: &str) -> String {
    format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The command that runs `ws.mjs`; `None` where something is missing.
fn node() -> Option<Command> {
    let package = folder().join("../browser/node_modules/ws");
    if !support::has("node") || !package.is_dir() {
        skip("Node.js or the package ws is missing: npm ci --prefix tests/browser");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(folder().join("ws.mjs"));
    Some(command)
}

/// The command that runs `websockets_client.py`; `None` where something is missing.
fn python() -> Option<Command> {
    let mut command = Command::new(support::python()?);
    command.arg(folder().join("websockets_client.py"));
    Some(command)
}

/// The echo server with compression in this mode.
fn echo(mode: &str, has_tls: bool) -> Server {
    if !has_tls {
        return Server::start(&["echo", "--deflate", mode]);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command.args(["echo", "--deflate", mode, "--listen", "tls:127.0.0.1:0"]);
    command.args(["--tls-certificate", &certificate("server.pem")]);
    command.args(["--tls-key", &certificate("server.key")]);
    Server::run(command)
}

/// The last line of a client.
fn last_line(client: &mut Command) -> String {
    let output = client.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?}: {errors}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

// A window of 8 bits for the server is declined: 24 of the 120 combinations of parameters have it.
#[test]
fn the_server_understands_every_option_of_ws() {
    for mode in MODES {
        let server = echo(mode, false);
        let Some(mut client) = node() else { return };
        client.arg(format!("ws://{}/", server.address));
        assert_eq!(last_line(&mut client), "96 of 120", "{mode}");
    }
}

#[test]
fn the_server_understands_every_option_of_ws_over_tls() {
    for mode in MODES {
        let server = echo(mode, true);
        let Some(mut client) = node() else { return };
        client.arg(format!("wss://{}/", server.address));
        client.arg(certificate("ca.pem"));
        assert_eq!(last_line(&mut client), "96 of 120", "{mode}");
    }
}

#[test]
fn the_server_understands_the_options_of_websockets() {
    for mode in MODES {
        let server = echo(mode, false);
        let Some(mut client) = python() else { return };
        client.arg(format!("ws://{}/", server.address));
        assert_eq!(last_line(&mut client), "48 of 64", "{mode}");
    }
}

// ── our client ───────────────────────────────────────────────────────────────────────────────────

/// A running echo server of `ws`. Dropping this ends it.
struct EchoOfWs {
    child: Child,
    port: u16,
}

impl EchoOfWs {
    fn start(mut command: Command) -> EchoOfWs {
        let words = [
            "--serve".to_owned(),
            certificate("server.pem"),
            certificate("server.key"),
        ];
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let port = line.trim_end().parse().unwrap();
        EchoOfWs { child, port }
    }

    /// An endpoint with these options, which are JSON.
    fn url(&self, options: &str) -> String {
        let escaped = options.bytes().map(|byte| format!("%{byte:02x}"));
        format!(
            "wss://localhost:{}/?{}",
            self.port,
            escaped.collect::<String>()
        )
    }
}

impl Drop for EchoOfWs {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every combination of the options of a server of `ws`; `null` is as if it was not given.
fn options_of_ws() -> Vec<String> {
    let takeovers = ["null", "true", "false"];
    let mut all = vec!["false".to_owned(), "true".to_owned()];
    for server in takeovers {
        for client in takeovers {
            for server_bits in ["null", "9", "12", "15"] {
                for client_bits in ["null", "false", "8", "9", "12", "15"] {
                    all.push(format!(
                        "{{\"serverNoContextTakeover\":{server},\"clientNoContextTakeover\":{client},\
                         \"serverMaxWindowBits\":{server_bits},\"clientMaxWindowBits\":{client_bits},\"threshold\":0}}"
                    ));
                }
            }
        }
    }
    all
}

/// Bytes that cannot be compressed, the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let states = std::iter::successors(Some(1_u32), |state| {
        Some(state.wrapping_mul(1_103_515_245).wrapping_add(12345))
    });
    states
        .map(|state| (state >> 24) as u8)
        .take(bytes)
        .collect()
}

/// The messages of a client. The noise is repeated after 3000 bytes, in one message and from one to the next: outside of a
/// small window, and of every window where the context is not taken over.
fn messages() -> Vec<Vec<u8>> {
    let lines = (0..3000).map(|line| format!("{{\"line\":{line},\"on\":true}}\n"));
    let text = lines.collect::<String>().into_bytes();
    vec![
        Vec::new(),
        b"a".to_vec(),
        text[..1024].to_vec(),
        text.clone(),
        text,
        noise(3000),
        noise(3000),
        noise(3000).repeat(10),
    ]
}

/// How the connections of a client ended.
#[derive(Default)]
struct Ends {
    compressed: usize,
    uncompressed: usize,
    /// The server refuses offers that its options do not allow.
    refused: usize,
    wrong: Vec<String>,
}

struct EveryOption {
    server: EchoOfWs,
    transport: ClientTransport,
    messages: Vec<Vec<u8>>,
    options: Vec<String>,
}

impl EveryOption {
    /// Exchanges the messages with an endpoint of these options, and after it with the next one.
    fn exchange(self: Rc<Self>, reactor: &mut Reactor<Ends>, index: usize) -> io::Result<()> {
        let Some(options) = self.options.get(index) else {
            reactor.stop();
            return Ok(());
        };
        let options = options.clone();
        let mut received = 0;
        let url = self.server.url(&options);
        let transport = self.transport.clone();
        let all = Rc::clone(&self);
        let connecting = reactor.connect_websocket(&url, move |ws| {
            ws.transport(transport);
            ws.on_message(move |ws, message| {
                received += 1;
                let came_back = |sent: &Vec<u8>| *sent == message.as_bytes();
                if received == 1 {
                    match message.as_bytes() {
                        b"" => ws.state.uncompressed += 1,
                        _ => ws.state.compressed += 1,
                    }
                } else if !came_back(&self.messages[received - 2]) {
                    let wrong = format!("{options}: message {received} came back changed");
                    ws.state.wrong.push(wrong);
                }
                match self.messages.get(received - 1) {
                    Some(next) => ws.send(Message::Binary(next)),
                    None => ws.close(),
                }
            });
            ws.on_close(move |ws, close| {
                match close.cause {
                    CloseCause::Upgrade(_) if close.to_string().ends_with("400 Bad Request") => {
                        ws.state.refused += 1
                    }
                    CloseCause::Local => {}
                    _ => ws
                        .state
                        .wrong
                        .push(format!("{}: {close}", all.options[index])),
                }
                Rc::clone(&all).exchange(ws.reactor, index + 1)
            });
        });
        connecting.map(drop)
    }
}

#[test]
fn the_client_understands_every_option_of_ws_over_tls() {
    let tls = ClientTls::builder()
        .ca(certificate("ca.pem"))
        .build()
        .unwrap();
    let modes = [
        (Deflate::Shared, (145, 1, 72)),
        (Deflate::Dedicated, (217, 1, 0)),
    ];
    for (mode, expected) in modes {
        let Some(command) = node() else { return };
        let all = EveryOption {
            server: EchoOfWs::start(command),
            transport: ClientTransport::default().tls(tls.clone()),
            messages: messages(),
            options: options_of_ws(),
        };
        let mut config = Config::default();
        config.options.deflate = mode;
        let all = Rc::new(all);
        let ended = Reactor::run_with(config, Ends::default(), |reactor| all.exchange(reactor, 0));
        let ends = ended.unwrap();
        assert!(ends.wrong.is_empty(), "{mode:?}: {:?}", ends.wrong);
        let counts = (ends.compressed, ends.uncompressed, ends.refused);
        assert_eq!(counts, expected, "{mode:?}");
    }
}
