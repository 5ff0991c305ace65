//! Presence: the users of a topic as its members are told, on one reactor and on several.

#![cfg(feature = "hub")]

#[path = "support/answer.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use support::{answer, get};
use waterwheel::hub::{Access, Hub, HubOptions, ReactorGroup, Rules, SUBPROTOCOL};
use waterwheel::pubsub::{BodyKind, Notice, User, WireFormat};
use waterwheel::{Config, ConnId, Faults, Reactor, Sim, SimSocket, SimStream};

const ROOMS: [&str; 3] = ["room.1", "room.2", "room.3"];

fn options(users_max: usize) -> HubOptions {
    let mut rules = Rules::new();
    rules.add_text("room.*=presence").unwrap();
    rules.add_text("secret.*=presence,private").unwrap();
    HubOptions {
        rules,
        presence_users_max: users_max,
        ..HubOptions::default()
    }
}

fn hub(users_max: usize, access: Access) -> Sim<()> {
    let setup = |reactor: &mut Reactor<()>| {
        let hub = Hub::new(options(users_max));
        reactor.http("0.0.0.0:80", |router| hub.mount(router, &access))
    };
    Sim::new((), setup)
}

fn open() -> Access {
    Access {
        open: true,
        ..Access::default()
    }
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        info: (name == "ann").then(|| r#"{"n":1}"#.into()),
    }
}

fn envelope(sim: &mut Sim<()>) -> SimSocket {
    let headers = [("Sec-WebSocket-Protocol", SUBPROTOCOL)];
    sim.try_websocket("/ws", &headers).expect("an upgrade")
}

fn values(socket: &SimSocket) -> Vec<Value> {
    let texts = socket.received();
    let values = texts.iter().map(|text| serde_json::from_str(text));
    values.map(|value| value.expect("JSON")).collect()
}

fn say(sim: &mut Sim<()>, socket: &SimSocket, message: Value) -> Vec<Value> {
    socket.send(message.to_string());
    sim.settle();
    values(socket)
}

/// The connection that is the only member of a topic.
fn member_of(sim: &mut Sim<()>, topic: &str) -> ConnId {
    let members: Vec<ConnId> = sim.reactor().members(topic).collect();
    assert_eq!(members.len(), 1, "{topic}");
    members[0]
}

/// A client of the envelope with a user.
fn client(sim: &mut Sim<()>, name: &str) -> SimSocket {
    let socket = envelope(sim);
    let own_topic = format!("own.{name}");
    say(sim, &socket, json!({"subscribe": own_topic}));
    let id = member_of(sim, &own_topic);
    sim.reactor().set_user(id, Some(user(name)));
    say(sim, &socket, json!({"unsubscribe": own_topic}));
    socket
}

fn present(topic: &str, users: &[(&str, u32)], anonymous: u32) -> Value {
    let users = users.iter().map(|(name, connections)| match *name {
        "ann" => json!({"user": "ann", "info": {"n": 1}, "connections": connections}),
        name => json!({"user": name, "connections": connections}),
    });
    let users: Vec<Value> = users.collect();
    json!({"topic": topic, "present": users, "anonymous": anonymous})
}

