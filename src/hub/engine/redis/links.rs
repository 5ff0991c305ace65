//! The way to Redis: one server, or the nodes of a cluster by the buckets that they have.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::client::redis::{
    Cluster, ClusterListener, Held, Redis, RedisError, SubscriptionKind, is_cluster,
};
use crate::protocol::resp::Reply;
use crate::reactor::reactor::{Cx, Reactor};

use super::keys::Keys;

/// The way to all buckets. A clone is the same.
pub(super) enum Links<S: 'static> {
    /// One server, which has the one bucket.
    Server(Redis<S>),
    /// A cluster, with the slot of each bucket.
    Cluster(Cluster<S>, Rc<[u16]>),
}

impl<S> Clone for Links<S> {
    fn clone(&self) -> Self {
        match self {
            Links::Server(redis) => Links::Server(redis.clone()),
            Links::Cluster(cluster, slots) => Links::Cluster(cluster.clone(), Rc::clone(slots)),
        }
    }
}

impl<S: 'static> Links<S> {
    /// Connects for ever.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, when the URL cannot be parsed, or the prefix has a brace in a cluster.
    pub(super) fn connect(
        reactor: &mut Reactor<S>,
        url: &str,
        prefix: Option<&str>,
    ) -> io::Result<(Links<S>, Keys)> {
        if !is_cluster(url) {
            let redis = Redis::connect(reactor, url)?;
            return Ok((Links::Server(redis), Keys::new(prefix)));
        }
        let keys = Keys::of_cluster(prefix)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let slots = keys.slots();
        let cluster = Cluster::connect(reactor, url, &slots)?;
        Ok((Links::Cluster(cluster, slots.into()), keys))
    }

    /// Sends a command to the server that has a bucket.
    pub(super) fn command_within<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        bucket: usize,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        match self {
            Links::Server(redis) => redis.command_within(reactor, words, timeout, done),
            Links::Cluster(cluster, slots) => {
                cluster.command_within(reactor, slots[bucket], words, timeout, done);
            }
        }
    }

    /// Sends a command that any server may carry out, such as `PUBLISH` of an ordinary message.
    pub(super) fn command_anywhere<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        match self {
            Links::Server(redis) => redis.command_within(reactor, words, timeout, done),
            Links::Cluster(cluster, _) => cluster.command_anywhere(reactor, words, timeout, done),
        }
    }

    /// Whether a server knows all subscribers of an ordinary channel.
    pub(super) fn counts_subscribers(&self) -> bool {
        matches!(self, Links::Server(_))
    }

    /// Has all messages and news given to the engine.
    pub(super) fn set_listener<L: ClusterListener<S> + 'static>(&self, listener: Rc<L>) {
        match self {
            Links::Server(redis) => redis.set_listener(listener),
            Links::Cluster(cluster, _) => cluster.set_listener(listener),
        }
    }

    /// The bucket that a slot of a cluster is for.
    pub(super) fn bucket_of_slot(&self, slot: u16) -> Option<usize> {
        match self {
            Links::Server(_) => None,
            Links::Cluster(_, slots) => slots.iter().position(|it| *it == slot),
        }
    }

    /// Calls `done` when all publications of a bucket were delivered that its server has sent by now.
    pub(super) fn barrier(
        &self,
        reactor: &mut Reactor<S>,
        bucket: usize,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        match self {
            Links::Server(redis) => redis.barrier(reactor, done),
            Links::Cluster(cluster, slots) => cluster.barrier(reactor, slots[bucket], done),
        }
    }

    /// Wants a name.
    pub(super) fn hold(
        &self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        match self {
            Links::Server(redis) => redis.hold(reactor, kind, name),
            Links::Cluster(cluster, _) => cluster.hold(reactor, kind, name),
        }
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(super) fn release(&self, reactor: &mut Reactor<S>, kind: SubscriptionKind, name: &[u8]) {
        match self {
            Links::Server(redis) => redis.release(reactor, kind, name),
            Links::Cluster(cluster, _) => cluster.release(reactor, kind, name),
        }
    }

    /// Whether a message by a pattern is the one to take, of those that come for one publication.
    pub(super) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        match self {
            Links::Server(redis) => redis.is_first_by_pattern(pattern, channel),
            Links::Cluster(cluster, _) => cluster.is_first_by_pattern(pattern, channel),
        }
    }
}

/// The way to one bucket, and the names there.
pub(super) struct Bucket<S: 'static> {
    links: Links<S>,
    keys: Keys,
    index: usize,
}

impl<S: 'static> Bucket<S> {
    pub(super) fn new(links: &Links<S>, keys: &Keys, index: usize) -> Bucket<S> {
        Bucket {
            links: links.clone(),
            keys: keys.clone(),
            index,
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn command_within<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        (self.links).command_within(reactor, self.index, words, timeout, done);
    }
}

impl<S: 'static> Clone for Bucket<S> {
    fn clone(&self) -> Self {
        Bucket::new(&self.links, &self.keys, self.index)
    }
}
