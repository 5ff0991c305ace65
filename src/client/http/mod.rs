//! HTTP requests that this side makes: kept connections, redirects, deadlines.
//!
//! ```text
//!   request ─▶ pool: a line for each server ─▶ link ─▶ connection      a tick gives requests to connections
//!   callback ◀─ exchange ◀─ response decoder ◀─ bytes ◀──┘
//! ```
//!
//! `pool.rs` decides which request goes over which connection, `exchange.rs` is one request, `redirect.rs` the request
//! that follows a redirect, and `link.rs` carries bytes and calls back. The decoder of answers and the encoder of
//! requests are in `protocol::http`.
//!
//! A kept connection gets a request only after the poll was asked about it once more, so an end or a stray byte that
//! has come already is noticed. A request that was sent over a kept connection which the server has closed in the same
//! moment is sent once more, over a new connection, if it is idempotent and not one byte of an answer has come.

mod error;
mod exchange;
mod id;
mod link;
mod options;
mod origin;
mod pool;
mod redirect;
mod request;
mod response;

use std::io;
use std::rc::Rc;

use crate::reactor::id::ConnId;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Cx, Reactor};
use crate::reactor::remote::Remote;

use self::exchange::Callback;
use self::link::{Link, close_idle};

pub use self::error::{HttpRequestError, HttpStep};
pub use self::id::HttpRequestId;
pub use self::options::HttpClientOptions;
pub use self::request::HttpRequest;
pub use self::response::{HttpPart, HttpResponse, ResponseHeaders};

/// # HTTP requests
impl<S: 'static> Reactor<S> {
    /// Returns a client for HTTP requests to any servers, with the default [`HttpClientOptions`].
    ///
    /// ```
    /// use waterwheel::{Reactor, Sim};
    ///
    /// let mut sim = Sim::new(String::new(), |reactor: &mut Reactor<String>| {
    ///     reactor.http("0.0.0.0:80", |http| {
    ///         http.get("/greeting", |request| request.reply("Hello"));
    ///     })?;
    ///     let client = reactor.http_client();
    ///     client.get(reactor, "http://localhost/greeting", |cx, response| {
    ///         match response {
    ///             Ok(response) => *cx.state = format!("{}: {}", response.status, response.text()),
    ///             Err(error) => *cx.state = error.to_string(),
    ///         }
    ///     });
    ///     std::io::Result::Ok(())
    /// });
    /// sim.settle();
    /// assert_eq!(sim.state(), "200 OK: Hello");
    /// ```
    ///
    /// # Panics
    ///
    /// When this reactor has 65,536 different sets of connection options already.
    pub fn http_client(&mut self) -> HttpClient<S> {
        let options = HttpClientOptions {
            http: self.config().http,
            ..HttpClientOptions::default()
        };
        self.http_client_with(options)
            .expect("the default options are possible")
    }

    /// As [`http_client`](Self::http_client), with limits and deadlines of your own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError), as an error of kind [`InvalidInput`](io::ErrorKind::InvalidInput), for a
    /// limit or a timeout of zero, and for a head that does not fit into the read buffer.
    pub fn http_client_with(&mut self, options: HttpClientOptions) -> io::Result<HttpClient<S>> {
        let link = Link::new(self, options)?;
        Ok(HttpClient {
            owner: Rc::new(Owner {
                link,
                remote: self.remote(),
            }),
        })
    }
}

/// Sends HTTP/1.1 requests to any servers and keeps the connections. A clone is the same client.
///
/// A request returns at once, and its callback is called later, exactly once, also with an error that is known now. A
/// callback may make further requests. Requests to one server go over several connections, each carrying one at a
/// time; further ones wait, in their order. The limits and deadlines are [`HttpClientOptions`].
///
/// ```no_run
/// use waterwheel::{HttpRequest, Reactor};
///
/// Reactor::run((), |reactor| {
///     let client = reactor.http_client();
///     reactor.websocket("127.0.0.1:8080", move |ws| {
///         let client = client.clone();
///         ws.on_message(move |ws, message| {
///             let hook = HttpRequest::post("http://127.0.0.1:3000/hook", "text/plain", message.as_bytes());
///             let id = ws.id;
///             client.request(ws.reactor, hook, move |cx, response| match response {
///                 Ok(response) => cx.reactor.send(id, response.text().into_owned()),
///                 Err(error) => cx.reactor.send(id, format!("failed: {error}")),
///             });
///         });
///     })
/// })
/// # .unwrap();
/// ```
///
/// When the last clone is dropped, requests that are under way go on, and no connection is kept. When the reactor ends,
/// each callback that has not been called for the last time gets an error. Requests that these callbacks order are
/// dropped with their callbacks.
///
/// Bodies are delivered as they are sent: this client asks for no compression.
pub struct HttpClient<S: 'static> {
    owner: Rc<Owner<S>>,
}

