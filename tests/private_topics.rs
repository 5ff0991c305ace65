//! Private topics of the program: its secrets, and clients with tokens of them.

#![cfg(all(unix, feature = "program"))]

mod support;
#[path = "support/token.rs"]
mod token;

use std::process::{Command, Output};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Http, Server};
use token::sign;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

const FIRST: &str = "the first secret, which has 40 bytes ...";
const SECOND: &str = "the second secret, which has 40 bytes ..";

/// A token for the private topics of a user, for an hour.
fn token_of(user: &str, secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = now.as_secs() + 3600;
    let topic = format!("private.{user}");
    let rights = format!(r#"{{"subscribe":["{topic}"],"publish":["{topic}"]}}"#);
    let claims = format!(r#"{{"sub":"{user}","exp":{expires},"waterwheel":{rights}}}"#);
    sign(&claims, secret)
}

fn publish(http: &mut Http, user: &str, token: &str) -> u16 {
    let target = format!("/publish?topic=private.{user}&token={token}");
    http.request("POST", &target, b"hello").0
}

#[test]
fn a_client_gets_the_private_topics_of_its_token() {
    for reactors in ["1", "2"] {
        let words = ["--topic", "private.*=private", "--reactors", reactors];
        let secret = ["--token-secret", FIRST, "--token-secret", SECOND];
        let server = Server::start(&[&words[..], &secret].concat());
        let (ann, bob) = (token_of("ann", FIRST), token_of("bob", SECOND));
        let mut http = Http::new(server.connect());
        let statuses = [
            ("ann", &ann, 200),
            ("bob", &bob, 200),
            ("ann", &bob, 403),
            ("ann", &String::new(), 401),
        ];
        for (user, token, status) in statuses {
            assert_eq!(publish(&mut http, user, token), status, "{user} {token}");
        }
        // A client of this machine is as a stranger to them.
        let answer = http.request("POST", "/publish?topic=private.ann", b"x");
        assert_eq!(answer.0, 401, "{}", answer.1);
        assert_eq!(http.request("POST", "/publish?topic=t", b"x").0, 200);

        let mut socket = server.websocket(&format!("/ws?token={ann}"));
        socket.send(Message::text("private.*")).unwrap();
        socket.send(Message::text("private.ann")).unwrap();
        loop {
            assert_eq!(publish(&mut http, "bob", &bob), 200);
            let target = format!("/publish?topic=private.ann&token={ann}");
            let (_, answer) = http.request("POST", &target, b"for ann");
            if answer.contains("\"delivered\":1") {
                break;
            }
        }
        assert_eq!(socket.read().unwrap(), Message::text("for ann"));
        socket.send(Message::text("private.bob")).unwrap();
        let close = loop {
            match socket.read().unwrap() {
                Message::Close(close) => break close.unwrap(),
                message => assert_eq!(message, Message::text("for ann")),
            }
        };
        assert_eq!(close.code, CloseCode::Policy);
    }
}

#[test]
fn secrets_of_a_file_are_read_again_on_hup() {
    let path = std::env::temp_dir().join(format!("waterwheel-secrets-{}", std::process::id()));
    std::fs::write(&path, format!("# since May\n{FIRST}\n")).unwrap();
    let words = ["--topic", "private.*=private", "--token-secret-file"];
    let server = Server::start(&[&words[..], &[path.to_str().unwrap()]].concat());
    let mut http = Http::new(server.connect());
    let (first, second) = (token_of("ann", FIRST), token_of("ann", SECOND));
    assert_eq!(publish(&mut http, "ann", &first), 200);
    std::fs::write(&path, format!("{SECOND}\n")).unwrap();
    server.signal("-HUP");
    // A token that is not signed with a secret waits for its answer, and the pause grows.
    while publish(&mut http, "ann", &first) == 200 {
        thread::yield_now();
    }
    assert_eq!(publish(&mut http, "ann", &second), 200);
    std::fs::write(&path, "too short\n").unwrap();
    server.signal("-HUP");
    server.terminate();
    let (status, log) = server.ended();
    std::fs::remove_file(&path).unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("HUP: read 1 secret of tokens"), "{log}");
    for secret in [FIRST, SECOND, "too short", &first[..8], &second[40..60]] {
        assert!(!log.contains(secret), "{log}");
    }
}

fn refused(words: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(["--listen", "127.0.0.1:0"])
        .args(words)
        .env_remove("WATERWHEEL_PUBLISH_TOKEN")
        .env_remove("WATERWHEEL_TOKEN_SECRET")
        .output()
        .unwrap();
    assert!(output.stdout.is_empty());
    output
}

#[test]
fn options_that_protect_nothing_stop_the_program() {
    let short = "31-bytes-are-one-fewer-than-is.";
    // The options, the exit code, and words of the sentence that says why.
    let cases: [(&[&str], i32, [&str; 2]); 5] = [
        (
            &["--topic", "private.*=private"],
            1,
            ["private.*", "--token-secret"],
        ),
        (
            &["--topic", "private.*=private", "--open"],
            1,
            ["private.*", "--publish-token"],
        ),
        (
            &["--token-secret", short],
            2,
            ["--token-secret", "32 bytes"],
        ),
        (
            &["--token-secret-file", "/nowhere/secrets"],
            1,
            ["--token-secret-file", "/nowhere/secrets"],
        ),
        (
            &["--listen", "0.0.0.0:0"],
            1,
            ["--token-secret", "--publish-token"],
        ),
    ];
    for (words, code, named) in cases {
        let output = refused(words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        for name in named {
            assert!(error.contains(name), "{words:?}: {error}");
        }
        assert!(!error.contains(short), "{error}");
    }
}

#[test]
fn the_secret_is_taken_from_the_environment() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
    command
        .env("WATERWHEEL_TOKEN_SECRET", FIRST)
        .args(["--topic", "private.*=private"]);
    let server = Server::spawn(command);
    let mut http = Http::new(server.connect());
    assert_eq!(publish(&mut http, "ann", &token_of("ann", FIRST)), 200);
}
