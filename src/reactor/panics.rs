//! Panics of the application: the one place where they are caught.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The guarded code has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs code of the application, and code that drops what belongs to it.
///
/// # Errors
///
/// [`Panicked`] when it has. What it touched may be half done: the caller ends the connection.
#[inline(always)]
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        forget_payload(payload);
        Panicked
    })
}

/// Drops a value of the application, `what`. A panic in its `Drop` is logged and goes no further.
///
/// # Errors
///
/// [`Panicked`] when there was one: the caller counts it.
pub(crate) fn drop_guarded<T>(what: &dyn fmt::Display, value: T) -> Result<(), Panicked> {
    let dropped = guarded(|| drop(value));
    if dropped.is_err() {
        log::error!("a `Drop` of {what} panicked");
    }
    dropped
}

/// As [`drop_guarded`], where the reactor ends and nothing is counted any more.
pub(crate) fn drop_all_guarded<T>(what: &dyn fmt::Display, values: impl IntoIterator<Item = T>) {
    for value in values {
        let _ = drop_guarded(what, value);
    }
}

// The payload is a value of the application too. Should dropping it panic, it is leaked.
#[cold]
fn forget_payload(payload: Box<dyn std::any::Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}