#[test]
fn members_are_told_of_the_first_and_the_last_connection_of_a_user() {
    let mut sim = hub(1000, open());
    let bob = client(&mut sim, "bob");
    let said = say(&mut sim, &bob, json!({"subscribe": "room.1"}));
    // Behind the answer a snapshot, and no news about itself.
    let alone = present("room.1", &[("bob", 1)], 0);
    assert_eq!(
        said,
        [json!({"subscribed": "room.1", "cursor": "1:0"}), alone]
    );

    let ann = client(&mut sim, "ann");
    let said = say(&mut sim, &ann, json!({"subscribe": "room.1"}));
    assert_eq!(said[1], present("room.1", &[("ann", 1), ("bob", 1)], 0));
    let joined = json!({"topic": "room.1", "joined": {"user": "ann", "info": {"n": 1}}});
    assert_eq!(values(&bob), [joined]);

    // A second tab, and a client without a name.
    let tab = client(&mut sim, "ann");
    say(&mut sim, &tab, json!({"subscribe": "room.1"}));
    let stranger = envelope(&mut sim);
    let said = say(&mut sim, &stranger, json!({"subscribe": "room.1"}));
    assert_eq!(said[1], present("room.1", &[("ann", 2), ("bob", 1)], 1));
    assert_eq!(values(&bob), Vec::<Value>::new());
    ann.vanish();
    sim.settle();
    assert_eq!(values(&bob), Vec::<Value>::new());
    say(&mut sim, &tab, json!({"unsubscribe": "room.1"}));
    let left = json!({"topic": "room.1", "left": {"user": "ann"}});
    assert_eq!(values(&bob), [left]);
    let asked = say(&mut sim, &stranger, json!({"presence": "room.1"}));
    let now = present("room.1", &[("bob", 1)], 1);
    assert_eq!(asked.last(), Some(&now));

    let stream = sim.connect();
    stream.write(get("/presence?topic=room.1"));
    sim.settle();
    let answer = answer(&stream.read());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(serde_json::from_str::<Value>(answer.text()).unwrap(), now);
}

#[test]
fn the_list_of_topics_has_the_count_of_users() {
    let mut sim = hub(1, open());
    let _clients = ["ann", "bob", "bob"].map(|name| {
        let client = client(&mut sim, name);
        say(&mut sim, &client, json!({"subscribe": "room.1"}));
        say(&mut sim, &client, json!({"subscribe": "news"}));
        client
    });
    let stream = sim.connect();
    stream.write(get("/topics"));
    sim.settle();
    let list: Value = serde_json::from_str(answer(&stream.read()).text()).unwrap();
    let news = json!({"topic": "news", "members": 3, "history": 0});
    let room = json!({"topic": "room.1", "members": 3, "history": 0, "presence": 2});
    assert_eq!(list, json!([news, room]));
}

#[test]
fn changes_stand_in_the_order_of_the_publications() {
    let mut sim = hub(1000, open());
    let reader = envelope(&mut sim);
    say(&mut sim, &reader, json!({"subscribe": "room.1"}));
    let ann = client(&mut sim, "ann");
    sim.reactor().publish("room.1", "before");
    say(&mut sim, &ann, json!({"subscribe": "room.1"}));
    sim.reactor().publish("room.1", "between");
    ann.vanish();
    sim.settle();
    sim.reactor().publish("room.1", "behind");
    sim.settle();
    let short = |value: &Value| match &value["data"] {
        Value::String(data) => data.clone(),
        _ => value.as_object().unwrap().keys().cloned().collect(),
    };
    let seen: Vec<String> = values(&reader).iter().map(short).collect();
    assert_eq!(
        seen,
        ["before", "joinedtopic", "between", "lefttopic", "behind"]
    );
}

#[test]
fn a_client_that_resumes_gets_a_new_snapshot_behind_the_replay() {
    let mut sim = hub(1000, open());
    let ann = client(&mut sim, "ann");
    say(&mut sim, &ann, json!({"subscribe": "room.1"}));
    for text in ["1", "2", "3"] {
        sim.reactor().publish("room.1", text);
    }
    let bob = client(&mut sim, "bob");
    let names = json!(["room.1", "room.2"]);
    let said = say(&mut sim, &bob, json!({"subscribe": names, "since": "1:1"}));
    let data: Vec<&Value> = said[..2].iter().map(|it| &it["data"]).collect();
    assert_eq!(data, ["2", "3"], "{said:?}");
    assert_eq!(said[2], json!({"subscribed": names, "cursor": "1:3"}));
    let first = present("room.1", &[("ann", 1), ("bob", 1)], 0);
    assert_eq!(
        said[3..],
        [first.clone(), present("room.2", &[("bob", 1)], 0)]
    );

    // A client that is subscribed already joins no second time, and has its list.
    let said = say(&mut sim, &bob, json!({"subscribe": "room.1"}));
    assert_eq!(said, [json!({"subscribed": "room.1", "cursor": "1:3"})]);
    let said = say(&mut sim, &bob, json!({"presence": "room.1"}));
    assert_eq!(said, [first]);

    let stream = sim.connect();
    stream.write(get("/events?topic=room.1&since=1:2&envelope=1"));
    sim.settle();
    let text = answer(&stream.read()).text().to_owned();
    let (replayed, snapshot) = (
        text.find("\"3\"").unwrap(),
        text.find("\"present\"").unwrap(),
    );
    assert!(replayed < snapshot, "{text}");
    assert!(text.contains("\"anonymous\":1}"), "{text}");
}

