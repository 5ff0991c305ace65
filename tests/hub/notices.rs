//! Notices among publications: the members that get them, in which words and in which order.

use serde_json::json;
use waterwheel::pubsub::{Audience, Notice};
use waterwheel::{ConnectionOptions, Overflow, Router};

use crate::{Access, Config, Reader, Sim, envelope, hub, open, plain, say, subscribed, values};

const JOINED: Notice<'static> = Notice::Joined {
    user: "ann",
    info: Some("{\"n\":1}"),
};
const GAP: Notice<'static> = Notice::Gap { cursor: "1:7" };

#[test]
fn notices_stand_between_publications_in_each_grammar() {
    let mut sim = open();
    let socket = subscribed(&mut sim, "chat");
    let silent = plain(&mut sim, &["chat"]);
    let mut stream = Reader::open(&mut sim, "/events?topic=chat");
    let mut envelopes = Reader::open(&mut sim, "/events?topic=chat&envelope=1");
    sim.reactor().publish("chat", "1");
    let before = sim.reactor().stats().clone();
    for notice in [JOINED, GAP] {
        let reactor = sim.reactor();
        reactor.deliver_notice("chat", &notice, Audience::ByName, None);
    }
    assert_eq!(sim.reactor().stats().deliveries, before.deliveries);
    assert_eq!(sim.reactor().stats().publications, before.publications);
    let published = sim.reactor().publish("chat", "2");
    assert_eq!((published.id.number, published.delivered), (2, 4));
    sim.settle();

    let message = |id: &str, data: &str| json!({"topic": "chat", "id": id, "data": data});
    let joined = json!({"topic": "chat", "joined": {"user": "ann", "info": {"n": 1}}});
    let gap = json!({"gap": "chat", "cursor": "1:7"});
    let expected = [message("1:1", "1"), joined, gap, message("1:2", "2")];
    assert_eq!(values(&socket), expected);
    // No message of its own, and no empty one either.
    assert_eq!(silent.received(), ["1", "2"]);
    let joined = r#"{"topic":"chat","joined":{"user":"ann","info":{"n":1}}}"#;
    assert_eq!(
        stream.text(),
        format!(
            "id: 1:0\n\nid: 1:1\ndata: 1\n\nevent: joined\ndata: {joined}\n\n\
             id: 1:7\nevent: gap\ndata: chat\n\nid: 1:2\ndata: 2\n\n"
        )
    );
    let message = |n| format!(r#"{{"topic":"chat","id":"1:{n}","data":"{n}"}}"#);
    let (one, two) = (message(1), message(2));
    let gap = r#"{"gap":"chat","cursor":"1:7"}"#;
    assert_eq!(
        envelopes.text(),
        format!(
            "id: 1:0\n\nid: 1:1\ndata: {one}\n\ndata: {joined}\n\nid: 1:7\ndata: {gap}\n\n\
             id: 1:2\ndata: {two}\n\n"
        )
    );
}

#[test]
fn the_audience_decides_which_members_get_a_notice() {
    let cases = [
        (Audience::ByName, "a.b", [1, 0, 0, 0]),
        (Audience::All, "a.b", [1, 1, 0, 1]),
        (Audience::OfPattern, "a.*", [0, 1, 0, 0]),
        (Audience::OfPattern, "a.b", [0, 0, 0, 0]),
        (Audience::ByName, "other", [0, 0, 0, 0]),
        (Audience::All, "a.c", [0, 1, 0, 1]),
        (Audience::ByName, "a.*", [0, 0, 0, 0]),
    ];
    let mut sim = open();
    let members = ["a.b", "a.*", "b.*", "*"].map(|name| subscribed(&mut sim, name));
    // A member by the name and by two patterns gets it once.
    say(&mut sim, &members[0], json!({"subscribe": "?.b"}));
    say(&mut sim, &members[0], json!({"subscribe": "?.[b]"}));
    for (audience, name, counts) in cases {
        sim.reactor().deliver_notice(name, &GAP, audience, None);
        sim.settle();
        let got = members.each_ref().map(|member| {
            let values = values(member);
            let expected = json!({"gap": name, "cursor": "1:7"});
            assert!(values.iter().all(|value| *value == expected), "{values:?}");
            values.len()
        });
        assert_eq!(got, counts, "{audience:?} of {name}");
    }
}

#[test]
fn a_member_may_be_left_out() {
    let mut sim = Sim::new(None, |reactor| {
        reactor.http("0.0.0.0:80", |router: &mut Router<Option<_>>| {
            router.websocket("/first", |ws| {
                ws.on_open(|ws, _| {
                    *ws.state = Some(ws.id);
                    ws.subscribe("chat")
                });
            });
        })
    });
    let first = sim.websocket("/first");
    let second = sim.websocket("/first");
    let (format, id) = (waterwheel::pubsub::WireFormat::RAW, sim.state().unwrap());
    sim.reactor()
        .set_notice_encoder(format, |name, notice, out| {
            out.extend_from_slice(format!("{name} {}", notice.name()).as_bytes());
            waterwheel::pubsub::BodyKind::Text
        });
    sim.reactor()
        .deliver_notice("chat", &JOINED, Audience::ByName, Some(id));
    sim.settle();
    assert_eq!(first.received(), ["chat joined"]);
    assert_eq!(second.received(), Vec::<String>::new());
}

// A notice with the key of its topic would take the place of the topic's last message.
#[test]
fn the_latest_message_of_a_topic_stays_beside_notices() {
    let options = ConnectionOptions {
        overflow: Overflow::LatestPerKey,
        queue_high_bytes: 1000,
        queue_low_bytes: 500,
        ..ConnectionOptions::default()
    };
    let config = Config {
        options,
        ..Config::default()
    };
    let access = Access {
        open: true,
        ..Access::default()
    };
    let mut sim = Sim::with_config(config, (), move |reactor| {
        reactor.http("0.0.0.0:80", |router| hub::mount(router, &access))
    });
    sim.socket_bytes(200);
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"subscribe": "chat"}));
    for round in 0..20 {
        let reactor = sim.reactor();
        reactor.publish("chat", format!("{round}"));
        for notice in [JOINED, Notice::Left { user: "ann" }, GAP] {
            reactor.deliver_notice("chat", &notice, Audience::ByName, None);
        }
        reactor.deliver_notice(
            "chat",
            &Notice::Left { user: "gap" },
            Audience::ByName,
            None,
        );
        sim.settle();
    }
    let mut got = Vec::new();
    for _ in 0..50 {
        sim.settle();
        got.extend(values(&socket));
    }
    let last = &got[got.len() - 4..];
    for expected in [
        json!({"topic": "chat", "id": "1:20", "data": "19"}),
        json!({"topic": "chat", "left": {"user": "ann"}}),
        json!({"gap": "chat", "cursor": "1:7"}),
        json!({"topic": "chat", "left": {"user": "gap"}}),
    ] {
        assert!(last.contains(&expected), "{expected} in {got:?}");
    }
    assert!(got.len() < 80, "the queue was never full: {}", got.len());
}
