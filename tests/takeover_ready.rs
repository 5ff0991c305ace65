//! `--takeover`: the process before serves until its successor is ready, whatever becomes of either.

#![cfg(all(target_os = "linux", feature = "program", feature = "redis"))]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/takeover.rs"]
mod processes;
#[path = "support/redis_server.rs"]
mod redis_server;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use processes::{Folder, begin, start, status, unix_status, until, until_it_waits};
use support::{Http, Server, has};

const OK: &str = "HTTP/1.1 200 OK";

/// More connections than a listener would accept by chance.
const ATTEMPT_COUNT: usize = 30;

fn serves(address: SocketAddr) {
    for _ in 0..ATTEMPT_COUNT {
        assert_eq!(status(address).unwrap(), OK);
    }
}

#[test]
fn a_successor_without_redis_leaves_the_clients_to_the_process_before() {
    let Some(mut redis) = redis_server::start(&[]) else {
        return;
    };
    let folder = Folder::new("redis");
    let path = folder.at("takeover");
    let server = start(&path, &[]);
    redis.kill();
    let url = redis.url();

    // One that ends before it is ready.
    let next = begin(&path, &["--redis", &url]);
    assert_eq!(next.address, server.address);
    serves(server.address);
    next.terminate();
    let (exit, log) = next.ended();
    assert!(exit.success(), "{log}");
    serves(server.address);

    // One that becomes ready.
    let next = begin(&path, &["--redis", &url]);
    serves(server.address);
    redis.run();
    let (exit, log) = server.ended();
    assert!(exit.success(), "{log}");
    assert!(
        log.contains("this process goes on serving") && log.contains("draining"),
        "{log}"
    );
    serves(next.address);

    // And one at the same Redis.
    until_it_waits(&path, &next);
    let last = start(&path, &["--redis", &url]);
    assert!(next.ended().0.success());
    serves(last.address);
}

#[test]
fn a_successor_without_redis_serves_when_the_process_before_ends() {
    let Some(mut redis) = redis_server::start(&[]) else {
        return;
    };
    let folder = Folder::new("alone");
    let path = folder.at("takeover");
    let server = start(&path, &[]);
    redis.kill();
    let next = begin(&path, &["--redis", &redis.url()]);
    serves(server.address);
    server.signal("-KILL");
    // It says that it is not ready, but it answers.
    until_it_waits(&path, &next);
    let mut http = Http::new(next.connect());
    assert_eq!(http.request("GET", "/healthz", b"").0, 200);
    assert_eq!(http.request("GET", "/readyz", b"").0, 503);
}

#[test]
fn a_process_that_drains_has_a_successor_too() {
    let folder = Folder::new("drains");
    let path = folder.at("takeover");
    let server = Server::start(&["--takeover", &path, "--drain-window", "30"]);
    until_it_waits(&path, &server);
    // It is idle, and stays until the end of the window or of the process.
    let mut client = Http::new(server.connect());
    assert_eq!(client.request("GET", "/readyz", b"").0, 200);
    server.terminate();
    until("the drain", || {
        let mut http = Http::new(server.connect());
        http.request("GET", "/readyz", b"").0 == 503
    });
    let next = start(&path, &[]);
    assert_eq!(next.address, server.address);
    assert_eq!(status(next.address).unwrap(), OK);
    drop(client);
    assert!(server.ended().0.success());
    serves(next.address);
}

#[test]
fn a_successor_that_gets_no_answer_listens_by_itself() {
    let folder = Folder::new("ending");
    let path = folder.at("takeover");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::scope(|scope| {
        scope.spawn(move || drop(listener.accept().unwrap()));
        start(&path, &[])
    });
    serves(server.address);
    // The file at the path is its own now.
    let next = start(&path, &[]);
    assert_eq!(next.address, server.address);
    assert!(server.ended().0.success());

    // One that ends between the greeting and the descriptors.
    let other = folder.at("other");
    let listener = UnixListener::bind(&other).unwrap();
    let server = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = b"waterwheel takeover 1\nlistener 127.0.0.1:0\nend\n";
            stream.write_all(lines).unwrap();
            let mut lines = BufReader::new(stream).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "waterwheel takeover 1");
            assert_eq!(lines.next().unwrap().unwrap(), "take 127.0.0.1:0");
        });
        start(&other, &[])
    });
    serves(server.address);
}

