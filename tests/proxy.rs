//! Clients of this library through a real proxy: tinyproxy, with a user and a password.

#![cfg(all(unix, feature = "program"))]

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{PATIENCE, has};
use waterwheel::tls::{ClientTls, ServerTls};
use waterwheel::{
    Address, ClientTransport, Config, EventLoop, HttpClientOptions, HttpProxy, ListenOptions,
};

/// A running tinyproxy. Dropping it kills it and removes its configuration.
struct Tinyproxy {
    child: Child,
    port: u16,
    configuration: PathBuf,
}

impl Tinyproxy {
    fn start() -> Tinyproxy {
        // tinyproxy does not tell a port that the system has chosen.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let name = format!("waterwheel-tinyproxy-{}-{port}", std::process::id());
        let configuration = std::env::temp_dir().join(name);
        let lines = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nMaxClients 10\nTimeout 60\n\
             BasicAuth ada l0velace\n"
        );
        std::fs::write(&configuration, lines).unwrap();
        let child = Command::new("tinyproxy")
            .args(["-d", "-c"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Tinyproxy {
            child,
            port,
            configuration,
        };
        // It does not say when it listens.
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "tinyproxy does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        proxy
    }

    fn transport(&self, user: &str) -> ClientTransport {
        let url = format!("http://{user}@127.0.0.1:{}", self.port);
        let tls = ClientTls::builder().ca(file("ca.pem")).build().unwrap();
        let proxy = HttpProxy::parse(&url).unwrap();
        ClientTransport::default().proxy(proxy).tls(tls)
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.configuration);
    }
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "certificates", name]
        .iter()
        .collect()
}

#[test]
fn clients_reach_servers_with_tls_through_tinyproxy() {
    if !has("tinyproxy") {
        return;
    }
    let proxy = Tinyproxy::start();
    let mut event_loop = EventLoop::new(Config::default(), Vec::<String>::new()).unwrap();
    let reactor = event_loop.reactor();
    let tls = ServerTls::builder()
        .pair(file("server.pem"), file("server.key"))
        .build()
        .unwrap();
    let listener = reactor
        .http(ListenOptions::new("127.0.0.1:0").tls(tls), |http| {
            http.get("/hello", |request| request.reply("hello"));
            http.websocket("/echo", |ws| {
                ws.on_message(|ws, message| ws.send(message));
            });
        })
        .unwrap();
    let Some(Address::Inet(address)) = reactor.local_addr(listener) else {
        panic!("a listener on TCP has an address");
    };
    for user in ["ada:l0velace", "ada:wrong"] {
        let client = reactor
            .http_client_with(HttpClientOptions {
                transport: proxy.transport(user),
                ..HttpClientOptions::default()
            })
            .unwrap();
        client.get(
            reactor,
            &format!("https://{address}/hello"),
            |cx, result| {
                cx.state.push(match result {
                    Ok(response) => format!("GET {} {}", response.status, response.text()),
                    Err(error) => format!("GET {error}"),
                });
            },
        );
        let transport = proxy.transport(user);
        reactor
            .connect_websocket(&format!("wss://{address}/echo"), move |ws| {
                ws.transport(transport);
                ws.on_open(|ws, _| ws.send("echo"));
                ws.on_message(|ws, message| {
                    ws.state.push(format!("WebSocket {message}"));
                    ws.close();
                });
                ws.on_error(|ws, cause| ws.state.push(format!("WebSocket {cause}")));
            })
            .unwrap();
    }
    let began = Instant::now();
    while event_loop.state().len() < 4 {
        assert!(began.elapsed() < PATIENCE, "{:?}", event_loop.state());
        event_loop.turn(Some(Duration::from_millis(100))).unwrap();
    }
    let mut lines = event_loop.into_state();
    lines.sort();
    let expected = [
        "GET 200 OK hello",
        "GET the proxy answered 401 Unauthorized",
        "WebSocket echo",
        "WebSocket the proxy answered 401 Unauthorized",
    ];
    assert_eq!(lines, expected);
}
