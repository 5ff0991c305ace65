//! One turn of the loop: its steps, in the order of the picture in `mod.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::burst::give_back_queue;
use super::call::Caller;
use super::close::{CloseCause, Deadline};
use super::connection::Connection;
use super::id::ConnId;
use super::protocol::Protocol;
use super::reactor::TimerCall;
#[cfg(all(unix, feature = "signals"))]
use super::signals::SIGNALS;
use super::time::clock::nanos;
use super::time::handled::{AGAIN, DEFERRED, Dispatched, LISTS};
use super::transport::memory::Readiness;
use super::{EVENTS, Running, WAKER};

/// The kernel's poll counts in milliseconds, and a wait is rounded up.
const POLL_STEP: Duration = Duration::from_millis(1);

/// How many publications of other reactors are delivered between two readings of the clock.
const POSTS_PER_CALL: usize = 16;

/// How many times one turn looks again for connections that callbacks of `on_close` have ended.
const CLOSING_ROUNDS: usize = 16;

impl<S: 'static> Running<S> {
    /// Runs one turn. The caller must have read the clock just before.
    ///
    /// The loop reads the clock after the poll, after each call of a handler and after each flush, and not for
    /// each message of a read: for a small message a reading costs more than the message.
    ///
    /// Timers run before the poll. A callback of theirs that sends is then flushed in the same turn, and
    /// the poll's wait is computed from what they have set. Deadlines of connections are judged after
    /// the dispatch: the bytes that put a deadline off may have waited in the kernel; see
    /// `time::handled`.
    pub(super) fn run_turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.assert_own_reactor();
        let began = self.reactor.table.now();
        self.run_arrivals(began);
        self.run_posts(began);
        self.run_ticks(began);
        self.run_timers(began);
        self.run_accepted(began);
        self.run_awaited(began);
        // Before the poll, which may wait for long: queued bytes must not wait with it.
        self.flush();
        if self.reactor.is_stopped || self.reactor.is_drained() {
            self.flush_all();
            self.abort_all();
            return Ok(false);
        }
        let before_poll = self.reactor.table.now();
        let wait = match (self.wait_from(before_poll), timeout) {
            (wakeup, None) => wakeup,
            (Some(wakeup), Some(timeout)) => Some(wakeup.min(timeout)),
            (None, timeout) => timeout,
        };
        self.give_back_memory();
        let has_asked = self.poll_sources(wait)?;
        let woke = self.reactor.read_clock();
        self.reactor.budget.note_wake(woke);
        self.reactor.table.resume_by_rate(woke);
        // A process that is stopped in the poll wakes late, and the poll has asked before.
        let asked_until = wait.map_or(u64::MAX, |wait| {
            before_poll.saturating_add(nanos(wait.saturating_add(POLL_STEP)))
        });
        self.dispatch(has_asked.then_some(woke.min(asked_until)));
        self.assert_own_reactor();
        self.reactor.budget.forget_flush();
        self.run_deadlines();
        self.run_awaited(self.reactor.table.now());
        // One write for all that the events of this turn have queued for a connection.
        match self.reactor.is_stopped {
            false => self.flush(),
            true => self.flush_all(),
        }
        // After the flush, because the flush is what brings a queue below its mark.
        let flushed = self.reactor.table.now();
        self.run_below_low_mark(flushed);
        // After the dispatch, so that an object is never removed while one of its callbacks runs.
        self.run_ended(flushed);
        self.reactor.end_memory_turn();
        self.drop_unused_handlers();
        // Last: the reports of this turn may name an index whose source has been removed meanwhile.
        // If a new source had taken that index, it would get the report of the old one.
        self.reactor.table.free_vacated();
        let busy = (before_poll - began) + (self.reactor.table.now() - woke);
        self.reactor.table.stats_mut().lag.record(busy);
        if self.reactor.is_stopped {
            self.abort_all();
        }
        Ok(!self.reactor.is_stopped)
    }

    /// How long a poll may wait from `now` on: `None` for ever, zero while there is something to
    /// do.
    ///
    /// Every list that a turn leaves behind must be asked here. A list that is forgotten waits for
    /// the next report of the kernel, which may never come.
    pub(super) fn wait_from(&self, now: u64) -> Option<Duration> {
        let reactor = &self.reactor;
        let is_busy = reactor.is_stopped
            || !reactor.ticks.is_empty()
            || !reactor.arrivals.is_empty()
            || reactor.mailbox.has_arrivals()
            || reactor.has_posts()
            || !reactor.accepted.is_empty()
            || !reactor.table.is_quiet()
            || reactor.handler_keys.has_unused()
            || reactor.is_drained()
            || reactor.net.as_ref().is_some_and(|net| !net.is_quiet());
        if is_busy {
            return Some(Duration::ZERO);
        }
        match reactor.timers.next_due().min(reactor.table.next_deadline()) {
            u64::MAX => None,
            due => Some(Duration::from_nanos(due.saturating_sub(now))),
        }
    }

    /// Asserts that no callback has put the reactor of another loop in the place of this one. Its connections
    /// would go on with handlers, buffers and a poll that are not theirs.
    fn assert_own_reactor(&self) {
        assert!(
            self.has_own_reactor(),
            "the reactor of this event loop was swapped with another one, as by `std::mem::swap`"
        );
    }

    fn has_own_reactor(&self) -> bool {
        Arc::ptr_eq(&self.mailbox, &self.reactor.mailbox)
    }

    /// Ends the loop between two turns. Does nothing the second time.
    pub(super) fn end(&mut self) {
        if !self.has_own_reactor() {
            return;
        }
        self.reactor.read_clock();
        self.flush_all();
        self.abort_all();
    }

    /// The loop ends: other threads are refused, and every connection that is left is aborted and gets
    /// its `on_close`.
    fn abort_all(&mut self) {
        let cause = match self.reactor.is_draining() {
            true => CloseCause::Drained,
            false => CloseCause::Local,
        };
        // Before the callbacks: another thread that queues a closure from now on gets an error, because
        // the closure would never run. A group of reactors then waits no longer for this one.
        self.reactor.is_stopped = true;
        self.reactor.drop_queued();
        self.reactor.table.abort_all(cause);
        // This ends, although `run_ended` stops after some rounds: a stopped reactor refuses to
        // connect, so callbacks of `on_close` cannot make more connections.
        while self.reactor.table.has_ended() {
            self.run_ended(self.reactor.table.now());
        }
        // This ends too: roles refuse what is ordered from now on.
        self.reactor.has_ended = true;
        while let Some(key) = self.reactor.at_end.iter().map(|(key, _)| key).next() {
            let call = self.reactor.at_end.remove(key);
            self.call_always(Caller::AtEnd, call);
        }
        // After the callbacks, which may still have sent.
        self.reactor.datagrams.close_all();
        // The application may keep a loop that has ended, for its state.
        self.reactor.table.leave_memory_group();
    }

    /// Gives back what a burst of messages took, some time after it. Before the poll, because an
    /// idle server should not keep its peak memory while it waits.
    pub(super) fn give_back_memory(&mut self) {
        let spare = &mut self.reactor.spare;
        let is_over = self.reactor.table.give_back_memory(spare.is_used());
        if is_over && !spare.is_empty() {
            *spare = crate::protocol::websocket::Spare::new();
        }
        if is_over {
            give_back_queue(&mut self.reactor.ticks);
            give_back_queue(&mut self.reactor.arrivals);
        }
    }

    // ── before the poll ──────────────────────────────────────────────────────────────────────

    /// Whether the steps since `began` have used their time together.
    fn is_step_over(&self, began: u64) -> bool {
        let reactor = &self.reactor;
        reactor.budget.is_step_over(began, reactor.table.now())
    }

    fn run_arrivals(&mut self, began: u64) {
        let reactor = &mut self.reactor;
        // One atomic load in most turns; the lock of the mailbox only when something has come.
        if reactor.mailbox.has_arrivals() {
            reactor.arrivals.extend(reactor.mailbox.take());
        }
        // At most so many in a turn, or another thread that never stops would keep the sockets
        // waiting. The rest makes the next poll return at once.
        let most = reactor.arrivals.len().min(reactor.config.ticks_per_turn);
        for _ in 0..most {
            let Some(arrival) = self.reactor.arrivals.pop_front() else {
                return;
            };
            let caller = Caller::Arrival(arrival.kind, arrival.queued_at);
            self.call(caller, arrival.call);
            if self.reactor.is_stopped || self.is_step_over(began) {
                return;
            }
        }
    }

    /// Delivers what other reactors of the group have published.
    fn run_posts(&mut self, began: u64) {
        while self.reactor.has_posts() && !self.is_step_over(began) {
            let mut has_more = false;
            self.call(Caller::Posts, |cx| {
                for _ in 0..POSTS_PER_CALL {
                    has_more = cx.reactor.deliver_next(0, None).is_some();
                    if !has_more {
                        return;
                    }
                }
            });
            if !has_more || self.reactor.is_stopped {
                return;
            }
        }
    }

    fn run_ticks(&mut self, began: u64) {
        // Counted before the first one runs: a tick that is queued by a tick waits for the next
        // turn. Otherwise a tick that queues itself again would keep the loop here for ever.
        let reactor = &mut self.reactor;
        let most = reactor.ticks.len().min(reactor.config.ticks_per_turn);
        for _ in 0..most {
            let Some(tick) = self.reactor.ticks.pop_front() else {
                return;
            };
            self.call(Caller::NextTick(tick.queued_at), tick.call);
            if self.reactor.is_stopped || self.is_step_over(began) {
                return;
            }
        }
    }

    fn run_timers(&mut self, began: u64) {
        let now = self.reactor.table.now();
        if now < self.reactor.timers.next_due() {
            return;
        }
        // A timer that is set by a timer waits for the next turn, also when it is due at once, for
        // the same reason as with ticks.
        let mark = self.reactor.timers.mark();
        loop {
            let Some((id, due)) = self.reactor.timers.peek_due(now, mark) else {
                return;
            };
            let Some(timer) = self.reactor.timers.get_mut(id) else {
                return;
            };
            let caller = Caller::Timer(timer.set_at);
            match std::mem::replace(&mut timer.call, TimerCall::Running) {
                TimerCall::Once(callback) => {
                    self.reactor.timers.cancel(id);
                    self.call(caller, callback);
                }
                TimerCall::Periodic {
                    period_nanos,
                    mut call,
                } => {
                    // Counted from when it was due, so that it does not drift, and with whole
                    // missed periods left out: after a callback that took an hour, an hour of
                    // missed calls at once would help no program.
                    let late = now.saturating_sub(due) / period_nanos;
                    let behind = (late + 1).saturating_mul(period_nanos);
                    let next = due.saturating_add(behind);
                    // Before the call, so that the callback can cancel its own timer, and so that
                    // it goes on after a panic.
                    self.reactor.timers.reschedule(id, next);
                    let mut goes_on = true;
                    self.call(caller, |cx| goes_on = call(cx));
                    if !goes_on {
                        self.reactor.timers.cancel(id);
                    }
                    // The callback was taken out for the call, and goes back if the timer still
                    // exists.
                    match self.reactor.timers.get_mut(id) {
                        Some(timer) => timer.call = TimerCall::Periodic { period_nanos, call },
                        None => self.drop_value(&caller, call),
                    }
                }
                TimerCall::Running => return,
            }
            if self.reactor.is_stopped || self.is_step_over(began) {
                return;
            }
        }
    }

    fn run_accepted(&mut self, began: u64) {
        let reactor = &mut self.reactor;
        let most = reactor.accepted.len().min(reactor.config.ticks_per_turn);
        for _ in 0..most {
            let Some(id) = self.reactor.accepted.pop_front() else {
                return;
            };
            self.call_handler(id, "accept", |handler, cx| handler.accepted(cx, id));
            if self.reactor.is_stopped || self.is_step_over(began) {
                return;
            }
        }
    }

    /// Has requests answered that have waited for publications.
    #[inline]
    fn run_awaited(&mut self, began: u64) {
        if self.reactor.table.has_awaited() {
            self.answer_awaited(began);
        }
    }

    fn answer_awaited(&mut self, began: u64) {
        while let Some((id, awaited, call)) = self.reactor.take_awaited() {
            self.call(Caller::Awaited(id), |cx| call(cx, &awaited));
            self.reactor.table.give_back_awaited(awaited);
            if self.reactor.table.is_over_memory() {
                self.reactor.release_memory();
            }
            if self.reactor.is_stopped || self.is_step_over(began) {
                return;
            }
        }
    }

    /// Judges deadlines as of the last moment up to which everything that the kernel reported is
    /// handled.
    fn run_deadlines(&mut self) {
        let began = self.reactor.table.now();
        let moment = self.reactor.handled.until();
        while let Some((filed, mut ids)) = self.reactor.table.pop_due(moment) {
            for index in 0..ids.len() {
                if self.reactor.is_stopped {
                    return;
                }
                let now = self.reactor.table.now();
                if 0 < index && self.reactor.budget.is_step_over(began, now) {
                    let rest = ids.split_off(index);
                    return self.reactor.table.put_back_due(filed, rest);
                }
                let id = ids[index];
                // For `None` the deadline was put off or cleared after it was filed; the connection
                // has been filed anew.
                match self.reactor.table.take_passed(id, filed, moment) {
                    None => {}
                    // After these deadlines the peer has had its time and there is no more to say
                    // to it, but for the alert of a handshake. The meaning of the others depends on the role.
                    Some(
                        deadline @ (Deadline::Connect
                        | Deadline::Handshake
                        | Deadline::Write
                        | Deadline::Close),
                    ) => {
                        let cause = CloseCause::TimedOut(deadline);
                        self.reactor.table.end_handshake(id, cause);
                    }
                    Some(Deadline::Age) => self.reactor.end_old(id),
                    Some(deadline) => self.call_handler(id, "due", |handler, cx| {
                        handler.due(cx, id, deadline);
                    }),
                }
            }
        }
    }

    /// Offers the kernel what is queued, until the flushes since the last dispatch have used their
    /// time. The rest comes first in the next flush.
    fn flush(&mut self) {
        let reactor = &mut self.reactor;
        if !reactor.table.has_dirty() {
            return;
        }
        let left = reactor.budget.flush_left();
        if left != 0 {
            let before = reactor.table.now();
            let until = before.saturating_add(left);
            reactor.table.flush_dirty(&reactor.clock, until);
            let now = reactor.read_clock();
            // A fan-out can flush thousands of sockets. The messages of the next dispatch may take
            // as long; see `budget`.
            reactor.budget.note_flush(now - before);
        }
    }

    /// Offers the kernel everything that is queued, because the loop ends.
    fn flush_all(&mut self) {
        let reactor = &mut self.reactor;
        while reactor.table.has_dirty() {
            reactor.table.flush_dirty(&reactor.clock, u64::MAX);
        }
        reactor.read_clock();
    }

    // ── the poll and what it reports ─────────────────────────────────────────────────────────

    /// Polls the kernel. Returns whether it has answered: a signal may have interrupted the poll.
    fn poll_sources(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let Some(poll) = &mut self.poll else {
            return Ok(true);
        };
        match poll.poll(&mut self.events, wait) {
            // A signal has ended the wait. The events may be those of the poll before, which must
            // not be handled twice.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// Handles the sources that are ready: first those that an earlier turn had no time for, then
    /// those that the poll reports, then the busy ones: connections with more input than their budget, and
    /// those that have used much of the last turns.
    ///
    /// When the dispatch has used its time, the rest waits for the next turn in this order. So a
    /// client that sends little is not kept waiting by those that send without end. At least one
    /// source of the last kind is handled in each turn, so that the others cannot keep it waiting
    /// for ever.
    // Not inlined: the handling of a source is inlined here, and should have the registers.
    #[inline(never)]
    fn dispatch(&mut self, asked_at: Option<u64>) {
        // Taken before the reports are handled: a connection whose budget is used up while they are
        // handled goes on the list of the next turn and is not read twice in this one.
        let mut again = self.reactor.table.ready_list_mut().take_again();
        self.reactor.table.begin_handshakes();
        // A simulation: the number of reports is asked once, because readiness that callbacks cause
        // is for the next turn, as with the kernel.
        let reports = self.reactor.net.as_ref().map_or(0, |net| net.poll());
        let waiting_count = self.reactor.table.ready_list().counts()[DEFERRED];
        let ready_count = waiting_count + reports + self.events.iter().count();
        self.reactor.budget.share_between(ready_count);
        let mut handled_counts = [0; LISTS];
        while !self.reactor.is_stopped && !self.is_dispatch_over() {
            let Some((index, list)) = self.reactor.table.pop_handshake() else {
                break;
            };
            self.ready_again(index);
            handled_counts[list] += 1;
        }
        while !self.reactor.is_stopped && !self.is_dispatch_over() {
            let Some(index) = self.reactor.table.ready_list_mut().pop_deferred() else {
                break;
            };
            self.ready_again(index);
            handled_counts[DEFERRED] += 1;
        }
        let event_count = match self.poll.is_some() {
            true => self.dispatch_events(),
            false => 0,
        };
        for _ in 0..reports {
            if self.reactor.is_stopped {
                break;
            }
            if let Some((index, readiness)) = self.reactor.net.as_ref().and_then(|net| net.pop()) {
                self.ready_or_defer(index, readiness);
            }
        }
        // Last, so that a connection with more input than its budget comes after those that have
        // waited for the poll.
        self.reactor.table.ready_list_mut().append_busy(&mut again);
        self.reactor.budget.share_between(again.len());
        for &index in &again {
            let is_first = handled_counts[AGAIN] == 0;
            if self.reactor.is_stopped || !is_first && self.is_dispatch_over() {
                break;
            }
            self.ready_again(index);
            handled_counts[AGAIN] += 1;
        }
        self.reactor
            .table
            .ready_list_mut()
            .return_again(again, handled_counts[AGAIN]);
        let polls_left = match event_count < EVENTS {
            true => 0,
            false => self.reactor.table.sources().count() / EVENTS + 1,
        };
        self.reactor.handled.note(&Dispatched {
            asked_at,
            polls_left,
            handled_counts,
            waiting_counts: self.reactor.table.ready_list().counts(),
        });
    }

    #[inline(always)]
    fn ready_or_defer(&mut self, index: usize, readiness: Readiness) {
        match self.is_dispatch_over() {
            false => self.ready(index, readiness),
            true => self.reactor.table.defer(index, readiness),
        }
    }

    /// Whether the dispatch has used its time, as of the last reading of the clock.
    #[inline]
    pub(super) fn is_dispatch_over(&self) -> bool {
        let reactor = &self.reactor;
        reactor.budget.is_dispatch_over(reactor.table.now())
    }

    /// Returns how many reports there were.
    fn dispatch_events(&mut self) -> usize {
        // Taken out, because handling an event borrows the whole event loop. An empty `Events`
        // allocates nothing.
        let events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            if self.reactor.is_stopped {
                break;
            }
            match event.token() {
                // The waker ends the poll, which is all; the next turn takes the arrivals.
                WAKER => {}
                #[cfg(all(unix, feature = "signals"))]
                SIGNALS => self.reactor.take_signals(),
                mio::Token(index) => {
                    // An error of the socket is found by the next read or write, which returns it.
                    let readiness = Readiness {
                        readable: event.is_readable(),
                        writable: event.is_writable(),
                        read_closed: event.is_read_closed() || event.is_error(),
                        hung_up: event.is_write_closed() || event.is_error(),
                        urgent: event.is_priority(),
                    };
                    self.ready_or_defer(index, readiness);
                }
            }
        }
        self.events = events;
        count
    }

    // ── after the poll ───────────────────────────────────────────────────────────────────────

    /// Calls `on_drain`. Callbacks for which there is no time since `began` come first in the next turn.
    fn run_below_low_mark(&mut self, began: u64) {
        if !self.reactor.table.has_below_low_mark() {
            return;
        }
        let mut ids = self.reactor.table.take_below_low_mark();
        for index in 0..ids.len() {
            if self.reactor.is_stopped {
                return;
            }
            if 0 < index && self.is_step_over(began) {
                let rest = ids.split_off(index);
                return self.reactor.table.put_back_below_low_mark(rest);
            }
            let id = ids[index];
            // `None` when the connection has ended since it was listed.
            let connection = self.reactor.table.open_mut(id);
            if connection.is_some_and(Connection::take_below_low_mark) {
                self.call_handler(id, "on_drain", |handler, cx| handler.below_low_mark(cx, id));
                for call in self.reactor.on_drain.remove(&id).unwrap_or_default() {
                    self.call(Caller::OnDrain(id), call);
                }
            }
        }
    }

    /// Calls `on_close`. Connections for which there is no time since `began` come first in the next turn,
    /// in the same order; a loop that ends calls all.
    fn run_ended(&mut self, began: u64) {
        // A callback of `on_close` may end other connections, which get their `on_close` in the
        // same turn. The number of rounds is bounded for programs that connect again in `on_close`:
        // if each attempt fails at once, the loop would stay here for ever.
        for _ in 0..CLOSING_ROUNDS {
            if !self.reactor.table.has_ended() {
                return;
            }
            let mut ids = self.reactor.table.take_ended();
            for index in 0..ids.len() {
                if 0 < index && !self.reactor.is_stopped && self.is_step_over(began) {
                    let rest = ids.split_off(index);
                    return self.reactor.table.put_back_ended(rest);
                }
                self.call_on_close(ids[index]);
            }
        }
    }

    /// A connection has ended: it leaves its topics, its callbacks are called, and it lingers or is
    /// removed.
    fn call_on_close(&mut self, id: ConnId) {
        let connection = self.reactor.table.connection_mut(id);
        let Some((close, handler, mut subscriptions)) = connection.and_then(Connection::take_close)
        else {
            return;
        };
        // Before the callbacks, so that a message of `on_close` ("alice has left") counts and
        // reaches only members that are still there.
        let topics = &mut self.reactor.topics;
        topics.leave_all(id.to_bits(), &mut subscriptions);
        self.reactor.end_presence(id);
        self.reactor.forget_wait(id);
        self.reactor.addresses.release(id);
        if log::log_enabled!(log::Level::Debug) {
            let (peer, close) = (self.reactor.peer(id), close.without_reason());
            // Without the reason, which is the peer's text.
            log::debug!("conn {id} {peer}: ended: {close}");
        }
        if let Some(calls) = self.reactor.on_drain.remove(&id) {
            self.drop_value(&Caller::OnDrain(id), calls);
        }
        for call in self.reactor.on_gone.remove(&id).unwrap_or_default() {
            self.call_always(Caller::OnGone(id), |cx| call(cx, &close));
        }
        // A connection that was refused before it was opened has reached no callback.
        let was_unopened = matches!(self.reactor.protocol(id), Some(Protocol::Unopened));
        // Two calls, each with a guard of its own: a panic in `on_error` costs nobody `on_close`.
        if close.cause.is_failure() && !was_unopened {
            let cause = close.cause;
            self.call_handler_at((id, handler), "on_error", |handler, cx| {
                handler.failed(cx, id, &cause);
            });
        }
        if !was_unopened {
            self.call_handler_at((id, handler), "on_close", |handler, cx| {
                handler.closed(cx, id, &close);
            });
        }
        for call in self.reactor.on_close.remove(&id).unwrap_or_default() {
            self.call_always(Caller::OnClose(id), |cx| call(cx, &close));
        }
        self.reactor.cancel_attempts(id);
        if self.handlers.is_single(handler) {
            self.remove_handler(handler);
        } else {
            self.reactor.handler_keys.count_closed(handler);
        }
        let stats = self.reactor.table.stats_mut();
        stats.closed += 1;
        stats.closes.record(&close);
        self.reactor.peers.remove(&id);
        self.reactor.proxied_peers.remove(id);
        self.reactor.table.linger_or_remove(id);
    }

    /// Drops the callbacks of closed listeners whose connections have all ended.
    fn drop_unused_handlers(&mut self) {
        if !self.reactor.handler_keys.has_unused() {
            return;
        }
        // The handler of a listener that was closed at once is still on the list of new ones.
        self.handlers.adopt(&mut self.reactor);
        for key in self.reactor.handler_keys.take_unused() {
            self.remove_handler(key);
        }
    }

    fn remove_handler(&mut self, key: u32) {
        if let Some(handler) = self.handlers.remove(key) {
            let name = handler.name(None);
            self.drop_value(&name, handler);
        }
        self.reactor.free_handler(key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::reactor::config::Config;
    use crate::reactor::id::ConnId;
    use crate::reactor::reactor::Reactor;
    use crate::reactor::sim::{Sim, SimSocket, SimStream};
    use crate::reactor::time::clock::SimClock;
    use std::time::Duration;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Which clients' messages were delivered since this was last taken.
    type Delivered = Vec<ConnId>;

    /// A server on which each message takes a millisecond, and `count` clients.
    fn busy_server(count: usize) -> (Sim<Delivered>, Vec<SimSocket>) {
        let mut sim = Sim::new(Delivered::new(), |_: &mut Reactor<Delivered>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.on_message(move |ws, message| {
                ws.state.push(ws.id);
                clock.advance(MILLISECOND);
                ws.send(message)
            });
        });
        listening.unwrap();
        let clients = (0..count).map(|_| sim.websocket("/")).collect();
        (sim, clients)
    }

    /// Runs one turn, and returns how long it took and whose messages it delivered.
    fn turn(sim: &mut Sim<Delivered>, clock: &SimClock) -> (Duration, Delivered) {
        let before = clock.now();
        sim.turn();
        (clock.now() - before, std::mem::take(sim.state()))
    }

    #[test]
    fn a_turn_ends_when_its_dispatch_has_used_its_time() {
        let (mut sim, clients) = busy_server(50);
        let clock = sim.clock();
        for client in &clients {
            for _ in 0..20 {
                client.send("x");
            }
        }
        let mut order = Vec::new();
        while order.len() < 50 * 20 {
            let (took, delivered) = turn(&mut sim, &clock);
            // The last client may go on for its own budget, and so may one that has used it before.
            assert!(took <= 32 * MILLISECOND, "{took:?}");
            assert!(!delivered.is_empty());
            order.extend(delivered);
        }
        // Fair: each client has its first turn before any has many. One in each turn of the loop may
        // have used its budget before.
        order.dedup();
        let mut first = order[..60].to_vec();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 50);
    }

    #[test]
    fn a_source_that_waited_comes_before_what_is_reported_later() {
        let (mut sim, clients) = busy_server(30);
        let clock = sim.clock();
        for client in &clients {
            client.send("x");
        }
        let (_, first) = turn(&mut sim, &clock);
        assert_eq!(first.len(), 20);
        // The clients that were served send again; ten others wait.
        for client in &clients {
            client.send("x");
        }
        let (_, second) = turn(&mut sim, &clock);
        assert!(second[..10].iter().all(|id| !first.contains(id)));
        sim.settle();
        let all = clients.iter().map(|client| client.received().len());
        assert_eq!(all.collect::<Vec<_>>(), [2; 30]);
    }

    #[test]
    fn timers_and_ends_are_not_kept_waiting_by_busy_clients() {
        let (mut sim, clients) = busy_server(50);
        let clock = sim.clock();
        sim.reactor()
            .every(10 * MILLISECOND, |cx| cx.state.push(ConnId::NONE));
        for client in &clients {
            for _ in 0..20 {
                client.send("x");
            }
        }
        let mut fired_count = 0;
        let began = clock.now();
        while clock.now() - began < 500 * MILLISECOND {
            let (_, delivered) = turn(&mut sim, &clock);
            fired_count += delivered.iter().filter(|id| **id == ConnId::NONE).count();
        }
        // Once a turn.
        assert!(19 <= fired_count, "{fired_count}");
    }

    // A source that waits has an index. When the source ends meanwhile, a new one may take it.
    #[test]
    fn a_report_that_waited_does_not_reach_a_later_source_at_its_index() {
        let (mut sim, clients) = busy_server(30);
        for client in &clients {
            client.send("x");
        }
        sim.turn();
        let ids = sim.reactor().table.sources().connection_ids();
        let served = std::mem::take(sim.state());
        for id in ids.into_iter().filter(|id| !served.contains(id)) {
            sim.reactor().reset(id);
        }
        sim.settle();
        assert_eq!(sim.state().len(), 0);
        let later: Vec<_> = (0..10).map(|_| sim.websocket("/")).collect();
        for client in &later {
            client.send("y");
        }
        sim.settle();
        assert!(later.iter().all(|client| client.received() == ["y"]));
    }

    #[test]
    fn listeners_and_half_ends_wait_their_turn_too() {
        let (mut sim, clients) = busy_server(30);
        let listening = sim.reactor().stream("0.0.0.0:81", |stream| {
            stream.on_data(|stream, bytes| {
                let bytes = bytes.to_vec();
                stream.send(bytes)
            });
        });
        listening.unwrap();
        let raw = sim.connect_port(81);
        for client in &clients {
            client.send("x");
        }
        raw.write("last words");
        raw.finish();
        let late = sim.dial();
        late.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        sim.turn();
        assert_eq!((raw.read_text(), late.read_text()), Default::default());
        sim.turn();
        sim.turn();
        assert_eq!(raw.read_text(), "last words");
        sim.settle();
        assert!(late.read_text().starts_with("HTTP/1.1 "));
        assert!(raw.is_closed());
    }

    /// A server with short deadlines, on which the message "slow" takes three seconds.
    fn impatient_server() -> Sim<()> {
        let mut config = Config::default();
        config.options.ping_interval = Some(Duration::from_secs(1));
        config.options.pong_timeout = Duration::from_secs(1);
        config.keep_alive_timeout = Duration::from_secs(2);
        let mut sim = Sim::with_config(config, (), |_: &mut Reactor<()>| ());
        let clock = sim.clock();
        let listening = sim.reactor().http("0.0.0.0:80", move |router| {
            router.get("/", |request| request.reply("hello"));
            router.websocket("/ws", move |ws| {
                ws.on_message(move |ws, message| {
                    if message.as_text() == Some("slow") {
                        clock.advance(Duration::from_secs(3));
                    }
                    ws.send(message)
                });
            });
        });
        listening.unwrap();
        sim
    }

    /// Checks that clients whose bytes wait survive a loop that is late, and silent ones do not.
    /// Three seconds pass in a callback, or without a turn.
    fn healthy_clients_survive(has_slow_callback: bool) {
        const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut sim = impatient_server();
        let sockets: Vec<_> = (0..100).map(|_| sim.websocket("/ws")).collect();
        let streams: Vec<_> = (0..100).map(|_| sim.connect()).collect();
        for stream in &streams {
            stream.write(REQUEST);
        }
        sim.settle();
        for stream in &streams {
            assert!(stream.read_text().ends_with("hello"));
        }
        // Each socket gets a ping here. Most answer while the loop is late.
        sim.advance(Duration::from_millis(1200));
        if has_slow_callback {
            sockets[0].send("slow");
        }
        let (healthy, silent) = sockets[1..].split_at(90);
        let (kept, idle) = streams.split_at(90);
        for socket in healthy {
            socket.send("here");
        }
        for stream in kept {
            stream.write(REQUEST);
        }
        if !has_slow_callback {
            sim.clock().advance(Duration::from_secs(3));
        }
        sim.settle();
        for socket in healthy {
            assert_eq!(socket.received(), ["here"]);
            assert!(!socket.is_closed());
        }
        for stream in kept {
            assert!(stream.read_text().ends_with("hello"));
            assert!(!stream.is_closed());
        }
        assert!(idle.iter().all(SimStream::is_closed));
        for socket in silent {
            assert_eq!(socket.received(), [""; 0]);
            assert!(socket.is_closed());
        }
    }

    #[test]
    fn after_a_stop_the_kernel_is_asked_before_deadlines_are_judged() {
        healthy_clients_survive(false);
    }

    #[test]
    fn after_a_slow_callback_the_kernel_is_asked_before_deadlines_are_judged() {
        healthy_clients_survive(true);
    }

    /// A server whose writes take a tenth of a millisecond, with `count` members of a topic.
    fn members(count: usize) -> (Sim<Delivered>, Vec<SimSocket>) {
        let mut sim = Sim::new(Delivered::new(), |reactor: &mut Reactor<Delivered>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.options().queue_high_bytes = 16 * 1024 * 1024;
                ws.on_open(|ws, _| ws.subscribe("news"));
            })
        });
        sim.socket_bytes(4 * 1024 * 1024);
        let clients = (0..count).map(|_| sim.websocket("/")).collect();
        sim.socket_time(MILLISECOND / 10);
        (sim, clients)
    }

    #[test]
    fn a_flush_that_has_used_its_time_goes_on_in_the_next_turn() {
        let (mut sim, members) = members(1000);
        let clock = sim.clock();
        sim.reactor().publish("news", "first");
        let mut served: Vec<usize> = Vec::new();
        let mut turns = 0;
        while served.len() < members.len() {
            let (took, _) = turn(&mut sim, &clock);
            assert!(took <= 50 * MILLISECOND, "{took:?}");
            let before = served.len();
            for (index, member) in members.iter().enumerate() {
                if !served.contains(&index) && !member.received().is_empty() {
                    served.push(index);
                }
            }
            assert!(before < served.len());
            turns += 1;
            // More for the members that are served already does not put the others off.
            sim.reactor().publish("news", "next");
        }
        assert!((3..=8).contains(&turns), "{turns}");
        // Those that waited came first.
        assert!(served.is_sorted());
    }

    #[test]
    fn one_flush_offers_a_bounded_part_of_a_long_queue() {
        let (mut sim, members) = members(2);
        let ids = sim.reactor().table.sources().connection_ids();
        let before = sim.reactor().stats().sent_bytes;
        for _ in 0..3 {
            sim.reactor().send(ids[0], "x".repeat(1024 * 1024));
        }
        sim.turn();
        // One flush before the poll and one after it.
        let sent = sim.reactor().stats().sent_bytes - before;
        assert_eq!(sent, 2 * 1024 * 1024);
        sim.settle();
        assert_eq!(members[0].received().len(), 3);
    }

    // A publication brings all members above their marks at once. Their queues were never offered to the
    // kernel, so that no policy may act, and offering them all takes longer than a turn.
    #[test]
    fn publications_that_fill_all_queues_wait_for_the_flush() {
        const MEMBERS: usize = 1000;
        const LENGTH: usize = 5_000;
        const EACH: usize = 15;
        let mut sim = Sim::new(Delivered::new(), |reactor: &mut Reactor<Delivered>| {
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.options().queue_high_bytes = 20_000;
                ws.options().queue_low_bytes = 10_000;
                ws.on_message(|ws, message| {
                    if message.as_text() == Some("subscribe") {
                        let _ = ws.subscribe("news");
                    } else {
                        ws.publish("news", message);
                    }
                });
            })
        });
        sim.socket_bytes(4 * 1024 * 1024);
        let members: Vec<_> = (0..MEMBERS).map(|_| sim.websocket("/")).collect();
        for member in &members {
            member.send("subscribe");
        }
        sim.settle();
        let publishers: Vec<_> = (0..3).map(|_| sim.websocket("/")).collect();
        let quiet = sim.websocket("/");
        sim.socket_time(MILLISECOND / 10);
        let clock = sim.clock();
        for _ in 0..EACH {
            for publisher in &publishers {
                publisher.send("x".repeat(LENGTH));
            }
        }
        let mut received = 0;
        let mut turns = 0;
        while received < MEMBERS * 3 * EACH {
            let (took, _) = turn(&mut sim, &clock);
            assert!(took <= 50 * MILLISECOND, "{took:?} in turn {turns}");
            received += members
                .iter()
                .map(|member| member.received().len())
                .sum::<usize>();
            turns += 1;
            assert!(turns < 2000, "{received} messages were received");
        }
        assert_eq!(sim.reactor().stats().slow_consumers, 0);
        assert!(!quiet.is_closed());
        assert_eq!(sim.reactor().connection_count(), MEMBERS + 4);
    }

    // Its messages left before as well: the flush of a stop has no limit.
    #[test]
    fn a_stop_offers_everything_that_is_queued() {
        let (mut sim, members) = members(1000);
        sim.reactor().publish("news", "x".repeat(100));
        sim.reactor().next_tick(|cx| cx.reactor.stop());
        sim.turn();
        assert!(!sim.is_running());
        assert!(members.iter().all(|member| member.received().len() == 1));
    }

    /// A server whose `on_close` takes a millisecond, clients that all leave at once, and the calls so far.
    fn leaving(count: usize) -> (Sim<Delivered>, Rc<RefCell<Delivered>>) {
        let closed = Rc::new(RefCell::new(Delivered::new()));
        let calls = Rc::clone(&closed);
        let mut sim = Sim::new(Delivered::new(), |_: &mut Reactor<Delivered>| ());
        let clock = sim.clock();
        let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
            ws.on_message(|ws, message| ws.send(message));
            ws.on_close(move |ws, _| {
                calls.borrow_mut().push(ws.id);
                clock.advance(MILLISECOND);
            });
        });
        listening.unwrap();
        let clients: Vec<_> = (0..count).map(|_| sim.websocket("/")).collect();
        sim.settle();
        for client in &clients {
            client.stream().reset();
        }
        (sim, closed)
    }

    #[test]
    fn ends_that_take_long_leave_the_rest_for_the_next_turn() {
        let (mut sim, closed) = leaving(1000);
        let clock = sim.clock();
        let other = sim.websocket("/");
        let mut turns = 0;
        while closed.borrow().len() < 1000 {
            other.send("hi");
            let (took, _) = turn(&mut sim, &clock);
            assert!(took <= 25 * MILLISECOND, "{took:?}");
            assert_eq!(other.received(), ["hi"], "others are served");
            turns += 1;
        }
        assert!(turns <= 55, "{turns}");
        sim.settle();
        let mut closed = closed.borrow_mut();
        assert!(closed.is_sorted(), "the first to end is the first to close");
        closed.dedup();
        assert_eq!((closed.len(), sim.reactor().connection_count()), (1000, 1));
    }

    #[test]
    fn an_end_of_the_loop_calls_all_that_wait_for_on_close() {
        for stops in [true, false] {
            let (mut sim, closed) = leaving(100);
            sim.turn();
            assert!((1..30).contains(&closed.borrow().len()));
            if stops {
                sim.reactor().stop();
                sim.turn();
            } else {
                drop(sim);
            }
            let mut closed = closed.borrow_mut();
            assert!(closed.is_sorted());
            closed.dedup();
            assert_eq!(closed.len(), 100);
        }
    }

    #[test]
    fn calls_of_on_drain_that_take_long_leave_the_rest_for_the_next_turn() {
        let (mut sim, members) = members(100);
        sim.socket_time(Duration::ZERO);
        sim.reactor().publish("news", "x".repeat(5 * 1024 * 1024));
        let clock = sim.clock();
        for id in sim.reactor().table.sources().connection_ids() {
            let clock = clock.clone();
            sim.reactor().on_drain(id, move |cx| {
                clock.advance(MILLISECOND);
                cx.state.push(id);
            });
        }
        let mut called = Delivered::new();
        for _ in 0..30 {
            let (took, ids) = turn(&mut sim, &clock);
            assert!(took <= 25 * MILLISECOND, "{took:?}");
            called.extend(ids);
            for member in &members {
                member.received();
            }
        }
        assert!(called.is_sorted());
        called.dedup();
        assert_eq!(called.len(), 100);
    }

    #[test]
    fn ticks_that_take_long_leave_the_rest_for_the_next_turn() {
        let mut sim = Sim::with_config(Config::default(), 0, |_: &mut Reactor<u32>| ());
        for _ in 0..50 {
            let clock = sim.clock();
            sim.reactor().next_tick(move |cx| {
                *cx.state += 1;
                clock.advance(MILLISECOND);
            });
        }
        sim.turn();
        assert_eq!(*sim.state(), 20);
        sim.settle();
        assert_eq!(*sim.state(), 50);
    }
}

