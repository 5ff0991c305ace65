//! The protocol alone, on any I/O: handshake, messages, pongs and closes, from bytes to bytes.
//!
//! Theory. A driver is in one of four stages, and only [`Driver::receive`] moves it:
//!
//! | stage | waits for | is left by |
//! |---|---|---|
//! | request | a client's request | a whole head: accepted, or refused |
//! | response | the server's answer to ours | a whole head: an upgrade, or not |
//! | open | frames | the peer's close; an error |
//! | ended | nothing | nothing: input is discarded |
//!
//! A flag beside the stage says whether our close was sent, because that can happen in any stage
//! but the last: from then on no frame is sent, and frames of the peer are delivered until its own
//! close.
//!
//! Deadlines are left to the caller: without one, the driver waits for ever for a peer that never
//! completes its head or never answers a close.
//!
//! Source: RFC 6455.

use std::fmt;
use std::mem;

#[cfg(feature = "deflate")]
use crate::protocol::http::ParsedResponse;
use crate::protocol::http::upgrade::{self, Refusal, ResponseError};
use crate::protocol::http::{self, HeaderStorage, HttpError, Limits as HttpLimits, Status};

use super::closing::Closing;
#[cfg(feature = "deflate")]
use super::deflate::{self, Deflate};
use super::error::{EncodeError, Error};
use super::frame::encode_ping;
use super::machine::{Event, Limits, Machine};
use super::message::Message;
use super::role::Role;

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// The end of the last header line, and the empty line that ends a head.
#[cfg(feature = "deflate")]
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One end of a WebSocket connection over any I/O: threads, another loop, a test.
///
/// Pass the bytes that were read to [`receive`](Driver::receive), and write the bytes that
/// [`take_output`](Driver::take_output) returns. The driver answers pings and closes. When it
/// [is ended](Driver::is_ended), write the last output and drop the connection; where
/// [`closing`](Driver::closing) says so, wait a while for the peer to end the stream first.
///
/// A server accepts every path and origin. Where that matters, check the request before its bytes
/// come here, or use [`Reactor::http`](crate::Reactor::http).
///
/// ```
/// use waterwheel::websocket::{self, Event, Limits};
///
/// # use std::io::Write;
/// # let mut socket = Vec::new();
/// # let mut client = websocket::Driver::client(Limits::default(), "localhost", "/", &[]).unwrap();
/// # let mut bytes = client.take_output();
/// let mut driver = websocket::Driver::server(Limits::default());
/// driver.receive(&mut bytes, |driver, event| match event { Event::Text(text) => driver.text(text), _ => {} });
/// socket.write_all(&driver.take_output())?;
/// # client.receive(&mut socket, |_, _| unreachable!());
/// # client.text("Hello");
/// # let mut bytes = client.take_output();
/// # driver.receive(&mut bytes, |driver, event| match event { Event::Text(text) => driver.text(text), _ => {} });
/// # assert_eq!(driver.take_output(), b"\x81\x05Hello");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Driver {
    stage: Stage,
    machine: Machine,
    limits: Limits,
    /// The key of a client's request; empty on a server.
    key: String,
    #[cfg(feature = "deflate")]
    deflate: Deflate,
    /// Messages of at least so many bytes are compressed.
    #[cfg(feature = "deflate")]
    deflate_bytes_min: u16,
    /// The subprotocols that a client offers, or a server supports.
    subprotocols: Vec<String>,
    subprotocol: Option<String>,
    path: Option<String>,
    /// An incomplete head, or an incomplete header or control frame, until more input comes.
    unconsumed: Vec<u8>,
    /// Frames that were sent before the handshake was complete.
    waiting: Vec<u8>,
    output: Vec<u8>,
    has_sent_close: bool,
    closing: Closing,
    error: Option<DriverError>,
}

#[derive(Debug)]
enum Stage {
    Request,
    Response,
    Open,
    Ended,
}

impl Driver {
    /// The server's end, which waits for a request.
    pub fn server(limits: Limits) -> Driver {
        Driver::new(Stage::Request, Role::Server, limits, &[])
    }

    /// The client's end, whose request is in the output at once. `host` is a name or address with
    /// an optional port, `target` is path and query as in a URL, `subprotocols` are offered in this
    /// order, the preferred one first.
    ///
    /// # Errors
    ///
    /// [`EncodeError`](http::EncodeError) when one of them cannot be part of a request.
    pub fn client(
        limits: Limits,
        host: &str,
        target: &str,
        subprotocols: &[&str],
    ) -> Result<Driver, http::EncodeError> {
        let key = upgrade::random_key();
        let mut output = Vec::new();
        let headers = std::iter::empty();
        upgrade::encode_request(host, target, &key, subprotocols, headers, &mut output)?;
        let driver = Driver::new(Stage::Response, Role::Client, limits, subprotocols);
        Ok(Driver {
            key,
            output,
            ..driver
        })
    }

