//! How many members of a node got a publication that its reactors hear from Redis, each by a link of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::reactor::reactor::Reactor;

use super::group::GroupSeat;
use super::redis::{CountOnNode, HeardPublication};

/// The time after which reactors are asked again that had not heard the publication. It doubles with each question.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// They are not asked again after a pause of this length, and then their members do not count.
const PAUSE_MAX: Duration = Duration::from_millis(128);

/// Counts the members on all reactors of a group.
pub(super) fn counter<S: 'static>(seat: &GroupSeat<S>) -> CountOnNode<S> {
    let seat = seat.clone();
    Rc::new(move |reactor, publication, done| {
        let parked = reactor.park(done);
        ask(&seat, reactor, Arc::new(publication), parked, PAUSE_MIN);
    })
}

/// Asks all reactors, and calls the parked call with the sum.
fn ask<S: 'static>(
    seat: &GroupSeat<S>,
    reactor: &mut Reactor<S>,
    publication: Arc<HeardPublication>,
    parked: u64,
    pause: Duration,
) {
    let (again, wanted) = (seat.clone(), Arc::clone(&publication));
    seat.ask_all(
        reactor,
        move |cx| {
            let HeardPublication {
                topic,
                bucket,
                number,
            } = &*wanted;
            cx.reactor.delivered_of(topic, *bucket, *number)
        },
        move |reactor, answers| {
            let is_behind = answers.answers.iter().any(Option::is_none);
            if is_behind && pause <= PAUSE_MAX {
                reactor.after(pause, move |cx| {
                    ask(&again, cx.reactor, publication, parked, 2 * pause);
                });
                return;
            }
            let count = answers.answers.into_iter().flatten().sum();
            reactor.call_parked(parked, count);
        },
    );
}
