//! Presence channels.

use crate::{KEY, SECRET, World, serve, serve_on, subscribe};
use waterwheel::protocol::pusher::signature::{sign, subscription_text};

fn added(user: &str, info: &str) -> String {
    let info = info.replace('"', r#"\""#);
    format!(
        r#"{{"event":"pusher_internal:member_added","channel":"presence-a","data":"{{\"user_id\":\"{user}\",\"user_info\":{info}}}"}}"#
    )
}

fn removed(user: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:member_removed","channel":"presence-a","data":"{{\"user_id\":\"{user}\"}}"}}"#
    )
}

/// The answer to a subscription, with the ids and the information of the members.
fn roster(members: &[(&str, &str)]) -> String {
    let ids: Vec<_> = members.iter().map(|(id, _)| format!("\"{id}\"")).collect();
    let hash: Vec<_> = members
        .iter()
        .map(|(id, info)| format!("\"{id}\":{info}"))
        .collect();
    let data = format!(
        r#"{{"presence":{{"ids":[{}],"hash":{{{}}},"count":{}}}}}"#,
        ids.join(","),
        hash.join(","),
        members.len()
    );
    let data = data.replace('"', r#"\""#);
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"presence-a","data":"{data}"}}"#
    )
}

fn steps(world: &mut World, reactors: [usize; 3]) {
    let [ann, ben, ann_again] = reactors.map(|reactor| world.connect_to(reactor));
    let info = r#"{"name":"Ann"}"#;
    assert_eq!(
        world.join(&ann, "presence-a", "ann", info),
        [roster(&[("ann", info)])]
    );
    assert_eq!(
        world.join(&ben, "presence-a", "ben", "{}"),
        [roster(&[("ann", info), ("ben", "{}")])]
    );
    assert_eq!(ann.socket.received(), [added("ben", "{}")]);
    // The second connection of a user is told nobody.
    assert_eq!(
        world.join(&ann_again, "presence-a", "ann", "{}"),
        [roster(&[("ann", info), ("ben", "{}")])]
    );
    assert!(ann.socket.received().is_empty() && ben.socket.received().is_empty());
    // Asked again it is answered again.
    assert_eq!(
        world.join(&ben, "presence-a", "ben", "{}"),
        [roster(&[("ann", info), ("ben", "{}")])]
    );
    // An event of a client has its user.
    let event = r#"{"event":"client-e","channel":"presence-a","data":{"x":1}}"#;
    assert!(world.answers(&ben, event).is_empty());
    let with_user = r#"{"event":"client-e","channel":"presence-a","data":{"x":1},"user_id":"ben"}"#;
    assert_eq!(ann.socket.received(), [with_user]);
    assert_eq!(ann_again.socket.received(), [with_user]);
    // A user has gone with the last connection.
    let unsubscribe = r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-a"}}"#;
    assert!(world.answers(&ann, unsubscribe).is_empty());
    assert!(ben.socket.received().is_empty());
    ann_again.socket.stream().reset();
    world.settle();
    assert_eq!(ben.socket.received(), [removed("ann")]);
    assert!(ann.socket.received().is_empty());
    ben.socket.close(1000);
    world.settle();
    assert_eq!(
        world.ask("GET", "/channels", ""),
        (200, r#"{"channels":{}}"#.to_owned())
    );
}

#[test]
fn members_know_of_each_other() {
    steps(&mut serve(), [0, 0, 0]);
}

#[test]
fn members_on_several_reactors_know_of_each_other() {
    steps(&mut serve_on(3), [0, 1, 2]);
    steps(&mut serve_on(2), [1, 1, 0]);
}

/// The connections of a reactor were behind: a change of another came between the list and the subscription.
#[test]
fn a_member_gets_the_changes_behind_its_list_and_no_others() {
    let mut world = serve_on(2);
    let early = world.connect_to(1);
    world.join(&early, "presence-a", "early", "{}");
    let (ben, cat, ann) = (
        world.connect_to(1),
        world.connect_to(1),
        world.connect_to(0),
    );
    // All at once: the reactors take turns only afterwards.
    world.send_join(&ben, "presence-a", "ben", "{}");
    world.send_join(&ann, "presence-a", "ann", "{}");
    world.send_join(&cat, "presence-a", "cat", "{}");
    world.sims[1].settle();
    world.sims[0].settle();
    early.socket.close(1000);
    world.settle();
    for client in [&ann, &ben, &cat] {
        let received = client.socket.received();
        assert!(
            received[0].contains("subscription_succeeded"),
            "{received:?}"
        );
        let mut members: Vec<&str> = ["ann", "ben", "cat", "early"]
            .into_iter()
            .filter(|name| received[0].contains(&format!("\"{name}\\\"")))
            .collect();
        for message in &received[1..] {
            for name in ["ann", "ben", "cat", "early"] {
                if *message == added(name, "{}") {
                    assert!(!members.contains(&name), "{name} twice: {received:?}");
                    members.push(name);
                } else if *message == removed(name) {
                    assert!(members.contains(&name), "{received:?}");
                    members.retain(|it| *it != name);
                }
            }
        }
        members.sort_unstable();
        assert_eq!(members, ["ann", "ben", "cat"], "{received:?}");
    }
}

#[test]
fn a_member_needs_its_data_and_the_signature_of_it() {
    let mut world = serve();
    let client = world.connect();
    let long = "x".repeat(129);
    let long_info = format!("\"{}\"", "x".repeat(2048));
    for (data, expected) in [
        ("", r#""status":400"#),
        ("{}", r#""status":400"#),
        ("[]", r#""status":400"#),
        (r#"{"user_id":""}"#, r#""status":400"#),
        (r#"{"user_id":true}"#, r#""status":400"#),
        (&format!(r#"{{"user_id":"{long}"}}"#), r#""status":400"#),
        (
            &format!(r#"{{"user_id":"u","user_info":{long_info}}}"#),
            r#""status":400"#,
        ),
    ] {
        let given = (!data.is_empty()).then_some(data);
        let text = subscription_text(&client.socket_id, "presence-a", given);
        let auth = format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()));
        let message = match given {
            None => subscribe("presence-a", &auth),
            Some(data) => crate::join_message("presence-a", &auth, data),
        };
        let answers = world.answers(&client, &message).concat();
        assert!(answers.contains(expected), "{data}: {answers}");
    }
    // Signed for other data.
    let text = subscription_text(
        &client.socket_id,
        "presence-a",
        Some(r#"{"user_id":"ann"}"#),
    );
    let auth = format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()));
    let message = crate::join_message("presence-a", &auth, r#"{"user_id":"ben"}"#);
    let answers = world.answers(&client, &message).concat();
    assert!(answers.contains(r#""status":401"#), "{answers}");
    // A number is a name too.
    let answers = world.join_with(&client, "presence-a", r#"{"user_id":10}"#);
    assert!(
        answers.concat().contains(r#"\"ids\":[\"10\"]"#),
        "{answers:?}"
    );
}

#[test]
fn a_presence_channel_has_a_hundred_members() {
    let mut world = serve();
    let clients: Vec<_> = (0..101).map(|_| world.connect()).collect();
    for (index, client) in clients.iter().enumerate().take(100) {
        world.send_join(client, "presence-a", &format!("u{index}"), "{}");
    }
    world.settle();
    for client in &clients {
        client.socket.received();
    }
    let refused = world.join(&clients[100], "presence-a", "one more", "{}");
    assert!(refused.concat().contains("LimitReached"), "{refused:?}");
    let known = world.join(&clients[100], "presence-a", "u7", "{}");
    assert!(known.concat().contains("succeeded"), "{known:?}");
}
