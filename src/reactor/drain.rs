//! Shutting down politely: no new connections, goodbyes spread over a window, flush, deadline.

use std::time::Duration;

use super::close::CloseCause;
use super::id::ConnId;
use super::protocol::DrainStep;
use super::reactor::{Cx, Reactor};
use super::shutdown::Shutdown;

/// How often goodbyes are said.
const STEP: Duration = Duration::from_millis(20);

impl<S: 'static> Reactor<S> {
    /// Ends politely: stops accepting, says goodbye to the connections evenly over `window` in
    /// each protocol's own words (WebSocket 1001, the end of a stream, `Connection: close`),
    /// flushes, and stops when all have gone, or `close_timeout` after the window.
    ///
    /// A second call changes nothing; [`stop`](Self::stop) ends it at once.
    pub fn drain(&mut self, window: Duration) {
        if self.is_draining() {
            return;
        }
        self.table.remove_listeners();
        let targets = self.table.connection_ids();
        log::info!("draining {} connections over {window:?}", targets.len());
        let close_timeout = self.config.options.close_timeout;
        let now = self.clock.now();
        self.shutdown = Some(Shutdown::new(now, window, close_timeout, targets));
        self.every(STEP, |cx: &mut Cx<'_, S>| cx.reactor.drain_step());
        self.drain_step();
    }

    /// Whether the reactor is on its way out: not ready for new work.
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining() && self.table.connection_count() == 0
    }

    fn drain_step(&mut self) {
        let now = self.clock.now();
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        let is_over = shutdown.is_over(now);
        for id in shutdown.take_due(now) {
            self.say_goodbye(id);
        }
        if is_over && !self.is_stopped {
            let count = self.table.connection_count();
            log::warn!("{count} connections did not end in time");
            self.stop();
        }
    }

    fn say_goodbye(&mut self, id: ConnId) {
        let Some(protocol) = self.table.protocol_mut(id) else {
            return;
        };
        match protocol.drain() {
            DrainStep::AnswersFirst => {}
            DrainStep::Closes { code, reason } => {
                self.table.close(id, CloseCause::Drained, code, reason);
            }
            DrainStep::Aborts => self.table.abort(id, CloseCause::Drained),
        }
    }
}

#[cfg(all(unix, feature = "signals"))]
impl<S: 'static> Reactor<S> {
    /// On TERM or INT drains over `window`; on a second one stops at once. When the reactor has been
    /// dropped, both signals have their default effect again: they end the process.
    ///
    /// Needs feature `signals`, and a Unix system.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn drain_on_signals(&mut self, window: Duration) -> std::io::Result<()> {
        let signals = super::signals::Signals::new(self.table.registry(), window)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Does what the signals that have come ask for.
    pub(super) fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let (count, window) = (signals.take(), signals.window());
        for _ in 0..count {
            if self.is_draining() {
                log::info!("a second signal: stopping at once");
                return self.stop();
            }
            self.drain(window);
        }
    }
}
