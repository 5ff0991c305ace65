//! The connections to sentinels: each question has one of its own, for a second at most.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::sentinel::{Answer, Inquiry, SENTINEL_TIMEOUT};
use super::tls::Security;
use super::url::SentinelUrl;
use crate::reactor::close::{Close, CloseCause};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::time::timers::TimerId;
use crate::session::stream::StreamCallbacks;

/// Called with the outcome of a question.
type OnAnswer<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Answer)>;

/// The sentinels that a link asks.
pub(super) struct SentinelLink<S: 'static> {
    inquiry: RefCell<Inquiry>,
    question: RefCell<Option<Question<S>>>,
    question_count: Cell<u64>,
    security: Security,
}

/// A question that has no answer yet.
struct Question<S: 'static> {
    number: u64,
    id: Option<ConnId>,
    timer: TimerId,
    done: OnAnswer<S>,
}

impl<S: 'static> SentinelLink<S> {
    pub(super) fn new(url: SentinelUrl, security: Security) -> Rc<SentinelLink<S>> {
        Rc::new(SentinelLink {
            inquiry: RefCell::new(Inquiry::new(url)),
            question: RefCell::default(),
            question_count: Cell::new(0),
            security,
        })
    }

    /// The sentinel that answered last is the next one to be asked.
    pub(super) fn begin(&self) {
        self.inquiry.borrow_mut().begin();
    }

    /// Another sentinel is asked first from now on: the address that was found is wrong.
    pub(super) fn reject(&self) {
        self.inquiry.borrow_mut().reject();
    }

    /// The name of the master.
    pub(super) fn master(&self) -> String {
        self.inquiry.borrow().master().to_owned()
    }

    /// Asks one sentinel, instead of one that was asked before. `done` is called once, and not from inside.
    pub(super) fn ask(self: &Rc<Self>, reactor: &mut Reactor<S>, done: OnAnswer<S>) {
        self.cancel(reactor);
        let number = self.question_count.get() + 1;
        self.question_count.set(number);
        let (address, bytes) = {
            let mut inquiry = self.inquiry.borrow_mut();
            let bytes = inquiry.question();
            (inquiry.address().to_owned(), bytes)
        };
        let to = self.security.connect_to(&address);
        let made = reactor.connect_stream(to, |stream| {
            self.set_callbacks(stream, number, bytes);
        });
        let sentinels = Rc::clone(self);
        let (timeout, why) = match &made {
            Ok(_) => (SENTINEL_TIMEOUT, "no answer for a second".to_owned()),
            Err(error) => (Default::default(), error.to_string()),
        };
        let timer = reactor.after(timeout, move |cx| sentinels.fail(cx, number, &why));
        if let Ok(id) = made {
            reactor.outlast_drain(id);
        }
        *self.question.borrow_mut() = Some(Question {
            number,
            id: made.ok(),
            timer,
            done,
        });
    }

    /// Ends the question that is open, if there is one. Its `done` is not called.
    pub(super) fn cancel(&self, reactor: &mut Reactor<S>) {
        let question = self.question.take();
        if let Some(question) = question {
            end(reactor, &question);
        }
    }

    fn set_callbacks(
        self: &Rc<Self>,
        stream: &mut StreamCallbacks<S>,
        number: u64,
        bytes: Vec<u8>,
    ) {
        let options = stream.options();
        options.idle_timeout = None;
        options.age_max = None;
        let mut bytes = Some(bytes);
        stream.on_open(move |stream| {
            if let Some(bytes) = bytes.take() {
                stream.reactor.send(stream.id, bytes);
            }
        });
        let sentinels = Rc::clone(self);
        stream.on_data(move |stream, bytes| {
            if !sentinels.is_open(number) {
                return;
            }
            let answer = sentinels.inquiry.borrow_mut().handle_bytes(bytes);
            if let Some(answer) = answer {
                let cx = &mut Cx::new(stream.state, stream.reactor);
                sentinels.finish(cx, answer);
            }
        });
        let sentinels = Rc::clone(self);
        stream.on_close(move |stream, close| {
            let cx = &mut Cx::new(stream.state, stream.reactor);
            sentinels.fail(cx, number, &reason(close));
        });
    }

    /// Whether this question has no answer yet.
    fn is_open(&self, number: u64) -> bool {
        let question = self.question.borrow();
        question.as_ref().is_some_and(|it| it.number == number)
    }

    fn fail(&self, cx: &mut Cx<'_, S>, number: u64, why: &str) {
        if self.is_open(number) {
            let answer = self.inquiry.borrow_mut().handle_failure(why);
            self.finish(cx, answer);
        }
    }

    fn finish(&self, cx: &mut Cx<'_, S>, answer: Answer) {
        let question = self.question.take();
        if let Some(question) = question {
            end(cx.reactor, &question);
            (question.done)(cx, answer);
        }
    }
}

fn end<S>(reactor: &mut Reactor<S>, question: &Question<S>) {
    reactor.cancel(question.timer);
    if let Some(id) = question.id {
        reactor.reset(id);
    }
}

/// Why a connection has ended, for the log.
pub(super) fn reason(close: &Close) -> String {
    match &close.cause {
        CloseCause::Peer => "the server has closed the connection".into(),
        cause => cause.to_string(),
    }
}
