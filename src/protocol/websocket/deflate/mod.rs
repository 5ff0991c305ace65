//! permessage-deflate: the compression of messages.
//!
//! ```text
//!  negotiation    offers and answers of the handshake, for both roles
//!  codec          one message through flate2: with the empty block that the sender leaves out, and within a limit
//!  pool           the compressor and the inflater that all connections of a thread share
//!  windows        what one connection has agreed to, and the windows that it keeps of its own
//! ```
//!
//! *Shared* is for many connections: neither side keeps its window from one message to the next, so all connections of a
//! thread use one compressor and one inflater, and a connection that is idle holds nothing for its compression.
//! *Dedicated* is for few connections whose messages are alike: both sides may keep their windows, and a message is
//! compressed by what was in those before it.
//!
//! A compressed message is kept as it comes, and inflated when it is complete. So no connection holds the shared inflater
//! while it waits for its peer, and any number of slow peers can be in the middle of a message. The cost is that the
//! compressed bytes and the message are held together for the moment of inflating: at most the limit of a message and an
//! eighth of it beside the message itself. An invalid message is refused at its end and not in its middle.
//!
//! Source: RFC 7692.

mod codec;
mod negotiation;
mod pool;
mod windows;

pub(crate) use negotiation::{Agreed, accept, check_answer, offer};
pub(super) use pool::inflate;
pub(crate) use pool::{take_counts, with_deflated};
pub(super) use windows::Windows;

/// How the messages of a WebSocket are compressed, if the peer agrees. The default is `None`.
///
/// Source: RFC 7692.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deflate {
    /// Messages are not compressed, and compressed ones are refused.
    #[default]
    None,
    /// Each message is compressed by itself (no context takeover on both sides). All connections of a thread share one
    /// compressor and one inflater, which together hold some 420 KiB, and a connection that is idle holds nothing.
    ///
    /// A publication is compressed once for all members. A member whose client has limited our window gets it
    /// uncompressed.
    Shared,
    /// A message is compressed by those before it, which makes messages that are alike much smaller. A connection holds
    /// some 420 KiB from its first compressed message on, which count in
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max). With an overflow policy that drops messages, messages are
    /// sent as in [`Shared`](Self::Shared): the peer could not read what comes behind a dropped one.
    Dedicated,
}
