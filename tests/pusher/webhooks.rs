//! Webhooks, and counts of subscriptions.

use std::time::Duration;

use serde_json::Value;
use waterwheel::protocol::pusher::signature::is_signature;

use crate::{KEY, SECRET, World, serve_apps};

/// A hub whose app tells a backend of these events.
fn serve(reactor_count: usize, hook: &str) -> World {
    let app =
        format!("3:{KEY}:{SECRET},client-events,subscription-count,webhook=http://h:81/hook{hook}");
    serve_apps(reactor_count, &[app])
}

impl World {
    /// Lets time pass on all reactors.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            for sim in &mut self.sims {
                sim.advance(Duration::from_millis(100));
            }
            self.settle();
        }
    }

    /// The events that have come to the backend, of requests that are signed, each as `NAME CHANNEL DETAIL`.
    fn told(&self) -> Vec<String> {
        let mut events = Vec::new();
        for [key, signature, body] in self.backend.requests.borrow_mut().drain(..) {
            assert_eq!(key, KEY);
            assert!(is_signature(SECRET.as_bytes(), body.as_bytes(), &signature));
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(1_000_000_000_000 <= body["time_ms"].as_u64().unwrap());
            for event in body["events"].as_array().unwrap() {
                let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                let detail = match &event["subscription_count"] {
                    Value::Null => text("user_id"),
                    count => count.to_string(),
                };
                events.push(format!("{} {} {detail}", text("name"), text("channel")));
            }
        }
        events
    }
}

const OCCUPANCY: &str = "|channel_occupied|channel_vacated";

fn occupancy(reactors: [usize; 2]) {
    let mut world = serve(3, OCCUPANCY);
    let [first, second] = reactors.map(|reactor| world.connect_to(reactor));
    world.subscribe(&first, "news");
    world.subscribe(&second, "news");
    world.pass(3);
    assert_eq!(world.told(), ["channel_occupied news "]);
    first.socket.close(1000);
    world.pass(10);
    assert!(world.told().is_empty());
    // A page that is loaded anew.
    second.socket.stream().reset();
    world.pass(2);
    let third = world.connect_to(reactors[0]);
    world.subscribe(&third, "news");
    world.pass(10);
    assert!(world.told().is_empty());
    // It goes, comes back for a moment, and goes for good.
    third.socket.close(1000);
    world.pass(1);
    let fourth = world.connect_to(reactors[1]);
    world.subscribe(&fourth, "news");
    world.pass(1);
    fourth.socket.close(1000);
    world.pass(3);
    assert!(world.told().is_empty());
    world.pass(10);
    assert_eq!(world.told(), ["channel_vacated news "]);
}

#[test]
fn a_channel_is_occupied_and_vacated_once() {
    occupancy([0, 0]);
    occupancy([0, 1]);
    occupancy([2, 1]);
}

#[test]
fn members_are_told_once_on_whichever_reactors_they_are() {
    let mut world = serve(2, "|member_added|member_removed");
    let clients = [0, 1, 1].map(|reactor| world.connect_to(reactor));
    for (client, user) in clients.iter().zip(["ann", "ann", "ben"]) {
        world.join(client, "presence-a", user, "{}");
    }
    world.pass(3);
    let mut told = world.told();
    told.sort();
    assert_eq!(
        told,
        ["member_added presence-a ann", "member_added presence-a ben"]
    );
    for client in &clients {
        client.socket.close(1000);
    }
    world.pass(3);
    let mut told = world.told();
    told.sort();
    assert_eq!(
        told,
        [
            "member_removed presence-a ann",
            "member_removed presence-a ben"
        ]
    );
}

#[test]
fn events_of_clients_and_cache_channels() {
    let mut world = serve(1, "|client_event|cache_miss");
    let client = world.connect();
    world.subscribe(&client, "private-a");
    world.answers(
        &client,
        r#"{"event":"client-a","channel":"private-a","data":{"x":1}}"#,
    );
    world.subscribe(&client, "cache-b");
    world.pass(2);
    let body = world.backend.requests.borrow()[0][2].clone();
    let event = format!(
        r#"{{"name":"client_event","channel":"private-a","event":"client-a","data":"{{\"x\":1}}","socket_id":"{}"}}"#,
        client.socket_id
    );
    assert!(body.contains(&event), "{body}");
    assert_eq!(
        world.told(),
        ["client_event private-a ", "cache_miss cache-b "]
    );
}

#[test]
fn a_hook_takes_the_channels_that_it_names() {
    let mut world = serve(1, "|prefix=presence-|suffix=-b");
    let client = world.connect();
    world.subscribe(&client, "a-b");
    world.join(&client, "presence-a", "ann", "{}");
    world.join(&client, "presence-b", "ann", "{}");
    world.pass(2);
    assert_eq!(
        world.told(),
        [
            "channel_occupied presence-b ",
            "member_added presence-b ann"
        ]
    );
}

#[test]
fn members_learn_how_many_they_are() {
    let mut world = serve(2, "|subscription_count");
    let clients = [0, 1, 1].map(|reactor| world.connect_to(reactor));
    for client in &clients {
        world.subscribe(client, "news");
    }
    world.pass(3);
    let count = r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":3}"}"#;
    for client in &clients {
        let received = client.socket.received();
        assert_eq!(received.last().map(String::as_str), Some(count));
    }
    assert_eq!(
        world.told().last().map(String::as_str),
        Some("subscription_count news 3")
    );
    world.join(&clients[0], "presence-a", "ann", "{}");
    world.pass(3);
    assert!(clients[0].socket.received().is_empty());
}

#[test]
fn a_request_that_fails_is_sent_again() {
    let mut world = serve(1, OCCUPANCY);
    world.backend.statuses.borrow_mut().extend([500, 503, 429]);
    let client = world.connect();
    world.subscribe(&client, "news");
    world.pass(1);
    // Others wait behind it.
    world.subscribe(&client, "other");
    world.pass(30);
    let requests = world.backend.requests.borrow().clone();
    assert_eq!(requests.len(), 5);
    assert!(requests[..4].iter().all(|request| *request == requests[0]));
    assert_eq!(world.told().len(), 5);
    // Another answer is none that would be different the next time.
    world.backend.statuses.borrow_mut().push_back(404);
    world.subscribe(&client, "third");
    world.pass(30);
    assert_eq!(world.told(), ["channel_occupied third "]);
}

#[test]
fn a_backend_that_never_answers_is_given_up() {
    let mut world = serve(1, OCCUPANCY);
    world.backend.statuses.borrow_mut().extend([500; 1000]);
    let client = world.connect();
    world.subscribe(&client, "news");
    world.pass(400);
    let attempts = world.told().len();
    assert!((8..14).contains(&attempts), "{attempts}");
    world.pass(100);
    assert!(world.told().is_empty());
}

#[test]
fn so_many_events_wait_for_a_backend_and_no_more() {
    let mut world = serve(1, "|cache_miss");
    let client = world.connect();
    for _ in 0..10_100 {
        world.subscribe(&client, "cache-a");
    }
    // One request has gone at most: with the first events of a second.
    world.pass(60);
    let told = world.told().len();
    assert!((10_000..10_100).contains(&told), "{told}");
}
