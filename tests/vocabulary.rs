//! The words of this repository, held against the tables below.
//!
//! One word means one thing, in the field's own sense. Names that had two meanings, or that a reader would
//! have to guess, are listed here with the name to use instead. Comments are checked for the commonest
//! sign of a riddle, a sentence that begins with a pronoun instead of a thing, and for citations of lists
//! that are not in the repository.

mod source;

use source::{Comment, Source, Token, files, sources};

/// A name or a pattern of names that a rule bans.
enum Ban {
    /// A whole identifier.
    Name(&'static str),
    /// A word of an identifier: `close` in `on_close`, `CloseCause`, `CLOSE_BYTES_MAX`.
    Word(&'static str),
    /// The definition of a function, type or constant by this keyword with this name.
    Definition(&'static str, &'static str),
    /// The definition of a function whose name begins so.
    FunctionPrefix(&'static str),
}
use Ban::{Definition, FunctionPrefix, Name, Word};

struct Rule {
    ban: Ban,
    /// Folders or files that it holds for. All sources where there is none.
    within: &'static [&'static str],
    /// Folders, files or whole identifiers that are exempt.
    except: &'static [&'static str],
    instead: &'static str,
}

const fn ban(ban: Ban, instead: &'static str) -> Rule {
    Rule {
        ban,
        within: &[],
        except: &[],
        instead,
    }
}

impl Rule {
    const fn within(mut self, within: &'static [&'static str]) -> Rule {
        self.within = within;
        self
    }

    const fn except(mut self, except: &'static [&'static str]) -> Rule {
        self.except = except;
        self
    }
}

/// Names of the public API that were replaced before it was frozen.
const RENAMED: &[Rule] = &[
    ban(
        Name("Core"),
        "`Reactor`, what callbacks get; its owner is `EventLoop`",
    ),
    ban(Definition("fn", "core"), "`reactor`").within(&["src"]),
    ban(
        Name("Form"),
        "`WireFormat`; a form is only the body of an HTML form",
    ),
    ban(Name("set_form"), "`set_wire_format`"),
    ban(Name("register_form"), "`register_wire_format`"),
    ban(Name("Options"), "`ConnectionOptions`").except(&["src/bin"]),
    ban(Name("StreamHandlers"), "`StreamCallbacks`"),
    ban(Name("Site"), "`Router`"),
    ban(
        Name("CloseReason"),
        "`CloseCause`; a reason is the text in a close frame",
    ),
    ban(Name("connect_websocket_of"), "`connect_websocket_with`"),
    ban(Word("federation"), "`group`, as in `ReactorGroup`"),
    ban(Name("Seat"), "`GroupSeat`"),
    ban(Name("Behind"), "`Overloaded`"),
    ban(
        Definition("struct", "Gone"),
        "`ReactorEnded`; `Sent::Gone` is for a stale id",
    ),
    ban(Word("seldom"), "`LogLimit`"),
];

