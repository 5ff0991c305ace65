//! The back end ends what a user has: its connections, or its subscriptions to a topic.

use std::io;
use std::sync::mpsc;

use serde_json::{Value, json};
use waterwheel::hub::{Hub, HubOptions, ReactorGroup, Rules};
use waterwheel::{Sim, SimSocket, SimStream};

use crate::support::{answer, get, post};
use crate::tokens::{encoded, hub_with, token, with_both};
use crate::{ask, envelope, say, values, with};

fn call(sim: &mut Sim<()>, target: &str) -> Value {
    let request = with(&post(target, ""), "Authorization: Bearer publish");
    let answer = ask(sim, &request);
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(answer.text()).expect("JSON")
}

/// A member of `news` and of `private.a` over the envelope.
fn member(sim: &mut Sim<()>, user: &str) -> SimSocket {
    let socket = envelope(sim);
    let token = token(user, 1000, &["private.*"], &[]);
    say(sim, &socket, json!({"auth": token}));
    for name in ["news", "private.a"] {
        say(sim, &socket, json!({"subscribe": name}));
    }
    socket
}

/// As [`member`], over an event stream.
fn stream(sim: &mut Sim<()>, user: &str) -> SimStream {
    let token = encoded(&token(user, 1000, &["private.*"], &[]));
    let stream = sim.connect();
    stream.write(get(&format!(
        "/events?topic=news&topic=private.a&token={token}"
    )));
    sim.settle();
    assert!(stream.read_text().starts_with("HTTP/1.1 200 "));
    stream
}

/// As [`member`], over a plain socket.
fn plain_member(sim: &mut Sim<()>, user: &str) -> SimSocket {
    let token = encoded(&token(user, 1000, &["private.*"], &[]));
    let socket = sim.websocket(&format!("/ws?token={token}"));
    for name in ["news", "private.a"] {
        socket.send(name);
    }
    sim.settle();
    socket
}

fn hub() -> Sim<()> {
    hub_with(with_both(), &["private.*=private"])
}

/// Whether the last chunk of a stream has come.
fn has_ended(stream: &SimStream) -> bool {
    stream.read_text().ends_with("0\r\n\r\n")
}

#[test]
fn a_user_is_disconnected_wherever_it_is() {
    let mut sim = hub();
    let ada = [member(&mut sim, "ada"), member(&mut sim, "ada")];
    let plain = plain_member(&mut sim, "ada");
    let streamed = stream(&mut sim, "ada");
    let bob = member(&mut sim, "bob");
    let stranger = envelope(&mut sim);
    for socket in [&ada[0], &ada[1], &bob, &plain] {
        socket.received();
    }
    assert_eq!(
        call(&mut sim, "/disconnect?user=nobody"),
        json!({"disconnected": 0})
    );
    assert_eq!(
        call(&mut sim, "/disconnect?user="),
        json!({"disconnected": 0})
    );
    assert_eq!(
        call(&mut sim, "/disconnect?user=ada"),
        json!({"disconnected": 4})
    );
    for socket in [&ada[0], &ada[1], &plain] {
        assert_eq!(socket.received(), [""; 0]);
        assert_eq!(socket.close_code(), Some(1008));
    }
    assert!(has_ended(&streamed));
    assert!(!bob.is_closed() && !stranger.is_closed());
    sim.settle();
    assert_eq!(
        call(&mut sim, "/disconnect?user=ada"),
        json!({"disconnected": 0})
    );
    // The user may come back.
    let again = member(&mut sim, "ada");
    assert!(!again.is_closed());
}

#[test]
fn a_program_ends_what_a_user_has() {
    let mut options = HubOptions::default();
    options.rules.add_text("private.*=private").unwrap();
    let hub = Hub::new(options);
    let listening = hub.clone();
    let mut sim = Sim::new((), move |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            listening.mount(router, &with_both());
        })
    });
    let ada = [member(&mut sim, "ada"), member(&mut sim, "ada")];
    for socket in &ada {
        socket.received();
    }
    // An answer may come from another reactor, so `done` has nothing but what it is given.
    let (tell, told) = mpsc::channel();
    sim.reactor().next_tick(move |cx| {
        let tell_too = tell.clone();
        hub.unsubscribe(cx, "ada", "private.a", move |_, count| {
            let _ = tell_too.send(count);
        });
        hub.disconnect(cx, "ada", move |_, count| {
            let _ = tell.send(count);
        });
    });
    sim.settle();
    assert_eq!(told.iter().collect::<Vec<_>>(), [2, 2]);
    let forced = json!({"unsubscribed": "private.a", "reason": "forced"});
    for socket in &ada {
        assert_eq!(values(socket), std::slice::from_ref(&forced));
        assert_eq!(socket.close_code(), Some(1008));
    }
}

#[test]
fn a_user_is_unsubscribed_and_told() {
    let mut sim = hub();
    let ada = [member(&mut sim, "ada"), member(&mut sim, "ada")];
    let bob = member(&mut sim, "bob");
    for socket in ada.iter().chain([&bob]) {
        socket.received();
    }
    let target = "/unsubscribe?user=ada&topic=private.a";
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 2}));
    for socket in &ada {
        let told = values(socket);
        assert!(
            told == [json!({"unsubscribed": "private.a", "reason": "forced"})],
            "{told:?}"
        );
    }
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 0}));
    for (topic, delivered) in [("private.a", 1), ("news", 3)] {
        let request = post(&format!("/publish?topic={topic}&token=publish"), "x");
        let answer = ask(&mut sim, &request);
        assert_eq!(crate::published(&answer).1, delivered, "{topic}");
    }
    assert_eq!(values(&bob).len(), 2);
    for socket in &ada {
        assert_eq!(values(socket).len(), 1);
        // It may subscribe again.
        let said = say(&mut sim, socket, json!({"subscribe": "private.a"}));
        assert_eq!(said[0]["subscribed"], "private.a");
    }
}

