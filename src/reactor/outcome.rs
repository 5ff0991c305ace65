//! The values that callbacks may return, and the handling of an error that one returns.
//!
//! A callback is any closure, so that its last expression needs no semicolon: `|ws, message|
//! ws.send(message)`. [`Outcome`] is the list of types that it may end with. A future is not among
//! them, because no executor would poll it, nor is a number, which looks like a status and is none.
//!
//! The error of a `Result` is handled and not lost: see [`Outcome`].

use std::any::Any;
use std::fmt::Display;
use std::ops::ControlFlow;

/// An error that a callback has returned. The role of the connection looks for types that it knows,
/// such as an answer to a request.
pub trait CallbackError: Display + Any {}

impl<E: Display + Any> CallbackError for E {}

/// The part of [`Outcome`] that other crates cannot name, so that they cannot implement it.
pub trait Sealed: Sized {
    /// The error, if this is one. Most types are none, and the call costs nothing for them.
    #[doc(hidden)]
    #[inline(always)]
    fn into_error(self) -> Option<Box<dyn CallbackError>> {
        None
    }
}

/// A value that a callback may return: nothing, an id, the result of sending or publishing, a [`bool`], an
/// [`Option`], or a `Result` whose error can be displayed.
///
/// Only the error of a `Result` has a meaning; other values are dropped. An error
///
/// * of a route's callback is the answer if it is a [`Reply`](crate::Reply) or a
///   [`Status`](crate::Status). Any other error is logged, and the answer is 500. If the request was
///   answered before, it is only logged.
/// * of another callback of a connection is logged with the name of the route, and ends the
///   connection as a panic does: a WebSocket with code 1011. The cause that `on_close` gets is
///   [`CloseCause::CallbackError`](crate::CloseCause::CallbackError).
/// * of `on_close`, a timer, a tick or a closure of another thread is logged.
///
/// ```
/// # use waterwheel::{Reactor, Status};
/// # fn setup(reactor: &mut Reactor<()>) {
/// reactor.http("0.0.0.0:4567", |http| {
///     http.get("/square/:n", |request| {
///         let n = request.param("n").ok_or(Status::NOT_FOUND)?;
///         let n: u32 = n.parse().map_err(|_| Status::BAD_REQUEST)?;
///         request.reply((n * n).to_string());
///         Ok::<_, Status>(())
///     });
/// });
/// # }
/// ```
///
/// The trait is sealed. A future is refused, because the loop would not poll it:
///
/// ```compile_fail,E0277
/// # use waterwheel::Reactor;
/// # fn setup(reactor: &mut Reactor<()>) {
/// reactor.websocket("0.0.0.0:8080", |ws| {
///     ws.on_message(|_, _| async { println!("never printed") });
/// });
/// # }
/// ```
///
/// So is a number, which is neither an answer nor a status:
///
/// ```compile_fail,E0277
/// # use waterwheel::Reactor;
/// # fn setup(reactor: &mut Reactor<()>) {
/// reactor.http("0.0.0.0:8080", |http| {
///     http.get("/", |_| 404);
/// });
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a callback cannot return `{Self}`",
    label = "this callback returns `{Self}`",
    note = "a callback returns `()`, `Sent`, `bool`, an `Option`, an id, `Published`, or a `Result` whose error implements `Display`",
    note = "the loop polls no future: do the waiting in another thread and come back with `Remote::run`",
    note = "for another value, end the callback with a semicolon"
)]
pub trait Outcome: Sealed {}

impl Sealed for () {}
impl Outcome for () {}

impl Sealed for bool {}
impl Outcome for bool {}

impl<T> Sealed for Option<T> {}
impl<T> Outcome for Option<T> {}

impl<T, E: Display + 'static> Sealed for Result<T, E> {
    #[inline]
    fn into_error(self) -> Option<Box<dyn CallbackError>> {
        match self {
            Ok(_) => None,
            Err(error) => Some(Box::new(error)),
        }
    }
}
impl<T, E: Display + 'static> Outcome for Result<T, E> {}

/// Names the type `!`, which the stable language does not let one write as `Self`.
pub trait Returns {
    /// The type that a function returns.
    type Output;
}

impl<R> Returns for fn() -> R {
    type Output = R;
}

/// The type of a closure that always panics. Since the edition of 2024 it is `!`, and before it was
/// `()`.
type Never = <fn() -> ! as Returns>::Output;

impl Sealed for Never {
    fn into_error(self) -> Option<Box<dyn CallbackError>> {
        self
    }
}
impl Outcome for Never {}

/// A value that the callback of [`Reactor::every`](crate::Reactor::every) may return: an [`Outcome`], or a
/// [`ControlFlow`], whose `Break` ends the timer.
#[diagnostic::on_unimplemented(
    message = "the callback of a periodic timer cannot return `{Self}`",
    label = "this callback returns `{Self}`",
    note = "besides what any callback may return, it may return `ControlFlow<()>`"
)]
pub trait EveryOutcome: Sealed {
    /// Returns the outcome of the call, and whether the timer goes on.
    #[doc(hidden)]
    fn into_parts(self) -> (impl Outcome, bool);
}

impl<T: Outcome> EveryOutcome for T {
    fn into_parts(self) -> (impl Outcome, bool) {
        (self, true)
    }
}

impl Sealed for ControlFlow<()> {}
impl EveryOutcome for ControlFlow<()> {
    fn into_parts(self) -> (impl Outcome, bool) {
        ((), self.is_continue())
    }
}