    fn new(stage: Stage, role: Role, limits: Limits, subprotocols: &[&str]) -> Driver {
        Driver {
            stage,
            machine: Machine::new(role),
            limits,
            key: String::new(),
            #[cfg(feature = "deflate")]
            deflate: Deflate::None,
            #[cfg(feature = "deflate")]
            deflate_bytes_min: 0,
            subprotocols: subprotocols.iter().copied().map(str::to_owned).collect(),
            subprotocol: None,
            path: None,
            unconsumed: Vec::new(),
            waiting: Vec::new(),
            output: Vec::new(),
            has_sent_close: false,
            closing: Closing::without_close(),
            error: None,
        }
    }

    /// Sets the subprotocols that a server supports. The server agrees to the first one of the
    /// client's list that is among them, or to none. Without effect on a client, whose subprotocols
    /// are in its request.
    pub fn with_subprotocols(mut self, subprotocols: &[&str]) -> Driver {
        if matches!(self.stage, Stage::Request) {
            self.subprotocols = subprotocols.iter().copied().map(str::to_owned).collect();
        }
        self
    }

    /// Sets how messages of at least `bytes_min` bytes are compressed, if the peer agrees. Call it before anything was
    /// received, and on a client before its request is taken from the output.
    ///
    /// With [`Deflate::Shared`] all connections of a thread share a compressor and an inflater.
    #[cfg(feature = "deflate")]
    pub fn with_deflate(mut self, deflate: Deflate, bytes_min: u16) -> Driver {
        self.deflate = deflate;
        self.deflate_bytes_min = bytes_min;
        if matches!(self.stage, Stage::Response)
            && let Some(offer) = deflate::offer(deflate)
            && self.output.ends_with(END_OF_HEAD)
        {
            // In front of the empty line that ends the request.
            self.output.truncate(self.output.len() - END_OF_HEAD.len());
            let line = format!("\r\n{EXTENSIONS}: {offer}");
            self.output.extend_from_slice(line.as_bytes());
            self.output.extend_from_slice(END_OF_HEAD);
        }
        self
    }

    /// Agrees to what a client offers. Returns the value of the header in the answer.
    #[cfg(feature = "deflate")]
    fn accept_deflate(&mut self, upgrade: &upgrade::Upgrade<'_>) -> Option<String> {
        let accepted = deflate::accept(self.deflate, true, upgrade.extensions());
        let (agreed, answer) = accepted?;
        self.machine = Machine::with_deflate(Role::Server, agreed, self.deflate_bytes_min);
        Some(answer)
    }

    /// Takes the server's answer to what we offered.
    #[cfg(feature = "deflate")]
    fn take_deflate_answer(&mut self, parsed: &ParsedResponse<'_>) -> Result<(), ResponseError> {
        let answers = parsed.headers.elements(EXTENSIONS);
        let checked = deflate::check_answer(self.deflate, true, answers);
        if let Some(agreed) = checked.map_err(|_| ResponseError::Extension)? {
            self.machine = Machine::with_deflate(Role::Client, agreed, self.deflate_bytes_min);
        }
        Ok(())
    }

    fn offers_extensions(&self) -> bool {
        #[cfg(feature = "deflate")]
        return self.deflate != Deflate::None;
        #[cfg(not(feature = "deflate"))]
        false
    }

    /// Takes bytes that were read, any number of them, and calls `on_event` for each event in them.
    ///
    /// Unmasks `bytes` in place and copies only what is incomplete: a head within the limits of
    /// HTTP, a message within those of this driver. The callback gets this driver, so that it can
    /// answer; the pong or the reply to a close is in the output already. It must not call
    /// `receive`, which would put new bytes in front of those that are not read yet.
    ///
    /// After a close of the peer or an [`error`](Driver::error), input is discarded.
    pub fn receive(&mut self, bytes: &mut [u8], on_event: impl FnMut(&mut Driver, Event<'_>)) {
        let frames = match self.stage {
            Stage::Request | Stage::Response => self.receive_heads(bytes),
            Stage::Open => Some(bytes),
            Stage::Ended => None,
        };
        if let Some(bytes) = frames {
            self.receive_frames(bytes, on_event);
        }
    }

    // Takes the heads of the handshake. Returns the bytes behind them once it is complete: these are
    // the first frames.
    fn receive_heads<'b>(&mut self, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let mut heads = mem::take(&mut self.unconsumed);
        heads.extend_from_slice(bytes);
        let mut taken_bytes = 0;
        loop {
            let rest = &heads[taken_bytes..];
            let head_bytes = match self.stage {
                Stage::Request => self.receive_request(rest),
                Stage::Response => self.receive_response(rest),
                Stage::Open | Stage::Ended => break,
            };
            match head_bytes {
                Ok(Some(head_bytes)) => taken_bytes += head_bytes,
                Ok(None) => {
                    heads.drain(..taken_bytes);
                    self.unconsumed = heads;
                    return None;
                }
                Err(error) => {
                    self.discard_input(Some(error));
                    return None;
                }
            }
        }
        self.output.append(&mut self.waiting);
        // The bytes from earlier calls are no whole head, so the last head ends within `bytes`.
        let start = bytes.len().saturating_sub(heads.len() - taken_bytes);
        Some(&mut bytes[start..])
    }

