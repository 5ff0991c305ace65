//! JSON that grammars and routes read and write without a data model.

use serde_core::de::Error;
use serde_json::value::RawValue;

/// How deep arrays and objects may stand in each other. Many readers of JSON recurse, and a member could be
/// one of them.
const DEPTH_MAX: usize = 128;

/// Whether a text is one JSON value, and nested at most 128 deep.
///
/// # Errors
///
/// Names the first mistake and its line and column.
pub(super) fn check(text: &str) -> Result<(), serde_json::Error> {
    check_depth(text)?;
    serde_json::from_str::<&RawValue>(text).map(drop)
}

/// Checks that a text that may be JSON is nested at most 128 deep. The parser does not check this for values
/// that it keeps as text.
///
/// # Errors
///
/// Says how deep a text may be nested.
pub(super) fn check_depth(text: &str) -> Result<(), serde_json::Error> {
    check_depth_max(text, DEPTH_MAX)
}

/// As [`check_depth`], with another limit.
///
/// # Errors
///
/// As [`check_depth`].
pub(super) fn check_depth_max(text: &str, depth_max: usize) -> Result<(), serde_json::Error> {
    // Most messages are shorter than this and cannot be deeper.
    if text.len() <= depth_max || depth(text) <= depth_max {
        return Ok(());
    }
    Err(Error::custom(format_args!(
        "arrays and objects more than {depth_max} deep"
    )))
}

/// How deep the brackets of a text stand in each other, outside of its strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Goes on behind the quote that ends a string.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            // The byte behind a backslash is not the end.
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// A text as a JSON string, quotes included.
pub(super) fn quote(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    push_string(text, &mut json);
    String::from_utf8(json).expect("a JSON string is UTF-8")
}

/// Appends a text as a JSON string, quotes included.
pub(super) fn push_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing a string to memory succeeds");
}
