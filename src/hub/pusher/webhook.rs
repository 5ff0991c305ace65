//! Webhooks: the requests that tell the backends of apps about channels.
//!
//! ```text
//!   event ─▶ queue of the hook ─▶ after a second one request with all that has come ─▶ backend
//!               (bounded)                 ▲ again after 1, 2, 4.. seconds  │ no answer, 408, 429 or 5xx
//!                                         └────────────────────────────────┘
//! ```
//!
//! A hook has one request under way, so that its events come in their order. A batch that no attempt has delivered within
//! five minutes is dropped, and the log says so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::client::http::{HttpClient, HttpRequest};
use crate::protocol::pusher::signature::sign;
use crate::protocol::pusher::webhook;
use crate::reactor::log_limit::LogLimit;
use crate::reactor::reactor::Reactor;

use super::app::{PusherApp, Webhook};

/// The time from the first event of a batch to its request.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// The most events of one request.
const BATCH_MAX: usize = 500;

/// The most events that wait for their request; further ones are dropped.
const WAITING_MAX: usize = 10_000;

/// The most bytes of these events.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long a batch is tried again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// The webhooks of all apps of a hub on one reactor.
pub(crate) struct Webhooks<S: 'static> {
    hooks: Vec<Rc<Hook<S>>>,
}

struct Hook<S: 'static> {
    app: PusherApp,
    hook: Webhook,
    state: RefCell<State<S>>,
}

struct State<S: 'static> {
    /// Made with the first request.
    client: Option<HttpClient<S>>,
    waiting: VecDeque<String>,
    waiting_bytes: usize,
    /// A request is under way, or will be.
    is_busy: bool,
    full: LogLimit,
}

impl<S: 'static> Webhooks<S> {
    pub(crate) fn new(apps: &[PusherApp]) -> Webhooks<S> {
        let of_app = |app: &PusherApp| {
            let hooks = app.webhooks().iter().map(|hook| {
                Rc::new(Hook {
                    app: app.clone(),
                    hook: hook.clone(),
                    state: RefCell::new(State {
                        client: None,
                        waiting: VecDeque::new(),
                        waiting_bytes: 0,
                        is_busy: false,
                        full: LogLimit::default(),
                    }),
                })
            });
            hooks.collect::<Vec<_>>()
        };
        Webhooks {
            hooks: apps.iter().flat_map(of_app).collect(),
        }
    }

    /// Tells the hooks of an app that want it of an event of a channel.
    pub(super) fn send(
        &self,
        reactor: &mut Reactor<S>,
        app_id: &str,
        name: &str,
        channel: &str,
        event: impl FnOnce() -> String,
    ) {
        let is_wanted =
            |hook: &&Rc<Hook<S>>| hook.app.id() == app_id && hook.hook.wants(name, channel);
        let mut wanted = self.hooks.iter().filter(is_wanted).peekable();
        if wanted.peek().is_none() {
            return;
        }
        let event = event();
        for hook in wanted {
            hook.add(reactor, event.clone());
        }
    }
}

impl<S: 'static> Hook<S> {
    fn add(self: &Rc<Self>, reactor: &mut Reactor<S>, event: String) {
        let mut state = self.state.borrow_mut();
        let bytes = state.waiting_bytes + event.len();
        if WAITING_MAX <= state.waiting.len() || WAITING_BYTES_MAX < bytes {
            if let Some(suppressed) = state.full.allow_line(reactor.now()) {
                let id = self.app.id();
                log::warn!(
                    "app {id}: an event for {} is dropped{suppressed}",
                    self.hook
                );
            }
            return;
        }
        state.waiting_bytes = bytes;
        state.waiting.push_back(event);
        if !std::mem::replace(&mut state.is_busy, true) {
            self.send_later(reactor);
        }
    }

    /// Sends the next batch when its time has come.
    fn send_later(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let hook = Rc::clone(self);
        reactor.after(BATCH_DELAY, move |cx| {
            let reactor = &mut *cx.reactor;
            let mut state = hook.state.borrow_mut();
            let count = state.waiting.len().min(BATCH_MAX);
            let events: Vec<String> = state.waiting.drain(..count).collect();
            state.waiting_bytes -= events.iter().map(String::len).sum::<usize>();
            drop(state);
            let time_millis = reactor.system_unix_time() * 1000;
            let body = webhook::body(time_millis, events.iter().map(String::as_str));
            let give_up_at = reactor.now() + GIVE_UP_AFTER;
            hook.attempt(reactor, body.into(), Duration::from_secs(1), give_up_at);
        });
    }

    /// Sends a batch, and again `retry` later where it has not come through.
    fn attempt(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        body: Rc<str>,
        retry: Duration,
        give_up_at: Duration,
    ) {
        let signature = sign(self.app.secret(), body.as_bytes());
        let request = HttpRequest::post(self.hook.url(), "application/json", &*body)
            .header("X-Pusher-Key", self.app.key())
            .header("X-Pusher-Signature", signature)
            .timeout(ATTEMPT_TIMEOUT);
        let client = {
            let mut state = self.state.borrow_mut();
            (state.client.get_or_insert_with(|| reactor.http_client())).clone()
        };
        let hook = Rc::clone(self);
        client.request(reactor, request, move |cx, answer| {
            let reactor = &mut *cx.reactor;
            let why = match answer {
                Ok(answer) if answer.status.is_success() => return hook.go_on(reactor),
                Ok(answer) => {
                    let code = answer.status.code();
                    let is_worth_it = matches!(code, 408 | 429 | 500..);
                    (format!("answer {code}"), is_worth_it)
                }
                Err(error) => (error.to_string(), true),
            };
            let (why, is_worth_it) = why;
            let id = hook.app.id();
            if !is_worth_it || give_up_at <= reactor.now() + retry {
                log::warn!("app {id}: events for {} are dropped: {why}", hook.hook);
                return hook.go_on(reactor);
            }
            log::info!("app {id}: {} in {retry:?} again: {why}", hook.hook);
            reactor.after(retry, move |cx| {
                let next = (retry * 2).min(RETRY_MAX);
                hook.attempt(cx.reactor, body, next, give_up_at);
            });
        });
    }

    /// A batch has come to its end.
    fn go_on(self: &Rc<Self>, reactor: &mut Reactor<S>) {
        let mut state = self.state.borrow_mut();
        state.is_busy = !state.waiting.is_empty();
        if state.is_busy {
            drop(state);
            self.send_later(reactor);
        }
    }
}
