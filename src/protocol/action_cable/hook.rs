//! The calls of a hook: a request of JSON for each thing that a client does, and the answer of the application.
//!
//! Source: this project; `docs/cable.md` describes them for applications.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::protocol::json::{self, push_string, string};

/// The longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The most streams, messages or orders in one answer.
pub const LIST_MAX: usize = 1000;

/// The thing that a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// It has opened a connection.
    Connect,
    /// It wants a subscription.
    Subscribe,
    /// It sends a message to the channel of a subscription.
    Perform,
    /// It ends a subscription, or its connection has ended.
    Unsubscribe,
    /// Its connection has ended.
    Disconnect,
}

impl CallKind {
    /// The word for it in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            CallKind::Connect => "connect",
            CallKind::Subscribe => "subscribe",
            CallKind::Perform => "perform",
            CallKind::Unsubscribe => "unsubscribe",
            CallKind::Disconnect => "disconnect",
        }
    }
}

/// Values of JSON by their names, such as the state of a connection.
pub type Values = BTreeMap<String, Box<RawValue>>;

/// A request to the application.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// The thing that the client does.
    pub kind: CallKind,
    /// The id of the connection, which no other connection has.
    pub connection: &'c str,
    /// The URL by which the connection was opened.
    pub url: &'c str,
    /// The headers by which it was opened, as an object of JSON.
    pub headers: &'c str,
    /// The identifiers of the connection, as an object of JSON.
    pub identifiers: &'c str,
    /// The state of the connection.
    pub state: &'c Values,
    /// The identifier of the subscription, where it is about one.
    pub identifier: Option<&'c str>,
    /// The data of a message.
    pub data: Option<&'c str>,
}

impl Call<'_> {
    /// The body of the request.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(256 + self.headers.len());
        out.extend_from_slice(b"{\"command\":");
        push_string(self.kind.as_str(), &mut out);
        for (name, text) in [("connection", self.connection), ("url", self.url)] {
            push_name(name, &mut out);
            push_string(text, &mut out);
        }
        for (name, json) in [("headers", self.headers), ("identifiers", self.identifiers)] {
            push_name(name, &mut out);
            out.extend_from_slice(json.as_bytes());
        }
        push_name("state", &mut out);
        push_values(self.state, &mut out);
        for (name, text) in [("identifier", self.identifier), ("data", self.data)] {
            if let Some(text) = text {
                push_name(name, &mut out);
                push_string(text, &mut out);
            }
        }
        out.push(b'}');
        String::from_utf8(out).expect("JSON is UTF-8")
    }
}

fn push_name(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    push_string(name, out);
    out.push(b':');
}

/// Appends values as an object of JSON.
fn push_values(values: &Values, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in values.iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        push_string(name, out);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
}

/// An object of JSON whose values are texts.
pub fn texts_to_json<'t>(texts: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let mut out = vec![b'{'];
    for (index, (name, text)) in texts.enumerate() {
        if index != 0 {
            out.push(b',');
        }
        push_string(name, &mut out);
        out.push(b':');
        push_string(text, &mut out);
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// The header `X-Waterwheel-Signature` of a request.
pub fn signature(secret: &str, body: &str) -> String {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes());
    let mac = mac.expect("a key of any length is accepted");
    let digest = mac.chain_update(body).finalize().into_bytes();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// The streams that a subscription leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All that it has.
    All,
    /// These.
    Streams(Vec<String>),
}

/// The answer of the application.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether the client may do it.
    pub is_ok: bool,
    /// The identifiers of the connection, as an object of JSON.
    pub identifiers: Option<String>,
    /// The values of the connection's state that change.
    pub state: Values,
    /// The streams that the subscription joins.
    pub streams: Vec<String>,
    /// The streams that the subscription leaves before.
    pub stop: Stop,
    /// Messages for the client, each one value of JSON.
    pub transmit: Vec<String>,
    /// Messages for streams: the name of the stream, and one value of JSON.
    pub broadcast: Vec<(String, String)>,
    /// Connections to disconnect: their identifiers as an object of JSON, and whether the clients are to come back.
    pub disconnect: Vec<(String, bool)>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Answer, String> {
        let wrong = |error: serde_json::Error| error.to_string();
        json::check_depth(text).map_err(wrong)?;
        let names = &[
            "status",
            "identifiers",
            "state",
            "streams",
            "stop",
            "transmit",
            "broadcast",
            "disconnect",
        ];
        let fields = json::fields(text, names).map_err(wrong)?;
        // A value that is null is as one that is missing.
        let fields = fields.map(|field| field.filter(|value| value.get() != "null"));
        let [
            status,
            identifiers,
            state,
            streams,
            stop,
            transmit,
            broadcast,
            disconnect,
        ] = fields;
        let is_ok = match status.and_then(string).as_deref() {
            Some("ok") => true,
            Some("refused") => false,
            _ => return Err("its status is neither \"ok\" nor \"refused\"".to_owned()),
        };
        let identifiers = identifiers.map(|value| match value.get().starts_with('{') {
            true => Ok(value.get().to_owned()),
            false => Err("its identifiers are no object".to_owned()),
        });
        let state = state.map(|value| serde_json::from_str(value.get()).map_err(wrong));
        let stop = match stop {
            Some(value) if string(value).as_deref() == Some("all") => Stop::All,
            stop => Stop::Streams(list(stop, "stop", text_of)?),
        };
        Ok(Answer {
            is_ok,
            identifiers: identifiers.transpose()?,
            state: state.transpose()?.unwrap_or_default(),
            streams: list(streams, "streams", text_of)?,
            stop,
            transmit: list(transmit, "transmit", |value| Some(value.get().to_owned()))?,
            broadcast: list(broadcast, "broadcast", |value| {
                let [stream, message] = json::fields(value.get(), &["stream", "message"]).ok()?;
                Some((text_of(stream?)?, message?.get().to_owned()))
            })?,
            disconnect: list(disconnect, "disconnect", |value| {
                let [identifiers, reconnect] =
                    json::fields(value.get(), &["identifiers", "reconnect"]).ok()?;
                let reconnects = reconnect.is_none_or(|it| it.get() != "false");
                Some((identifiers?.get().to_owned(), reconnects))
            })?,
        })
    }
}

