//! Answers with files: ranges, conditions, paths of attackers, slow clients, and files that change meanwhile.

#[path = "support/answer.rs"]
mod answer;
#[allow(dead_code, reason = "a whole program, whose `main` is not called here")]
#[path = "../examples/files.rs"]
mod example;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, UNIX_EPOCH};

use answer::{Answer, answer, answers, answers_to, get, post};
use waterwheel::{
    Address, Config, FilesOptions, Reactor, Remote, Reply, Sent, Sim, SimStream, Stats, Status,
};

/// The most that the server reads of a file at a time, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// A folder of one test. It is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("waterwheel-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("public/docs/empty")).unwrap();
        let folder = Folder(path);
        folder.write("public/digits.txt", b"0123456789");
        folder.write("public/empty.txt", b"");
        folder.write("public/docs/index.html", b"<h1>docs</h1>");
        folder.write("public/docs/a b+c%.txt", b"strange");
        folder.write("public/.hidden", b"hidden");
        folder.write("public/.well-known/security.txt", b"contact");
        folder.write("secret.txt", b"secret");
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // In the past, so that the entity tag is a strong one.
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(784_111_777))
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn public(&self) -> PathBuf {
        self.path("public")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve_with(config: Config, options: impl Into<FilesOptions>) -> Sim<()> {
    let options = options.into();
    Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/", |request| request.reply("home"));
            http.files("/static", options);
        })
    })
}

fn serve(folder: &Folder) -> Sim<()> {
    serve_with(Config::default(), folder.public())
}

/// Everything that comes until nothing more does.
fn read_all<S: 'static>(sim: &mut Sim<S>, stream: &SimStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        sim.settle();
        let more = stream.read();
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}

/// The answers to these requests, on one connection.
fn exchange<S: 'static>(sim: &mut Sim<S>, requests: &str) -> Vec<u8> {
    let stream = sim.connect();
    stream.write(requests);
    read_all(sim, &stream)
}

fn request<S: 'static>(sim: &mut Sim<S>, target: &str, headers: &str) -> Answer {
    let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    answer(&exchange(sim, &head))
}

#[test]
fn a_file_with_its_type_length_and_validators() {
    let folder = Folder::new("whole");
    let options = FilesOptions::new(folder.public()).header("Cache-Control", "max-age=60");
    let mut sim = serve_with(Config::default(), options);
    let answer = request(&mut sim, "/static/digits.txt", "");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    for (name, expected) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "10"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-ranges", "bytes"),
        ("cache-control", "max-age=60"),
    ] {
        assert_eq!(answer.header(name), Some(expected), "{name}");
    }
    let tag = answer.header("etag").unwrap();
    assert!(tag.starts_with('"'), "{tag}");
    assert!(answer.header("date").is_some() && !answer.closes());
    let again = request(&mut sim, "/static/digits.txt?version=2", "");
    assert_eq!(again.header("etag"), Some(tag));
    let empty = request(&mut sim, "/static/empty.txt", "");
    assert_eq!(
        (empty.status, empty.header("content-length")),
        (200, Some("0"))
    );
}

