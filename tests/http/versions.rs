//! HTTP/1.0, HEAD, and answers without a body.

use crate::support::{Answer, answer, answers, answers_to, get};
use crate::{HOST, assert_same_when_cut, exchange, server};

#[test]
fn http_1_0_closes_unless_asked_to_stay_and_never_gets_chunks() {
    let mut sim = server();
    let (bytes, is_closed) = exchange(&mut sim, &[b"GET / HTTP/1.0\r\n\r\n"]);
    let closing = answer(&bytes);
    assert_eq!((closing.status, closing.text()), (200, "hello"));
    assert!(closing.closes() && is_closed);

    let stays = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let (bytes, is_closed) = exchange(&mut sim, &[stays.as_bytes(), stays.as_bytes()]);
    let all = answers(&bytes);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].header("connection"), Some("keep-alive"));
    assert!(!is_closed);
    assert_same_when_cut(&mut sim, "HTTP/1.0", stays.as_bytes());
}

#[test]
fn connection_close_gets_its_answer_and_then_the_end() {
    let mut sim = server();
    for option in ["close", "Close", "x, close"] {
        let request = format!("GET / HTTP/1.1\r\n{HOST}Connection: {option}\r\n\r\n");
        let both = format!("{request}{}", get("/note/late"));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        assert!(answer(&bytes).closes() && is_closed, "{option}");
    }
    assert!(sim.state().lines.is_empty());
}

#[test]
fn head_gets_the_headers_of_get_and_no_body() {
    let mut sim = server();
    let paths = ["/", "/nowhere", "/204", "/304", "/where?a"];
    for path in paths {
        let head = get(path).replacen("GET", "HEAD", 1);
        let both = format!("{head}{}", get(path));
        let (bytes, is_closed) = exchange(&mut sim, &[both.as_bytes()]);
        let all = answers_to(&["HEAD", "GET"], &bytes);
        assert_eq!(all.len(), 2, "{path}");
        let with_body = Answer {
            body: Vec::new(),
            ..all[1].clone()
        };
        let path_is_echoed = path.starts_with("/where");
        assert_eq!(all[0].headers, with_body.headers, "{path}");
        assert_eq!(all[0].status, with_body.status, "{path}");
        assert!(!path_is_echoed || all[0].header("content-length") == Some("8"));
        assert!(!is_closed, "{path}");
        assert_same_when_cut(&mut sim, path, both.as_bytes());
    }
}

// An error behind a HEAD was once answered without its body, but with the body's length.
#[test]
fn a_refusal_behind_a_head_has_its_body() {
    let mut sim = server();
    let head = get("/").replacen("GET", "HEAD", 1);
    let (bytes, _) = exchange(&mut sim, &[head.as_bytes(), b"nonsense\r\n\r\n"]);
    let all = answers_to(&["HEAD"], &bytes);
    assert_eq!((all.len(), all[1].status), (2, 400));
    assert!(all[1].is_whole, "the body that its length promises");
}

#[test]
fn a_status_without_a_body_has_no_length_and_no_body() {
    let mut sim = server();
    for (path, status) in [("/204", 204), ("/304", 304)] {
        let (bytes, _) = exchange(&mut sim, &[get(path).as_bytes(), get("/").as_bytes()]);
        let all = answers(&bytes);
        assert_eq!((all.len(), all[0].status), (2, status));
        for absent in ["content-length", "transfer-encoding", "content-type"] {
            assert_eq!(all[0].header(absent), None, "{path}");
        }
    }
}