/// Names inside the library that say a mood instead of a fact, or that had two meanings.
const COINED: &[Rule] = &[
    ban(
        Name("Tick"),
        "`CoarseTime`; a tick is a closure of `next_tick`",
    ),
    ban(
        Word("tick"),
        "`CoarseTime`, or the unit; a tick is a closure of `next_tick`",
    )
    .within(&[
        "src/reactor/time/coarse.rs",
        "src/reactor/connection",
        "src/session",
    ])
    .except(&["Tick"]),
    ban(
        Word("ticks"),
        "`CoarseTime`, or the unit; a tick is a closure of `next_tick`",
    )
    .within(&[
        "src/reactor/time/coarse.rs",
        "src/reactor/connection",
        "src/session",
    ]),
    ban(
        Word("drained"),
        "`below_low_mark`; to drain is to shut down politely",
    )
    .within(&["src"])
    .except(&["Drained", "is_drained", "src/reactor/drain.rs", "src/bin"]),
    ban(
        Word("backlog"),
        "`queued`; a backlog is the kernel's queue of unaccepted connections",
    )
    .except(&[
        "listen_backlog",
        "src/reactor/config.rs",
        "src/reactor/sim.rs",
        "src/reactor/transport",
        "src/bin/waterwheel/doctor.rs",
    ]),
    ban(
        Name("plain"),
        "the fast path; plain is a grammar of the hub",
    )
    .within(&["src/reactor", "src/session"]),
    ban(Word("unplain"), "`leave_fast_path`"),
    ban(Name("carry"), "`unconsumed`"),
    ban(Name("hand_out"), "`deliver_bytes` or `deliver_message`"),
    ban(Definition("fn", "wait"), "`set_deadline`")
        .within(&["src/reactor", "src/session"])
        .except(&["src/reactor/remote.rs"]),
    ban(Name("wait_for_nothing"), "`clear_deadline`"),
    ban(
        Definition("enum", "Keep"),
        "a name for the policy's input, such as `Droppable`",
    ),
    ban(
        Name("Otherwise"),
        "a variant that says a fact, such as `NotEligible`",
    ),
    ban(
        Name("Not"),
        "a variant that says a fact, such as `NotEligible`",
    )
    .within(&["src"]),
    ban(
        Name("told"),
        "what was said, to whom: `is_notified`, `announced`",
    )
    .within(&["src"]),
    ban(
        Definition("fn", "judge"),
        "what is checked: `check_deadlines`, `count_message`",
    ),
    ban(
        Definition("fn", "tell"),
        "what is reported, to whom: `report_end`, `write_line`",
    ),
    ban(
        Definition("fn", "settle"),
        "one of close, finish, fail, abort, linger, remove",
    )
    .within(&[
        "src/reactor/connection",
        "src/session",
        "src/server",
        "src/client",
    ]),
    ban(
        Name("tell_end"),
        "one of close, finish, fail, abort, linger, remove",
    ),
    ban(
        Name("end_all"),
        "one of close, finish, fail, abort, linger, remove",
    )
    .within(&["src"]),
    ban(
        Name("end_received"),
        "one of close, finish, fail, abort, linger, remove",
    ),
    ban(
        Name("end_race"),
        "one of close, finish, fail, abort, linger, remove",
    ),
];

/// Words that say nothing.
const EMPTY: &[Rule] = &[
    ban(FunctionPrefix("get_"), "the noun alone").except(&["get_mut"]),
    ban(FunctionPrefix("do_"), "the verb alone"),
    ban(Word("manager"), "what it is"),
    ban(Word("helper"), "what it is"),
    ban(Word("helpers"), "what they are"),
    // A module of the crate graviola.
    ban(Word("util"), "what it is").except(&["src/reactor/transport/tls/provider.rs"]),
    ban(Word("utils"), "what they are"),
];

/// Sentences as names of functions, tests above all, that begin without their subject.
const RIDDLES: &[Rule] = &[
    ban(
        FunctionPrefix("who_"),
        "the thing first, as in `an_invalid_url_fails_before_connecting`",
    ),
    ban(FunctionPrefix("whoever_"), "the thing first"),
    ban(FunctionPrefix("what_"), "the thing first"),
    ban(FunctionPrefix("nobody_"), "the thing first"),
    ban(FunctionPrefix("nothing_"), "the thing first"),
    ban(FunctionPrefix("neither_"), "the thing first"),
    ban(FunctionPrefix("such_"), "the thing first"),
];

/// Files that were renamed.
const FILES: [(&str, &str); 3] = [
    (
        "src/server/tcp.rs",
        "src/server/stream.rs: it serves Unix sockets too",
    ),
    (
        "src/client/tcp.rs",
        "src/client/stream.rs: it serves Unix sockets too",
    ),
    ("src/server/site.rs", "src/server/router.rs"),
];

/// Endings that leave the unit of a number open, and endings that say it.
const UNITS: [(&str, &str); 3] = [
    ("_size", "_bytes or _count"),
    ("_len", "_bytes or _count"),
    ("_timeout", "_timeout_ms, or a `Duration`"),
];

const INTEGERS: [&str; 10] = [
    "u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize",
];

const SENTENCE_STARTS: [&str; 8] = [
    "Who", "Whoever", "What", "Nobody", "Nothing", "Neither", "None", "Such",
];

/// Every Rust file, but the benchmarks' peers, which are packages of their own, and this one, which says the banned
/// words.
fn all_sources() -> Vec<Source> {
    let mut all = sources(&["src", "tests", "examples", "benches"]);
    all.retain(|file| {
        !file.path.starts_with("benches/peers/") && file.path != "tests/vocabulary.rs"
    });
    assert!(!all.is_empty());
    all
}