#[test]
fn event_streams_are_told_and_plain_sockets_are_not() {
    let mut sim = hub(1000, open());
    let stream = sim.connect();
    stream.write(get("/events?topic=room.1"));
    let plain = sim.websocket("/ws");
    plain.send("room.1");
    sim.settle();
    let ann = client(&mut sim, "ann");
    let said = say(&mut sim, &ann, json!({"subscribe": "room.1"}));
    assert_eq!(said[1], present("room.1", &[("ann", 1)], 2));
    ann.vanish();
    sim.settle();
    let got = answer(&stream.read());
    assert_eq!(
        got.text(),
        concat!(
            "id: 1:0\n\n",
            "event: present\ndata: {\"topic\":\"room.1\",\"present\":[],\"anonymous\":1}\n\n",
            "event: joined\ndata: {\"topic\":\"room.1\",\"joined\":{\"user\":\"ann\",\"info\":{\"n\":1}}}\n\n",
            "event: left\ndata: {\"topic\":\"room.1\",\"left\":{\"user\":\"ann\"}}\n\n",
        )
    );
    assert_eq!(plain.take_events(), []);
}

#[test]
fn members_by_pattern_are_not_present_and_are_not_told() {
    let mut sim = hub(1000, open());
    let socket = envelope(&mut sim);
    let said = say(&mut sim, &socket, json!({"subscribe": "room.*"}));
    assert_eq!(said, [json!({"subscribed": "room.*", "cursor": "1:0"})]);
    let ann = client(&mut sim, "ann");
    let said = say(&mut sim, &ann, json!({"subscribe": "room.1"}));
    assert_eq!(said[1], present("room.1", &[("ann", 1)], 0));
    assert_eq!(values(&socket), Vec::<Value>::new());
}

#[test]
fn a_member_that_asks_for_a_replay_stays_present() {
    let mut sim = hub(1000, open());
    let bob = client(&mut sim, "bob");
    let ann = client(&mut sim, "ann");
    for socket in [&ann, &bob] {
        say(&mut sim, socket, json!({"subscribe": "room.1"}));
    }
    // More than a client that does not read is sent at once.
    let long = "x".repeat(20_000);
    for _ in 0..100 {
        sim.reactor().publish("room.1", long.as_str());
        sim.settle();
        values(&ann);
        values(&bob);
    }
    let again = json!({"subscribe": "room.1", "since": "earliest"});
    let both = present("room.1", &[("ann", 1), ("bob", 1)], 0);
    let mut got = say(&mut sim, &ann, again.clone());
    while !got.contains(&both) {
        sim.settle();
        got.extend(values(&ann));
    }
    assert_eq!(got.len(), 102);
    assert_eq!(got[101], both);
    assert_eq!(values(&bob), Vec::<Value>::new());
    // It unsubscribes while the replay is under way.
    sim.socket_bytes(16 * 1024);
    let carl = client(&mut sim, "carl");
    say(&mut sim, &carl, json!({"subscribe": "room.1"}));
    carl.send(again.to_string());
    sim.settle();
    carl.send(json!({"unsubscribe": "room.1"}).to_string());
    sim.settle();
    let told = values(&bob);
    let joined = json!({"topic": "room.1", "joined": {"user": "carl"}});
    let left = json!({"topic": "room.1", "left": {"user": "carl"}});
    assert_eq!(told, [joined, left]);
}

