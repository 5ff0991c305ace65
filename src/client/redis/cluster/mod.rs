//! A client of a Redis Cluster on the reactor: a link to each master that is needed, and subscriptions that follow
//! their slots.
//!
//! ```text
//!   command ─▶ master of the slot ─▶ MOVED, ASK, TRYAGAIN: again, there or later
//!   hold ─▶ group (a slot's names, or the ordinary ones) ─▶ link of its node ─▶ news of the group
//!   CLUSTER SLOTS of a node ─▶ topology ─▶ groups whose slot has moved are lost, and asked for at the new master
//! ```
//!
//! A group is connected when its node has confirmed all of its names and has said, after that, that the slot is its
//! own. While it is connected, only its node can say otherwise: with `MOVED`, with the end of a subscription, or with
//! other slots. So another node that is behind the times moves nothing.
//!
//! Ordinary names stand at one node, because each node has what is published at any other one. They stay where they
//! are until that link is lost, or its node has no slots to tell of.
//!
//! `topology.rs` reads what nodes say, `names.rs` knows the names of a group, `waiting.rs` the commands that wait,
//! `node.rs` one link, `state.rs` all of them and what is due; `links.rs` carries between them and calls back.

mod links;
mod names;
mod node;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod small_cluster_tests;
mod state;
mod topology;
mod waiting;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::resp::{Reply, encode_command};
use crate::reactor::reactor::{Cx, Reactor};

use self::links::Links;
use self::names::Group;
use self::waiting::Command;
use super::error::RedisError;
use super::link::Done;
use super::machine::UNSENT_TIMEOUT;
use super::upstream::{Held, SubscriptionKind};
use super::url::ClusterUrl;

pub(crate) use self::links::ClusterListener;

/// The links of a reactor to a Redis Cluster. A clone is the same cluster.
pub(crate) struct Cluster<S: 'static> {
    links: Rc<Links<S>>,
}

impl<S> Clone for Cluster<S> {
    fn clone(&self) -> Self {
        Cluster {
            links: Rc::clone(&self.links),
        }
    }
}

impl<S: 'static> Cluster<S> {
    /// Makes links to the masters of `slots`, and to a node for channels and patterns, from
    /// `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?name=NAME&protocol=2]`.
    ///
    /// Returns at once, and connects for ever.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput` with a [`RedisUrlError`](super::RedisUrlError), for another URL.
    pub(crate) fn connect(
        reactor: &mut Reactor<S>,
        url: &str,
        slots: &[u16],
    ) -> io::Result<Cluster<S>> {
        Cluster::connect_with(reactor, url, slots, rand::random())
    }

    /// As [`connect`](Self::connect), with a number that determines pauses and choices.
    fn connect_with(
        reactor: &mut Reactor<S>,
        url: &str,
        slots: &[u16],
        random: u64,
    ) -> io::Result<Cluster<S>> {
        let mut url = ClusterUrl::parse(url)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        url.prepare()?;
        let links = Links::new(reactor, url, slots, random);
        Ok(Cluster { links })
    }

    /// Has all messages and news given to a part of the program.
    pub(crate) fn set_listener(&self, listener: Rc<dyn ClusterListener<S>>) {
        self.links.set_listener(listener);
    }

    /// Sends a command to the master of a slot, and calls `done` once with its answer, or with the reason why there is
    /// none.
    ///
    /// A node that names another one is followed. A command that was certainly not carried out is sent again: for
    /// `timeout` where the node says `TRYAGAIN`, and for a second where the slot has no master that can take it. A
    /// command whose link breaks before the answer is never sent again.
    pub(crate) fn command_within<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        slot: u16,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        let now = reactor.now();
        let mut bytes = Vec::new();
        encode_command(words, &mut bytes);
        let command = Command {
            slot,
            bytes: bytes.into(),
            done: Box::new(done) as Done<S>,
            due: now + timeout,
            unsent_due: now + timeout.min(UNSENT_TIMEOUT),
            redirect_count: 0,
            asks: None,
        };
        self.links.command(reactor, command);
    }

    /// Sends a command that any node may carry out, such as `PUBLISH`, to the node that has the channels and patterns.
    pub(crate) fn command_anywhere<A: AsRef<[u8]>>(
        &self,
        reactor: &mut Reactor<S>,
        words: &[A],
        timeout: Duration,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        (self.links).command_anywhere(reactor, words, timeout, Box::new(done));
    }

    /// Calls `done` when all messages that the connection with the sharded subscriptions of a slot has sent by now were
    /// delivered. Fails where the slot is not connected, or is lost meanwhile.
    pub(crate) fn barrier(
        &self,
        reactor: &mut Reactor<S>,
        slot: u16,
        done: impl FnOnce(&mut Cx<'_, S>, Result<Reply<'_>, RedisError>) + 'static,
    ) {
        self.links
            .barrier(reactor, Group::Slot(slot), Box::new(done));
    }

    /// Wants a name: a channel or a pattern at the node that carries these, a sharded channel at the master of its slot.
    pub(crate) fn hold(
        &self,
        reactor: &mut Reactor<S>,
        kind: SubscriptionKind,
        name: &[u8],
    ) -> Held {
        self.links.hold(reactor, kind, name)
    }

    /// Gives up what [`hold`](Self::hold) wanted.
    pub(crate) fn release(&self, reactor: &mut Reactor<S>, kind: SubscriptionKind, name: &[u8]) {
        self.links.release(reactor, kind, name);
    }

    /// Whether a message by a pattern is the one to take, of those that come for one publication.
    pub(crate) fn is_first_by_pattern(&self, pattern: &[u8], channel: &[u8]) -> bool {
        self.links.is_first_by_pattern(pattern, channel)
    }
}
