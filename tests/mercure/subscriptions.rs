//! Active subscriptions: their lists, and updates when they begin and end.

use super::*;

const LIST: &str = "/.well-known/mercure/subscriptions";

fn serve_lists(reactor_count: usize) -> World {
    let mut setting = Setting {
        reactor_count,
        ..Setting::default()
    };
    setting.mercure.has_subscriptions = true;
    serve_with(setting)
}

/// The text behind `name":"` in a document, up to the next quote.
fn text_of<'d>(document: &'d str, name: &str) -> &'d str {
    let (_, rest) = document.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split('"').next().unwrap()
}

#[test]
fn subscriptions_are_told_when_they_begin_and_end() {
    let mut world = serve_lists(1);
    let watcher = bearer(&subscriber_token(
        r#""/.well-known/mercure/subscriptions/{topic}/{subscriber}""#,
    ));
    let query = "topic=/.well-known/mercure/subscriptions/{topic}/{subscriber}";
    let mut watcher = world.subscribe_by(query, &[&watcher]);
    let mut stranger = world.subscribe("topic=*");
    let granted = bearer(&token::sign(
        r#"{"mercure":{"subscribe":["other"],"payload":{"name":"ann"}}}"#,
        SUBSCRIBER_KEY,
    ));
    watcher.lines();
    let subscriber = world.subscribe_by("topic=https://e.com/a&topic=/b/{x}", &[&granted]);
    let begun = watcher.data();
    assert_eq!(begun.len(), 2, "{begun:?}");
    for (document, topic) in begun.iter().zip(["https://e.com/a", "/b/{x}"]) {
        assert_eq!(text_of(document, "type"), "Subscription");
        assert_eq!(text_of(document, "topic"), topic);
        assert!(text_of(document, "subscriber").starts_with("urn:uuid:"));
        let rest = r#""active":true,"payload":{"name":"ann"}}"#;
        assert!(document.ends_with(rest), "{document}");
        assert!(text_of(document, "id").starts_with(LIST));
    }
    subscriber.stream.close();
    world.settle();
    let ended = watcher.data();
    let begun = begun
        .iter()
        .map(|it| it.replace("\"active\":true", "\"active\":false"));
    assert_eq!(ended, begun.collect::<Vec<_>>());
    assert_eq!(stranger.data(), [""; 0]);
}

#[test]
fn a_long_topic_is_told_too() {
    let mut world = serve_lists(1);
    let header = bearer(&subscriber_token(r#""*""#));
    let mut watcher = world.subscribe_by("topic=*", &[&header]);
    watcher.lines();
    let topic = format!("/{}", "é/".repeat(200));
    let encoded = topic.replace('é', "%C3%A9");
    let _subscriber = world.subscribe(&format!("topic={encoded}"));
    let told = watcher.data();
    assert_eq!(told.len(), 1);
    assert_eq!(text_of(&told[0], "topic"), topic);
}

#[test]
fn lists() {
    let mut world = serve_lists(2);
    let token = bearer(&token::sign(
        r#"{"mercure":{"subscribe":["*"],"payload":7}}"#,
        SUBSCRIBER_KEY,
    ));
    let get = |world: &mut World, target: &str| world.ask("GET", target, &[&token], "");
    let empty = get(&mut world, LIST);
    assert_eq!(empty.status, 200);
    assert_eq!(empty.header("content-type"), Some("application/ld+json"));
    assert!(empty.text().ends_with(r#""subscriptions":[]}"#));
    let mut far = world.subscribe_at(1, "topic=a/b&topic=c", &[&token]);
    let near = world.subscribe("topic=c");

    let all = get(&mut world, LIST);
    assert_eq!(all.text().matches(r#""type":"Subscription","#).count(), 3);
    let cursor = text_of(all.text(), "lastEventID").to_owned();
    let link = format!("</.well-known/mercure>; rel=\"mercure\"; last-event-id=\"{cursor}\"");
    assert_eq!(all.header("link"), Some(&*link));
    let of_topic = get(&mut world, &format!("{LIST}/c"));
    assert_eq!(
        of_topic.text().matches(r#""type":"Subscription","#).count(),
        2
    );
    let slash = get(&mut world, &format!("{LIST}/a%2Fb"));
    let path = slash.text().rsplit_once(r#"{"id":""#).unwrap().1;
    let path = path.split('"').next().unwrap();
    let one = get(&mut world, path);
    assert_eq!(one.status, 200);
    assert_eq!(text_of(one.text(), "id"), path);
    assert!(one.text().ends_with(r#""active":true,"payload":7}"#));
    // The cursor of a list leads to what comes behind it.
    far.stream.close();
    world.settle();
    let query = format!("topic=*&last_event_id={}", cursor.replace('#', "%23"));
    let mut behind = world.subscribe_by(&query, &[&token]);
    let told = behind.data();
    assert!(told[0].contains(r#""active":false"#), "{told:?}");
    far.answer();
    assert_eq!(get(&mut world, path).status, 404);
    drop(near);
}

#[test]
fn lists_that_are_refused() {
    let mut world = serve_lists(1);
    let _subscriber = world.subscribe("topic=a");
    let exact = bearer(&subscriber_token(&format!("\"{LIST}\"")));
    let below = bearer(&subscriber_token(&format!("\"{LIST}/{{topic}}\"")));
    let publisher = bearer(&publisher_token(r#""*""#));
    for (target, header, status) in [
        (LIST.to_owned(), "", 401),
        (LIST.to_owned(), &*exact, 200),
        (format!("{LIST}?x=1"), &exact, 200),
        (format!("{LIST}/a"), &exact, 403),
        (format!("{LIST}/a"), &below, 200),
        (LIST.to_owned(), &below, 403),
        (format!("{LIST}/a/"), &below, 403),
        (LIST.to_owned(), &publisher, 401),
    ] {
        let request = request("GET", &target, &[header], "");
        let mut asked = world.send(0, &request);
        world.advance(Duration::from_secs(20));
        assert_eq!(asked.answer().status, status, "{target} {header}");
    }
    // A hub that does not list subscriptions has no lists, and tells nobody.
    let mut quiet = serve();
    let header = bearer(&subscriber_token(r#""*""#));
    assert_eq!(quiet.ask("GET", LIST, &[&header], "").status, 404);
    let mut watcher = quiet.subscribe_by("topic=*", &[&header]);
    quiet.subscribe("topic=a");
    assert_eq!(watcher.data(), [""; 0]);
}