#[test]
fn topics_without_the_rule_have_no_presence() {
    let mut sim = hub(1000, open());
    let ann = client(&mut sim, "ann");
    let said = say(&mut sim, &ann, json!({"subscribe": "news"}));
    assert_eq!(said, [json!({"subscribed": "news", "cursor": "1:0"})]);
    for (topic, why) in [("news", "no presence"), ("", "empty")] {
        let said = say(&mut sim, &ann, json!({"presence": topic}));
        assert_eq!(said[0]["code"], "bad", "{topic}");
        assert!(said[0]["error"].as_str().unwrap().contains(why), "{said:?}");
    }
    let targets = [
        ("/presence", 400),
        ("/presence?topic=", 400),
        ("/presence?topic=news", 400),
        ("/presence?topic=a%00", 400),
        ("/presence?topic=room.1", 200),
    ];
    for (target, status) in targets {
        let stream = sim.connect();
        stream.write(get(target));
        sim.settle();
        assert_eq!(answer(&stream.read()).status, status, "{target}");
    }
}

#[test]
fn presence_is_for_those_who_may_subscribe() {
    let access = Access {
        token: Some("secret".into()),
        ..Access::default()
    };
    let mut sim = hub(1000, access);
    let socket = envelope(&mut sim);
    let said = say(&mut sim, &socket, json!({"presence": "room.1"}));
    assert_eq!(said, [present("room.1", &[], 0)]);
    let said = say(&mut sim, &socket, json!({"presence": "secret.1"}));
    assert_eq!(said[0]["code"], "unauthorized");
    say(&mut sim, &socket, json!({"auth": "secret"}));
    let said = say(&mut sim, &socket, json!({"presence": "secret.1"}));
    assert_eq!(said, [present("secret.1", &[], 0)]);

    for (query, status) in [("", 401), ("&token=secret", 200)] {
        let stream = sim.connect();
        stream.write(get(&format!("/presence?topic=room.1{query}")));
        sim.settle();
        assert_eq!(answer(&stream.read()).status, status, "{query}");
    }
}

#[test]
fn a_connection_that_gets_a_user_joins_by_its_name() {
    let mut sim = hub(1000, open());
    let reader = envelope(&mut sim);
    say(&mut sim, &reader, json!({"subscribe": "room.1"}));
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"subscribe": "room.1"}));
    say(&mut sim, &socket, json!({"subscribe": "own"}));
    let id = member_of(&mut sim, "own");
    let steps = [
        (Some("ann"), vec!["joined ann"]),
        (Some("ann"), vec![]),
        (Some("bob"), vec!["joined bob", "left ann"]),
        (None, vec!["left bob"]),
        (None, vec![]),
    ];
    for (name, expected) in steps {
        sim.reactor().set_user(id, name.map(user));
        sim.settle();
        let seen = values(&reader);
        let seen = seen.iter().map(|value| {
            let (key, about) = value.as_object().unwrap().iter().next().unwrap();
            format!("{key} {}", about["user"].as_str().unwrap())
        });
        assert_eq!(seen.collect::<Vec<_>>(), expected, "{name:?}");
    }
    assert_eq!(sim.reactor().presence("room.1").anonymous_count, 2);
    socket.vanish();
    sim.settle();
    sim.reactor().set_user(id, Some(user("ann")));
    sim.reactor().join_presence(id, "room.1");
    let snapshot = sim.reactor().presence("room.1");
    assert_eq!((snapshot.user_count, snapshot.anonymous_count), (0, 1));
}

#[test]
fn users_and_what_they_have_joined_count_as_memory() {
    let mut sim = hub(1000, open());
    let before = sim.reactor().memory_bytes();
    let stranger = envelope(&mut sim);
    say(&mut sim, &stranger, json!({"subscribe": "room.1"}));
    let id = member_of(&mut sim, "room.1");
    let anonymous = sim.reactor().memory_bytes();
    let user = User {
        name: "u".repeat(100).into(),
        info: Some(format!("\"{}\"", "i".repeat(3000)).into()),
    };
    sim.reactor().set_user(id, Some(user));
    sim.settle();
    let named = sim.reactor().memory_bytes();
    assert!(
        anonymous + 3100 <= named && named < anonymous + 4000,
        "{anonymous} {named}"
    );
    stranger.vanish();
    sim.settle();
    assert!(sim.reactor().memory_bytes() < before + 1000);
}

