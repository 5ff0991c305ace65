//! The state of a connection whose channels are those of an application: what each call says about it, and the commands
//! that wait for the call before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::protocol::action_cable::hook::{Call, CallKind, Values, texts_to_json};
use crate::protocol::http::Headers;

/// The most bytes of the state of a connection, with names.
const STATE_BYTES_MAX: usize = 16 * 1024;

/// The most commands that wait. A connection is not read meanwhile, so that these have come in one piece.
const WAITING_MAX: usize = 1000;

/// The state of one connection for the calls about it.
pub(super) struct Hooked {
    connection: Box<str>,
    url: Box<str>,
    /// An object of JSON.
    headers: Box<str>,
    /// An object of JSON.
    identifiers: RefCell<Box<str>>,
    state: RefCell<Values>,
    is_busy: Cell<bool>,
    waiting: RefCell<VecDeque<Box<str>>>,
    /// The subscriptions of a connection that has ended, which the application is still told of.
    leaving: RefCell<Option<VecDeque<Box<str>>>>,
}

impl Hooked {
    /// A connection, with an id that no other has, and its identifiers as an object of JSON.
    pub(super) fn new(
        connection: String,
        url: String,
        headers: Headers<'_>,
        identifiers: String,
    ) -> Hooked {
        Hooked {
            connection: connection.into(),
            url: url.into(),
            headers: headers_to_json(headers).into(),
            identifiers: RefCell::new(identifiers.into()),
            state: RefCell::default(),
            is_busy: Cell::new(false),
            waiting: RefCell::default(),
            leaving: RefCell::default(),
        }
    }

    /// The body of a call.
    pub(super) fn body(
        &self,
        kind: CallKind,
        identifier: Option<&str>,
        data: Option<&str>,
    ) -> String {
        let call = Call {
            kind,
            connection: &self.connection,
            url: &self.url,
            headers: &self.headers,
            identifiers: &self.identifiers.borrow(),
            state: &self.state.borrow(),
            identifier,
            data,
        };
        call.to_json()
    }

    pub(super) fn set_identifiers(&self, identifiers: &str) {
        *self.identifiers.borrow_mut() = identifiers.into();
    }

    /// Changes values of the state. Returns whether they have room; otherwise the state stays as it was.
    pub(super) fn merge(&self, values: Values) -> bool {
        let mut merged = self.state.borrow().clone();
        merged.extend(values);
        let bytes = |(name, value): (&String, &Box<_>)| {
            let value: &serde_json::value::RawValue = value;
            name.len() + value.get().len()
        };
        let has_room = merged.iter().map(bytes).sum::<usize>() <= STATE_BYTES_MAX;
        if has_room {
            *self.state.borrow_mut() = merged;
        }
        has_room
    }

    /// Whether a call is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.get()
    }

    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.set(is_busy);
    }

    /// Keeps a command until the call before has ended. Returns whether there is room.
    pub(super) fn wait(&self, text: &str) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let has_room = waiting.len() < WAITING_MAX;
        if has_room {
            waiting.push_back(text.into());
        }
        has_room
    }

    pub(super) fn next_waiting(&self) -> Option<Box<str>> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Notes that the connection has ended, with these subscriptions.
    pub(super) fn set_leaving(&self, identifiers: impl Iterator<Item = Box<str>>) {
        *self.leaving.borrow_mut() = Some(identifiers.collect());
    }

    /// Notes that the application has refused the connection: it is told no more of it.
    pub(super) fn set_refused(&self) {
        *self.leaving.borrow_mut() = None;
    }

    /// The next call that tells the application of the end of the connection. `None` where there is none.
    pub(super) fn next_leaving(&self) -> Option<String> {
        let mut leaving = self.leaving.borrow_mut();
        let (kind, identifier) = match leaving.as_mut()?.pop_front() {
            Some(identifier) => (CallKind::Unsubscribe, Some(identifier)),
            None => {
                *leaving = None;
                (CallKind::Disconnect, None)
            }
        };
        Some(self.body(kind, identifier.as_deref(), None))
    }
}

/// The headers of a handshake, as an object of JSON: without those of the connection itself, and with the values of one
/// name in one text.
fn headers_to_json(headers: Headers<'_>) -> String {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in headers.iter() {
        let name = name.to_ascii_lowercase();
        let is_of_connection = ["connection", "upgrade"].contains(&&*name);
        if is_of_connection || name.starts_with("sec-websocket-") {
            continue;
        }
        let value = String::from_utf8_lossy(value);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.push_str(if name == "cookie" { "; " } else { ", " });
                known.push_str(&value);
            }
            None => all.push((name, value.into_owned())),
        }
    }
    texts_to_json(all.iter().map(|(name, value)| (&**name, &**value)))
}
