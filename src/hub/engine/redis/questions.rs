//! The orders of this reactor that are under way, each with the answers that have come.

use std::collections::HashMap;

use crate::reactor::reactor::Reactor;
use crate::reactor::time::timers::TimerId;

/// Most orders that are under way.
const QUESTIONS_MAX: usize = 1000;

type Done<S> = Box<dyn FnOnce(&mut Reactor<S>, usize)>;

/// The orders that are under way.
pub(super) struct Questions<S> {
    /// The channel of the reactors is wanted.
    is_joined: bool,
    last_token: u64,
    by_token: HashMap<u64, Question<S>>,
}

/// An order that is under way.
pub(super) struct Question<S> {
    /// The sum of the answers.
    pub count: usize,
    pub timeout: TimerId,
    pub done: Done<S>,
    answer_count: usize,
    /// How many reactors hear the channel, when Redis has said so.
    expected_count: Option<usize>,
}

impl<S> Default for Questions<S> {
    fn default() -> Self {
        Questions {
            is_joined: false,
            last_token: 0,
            by_token: HashMap::new(),
        }
    }
}

impl<S> Questions<S> {
    /// Notes that the channel is wanted. Returns whether it was before.
    pub(super) fn note_joined(&mut self) -> bool {
        std::mem::replace(&mut self.is_joined, true)
    }

    /// The number for the next order. `None` where the channel is not wanted, or too many are under way.
    pub(super) fn next_token(&mut self) -> Option<u64> {
        if !self.is_joined || QUESTIONS_MAX <= self.by_token.len() {
            return None;
        }
        self.last_token += 1;
        Some(self.last_token)
    }

    pub(super) fn add(&mut self, token: u64, timeout: TimerId, done: Done<S>) {
        let question = Question {
            count: 0,
            timeout,
            done,
            answer_count: 0,
            expected_count: None,
        };
        self.by_token.insert(token, question);
    }

    /// Notes how many reactors will answer. Returns the order if all have.
    pub(super) fn note_expected(&mut self, token: u64, count: usize) -> Option<Question<S>> {
        self.by_token.get_mut(&token)?.expected_count = Some(count);
        self.take_answered(token)
    }

    /// Notes an answer. Returns the order if it is the last one.
    pub(super) fn note_answer(&mut self, token: u64, count: usize) -> Option<Question<S>> {
        let question = self.by_token.get_mut(&token)?;
        question.count = question.count.saturating_add(count);
        question.answer_count += 1;
        self.take_answered(token)
    }

    fn take_answered(&mut self, token: u64) -> Option<Question<S>> {
        let question = self.by_token.get(&token)?;
        let is_answered = question.expected_count? <= question.answer_count;
        is_answered.then(|| self.take(token)).flatten()
    }

    /// Takes an order that is not answered by all.
    pub(super) fn take(&mut self, token: u64) -> Option<Question<S>> {
        self.by_token.remove(&token)
    }
}
