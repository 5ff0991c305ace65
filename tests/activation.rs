//! Listeners that systemd opened: `--listen fd:NAME`.

#![cfg(all(target_os = "linux", feature = "program"))]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use support::{Http, Server, has};

/// Opens sockets as descriptors 3 and up, as systemd does, and becomes the program. The first words are the sockets:
/// `tcp`, `udp`, or the path of a Unix socket; the names and the program follow.
const LAUNCHER: &str = "\
import os, socket, sys
kinds, names = sys.argv[1].split(','), sys.argv[2]
sockets = []
for kind in kinds:
    if kind in ('tcp', 'udp'):
        made = socket.socket(type=socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
        made.bind(('127.0.0.1', 0))
    else:
        made = socket.socket(socket.AF_UNIX)
        made.bind(kind)
    if kind != 'udp':
        made.listen()
    sockets.append(os.dup2(made.fileno(), 100 + len(sockets), inheritable=False))
for index, made in enumerate(sockets):
    os.dup2(made, 3 + index, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(kinds)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
";

/// The program with inherited sockets.
fn inheriting(kinds: &str, names: &str, options: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LAUNCHER, kinds, names]);
    command.arg(env!("CARGO_BIN_EXE_waterwheel")).args(options);
    command
}

#[test]
fn sockets_are_taken_by_name_and_by_position() {
    if !has("python3") {
        return;
    }
    let path = std::env::temp_dir().join(format!("activated-{}.sock", std::process::id()));
    let kinds = format!("tcp,{},tcp", path.display());
    let options = ["--listen", "fd:web", "--listen", "fd:2", "--reactors", "2"];
    let server = Server::run(inheriting(&kinds, "web:hub:spare", &options));
    // Loopback, so that publishing is open.
    let mut http = Http::new(server.connect());
    let (status, answer) = http.request("POST", "/publish?topic=news", b"hi");
    assert_eq!(status, 200, "{answer}");
    let mut stream = UnixStream::connect(&path).unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ready\n"), "{answer}");
    drop((http, stream));
    server.terminate();
    let (exit, log) = server.ended();
    assert!(exit.success());
    assert!(
        log.contains("no --listen takes these inherited sockets: fd:spare (fd:3)"),
        "{log}"
    );
    std::fs::remove_file(&path).expect("systemd owns the file");
}

#[test]
fn a_name_that_is_not_there_is_an_error_with_the_names_that_are() {
    if !has("python3") {
        return;
    }
    let failure = |kinds: &str, names: &str, options: &[&str]| {
        let output = inheriting(kinds, names, options).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let why = failure("tcp,tcp", "web:api", &["--listen", "fd:wep"]);
    let expected = "cannot listen on fd:wep: no inherited socket has this name; there are fd:web (fd:1), fd:api (fd:2)";
    assert!(why.contains(expected), "{why}");
    let why = failure("tcp", "web", &["--listen", "fd:web", "--listen", "fd:web"]);
    assert!(why.contains("no socket is left"), "{why}");
    let why = failure("udp", "dns", &["--listen", "fd:dns"]);
    assert!(
        why.contains("cannot listen on fd:dns: ") && why.contains("not a valid"),
        "{why}"
    );
    let mut other = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    other.args(["--listen", "fd:web"]).env("LISTEN_FDS", "1");
    // For another process: this one inherits nothing of it.
    let output = other.env("LISTEN_PID", "1").output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("no socket is left"), "{why}");
}
