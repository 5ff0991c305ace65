//! Rust sources as the tests of this repository read them: code without comments and literals, in
//! tokens, and comments without code.
//!
//! A lexer, not a parser: it knows where comments, strings and characters end, and nothing of the
//! grammar. That is enough to read imports, fields and names, and needs no crate.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// From the top of the repository, with `/`.
    pub path: String,
    /// As it was read.
    pub text: String,
    /// With a space for each character of a comment or literal; every line has its place.
    pub code: String,
    /// With a space for each character of a comment; literals are kept.
    pub uncommented: String,
    pub comments: Vec<Comment>,
}

/// A `//` comment to the end of its line, or one line of a `/* */` comment.
pub struct Comment {
    /// From 1.
    pub line: usize,
    /// Without the slashes, and without `!` or the third slash of a doc comment.
    pub text: String,
    /// Whether code stands before it on its line.
    pub is_after_code: bool,
}

/// A word or one character of punctuation. `::`, `->` and `=>` are one token.
#[derive(Clone, Copy, Debug)]
pub struct Token<'s> {
    /// From 1.
    pub line: usize,
    pub text: &'s str,
}

impl Token<'_> {
    pub fn is_word(&self) -> bool {
        self.text
            .starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
    }
}

/// Every Rust file below these folders of the repository, sorted by path. A folder that does not exist has
/// none.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    files(folders, &["rs"])
        .into_iter()
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

/// The path and text of each file with one of these extensions. A folder may also be a file.
pub fn files(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in folders {
        visit(&root.join(folder), &mut paths);
    }
    paths.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    });
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_str().unwrap();
            (path.replace('\\', "/"), text)
        })
        .collect()
}

fn visit(path: &Path, paths: &mut Vec<PathBuf>) {
    if path.is_file() {
        paths.push(path.to_owned());
    } else if path.is_dir() && !path.ends_with("node_modules") {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), paths);
        }
    }
}

impl Source {
    pub fn new(path: String, text: String) -> Source {
        let mut lexer = Lexer::new(&text);
        lexer.run();
        let Lexer {
            code,
            uncommented,
            comments,
            ..
        } = lexer;
        Source {
            path,
            text,
            code,
            uncommented,
            comments,
        }
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.code)
    }

    /// The same without `#[cfg(test)] mod .. { .. }`.
    pub fn without_tests(&self) -> Source {
        let mut source = Source {
            path: self.path.clone(),
            text: self.text.clone(),
            code: self.code.clone(),
            uncommented: self.uncommented.clone(),
            comments: Vec::new(),
        };
        for (start, end) in test_modules(&self.code) {
            source.code = without(&source.code, start, end);
            source.uncommented = without(&source.uncommented, start, end);
        }
        source
    }
}

/// Where the modules for tests stand, in bytes.
fn test_modules(code: &str) -> Vec<(usize, usize)> {
    let tokens = tokens(code);
    let place = |token: &Token| token.text.as_ptr() as usize - code.as_ptr() as usize;
    let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let mut modules = Vec::new();
    for index in 0..texts.len() {
        if !texts[index..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]", "mod"]) {
            continue;
        }
        let Some(open) = texts[index..]
            .iter()
            .position(|text| *text == "{" || *text == ";")
        else {
            continue;
        };
        let end = match texts[index + open] {
            ";" => index + open,
            _ => closing(&texts, index + open),
        };
        modules.push((place(&tokens[index]), place(&tokens[end]) + 1));
    }
    modules
}

/// The index of what closes the bracket at `open`, or of the last token.
pub fn closing(texts: &[&str], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, text) in texts.iter().enumerate().skip(open) {
        match *text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    texts.len() - 1
}

fn without(text: &str, start: usize, end: usize) -> String {
    let blank: String = text[start..end].chars().map(blank).collect();
    format!("{}{blank}{}", &text[..start], &text[end..])
}

fn blank(letter: char) -> char {
    if letter == '\n' { '\n' } else { ' ' }
}

