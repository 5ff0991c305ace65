//! The commands of README.md and docs/hub.md, run as they stand there against the program: each must print what the
//! page shows below it, byte by byte. A page invents its epochs; each of them stands for a hub that was just started.

#![cfg(all(unix, feature = "program"))]

mod support;
#[path = "support/token.rs"]
mod token;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Http, Server, Socket, has};
use token::sign;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// The address of the hub in the pages.
const SHOWN_ADDRESS: &str = "127.0.0.1:8080";

const SECRET: &str = "a secret of the tests, which has 48 bytes ......";

fn read_page(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The fenced blocks of a page, each with its language.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    let mut is_code = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                is_code = !is_code;
                if is_code {
                    blocks.push((language, String::new()));
                }
            }
            None if is_code => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// The commands of a block, each with the output that the page shows.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut is_continued = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
            is_continued = command.ends_with('\\');
            continue;
        }
        let (command, output) = commands.last_mut().expect("a command before its output");
        let text = if is_continued { command } else { output };
        if is_continued {
            text.push('\n');
            is_continued = line.ends_with('\\');
            text.push_str(line);
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    commands
}

/// The epochs of the ids in a text: hexadecimal digits before `:` and a number.
fn epochs(text: &str) -> Vec<&str> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut epochs = Vec::new();
    for (colon, _) in text.match_indices(':') {
        let before = &text[..colon];
        let start = before
            .bytes()
            .rposition(|byte| !is_hex(byte))
            .map_or(0, |it| it + 1);
        let is_number = text[colon + 1..].starts_with(|it: char| it.is_ascii_digit());
        if is_number && 8 <= colon - start {
            epochs.push(&text[start..colon]);
        }
    }
    epochs
}

#[test]
fn a_page_is_read_as_it_is_shown() {
    let page = "text\n```console\n$ one \\\n    two\nout\n\n$ three\n```\n```sh\nx\n```\n";
    let blocks = blocks(page);
    assert_eq!(blocks[1], ("sh", "x\n".to_owned()));
    let pairs = [("one \\\n    two", "out\n\n"), ("three", "")];
    assert_eq!(
        commands(&blocks[0].1),
        pairs.map(|(command, output)| (command.to_owned(), output.to_owned()))
    );
    let text = "http://127.0.0.1:8080/?a=b:1 660c4b754ebd6:12 \"19e2a74c5c6:0\"";
    assert_eq!(epochs(text), ["660c4b754ebd6", "19e2a74c5c6"]);
}

