//! A client for the cases of the Autobahn TestSuite: `tests/autobahn/run --serve`, then
//! `cargo run --example autobahn_client` with the address that it prints, and `shared` or `dedicated` for
//! compression. An address with wss:// is trusted if the authorities of the system, or of the file SSL_CERT_FILE, are for
//! its certificate.

use std::{env, io};

use waterwheel::{ClientTransport, Config, ConnId, ConnectionOptions, Reactor, websocket};

/// The longest message of the cases, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub struct Cases {
    url: String,
    transport: ClientTransport,
    pub count: u32,
    pub run: u32,
}

/// Runs every case of the server at `url`, one after the other, with the options that `set_up` chooses.
pub fn run(
    url: &str,
    transport: ClientTransport,
    set_up: impl FnOnce(&mut ConnectionOptions),
) -> io::Result<Cases> {
    let mut config = Config::default();
    config.options.websocket = websocket::Limits {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: None,
    };
    set_up(&mut config.options);
    let cases = Cases {
        url: url.to_owned(),
        transport: transport.clone(),
        ..Cases::default()
    };
    Reactor::run_with(config, cases, |reactor| {
        reactor.connect_websocket(&format!("{url}/getCaseCount"), |ws| {
            ws.transport(transport);
            ws.on_message(|ws, count| ws.state.count = count.to_string().parse().unwrap_or(0));
            ws.on_close(|ws, close| {
                println!("{} cases: {close}", ws.state.count);
                next(ws.reactor, ws.state)
            });
        })
    })
}

// Starts the next case, or after the last one asks the server for its reports.
fn next(reactor: &mut Reactor<Cases>, cases: &mut Cases) -> io::Result<ConnId> {
    let Cases {
        url,
        transport,
        count,
        run,
    } = cases;
    let transport = transport.clone();
    if run == count {
        let url = format!("{url}/updateReports?agent=waterwheel");
        return reactor.connect_websocket(&url, |ws| {
            ws.transport(transport);
            ws.on_close(|ws, _| ws.reactor.stop());
        });
    }
    *run += 1;
    let url = format!("{url}/runCase?case={run}&agent=waterwheel");
    reactor.connect_websocket(&url, |ws| {
        ws.transport(transport);
        ws.on_message(|ws, message| ws.send(message));
        ws.on_close(|ws, _| next(ws.reactor, ws.state));
    })
}

fn main() -> io::Result<()> {
    let url = env::args().nth(1);
    let url = url.as_deref().unwrap_or("ws://127.0.0.1:9001");
    let deflate = env::args().nth(2);
    let set_up = |options: &mut ConnectionOptions| match deflate.as_deref() {
        None => {}
        #[cfg(feature = "deflate")]
        Some("shared") => options.deflate = websocket::Deflate::Shared,
        #[cfg(feature = "deflate")]
        Some("dedicated") => options.deflate = websocket::Deflate::Dedicated,
        Some(_) => {
            let _ = options;
            panic!("expected shared or dedicated, and a build with the feature `deflate`");
        }
    };
    run(url, ClientTransport::default(), set_up).map(drop)
}
