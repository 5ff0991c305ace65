//! One request, from its first waiting to its answer.

use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::{ParsedResponse, ResponseDecoder};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Cx;
use crate::reactor::time::timers::TimerId;

use super::error::HttpRequestError;
use super::options::HttpClientOptions;
use super::origin::Origin;
use super::redirect::redirected;
use super::request::HttpRequest;
use super::response::{HttpPart, HttpResponse};

type OnResponse<S> = Box<dyn FnOnce(&mut Cx<'_, S>, Result<HttpResponse, HttpRequestError>)>;
type OnPart<S> = Box<dyn FnMut(&mut Cx<'_, S>, Result<HttpPart<'_>, HttpRequestError>)>;

/// The application's callback.
pub(super) enum Callback<S> {
    /// Called once, with the whole answer or an error.
    Whole(OnResponse<S>),
    /// Called with each part, and last with [`HttpPart::End`] or an error.
    Parts(OnPart<S>),
}

impl<S> Callback<S> {
    /// Calls back with an error; the last call.
    pub(super) fn fail(self, cx: &mut Cx<'_, S>, error: HttpRequestError) {
        match self {
            Callback::Whole(call) => call(cx, Err(error)),
            Callback::Parts(mut call) => call(cx, Err(error)),
        }
    }
}

/// A request whose answer is not complete.
pub(super) struct Exchange<S> {
    request: HttpRequest,
    origin: Rc<Origin>,
    head_bytes: Vec<u8>,
    /// `None` while it is being called, and when it has panicked.
    pub(super) callback: Option<Callback<S>>,
    pub(super) timer: Option<TimerId>,
    /// The connection that it goes over. `None` while it waits.
    pub(super) connection: Option<ConnId>,
    pub(super) decoder: ResponseDecoder,
    response: Option<HttpResponse>,
    /// How long the server says that it keeps the connection.
    kept_for: Option<Duration>,
    redirect_count: u8,
    is_repeated: bool,
}

/// The meaning of the head of an answer.
pub(super) enum Head {
    /// The answer to the application's request.
    Final,
    /// The request was replaced by one to another URL.
    Redirected {
        /// How long the server says that it keeps the connection.
        kept_for: Option<Duration>,
    },
}

impl<S> Exchange<S> {
    /// A request that is about to wait.
    ///
    /// # Errors
    ///
    /// The callback with the reason why the request cannot be sent.
    pub(super) fn new(
        request: HttpRequest,
        callback: Callback<S>,
        options: &HttpClientOptions,
    ) -> Result<Exchange<S>, (Callback<S>, HttpRequestError)> {
        let (origin, head_bytes) = match request.encode() {
            Ok(encoded) => encoded,
            Err(error) => return Err((callback, error)),
        };
        let body_bytes_max = match (&callback, request.body_bytes_max) {
            (_, Some(bytes)) => bytes,
            (Callback::Whole(_), None) => options.http.body_bytes_max as u64,
            (Callback::Parts(_), None) => u64::MAX,
        };
        let decoder = ResponseDecoder::new(request.method == "HEAD", body_bytes_max);
        Ok(Exchange {
            request: HttpRequest {
                body_bytes_max: Some(body_bytes_max),
                ..request
            },
            origin: Rc::new(origin),
            head_bytes,
            callback: Some(callback),
            timer: None,
            connection: None,
            decoder,
            response: None,
            kept_for: None,
            redirect_count: 0,
            is_repeated: false,
        })
    }

    pub(super) fn origin(&self) -> &Rc<Origin> {
        &self.origin
    }

    /// How long it may take in all; `None` without a limit.
    pub(super) fn timeout(&self, options: &HttpClientOptions) -> Option<Duration> {
        match (&self.callback, self.request.timeout) {
            (_, Some(timeout)) => Some(timeout),
            (Some(Callback::Whole(_)), None) => Some(options.request_timeout),
            (Some(Callback::Parts(_)) | None, None) => None,
        }
    }

    /// The bytes of the request.
    pub(super) fn wire_bytes(&self) -> Vec<u8> {
        let body = self.request.body.as_deref().unwrap_or_default();
        [self.head_bytes.as_slice(), body].concat()
    }

    /// How many bytes it holds while it waits.
    pub(super) fn held_bytes(&self) -> usize {
        self.head_bytes.len() + self.request.body.as_ref().map_or(0, Vec::len)
    }

    /// Whether it may be sent once more after its connection, which was used before, has ended: it is not known
    /// whether the server has read it, so it must be harmless twice. Source: RFC 9112, section 9.3.1.
    pub(super) fn may_repeat(&self) -> bool {
        !self.is_repeated && self.request.is_idempotent() && !self.decoder.has_input()
    }

    pub(super) fn note_repeat(&mut self) {
        self.is_repeated = true;
    }

    /// Takes the head of the answer. A redirect that is followed replaces the request.
    ///
    /// # Errors
    ///
    /// [`HttpRequestError`] for a redirect that must not be followed.
    pub(super) fn take_head(
        &mut self,
        parsed: &ParsedResponse<'_>,
    ) -> Result<Head, HttpRequestError> {
        let response = HttpResponse::of(parsed, &self.request.url);
        let Some(next) = redirected(&self.request, &response, self.redirect_count)? else {
            self.kept_for = response.keep_alive_timeout();
            self.response = Some(response);
            return Ok(Head::Final);
        };
        let (origin, head_bytes) = next.encode()?;
        self.origin = Rc::new(origin);
        self.head_bytes = head_bytes;
        self.request = next;
        self.redirect_count += 1;
        self.is_repeated = false;
        Ok(Head::Redirected {
            kept_for: response.keep_alive_timeout(),
        })
    }

    /// Replaces the decoder by one for the answer to the request after a redirect, and returns it.
    pub(super) fn renew_decoder(&mut self) -> ResponseDecoder {
        let body_bytes_max = self.request.body_bytes_max.unwrap_or(u64::MAX);
        let new = ResponseDecoder::new(self.request.method == "HEAD", body_bytes_max);
        std::mem::replace(&mut self.decoder, new)
    }

    /// How long the server says that it keeps the connection; `None` where it does not say.
    pub(super) fn kept_for(&self) -> Option<Duration> {
        self.kept_for
    }

    /// Whether the answer is collected as a whole.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.callback, Some(Callback::Whole(_)))
    }

    pub(super) fn collect(&mut self, bytes: &[u8]) {
        if let Some(response) = &mut self.response {
            response.body.extend_from_slice(bytes);
        }
    }

    pub(super) fn take_response(&mut self) -> Option<HttpResponse> {
        self.response.take()
    }
}
