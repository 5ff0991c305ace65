//! The polite end: no new connections, goodbyes spread over a window, flush, deadline.

use std::time::Duration;

use crate::reactor::close::CloseCause;
use crate::reactor::connection::Protocol;
use crate::reactor::connection::table::Source;
use crate::reactor::handler::Cx;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;
use crate::reactor::time::clock::nanos;

/// How often goodbyes are said.
const STEP: Duration = Duration::from_millis(20);

pub(crate) struct Drain {
    started: u64,
    window: Duration,
    /// Those that were there at the start.
    told: Vec<ConnId>,
    told_count: usize,
    deadline: u64,
}

impl<S: 'static> Reactor<S> {
    /// Ends politely: stops accepting, says goodbye to the connections evenly over `window` in
    /// each protocol's own words (WebSocket 1001, the end of a stream, `Connection: close`),
    /// flushes, and stops when all have gone, or `close_timeout` after the window.
    ///
    /// A second call changes nothing; [`stop`](Self::stop) ends it at once.
    pub fn drain(&mut self, window: Duration) {
        if self.drain.is_some() {
            return;
        }
        let mut told = Vec::with_capacity(self.table.connection_count);
        let mut listeners = Vec::new();
        for (index, source) in &self.table.sources {
            match source {
                Source::Connection(connection) => told.push(ConnId {
                    index: index as u32,
                    generation: connection.generation,
                }),
                Source::Listener(_) => listeners.push(index),
                Source::Attempt(_) | Source::Gone => {}
            }
        }
        for index in listeners {
            self.table.vacate(index);
        }
        log::info!("draining {} connections over {window:?}", told.len());
        let started = self.clock.now();
        let close_timeout = nanos(self.table.config.options.close_timeout);
        let deadline = started
            .saturating_add(nanos(window))
            .saturating_add(close_timeout);
        self.drain = Some(Drain {
            started,
            window,
            told,
            told_count: 0,
            deadline,
        });
        self.every(STEP, |cx: &mut Cx<'_, S>| cx.reactor.drain_step());
        self.drain_step();
    }

    /// Whether the reactor is on its way out: not ready for new work.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    fn drain_step(&mut self) {
        let now = self.clock.now();
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let elapsed = Duration::from_nanos(now - drain.started);
        let share = if drain.window <= elapsed {
            1.0
        } else {
            elapsed.as_secs_f64() / drain.window.as_secs_f64()
        };
        let until = (drain.told.len() as f64 * share).ceil() as usize;
        for index in drain.told_count..until {
            self.say_goodbye(drain.told[index]);
        }
        drain.told_count = until.max(drain.told_count);
        if drain.deadline <= now && !self.stopped {
            log::warn!(
                "{} connections did not end in time",
                self.table.connection_count
            );
            self.stop();
        }
        self.drain = Some(drain);
    }

    fn say_goodbye(&mut self, id: ConnId) {
        let Some(connection) = self.table.open_mut(id) else {
            return;
        };
        match &mut connection.protocol {
            // A request that is under way is answered first; its answer says `Connection: close`.
            Protocol::Http(exchange) if exchange.is_busy() => exchange.close_after(),
            Protocol::Http(_) | Protocol::EventStream { .. } | Protocol::Raw => {
                self.table.close(id, CloseCause::Drained, 0, "");
            }
            Protocol::Upgrade(_) => self.table.abort(id, CloseCause::Drained),
            Protocol::WebSocket(_) => {
                self.table
                    .close(id, CloseCause::Drained, 1001, "going away");
            }
        }
    }

    /// Whether there is nothing left to wait for.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain.is_some() && self.table.connection_count == 0
    }
}