// A callback that panics ends its connection, which leaves like any other.
#[test]
fn a_connection_that_ends_by_a_panic_or_a_drain_leaves() {
    for is_drain in [false, true] {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.http("0.0.0.0:80", |router| {
                router.websocket("/", |ws| {
                    ws.on_open(|ws, _| {
                        ws.subscribe("room").unwrap();
                        ws.reactor.set_user(ws.id, Some(user("ann")));
                        ws.reactor.join_presence(ws.id, "room");
                    });
                    ws.on_message(|_, _| panic!("as a test wants"));
                });
            })
        });
        sim.catch_panics(true);
        let socket = sim.websocket("/");
        assert_eq!(sim.reactor().presence("room").user_count, 1);
        match is_drain {
            false => socket.send("x"),
            true => sim.reactor().drain(Duration::ZERO),
        }
        sim.settle();
        socket.take_events();
        socket.vanish();
        sim.settle();
        assert_eq!(sim.reactor().presence("room").user_count, 0, "{is_drain}");
        assert_eq!(sim.is_running(), !is_drain);
    }
}

// The mailbox of a reactor that is stuck has no room for all changes, with and without publications among them.
#[test]
fn members_on_a_reactor_that_was_stuck_get_a_new_snapshot() {
    for publishes in [false, true] {
        let group = ReactorGroup::with_pending_bytes_max(2, 4096).unwrap();
        let mut sims = [(); 2].map(|()| {
            Sim::new((), |reactor| {
                let hub = Hub::of_group(&group.join(reactor)?, options(1000));
                reactor.http("0.0.0.0:80", |router| hub.mount(router, &open()))
            })
        });
        let [first, second] = &mut sims;
        let reader = client(second, "zoe");
        say(second, &reader, json!({"subscribe": "room.1"}));
        let mut views = BTreeMap::new();
        views.insert("room.1".into(), View::List(["zoe".into()].into()));
        let mut clients = Vec::new();
        for number in 0..100 {
            let client = client(first, &number.to_string());
            say(first, &client, json!({"subscribe": "room.1"}));
            clients.push(client);
            if publishes {
                first.reactor().publish("room.1", "x");
            }
        }
        for client in clients.drain(..50) {
            client.vanish();
        }
        first.settle();
        second.settle();
        let messages = values(&reader);
        let snapshots = messages.iter().filter(|it| it["present"].is_array());
        assert_eq!(snapshots.count(), 1, "{messages:?}");
        let gaps = messages.iter().filter(|it| it["gap"].is_string()).count();
        assert_eq!(gaps, 0, "the history has them");
        for message in &messages {
            apply(&mut views, message);
        }
        let expected = (50..100).map(|number: u32| number.to_string());
        let expected = expected.chain(["zoe".into()]).collect();
        assert_eq!(views["room.1"], View::List(expected), "{publishes}");
        // From here on changes come one by one again.
        clients.pop().unwrap().vanish();
        first.settle();
        second.settle();
        let left = json!({"topic": "room.1", "left": {"user": "99"}});
        assert_eq!(values(&reader), [left]);
    }
}

#[test]
fn the_users_of_a_reactor_that_ends_leave_at_once() {
    let group = ReactorGroup::new(2);
    let mut sims = [(); 2].map(|()| {
        Sim::new((), |reactor| {
            let hub = Hub::of_group(&group.join(reactor)?, options(1000));
            reactor.http("0.0.0.0:80", |router| hub.mount(router, &open()))
        })
    });
    let reader = client(&mut sims[0], "zoe");
    say(&mut sims[0], &reader, json!({"subscribe": "room.1"}));
    let _clients = ["bob", "bob", "zoe", "ann"].map(|name| {
        let client = client(&mut sims[1], name);
        say(&mut sims[1], &client, json!({"subscribe": "room.1"}));
        client
    });
    sims[0].settle();
    assert_eq!(values(&reader).len(), 2);
    let [mut first, second] = sims;
    drop(second);
    first.settle();
    let left = |name| json!({"topic": "room.1", "left": {"user": name}});
    assert_eq!(values(&reader), [left("ann"), left("bob")]);
    let asked = say(&mut first, &reader, json!({"presence": "room.1"}));
    assert_eq!(asked, [present("room.1", &[("zoe", 1)], 0)]);
}

