//! JSON that grammars and routes read and write without a data model.

use serde_json::value::RawValue;

/// Whether a text is one JSON value.
///
/// # Errors
///
/// Names the first mistake and its line and column.
pub(super) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
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
