//! The subscriptions of the application, with their callbacks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::push::Message;
use super::upstream::SubscriptionKind;
use crate::reactor::reactor::Cx;

/// Called with each message of a subscription.
pub(super) type OnMessage<S> = Rc<RefCell<dyn FnMut(&mut Cx<'_, S>, &RedisMessage<'_>)>>;

/// A message that was published in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisMessage<'m> {
    /// The channel to which it was published.
    pub channel: &'m [u8],
    /// The pattern by which it came, for a subscription by pattern.
    pub pattern: Option<&'m [u8]>,
    /// The message.
    pub payload: &'m [u8],
}

/// One subscription of the application, to end it with [`Redis::unsubscribe`](super::Redis::unsubscribe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RedisSubscription(u64);

/// The kind and the name of a subscription.
type Key = (SubscriptionKind, Box<[u8]>);

/// All subscriptions of a link.
pub(super) struct Subscriptions<S: 'static> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S: 'static> {
    last_id: u64,
    names: HashMap<RedisSubscription, Key>,
    callbacks: HashMap<Key, Vec<(RedisSubscription, OnMessage<S>)>>,
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        let inner = Inner {
            last_id: 0,
            names: HashMap::new(),
            callbacks: HashMap::new(),
        };
        Subscriptions {
            inner: RefCell::new(inner),
        }
    }
}

impl<S: 'static> Subscriptions<S> {
    /// Keeps a callback for the messages of a name.
    pub(super) fn add(
        &self,
        kind: SubscriptionKind,
        name: &[u8],
        on_message: OnMessage<S>,
    ) -> RedisSubscription {
        let mut inner = self.inner.borrow_mut();
        inner.last_id += 1;
        let id = RedisSubscription(inner.last_id);
        inner.names.insert(id, (kind, name.into()));
        let callbacks = inner.callbacks.entry((kind, name.into()));
        callbacks.or_default().push((id, on_message));
        id
    }

    /// Forgets a callback, and returns the name that it was for. `None` where it was forgotten before.
    pub(super) fn remove(
        &self,
        subscription: RedisSubscription,
    ) -> Option<(SubscriptionKind, Box<[u8]>)> {
        let mut inner = self.inner.borrow_mut();
        let key = inner.names.remove(&subscription)?;
        if let Some(callbacks) = inner.callbacks.get_mut(&key) {
            callbacks.retain(|(id, _)| *id != subscription);
            if callbacks.is_empty() {
                inner.callbacks.remove(&key);
            }
        }
        Some(key)
    }

    /// Calls the callbacks for a message.
    pub(super) fn call(&self, cx: &mut Cx<'_, S>, message: Message<'_>) {
        let callbacks = {
            let inner = self.inner.borrow();
            if inner.callbacks.is_empty() {
                return;
            }
            let key = (message.kind, Box::from(message.name));
            inner.callbacks.get(&key).cloned()
        };
        let message = RedisMessage {
            channel: message.channel,
            pattern: (message.kind == SubscriptionKind::Pattern).then_some(message.name),
            payload: message.payload,
        };
        for (id, call) in callbacks.into_iter().flatten() {
            // An earlier callback may have ended it.
            let is_there = self.inner.borrow().names.contains_key(&id);
            if is_there && let Ok(mut call) = call.try_borrow_mut() {
                call(cx, &message);
            }
        }
    }
}
