//! The setup of a client that connects again: its pauses, what it keeps meanwhile, and its callbacks.

use std::time::Duration;

use crate::reactor::close::Close;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::Cx;

use super::reconnect::Backoff;

/// How much a client keeps that is sent while it has no connection; see
/// [`WebSocketClient::keep_while_away`](crate::WebSocketClient::keep_while_away).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// Most messages. 1000 by default.
    pub messages_max: usize,
    /// Most bytes, the payloads of all messages together. 1 MiB by default.
    pub bytes_max: usize,
}

impl Default for KeepLimits {
    fn default() -> KeepLimits {
        KeepLimits {
            messages_max: 1000,
            bytes_max: 1024 * 1024,
        }
    }
}

/// The argument of `on_reconnect`: the attempt that follows, and why.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Reconnect<'a> {
    /// The number of the attempt, from 1. It begins again after a connection that lasted for
    /// [`stable_after`](Backoff::stable_after).
    pub attempt: u32,
    /// The time from now to the attempt.
    pub pause: Duration,
    /// The end of the connection, or of the attempt before.
    pub close: &'a Close,
}

type OnReconnect<S> = Box<dyn FnMut(&mut Cx<'_, S>, &Reconnect<'_>)>;
type OnGiveUp<S> = Box<dyn FnMut(&mut Cx<'_, S>, &Close)>;

/// The choices of a client's setup.
pub(super) struct Reconnection<S> {
    /// `None` where the setup did not ask for it.
    pub(super) backoff: Option<Backoff>,
    pub(super) keeps: Option<KeepLimits>,
    condition: Option<Box<dyn FnMut(&Close) -> bool>>,
    on_reconnect: Option<OnReconnect<S>>,
    on_give_up: Option<OnGiveUp<S>>,
}

impl<S> Default for Reconnection<S> {
    fn default() -> Self {
        Reconnection {
            backoff: None,
            keeps: None,
            condition: None,
            on_reconnect: None,
            on_give_up: None,
        }
    }
}

impl<S: 'static> Reconnection<S> {
    /// The choice that means something only to a client that connects again, if one was made: its name.
    pub(super) fn choice(&self) -> Option<&'static str> {
        let choices = [
            ("keep_while_away", self.keeps.is_some()),
            ("reconnect_if", self.condition.is_some()),
            ("on_reconnect", self.on_reconnect.is_some()),
            ("on_give_up", self.on_give_up.is_some()),
        ];
        let mut choices = choices.into_iter();
        choices.find_map(|(name, is_made)| is_made.then_some(name))
    }

    pub(super) fn set_condition(&mut self, condition: impl FnMut(&Close) -> bool + 'static) {
        self.condition = Some(Box::new(condition));
    }

    pub(super) fn set_on_reconnect<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Cx<'_, S>, &Reconnect<'_>) -> R + 'static,
    ) {
        self.on_reconnect = Some(Box::new(move |cx, next| {
            let outcome = call(cx, next);
            cx.reactor.note_outcome(outcome);
        }));
    }

    pub(super) fn set_on_give_up<R: Outcome>(
        &mut self,
        mut call: impl FnMut(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        self.on_give_up = Some(Box::new(move |cx, close| {
            let outcome = call(cx, close);
            cx.reactor.note_outcome(outcome);
        }));
    }

    /// Whether another attempt follows this end: by the application's condition, or else by the client's own.
    pub(super) fn goes_on(&mut self, close: &Close, by_default: fn(&Close) -> bool) -> bool {
        match &mut self.condition {
            Some(condition) => condition(close),
            None => by_default(close),
        }
    }

    pub(super) fn call_on_reconnect(&mut self, cx: &mut Cx<'_, S>, next: &Reconnect<'_>) {
        if let Some(call) = &mut self.on_reconnect {
            cx.reactor.note_callback("on_reconnect");
            call(cx, next);
        }
    }

    pub(super) fn call_on_give_up(&mut self, cx: &mut Cx<'_, S>, close: &Close) {
        if let Some(call) = &mut self.on_give_up {
            cx.reactor.note_callback("on_give_up");
            call(cx, close);
        }
    }
}