// They have no words for it, and a topic that is silent from now on would look like one without messages.
#[test]
fn an_event_stream_and_a_plain_socket_end_when_they_are_unsubscribed() {
    let mut sim = hub();
    let plain = plain_member(&mut sim, "ada");
    let streamed = stream(&mut sim, "ada");
    let target = "/unsubscribe?user=ada&topic=other";
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 0}));
    assert!(!plain.is_closed() && !has_ended(&streamed));
    let target = "/unsubscribe?user=ada&topic=news";
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 2}));
    assert_eq!(plain.received(), [""; 0]);
    assert_eq!(plain.close_code(), Some(1008));
    assert!(has_ended(&streamed));
}

#[test]
fn clients_that_have_not_got_what_they_missed_are_unsubscribed_too() {
    let mut sim = hub();
    let long = "x".repeat(20_000);
    for _ in 0..100 {
        sim.reactor().publish("news", long.as_str());
    }
    sim.socket_bytes(16 * 1024);
    let token = token("ada", 1000, &["private.*"], &[]);
    let socket = envelope(&mut sim);
    say(&mut sim, &socket, json!({"auth": token}));
    let command = json!({"subscribe": ["news", "private.a"], "since": "earliest"});
    socket.send(command.to_string());
    let stream = sim.connect();
    let token = encoded(&token);
    stream.write(get(&format!(
        "/events?topic=news&topic=private.a&since=earliest&token={token}"
    )));
    sim.settle();
    for topic in ["news", "private.a"] {
        assert_eq!(sim.reactor().member_count(topic), 0);
    }
    let target = "/unsubscribe?user=ada&topic=news";
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 2}));
    let mut message_count = 0;
    let mut others = Vec::new();
    loop {
        let (messages, rest): (Vec<_>, Vec<_>) = values(&socket)
            .into_iter()
            .partition(|value| value["topic"] == "news");
        message_count += messages.len();
        let bytes = stream.read();
        if messages.is_empty() && rest.is_empty() && bytes.is_empty() {
            break;
        }
        others.extend(rest);
        sim.settle();
    }
    assert!(0 < message_count && message_count < 100);
    assert_eq!(
        others[0],
        json!({"unsubscribed": "news", "reason": "forced"})
    );
    assert!(stream.is_closed());
    assert_eq!(sim.reactor().member_count("news"), 0);
    assert_eq!(sim.reactor().member_count("private.a"), 1);
    assert_eq!(call(&mut sim, target), json!({"unsubscribed": 0}));
}

#[test]
fn only_the_back_end_ends_what_users_have() {
    let mut sim = hub();
    let ada = member(&mut sim, "ada");
    let of_ada = token("ada", 1000, &["*"], &["*"]);
    let bearer = format!("Authorization: Bearer {of_ada}");
    for target in ["/disconnect?user=ada", "/unsubscribe?user=ada&topic=news"] {
        assert_eq!(ask(&mut sim, &post(target, "")).status, 401, "{target}");
        let answer = ask(&mut sim, &with(&post(target, ""), &bearer));
        assert_eq!(answer.status, 403, "{target}");
        assert_eq!(ask(&mut sim, &get(target)).status, 405, "{target}");
    }
    let right = "Authorization: Bearer publish";
    for target in [
        "/disconnect",
        "/disconnect?user=%ff",
        "/unsubscribe?user=ada",
        "/unsubscribe?topic=news",
        "/unsubscribe?user=ada&topic=",
    ] {
        let answer = ask(&mut sim, &with(&post(target, ""), right));
        assert_eq!(answer.status, 400, "{target}");
    }
    assert!(!ada.is_closed());
}

#[test]
fn a_user_of_another_reactor_is_found() {
    let group = ReactorGroup::new(2);
    let mut rules = Rules::new();
    rules.add_text("private.*=private").unwrap();
    let mut sims = [0, 1].map(|_| {
        Sim::new((), |reactor| {
            let seat = group.join(reactor)?;
            let options = HubOptions {
                rules: rules.clone(),
                ..HubOptions::default()
            };
            let hub = Hub::of_group(&seat, options);
            // Two listeners of one hub know the same users, each once.
            for port in [80, 81] {
                reactor.http(format!("0.0.0.0:{port}"), |router| {
                    hub.mount(router, &with_both())
                })?;
            }
            io::Result::Ok(())
        })
    });
    let ada = sims.each_mut().map(|sim| member(sim, "ada"));
    for (target, expected) in [
        (
            "/unsubscribe?user=ada&topic=news",
            json!({"unsubscribed": 2}),
        ),
        ("/disconnect?user=ada", json!({"disconnected": 2})),
        ("/disconnect?user=ada", json!({"disconnected": 0})),
    ] {
        let stream = sims[0].connect();
        stream.write(with(&post(target, ""), "Authorization: Bearer publish"));
        for _ in 0..10 {
            sims.iter_mut().for_each(Sim::settle);
        }
        let answer = answer(&stream.read());
        let value: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert_eq!(value, expected, "{target}");
    }
    for socket in &ada {
        socket.take_events();
        assert_eq!(socket.close_code(), Some(1008));
    }
}
