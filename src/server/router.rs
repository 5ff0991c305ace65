//! HTTP with routes: what a setup says about one listener.
//!
//! The setup gets a [`Router`], and adds routes, checks and defaults. `http_handler` is made of
//! them and handles the requests; a connection needs only the number of its route.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;

use crate::protocol::http;
use crate::reactor::SetupResult;
use crate::reactor::config::ConnectionOptions;
use crate::reactor::outcome::Outcome;
use crate::reactor::reactor::{Handler, Reactor};
use crate::reactor::transport::listener::Address;

use super::answered::Answered;
use super::files::FilesOptions;
use super::http_handler::HttpHandler;
use super::origins::{OriginCheck, Origins};
use super::path::is_literal;
use super::reply::Reply;
use super::request::Request;
use super::routes::{Endpoint, OnRequest};
use super::upload::UploadRoute;
use super::websocket::WebSocketRoute;

/// The routes of one listener, or of several that share them by being set up alike.
pub struct Router<S> {
    handler: HttpHandler<S>,
    /// The first error of a route's setup.
    setup_error: Option<io::Error>,
    options: ConnectionOptions,
    when_listening: Vec<Box<dyn FnOnce(&mut Reactor<S>)>>,
}

impl<S: 'static> Router<S> {
    pub(crate) fn new(options: ConnectionOptions, limits: http::Limits) -> Router<S> {
        Router {
            handler: HttpHandler::new(limits),
            setup_error: None,
            options,
            when_listening: Vec::new(),
        }
    }

    /// Limits, watermarks, policy and deadlines of this listener's connections; they start as the
    /// reactor's, and WebSocket routes made from now on start as these.
    pub fn options(&mut self) -> &mut ConnectionOptions {
        &mut self.options
    }

    /// Sets which pages may use this router. A page of another origin gets 403, and its connection
    /// is closed. Answers to allowed pages get the headers of cross-origin sharing.
    ///
    /// Source: Fetch, "CORS protocol".
    pub fn origins(&mut self, origins: Origins) {
        self.handler.origin_check.origins = origins;
    }

    /// Sets a check that may refuse any request before its route sees it, upgrades too. Runs for
    /// requests without a route as well. A refusal with status 400 or 403 closes the connection.
    ///
    /// A body that has not come with the head is read after the check, so that none is read for a
    /// request that is refused: [`Request::body`] is empty then. A refusal closes the connection in
    /// that case.
    ///
    /// A check that needs an answer from elsewhere calls [`Request::decide_later`]. An error of
    /// type [`Status`](crate::Status) becomes a [`Reply`] by `?` or `.into()`.
    pub fn guard(
        &mut self,
        guard: impl FnMut(&mut Request<'_, '_, S>) -> Result<(), Reply> + 'static,
    ) {
        self.handler.guard = Some(Box::new(guard));
    }

    /// Sets a check for requests whose body has not come with their head, before it is read. It
    /// answers those that the route itself would refuse, and no others, because requests with their
    /// body do not pass it.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn before_body(&mut self, check: impl FnMut(&mut Request<'_, '_, S>) + 'static) {
        self.handler.before_body = Some(Box::new(check));
    }

    /// Sets a call that is made once, with the reactor, when the setup is complete.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn when_listening(&mut self, call: impl FnOnce(&mut Reactor<S>) + 'static) {
        self.when_listening.push(Box::new(call));
    }

    /// Adds a header to every answer that has none of this name: to answers of routes and of
    /// guards, to refusals, and to the 101 of a WebSocket. The answer to bytes that are no request
    /// does not get it.
    ///
    /// # Panics
    ///
    /// Where [`Reply::try_header`] returns an error.
    pub fn default_header(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        let value = value.into();
        if let Err(error) = Reply::check_header(name, &value) {
            panic!("the header {name:?}: {value:?} cannot be sent: {error}");
        }
        self.handler.default_headers.push((name, value));
    }

    /// Sets what is called with each answer, for example to log it: when the answer is queued
    /// whole, when a streamed answer or an event stream begins, and when a WebSocket is opened. For
    /// an answer with which the connection fails, such as 400, 408, 413, 429 or 431, it is called
    /// when the connection ends.
    pub fn after_reply(&mut self, call: impl Fn(&Answered<'_>) + 'static) {
        self.handler.after_reply = Some(Rc::new(call));
    }

    /// A route for GET, and for HEAD, which gets the same answer without its body.
    ///
    /// `path` is made of literal segments, `:name` for one segment, and `*` at the end for the
    /// rest, which may be empty: `/files/*` also takes `/files`. [`Request::param`] returns both.
    /// Routes are tried in the order they were added.
    pub fn get<R: Outcome>(
        &mut self,
        path: &str,
        call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.method("GET", path, call);
    }

    /// A route for POST; see [`get`](Self::get).
    pub fn post<R: Outcome>(
        &mut self,
        path: &str,
        call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        self.method("POST", path, call);
    }

    /// A route for one method, or for every one where `method` is `*`. Of several routes that fit,
    /// the one that was added first is taken.
    pub fn method<R: Outcome>(
        &mut self,
        method: &'static str,
        path: &str,
        mut call: impl FnMut(&mut Request<'_, '_, S>) -> R + 'static,
    ) {
        let call: OnRequest<S> = Box::new(move |request| {
            if let Some(error) = call(request).into_error() {
                request.answer_error(error);
            }
        });
        let endpoint = Endpoint::Request {
            method: Cow::Borrowed(method),
            call,
        };
        self.handler.routes.add(path, endpoint);
    }

    /// A route for the files of a folder: `router.files("/static", "public")` answers GET and HEAD for
    /// `/static/app.js` with `public/app.js`. See [`get`](Self::get) for the order of routes; another method gets 405.
    ///
    /// * The content type follows from the ending of the name; text is UTF-8.
    /// * `ETag` and `Last-Modified` name the state of a file. A client that has it gets 304, and one that expects
    ///   another gets 412.
    /// * One range of a GET is answered with 206, or with 416 when the file has no byte of it. Several ranges are
    ///   answered with the whole file.
    /// * The path of a folder is answered with its `index.html`, or redirected to it if the slash is missing. Folders
    ///   are not listed.
    /// * No path leads out of the folder. On Linux since 5.6 a relative link is followed if it stays inside, elsewhere
    ///   no link is followed. Names that begin with a dot are not served, but for `.well-known`.
    /// * Files are opened and read off the loop, piece by piece as the client reads. At most
    ///   [`open_files_max`](crate::Config::open_files_max) of more than 256 KiB are sent at the same time; a request for
    ///   one more gets 503.
    ///
    /// ```
    /// # use waterwheel::{FilesOptions, Reactor, Sim};
    /// let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
    ///     reactor.http("0.0.0.0:80", |http| {
    ///         http.files("/docs", FilesOptions::new("docs").header("Cache-Control", "no-cache"));
    ///     })
    /// });
    /// # let client = sim.connect();
    /// # client.write("GET /docs/limits.md HTTP/1.1\r\nHost: h\r\nRange: bytes=2-7\r\n\r\n");
    /// # sim.settle();
    /// # let text = client.read_text();
    /// # assert!(text.starts_with("HTTP/1.1 206") && text.ends_with("Limits"), "{text}");
    /// ```
    ///
    /// A folder that does not exist, and a path with parameters, are errors of the [`Reactor::http`] around it.
    ///
    /// Source: RFC 9110, sections 13 and 14.
    pub fn files(&mut self, path: &str, folder: impl Into<FilesOptions>) {
        let prefix = path.strip_suffix('/').unwrap_or(path);
        let folder = match is_literal(prefix) {
            true => folder.into().into_folder(),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the path {path:?} of a folder cannot have parameters"),
            )),
        };
        match folder {
            Ok(folder) => self.get(&format!("{prefix}/*"), move |request| {
                let rest = request.pattern.encoded_rest(request.path());
                request.reply(folder.reply(request, rest))
            }),
            Err(error) => {
                self.setup_error.get_or_insert(error);
            }
        }
    }

    /// A route for POST that gets the body as it comes; see [`method_stream`](Self::method_stream).
    pub fn post_stream<R: SetupResult>(
        &mut self,
        path: &str,
        setup: impl FnOnce(&mut UploadRoute<S>) -> R,
    ) {
        self.method_stream("POST", path, setup);
    }

    /// A route for one method, or for every one where `method` is `*`, that gets the body of a request
    /// as it comes, in pieces that need no memory. `setup` names the callbacks and runs once; see
    /// [`get`](Self::get) for the path.
    ///
    /// The data of one request stand in your state, by the id of its connection:
    ///
    /// ```
    /// # use waterwheel::{ConnMap, Reactor, Sim, Status};
    /// # let mut sim = Sim::new(ConnMap::default(), |reactor: &mut Reactor<ConnMap<u64>>| {
    /// # reactor.http("0.0.0.0:80", |http| {
    /// http.post_stream("/count", |upload| {
    ///     upload.body_bytes_max(10 * 1024 * 1024 * 1024);
    ///     upload.on_head(|request| request.state.insert(request.id, 0));
    ///     upload.on_data(|upload, bytes| {
    ///         if let Some(count) = upload.state.get_mut(upload.id) {
    ///             *count += bytes.len() as u64;
    ///         }
    ///     });
    ///     upload.on_end(|upload| {
    ///         let count = upload.state.remove(upload.id).unwrap_or_default();
    ///         upload.reply(format!("{count}\n"))
    ///     });
    ///     upload.on_close(|upload, _| upload.state.remove(upload.id));
    /// });
    /// # })
    /// # });
    /// # let client = sim.connect();
    /// # client.write("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    /// # sim.settle();
    /// # assert!(client.read_text().ends_with("\r\n\r\n5\n"));
    /// ```
    ///
    /// A form of `multipart/form-data` is the application's to parse, because only it knows where the
    /// parts go: `on_data` feeds a parser that takes pieces, such as those of the crates
    /// `nostd-multipart` and `form-net`. The common `multer` needs an executor of futures. For a form
    /// that fits into memory, collect the body with [`post`](Self::post), and give such a parser the
    /// whole of [`Request::body`]. The boundary is a parameter of the `Content-Type`.
    pub fn method_stream<R: SetupResult>(
        &mut self,
        method: &'static str,
        path: &str,
        setup: impl FnOnce(&mut UploadRoute<S>) -> R,
    ) {
        let mut route = UploadRoute::new(self.handler.body_bytes_max() as u64);
        if let Err(error) = setup(&mut route).into_result() {
            self.setup_error.get_or_insert(error);
        }
        let endpoint = Endpoint::Upload {
            method: Cow::Borrowed(method),
            route: Box::new(route),
        };
        self.handler.routes.add(path, endpoint);
    }

    /// A route for WebSockets; see [`get`](Self::get) for its path. `setup` names the callbacks
    /// and runs once.
    ///
    /// An error of `setup` is the error of the [`Reactor::http`] around it.
    pub fn websocket<R: SetupResult>(
        &mut self,
        path: &str,
        setup: impl FnOnce(&mut WebSocketRoute<S>) -> R,
    ) {
        let mut route = WebSocketRoute::new(self.options.clone());
        if let Err(error) = setup(&mut route).into_result() {
            self.setup_error.get_or_insert(error);
        }
        let endpoint = Endpoint::WebSocket(Box::new(route));
        self.handler.routes.add(path, endpoint);
    }

    /// The check of origins, for the hub, whose setting is more than a list.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "the hub needs it"))]
    pub(crate) fn origin_check_mut(&mut self) -> &mut OriginCheck {
        &mut self.handler.origin_check
    }

    /// Keeps the options of the router and of its routes with the reactor, once all routes are
    /// there. Returns the index of the router's own.
    ///
    /// # Errors
    ///
    /// When the setup chose options that are not valid together, and the error of a route's setup.
    pub(crate) fn seal(&mut self, reactor: &mut Reactor<S>) -> io::Result<u16> {
        if let Some(error) = self.setup_error.take() {
            return Err(error);
        }
        let options_index = reactor.add_options(self.options.clone())?;
        self.handler.options_index = options_index;
        for route in self.handler.routes.websockets_mut() {
            route.options_index = reactor.add_options(route.callbacks.options.clone())?;
            route.callbacks.seal();
        }
        for call in self.when_listening.drain(..) {
            call(reactor);
        }
        Ok(options_index)
    }

    /// The handler of the listener, whose address log lines name.
    pub(crate) fn into_handler(mut self, address: &Address) -> Box<dyn Handler<S>> {
        self.handler.name = format!("http {address}");
        Box::new(self.handler)
    }
}