#[test]
fn the_file_of_a_unix_socket_goes_with_its_last_process() {
    let folder = Folder::new("files");
    let (path, file) = (folder.at("takeover"), folder.at("hub.sock"));
    let listen = format!("unix:{file}");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    let server = start(&path, &["--listen", &listen, "--unix-mode", "600"]);
    assert_eq!(mode(), 0o600);
    let next = start(&path, &["--listen", &listen, "--unix-mode", "660"]);
    assert!(server.ended().0.success());
    assert_eq!(unix_status(&file), OK);
    until("the permissions", || mode() == 0o660);
    let last = start(&path, &["--listen", &listen, "--reactors", "2"]);
    assert!(next.ended().0.success());
    assert_eq!(unix_status(&file), OK);
    assert_eq!(mode(), 0o660, "without the option it stays what it was");
    last.terminate();
    assert!(last.ended().0.success());
    assert!(!Path::new(&file).exists(), "the last one removes it");
}

#[test]
fn tls_and_redirects_are_taken() {
    if !has("curl") {
        return;
    }
    let folder = Folder::new("tls");
    let path = folder.at("takeover");
    let port = || redis_server::free_ports(1)[0];
    let (secure, plain) = (port(), port());
    let listen = format!("tls:127.0.0.1:{secure}");
    let redirect = format!("127.0.0.1:{plain}");
    let (pem, key, ca) = (
        certificates::file("server.pem"),
        certificates::file("server.key"),
        certificates::file("ca.pem"),
    );
    let options = [
        "--listen",
        &listen,
        "--redirect",
        &redirect,
        "--tls-certificate",
        &pem,
        "--tls-key",
        &key,
    ];
    let answer = |url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--location"]);
        curl.args(["--cacert", &ca, "--write-out", " %{num_redirects}", url]);
        let output = curl.stderr(Stdio::inherit()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The name is that of the certificate.
    let (https, http) = (
        format!("https://localhost:{secure}/healthz"),
        format!("http://localhost:{plain}/healthz"),
    );
    let mut server = start(&path, &options);
    for _ in 0..3 {
        assert_eq!(answer(&https), "ok\n 0");
        assert_eq!(answer(&http), "ok\n 1");
        let next = start(&path, &options);
        assert!(std::mem::replace(&mut server, next).ended().0.success());
    }
    assert_eq!(answer(&https), "ok\n 0");
    assert_eq!(answer(&http), "ok\n 1");
}

/// Gives the socket on standard input to the program as systemd does, under the name `hub`.
const LAUNCHER: &str = "\
import os, sys
os.dup2(0, 3, inheritable=True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='hub')
os.execv(sys.argv[1], sys.argv[1:])
";

/// A process with `--listen fd:hub`, that takes over at a path.
fn inheriting(path: &str, socket: &UnixListener) -> Server {
    let mut command = Command::new("python3");
    command.args(["-c", LAUNCHER, env!("CARGO_BIN_EXE_waterwheel")]);
    command.args(["--takeover", path, "--drain-window", "1"]);
    command.args(["--listen", "fd:hub", "--allow-origin", "http://localhost"]);
    command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let server = Server {
        child: command.spawn().unwrap(),
        // It has none.
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    until_it_waits(path, &server);
    server
}

#[test]
fn a_successor_that_inherits_has_the_inherited_sockets_and_those_of_the_process_before() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("systemd");
    let (path, file, own) = (
        folder.at("takeover"),
        folder.at("hub.sock"),
        folder.at("own.sock"),
    );
    let socket = UnixListener::bind(&file).unwrap();
    let server = inheriting(&path, &socket);
    assert_eq!(unix_status(&file), OK);

    // The same socket, as of one unit.
    let next = inheriting(&path, &socket);
    assert!(server.ended().0.success());
    assert_eq!(unix_status(&file), OK);

    // Another with the same name, as of two units.
    let last = inheriting(&path, &UnixListener::bind(&own).unwrap());
    let (exit, log) = next.ended();
    assert!(
        exit.success() && !log.contains("no --listen takes"),
        "{log}"
    );
    assert_eq!(
        (unix_status(&file), unix_status(&own)),
        (OK.into(), OK.into())
    );
    last.terminate();
    let (exit, log) = last.ended();
    assert!(
        exit.success() && !log.contains("no --listen takes"),
        "{log}"
    );
    assert!(
        Path::new(&file).exists() && Path::new(&own).exists(),
        "they are systemd's"
    );
}
