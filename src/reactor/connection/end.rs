//! The end of a connection: the steps of its life, as the picture in `connection` has them.
//!
//! All that moves a connection from one to the next is here; what it says goodbye with is its
//! protocol's business.

use crate::protocol::{http, websocket};

use crate::reactor::close::{Close, CloseCause, Deadline, Sent};
use crate::reactor::connection::table::{Source, Table};
use crate::reactor::connection::{Flags, Life, NO_HANDLER, Protocol};
use crate::reactor::id::ConnId;
use crate::reactor::time::coarse::Tick;

impl Table {
    fn begin_closing(&mut self, id: ConnId, life: Life, close: Close) {
        self.unplain(id);
        let now = self.now;
        let Table {
            sources, options, ..
        } = self;
        let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) else {
            return;
        };
        let was_open = connection.life == Life::Open;
        connection.life = life;
        // The first cause stays.
        if connection.close.is_none() {
            connection.close = Some(Box::new(close));
        }
        if was_open {
            connection.wait = Some(Deadline::Close);
            connection.deadline =
                Tick::after(now, options[usize::from(connection.options)].close_timeout);
            self.file(id);
        }
        if life == Life::Finishing && !self.is_dirty_or_blocked(id) {
            self.mark_dirty(id);
        }
    }

    fn is_dirty_or_blocked(&self, id: ConnId) -> bool {
        self.connection(id).is_some_and(|connection| {
            connection.flags.has(Flags::DIRTY) || connection.flags.has(Flags::BLOCKED)
        })
    }

    fn mark_dirty(&mut self, id: ConnId) {
        if let Some(connection) = self.connection_mut(id) {
            connection.flags.set(Flags::DIRTY);
            self.dirty.push(id);
        }
    }

    /// Says goodbye for the application, in the words of the protocol, and waits for the peer's
    /// where the protocol has one.
    pub(crate) fn close(&mut self, id: ConnId, cause: CloseCause, code: u16, reason: &str) -> Sent {
        let Some(connection) = self.open_mut(id) else {
            return Sent::Gone;
        };
        let mut goodbye = Vec::new();
        let (life, code) = match &mut connection.protocol {
            Protocol::WebSocket(machine) => {
                // With a code that must not be sent the reason could not be sent either.
                let mask = machine.mask();
                let code =
                    match websocket::encode_close(mask, Some(code.into()), reason, &mut goodbye) {
                        Ok(()) => code,
                        Err(_) => {
                            machine.encode_close(1000, reason, &mut goodbye);
                            1000
                        }
                    };
                (Life::Closing, code)
            }
            Protocol::EventStream { chunked } => {
                if *chunked {
                    http::encode_last_chunk(&mut goodbye);
                }
                connection.flags.set(Flags::LINGERS);
                (Life::Finishing, 0)
            }
            Protocol::Http(exchange) => {
                exchange.encode_end(&mut goodbye);
                connection.flags.set(Flags::LINGERS);
                (Life::Finishing, 0)
            }
            Protocol::Raw => {
                connection.flags.set(Flags::LINGERS);
                (Life::Finishing, 0)
            }
            Protocol::Upgrade(_) => {
                self.abort(id, cause);
                return Sent::Queued;
            }
        };
        // From here on it is read, whatever the application paused: the peer's goodbye may be there
        // already, and would not be reported again.
        let was_paused = !connection.may_read();
        if !goodbye.is_empty() {
            self.send_raw(id, &goodbye);
        }
        let close = Close {
            code,
            reason: websocket::cut_reason(reason).into(),
            ..Close::new(cause)
        };
        self.begin_closing(id, life, close);
        if was_paused {
            self.read_again(id);
        }
        Sent::Queued
    }

    /// Ends a connection for a fault: what was queued and not begun is dropped, the right status
    /// or close code is said, and the peer's answer is not waited for.
    pub(crate) fn fail(&mut self, id: ConnId, cause: CloseCause) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if !matches!(connection.life, Life::Open | Life::Closing) {
            return;
        }
        let first = connection.life == Life::Open;
        let date = self.date();
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let mut goodbye = Vec::new();
        let mut code = 0;
        let mut abrupt = false;
        connection.flags.set(Flags::LINGERS);
        match &mut connection.protocol {
            Protocol::WebSocket(machine) => {
                code = close_code(cause);
                if first {
                    machine.encode_close(code, "", &mut goodbye);
                }
            }
            // A stream that was cut short must not look whole: no last chunk.
            Protocol::EventStream { .. } => {}
            Protocol::Http(exchange) => {
                exchange.encode_failure(status_of(cause), &date, &mut goodbye)
            }
            Protocol::Raw => abrupt = cause == CloseCause::SlowConsumer,
            Protocol::Upgrade(_) => abrupt = true,
        }
        if abrupt {
            return self.abort(id, cause);
        }
        if cause == CloseCause::SlowConsumer || cause == CloseCause::Panicked {
            let Table { sources, nodes, .. } = self;
            if let Some(Source::Connection(connection)) = sources.get_mut(id.index as usize) {
                connection.queue.drop_oldest(nodes, 0);
            }
        }
        if !goodbye.is_empty() {
            self.send_raw(id, &goodbye);
        }
        self.begin_closing(
            id,
            Life::Finishing,
            Close {
                code,
                ..Close::new(cause)
            },
        );
    }

    /// The peer's goodbye came, or nothing is to be waited for: flush, then end the stream.
    /// `close` is kept only when nobody began to close before.
    pub(crate) fn finish(&mut self, id: ConnId, close: Close, lingers: bool) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if !matches!(connection.life, Life::Open | Life::Closing) {
            return;
        }
        if lingers {
            connection.flags.set(Flags::LINGERS);
        }
        let was_clean = close.was_clean;
        self.begin_closing(id, Life::Finishing, close);
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if let Some(close) = &mut connection.close {
            close.was_clean |= was_clean;
        }
        // The last answer may be large and its client slow: as long as bytes are taken the write
        // deadline is the one that holds, and that of closing begins behind the last of them.
        if matches!(connection.protocol, Protocol::Http(_)) {
            connection.wait = None;
            connection.deadline = Tick::NEVER;
        }
    }

    /// Ends a connection whose transport is of no more use.
    pub(crate) fn abort(&mut self, id: ConnId, cause: CloseCause) {
        self.unplain(id);
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        match connection.life {
            Life::Done => return,
            Life::Lingering => return self.remove(id),
            Life::Open | Life::Closing | Life::Finishing => {}
        }
        let code = match connection.protocol {
            Protocol::WebSocket(_) | Protocol::Upgrade(_) => 1006,
            _ => 0,
        };
        if connection.close.is_none() {
            connection.close = Some(Box::new(Close {
                code,
                ..Close::new(cause)
            }));
        }
        connection.life = Life::Done;
        connection.flags.clear(Flags::LINGERS);
        connection.transport.reset_on_close();
        self.closings.push(id);
    }

    /// Every connection ends here, because the loop does; each is on the list of closings then.
    pub(crate) fn end_all(&mut self, cause: CloseCause) {
        for (index, source) in &mut self.sources {
            let Source::Connection(connection) = source else {
                continue;
            };
            connection.flags.clear(Flags::LINGERS);
            if !matches!(connection.life, Life::Done | Life::Lingering) {
                connection.life = Life::Done;
                let code = match connection.protocol {
                    Protocol::WebSocket(_) | Protocol::Upgrade(_) => 1006,
                    _ => 0,
                };
                connection.close.get_or_insert_with(|| {
                    Box::new(Close {
                        code,
                        ..Close::new(cause)
                    })
                });
                self.closings.push(ConnId {
                    index: index as u32,
                    generation: connection.generation,
                });
            }
        }
    }

    pub(super) fn finished(&mut self, id: ConnId) {
        self.unplain(id);
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        connection.life = Life::Done;
        if connection.flags.has(Flags::LINGERS) && !connection.flags.has(Flags::AT_END) {
            // A failure means that the peer is gone, which is what lingering waits for.
            if connection.transport.shutdown_write().is_err() {
                connection.flags.clear(Flags::LINGERS);
            }
        } else {
            connection.flags.clear(Flags::LINGERS);
        }
        self.closings.push(id);
    }

    /// After `on_close`: lingers or removes.
    pub(crate) fn settle(&mut self, id: ConnId) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if !connection.flags.has(Flags::LINGERS) {
            return self.remove(id);
        }
        connection.life = Life::Lingering;
        connection.handler = NO_HANDLER;
        connection.protocol = Protocol::Raw;
        connection.carry = None;
        if connection.wait.is_none() {
            let options = connection.options;
            let due = Tick::after(self.now, self.options[usize::from(options)].close_timeout);
            if let Some(connection) = self.connection_mut(id) {
                connection.wait = Some(Deadline::Close);
                connection.deadline = due;
            }
            self.file(id);
        }
        self.read_again(id);
    }
}

/// The close code that tells a WebSocket peer. Source: RFC 6455, section 7.4.1; 1013 is IANA's.
fn close_code(cause: CloseCause) -> u16 {
    match cause {
        CloseCause::Protocol(error) => error.close_code(),
        CloseCause::SlowConsumer => 1013,
        CloseCause::Panicked => 1011,
        CloseCause::Drained => 1001,
        CloseCause::TimedOut(_) => 1001,
        CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Http(_)
        | CloseCause::Upgrade(_)
        | CloseCause::Io(_) => 1000,
    }
}

/// The status that tells an HTTP client.
fn status_of(cause: CloseCause) -> http::Status {
    match cause {
        CloseCause::Http(error) => error.status(),
        CloseCause::TimedOut(Deadline::Reply) => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::TimedOut(_) => http::Status::REQUEST_TIMEOUT,
        CloseCause::Drained | CloseCause::SlowConsumer => http::Status::SERVICE_UNAVAILABLE,
        CloseCause::Panicked
        | CloseCause::Peer
        | CloseCause::Local
        | CloseCause::Protocol(_)
        | CloseCause::Upgrade(_)
        | CloseCause::Io(_) => http::Status::INTERNAL_SERVER_ERROR,
    }
}
