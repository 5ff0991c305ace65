//! One order of publications for members of every kind.

use crate::support::{answers, post};
use crate::{Reader, envelope, open, plain, published, subscribed, values};

#[test]
fn members_of_every_kind_get_publications_in_one_order() {
    let mut sim = open();
    let mut sockets = Vec::new();
    let mut envelopes = Vec::new();
    let mut readers = Vec::new();
    for number in 0..51 {
        let topic = if number % 2 == 0 { "chat" } else { "ch*" };
        match number % 3 {
            0 => sockets.push(plain(&mut sim, &[topic])),
            1 => envelopes.push(subscribed(&mut sim, topic)),
            _ => readers.push(Reader::open(&mut sim, &format!("/events?topic={topic}"))),
        }
    }
    let poster = sim.connect();
    let other = sim.connect();
    let speaker = envelope(&mut sim);
    for round in 0..40 {
        // All three publish in one turn. The hub chooses the order, the same for all members.
        poster.write(post("/publish?topic=chat", &format!("p{round}")));
        speaker.send(format!("{{\"publish\":\"chat\",\"data\":\"s{round}\"}}"));
        other.write(post("/publish?topic=chat", &format!("o{round}")).repeat(2));
        if round % 4 == 0 {
            sim.settle();
        }
    }
    sim.settle();
    for (stream, count) in [(&poster, 40), (&other, 80)] {
        let all = answers(&stream.read());
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|answer| published(answer).1 == 51));
    }

    let expected = readers[0].events();
    assert_eq!(expected.len(), 160);
    let ids: Vec<String> = (1..=160).map(|number| format!("1:{number}")).collect();
    assert!(
        expected.iter().map(|(id, _)| id).eq(&ids),
        "no gap and no other order"
    );
    for reader in &mut readers {
        assert_eq!(reader.events(), expected);
    }
    // The envelope publishes JSON, so its string has quotes on the other transports.
    let bare = |data: &str| data.trim_matches('"').to_owned();
    let data: Vec<String> = expected.iter().map(|(_, data)| bare(data)).collect();
    for socket in &sockets {
        let seen: Vec<String> = socket.received().iter().map(|text| bare(text)).collect();
        assert_eq!(seen, data);
    }
    for socket in &envelopes {
        let seen = values(socket);
        let seen: Vec<(&str, &str)> = seen
            .iter()
            .map(|value| {
                (
                    value["id"].as_str().expect("an id"),
                    value["data"].as_str().expect("a text"),
                )
            })
            .collect();
        let wanted: Vec<(&str, &str)> = ids
            .iter()
            .map(String::as_str)
            .zip(data.iter().map(String::as_str))
            .collect();
        assert_eq!(seen, wanted);
    }
}