fn text_of(value: &RawValue) -> Option<String> {
    string(value).map(|text| text.into_owned())
}

/// The elements of an array, or none where it is missing.
fn list<T>(
    value: Option<&RawValue>,
    name: &str,
    read: impl Fn(&RawValue) -> Option<T>,
) -> Result<Vec<T>, String> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let elements = json::elements(value.get(), LIST_MAX);
    let elements = elements.map_err(|error| format!("its {name} is no list: {error}"))?;
    let read: Option<Vec<T>> = elements.into_iter().map(read).collect();
    read.ok_or_else(|| format!("its {name} has an element that is not as it should be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_call_is_one_object() {
        let state = Values::from([("a".to_owned(), raw("1")), ("b".to_owned(), raw("[2]"))]);
        let headers = texts_to_json([("cookie", "a=\"1\""), ("origin", "http://a")].into_iter());
        let call = Call {
            kind: CallKind::Perform,
            connection: "7.1",
            url: "http://a/cable?x=1",
            headers: &headers,
            identifiers: r#"{"user":"u1"}"#,
            state: &state,
            identifier: Some(r#"{"channel":"A"}"#),
            data: Some("{}"),
        };
        let expected = concat!(
            r#"{"command":"perform","connection":"7.1","url":"http://a/cable?x=1","#,
            r#""headers":{"cookie":"a=\"1\"","origin":"http://a"},"identifiers":{"user":"u1"},"#,
            r#""state":{"a":1,"b":[2]},"identifier":"{\"channel\":\"A\"}","data":"{}"}"#
        );
        assert_eq!(call.to_json(), expected);
        let call = Call {
            kind: CallKind::Connect,
            state: &Values::new(),
            identifiers: "{}",
            identifier: None,
            data: None,
            ..call
        };
        let json = call.to_json();
        assert!(json.ends_with(r#""identifiers":{},"state":{}}"#), "{json}");
    }

    // printf '{}' | openssl dgst -sha256 -hmac key
    #[test]
    fn the_signature_is_of_the_body() {
        let digest = "a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032";
        assert_eq!(signature("key", "{}"), format!("sha256={digest}"));
    }

    #[test]
    fn an_answer_with_everything() {
        let answer = Answer::parse(
            r#"{"status":"ok","identifiers":{"user":"u1"},"state":{"a":1},"streams":["s"],"stop":["t"],
            "transmit":[{"x":1},"y"],"broadcast":[{"stream":"s","message":[1]}],
            "disconnect":[{"identifiers":{"user":"u2"},"reconnect":false},{"identifiers":{}}],"more":7}"#,
        )
        .unwrap();
        assert!(answer.is_ok);
        assert_eq!(answer.identifiers.as_deref(), Some(r#"{"user":"u1"}"#));
        assert_eq!(answer.state["a"].get(), "1");
        assert_eq!(answer.streams, ["s"]);
        assert_eq!(answer.stop, Stop::Streams(vec!["t".to_owned()]));
        assert_eq!(answer.transmit, [r#"{"x":1}"#, r#""y""#]);
        assert_eq!(answer.broadcast, [("s".to_owned(), "[1]".to_owned())]);
        let expected = [
            (r#"{"user":"u2"}"#.to_owned(), false),
            ("{}".to_owned(), true),
        ];
        assert_eq!(answer.disconnect, expected);
        let least = Answer::parse(r#"{"status":"refused","stop":"all","streams":null}"#).unwrap();
        assert!(!least.is_ok && least.streams.is_empty() && least.stop == Stop::All);
    }

    #[test]
    fn other_texts_are_no_answers() {
        let deep = format!(
            r#"{{"status":"ok","more":{}{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        let many = format!(
            r#"{{"status":"ok","streams":[{}"s"]}}"#,
            "\"s\",".repeat(1000)
        );
        for text in [
            "",
            "ok",
            "[]",
            "{}",
            r#"{"status":"yes"}"#,
            r#"{"status":"ok","status":"ok"}"#,
            r#"{"status":"ok","identifiers":[]}"#,
            r#"{"status":"ok","state":[]}"#,
            r#"{"status":"ok","streams":"s"}"#,
            r#"{"status":"ok","streams":[7]}"#,
            r#"{"status":"ok","stop":"some"}"#,
            r#"{"status":"ok","broadcast":[{"stream":"s"}]}"#,
            r#"{"status":"ok","disconnect":[{}]}"#,
            r#"{"status":"ok""#,
            &deep,
            &many,
        ] {
            assert!(Answer::parse(text).is_err(), "{text:.60}");
        }
    }
}