fn assert_none(findings: &[String], rule: &str) {
    assert!(
        findings.is_empty(),
        "{rule}: {} findings\n  {}\n",
        findings.len(),
        findings.join("\n  ")
    );
}

/// The words of an identifier, in lower case.
fn words(identifier: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in identifier.split('_').filter(|part| !part.is_empty()) {
        let letters: Vec<char> = part.chars().collect();
        let mut word = String::new();
        for (index, letter) in letters.iter().enumerate() {
            let after_lower = index
                .checked_sub(1)
                .is_some_and(|before| !letters[before].is_uppercase());
            let before_lower = letters
                .get(index + 1)
                .is_some_and(|next| next.is_lowercase());
            if letter.is_uppercase() && !word.is_empty() && (after_lower || before_lower) {
                words.push(std::mem::take(&mut word));
            }
            word.extend(letter.to_lowercase());
        }
        words.push(word);
    }
    words
}

/// Whether `path` is one of these, or in one of these folders.
fn is_in(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The lines of a file on which a name breaks one of the rules.
fn banned_names(path: &str, tokens: &[Token<'_>], rules: &[Rule]) -> Vec<String> {
    let rules: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.within.is_empty() || is_in(path, rule.within))
        .filter(|rule| !is_in(path, rule.except))
        .collect();
    let mut findings = Vec::new();
    for (index, token) in tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.is_word())
    {
        let before = index
            .checked_sub(1)
            .map_or("", |before| tokens[before].text);
        for rule in &rules {
            let is_banned = match rule.ban {
                Name(name) => token.text == name,
                Word(word) => words(token.text).iter().any(|part| part == word),
                Definition(keyword, name) => before == keyword && token.text == name,
                FunctionPrefix(prefix) => before == "fn" && token.text.starts_with(prefix),
            };
            if is_banned && !rule.except.contains(&token.text) {
                findings.push(format!(
                    "{path}:{}: `{}`; instead: {}",
                    token.line, token.text, rule.instead
                ));
            }
        }
    }
    findings
}

