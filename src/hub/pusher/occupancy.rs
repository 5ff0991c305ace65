//! Connections that come to channels and leave them: for webhooks, and for members that want to know how many they are.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::parts::Parts;
use crate::protocol::pusher::webhook;
use crate::pubsub::{Audience, Notice, Occupancy, OccupancyChange, VACATED_DELAY};
use crate::reactor::reactor::Reactor;

use super::topic::{TOPIC, split};

/// The least time between two counts of one channel.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Begins to watch the channels of all apps.
pub(super) fn watch<S: 'static>(hub: &Rc<Parts<S>>, reactor: &mut Reactor<S>) {
    let hub = Rc::clone(hub);
    // The channels whose count is told when the time has come.
    let due: Rc<RefCell<BTreeSet<Arc<str>>>> = Rc::default();
    reactor.watch_occupancy(TOPIC, move |reactor, changes| {
        for Occupancy { topic, change } in changes {
            handle(&hub, &due, reactor, &topic, change);
        }
    });
}

fn handle<S: 'static>(
    hub: &Rc<Parts<S>>,
    due: &Rc<RefCell<BTreeSet<Arc<str>>>>,
    reactor: &mut Reactor<S>,
    topic: &Arc<str>,
    change: OccupancyChange,
) {
    // Topics of users are no channels.
    let Some((app_id, channel)) = split(topic).filter(|(_, channel)| !channel.starts_with('#'))
    else {
        return;
    };
    let send = |reactor: &mut Reactor<S>, name: &str| {
        let webhooks = hub.pusher.webhooks();
        webhooks.send(reactor, app_id, name, channel, || {
            webhook::channel_event(name, channel)
        });
    };
    let send_member = |reactor: &mut Reactor<S>, name: &str, user: &str| {
        let webhooks = hub.pusher.webhooks();
        webhooks.send(reactor, app_id, name, channel, || {
            webhook::member_event(name, channel, user)
        });
    };
    match change {
        OccupancyChange::Occupied => send(reactor, "channel_occupied"),
        OccupancyChange::Vacated => {
            let (hub, topic) = (Rc::clone(hub), Arc::clone(topic));
            reactor.after(VACATED_DELAY, move |cx| {
                if let (true, Some((app_id, channel))) =
                    (cx.reactor.is_vacated(&topic), split(&topic))
                {
                    let name = "channel_vacated";
                    let event = || webhook::channel_event(name, channel);
                    let webhooks = hub.pusher.webhooks();
                    webhooks.send(cx.reactor, app_id, name, channel, event);
                }
            });
        }
        OccupancyChange::Joined(user) => send_member(reactor, "member_added", &user),
        OccupancyChange::Left(user) => send_member(reactor, "member_removed", &user),
        OccupancyChange::Counted => {
            let app = hub.pusher.apps().by_id(app_id);
            let is_wanted = app.is_some_and(|app| app.tells_counts());
            // The members of a presence channel know who is there.
            if is_wanted && !channel.starts_with("presence-") {
                count_later(hub, due, reactor, topic);
            }
        }
    }
}

/// Tells the count of a channel at the end of this interval, if that is not due already.
fn count_later<S: 'static>(
    hub: &Rc<Parts<S>>,
    due: &Rc<RefCell<BTreeSet<Arc<str>>>>,
    reactor: &mut Reactor<S>,
    topic: &Arc<str>,
) {
    if !due.borrow_mut().insert(Arc::clone(topic)) {
        return;
    }
    let (hub, due, topic) = (Rc::clone(hub), Rc::clone(due), Arc::clone(topic));
    reactor.after(COUNT_INTERVAL, move |cx| {
        due.borrow_mut().remove(&topic);
        let count = cx.reactor.presence_counts(&topic).connections;
        if let Some((app_id, channel)) = split(&topic) {
            let event = || webhook::subscription_count(channel, count);
            let webhooks = hub.pusher.webhooks();
            webhooks.send(cx.reactor, app_id, "subscription_count", channel, event);
        }
        hub.engine.run_where_shared(cx.reactor, move |reactor| {
            let notice = Notice::Connections { count };
            reactor.deliver_notice(&topic, &notice, Audience::ByName, None);
        });
    });
}
