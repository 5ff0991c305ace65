//! Calling user code: guarded against panics, and timed.
//!
//! Every call of a handler, a timer, a tick or a closure of another thread goes through here. A handler may
//! call several callbacks in one call: all messages of a read share one guard, and are timed together. Values
//! of the application that the loop drops are guarded by `panics`; a value that a callback drops, such as a
//! timer that it cancels, is under the guard of that callback. A panic ends the connection that the call was
//! about, and nothing else; a call that takes too long is logged by name.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::Running;
use super::close::CloseCause;
use super::handlers::Handlers;
use super::id::ConnId;
use super::log_limit::Suppressed;
use super::panics::{Panicked, drop_guarded, guarded};
use super::reactor::{ArrivalKind, Cx, Handler, Reactor};

/// The name of a call that belongs to no connection, for the log.
#[derive(Clone, Copy)]
pub(super) enum Caller {
    Timer(&'static Location<'static>),
    NextTick(&'static Location<'static>),
    Arrival(ArrivalKind, &'static Location<'static>),
    /// Publications of other reactors of the group.
    Posts,
    /// Several callbacks of `on_close` can be set for one connection, beside that of its route.
    OnClose(ConnId),
    /// A source that belongs to no connection, made at this place: its kind, and the place.
    Watched(&'static str, &'static Location<'static>),
    OnDrain(ConnId),
    /// Before the answer to its request.
    OnGone(ConnId),
    /// A request that waited for publications.
    Awaited(ConnId),
    /// A role is told that the loop has ended.
    AtEnd,
}

impl Caller {
    /// Calls of one kind share the limit of their log lines.
    fn kind(self) -> &'static str {
        match self {
            Caller::Timer(_) => "timer",
            Caller::NextTick(_) => "tick",
            Caller::Arrival(ArrivalKind::Run | ArrivalKind::Call, _) => "arrival",
            Caller::Arrival(ArrivalKind::Deferred, _) => "done of an operation",
            Caller::Posts => "posts",
            Caller::OnClose(_) => "on_close of a connection",
            Caller::Watched(kind, _) => kind,
            Caller::OnGone(_) => "on_gone",
            Caller::Awaited(_) => "awaited publications",
            Caller::OnDrain(_) => "on_drain of a connection",
            Caller::AtEnd => "end of the loop",
        }
    }
}

impl Caller {
    /// The text that is the same for all calls that share the limit of errors: the place in the program, if
    /// it is known.
    fn subject(self) -> String {
        match self {
            Caller::Timer(_) | Caller::NextTick(_) | Caller::Arrival(..) | Caller::Watched(..) => {
                self.to_string()
            }
            Caller::OnClose(_)
            | Caller::OnDrain(_)
            | Caller::OnGone(_)
            | Caller::Awaited(_)
            | Caller::AtEnd
            | Caller::Posts => self.kind().to_owned(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Timer(set_at) => write!(f, "the timer set at {set_at}"),
            Caller::NextTick(queued_at) => write!(f, "the tick queued at {queued_at}"),
            Caller::Arrival(kind, queued_at) => {
                let what = match kind {
                    ArrivalKind::Run => "the closure queued with `Remote::run`",
                    ArrivalKind::Call => "the closure queued with `Remote::call`",
                    ArrivalKind::Deferred => "`done` of the operation deferred",
                };
                write!(f, "{what} at {queued_at}")
            }
            Caller::Posts => f.write_str("the delivery of what other reactors published"),
            Caller::OnClose(id) => write!(f, "conn {id}: on_close"),
            Caller::OnDrain(id) => write!(f, "conn {id}: on_drain"),
            Caller::Watched(kind, place) => write!(f, "the {kind} of {place}"),
            Caller::OnGone(id) => write!(f, "conn {id}: on_gone"),
            Caller::Awaited(id) => write!(f, "conn {id}: the answer with awaited publications"),
            Caller::AtEnd => f.write_str("a callback at the end of the loop"),
        }
    }
}

impl<S: 'static> Running<S> {
    /// Calls the handler of a connection, unless a callback has stopped the loop.
    pub(super) fn call_handler(
        &mut self,
        id: ConnId,
        event: &'static str,
        call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
    ) {
        if !self.reactor.is_stopped
            && let Some(connection) = self.reactor.table.connection(id)
        {
            let key = connection.handler();
            self.call_handler_at((id, key), event, call);
        }
    }

    /// Calls a handler for a connection, whatever has happened. A panic ends the connection and nothing
    /// else.
    #[inline(always)]
    pub(super) fn call_handler_at(
        &mut self,
        (id, key): (ConnId, u32),
        event: &'static str,
        call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
    ) {
        let Running {
            handlers,
            reactor,
            state,
            ..
        } = self;
        deliver(handlers, reactor, state, (id, key), event, call);
    }

