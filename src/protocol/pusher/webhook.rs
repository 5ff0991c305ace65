//! Webhooks: what a server tells the backend of an app.

use crate::protocol::json::quote;

/// The events that a webhook may have.
pub const EVENTS: [&str; 7] = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
];

/// A channel has its first connection (`channel_occupied`), has none any more (`channel_vacated`), or had no event for a new
/// member (`cache_miss`).
pub fn channel_event(name: &str, channel: &str) -> String {
    format!("{{\"name\":\"{name}\",\"channel\":{}}}", quote(channel))
}

/// A user has come to a presence channel (`member_added`), or has left it (`member_removed`).
pub fn member_event(name: &str, channel: &str, user_id: &str) -> String {
    let (channel, user_id) = (quote(channel), quote(user_id));
    format!("{{\"name\":\"{name}\",\"channel\":{channel},\"user_id\":{user_id}}}")
}

/// A channel has another number of connections.
pub fn subscription_count(channel: &str, count: usize) -> String {
    let channel = quote(channel);
    format!(
        "{{\"name\":\"subscription_count\",\"channel\":{channel},\"subscription_count\":{count}}}"
    )
}

/// A client has sent an event, with its data as JSON, and on a presence channel its user.
pub fn client_event(
    channel: &str,
    event: &str,
    data: &str,
    socket_id: &str,
    user_id: Option<&str>,
) -> String {
    let user_id = match user_id {
        Some(user_id) => format!(",\"user_id\":{}", quote(user_id)),
        None => String::new(),
    };
    format!(
        "{{\"name\":\"client_event\",\"channel\":{},\"event\":{},\"data\":{},\"socket_id\":{}{user_id}}}",
        quote(channel),
        quote(event),
        quote(data),
        quote(socket_id),
    )
}

/// The body of a request with these events.
pub fn body<'e>(time_millis: u64, events: impl Iterator<Item = &'e str>) -> String {
    let events: Vec<&str> = events.collect();
    format!(
        "{{\"time_ms\":{time_millis},\"events\":[{}]}}",
        events.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::pusher::signature::sign;

    // Source: the documentation of Pusher Channels.
    #[test]
    fn the_signature_of_the_documentation() {
        let event = channel_event("channel_occupied", "test");
        let body = body(1_327_078_148_132, [event.as_str()].into_iter());
        assert_eq!(
            body,
            r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"test"}]}"#
        );
        assert_eq!(
            sign(b"7ad3773142a6692b25b8", body.as_bytes()),
            "abfea5004a8dd261c09cf7357e59a6dbdbfd3d6a9846970f7d549e8e2b57bb32"
        );
    }

    #[test]
    fn events() {
        for (event, expected) in [
            (
                member_event("member_added", "presence-a", "u\""),
                r#"{"name":"member_added","channel":"presence-a","user_id":"u\""}"#,
            ),
            (
                subscription_count("a", 7),
                r#"{"name":"subscription_count","channel":"a","subscription_count":7}"#,
            ),
            (
                client_event("private-a", "client-e", "{\"x\":1}", "1.2", None),
                r#"{"name":"client_event","channel":"private-a","event":"client-e","data":"{\"x\":1}","socket_id":"1.2"}"#,
            ),
            (
                client_event("presence-a", "client-e", "1", "1.2", Some("u")),
                r#"{"name":"client_event","channel":"presence-a","event":"client-e","data":"1","socket_id":"1.2","user_id":"u"}"#,
            ),
        ] {
            assert_eq!(event, expected);
        }
    }
}
