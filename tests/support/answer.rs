//! A strict reader of HTTP answers, which shares no code with the server.

#![allow(dead_code, reason = "each test file uses its own part")]

/// One answer. The body has no framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the whole body has arrived.
    pub is_whole: bool,
    /// The pieces of a body in chunks.
    pub chunks: Vec<Vec<u8>>,
}

impl Answer {
    /// The value of a header. Panics if the header occurs twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// All answers in the bytes of a server. The last one may be incomplete.
///
/// `methods` are those of the requests, in their order. Further requests count as GET.
pub fn answers_to(methods: &[&str], bytes: &[u8]) -> Vec<Answer> {
    let mut methods = methods.iter();
    let mut rest = bytes;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let answer = next_answer(&mut rest, |status| {
            // An interim answer has no body, and the final answer follows.
            status < 200 || methods.next() == Some(&"HEAD")
        });
        answers.push(answer);
    }
    answers
}

/// As [`answers_to`], for requests without a HEAD.
pub fn answers(bytes: &[u8]) -> Vec<Answer> {
    answers_to(&[], bytes)
}

/// The only answer in these bytes.
pub fn answer(bytes: &[u8]) -> Answer {
    let mut all = answers(bytes);
    assert_eq!(all.len(), 1, "{}", String::from_utf8_lossy(bytes));
    all.remove(0)
}

fn next_answer(rest: &mut &[u8], is_head_only: impl FnOnce(u16) -> bool) -> Answer {
    let shown = String::from_utf8_lossy(rest).into_owned();
    let end = find(rest, b"\r\n\r\n").unwrap_or_else(|| panic!("no whole head: {shown:?}"));
    let head = str::from_utf8(&rest[..end]).expect("a head in UTF-8");
    *rest = &rest[end + 4..];
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|line| line.get(..3))
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {shown:?}"));
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            assert!(!line.contains(['\r', '\n']), "{line:?}");
            let (name, value) = line.split_once(": ").expect("a name and a value");
            (name.to_lowercase(), value.to_owned())
        })
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
        is_whole: true,
        chunks: Vec::new(),
    };
    if is_head_only(status) || matches!(status, 204 | 304) {
        return answer;
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        assert_eq!(answer.header("content-length"), None, "{shown:?}");
        answer.is_whole = take_chunks(rest, &mut answer.chunks);
        answer.body = answer.chunks.concat();
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse::<usize>().expect("a length").min(rest.len());
        answer.is_whole = Some(length.to_string().as_str()) == answer.header("content-length");
        let (body, after) = rest.split_at(length);
        answer.body = body.to_vec();
        *rest = after;
    } else {
        assert!(answer.closes(), "a body without an end: {shown:?}");
        answer.body = rest.to_vec();
        *rest = &[];
    }
    answer
}

/// Whether the last chunk has arrived.
fn take_chunks(rest: &mut &[u8], chunks: &mut Vec<Vec<u8>>) -> bool {
    loop {
        let Some(line_end) = find(rest, b"\r\n") else {
            assert!(rest.is_empty(), "half a chunk: {rest:?}");
            return false;
        };
        let digits = str::from_utf8(&rest[..line_end]).expect("a chunk's size");
        let size = usize::from_str_radix(digits, 16).expect("a chunk's size");
        let after = &rest[line_end + 2..];
        assert!(size + 2 <= after.len(), "half a chunk: {rest:?}");
        assert_eq!(&after[size..size + 2], b"\r\n", "behind a chunk");
        *rest = &after[size + 2..];
        if size == 0 {
            return true;
        }
        chunks.push(after[..size].to_vec());
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// A GET of HTTP/1.1 whose connection stays.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A POST of HTTP/1.1 whose connection stays.
pub fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
}
