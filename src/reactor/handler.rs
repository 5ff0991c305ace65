//! What the reactor asks of a role, and what every callback gets.

use crate::reactor::close::{Close, Deadline};
use crate::reactor::connection::Connection;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// What a callback without a connection gets: your state, and everything it may ask for.
///
/// The fields are disjoint, so that looping over your state while sending compiles.
pub struct Cx<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// Everything a callback may ask for.
    pub reactor: &'a mut Reactor<S>,
}

/// A role, as the loop sees it: one object per listener or client, beside the connections.
///
/// The loop calls these one at a time; nothing that they ask of [`Reactor`] calls back.
pub trait Handler<S> {
    /// What log lines call it for a connection, such as `http 127.0.0.1:8080 GET /chat`. Made when
    /// something is logged, and not before.
    fn name(&self, connection: Option<&Connection>) -> String;

    /// A connection was accepted or made.
    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// Bytes came. Returns how many were consumed; the rest is presented again, in front of what
    /// comes next. Must consume something when `input` is as large as the read buffer.
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize;

    /// The peer will send no more. What came before has been consumed, or never will be.
    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// The queue fell below the low watermark after having been above the high one.
    fn drained(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// The deadline it set has passed.
    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline);

    /// The connection is done; the last call for it.
    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close);

    /// Whether the object serves one connection only and goes with it.
    fn is_single(&self) -> bool {
        false
    }
}
