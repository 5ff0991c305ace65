//! Headers that an application adds to the request of a client.

use std::io;

use crate::protocol::http::{is_header, is_reserved_header};

/// Checks a header. `is_own` is whether this kind of client sets it itself, besides those that all do.
///
/// # Errors
///
/// When a client sets it itself, its name is not a token, or its value has a control character.
pub(super) fn checked(name: &str, value: &str, is_own: bool) -> io::Result<(String, String)> {
    let why = if is_own || is_reserved_header(name) {
        format!("the header {name:?} is set by the client itself")
    } else if !is_header(name, value) {
        format!("the header {name:?} is not a token, or its value has a control character")
    } else {
        return Ok((name.to_owned(), value.to_owned()));
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}
