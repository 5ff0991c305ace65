//! Programs that applications have, against the program: `curl` as a publisher, and npm's `eventsource` as a subscriber.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{self, Server};
use crate::{PATH, PUBLISHER_KEY, SUBSCRIBER_KEY, detail, publisher_token, request, token};

fn serve() -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--mercure-anonymous"])
        .env("WATERWHEEL_MERCURE_PUBLISHER_KEY", PUBLISHER_KEY)
        .env("WATERWHEEL_MERCURE_SUBSCRIBER_KEY", SUBSCRIBER_KEY);
    Server::run(command)
}

/// The status and the body of the answer to what `curl` sends.
fn curl(server: &Server, words: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["-s", "-w", "\n%{http_code}"])
        .args(words)
        .arg(server.url(PATH))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn curl_publishes_with_both_shapes_of_claims() {
    if !support::has("curl") {
        return;
    }
    let server = serve();
    let mut stream = server.connect();
    let request = format!(
        "GET {PATH}?topic=https://example.com/books/{{id}} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head = lines.by_ref().take_while(|line| !line.is_empty());
    assert!(
        head.into_iter()
            .any(|line| line == "Content-Type: text/event-stream")
    );
    let old = r#"{"mercure":{"publish":["https://example.com/books/{id}"]}}"#;
    let new = detail("publish", "https://example.com/books/1");
    for (number, claims) in [old, &new].into_iter().enumerate() {
        let header = format!(
            "Authorization: Bearer {}",
            token::sign(claims, PUBLISHER_KEY)
        );
        let (id, data) = (format!("id=urn:{number}"), format!("data=hello {number}"));
        let words = [
            "-H",
            &header,
            "-d",
            "topic=https://example.com/books/1",
            "-d",
            &id,
            "--data-urlencode",
            &data,
        ];
        let answer = curl(&server, &words);
        assert_eq!(answer, ("200".to_owned(), format!("urn:{number}")));
        let expected = format!("data: hello {number}");
        assert!(lines.any(|line| line == expected));
        let words = ["-H", &header, "-d", "topic=https://example.com/films/1"];
        assert_eq!(curl(&server, &words).0, "403");
    }
    assert_eq!(curl(&server, &["-d", "topic=a"]).0, "401");
}

#[test]
fn the_event_source_of_npm() {
    if !support::has("node") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    if !folder.join("browser/node_modules/eventsource").is_dir() {
        support::skip("tests/browser/node_modules is missing: npm ci --prefix tests/browser");
        return;
    }
    let server = serve();
    let claims = r#"{"sub":"ann","mercure":{"subscribe":["https://example.com/private/{id}"]}}"#;
    let output = Command::new("node")
        .arg(folder.join("mercure_clients/drive.mjs"))
        .arg(server.address.port().to_string())
        .args([
            publisher_token(r#""*""#),
            token::sign(claims, SUBSCRIBER_KEY),
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{errors}");
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn keys_of_files_are_read_again() {
    let file = std::env::temp_dir().join(format!("waterwheel-mercure-{}", std::process::id()));
    std::fs::write(&file, format!("{PUBLISHER_KEY}\n")).unwrap();
    let path = file.to_str().unwrap();
    let server = Server::start(&["--mercure-publisher-key-file", path, "--mercure-anonymous"]);
    let old = publisher_token(r#""*""#);
    let new = token::sign(r#"{"mercure":{"publish":["*"]}}"#, SUBSCRIBER_KEY);
    let status = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        curl(&server, &["-H", &header, "-d", "topic=a"]).0
    };
    if !support::has("curl") {
        return;
    }
    assert_eq!((&*status(&old), &*status(&new)), ("200", "401"));
    std::fs::write(&file, format!("# new\n{SUBSCRIBER_KEY}\n")).unwrap();
    server.signal("-HUP");
    while status(&new) != "200" {}
    assert_eq!(status(&old), "401");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_private_rule_for_mercure_needs_no_token_of_the_hub() {
    let key = ["--mercure-subscriber-key", SUBSCRIBER_KEY];
    let start = |rule: &str| {
        Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["--listen", "127.0.0.1:0", "--topic", rule])
            .args(key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let refused = start("other=private").wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("--topic other"), "{errors}");
    let mut served = start("mercure:/team/*=private");
    let mut lines = BufReader::new(served.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    served.kill().unwrap();
    served.wait().unwrap();
}

#[test]
fn a_key_of_mercure_is_a_rule_for_all_addresses() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    let words = [
        "--listen",
        "0.0.0.0:0",
        "--mercure-publisher-key",
        PUBLISHER_KEY,
    ];
    command.args(words);
    let server = Server::run(command);
    let loopback = ([127, 0, 0, 1], server.address.port());
    let mut client = std::net::TcpStream::connect(std::net::SocketAddr::from(loopback)).unwrap();
    // The hub's own publishing stays closed.
    let asked = request("POST", "/publish?topic=a", &["Connection: close"], "x");
    client.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}