#[cfg(test)]
mod memory_tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use crate::reactor::EventLoop;
    use crate::reactor::config::Config;
    use crate::reactor::reactor::Reactor;
    use crate::reactor::sim::Sim;
    use crate::reactor::time::clock::Clock;

    #[test]
    fn a_burst_of_ticks_and_arrivals_gives_its_memory_back() {
        let mut event_loop = EventLoop::new(Config::default(), 0_u32).unwrap();
        let remote = event_loop.reactor().remote();
        for _ in 0..100_000 {
            event_loop.reactor().next_tick(|cx| *cx.state += 1);
            remote.run(|cx| *cx.state += 1).unwrap();
        }
        event_loop.reactor().clock = Clock::invented(Duration::from_secs(60));
        while *event_loop.state() < 200_000 {
            event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let reactor = event_loop.reactor();
        let kept = reactor.ticks.capacity() + reactor.arrivals.capacity();
        assert!(kept < 10_000, "room for {kept} closures");
    }

    // Their queues take no nodes for it, so that the number of nodes does not show the burst.
    #[test]
    fn a_publication_to_many_members_gives_its_memory_back() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.websocket("0.0.0.0:80", |ws| ws.on_open(|ws, _| ws.subscribe("news")))
        });
        let members: Vec<_> = (0..5_000).map(|_| sim.websocket("/")).collect();
        sim.reactor().publish("news", "x");
        assert!(members.len() <= sim.reactor().table.dirty_capacity());
        sim.settle();
        sim.advance(Duration::from_secs(2));
        assert!(members.iter().all(|member| member.received() == ["x"]));
        let kept = sim.reactor().table.dirty_capacity();
        assert!(kept < 1_000, "room for {kept} connections");
    }

    // The others would otherwise have less until it is dropped.
    #[test]
    fn a_stopped_reactor_holds_nothing_of_a_shared_limit() {
        let config = Config {
            memory_bytes_max: Some(1024 * 1024),
            ..Config::default()
        };
        let mut sim = Sim::with_config(config, (), |reactor: &mut Reactor<()>| {
            reactor.websocket("0.0.0.0:80", |_| ())
        });
        let sum = Arc::new(AtomicUsize::new(0));
        sim.reactor().share_memory(Arc::clone(&sum));
        let _client = sim.websocket("/");
        sim.settle();
        assert_ne!(sum.load(Ordering::Relaxed), 0);
        sim.reactor().stop();
        sim.turn();
        assert!(!sim.is_running());
        assert_eq!(sum.load(Ordering::Relaxed), 0);
    }

    // A client that comes and goes would otherwise leave its deadline behind for a week.
    #[test]
    fn deadlines_of_connections_that_have_gone_are_not_kept() {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.stream("0.0.0.0:1", |stream| {
                stream.options().idle_timeout = Some(Duration::from_secs(7 * 86_400));
            })
        });
        let stays: Vec<_> = (0..100).map(|_| sim.connect()).collect();
        for _ in 0..5_000 {
            sim.connect().close();
            sim.settle();
            sim.advance(Duration::from_secs(1));
        }
        assert_eq!(sim.reactor().connection_count(), stays.len());
        let filed = sim.reactor().table.filed_count();
        assert!(filed < 1_000, "{filed} are filed");
        // Those that are there still end by theirs.
        sim.advance(Duration::from_secs(7 * 86_400));
        assert_eq!(sim.reactor().connection_count(), 0);
        sim.settle();
        assert_eq!(sim.reactor().table.filed_count(), 0);
    }
}
