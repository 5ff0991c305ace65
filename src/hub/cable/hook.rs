//! The hook: requests to the application for what its channels decide.
//!
//! The calls of one connection are made one after the other. A call has five seconds, with the attempts after those that
//! have not reached the application.

use std::cell::RefCell;
use std::fmt;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use crate::client::http::{HttpClient, HttpClientOptions, HttpRequest, HttpRequestError, HttpStep};
use crate::protocol::action_cable::hook::{ANSWER_BYTES_MAX, Answer, signature};
use crate::reactor::close::CloseCause;
use crate::reactor::log_limit::LogLimit;
use crate::reactor::reactor::Reactor;

/// The hook of a hub for the channels of an application.
#[derive(Clone, PartialEq, Eq)]
pub struct CableHook {
    /// The URL of the application, to which calls are posted.
    pub url: String,
    /// The secret with which calls are signed, if any: `X-Waterwheel-Signature` is then `sha256=` and the HMAC-SHA256
    /// of the body in hexadecimal digits.
    pub secret: Option<String>,
}

/// Without the secret, and without a password in the URL.
impl fmt::Debug for CableHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CableHook").finish_non_exhaustive()
    }
}

/// How long a call may take, with all attempts.
const DEADLINE: Duration = Duration::from_secs(5);

/// The time to the second attempt. It is doubled for each further one.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Most connections to the application, of each reactor.
const CONNECTIONS_MAX: usize = 32;

/// Most calls that wait for one of these.
const WAITING_MAX: usize = 20_000;

/// The calls of a hub on one reactor.
pub(super) struct Calls<S: 'static> {
    hook: CableHook,
    /// Made with the first call.
    client: RefCell<Option<HttpClient<S>>>,
    failures: RefCell<LogLimit>,
}

/// Called with the answer to a call, or the reason why there is none, which is in the log.
type Done<S> = Box<dyn FnOnce(&mut Reactor<S>, Result<Answer, ()>)>;

impl<S: 'static> Calls<S> {
    pub(super) fn new(hook: &CableHook) -> Calls<S> {
        Calls {
            hook: hook.clone(),
            client: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Makes a call.
    pub(super) fn call(
        self: &Rc<Self>,
        reactor: &mut Reactor<S>,
        body: String,
        done: impl FnOnce(&mut Reactor<S>, Result<Answer, ()>) + 'static,
    ) {
        let attempt = Attempt {
            calls: Rc::clone(self),
            end: reactor.now() + DEADLINE,
            retry_delay: RETRY_DELAY,
            body: body.into(),
            done: Box::new(done),
        };
        attempt.send(reactor);
    }

    fn client(&self, reactor: &mut Reactor<S>) -> Result<HttpClient<S>, String> {
        let mut client = self.client.borrow_mut();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let options = HttpClientOptions {
            connections_per_host_max: CONNECTIONS_MAX,
            waiting_requests_max: WAITING_MAX,
            ..HttpClientOptions::default()
        };
        let made = reactor.http_client_with(options);
        let made = made.map_err(|error| error.to_string())?;
        *client = Some(made.clone());
        Ok(made)
    }

    fn note_failure(&self, reactor: &Reactor<S>, why: &str) {
        let mut failures = self.failures.borrow_mut();
        if let Some(suppressed) = failures.allow_line(reactor.now()) {
            log::warn!("the hook of ActionCable: {why}{suppressed}");
        }
    }
}

/// One attempt of a call.
struct Attempt<S: 'static> {
    calls: Rc<Calls<S>>,
    /// When the call has failed, in time of the reactor.
    end: Duration,
    retry_delay: Duration,
    body: Rc<str>,
    done: Done<S>,
}

impl<S: 'static> Attempt<S> {
    fn send(self, reactor: &mut Reactor<S>) {
        let hook = &self.calls.hook;
        let left = self.end.saturating_sub(reactor.now());
        let mut request = HttpRequest::post(hook.url.as_str(), "application/json", &*self.body)
            .redirects_max(0)
            .response_bytes_max(ANSWER_BYTES_MAX as u64)
            .timeout(left.max(Duration::from_millis(1)));
        if let Some(secret) = &hook.secret {
            request = request.header("X-Waterwheel-Signature", signature(secret, &self.body));
        }
        let client = match self.calls.client(reactor) {
            Ok(client) => client,
            Err(why) => return self.fail(reactor, &why),
        };
        client.request(reactor, request, move |cx, answer| {
            let reactor = &mut *cx.reactor;
            let (why, is_safe) = match answer {
                Ok(answer) if answer.status.code() == 200 => {
                    let text = str::from_utf8(&answer.body).map_err(|_| "it is no text".into());
                    match text.and_then(Answer::parse) {
                        Ok(answer) => return (self.done)(reactor, Ok(answer)),
                        Err(why) => (format!("the answer is not valid: {why}"), false),
                    }
                }
                // An application that is overloaded or restarts has not looked at it.
                Ok(answer) => {
                    let code = answer.status.code();
                    (format!("answer {code}"), code == 503)
                }
                Err(error) => (error.to_string(), has_not_reached(&error)),
            };
            let delay = self.retry_delay;
            if !is_safe || self.end <= reactor.now() + delay {
                return self.fail(reactor, &why);
            }
            reactor.after(delay, move |cx| {
                let next = Attempt {
                    retry_delay: delay * 2,
                    ..self
                };
                next.send(cx.reactor);
            });
        });
    }

    fn fail(self, reactor: &mut Reactor<S>, why: &str) {
        self.calls.note_failure(reactor, why);
        (self.done)(reactor, Err(()));
    }
}

/// Whether the application cannot have seen a request, so that it is sent again.
fn has_not_reached(error: &HttpRequestError) -> bool {
    match error {
        HttpRequestError::TimedOut(step) => *step == HttpStep::Connect,
        HttpRequestError::Connection { cause, .. } => matches!(
            cause,
            CloseCause::Io(ErrorKind::ConnectionRefused) | CloseCause::Lookup
        ),
        _ => false,
    }
}