    /// Calls a closure that belongs to no connection, unless a callback has stopped the loop.
    pub(super) fn call(&mut self, caller: Caller, call: impl FnOnce(&mut Cx<'_, S>)) {
        if self.reactor.is_stopped {
            self.drop_value(&caller, call);
        } else {
            self.call_always(caller, call);
        }
    }

    /// Drops a value of the application. A panic in its `Drop` is logged and counted.
    pub(super) fn drop_value<T>(&mut self, what: &dyn fmt::Display, value: T) {
        if let Err(panicked) = drop_guarded(what, value) {
            self.reactor.table.stats_mut().panics += 1;
            self.reactor.panics.note(panicked);
        }
    }

    /// As [`call`](Self::call), also after the loop was stopped.
    pub(super) fn call_always(&mut self, caller: Caller, call: impl FnOnce(&mut Cx<'_, S>)) {
        let reactor = &mut self.reactor;
        let before = reactor.table.now();
        let mut cx = Cx {
            state: &mut self.state,
            reactor,
        };
        if let Err(panicked) = guarded(|| call(&mut cx)) {
            self.reactor.table.stats_mut().panics += 1;
            self.reactor.panics.note(panicked);
            log::error!("{caller} panicked");
        }
        if !self.reactor.errors.is_empty() {
            self.reactor.log_errors_of(caller);
        }
        if let Some(took) = self.reactor.slow_since(before) {
            self.reactor.table.stats_mut().slow_callbacks += 1;
            if let Some(suppressed) = self.reactor.allow_slow_line(caller.kind()) {
                log::warn!("{caller} took {took:?}{suppressed}");
            }
        }
    }
}

/// Calls a handler for a connection. Takes the parts of the event loop one by one, so that the
/// input buffer can be lent to the call.
#[inline(always)]
pub(super) fn deliver<S: 'static>(
    handlers: &mut Handlers<S>,
    reactor: &mut Reactor<S>,
    state: &mut S,
    (id, key): (ConnId, u32),
    event: &'static str,
    call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
) {
    handlers.adopt(reactor);
    let Some(handler) = handlers.get_mut(key) else {
        return;
    };
    reactor.callback = event;
    let before = reactor.table.now();
    let mut cx = Cx { state, reactor };
    if let Err(panicked) = guarded(|| call(handler, &mut cx)) {
        reactor.note_panic(id, handler, panicked);
    }
    if !reactor.errors.is_empty() {
        reactor.log_errors(id, handler);
    }
    if let Some(took) = reactor.slow_since(before) {
        reactor.note_slow(id, handler, took);
    }
}

impl<S: 'static> Reactor<S> {
    /// Reads the clock. Returns the time since the start of the reactor, in nanoseconds.
    #[inline]
    pub(super) fn read_clock(&mut self) -> u64 {
        let now = self.clock.now();
        self.table.set_now(now);
        now
    }

    /// Reads the clock. Returns the time since `before` if it is more than a callback may take.
    #[inline]
    fn slow_since(&mut self, before: u64) -> Option<Duration> {
        let now = self.read_clock();
        let took = now - before;
        self.table.stats_mut().callbacks.record(took);
        (self.slow_callback_nanos < took).then(|| Duration::from_nanos(took))
    }

    #[cold]
    fn note_panic(&mut self, id: ConnId, handler: &dyn Handler<S>, panicked: Panicked) {
        self.table.stats_mut().panics += 1;
        self.panics.note(panicked);
        // The panic's own message has been printed by the panic hook; this adds the connection.
        log::error!(
            "conn {id} {}: {}: {} panicked",
            self.peer(id),
            handler.name(self.table.connection(id)),
            self.callback
        );
        self.table.fail(id, CloseCause::Panicked);
    }

    /// Ends a connection whose callback, which is none of its handler, has panicked.
    #[cold]
    pub(super) fn end_after_panic(&mut self, id: ConnId, callback: &str, panicked: Panicked) {
        self.table.stats_mut().panics += 1;
        self.panics.note(panicked);
        log::error!("conn {id} {}: {callback} panicked", self.peer(id));
        self.table.fail(id, CloseCause::Panicked);
    }

    #[cold]
    fn log_errors(&mut self, id: ConnId, handler: &dyn Handler<S>) {
        let (peer, name) = (self.peer(id), handler.name(self.table.connection(id)));
        let now = self.now();
        for (callback, error) in self.errors.drain(..) {
            let subject = format!("{name}: {callback}");
            if let Some(suppressed) = self.error_lines.allow_line(subject, now) {
                log::error!(
                    "conn {id} {peer}: {name}: {callback} returned an error: {error}{suppressed}"
                );
            }
        }
    }

    /// As [`log_errors`](Self::log_errors), for a call that belongs to no handler.
    #[cold]
    fn log_errors_of(&mut self, caller: Caller) {
        let now = self.now();
        let subject = caller.subject();
        for (_, error) in self.errors.drain(..) {
            if let Some(suppressed) = self.error_lines.allow_line(subject.clone(), now) {
                log::error!("{caller} returned an error: {error}{suppressed}");
            }
        }
    }

    /// Asks to log a slow callback of this kind. Each kind has one line a minute, so that many slow `on_open`
    /// do not hide a request that is slow.
    fn allow_slow_line(&mut self, kind: &'static str) -> Option<Suppressed> {
        let now = self.now();
        self.slow_lines.entry(kind).or_default().allow_line(now)
    }

    #[cold]
    fn note_slow(&mut self, id: ConnId, handler: &dyn Handler<S>, took: Duration) {
        self.table.stats_mut().slow_callbacks += 1;
        let Some(suppressed) = self.allow_slow_line(self.callback) else {
            return;
        };
        let name = handler.name(self.table.connection(id));
        log::warn!(
            "conn {id} {}: {name}: {} took {took:?}{suppressed}",
            self.peer(id),
            self.callback
        );
    }
}