/// All clones of a client.
struct Owner<S: 'static> {
    link: Rc<Link<S>>,
    /// A handle is dropped where there is no reactor.
    remote: Remote<S>,
}

impl<S: 'static> Drop for Owner<S> {
    fn drop(&mut self) {
        let idle = self.link.note_drop();
        if !idle.is_empty() {
            // A loop that has ended has closed them.
            let _ = self.remote.run(move |cx| {
                for id in idle {
                    close_idle(cx.reactor, id);
                }
            });
        }
    }
}

impl<S> Clone for HttpClient<S> {
    fn clone(&self) -> Self {
        HttpClient {
            owner: Rc::clone(&self.owner),
        }
    }
}

impl<S: 'static> HttpClient<S> {
    /// Gets a URL. `done` is called once, with the whole answer or an error.
    ///
    /// An answer with any status is an answer; see [`Status::is_success`](crate::Status::is_success).
    pub fn get<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        url: &str,
        done: impl FnOnce(&mut Cx<'_, S>, Result<HttpResponse, HttpRequestError>) -> R + 'static,
    ) -> HttpRequestId {
        self.request(reactor, url, done)
    }

    /// Sends a request. `done` is called once, with the whole answer or an error.
    pub fn request<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        request: impl Into<HttpRequest>,
        done: impl FnOnce(&mut Cx<'_, S>, Result<HttpResponse, HttpRequestError>) -> R + 'static,
    ) -> HttpRequestId {
        let done = move |cx: &mut Cx<'_, S>, response: Result<HttpResponse, HttpRequestError>| {
            let outcome = done(cx, response);
            cx.reactor.note_outcome(outcome);
        };
        let callback = Callback::Whole(Box::new(done));
        self.owner.link.request(reactor, request.into(), callback)
    }

    /// Sends a request whose answer is a stream. `on_part` is called with the head, with each piece of the body as it
    /// comes, and last with [`HttpPart::End`] or an error.
    ///
    /// A callback that cannot take more [pauses](Self::pause) the answer. The stream has no limit of its length and of
    /// its time, unless the request sets one; each piece must come within `body_piece_timeout`.
    pub fn stream<R: Outcome>(
        &self,
        reactor: &mut Reactor<S>,
        request: impl Into<HttpRequest>,
        mut on_part: impl FnMut(&mut Cx<'_, S>, Result<HttpPart<'_>, HttpRequestError>) -> R + 'static,
    ) -> HttpRequestId {
        let on_part = move |cx: &mut Cx<'_, S>, part: Result<HttpPart<'_>, HttpRequestError>| {
            let outcome = on_part(cx, part);
            cx.reactor.note_outcome(outcome);
        };
        let callback = Callback::Parts(Box::new(on_part));
        self.owner.link.request(reactor, request.into(), callback)
    }

    /// Gives up a request: its callback is dropped and not called, and its connection ends. Returns `false` when the
    /// request is done already.
    pub fn cancel(&self, reactor: &mut Reactor<S>, request: HttpRequestId) -> bool {
        self.owner.link.cancel(reactor, request)
    }

    /// The connection that the answer to a request comes over. `None` while the request waits.
    pub(crate) fn connection_of(&self, request: HttpRequestId) -> Option<ConnId> {
        self.owner.link.connection_of(request)
    }

    /// Stops reading the answer to a request: back-pressure. Its bytes stay in the kernel's buffer, and when that is
    /// full the server cannot send. Does nothing while the request waits for a connection.
    pub fn pause(&self, reactor: &mut Reactor<S>, request: HttpRequestId) {
        self.owner.link.pause(reactor, request);
    }

    /// Reads the answer to a request again after [`pause`](Self::pause). Does nothing if it is not paused. The time
    /// for its next bytes begins anew.
    pub fn resume(&self, reactor: &mut Reactor<S>, request: HttpRequestId) {
        self.owner.link.resume(reactor, request);
    }
}
