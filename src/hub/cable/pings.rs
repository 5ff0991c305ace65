//! The pings that each client needs within six seconds, of which a WebSocket's own do not count.
//!
//! They are spread: the period has slots, and each client belongs to one. Those of a slot share the bytes.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::action_cable::message;
use crate::pubsub::{Event, EventId};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use super::identifiers::AS_IT_IS;

/// The time between two pings to a client.
const PERIOD: Duration = Duration::from_secs(3);

/// The slots of a period.
const SLOT_COUNT: usize = 30;

#[derive(Default)]
struct Slots {
    /// The clients of each slot; one that has ended stays until its slot is due.
    slots: Vec<Vec<ConnId>>,
    next_slot: usize,
    /// The slot that is due next.
    due: usize,
    is_running: bool,
}

/// The pings to the clients of one reactor.
#[derive(Clone, Default)]
pub(super) struct Pings(Rc<RefCell<Slots>>);

impl Pings {
    /// Pings a client from now on.
    pub(super) fn add<S: 'static>(&self, reactor: &mut Reactor<S>, id: ConnId) {
        let mut slots = self.0.borrow_mut();
        slots.slots.resize_with(SLOT_COUNT, Vec::new);
        let slot = slots.next_slot;
        slots.next_slot = (slot + 1) % SLOT_COUNT;
        slots.slots[slot].push(id);
        if std::mem::replace(&mut slots.is_running, true) {
            return;
        }
        let pings = self.clone();
        reactor.every(PERIOD / SLOT_COUNT as u32, move |cx| pings.send(cx.reactor));
    }

    /// Pings the clients of the slot that is due. Ends where there are no clients.
    fn send<S: 'static>(&self, reactor: &mut Reactor<S>) -> ControlFlow<()> {
        let mut slots = self.0.borrow_mut();
        let due = slots.due;
        slots.due = (due + 1) % SLOT_COUNT;
        let slot = &mut slots.slots[due];
        slot.retain(|id| reactor.is_open(*id));
        if !slot.is_empty() {
            let clients = std::mem::take(slot);
            drop(slots);
            let ping = Event::from(message::ping(reactor.unix_time()));
            let members = clients.iter().map(|id| (*id, AS_IT_IS));
            reactor.deliver_to_each(members, "", EventId::new(0, 0), &ping);
            slots = self.0.borrow_mut();
            // Clients may have come meanwhile.
            slots.slots[due].extend(clients);
        }
        if slots.slots.iter().all(Vec::is_empty) {
            slots.is_running = false;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