/// The lines on which a field, constant or argument of an integer type hides its unit.
fn hidden_units(path: &str, tokens: &[Token<'_>]) -> Vec<String> {
    let mut findings = Vec::new();
    for three in tokens.windows(3) {
        let [name, colon, kind] = three else { continue };
        if colon.text != ":" || !INTEGERS.contains(&kind.text) {
            continue;
        }
        for (ending, instead) in UNITS {
            if name.text.to_lowercase().ends_with(ending) {
                findings.push(format!(
                    "{path}:{}: `{}: {}` ends in {ending}; instead: {instead}",
                    name.line, name.text, kind.text
                ));
            }
        }
    }
    findings
}

#[test]
fn names_are_those_of_the_vocabulary() {
    let mut findings = Vec::new();
    for file in all_sources() {
        let tokens = file.tokens();
        for rules in [RENAMED, COINED, EMPTY, RIDDLES] {
            findings.extend(banned_names(&file.path, &tokens, rules));
        }
        if let Some((path, instead)) = FILES.iter().find(|(path, _)| *path == file.path) {
            findings.push(format!("{path}; instead: {instead}"));
        }
        let stem = file
            .path
            .rsplit('/')
            .next()
            .unwrap()
            .trim_end_matches(".rs");
        let token = Token {
            line: 0,
            text: stem,
        };
        for rules in [RENAMED, COINED, EMPTY] {
            findings.extend(banned_names(&file.path, &[token], rules));
        }
    }
    assert_none(&findings, "names with one meaning, the field's own");
}

#[test]
fn numbers_end_with_their_unit() {
    let mut findings = Vec::new();
    for file in all_sources() {
        findings.extend(hidden_units(&file.path, &file.tokens()));
    }
    assert_none(&findings, "a number's name ends with its unit");
}

/// A sentence or part of one, with the line that its paragraph begins on.
struct Paragraph {
    line: usize,
    text: String,
}

/// The running text of comments: code, headings and tables are left out.
fn paragraphs_of_comments(comments: &[Comment]) -> Vec<Paragraph> {
    let mut lines = Vec::new();
    let mut last = 0;
    for comment in comments {
        if comment.line != last + 1 || comment.is_after_code {
            lines.push((comment.line, ""));
        }
        lines.push((comment.line, comment.text.as_str()));
        last = comment.line;
    }
    paragraphs(&lines)
}

fn paragraphs(lines: &[(usize, &str)]) -> Vec<Paragraph> {
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    let mut is_code = false;
    let mut is_open = false;
    for (line, text) in lines {
        let text = text.trim();
        if text.starts_with("```") {
            is_code = !is_code;
        }
        let is_skipped = is_code || text.starts_with("```") || text.starts_with(['#', '|', '<']);
        let item = list_item(text);
        if is_skipped || text.is_empty() {
            is_open = false;
        } else if is_open && item.is_none() {
            let paragraph = paragraphs.last_mut().unwrap();
            paragraph.text.push(' ');
            paragraph.text.push_str(text);
        } else {
            paragraphs.push(Paragraph {
                line: *line,
                text: item.unwrap_or(text).to_owned(),
            });
            is_open = true;
        }
    }
    paragraphs
}

/// The text behind `* `, `- ` or `1. `.
fn list_item(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if digits.len() < text.len() {
        return digits.strip_prefix(". ");
    }
    text.strip_prefix("* ").or_else(|| text.strip_prefix("- "))
}

fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (index, mark) in text.match_indices(['.', '!', '?']) {
        let end = index + mark.len();
        let after = text[end..].trim_start_matches([')', '"', '`', '*']);
        if after.starts_with(' ') || after.is_empty() {
            sentences.push(text[start..end].trim());
            start = text.len() - after.len();
        }
    }
    sentences.push(text[start..].trim());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// Sentences that begin with a pronoun. A quotation, code or a question may.
fn riddles(path: &str, paragraphs: &[Paragraph]) -> Vec<String> {
    let mut findings = Vec::new();
    for paragraph in paragraphs {
        for sentence in sentences(&paragraph.text) {
            let first = sentence.trim_start_matches('(');
            let word = first.split(|letter: char| !letter.is_alphanumeric()).next();
            if SENTENCE_STARTS.contains(&word.unwrap_or_default()) && !sentence.ends_with('?') {
                let line = paragraph.line;
                let shown: String = sentence.chars().take(60).collect();
                findings.push(format!("{path}:{line}: {shown}"));
            }
        }
    }
    findings
}

/// `R1`, `C5, C8`, `r03`, `Rule 10`: the reader has no such list. A number of a standard's section is no citation, nor is a
/// code point.
fn citations(path: &str, line: usize, text: &str) -> Vec<String> {
    let parts: Vec<&str> = text
        .split(|letter: char| letter.is_whitespace() || ",;:()/".contains(letter))
        .map(|part| part.trim_matches(['.', '\'']))
        .filter(|part| !part.is_empty())
        .collect();
    let mut findings = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut letters = part.chars();
        let first = letters.next().unwrap_or_default();
        let rest = letters.as_str();
        let is_number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        let is_listed = is_number
            && ("CHKLMOPRSW".contains(first) && rest.len() <= 2 || first == 'r' && rest.len() == 2);
        let next = parts.get(index + 1).copied().unwrap_or_default();
        let is_rule = part.eq_ignore_ascii_case("rule")
            && next.starts_with(|letter: char| letter.is_ascii_digit());
        if is_listed || is_rule {
            let shown = if is_rule {
                format!("{part} {next}")
            } else {
                (*part).to_owned()
            };
            findings.push(format!("{path}:{line}: {shown}"));
        }
    }
    findings
}

/// The guides, with the lines of their text.
fn guides() -> Vec<(String, Vec<Paragraph>)> {
    files(&["README.md", "docs"], &["md"])
        .into_iter()
        .map(|(path, text)| {
            let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
            (path, paragraphs(&lines))
        })
        .collect()
}

#[test]
fn sentences_begin_with_a_thing() {
    let mut findings = Vec::new();
    for file in all_sources() {
        findings.extend(riddles(&file.path, &paragraphs_of_comments(&file.comments)));
    }
    for (path, paragraphs) in guides() {
        findings.extend(riddles(&path, &paragraphs));
    }
    assert_none(
        &findings,
        "the subject of a sentence is a thing, then its verb, then why",
    );
}