// The leaving of the same user on another reactor was in the mailbox when the client joined, and its own joining
// was kept from it: it was not in its own list.
#[test]
fn a_client_that_joins_while_its_user_leaves_elsewhere_is_in_its_list() {
    let group = ReactorGroup::new(2);
    let [mut first, mut second] = [(); 2].map(|()| {
        Sim::new((), |reactor| {
            let hub = Hub::of_group(&group.join(reactor)?, options(1000));
            reactor.http("0.0.0.0:80", |router| hub.mount(router, &open()))
        })
    });
    let other = client(&mut first, "ann");
    say(&mut first, &other, json!({"subscribe": "room.1"}));
    let ann = client(&mut second, "ann");
    say(&mut second, &ann, json!({"subscribe": "own"}));
    let id = member_of(&mut second, "own");
    other.vanish();
    first.settle();
    let reactor = second.reactor();
    reactor.subscribe(id, "room.1").unwrap();
    reactor.join_presence(id, "room.1");
    let users = reactor.presence("room.1").users.unwrap();
    let list = users.iter().map(|it| it.user.name.to_string()).collect();
    let mut views = BTreeMap::from([("room.1".to_owned(), View::List(list))]);
    second.settle();
    for message in values(&ann) {
        apply(&mut views, &message);
    }
    assert_eq!(views["room.1"], View::List(["ann".to_owned()].into()));
}

#[test]
fn users_that_join_and_leave_cost_messages_in_proportion_to_the_members() {
    // All users join and leave within a moment, and a reader counts what each member of the topic gets.
    let messages = |users: usize| {
        let mut sim = Sim::new((), |reactor: &mut Reactor<()>| {
            reactor.set_presence_users_max(100);
            reactor.websocket("0.0.0.0:80", |ws| {
                ws.on_open(|ws, _| ws.subscribe("room").map(drop));
            })
        });
        fn count(_: &str, _: &Notice<'_>, out: &mut Vec<u8>) -> BodyKind {
            out.push(b'x');
            BodyKind::Text
        }
        let reactor = sim.reactor();
        reactor.set_notice_encoder(WireFormat::RAW, count);
        let sockets: Vec<SimSocket> = (0..users).map(|_| sim.websocket("/")).collect();
        let members: Vec<ConnId> = sim.reactor().members("room").collect();
        for (number, id) in members.iter().enumerate() {
            let reactor = sim.reactor();
            reactor.set_user(*id, Some(user(&number.to_string())));
            reactor.join_presence(*id, "room");
            sim.settle();
        }
        sim.advance(Duration::from_secs(2));
        for socket in &sockets {
            socket.vanish();
        }
        sim.settle();
        sockets.iter().map(|it| it.received().len()).sum::<usize>()
    };
    let (some, twice) = (messages(500), messages(1000));
    // Every member gets the users that are listed, and counts.
    assert!(some <= 500 * 110, "{some}");
    assert!(twice <= 1000 * 110, "{twice}");
}

// ── random clients ───────────────────────────────────────────────────────────────────────────

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// The users of a topic as a client of the envelope knows them.
#[derive(Clone, Debug, PartialEq)]
enum View {
    List(BTreeSet<String>),
    Count(u64),
}

/// Takes a message of presence in.
fn apply(views: &mut BTreeMap<String, View>, message: &Value) {
    let Some(topic) = message["topic"].as_str() else {
        return;
    };
    let name = |about: &Value| about["user"].as_str().unwrap().to_owned();
    if let Some(users) = message["present"].as_array() {
        let list = users.iter().map(name).collect();
        views.insert(topic.into(), View::List(list));
    } else if let Some(count) = message["count"].as_u64() {
        views.insert(topic.into(), View::Count(count));
    } else if let Some(View::List(list)) = views.get_mut(topic) {
        if message["joined"].is_object() {
            list.insert(name(&message["joined"]));
        } else if message["left"].is_object() {
            list.remove(&name(&message["left"]));
        }
    }
}

enum Link {
    Envelope(SimSocket, BTreeMap<String, View>),
    Plain(SimSocket),
    Events(SimStream),
}

struct Client {
    reactor: usize,
    link: Link,
    id: ConnId,
    user: Option<String>,
    rooms: BTreeSet<&'static str>,
}

