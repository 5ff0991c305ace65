//! Questions to all reactors of a group, such as how many connections there are.
//!
//! Each reactor answers in a turn of its own. Its closure holds a reference to the question, and the last
//! reference that is dropped reports the answers to the reactor that asked: so a reactor that has ended, and
//! drops its closure unused, delays nothing. A reactor that is stuck is waited for until [`ANSWER_TIMEOUT`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;

use super::group::GroupSeat;

/// How long the reactors of a group may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The answers of the reactors of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answers<T> {
    /// Of each reactor that has answered, in no order.
    pub answers: Vec<T>,
    /// How many reactors have not answered: they have ended or not joined yet, or did not answer within a
    /// second.
    pub missing_count: usize,
}

impl<T> Answers<T> {
    /// The answer of a reactor that is alone.
    pub(super) fn of_one(answer: T) -> Answers<T> {
        Answers {
            answers: vec![answer],
            missing_count: 0,
        }
    }
}

/// A question that is under way.
struct Question<S: 'static, T, D>
where
    T: Send + 'static,
    D: FnOnce(&mut Reactor<S>, Answers<T>) + Send + 'static,
{
    asker: GroupSeat<S>,
    state: Mutex<State<T, D>>,
}

struct State<T, D> {
    answers: Vec<T>,
    /// Taken when the answers are reported.
    done: Option<D>,
    timeout: Option<TimerId>,
}

impl<S: 'static> GroupSeat<S> {
    /// Calls `ask` on each reactor of the group, in a turn of that reactor, and then `done` on this one with
    /// the answers. A reactor that does not answer within a second is left out.
    ///
    /// `reactor` is the one that took this seat. `done` is dropped when it ends before.
    pub fn ask_all<T: Send + 'static>(
        &self,
        reactor: &mut Reactor<S>,
        ask: impl Fn(&mut Cx<'_, S>) -> T + Clone + Send + 'static,
        done: impl FnOnce(&mut Reactor<S>, Answers<T>) + Send + 'static,
    ) {
        let question = Arc::new(Question {
            asker: self.clone(),
            state: Mutex::new(State {
                answers: Vec::with_capacity(self.reactor_count()),
                done: Some(done),
                timeout: None,
            }),
        });
        let pending = Arc::downgrade(&question);
        let timeout = reactor.after(ANSWER_TIMEOUT, move |cx| {
            if let Some(question) = pending.upgrade()
                && let Some((done, answers)) = question.take()
            {
                done(cx.reactor, answers);
            }
        });
        question.lock().timeout = Some(timeout);
        for index in 0..self.reactor_count() {
            let (question, ask) = (Arc::clone(&question), ask.clone());
            self.run_on(index, move |cx| {
                let answer = ask(cx);
                question.lock().answers.push(answer);
            });
        }
    }
}

impl<S: 'static, T, D> Question<S, T, D>
where
    T: Send + 'static,
    D: FnOnce(&mut Reactor<S>, Answers<T>) + Send + 'static,
{
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the call that reports the answers. `None` when they were reported before.
    fn take(&self) -> Option<(D, Answers<T>)> {
        let mut state = self.lock();
        let done = state.done.take()?;
        let answers = std::mem::take(&mut state.answers);
        let missing_count = self.asker.reactor_count() - answers.len();
        Some((
            done,
            Answers {
                answers,
                missing_count,
            },
        ))
    }
}

impl<S: 'static, T, D> Drop for Question<S, T, D>
where
    T: Send + 'static,
    D: FnOnce(&mut Reactor<S>, Answers<T>) + Send + 'static,
{
    fn drop(&mut self) {
        let Some((done, answers)) = self.take() else {
            return;
        };
        let timeout = self.lock().timeout.take();
        self.asker.run_on_own(move |cx| {
            if let Some(timeout) = timeout {
                cx.reactor.cancel(timeout);
            }
            done(cx.reactor, answers);
        });
    }
}
