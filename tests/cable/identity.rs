//! Clients with a token, and the backend's order to disconnect them.

use waterwheel::hub::{Access, CableOptions, TokenSecrets};

use super::*;

const SECRET: &str = "a secret key base of the tests, 40 bytes";

/// The time of a simulation is before this.
const END_UNIX: u64 = 4_000_000_000;

fn serve_secret() -> World {
    let cable = CableOptions {
        secrets: vec![SECRET.to_owned()],
        ..CableOptions::default()
    };
    serve_with(1, cable, &Access::default())
}

pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for index in 0..=group.len() {
            let digit = (bits >> (18 - 6 * index) & 63) as usize;
            let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            text.push(char::from(digits[digit]));
        }
    }
    text
}

/// A token with identifiers, as AnyCable's libraries make it.
pub fn token(secret: &str, identifiers: &str, end_unix: u64) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let claims = serde_json::json!({ "ext": identifiers, "exp": end_unix }).to_string();
    let header = base64url(br#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", base64url(claims.as_bytes()));
    let mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", base64url(&signature))
}

fn user(name: &str) -> String {
    format!(r#"{{"current_user":"{name}"}}"#)
}

fn disconnected(reason: &str, reconnects: bool) -> String {
    format!(r#"{{"type":"disconnect","reason":"{reason}","reconnect":{reconnects}}}"#)
}

#[test]
fn a_token_is_in_the_query_in_a_header_or_a_subprotocol() {
    let mut world = serve_secret();
    let token = token(SECRET, &user("u1"), END_UNIX);
    let target = format!("/cable?jid={token}");
    let subprotocols = format!("actioncable-v1-json, anycable-token.{token}");
    for (target, headers) in [
        (&*target, None),
        ("/cable", Some(("X-JID", &*token))),
        ("/cable", Some(("Sec-WebSocket-Protocol", &*subprotocols))),
    ] {
        let headers: Vec<_> = headers.into_iter().collect();
        let client = world.sims[0].try_websocket(target, &headers).unwrap();
        assert!(!client.head().contains("anycable-token"));
        world.settle();
        assert_eq!(client.received(), [WELCOME]);
        world.publish("action_cable/u1", r#"{"type":"disconnect"}"#);
        assert_eq!(client.received(), [disconnected("remote", true)]);
        assert_eq!(client.close_code(), Some(1000));
    }
}

#[test]
fn a_token_of_the_hub_s_secrets_is_accepted() {
    let access = Access {
        token_secrets: TokenSecrets::new(vec![SECRET.to_owned()]).unwrap(),
        ..Access::default()
    };
    let mut world = serve_with(1, CableOptions::default(), &access);
    let token = token(SECRET, &user("u1"), END_UNIX);
    let client = world.sims[0].websocket(&format!("/cable?jid={token}"));
    world.settle();
    assert_eq!(client.received(), [WELCOME]);
}

#[test]
fn a_client_with_a_wrong_token_is_refused_for_good() {
    let mut world = serve_secret();
    let right = token(SECRET, &user("u1"), END_UNIX);
    let foreign = token("another secret", &user("u1"), END_UNIX);
    let expired = token(SECRET, &user("u1"), 1);
    let unsigned = "eyJhbGciOiJub25lIn0.eyJleHQiOiJ7fSJ9.";
    let without = token(SECRET, "[]", END_UNIX);
    for (token, reason) in [
        (&*foreign, "unauthorized"),
        (&expired, "token_expired"),
        (unsigned, "unauthorized"),
        (&without, "unauthorized"),
        (&right[..right.len() - 1], "unauthorized"),
        ("", "unauthorized"),
    ] {
        let client = world.sims[0].websocket(&format!("/cable?jid={token}"));
        world.settle();
        assert_eq!(client.received(), [disconnected(reason, false)], "{token}");
        assert_eq!(client.close_code(), Some(1000));
    }
    assert_eq!(world.sims[0].reactor().subscription_count(), 0);
}

#[test]
fn connections_are_ended_by_their_identifiers() {
    let mut world = serve_secret();
    let connect = |world: &mut World, identifiers: &str| {
        let token = token(SECRET, identifiers, END_UNIX);
        let client = world.sims[0].websocket(&format!("/cable?jid={token}"));
        world.settle();
        assert_eq!(client.received(), [WELCOME]);
        client
    };
    let two = r#"{"tab":7,"current_user":"gid://TestApp/Post/1"}"#;
    let (first, second) = (connect(&mut world, two), connect(&mut world, two));
    let other = connect(&mut world, &user("u2"));
    let topic = "action_cable/7:Z2lkOi8vVGVzdEFwcC9Qb3N0LzE";
    // Other messages are not obeyed.
    for json in [r#"{"type":"else"}"#, "[]", "7"] {
        world.publish(topic, json);
        assert_eq!(first.received(), [""; 0]);
    }
    world.publish(topic, r#"{"type":"disconnect","reconnect":false}"#);
    for client in [&first, &second] {
        assert_eq!(client.received(), [disconnected("remote", false)]);
        assert!(client.close_code().is_some());
    }
    assert_eq!(other.received(), [""; 0]);
    // The hub's own order is for users of all its transports.
    let order = "POST /disconnect?user=u2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(world.request(order).status, 401);
    let access = Access {
        open: true,
        ..Access::default()
    };
    let cable = CableOptions {
        secrets: vec![SECRET.to_owned()],
        ..CableOptions::default()
    };
    let mut world = serve_with(1, cable, &access);
    let client = connect(&mut world, &user("u2"));
    let answer = world.request(order);
    assert_eq!(answer.text(), "{\"disconnected\":1}\n");
    assert_eq!(client.received(), [disconnected("remote", false)]);
}