impl Client {
    /// A new client that is a member of no room, or for an event stream of one.
    fn connect(sims: &mut [Sim<()>], reactor: usize, number: usize, kind: usize) -> Client {
        let sim = &mut sims[reactor];
        let own_topic = format!("own.{number}");
        let mut rooms = BTreeSet::new();
        let link = match kind {
            0 => {
                let stream = sim.connect();
                let room = ROOMS[number % ROOMS.len()];
                rooms.insert(room);
                let request = get(&format!("/events?topic={own_topic}&topic={room}"));
                let mut written = 0;
                while written < request.len() {
                    written += stream.write(&request[written..]);
                    sim.settle();
                }
                Link::Events(stream)
            }
            1 => {
                let socket = sim.websocket("/ws");
                socket.send(own_topic.as_str());
                Link::Plain(socket)
            }
            _ => {
                let socket = envelope(sim);
                socket.send(json!({"subscribe": own_topic}).to_string());
                Link::Envelope(socket, BTreeMap::new())
            }
        };
        // Faults leave a part for later polls, and a client sends the rest when it reads.
        for _ in 0..100 {
            sim.settle();
            if sim.reactor().member_count(&own_topic) == 1 {
                break;
            }
            match &link {
                Link::Envelope(socket, _) | Link::Plain(socket) => drop(socket.take_events()),
                Link::Events(_) => {}
            }
        }
        Client {
            reactor,
            link,
            id: member_of(sim, &own_topic),
            user: None,
            rooms,
        }
    }

    fn subscribe(&mut self, room: &'static str) {
        match &self.link {
            Link::Envelope(socket, _) => socket.send(json!({"subscribe": room}).to_string()),
            Link::Plain(socket) => socket.send(room),
            Link::Events(_) => return,
        }
        self.rooms.insert(room);
    }

    fn unsubscribe(&mut self, room: &'static str) {
        if let Link::Envelope(socket, views) = &mut self.link
            && self.rooms.remove(room)
        {
            socket.send(json!({"unsubscribe": room}).to_string());
            views.remove(room);
        }
    }

    fn end(&self, way: usize) {
        let stream = match &self.link {
            Link::Envelope(socket, _) | Link::Plain(socket) => socket.stream(),
            Link::Events(stream) => stream,
        };
        match (way, &self.link) {
            (0, _) => stream.reset(),
            (1, Link::Envelope(socket, _) | Link::Plain(socket)) => socket.close(1000),
            _ => stream.close(),
        }
    }

    /// Takes in what has come.
    fn read(&mut self) {
        match &mut self.link {
            Link::Envelope(socket, views) => {
                for message in values(socket) {
                    apply(views, &message);
                }
                views.retain(|topic, _| self.rooms.contains(topic.as_str()));
            }
            Link::Plain(socket) => {
                socket.take_events();
            }
            Link::Events(stream) => {
                stream.read();
            }
        }
    }
}

/// Runs all reactors until none has anything to do.
fn settle(sims: &mut [Sim<()>]) {
    for _ in 0..10 {
        for sim in &mut *sims {
            sim.settle();
        }
    }
}