/// The words and signs of `code`, which has no comment and no literal in it. Lifetimes and numbers are left out.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let length = if is_part(first) || first == '\'' {
            let skip = first.len_utf8();
            let end = rest[skip..].find(|letter| !is_part(letter));
            end.map_or(rest.len(), |end| end + skip)
        } else if ["::", "->", "=>"].iter().any(|sign| rest.starts_with(sign)) {
            2
        } else {
            first.len_utf8()
        };
        let (text, after) = rest.split_at(length);
        rest = after;
        match first {
            '\n' => line += 1,
            '\'' | '0'..='9' => {}
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token { line, text }),
        }
    }
    tokens
}

struct Lexer<'s> {
    rest: &'s str,
    line: usize,
    code: String,
    uncommented: String,
    comments: Vec<Comment>,
}

impl<'s> Lexer<'s> {
    fn new(text: &'s str) -> Lexer<'s> {
        Lexer {
            rest: text,
            line: 1,
            code: String::with_capacity(text.len()),
            uncommented: String::with_capacity(text.len()),
            comments: Vec::new(),
        }
    }

    fn run(&mut self) {
        while let Some(first) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                let length = self.rest.find('\n').unwrap_or(self.rest.len());
                self.comment(length);
            } else if self.rest.starts_with("/*") {
                self.comment(block_comment(self.rest));
            } else if let Some(length) = literal(self.rest, self.code.chars().next_back()) {
                let (text, after) = self.rest.split_at(length);
                self.code.extend(text.chars().map(blank));
                self.uncommented.push_str(text);
                self.line += text.matches('\n').count();
                self.rest = after;
            } else {
                self.code.push(first);
                self.uncommented.push(first);
                self.line += usize::from(first == '\n');
                self.rest = &self.rest[first.len_utf8()..];
            }
        }
    }

    fn comment(&mut self, length: usize) {
        let (text, after) = self.rest.split_at(length);
        let before = self.code.rsplit('\n').next().unwrap_or_default();
        let is_after_code = !before.trim().is_empty();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let line = line
                .strip_prefix("//")
                .or_else(|| line.strip_prefix("/*"))
                .unwrap_or(line);
            let line = line.strip_prefix(['/', '!', '*']).unwrap_or(line);
            let line = line.strip_suffix("*/").unwrap_or(line);
            self.comments.push(Comment {
                line: self.line + index,
                text: line.strip_prefix(' ').unwrap_or(line).to_owned(),
                is_after_code,
            });
        }
        let blank: String = text.chars().map(blank).collect();
        self.code.push_str(&blank);
        self.uncommented.push_str(&blank);
        self.line += text.matches('\n').count();
        self.rest = after;
    }
}

/// The length of the comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the string or character that `text` begins with. `before` is what stands in front: a
/// prefix such as `r` or `b` is none in the middle of a word.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let is_in_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let prefix = match text.find(|letter: char| !matches!(letter, 'b' | 'c' | 'r')) {
        Some(length) if length <= 2 && !is_in_word => length,
        _ => 0,
    };
    let body = &text[prefix..];
    let is_raw = text[..prefix].contains('r');
    if is_raw {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let content = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = content.find(&end)?;
        return Some(prefix + hashes + 1 + length + end.len());
    }
    if body.starts_with('"') {
        return Some(prefix + quoted(body, b'"'));
    }
    if let Some(content) = body.strip_prefix('\'') {
        let letter = content.chars().next()?;
        let is_character = letter == '\\' || content[letter.len_utf8()..].starts_with('\'');
        return is_character.then(|| prefix + quoted(body, b'\''));
    }
    None
}

/// The length of what begins and ends with `quote`, with `\` before a character that has no meaning.
fn quoted(text: &str, quote: u8) -> usize {
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if byte == b'\\' {
            is_escaped = true;
        } else if byte == quote {
            return index + 1;
        }
    }
    text.len()
}