#[test]
fn conditions_and_ranges() {
    let folder = Folder::new("conditions");
    let options = FilesOptions::new(folder.public()).header("Cache-Control", "max-age=60");
    let mut sim = serve_with(Config::default(), options);
    let tag = request(&mut sim, "/static/digits.txt", "")
        .header("etag")
        .unwrap()
        .to_owned();
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let cases: &[(String, u16, &str, Option<&str>)] = &[
        (format!("If-None-Match: {tag}\r\n"), 304, "", None),
        (format!("If-None-Match: W/{tag}, \"x\"\r\n"), 304, "", None),
        ("If-None-Match: \"x\"\r\n".into(), 200, "0123456789", None),
        (format!("If-Modified-Since: {modified}\r\n"), 304, "", None),
        (
            "If-Match: \"x\"\r\n".into(),
            412,
            "412 Precondition Failed\n",
            None,
        ),
        (
            "If-Unmodified-Since: Sat, 05 Nov 1994 08:49:37 GMT\r\n".into(),
            412,
            "412 Precondition Failed\n",
            None,
        ),
        (
            "Range: bytes=2-4\r\n".into(),
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        (
            "Range: bytes=7-\r\n".into(),
            206,
            "789",
            Some("bytes 7-9/10"),
        ),
        (
            "Range: bytes=-2\r\n".into(),
            206,
            "89",
            Some("bytes 8-9/10"),
        ),
        (
            "Range: bytes=0-99999999999999999999999\r\n".into(),
            206,
            "0123456789",
            Some("bytes 0-9/10"),
        ),
        (
            "Range: bytes=10-\r\n".into(),
            416,
            "416 Range Not Satisfiable\n",
            Some("bytes */10"),
        ),
        ("Range: bytes=0-1,4-5\r\n".into(), 200, "0123456789", None),
        ("Range: chapters=1\r\n".into(), 200, "0123456789", None),
        (
            format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"),
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        (
            format!("Range: bytes=2-4\r\nIf-Range: {modified}\r\n"),
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        (
            "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".into(),
            200,
            "0123456789",
            None,
        ),
        (
            format!("Range: bytes=2-4\r\nIf-None-Match: {tag}\r\n"),
            304,
            "",
            None,
        ),
    ];
    for (headers, status, body, range) in cases {
        let answer = request(&mut sim, "/static/digits.txt", headers);
        assert_eq!(
            (answer.status, answer.text()),
            (*status, *body),
            "{headers}"
        );
        assert_eq!(answer.header("content-range"), *range, "{headers}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()), "{headers}");
        let has_options = matches!(status, 200 | 206 | 304);
        assert_eq!(
            answer.header("cache-control").is_some(),
            has_options,
            "{headers}"
        );
        assert!(!answer.closes(), "{headers}");
    }
}

#[test]
fn a_tag_changes_with_the_file() {
    let folder = Folder::new("tags");
    let mut sim = serve(&folder);
    let tag = |sim: &mut Sim<()>| {
        let answer = request(sim, "/static/digits.txt", "");
        answer.header("etag").unwrap().to_owned()
    };
    let first = tag(&mut sim);
    // Length and time are the same, but it is another file.
    folder.write("other.txt", b"abcdefghij");
    fs::rename(folder.path("other.txt"), folder.path("public/digits.txt")).unwrap();
    let second = tag(&mut sim);
    assert_ne!(first, second);
    fs::write(folder.path("public/digits.txt"), b"ABCDEFGHIJ").unwrap();
    let third = tag(&mut sim);
    assert!(
        third.starts_with("W/") && !third.contains(&second),
        "{third}"
    );
    // A date would be that of the next change in the same second too.
    let fresh = request(&mut sim, "/static/digits.txt", "");
    assert_eq!(fresh.header("last-modified"), None);
}

#[test]
fn the_answer_to_head_has_no_body() {
    let folder = Folder::new("head");
    let mut sim = serve(&folder);
    let head =
        |target: &str, headers: &str| format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    let requests = [
        head("/static/digits.txt", ""),
        head("/static/digits.txt", "Range: bytes=2-4\r\n"),
        head("/static/missing", ""),
        head("/static/docs", ""),
        head("/static/empty.txt", ""),
        get("/static/digits.txt"),
    ];
    let bytes = exchange(&mut sim, &requests.concat());
    let methods = ["HEAD", "HEAD", "HEAD", "HEAD", "HEAD", "GET"];
    let answers = answers_to(&methods, &bytes);
    let facts: Vec<_> = answers
        .iter()
        .map(|answer| {
            (
                answer.status,
                answer.header("content-length").unwrap(),
                answer.text(),
            )
        })
        .collect();
    let expected = [
        (200, "10", ""),
        (200, "10", ""),
        (404, "14", ""),
        (301, "22", ""),
        (200, "0", ""),
        (200, "10", "0123456789"),
    ];
    assert_eq!(facts, expected);
}

#[test]
fn index_files_and_the_slash_of_a_folder() {
    let folder = Folder::new("index");
    let mut sim = serve(&folder);
    for (target, status, location) in [
        ("/static/docs/", 200, None),
        ("/static/docs", 301, Some("/static/docs/")),
        ("/static/docs?a=b", 301, Some("/static/docs/?a=b")),
        ("/static/docs/empty", 301, Some("/static/docs/empty/")),
        ("/static/docs/empty/", 404, None),
        ("/static", 301, Some("/static/")),
        ("/static/", 404, None),
        ("/static/digits.txt/", 404, None),
        ("/static/docs/index.html", 200, None),
        ("http://other/static/docs", 301, Some("/static/docs/")),
    ] {
        let answer = request(&mut sim, target, "");
        assert_eq!(
            (answer.status, answer.header("location")),
            (status, location),
            "{target}"
        );
        if status == 200 {
            assert_eq!(answer.text(), "<h1>docs</h1>");
            assert_eq!(
                answer.header("content-type"),
                Some("text/html; charset=utf-8")
            );
        }
    }
    let options = FilesOptions::new(folder.public()).without_index();
    let mut sim = serve_with(Config::default(), options);
    assert_eq!(request(&mut sim, "/static/docs/", "").status, 404);
    let options = FilesOptions::new(folder.public()).index("digits.txt");
    let mut sim = serve_with(Config::default(), options);
    assert_eq!(request(&mut sim, "/static/", "").text(), "0123456789");
}

#[test]
fn paths_of_attackers() {
    let folder = Folder::new("attackers");
    let mut sim = serve(&folder);
    for target in [
        "/static/../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/docs/../../secret.txt",
        "/static/docs/%2e%2e/digits.txt",
        "/static/./digits.txt",
        "/static//digits.txt",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/..%5csecret.txt",
        "/static/digits.txt%00",
        "/static/digits.txt%00.png",
        "/static/digits%2etxt%20",
        "/static/..%c0%afsecret.txt",
        "/static/%252e%252e/secret.txt",
        "/static/.hidden",
        "/static/%2ehidden",
        "/static/.well-known/../.hidden",
        "/static/.well-known/.hidden",
        "/static/%",
        "/static/digits.tx%74%",
    ] {
        let answer = request(&mut sim, target, "");
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.header("etag").is_none(), "{target}");
    }
    let long = format!("/static/{}", "a".repeat(300));
    assert_eq!(request(&mut sim, &long, "").status, 404);
    let deep = format!("/static/{}", "docs/".repeat(1500));
    assert_eq!(request(&mut sim, &deep, "").status, 404);
    for (target, expected) in [
        ("/static/d%69gits.txt", "0123456789"),
        ("/static/docs/a%20b+c%25.txt", "strange"),
        ("/static/.well-known/security.txt", "contact"),
        ("/%73tatic/digits.txt", "0123456789"),
    ] {
        assert_eq!(request(&mut sim, target, "").text(), expected, "{target}");
    }
}

#[test]
fn other_methods_get_405() {
    let folder = Folder::new("methods");
    let mut sim = serve(&folder);
    let bytes = exchange(
        &mut sim,
        &(post("/static/digits.txt", "x") + &get("/static/digits.txt")),
    );
    let answers = answers(&bytes);
    assert_eq!(answers[0].status, 405);
    assert_eq!(answers[0].header("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(answers[1].text(), "0123456789");
}

#[test]
fn pipelined_answers_leave_in_order() {
    let folder = Folder::new("pipelining");
    let large: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|n| (n / 7) as u8).collect();
    folder.write("public/large.bin", &large);
    let mut sim = serve(&folder);
    let targets = [
        "/static/large.bin",
        "/",
        "/static/digits.txt",
        "/static/missing",
        "/static/large.bin",
        "/",
    ];
    let bytes = exchange(&mut sim, &targets.map(get).concat());
    let answers = answers(&bytes);
    let bodies: Vec<&[u8]> = answers.iter().map(|answer| &*answer.body).collect();
    let expected: [&[u8]; 6] = [
        &large,
        b"home",
        b"0123456789",
        b"404 Not Found\n",
        &large,
        b"home",
    ];
    assert!(bodies == expected);
    assert_eq!(
        answers[0].header("content-type"),
        Some("application/octet-stream")
    );
}

#[test]
fn large_files_of_every_length_around_a_piece() {
    let folder = Folder::new("lengths");
    let mut sim = serve(&folder);
    for length in [
        1,
        65_535,
        65_536,
        PIECE_BYTES - 1,
        PIECE_BYTES,
        PIECE_BYTES + 1,
        2 * PIECE_BYTES,
    ] {
        let bytes: Vec<u8> = (0..length).map(|n| (n / 3) as u8).collect();
        folder.write("public/x.bin", &bytes);
        let answer = request(&mut sim, "/static/x.bin", "");
        assert!(answer.is_whole && answer.body == bytes, "{length}");
        let tail = request(&mut sim, "/static/x.bin", "Range: bytes=1-\r\n");
        assert!(tail.is_whole || length == 1, "{length}");
        assert!(length == 1 || tail.body == bytes[1..], "{length}");
    }
}

#[test]
fn a_client_of_http_1_0() {
    let folder = Folder::new("http10");
    folder.write("public/large.bin", &vec![7; 2 * PIECE_BYTES]);
    let mut sim = serve(&folder);
    let bytes = exchange(&mut sim, "GET /static/large.bin HTTP/1.0\r\n\r\n");
    let answer = answer(&bytes);
    assert!(answer.is_whole && answer.closes());
    assert_eq!(answer.body.len(), 2 * PIECE_BYTES);
}

/// A server whose client has read so many pieces of a file of eight.
fn half_sent(folder: &Folder, pieces: usize) -> (Sim<()>, SimStream, Vec<u8>) {
    folder.write("public/large.bin", &vec![b'x'; 8 * PIECE_BYTES]);
    let mut sim = serve(folder);
    let stream = sim.connect();
    stream.write(get("/static/large.bin"));
    let mut bytes = Vec::new();
    while bytes.len() < pieces * PIECE_BYTES {
        sim.settle();
        bytes.extend(stream.read());
    }
    (sim, stream, bytes)
}

#[test]
fn a_file_that_becomes_shorter_ends_the_connection_before_its_length() {
    let folder = Folder::new("shrinks");
    let (mut sim, stream, mut bytes) = half_sent(&folder, 2);
    let file = File::options()
        .write(true)
        .open(folder.path("public/large.bin"))
        .unwrap();
    file.set_len(5 * PIECE_BYTES as u64 + 10).unwrap();
    bytes.extend(read_all(&mut sim, &stream));
    let answer = answer(&bytes);
    assert_eq!(
        answer.header("content-length"),
        Some((8 * PIECE_BYTES).to_string().as_str())
    );
    assert!(!answer.is_whole && stream.is_closed());
    assert_eq!(sim.reactor().stats().files_cut, 1);
    // The loop goes on.
    assert_eq!(request(&mut sim, "/static/digits.txt", "").status, 200);
}

#[test]
fn a_file_that_grows_is_sent_with_the_length_that_it_had() {
    let folder = Folder::new("grows");
    let (mut sim, stream, mut bytes) = half_sent(&folder, 2);
    let mut file = File::options()
        .append(true)
        .open(folder.path("public/large.bin"))
        .unwrap();
    file.write_all(&vec![b'y'; PIECE_BYTES]).unwrap();
    stream.write(get("/"));
    bytes.extend(read_all(&mut sim, &stream));
    let answers = answers(&bytes);
    assert!(answers[0].is_whole && answers[0].body == vec![b'x'; 8 * PIECE_BYTES]);
    assert_eq!(answers[1].text(), "home");
}

#[test]
fn a_file_that_is_replaced_or_removed_is_sent_as_it_was() {
    let folder = Folder::new("replaced");
    let (mut sim, stream, mut bytes) = half_sent(&folder, 2);
    folder.write("new.bin", b"new");
    fs::rename(folder.path("new.bin"), folder.path("public/large.bin")).unwrap();
    bytes.extend(read_all(&mut sim, &stream));
    assert!(answer(&bytes).body == vec![b'x'; 8 * PIECE_BYTES]);
    assert_eq!(request(&mut sim, "/static/large.bin", "").text(), "new");
}

#[test]
fn a_slow_client_costs_its_queue_and_one_piece() {
    let folder = Folder::new("slow");
    let file = File::create(folder.path("public/sparse.bin")).unwrap();
    file.set_len(10_000_000_000).unwrap();
    drop(file);
    let mut sim = serve(&folder);
    let clients: Vec<SimStream> = (0..10).map(|_| sim.connect()).collect();
    for client in &clients {
        client.write(get("/static/sparse.bin"));
    }
    for round in 0..200 {
        sim.settle();
        // The low watermark, a piece, and what a connection costs by itself.
        let most = clients.len() * (2 * PIECE_BYTES + 16 * 1024);
        let held = sim.reactor().memory_bytes();
        assert!(held <= most, "round {round}: {held} bytes");
        for client in clients.iter().step_by(1 + round % 3) {
            client.read();
        }
    }
    assert!(10 * 50 * 64 * 1024 < sim.reactor().stats().sent_bytes);
    drop(clients);
    sim.settle();
    assert_eq!(sim.reactor().gauges().connections, Default::default());
    assert_eq!(open_files(&folder), 0);
}

/// How many descriptors of this process are files of the folder.
fn open_files(folder: &Folder) -> usize {
    #[cfg(target_os = "linux")]
    {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap();
        descriptors
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with(&folder.0))
            .count()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        0
    }
}

#[test]
fn a_client_that_goes_leaves_no_file_open() {
    let folder = Folder::new("gone");
    for pieces in [0, 1, 3] {
        let (mut sim, stream, _) = half_sent(&folder, pieces);
        stream.reset();
        sim.settle();
        assert_eq!(open_files(&folder), 0, "after {pieces} pieces");
        assert_eq!(request(&mut sim, "/static/digits.txt", "").status, 200);
    }
    // Gone in the turn of its request, while the file is about to be opened.
    let mut sim = serve(&folder);
    let stream = sim.connect();
    stream.write(get("/static/large.bin"));
    sim.turn();
    stream.reset();
    sim.settle();
    assert_eq!(open_files(&folder), 0);
}

#[test]
fn a_loop_that_stops_leaves_no_file_open() {
    let folder = Folder::new("stop");
    let (mut sim, stream, _) = half_sent(&folder, 1);
    if cfg!(target_os = "linux") {
        assert_eq!(open_files(&folder), 1);
    }
    sim.reactor().stop();
    sim.settle();
    drop(sim);
    drop(stream);
    assert_eq!(open_files(&folder), 0);
}

#[test]
fn a_loop_that_drains_sends_the_rest_of_a_file() {
    let folder = Folder::new("drain");
    let (mut sim, stream, mut bytes) = half_sent(&folder, 2);
    sim.reactor().drain(Duration::ZERO);
    bytes.extend(read_all(&mut sim, &stream));
    assert!(answer(&bytes).is_whole && stream.is_closed());
    stream.close();
    sim.settle();
    assert!(!sim.is_running());
}

#[test]
fn one_file_too_many_gets_503() {
    let folder = Folder::new("many");
    folder.write("public/large.bin", &vec![b'x'; 8 * PIECE_BYTES]);
    let config = Config {
        open_files_max: 2,
        ..Config::default()
    };
    let mut sim = serve_with(config, folder.public());
    let slow: Vec<SimStream> = (0..2).map(|_| sim.connect()).collect();
    for client in &slow {
        client.write(get("/static/large.bin"));
    }
    sim.settle();
    let answer = request(&mut sim, "/static/large.bin", "");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(!answer.closes());
    assert_eq!(sim.reactor().stats().file_refusals, 1);
    // A short file is not kept open, so that slow clients cannot keep others from it.
    assert_eq!(request(&mut sim, "/static/digits.txt", "").status, 200);
    if cfg!(target_os = "linux") {
        assert_eq!(open_files(&folder), 2);
    }
    let bytes = read_all(&mut sim, &slow[0]);
    assert!(answer::answer(&bytes).is_whole);
    assert_eq!(request(&mut sim, "/static/large.bin", "").status, 200);
}

#[test]
fn a_request_for_a_file_gets_503_when_many_wait() {
    let folder = Folder::new("waiting");
    let config = Config {
        open_files_max: 2,
        ..Config::default()
    };
    let mut sim = serve_with(config, folder.public());
    // 16 operations are under way at a time.
    let clients: Vec<SimStream> = (0..20).map(|_| sim.connect()).collect();
    for client in &clients {
        client.write(get("/static/digits.txt"));
    }
    sim.settle();
    let answers: Vec<_> = clients.iter().map(|it| answer(&it.read())).collect();
    let count = |status| answers.iter().filter(|it| it.status == status).count();
    assert_eq!((count(200), count(503)), (18, 2));
    assert_eq!(answers[19].header("retry-after"), Some("1"));
    assert_eq!(sim.reactor().stats().file_refusals, 2);
}

#[test]
fn a_panic_behind_a_file_ends_its_connection_and_no_other_file_waits_for_it() {
    let folder = Folder::new("panics");
    let public = folder.public();
    let mut sim = Sim::new((), move |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |http| {
            http.after_reply(|_| panic!("by the test"));
            http.files("/static", public);
        })
    });
    sim.catch_panics(true);
    // More than are under way at a time.
    let clients: Vec<SimStream> = (0..40).map(|_| sim.connect()).collect();
    for client in &clients {
        client.write(get("/static/digits.txt"));
    }
    sim.settle();
    for client in &clients {
        let answer = client.read_text();
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_reply_may_be_a_file() {
    let folder = Folder::new("reply");
    let (digits, missing) = (folder.path("public/digits.txt"), folder.path("missing"));
    let page = folder.path("public/docs/index.html");
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |http| {
            let path = digits.clone();
            http.get("/digits", move |request| {
                let file = Reply::file(path.as_path()).content_type("application/x-digits");
                request.reply(file.header("Content-Disposition", "attachment"))
            });
            http.get("/missing", move |request| {
                request.reply(Reply::file(missing.as_path()))
            });
            http.get("/folder", move |request| {
                request.reply(Reply::file(std::env::temp_dir()))
            });
            let error = Reply::file(page.as_path()).status(Status::NOT_FOUND);
            http.get("/error", move |request| request.reply(error.clone()));
            http.get("/returned", move |_| {
                Err::<(), _>(Reply::file(page.as_path()).status(Status::CONFLICT))
            });
            let path = digits.clone();
            http.get("/later", move |request| {
                let responder = request.reply_later();
                let path = path.clone();
                request
                    .reactor
                    .next_tick(move |cx| cx.reactor.reply(responder, Reply::file(path.as_path())));
            });
            http.post("/digits", move |request| {
                request.reply(Reply::file(digits.as_path()))
            });
        })
    });
    let answer = request(&mut sim, "/digits", "Range: bytes=-3\r\n");
    assert_eq!((answer.status, answer.text()), (206, "789"));
    assert_eq!(answer.header("content-type"), Some("application/x-digits"));
    assert_eq!(answer.header("content-disposition"), Some("attachment"));
    let tag = answer.header("etag").unwrap();
    let known = format!("If-None-Match: {tag}\r\n");
    assert_eq!(request(&mut sim, "/digits", &known).status, 304);
    assert_eq!(request(&mut sim, "/missing", "").status, 404);
    assert_eq!(request(&mut sim, "/folder", "").status, 404);
    // An error page is sent whole, whatever the client has.
    let error = request(
        &mut sim,
        "/error",
        "Range: bytes=0-1\r\nIf-None-Match: *\r\n",
    );
    assert_eq!((error.status, error.text()), (404, "<h1>docs</h1>"));
    assert_eq!(
        error.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let returned = request(&mut sim, "/returned", "");
    assert_eq!((returned.status, returned.text()), (409, "<h1>docs</h1>"));
    assert_eq!(request(&mut sim, "/later", &known).text(), "0123456789");
    let posted = answers(&exchange(&mut sim, &post("/digits", "x")));
    assert_eq!(posted[0].text(), "0123456789");
}

#[test]
fn a_file_is_the_answer_from_the_moment_at_which_it_is_given() {
    let folder = Folder::new("once");
    let path = folder.path("public/digits.txt");
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<bool>>| {
        reactor.http("0.0.0.0:80", |http| {
            let file = Reply::file(path.as_path());
            let first = file.clone();
            http.get("/later", move |request| {
                let responder = request.reply_later();
                for reply in [first.clone(), "second".into(), first.clone()] {
                    let sent = request.reactor.reply(responder, reply);
                    request.state.push(sent == Sent::Queued);
                }
            });
            http.get("/error", move |request| {
                request.reply(file.clone());
                Err::<(), _>("too late")
            });
            http.get("/body", |request| {
                request.reply(Reply::file("missing").body("a text"))
            });
        })
    });
    assert_eq!(request(&mut sim, "/later", "").text(), "0123456789");
    assert_eq!(*sim.state(), [true, false, false]);
    assert_eq!(request(&mut sim, "/error", "").text(), "0123456789");
    assert_eq!(sim.reactor().stats().callback_errors, 1);
    assert_eq!(request(&mut sim, "/body", "").text(), "a text");
}