/// Random clients on some reactors. Every view of a client, and what each reactor says, is that of the model.
fn run(seed: u64, reactor_count: usize) -> usize {
    let mut random = Xorshift(seed);
    let users_max = [3, 6, 1000][seed as usize % 3];
    let group = ReactorGroup::new(reactor_count);
    let mut sims: Vec<Sim<()>> = (0..reactor_count)
        .map(|_| {
            // The clients answer no pings.
            let mut config = Config::default();
            config.options.ping_interval = None;
            Sim::with_config(config, (), |reactor| {
                let hub = match reactor_count {
                    1 => Hub::new(options(users_max)),
                    _ => Hub::of_group(&group.join(reactor)?, options(users_max)),
                };
                reactor.http("0.0.0.0:80", |router| hub.mount(router, &open()))
            })
        })
        .collect();
    let has_faults = seed.is_multiple_of(2);
    if has_faults {
        for sim in &mut sims {
            let faults = Faults {
                short_reads_percent: 30,
                short_writes_percent: 30,
                refused_writes_percent: 30,
                ..Faults::default()
            };
            sim.faults(seed, faults);
        }
    }
    let mut clients: Vec<Client> = Vec::new();
    let mut compared = 0;
    for step in 0..150 {
        let kind = random.below(20);
        match kind {
            0..5 => {
                let reactor = random.below(sims.len());
                let client = Client::connect(&mut sims, reactor, step, random.below(5));
                clients.push(client);
            }
            _ if clients.is_empty() => {}
            5..7 => {
                let client = clients.swap_remove(random.below(clients.len()));
                client.end(random.below(3));
            }
            7 if 1 < sims.len() && random.below(10) == 0 => {
                let index = sims.len() - 1;
                drop(sims.pop());
                clients.retain(|client| client.reactor != index);
            }
            7..10 => {
                let index = random.below(clients.len());
                let client = &mut clients[index];
                client.user = (random.below(6) != 0).then(|| random.below(8).to_string());
                let user = client.user.as_deref().map(user);
                sims[client.reactor].reactor().set_user(client.id, user);
            }
            10..16 => {
                let index = random.below(clients.len());
                clients[index].subscribe(ROOMS[random.below(ROOMS.len())]);
            }
            16..18 => {
                let index = random.below(clients.len());
                clients[index].unsubscribe(ROOMS[random.below(ROOMS.len())]);
            }
            _ => {
                let index = random.below(sims.len());
                let room = ROOMS[random.below(ROOMS.len())];
                sims[index].reactor().publish(room, "x");
            }
        }
        // Now and then several steps come at once.
        if random.below(3) == 0 {
            continue;
        }
        settle(&mut sims);
        // Counts that came too soon are told later.
        for _ in 0..3 {
            for sim in &mut sims {
                sim.advance(Duration::from_secs(1));
            }
            settle(&mut sims);
        }
        // With faults a message may take many polls, and what a client has not sent waits until it reads.
        for _ in 0..if has_faults { 60 } else { 1 } {
            for client in &mut clients {
                client.read();
            }
            settle(&mut sims);
        }
        for room in ROOMS {
            let members = || clients.iter().filter(|client| client.rooms.contains(room));
            let users: BTreeSet<String> = members().filter_map(|it| it.user.clone()).collect();
            let anonymous = members().filter(|client| client.user.is_none()).count();
            for sim in &mut sims {
                let snapshot = sim.reactor().presence(room);
                let context = format!("seed {seed}, step {step}, {room}");
                assert_eq!(snapshot.user_count, users.len(), "{context}");
                assert_eq!(snapshot.anonymous_count, anonymous, "{context}");
                for present in snapshot.users.iter().flatten() {
                    assert!(users.contains(&*present.user.name), "{context}");
                    let tabs =
                        members().filter(|it| it.user.as_deref() == Some(&present.user.name));
                    assert_eq!(present.connection_count, tabs.count(), "{context}");
                }
                let expected = match &snapshot.users {
                    Some(_) => View::List(users.clone()),
                    None => View::Count(users.len() as u64),
                };
                for client in members() {
                    if let Link::Envelope(_, views) = &client.link {
                        assert_eq!(views.get(room), Some(&expected), "{context}");
                        compared += 1;
                    }
                }
            }
        }
    }
    for client in clients.drain(..) {
        client.end(0);
    }
    settle(&mut sims);
    let held_bytes = sims[0].reactor().memory_bytes();
    assert!(
        held_bytes < 100_000,
        "seed {seed}: {held_bytes} bytes are left"
    );
    for room in ROOMS {
        let snapshot = sims[0].reactor().presence(room);
        assert_eq!((snapshot.user_count, snapshot.anonymous_count), (0, 0));
    }
    compared
}

#[test]
fn random_clients_of_one_reactor_leave_nobody_behind() {
    let compared: usize = (1..60).map(|seed| run(seed, 1)).sum();
    assert!(5_000 < compared, "{compared}");
}

#[test]
fn random_clients_of_three_reactors_leave_nobody_behind() {
    let compared: usize = (1..40).map(|seed| run(seed, 3)).sum();
    assert!(5_000 < compared, "{compared}");
}