    // The length of the request's head in bytes, or `None` when it is incomplete.
    fn receive_request(&mut self, input: &[u8]) -> Result<Option<usize>, DriverError> {
        let mut storage = HeaderStorage::new();
        let limits = HttpLimits::default();
        let parsed = match http::parse_request_head(input, &mut storage, &limits) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            Err(error) => {
                encode_refusal(error.status(), &mut self.output);
                return Err(DriverError::Http(error));
            }
        };
        let upgrade = match upgrade::check(&parsed) {
            Ok(Some(upgrade)) => upgrade,
            Ok(None) => {
                encode_refusal(Status::UPGRADE_REQUIRED, &mut self.output);
                return Err(DriverError::NotAnUpgrade);
            }
            Err(refusal) => {
                encode_refusal(refusal.status(), &mut self.output);
                return Err(DriverError::Refused(refusal));
            }
        };
        let is_supported = |name: &&str| self.subprotocols.iter().any(|known| known == name);
        let agreed = upgrade.subprotocols().find(is_supported);
        let answer: Option<String> = None;
        #[cfg(feature = "deflate")]
        let answer = answer.or_else(|| self.accept_deflate(&upgrade));
        let headers = answer.iter().map(|value| (EXTENSIONS, value.as_str()));
        upgrade::encode_accept(upgrade.key(), agreed, headers, &mut self.output);
        self.subprotocol = agreed.map(str::to_owned);
        self.path = Some(parsed.head.path().to_owned());
        self.stage = Stage::Open;
        Ok(Some(parsed.bytes))
    }

    // The length of a response's head in bytes, or `None` when it is incomplete.
    fn receive_response(&mut self, input: &[u8]) -> Result<Option<usize>, DriverError> {
        let mut storage = HeaderStorage::new();
        let limits = HttpLimits::default();
        let parsed = http::parse_response_head(input, false, &mut storage, &limits)
            .map_err(DriverError::Http)?;
        let Some(parsed) = parsed else {
            return Ok(None);
        };
        // Interim responses come before the final one. Source: RFC 9110, section 15.2.
        if parsed.status.is_informational() && parsed.status != Status::SWITCHING_PROTOCOLS {
            return Ok(Some(parsed.bytes));
        }
        let offered: Vec<&str> = self.subprotocols.iter().map(String::as_str).collect();
        let offers_extensions = self.offers_extensions();
        let agreed = upgrade::check_response(&parsed, &self.key, &offered, offers_extensions)
            .map_err(DriverError::Response)?;
        #[cfg(feature = "deflate")]
        self.take_deflate_answer(&parsed)
            .map_err(DriverError::Response)?;
        self.subprotocol = agreed.map(str::to_owned);
        self.stage = Stage::Open;
        Ok(Some(parsed.bytes))
    }

    fn receive_frames(
        &mut self,
        bytes: &mut [u8],
        mut on_event: impl FnMut(&mut Driver, Event<'_>),
    ) {
        let mut joined = mem::take(&mut self.unconsumed);
        let mut input = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            joined.as_mut_slice()
        };
        loop {
            match self.machine.next_event(&mut input, &self.limits) {
                Ok(Some(event)) => {
                    self.reply_to(&event);
                    on_event(self, event);
                }
                Ok(None) => break,
                Err(error) => {
                    self.close(error.close_code(), &error.to_string());
                    self.closing = Closing::after_error(&error);
                    self.discard_input(Some(DriverError::WebSocket(error)));
                    break;
                }
            }
        }
        self.unconsumed.extend_from_slice(input);
    }

    // Source: RFC 6455, sections 5.5.1 and 5.5.2.
    fn reply_to(&mut self, event: &Event<'_>) {
        match event {
            Event::Ping(payload) => {
                if let Some((machine, out)) = self.frame_output() {
                    machine.encode_pong(payload, out);
                }
            }
            Event::Close(code, _) => {
                let code = code.map(u16::from);
                self.closing =
                    self.machine
                        .encode_close_reply(code, self.has_sent_close, &mut self.output);
                self.discard_input(None);
            }
            Event::Text(_) | Event::Binary(_) | Event::Pong(_) => {}
        }
    }

    fn discard_input(&mut self, error: Option<DriverError>) {
        self.stage = Stage::Ended;
        self.error = error;
        self.unconsumed = Vec::new();
        self.waiting = Vec::new();
    }

    /// Sends a text message. Before the handshake is complete it waits for that. After our close,
    /// the peer's, or an error it is dropped, like every frame that is sent then.
    pub fn text(&mut self, text: impl AsRef<str>) {
        self.send(Message::Text(text.as_ref()));
    }

    /// Sends a binary message.
    pub fn binary(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(Message::Binary(bytes.as_ref()));
    }

    fn send(&mut self, message: Message<'_>) {
        if let Some((machine, out)) = self.frame_output() {
            machine.encode(message, out);
        }
    }

    /// Sends a ping, whose payload comes back in an [`Event::Pong`].
    ///
    /// # Errors
    ///
    /// [`EncodeError::ControlTooLong`] above [`CONTROL_BYTES_MAX`](super::CONTROL_BYTES_MAX).
    /// No frame is sent then.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), EncodeError> {
        match self.frame_output() {
            Some((machine, out)) => encode_ping(machine.mask(), payload, out),
            None => Ok(()),
        }
    }

    /// Sends a close, unless one was sent. Events go on until the peer's close.
    ///
    /// A code that must not be sent, such as 1005 and 1006, goes out as 1000; a reason above
    /// [`CLOSE_REASON_BYTES_MAX`](super::CLOSE_REASON_BYTES_MAX) is cut.
    pub fn close(&mut self, code: u16, reason: &str) {
        if let Some((machine, out)) = self.frame_output() {
            machine.encode_close(code, reason, out);
            self.has_sent_close = true;
        }
    }

    // The machine that encodes a frame, and the buffer that it goes to; `None` when no frame may be
    // sent any more.
    fn frame_output(&mut self) -> Option<(&mut Machine, &mut Vec<u8>)> {
        match self.stage {
            _ if self.has_sent_close => None,
            Stage::Request | Stage::Response => Some((&mut self.machine, &mut self.waiting)),
            Stage::Open => Some((&mut self.machine, &mut self.output)),
            Stage::Ended => None,
        }
    }

    /// Takes the bytes that are to be written now, which may be none.
    pub fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// Whether the handshake is complete, and the peer has not closed or broken the protocol.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether the peer has closed, or an error has ended the connection. No event is delivered any
    /// more, and no frame can be sent; the output may still hold the last one.
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// The peer's error, if one has ended the connection.
    pub fn error(&self) -> Option<&DriverError> {
        self.error.as_ref()
    }

    /// How the connection ended: with the peer's close or its error, where one came, else
    /// abnormally (1006), as it would end if the stream ended now.
    pub fn closing(&self) -> Closing {
        self.closing
    }

    /// The path of the request that a server has accepted, still encoded, without the query.
    /// `None` on a client.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The subprotocol that was agreed, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

