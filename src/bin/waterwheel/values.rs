//! Values of options that several commands read in the same way.

use lexopt::{Parser, ValueExt};
use log::LevelFilter;

/// The value behind `option`.
///
/// # Errors
///
/// A sentence that names the option, when there is no value or it is not UTF-8.
pub fn text(parser: &mut Parser, option: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("{option} needs a value"))?;
    value
        .string()
        .map_err(|_| format!("{option}: expected text in UTF-8"))
}

/// The level of `--log`.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn level(value: &str) -> Result<LevelFilter, String> {
    value.parse().map_err(|_| {
        format!("--log: expected off, error, warn, info, debug or trace, got {value:?}")
    })
}
