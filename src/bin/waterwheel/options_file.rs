//! The file of `--options-file`: an option a line.
//!
//! A line is the name of an option, with or without its `--`, and behind spaces or `=` the value, which goes to the
//! end of the line as it is: no quotes, no escapes. Empty lines, and lines that begin with `#`, are skipped.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The variable of the environment that stands for `--options-file`.
pub const VARIABLE: &str = "WATERWHEEL_OPTIONS_FILE";

/// The most bytes of a file. A wrong name, such as that of a log, should not be read for minutes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file, and hands each option to `take` as one word of a command line.
///
/// # Errors
///
/// A sentence with the file; for an option that `take` refuses, also with the number of the line.
pub fn take(file: &Path, take: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let place = format!("--options-file {}", file.display());
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{place}: {error}"))?;
    if FILE_BYTES_MAX < bytes.len() as u64 {
        return Err(format!("{place}: longer than {FILE_BYTES_MAX} bytes"));
    }
    take_lines(&bytes, take).map_err(|why| format!("{place}, {why}"))
}

fn take_lines(
    bytes: &[u8],
    mut take: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let text = str::from_utf8(line);
        let text = text.map_err(|_| format!("line {number}: expected text in UTF-8"))?;
        if let Some(word) = word_of(text) {
            take(&word).map_err(|why| format!("line {number}: {why}"))?;
        }
    }
    Ok(())
}

/// A line as a word of the command line, `--name` or `--name=value`. `None` for an empty line and a comment.
fn word_of(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_bytes = line.find(|letter: char| letter.is_whitespace() || letter == '=');
    let (name, rest) = line.split_at(name_bytes.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let name = name.strip_prefix("--").unwrap_or(name);
    Some(match value {
        "" => format!("--{name}"),
        value => format!("--{name}={value}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let cases = [
            ("", None),
            ("  # open", None),
            ("\r", None),
            ("open", Some("--open")),
            ("--open\r", Some("--open")),
            ("drain-window 30", Some("--drain-window=30")),
            ("  drain-window\t 30  ", Some("--drain-window=30")),
            ("drain-window=30", Some("--drain-window=30")),
            ("drain-window = 30", Some("--drain-window=30")),
            ("--drain-window=30", Some("--drain-window=30")),
            ("--drain-window 30", Some("--drain-window=30")),
            ("drain-window -1", Some("--drain-window=-1")),
            // The value may have spaces, `#` and `=`.
            (
                "topic chat.*=history=10,age=5",
                Some("--topic=chat.*=history=10,age=5"),
            ),
            ("topic=a b=history=1", Some("--topic=a b=history=1")),
            ("publish-token a#b", Some("--publish-token=a#b")),
            // A word of its own would be a command.
            ("-h", Some("---h")),
            ("--", Some("--")),
            ("= 5", Some("--=5")),
        ];
        for (line, word) in cases {
            assert_eq!(word_of(line).as_deref(), word, "{line:?}");
        }
    }

    #[test]
    fn errors_have_the_number_of_the_line() {
        let mut words = Vec::new();
        let text = b"# a hub\nopen\n\nlog loud\nreactors 2\n";
        let refused = take_lines(text, |word| match word {
            "--log=loud" => Err("why".to_owned()),
            word => {
                words.push(word.to_owned());
                Ok(())
            }
        });
        assert_eq!(refused, Err("line 4: why".to_owned()));
        assert_eq!(words, ["--open"]);
        let refused = take_lines(b"open\nlisten \xff\n", |_| Ok(()));
        assert_eq!(refused, Err("line 2: expected text in UTF-8".to_owned()));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let why = take(Path::new("no such file"), |_| Ok(())).unwrap_err();
        assert!(why.starts_with("--options-file no such file: "), "{why}");
    }
}