// Has no date, which a server without a clock must not send, and no body, so that it answers HEAD
// too.
//
// Source: RFC 9110, sections 6.6.1, 7.8 and 15.5.22; RFC 6455, section 4.4.
fn encode_refusal(status: Status, out: &mut Vec<u8>) {
    let connection = if status == Status::UPGRADE_REQUIRED {
        let version = upgrade::VERSION;
        format!(
            "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: {version}"
        )
    } else {
        "Connection: close".to_owned()
    };
    let head = format!("HTTP/1.1 {status}\r\n{connection}\r\nContent-Length: 0\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// The error of the peer that ended a [`Driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverError {
    /// The peer's handshake is not HTTP/1.1, or is longer than the limits of HTTP allow.
    Http(HttpError),
    /// The client's request does not ask for WebSocket.
    NotAnUpgrade,
    /// The client's request asks for WebSocket in a way that must not be accepted.
    Refused(Refusal),
    /// The server's response does not accept the upgrade.
    Response(ResponseError),
    /// The bytes after the handshake are not WebSocket, or are more than the limits allow.
    WebSocket(Error),
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DriverError::Http(error) => error.fmt(f),
            DriverError::NotAnUpgrade => f.write_str("the request is not an upgrade to WebSocket"),
            DriverError::Refused(refusal) => refusal.fmt(f),
            DriverError::Response(error) => error.fmt(f),
            DriverError::WebSocket(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DriverError {}

#[cfg(test)]
mod tests {
    use super::super::frame::encode_frame;
    use super::*;

    // The key of RFC 6455, section 1.3, and the mask of its section 5.7.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const REQUEST: &str = "GET /chat?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\n\r\n";
    const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    const TEXT: u8 = 0x81;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;

    fn server() -> Driver {
        Driver::server(Limits::default())
    }

    fn client_with(subprotocols: &[&str]) -> Driver {
        let mut client = Driver::client(Limits::default(), "h", "/", subprotocols).unwrap();
        client.key = KEY.to_owned();
        client.take_output();
        client
    }

    // Receives a copy of `bytes` in pieces, echoes the messages, and returns the events.
    fn read(driver: &mut Driver, bytes: &[u8], cut: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for piece in bytes.chunks(cut) {
            driver.receive(&mut piece.to_vec(), |driver, event| {
                heard.push(format!("{event:?}"));
                match event {
                    Event::Text(text) => driver.text(text),
                    Event::Binary(bytes) => driver.binary(bytes),
                    Event::Ping(_) | Event::Pong(_) | Event::Close(..) => {}
                }
            });
        }
        heard
    }

    // A driver whose handshake is done, with no output.
    fn opened(role: Role) -> Driver {
        let (mut driver, head) = match role {
            Role::Server => (server(), REQUEST),
            Role::Client => (client_with(&[]), RESPONSE),
        };
        assert!(read(&mut driver, head.as_bytes(), usize::MAX).is_empty());
        assert!(driver.is_open());
        driver.take_output();
        driver
    }

    fn frames(mask: Option<[u8; 4]>, frames: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (first, payload) in frames {
            encode_frame(*first, mask, payload, &mut out);
        }
        out
    }

    const SESSION: &[(u8, &[u8])] = &[
        (TEXT, b"Hello"),
        (0x82, &[7; 300]),
        (0x01, "caf\u{e9}".as_bytes()),
        (PING, b"in between"),
        (0x80, b" au lait"),
        (PING, &[b'x'; 125]),
        (0x8a, b"unasked"),
        (CLOSE, b"\x03\xe9later"),
        (TEXT, b"too late"),
    ];

    #[test]
    fn client_and_server_exchange_messages_and_closes() {
        let mut server = server().with_subprotocols(&["z", "b", "a"]);
        let mut client = Driver::client(
            Limits::default(),
            "localhost:1",
            "/a%20b?c",
            &["y", "a", "b"],
        )
        .unwrap();
        assert!(read(&mut server, &client.take_output(), usize::MAX).is_empty());
        assert_eq!(
            (server.path(), server.subprotocol()),
            (Some("/a%20b"), Some("a"))
        );
        client.receive(&mut server.take_output(), |_, _| panic!("nothing was said"));
        assert!(client.is_open() && client.subprotocol() == Some("a"));

        client.text("Hello");
        client.binary([1; 70_000]);
        client.ping(b"there?").unwrap();
        let heard = read(&mut server, &client.take_output(), 1000);
        assert_eq!(heard.len(), 3);
        let mut back = Vec::new();
        client.receive(&mut server.take_output(), |_, event| match event {
            Event::Text(text) => back.push(text.into_owned()),
            Event::Binary(bytes) => back.push(format!("{} bytes", bytes.len())),
            Event::Pong(payload) => back.push(format!("pong {}", payload.escape_ascii())),
            Event::Ping(_) | Event::Close(..) => panic!("{event:?}"),
        });
        assert_eq!(back, ["Hello", "70000 bytes", "pong there?"]);

        client.close(1000, "enough");
        client.text("after all");
        assert!(!client.is_ended());
        let heard = read(&mut server, &client.take_output(), usize::MAX);
        assert_eq!(heard, ["Close(Some(Normal), \"enough\")"]);
        assert!(server.is_ended() && server.error().is_none());
        let heard = read(&mut client, &server.take_output(), usize::MAX);
        assert_eq!(heard, ["Close(Some(Normal), \"\")"]);
        assert!(client.is_ended() && client.take_output().is_empty());
    }

    #[test]
    fn same_output_however_a_server_is_read() {
        let wire = [REQUEST.as_bytes(), &frames(Some(MASK), SESSION)].concat();
        let run = |cut| {
            let mut server = server();
            let heard = read(&mut server, &wire, cut);
            assert!(server.is_ended() && server.error().is_none());
            (heard, server.take_output())
        };
        let (heard, output) = run(wire.len());
        let expected = frames(
            None,
            &[
                (TEXT, b"Hello"),
                (0x82, &[7; 300]),
                (0x8a, b"in between"),
                (TEXT, "caf\u{e9} au lait".as_bytes()),
                (0x8a, &[b'x'; 125]),
                (CLOSE, b"\x03\xe9"),
            ],
        );
        assert!(
            output.starts_with(RESPONSE.as_bytes()),
            "the response of the RFC"
        );
        assert_eq!(output[RESPONSE.len()..], expected);
        assert_eq!(heard.len(), SESSION.len() - 1 - 1);
        for cut in 1..wire.len() {
            assert_eq!(run(cut), (heard.clone(), output.clone()), "pieces of {cut}");
            let mut server = server();
            let mut parts = read(&mut server, &wire[..cut], cut);
            parts.extend(read(&mut server, &wire[cut..], usize::MAX));
            assert_eq!(
                (&parts, server.take_output()),
                (&heard, output.clone()),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn same_events_however_a_client_is_read() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".as_slice();
        let wire = [
            interim,
            interim,
            RESPONSE.as_bytes(),
            &frames(None, SESSION),
        ]
        .concat();
        let run = |cut| {
            let mut client = client_with(&[]);
            let heard = read(&mut client, &wire, cut);
            assert!(client.is_ended() && client.error().is_none());
            // The masks of its output are random, so a server reads it for the comparison.
            let mut server = opened(Role::Server);
            (heard, read(&mut server, &client.take_output(), usize::MAX))
        };
        let whole = run(wire.len());
        assert_eq!(whole.1.len(), 6);
        for cut in 1..wire.len() {
            assert_eq!(run(cut), whole, "pieces of {cut}");
        }
    }

    #[test]
    fn refusals() {
        let good = REQUEST;
        let upgrade =
            "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        let close = "Connection: close";
        let refused = DriverError::Refused;
        let http = DriverError::Http;
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
        let cases = [
            (
                good.replace(": 13", ": 8"),
                "426 Upgrade Required",
                upgrade,
                refused(Refusal::Version),
            ),
            (
                good.replace("websocket", "h2c"),
                "426 Upgrade Required",
                upgrade,
                DriverError::NotAnUpgrade,
            ),
            (
                good.replace("1.1", "1.0"),
                "426 Upgrade Required",
                upgrade,
                DriverError::NotAnUpgrade,
            ),
            (
                good.replace("GET", "POST"),
                "400 Bad Request",
                close,
                refused(Refusal::Method),
            ),
            (
                good.replace(": Upgrade", ": close"),
                "400 Bad Request",
                close,
                refused(Refusal::Connection),
            ),
            (
                good.replace(KEY, "short"),
                "400 Bad Request",
                close,
                refused(Refusal::Key),
            ),
            (
                good.replace("Host: h\r\n", ""),
                "400 Bad Request",
                close,
                http(HttpError::MissingHost),
            ),
            (
                good.replace("GET ", "GET"),
                "400 Bad Request",
                close,
                http(HttpError::BadRequestLine),
            ),
            (
                "\x16\x03\x01".to_owned(),
                "400 Bad Request",
                close,
                http(HttpError::TlsOnPlainPort),
            ),
            (
                long,
                "414 URI Too Long",
                close,
                http(HttpError::TargetTooLong),
            ),
        ];
        for (request, status, connection, error) in cases {
            let wire = [request.as_bytes(), &frames(Some(MASK), SESSION)].concat();
            for cut in [wire.len().div_ceil(500), wire.len()] {
                let mut server = server();
                server.text("waits for a handshake that never comes");
                assert!(read(&mut server, &wire, cut).is_empty(), "{status}");
                assert_eq!(server.error(), Some(&error));
                assert!(server.is_ended() && server.path().is_none());
                let expected =
                    format!("HTTP/1.1 {status}\r\n{connection}\r\nContent-Length: 0\r\n\r\n");
                server.text("dropped");
                assert_eq!(String::from_utf8(server.take_output()).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_client_refuses_a_response_that_does_not_upgrade() {
        let cases = [
            (
                RESPONSE.replace("s3p", "s3q"),
                DriverError::Response(ResponseError::AcceptKey),
            ),
            (
                RESPONSE.replace("101 Switching Protocols", "404 Not Found"),
                DriverError::Response(ResponseError::Status(Status::NOT_FOUND)),
            ),
            (
                RESPONSE.replace(
                    "Upgrade: websocket",
                    "Sec-WebSocket-Protocol: z\r\nUpgrade: websocket",
                ),
                DriverError::Response(ResponseError::Subprotocol),
            ),
            (
                "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
                DriverError::Http(HttpError::BadStatusLine),
            ),
        ];
        for (response, error) in cases {
            let mut client = client_with(&["a"]);
            client.text("waits");
            assert!(read(&mut client, response.as_bytes(), 1).is_empty());
            assert_eq!(client.error(), Some(&error));
            assert!(client.is_ended() && client.take_output().is_empty());
        }
        let limits = Limits::default();
        let error = Driver::client(limits, "h\r\nX: y", "/", &[]).err();
        assert_eq!(error, Some(http::EncodeError::BadHost));
        let error = Driver::client(limits, "h", "/", &["a b"]).err();
        assert_eq!(error, Some(http::EncodeError::BadName));
    }

    #[test]
    fn errors_close_with_the_code_of_the_rfc() {
        let limits = Limits {
            frame_bytes_max: 1000,
            message_bytes_max: 1000,
            ..Limits::default()
        };
        let cases: &[(&str, Vec<u8>, u16)] = &[
            ("unmasked", frames(None, &[(TEXT, b"a")]), 1002),
            ("reserved bits", frames(Some(MASK), &[(0xc1, b"a")]), 1002),
            ("opcode", frames(Some(MASK), &[(0x83, b"a")]), 1002),
            (
                "continuation of nothing",
                frames(Some(MASK), &[(0x80, b"a")]),
                1002,
            ),
            (
                "close code",
                frames(Some(MASK), &[(CLOSE, b"\x03\xed")]),
                1002,
            ),
            ("not UTF-8", frames(Some(MASK), &[(TEXT, b"\xff")]), 1007),
            ("too long", frames(Some(MASK), &[(0x82, &[0; 1001])]), 1009),
        ];
        for (name, bad, code) in cases {
            let good = frames(Some(MASK), &[(TEXT, b"good")]);
            let wire = [REQUEST.as_bytes(), &good, bad, &good].concat();
            for cut in [1, wire.len()] {
                let mut server = Driver::server(limits);
                let heard = read(&mut server, &wire, cut);
                assert_eq!(heard, ["Text(\"good\")"], "{name}");
                assert!(server.is_ended(), "{name}");
                let Some(DriverError::WebSocket(error)) = server.error() else {
                    panic!("{name}: {:?}", server.error());
                };
                let reason = error.to_string();
                let close = [&code.to_be_bytes(), reason.as_bytes()].concat();
                let expected = frames(None, &[(TEXT, b"good"), (CLOSE, &close)]);
                assert_eq!(server.take_output()[RESPONSE.len()..], expected, "{name}");
                server.close(1000, "");
                assert!(server.take_output().is_empty(), "{name}");
            }
        }
        let mut client = opened(Role::Client);
        read(&mut client, &frames(Some(MASK), &[(TEXT, b"a")]), 1);
        assert_eq!(client.error(), Some(&DriverError::WebSocket(Error::Masked)));
        let heard = read(&mut opened(Role::Server), &client.take_output(), 1);
        assert!(heard[0].starts_with("Close(Some(Protocol)"), "{heard:?}");
    }

    #[test]
    fn no_frame_is_sent_after_a_close() {
        let mut server = opened(Role::Server);
        server.close(4000, "done");
        server.close(4001, "again");
        server.text("dropped");
        server.ping(b"dropped").unwrap();
        assert_eq!(
            server.take_output(),
            frames(None, &[(CLOSE, b"\x0f\xa0done")])
        );
        // The peer sent these before it saw our close: they are delivered, and not answered.
        let wire = frames(
            Some(MASK),
            &[(TEXT, b"a"), (PING, b"b"), (CLOSE, b"\x0f\xa0")],
        );
        let heard = read(&mut server, &wire, 1);
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(server.is_ended() && server.take_output().is_empty());

        // A code that must not be sent goes out as 1000. The reply to a close without a code has
        // none.
        let mut server = opened(Role::Server);
        server.close(1006, "why");
        let expected = frames(None, &[(CLOSE, b"\x03\xe8why")]);
        assert_eq!(server.take_output(), expected);
        let mut server = opened(Role::Server);
        read(&mut server, &frames(Some(MASK), &[(CLOSE, b"")]), 1);
        assert_eq!(server.take_output(), frames(None, &[(CLOSE, b"")]));
    }

    #[test]
    fn closing_has_the_code_cleanliness_and_lingering() {
        let abnormal = Closing::without_close();
        for (role, mask) in [(Role::Server, Some(MASK)), (Role::Client, None)] {
            let closing = |payload: &[u8], was_sent| {
                let mut driver = opened(role);
                assert_eq!(driver.closing(), abnormal);
                if was_sent {
                    driver.close(4000, "");
                    assert_eq!(driver.closing(), abnormal);
                }
                read(&mut driver, &frames(mask, &[(CLOSE, payload)]), 1);
                driver.closing()
            };
            for was_sent in [false, true] {
                let expected = |code, was_clean, lingers| Closing {
                    code,
                    was_clean,
                    lingers,
                };
                let is_client = role == Role::Client;
                let with_code = closing(b"\x0f\xa1why", was_sent);
                assert_eq!(with_code, expected(4001, true, is_client));
                assert_eq!(closing(b"", was_sent), expected(1005, true, is_client));
                assert_eq!(closing(b"\x03", was_sent), expected(1002, false, true));
            }
        }
        let mut refused = server();
        read(&mut refused, b"SSH-2.0-OpenSSH\r\n\r\n", usize::MAX);
        assert_eq!((refused.is_ended(), refused.closing()), (true, abnormal));
    }

    #[test]
    fn a_callback_may_close_and_what_it_sends_follows_the_pong() {
        let mut server = opened(Role::Server);
        let mut wire = frames(Some(MASK), &[(PING, b"a"), (TEXT, b"b"), (TEXT, b"c")]);
        server.receive(&mut wire, |driver, event| match event {
            Event::Ping(_) => driver.text("ping"),
            Event::Text(_) => driver.close(1001, "bye"),
            Event::Binary(_) | Event::Pong(_) | Event::Close(..) => {}
        });
        let expected = frames(
            None,
            &[(0x8a, b"a"), (TEXT, b"ping"), (CLOSE, b"\x03\xe9bye")],
        );
        assert_eq!(server.take_output(), expected);
        assert!(server.is_open());
    }

    #[test]
    fn messages_sent_early_wait_for_the_handshake() {
        let mut server = server();
        server.text("first");
        assert!(server.take_output().is_empty());
        let wire = [
            REQUEST.as_bytes(),
            &frames(Some(MASK), &[(TEXT, b"second")]),
        ]
        .concat();
        read(&mut server, &wire, usize::MAX);
        let expected = frames(None, &[(TEXT, b"first"), (TEXT, b"second")]);
        assert_eq!(
            server.take_output(),
            [RESPONSE.as_bytes(), &expected].concat()
        );
    }

    #[test]
    fn a_ping_too_long_is_not_sent() {
        let mut server = opened(Role::Server);
        assert_eq!(
            server.ping(&[0; 126]),
            Err(EncodeError::ControlTooLong { bytes: 126 })
        );
        assert!(server.take_output().is_empty());
        assert_eq!(server.ping(&[0; 125]), Ok(()));
    }

    #[test]
    fn memory_for_incomplete_input_is_bounded() {
        let mut server = server();
        let endless = [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(10)].concat();
        let heads_max = HttpLimits::default().head_bytes_max;
        for _ in 0..10_000 {
            server.receive(&mut endless.clone(), |_, _| {});
            assert!(server.unconsumed.len() < heads_max + 8);
        }
        assert!(server.is_ended() && server.unconsumed.is_empty());

        let mut server = opened(Role::Server);
        let wire = frames(Some(MASK), &[(PING, &[0; 125])]);
        read(&mut server, &wire[..wire.len() - 1], 1);
        assert_eq!(server.unconsumed.len(), wire.len() - 1);
        read(&mut server, &wire[wire.len() - 1..], 1);
        assert!(server.unconsumed.is_empty());
    }

    #[test]
    fn a_session_with_random_faults_never_panics() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let request = [REQUEST.as_bytes(), &frames(Some(MASK), SESSION)].concat();
        let response = [RESPONSE.as_bytes(), &frames(None, SESSION)].concat();
        for round in 0..4000 {
            let (mut driver, session) = match round % 4 {
                0 => (server(), &request),
                1 => (client_with(&[]), &response),
                2 => (opened(Role::Server), &request),
                _ => (opened(Role::Client), &response),
            };
            let mut wire = session.clone();
            for _ in 0..=random(8) {
                let index = random(wire.len());
                match random(3) {
                    0 => wire[index] = random(256) as u8,
                    1 => wire.insert(index, random(256) as u8),
                    _ => wire.truncate(index + 1),
                }
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(1 + random(rest.len()));
                let had_ended = driver.is_ended();
                let heard = read(&mut driver, piece, usize::MAX);
                assert!(!had_ended || heard.is_empty());
                rest = later;
            }
            driver.close(1000, "");
        }
    }
}
