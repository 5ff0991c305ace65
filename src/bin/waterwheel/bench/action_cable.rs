//! A subscriber that speaks ActionCable: the command that subscribes, and the messages of the server.
//!
//! The channel is `BenchChannel` with the parameter `topic`, so a server needs
//!
//! ```ruby
//! class BenchChannel < ActionCable::Channel::Base
//!   def subscribed = stream_from(params[:topic])
//! end
//! ```

use serde_json::Value;

pub const SUBPROTOCOL: &str = "actioncable-v1-json";

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'m> {
    /// The server takes commands from now on. One that comes before may be lost.
    Welcome,
    /// This text was published. A message of another form is here whole.
    Text(&'m [u8]),
    /// All is well.
    Nothing,
}

/// The grammar of one channel.
pub struct ActionCable {
    subscribe: String,
    /// All of a message before its text.
    head: String,
}

impl ActionCable {
    /// For a topic that needs no escape in JSON.
    pub fn new(topic: &str) -> ActionCable {
        // JSON within a string of JSON. The server sends it back as it came.
        let identifier = format!(r#"{{\"channel\":\"BenchChannel\",\"topic\":\"{topic}\"}}"#);
        ActionCable::of(&identifier)
    }

    /// For a stream by its plain name, which needs no escape in JSON: on AnyCable's channel `$pubsub`.
    pub fn of_stream(stream: &str) -> ActionCable {
        let identifier = format!(r#"{{\"channel\":\"$pubsub\",\"stream_name\":\"{stream}\"}}"#);
        ActionCable::of(&identifier)
    }

    /// `identifier` is as it stands in a string of JSON.
    fn of(identifier: &str) -> ActionCable {
        ActionCable {
            subscribe: format!(r#"{{"command":"subscribe","identifier":"{identifier}"}}"#),
            head: format!(r#"{{"identifier":"{identifier}","message":""#),
        }
    }

    /// The command that subscribes.
    pub fn subscribe(&self) -> &str {
        &self.subscribe
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// A sentence, when the server refuses the subscription or ends the connection.
    #[inline]
    pub fn read<'m>(&self, message: &'m [u8]) -> Result<Read<'m>, String> {
        let text = message.strip_prefix(self.head.as_bytes());
        match text.and_then(|text| text.strip_suffix(b"\"}")) {
            Some(text) => Ok(Read::Text(text)),
            None => read_state(message),
        }
    }
}

fn read_state(message: &[u8]) -> Result<Read<'_>, String> {
    let value: Value = serde_json::from_slice(message).unwrap_or_default();
    match value["type"].as_str() {
        Some("welcome") => Ok(Read::Welcome),
        Some("ping" | "confirm_subscription") => Ok(Read::Nothing),
        Some(_) => Err(format!(
            "the server answered {}",
            String::from_utf8_lossy(message)
        )),
        None => Ok(Read::Text(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_server() {
        let grammar = ActionCable::new("t");
        let identifier: Value = serde_json::from_str(grammar.subscribe()).unwrap();
        let identifier = identifier["identifier"].as_str().unwrap();
        let identifier: Value = serde_json::from_str(identifier).unwrap();
        assert_eq!(
            (&identifier["channel"], &identifier["topic"]),
            (&"BenchChannel".into(), &"t".into())
        );

        let text =
            r#"{"identifier":"{\"channel\":\"BenchChannel\",\"topic\":\"t\"}","message":"ab"}"#;
        let other = r#"{"identifier":"{\"channel\":\"BenchChannel\"}","message":"ab"}"#;
        let cases = [
            (r#"{"type":"welcome"}"#, Ok(Read::Welcome)),
            (r#"{"type":"ping","message":1763800000}"#, Ok(Read::Nothing)),
            (
                r#"{"identifier":"x","type":"confirm_subscription"}"#,
                Ok(Read::Nothing),
            ),
            (
                r#"{"identifier":"x","type":"reject_subscription"}"#,
                Err("reject_subscription"),
            ),
            (
                r#"{"type":"disconnect","reason":"unauthorized"}"#,
                Err("unauthorized"),
            ),
            (text, Ok(Read::Text(b"ab"))),
            (other, Ok(Read::Text(other.as_bytes()))),
            ("ab", Ok(Read::Text(b"ab"))),
        ];
        for (message, expected) in cases {
            match (grammar.read(message.as_bytes()), expected) {
                (Ok(read), Ok(expected)) => {
                    assert_eq!(read, expected, "{message}")
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (read, _) => panic!("{message}: {read:?}"),
            }
        }
    }
}