/// A `curl -N` that listens. Dropping this kills it.
struct Listening {
    child: Child,
    output: BufReader<ChildStdout>,
    begun: String,
    command: String,
    expected: String,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub that was just started, and what listens to it.
struct Session {
    server: Server,
    epoch: String,
    listening: Vec<Listening>,
    /// The sockets of the user `ada`.
    sockets: Vec<WebSocket<Socket>>,
}

fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Session {
    fn start(words: &[&str]) -> Session {
        let server = Server::start(&[words, &["--token-secret", SECRET]].concat());
        let mut http = Http::new(server.connect());
        let (_, answer) = http.request("GET", "/poll?topic=t", b"");
        let epoch = epochs(&answer)[0].to_owned();
        Session {
            server,
            epoch,
            listening: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// A text of the page, with the address and the epoch of this hub.
    fn with_own_names(&self, text: &str) -> String {
        let mut text = text.replace(SHOWN_ADDRESS, &self.server.address.to_string());
        let shown: Vec<String> = epochs(&text).into_iter().map(str::to_owned).collect();
        for epoch in shown {
            text = text.replace(&epoch, &self.epoch);
        }
        text
    }

    fn run(&mut self, command: &str, expected: &str) {
        if command.contains("user=ada") && self.sockets.is_empty() {
            self.connect_ada();
        }
        let script = self.with_own_names(command);
        let expected = self.with_own_names(expected);
        if let Some((before, listen)) = script.split_once("curl -N") {
            // As long as another shell would run it.
            let script = format!("{before}exec curl -N{listen}");
            let mut child = bash(&script).spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut begun = String::new();
            while !begun.ends_with("\n\n") {
                assert_ne!(output.read_line(&mut begun).unwrap(), 0, "{script}");
            }
            self.listening.push(Listening {
                child,
                output,
                begun,
                command: script,
                expected,
            });
            return;
        }
        let output = bash(&script).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{script}"
        );
    }

    /// Two connections of the user, one of which is subscribed to `orders`.
    fn connect_ada(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, now.as_secs() + 3600);
        let token = sign(&claims, SECRET);
        for command in [r#"{"subscribe":"orders"}"#, r#"{"subscribe":"chat"}"#] {
            let url = format!("ws://{}/ws?token={token}", self.server.address);
            let mut request = url.into_client_request().unwrap();
            let protocol = "waterwheel.v1.json".parse().unwrap();
            let headers = request.headers_mut();
            headers.insert("Sec-WebSocket-Protocol", protocol);
            let stream = self.server.connect();
            let (mut socket, _) = tungstenite::client(request, stream).unwrap();
            socket.send(Message::text(command)).unwrap();
            let answer = socket.read().unwrap();
            assert!(answer.to_text().unwrap().contains("subscribed"), "{answer}");
            self.sockets.push(socket);
        }
    }

    /// Compares what the commands that listen have printed.
    fn end(mut self) {
        for listening in &mut self.listening {
            let Listening {
                output,
                begun,
                expected,
                ..
            } = listening;
            let rest = expected.len().saturating_sub(begun.len());
            let mut bytes = vec![0; rest];
            output.read_exact(&mut bytes).unwrap();
            begun.push_str(str::from_utf8(&bytes).unwrap());
            assert_eq!(begun, expected, "{}", listening.command);
        }
    }
}

/// Runs the commands of a page. Returns how many there were.
fn run_page(path: &str) -> usize {
    let page = read_page(path);
    let (mut session, mut shown_epoch): (Option<Session>, _) = (None, String::new());
    let mut count = 0;
    for (_, block) in blocks(&page).iter().filter(|it| it.0 == "console") {
        let of_block = epochs(block);
        if let Some(epoch) = of_block.first()
            && **epoch != shown_epoch
        {
            shown_epoch = (*epoch).to_owned();
            session.into_iter().for_each(Session::end);
            session = Some(Session::start(&[]));
        }
        for (command, expected) in commands(block) {
            let session = session.get_or_insert_with(|| Session::start(&[]));
            session.run(&command, &expected);
            count += 1;
        }
    }
    session.into_iter().for_each(Session::end);
    count
}

#[test]
fn the_commands_of_the_readme_print_what_it_shows() {
    if has("curl") {
        assert!(4 <= run_page("README.md"));
    }
}

#[test]
fn the_commands_of_the_reference_print_what_it_shows() {
    if has("curl") {
        assert!(18 <= run_page("docs/hub.md"));
    }
}

#[test]
fn the_readme_publishes_from_each_language() {
    let session = Session::start(&[]);
    let page = read_page("README.md");
    let programs = [
        ("ruby", "ruby", "-e"),
        ("js", "node", "-e"),
        ("php", "php", "-r"),
        ("python", "python3", "-c"),
    ];
    let mut count = 0;
    for (language, program, option) in programs {
        let blocks = blocks(&page);
        let is_publishing = |it: &&(&str, String)| it.0 == language && it.1.contains("/publish?");
        let (_, text) = blocks.iter().find(is_publishing).unwrap();
        if has(program) {
            let text = session.with_own_names(text);
            let output = Command::new(program).args([option, &text]).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{language}: {output:?}");
            count += 1;
        }
    }
    let mut http = Http::new(session.server.connect());
    let (_, answer) = http.request("GET", "/poll?topic=chat&since=earliest", b"");
    assert_eq!(
        answer.matches(r#""data":"hello""#).count(),
        count,
        "{answer}"
    );
}

#[test]
fn a_shell_makes_a_token_as_the_reference_does() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let page = read_page("docs/hub.md");
    let start = "WATERWHEEL_TOKEN_SECRET=$(openssl rand -hex 32) waterwheel --topic";
    assert!(
        page.contains(start),
        "the page says how the program is started"
    );
    let mut session = Session::start(&["--topic", "private.*=private"]);
    let blocks = blocks(&page);
    let (_, script) = blocks.iter().find(|it| it.0 == "sh").unwrap();
    let (token, listen) = script.split_once("curl -N").unwrap();
    let token = format!("WATERWHEEL_TOKEN_SECRET='{SECRET}'\n{token}\n");
    let expected = "id: 660c4b754ebd6:0\n\nid: 660c4b754ebd6:1\ndata: hello\n\n";
    session.run(&format!("{token}curl -N{listen}"), expected);
    let publish = "curl -d hello -H \"Authorization: Bearer $token\" 'http://127.0.0.1:8080/publish?topic=private.ann'";
    let answer = "{\"id\":\"660c4b754ebd6:1\",\"delivered\":1}\n";
    session.run(&format!("{token}\n{publish}"), answer);
    session.end();
}