#[test]
fn comments_cite_only_what_a_reader_has() {
    let mut findings = Vec::new();
    for file in all_sources() {
        for comment in &file.comments {
            findings.extend(citations(&file.path, comment.line, &comment.text));
        }
    }
    for (path, paragraphs) in guides() {
        for paragraph in paragraphs {
            findings.extend(citations(&path, paragraph.line, &paragraph.text));
        }
    }
    assert_none(
        &findings,
        "a comment says the rule, or cites it by a name that the guide has",
    );
}

mod the_checks {
    use super::*;

    fn names(path: &str, code: &str) -> usize {
        let source = Source::new(path.to_owned(), code.to_owned());
        let tokens = source.tokens();
        [RENAMED, COINED, EMPTY, RIDDLES]
            .iter()
            .map(|rules| banned_names(path, &tokens, rules).len())
            .sum()
    }

    #[test]
    fn identifiers_are_split_into_words() {
        let cases = [
            ("on_close", "on close"),
            ("CloseCause", "close cause"),
            ("BYTES_MAX", "bytes max"),
            ("HTTPHead", "http head"),
            ("Utf8Text", "utf8 text"),
            ("_x", "x"),
        ];
        for (identifier, expected) in cases {
            assert_eq!(words(identifier).join(" "), expected);
        }
    }

    #[test]
    fn each_kind_of_ban_has_its_exceptions() {
        let cases = [
            ("src/a.rs", "struct Core;", 1),
            ("src/a.rs", "struct CoreDump;", 0),
            ("src/a.rs", "// Core\nlet a = \"Core\";", 0),
            ("src/a.rs", "Sent::Gone", 0),
            ("src/a.rs", "struct Gone;", 1),
            ("src/bin/a.rs", "struct Options;", 0),
            ("tests/a.rs", "Options::default()", 1),
            ("src/a.rs", "federation_bytes_max", 1),
            ("src/reactor/time/coarse.rs", "next_tick; Tick", 2),
            ("src/reactor/mod.rs", "next_tick", 0),
            ("src/reactor/config.rs", "backlog", 0),
            ("src/hub/mod.rs", "backlog; listen_backlog", 1),
            (
                "src/a.rs",
                "fn get_name() {} fn get_mut() {} x.get_name()",
                1,
            ),
            ("src/a.rs", "struct PoolManager;", 1),
            ("tests/a.rs", "fn who_comes_waits() {}", 1),
        ];
        for (path, code, expected) in cases {
            assert_eq!(names(path, code), expected, "{path}: {code}");
        }
    }

    #[test]
    fn integers_need_a_unit_and_durations_do_not() {
        let cases = [
            ("read_size: usize", 1),
            ("const READ_SIZE: u64", 1),
            ("idle_timeout: Duration", 0),
            ("idle_timeout: u64", 1),
            ("idle_timeout_ms: u64", 0),
        ];
        for (code, expected) in cases {
            let source = Source::new("src/a.rs".to_owned(), code.to_owned());
            assert_eq!(
                hidden_units("src/a.rs", &source.tokens()).len(),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn a_sentence_is_found_wherever_it_begins() {
        let cases = [
            ("// What is late waits.", 1),
            ("// It waits. Nobody asks.", 1),
            ("// It waits; such is\n// life. (None asks.)", 1),
            ("// It waits\n// What is late.", 0),
            (
                "// It waits.\n//\n// * Nothing is lost\n// * Such is life",
                2,
            ),
            ("// What is late?", 0),
            (
                "// \"What is late\" is a test. `None` is a value. Whatever comes.",
                0,
            ),
            (
                "/// # What is promised\n/// ```\n/// // Nothing.\n/// ```",
                0,
            ),
            ("a(); // Whoever asks", 1),
        ];
        for (text, expected) in cases {
            let source = Source::new("src/a.rs".to_owned(), text.to_owned());
            let paragraphs = paragraphs_of_comments(&source.comments);
            assert_eq!(riddles("src/a.rs", &paragraphs).len(), expected, "{text}");
        }
    }

    #[test]
    fn a_catalogue_is_told_from_a_standard() {
        let cases = [
            ("R1", 1),
            ("C5, C8: the default", 2),
            ("See rule 10.", 1),
            ("as in r03", 1),
            (
                "RFC 6455, section 5.5.1, U+0085, UTF-8, HTTP/1.1, 8 KiB, P256, V8, E",
                0,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(citations("src/a.rs", 1, text).len(), expected, "{text}");
        }
    }
}
