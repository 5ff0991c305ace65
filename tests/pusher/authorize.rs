//! Signatures for pages whose users have a token of the hub.

use serde_json::{Value, json};
use waterwheel::hub::{Access, TokenSecrets};

use crate::{KEY, SECRET, World, answer, join_message, serve_with, subscribe, token};

const TOKEN_SECRET: &str = "the secret of the tokens, which is 42 bytes";

fn serve(apps: &[String]) -> World {
    let access = Access {
        token_secrets: TokenSecrets::new(vec![TOKEN_SECRET.to_owned()]).unwrap(),
        ..Access::default()
    };
    serve_with(1, apps, &access)
}

fn one_app() -> World {
    serve(&[format!("3:{KEY}:{SECRET}")])
}

/// The claims of a token: its user, and the topics that it grants.
type Claims<'c> = (Option<&'c str>, &'c [&'c str]);

/// The status of the answer, and the answer, to a page that asks with a token of these claims, where it has one.
fn ask(world: &mut World, path: &str, claims: Option<Claims<'_>>, form: &str) -> (u16, Value) {
    let credential = claims.map_or(String::new(), |(user, subscribe)| {
        let mut claims = json!({"exp": 2_000_000_000, "waterwheel": {"subscribe": subscribe}});
        if let Some(user) = user {
            claims["sub"] = user.into();
        }
        let token = token::sign(&claims.to_string(), TOKEN_SECRET);
        format!("Authorization: Bearer {token}\r\n")
    });
    let client = world.sims[0].connect();
    client.write(format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{credential}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    world.settle();
    let answer = answer::answer(&client.read());
    let json = serde_json::from_str(answer.text()).unwrap_or(Value::Null);
    (answer.status, json)
}

const ANN: Claims<'_> = (Some("ann"), &["pusher:3:private-*", "pusher:3:presence-*"]);

#[test]
fn a_token_signs_subscriptions_and_the_sign_in() {
    let mut world = one_app();
    let client = world.connect();
    let form = |channel: &str| format!("socket_id={}&channel_name={channel}", client.socket_id);
    let (status, answer) = ask(&mut world, "/pusher/auth", Some(ANN), &form("private-a"));
    assert_eq!(status, 200);
    let auth = answer["auth"].as_str().unwrap().to_owned();
    let answers = world.answers(&client, &subscribe("private-a", &auth));
    assert_eq!(answers, [crate::succeeded("private-a")]);
    // For one channel alone.
    let answers = world.answers(&client, &subscribe("private-b", &auth));
    assert!(answers.concat().contains(r#""status":401"#));

    let (status, answer) = ask(&mut world, "/pusher/auth", Some(ANN), &form("presence-a"));
    assert_eq!(
        (status, &answer["channel_data"]),
        (200, &Value::from(r#"{"user_id":"ann"}"#))
    );
    let auth = answer["auth"].as_str().unwrap();
    let message = join_message("presence-a", auth, r#"{"user_id":"ann"}"#);
    let answers = world.answers(&client, &message).concat();
    assert!(answers.contains("subscription_succeeded"), "{answers}");

    let (status, answer) = ask(&mut world, "/pusher/user-auth", Some(ANN), &form(""));
    assert_eq!(
        (status, &answer["user_data"]),
        (200, &Value::from(r#"{"id":"ann"}"#))
    );
    let data = serde_json::json!({"event": "pusher:signin", "data": answer}).to_string();
    let answers = world.answers(&client, &data).concat();
    assert!(answers.contains("signin_success"), "{answers}");
}

#[test]
fn a_page_without_the_right_gets_no_signature() {
    let mut world = one_app();
    let form = |channel: &str| format!("socket_id=1.2&channel_name={channel}");
    let no_name: Claims<'_> = (None, &["pusher:3:*"]);
    for (path, claims, form, expected) in [
        ("/pusher/auth", None, form("private-a"), 401),
        ("/pusher/user-auth", None, form(""), 401),
        (
            "/pusher/auth",
            Some((Some("ann"), &[] as &[&str])),
            form("private-a"),
            403,
        ),
        ("/pusher/auth", Some(no_name), form("private-a"), 200),
        ("/pusher/auth", Some(no_name), form("presence-a"), 401),
        ("/pusher/user-auth", Some(no_name), form(""), 401),
        ("/pusher/auth", Some(ANN), form("news"), 400),
        ("/pusher/auth", Some(ANN), form("private-encrypted-a"), 400),
        ("/pusher/auth", Some(ANN), form("private-a%3Ab"), 400),
        (
            "/pusher/auth",
            Some(ANN),
            "channel_name=private-a".to_owned(),
            400,
        ),
        (
            "/pusher/auth",
            Some(ANN),
            "socket_id=1.2%3Aprivate-b&channel_name=private-a".to_owned(),
            400,
        ),
        (
            "/pusher/auth",
            Some(ANN),
            "socket_id=1%3A.2&channel_name=private-a".to_owned(),
            400,
        ),
    ] {
        let (status, _) = ask(&mut world, path, claims, &form);
        // A refusal for want of a right may have either status.
        let is_right = status == expected || (expected == 401 && status == 403);
        assert!(is_right, "{path} {claims:?} {form}: {status}");
    }
}

#[test]
fn several_apps_are_told_apart_by_their_key() {
    let mut world = serve(&[format!("3:{KEY}:{SECRET}"), "4:other:secret".to_owned()]);
    let claims: Claims<'_> = (Some("ann"), &["pusher:4:private-a"]);
    let form = "socket_id=1.2&channel_name=private-a";
    assert_eq!(ask(&mut world, "/pusher/auth", Some(claims), form).0, 400);
    let of_first = format!("{form}&app_key={KEY}");
    assert_eq!(
        ask(&mut world, "/pusher/auth", Some(claims), &of_first).0,
        403
    );
    let of_second = format!("{form}&app_key=other");
    let (status, answer) = ask(&mut world, "/pusher/auth", Some(claims), &of_second);
    assert_eq!(status, 200);
    assert!(answer["auth"].as_str().unwrap().starts_with("other:"));
}