#[test]
fn a_client_that_goes_before_its_file_is_opened_had_its_answer() {
    let folder = Folder::new("on-gone");
    let path = folder.path("public/digits.txt");
    let mut sim = Sim::new(Vec::new(), |reactor: &mut Reactor<Vec<&str>>| {
        reactor.http("0.0.0.0:80", |http| {
            http.get("/file", move |request| {
                let responder = request.reply_later();
                let reactor = &mut *request.reactor;
                reactor.on_gone(responder, |cx, _| cx.state.push("gone"));
                reactor.on_close(responder.id(), |cx, _| cx.state.push("closed"));
                reactor.reply(responder, Reply::file(path.as_path()));
                reactor.reset(responder.id());
            });
        })
    });
    exchange(&mut sim, &get("/file"));
    assert_eq!(*sim.state(), ["closed"]);
}

#[test]
fn a_guard_may_refuse_with_a_file() {
    let folder = Folder::new("guard");
    let page = folder.path("public/docs/index.html");
    let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
        reactor.http("0.0.0.0:80", |http| {
            http.guard(move |_| Err(Reply::file(page.as_path()).status(Status::UNAUTHORIZED)));
        })
    });
    let bytes = exchange(&mut sim, &(get("/a") + &get("/b")));
    let answers = answers(&bytes);
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (401, "<h1>docs</h1>"));
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_of_the_setup() {
    let setup = |path: &str, folder: &Path| {
        let (path, folder) = (path.to_owned(), folder.to_owned());
        let result = std::panic::catch_unwind(|| {
            Sim::new((), move |reactor: &mut Reactor<()>| {
                let error = reactor.http("0.0.0.0:80", |http| http.files(&path, folder));
                let error = error.map(|_| ()).map_err(|error| error.to_string());
                std::panic::resume_unwind(Box::new(error));
                #[allow(unreachable_code, reason = "the type of a setup")]
                std::io::Result::Ok(())
            })
        });
        let Err(outcome) = result else { unreachable!() };
        *outcome.downcast::<Result<(), String>>().unwrap()
    };
    let folder = Folder::new("setup");
    assert_eq!(setup("/static", &folder.public()), Ok(()));
    assert_eq!(setup("/", &folder.public()), Ok(()));
    for (path, name, expected) in [
        ("/static", "missing", "missing: "),
        ("/static", "public/digits.txt", "digits.txt: "),
        ("/:tenant", "public", "cannot have parameters"),
        ("/static/*", "public", "cannot have parameters"),
    ] {
        let error = setup(path, &folder.path(name)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

// ── with a kernel ────────────────────────────────────────────────────────────────────────────

/// After this long a test gives up. It guards against a hang and asserts no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example, in a thread of its own.
struct Server {
    remote: Remote<()>,
    address: SocketAddr,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(config: Config, folder: &Folder) -> Server {
        let (sender, receiver) = mpsc::channel();
        let public = folder.public().to_str().unwrap().to_owned();
        let thread = thread::spawn(move || {
            Reactor::run_with(config, (), |reactor| {
                let address = example::setup(reactor, "127.0.0.1:0", &public)?;
                sender.send((reactor.remote(), address)).unwrap();
                std::io::Result::Ok(())
            })
        });
        let (remote, address) = receiver.recv_timeout(PATIENCE).unwrap();
        let Some(Address::Inet(address)) = address else {
            panic!("{address:?}");
        };
        Server {
            remote,
            address,
            thread,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn stats(&self) -> Stats {
        let (sender, receiver) = mpsc::channel();
        let ask = self.remote.run(move |cx| {
            let _ = sender.send(cx.reactor.stats().clone());
        });
        ask.unwrap();
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    fn memory_bytes(&self) -> usize {
        let (sender, receiver) = mpsc::channel();
        let ask = self.remote.run(move |cx| {
            let _ = sender.send(cx.reactor.memory_bytes());
        });
        ask.unwrap();
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    fn stop(self) {
        let _ = self.remote.run(|cx| cx.reactor.stop());
        self.thread.join().unwrap().unwrap();
    }

    /// The output of curl. A test without curl is skipped; in CI it fails instead.
    fn curl(&self, target: &str, words: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60"])
            .args(words)
            .arg(format!("http://{}{target}", self.address))
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else {
            assert!(std::env::var_os("CI").is_none(), "curl is not installed");
            return None;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        Some(output.stdout)
    }
}

#[test]
fn curl_fetches_resumes_and_asks_for_what_is_new() {
    let folder = Folder::new("curl");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 5) as u8).collect();
    folder.write("public/large.bin", &large);
    let server = Server::start(Config::default(), &folder);
    let Some(whole) = server.curl("/large.bin", &[]) else {
        return server.stop();
    };
    assert!(whole == large);
    let curl = |target: &str, words: &[&str]| server.curl(target, words).unwrap();
    let text = |target: &str, words: &[&str]| String::from_utf8(curl(target, words)).unwrap();
    let status = ["--write-out", "\n%{http_code}"];
    let with_status = |target: &str, words: &[&str]| text(target, &[words, &status].concat());
    assert_eq!(with_status("/digits.txt", &["--range", "3-5"]), "345\n206");
    assert_eq!(with_status("/digits.txt", &["--range", "-3"]), "789\n206");
    assert!(with_status("/digits.txt", &["--range", "10-"]).ends_with("\n416"));
    assert_eq!(
        with_status("/digits.txt", &["--range", "0-1,3-4"]),
        "0123456789\n200"
    );
    let newer = ["--time-cond", "Sun, 06 Nov 1994 08:49:37 GMT"];
    assert_eq!(with_status("/digits.txt", &newer), "\n304");
    let older = ["--time-cond", "Sun, 06 Nov 1994 08:49:36 GMT"];
    assert_eq!(with_status("/digits.txt", &older), "0123456789\n200");
    assert!(with_status("/digits.txt", &["--data", "x"]).ends_with("\n405"));
    assert_eq!(text("/docs", &["--location"]), "<h1>docs</h1>");
    let climbing = ["--path-as-is"];
    assert!(with_status("/../secret.txt", &climbing).ends_with("\n404"));
    assert!(with_status("/docs/%2e%2e/%2e%2e/secret.txt", &climbing).ends_with("\n404"));
    let head = text("/large.bin", &["--head"]).to_lowercase();
    assert!(head.contains("content-length: 3000000\r\n"), "{head}");
    assert!(head.contains("cache-control: no-cache\r\n"), "{head}");
    // A download that was interrupted goes on.
    let part = folder.path("part.bin");
    fs::write(&part, &large[..1_234_567]).unwrap();
    curl(
        "/large.bin",
        &["--continue-at", "-", "--output", part.to_str().unwrap()],
    );
    assert!(fs::read(&part).unwrap() == large);
    // The tag of an earlier answer.
    let tags = folder.path("tags");
    let tags = tags.to_str().unwrap();
    assert_eq!(text("/digits.txt", &["--etag-save", tags]), "0123456789");
    assert_eq!(
        with_status("/digits.txt", &["--etag-compare", tags]),
        "\n304"
    );
    let download = curl("/download", &[]);
    assert!(download == fs::read(std::env::current_exe().unwrap()).unwrap());
    assert_eq!(open_files(&folder), 0);
    server.stop();
}

#[test]
fn a_gigabyte_to_a_client_that_stops_and_goes_in_flat_memory() {
    let folder = Folder::new("gigabyte");
    let file = File::create(folder.path("public/sparse.bin")).unwrap();
    file.set_len(10_000_000_000).unwrap();
    drop(file);
    let server = Server::start(Config::default(), &folder);
    let mut stream = server.connect();
    stream.write_all(get("/sparse.bin").as_bytes()).unwrap();
    let mut buffer = vec![0; 1024 * 1024];
    let mut received = 0;
    while received < 1_000_000_000 {
        let before = received;
        // Sixteen megabytes, and then a look at the server while the client reads nothing.
        while received < before + 16_000_000 {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            received += count;
        }
        let held = server.memory_bytes();
        assert!(held <= 3 * PIECE_BYTES, "{held} bytes after {received}");
    }
    // The client cancels.
    drop(stream);
    while server.stats().closed == 0 {
        thread::yield_now();
    }
    server.stop();
    // A read that was under way goes on in its thread.
    while open_files(&folder) != 0 {
        thread::yield_now();
    }
}

#[test]
fn many_clients_get_the_right_bytes_and_leave_nothing_open() {
    let folder = Folder::new("clients");
    let large: Vec<u8> = (0..1_500_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    folder.write("public/large.bin", &large);
    let server = Server::start(Config::default(), &folder);
    thread::scope(|scope| {
        for client in 0..20 {
            let (server, large) = (&server, &large);
            scope.spawn(move || {
                let mut stream = server.connect();
                let head = "Connection: close\r\n\r\n";
                let first =
                    format!("GET /large.bin HTTP/1.1\r\nHost: h\r\nRange: bytes={client}-\r\n\r\n");
                let last = format!("GET /large.bin HTTP/1.1\r\nHost: h\r\n{head}");
                stream
                    .write_all((first + &get("/digits.txt") + &last).as_bytes())
                    .unwrap();
                if client % 4 == 3 {
                    // This one goes in the middle.
                    stream.read_exact(&mut [0; 300_000]).unwrap();
                    return;
                }
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                let answers = answers(&bytes);
                assert!(answers[0].body == large[client..]);
                assert_eq!(answers[1].text(), "0123456789");
                assert!(answers[2].body == *large);
            });
        }
    });
    while server.stats().closed != 20 {
        thread::yield_now();
    }
    // A read that was under way when its client left has ended too.
    while open_files(&folder) != 0 {
        thread::yield_now();
    }
    assert_eq!(server.stats().file_refusals, 0);
    server.stop();
}

// A file that is written in place while it is sent is no news to a client, unless it became shorter.
#[test]
fn a_client_notices_a_file_that_became_shorter() {
    let folder = Folder::new("cut");
    folder.write("public/large.bin", &vec![b'x'; 40 * PIECE_BYTES]);
    let server = Server::start(Config::default(), &folder);
    let mut stream = server.connect();
    stream.write_all(get("/large.bin").as_bytes()).unwrap();
    let mut bytes = vec![0; PIECE_BYTES];
    stream.read_exact(&mut bytes).unwrap();
    let file = File::options()
        .write(true)
        .open(folder.path("public/large.bin"))
        .unwrap();
    file.set_len(0).unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(!answer(&bytes).is_whole);
    assert_eq!(server.stats().files_cut, 1);
    server.stop();
}

/// Set in the process of [`out_of_descriptors_gets_503`] that has few of them.
#[cfg(unix)]
const FEW_DESCRIPTORS: &str = "WATERWHEEL_TEST_FEW_DESCRIPTORS";

#[cfg(unix)]
#[test]
fn out_of_descriptors_gets_503() {
    if std::env::var_os(FEW_DESCRIPTORS).is_none() {
        let script = "ulimit -n 64 && exec \"$0\" --exact out_of_descriptors_gets_503";
        let status = Command::new("bash")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(FEW_DESCRIPTORS, "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let folder = Folder::new("descriptors");
    let mut sim = serve(&folder);
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let busy = request(&mut sim, "/static/digits.txt", "");
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")));
    assert_eq!(sim.reactor().stats().file_refusals, 1);
    // One is enough for the folder, and not for the file.
    taken.pop();
    assert_eq!(request(&mut sim, "/static/digits.txt", "").status, 503);
    taken.pop();
    assert_eq!(request(&mut sim, "/static/digits.txt", "").status, 200);
}
