//! `--takeover PATH`: the next process gets the listeners of this one, and this one drains.
//!
//! A listening socket belongs to the kernel, and connections that wait for it belong to the socket. The successor
//! gets a descriptor of it, so there is no moment in which nothing listens, and no connection is refused.
//!
//! ```text
//!  successor                          predecessor
//!  waterwheel takeover 1     ->
//!                            <-       waterwheel takeover 1
//!                            <-       listener NAME           for each
//!                            <-       end
//!  take NAME                 ->
//!                            <-       sockets COUNT, and COUNT bytes, each with a descriptor
//!  ready                     ->
//!                            <-       draining                it accepts no more
//! ```
//!
//! Instead of an answer the predecessor may send `error: TEXT`. Whatever happens before `ready`, it goes on serving, and
//! the successor accepts nothing on what it has taken until it has the answer to `ready`, or the predecessor has gone.
//! A predecessor that drains hands over too, until the end of its window. Then it closes the connection without an
//! answer, and the successor listens by itself.

mod line;
mod predecessor;
mod socket_file;
mod successor;

pub use self::predecessor::Predecessor;
pub use self::successor::{Failure, Offer, Takeover, Waiting};
