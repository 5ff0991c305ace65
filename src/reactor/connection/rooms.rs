//! The rooms of one reactor, apart from the table of sources, so that a connection can be borrowed
//! beside them: one look-up by id, and then `&mut Connection` and `&mut Rooms` go on together.

use mio::{Registry, Token};

use crate::reactor::config::{ConnectionOptions, Overflow};
use crate::reactor::id::ConnId;
use crate::reactor::log_limit::LogLimit;
use crate::reactor::memory::Memory;
use crate::reactor::stats::{ConnectionCounts, Stats};
use crate::reactor::time::clock::WallClock;
use crate::reactor::time::coarse::Buckets;
use crate::reactor::transport::Transport;

use super::awaiting::Awaiting;
use super::cork::FAST_CORK_BYTES_MAX;
use super::deadline::Deadlines;
use super::early_flush::EarlyFlushes;
use super::handshakes::Handshakes;
use super::outbox::Outbox;
use super::rate::RateLimit;
use super::ready_list::ReadyList;

/// One set of options, and the answers that are computed from it once instead of at each event.
pub(super) struct OptionSet {
    pub(super) options: ConnectionOptions,
    /// Whether short replies may be corked without a comparison to the watermarks, and messages
    /// delivered without counting them.
    pub(super) has_fast_path: bool,
    /// Whether the overflow policy may drop single messages. The cork then remembers their ends.
    pub(super) drops_messages: bool,
    /// How many messages a second a peer may send.
    pub(super) rate_limit: RateLimit,
}

impl OptionSet {
    pub(super) fn new(options: ConnectionOptions) -> OptionSet {
        let drops_messages = options.overflow != Overflow::Close;
        let rate_limit = RateLimit::new(&options);
        OptionSet {
            has_fast_path: !drops_messages
                && !rate_limit.is_some()
                && FAST_CORK_BYTES_MAX <= options.queue_high_bytes,
            drops_messages,
            rate_limit,
            options,
        }
    }
}

/// The data that the steps of a connection's life need beside the connection. Each room keeps its
/// fields private.
pub(super) struct Rooms {
    pub(super) outbox: Outbox,
    pub(super) early_flushes: EarlyFlushes,
    pub(super) handshakes: Handshakes,
    pub(super) awaiting: Awaiting,
    pub(super) deadlines: Deadlines,
    pub(super) ready_list: ReadyList,
    /// Connections that are paused because they have sent too many messages, by the moment at which
    /// they are read again.
    pub(super) rate_pauses: Buckets,
    /// Log lines about connections that are paused because they have sent too many messages.
    pub(super) rate_lines: LogLimit,
    /// Connections that have ended and whose `on_close` is to be called.
    pub(super) ended: Vec<ConnId>,
    /// The options of all connections; each holds an index.
    pub(super) option_sets: Vec<OptionSet>,
    pub(super) stats: Stats,
    /// The connections that there are now, by their kind.
    pub(super) connections: ConnectionCounts,
    pub(super) memory: Memory,
    /// Nanoseconds since the start of the reactor. Read after the poll, after each call of a
    /// handler and after each flush, because reading the clock for each use costs more than
    /// handling a small message.
    pub(super) now: u64,
    pub(super) wall_clock: WallClock,
    /// `None` in a simulation, where readiness comes from memory.
    pub(super) registry: Option<Registry>,
}

impl Rooms {
    #[inline]
    pub(super) fn options(&self, index: u16) -> &ConnectionOptions {
        &self.option_sets[usize::from(index)].options
    }

    #[inline]
    pub(super) fn rate_limit(&self, index: u16) -> RateLimit {
        self.option_sets[usize::from(index)].rate_limit
    }

    /// Whether more memory is held than the limit allows.
    #[inline]
    pub(super) fn is_over_memory(&self) -> bool {
        self.memory.is_over(self.outbox.held_bytes())
    }

    /// Registers with the poll what the transport wants now.
    pub(super) fn reregister(
        &self,
        transport: &mut Transport,
        id: ConnId,
        has_output: bool,
    ) -> std::io::Result<()> {
        let interest = transport.interest(has_output);
        transport.reregister(self.registry.as_ref(), Token(id.index as usize), interest)
    }
}
