//! Pusher Channels: clients and backends of an app, and the hub's own clients beside them.

#![cfg(feature = "pusher")]

mod api;
mod authorize;
mod channels;
#[cfg(feature = "program")]
mod nodes;
mod presence;
#[cfg(feature = "program")]
mod programs;
mod random;
mod users;
mod webhooks;

#[path = "../support/answer.rs"]
mod answer;
#[cfg(feature = "program")]
#[path = "../support/redis_server.rs"]
mod redis_server;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/token.rs"]
mod token;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use waterwheel::hub::{Access, Hub, HubOptions, ReactorGroup};
use waterwheel::protocol::pusher::signature::{body_md5, sign, subscription_text};
use waterwheel::{Config, Request, Sim, SimSocket, Status};

const KEY: &str = "278d425bdf160c739803";
const SECRET: &str = "7ad3773142a6692b25b8";

/// A hub with two apps, on one reactor or several.
struct World {
    sims: Vec<Sim<()>>,
    backend: Backend,
}

/// The receiver of webhooks, on port 81 of each reactor.
#[derive(Clone, Default)]
struct Backend {
    /// The requests that came: the key, the signature and the body.
    requests: Rc<RefCell<Vec<[String; 3]>>>,
    /// The statuses of the next answers. 200 when there are none.
    statuses: Rc<RefCell<VecDeque<u16>>>,
}

impl Backend {
    fn take(&self, request: &Request<'_, '_, ()>) -> Status {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let (key, signature) = (header("x-pusher-key"), header("x-pusher-signature"));
        let body = request.text().unwrap().to_owned();
        self.requests.borrow_mut().push([key, signature, body]);
        let status = self.statuses.borrow_mut().pop_front().unwrap_or(200);
        Status::new(status).unwrap()
    }
}

/// A client of the app that was greeted.
struct Client {
    socket: SimSocket,
    socket_id: String,
}

fn serve() -> World {
    serve_on(1)
}

fn serve_on(reactor_count: usize) -> World {
    serve_apps(
        reactor_count,
        &[
            format!("3:{KEY}:{SECRET},client-events"),
            "4:other:secret".to_owned(),
        ],
    )
}

fn serve_apps(reactor_count: usize, apps: &[String]) -> World {
    serve_with(reactor_count, apps, &Access::default())
}

fn serve_with(reactor_count: usize, apps: &[String], access: &Access) -> World {
    let options = || HubOptions {
        pusher_apps: apps.iter().map(|app| app.parse().unwrap()).collect(),
        ..HubOptions::default()
    };
    let group = ReactorGroup::new(reactor_count);
    let backend = Backend::default();
    let sim = |seed| {
        // The clients answer no pings.
        let mut config = Config::default();
        config.options.ping_interval = None;
        let mut sim = Sim::with_config(config, (), |reactor| {
            let hub = match reactor_count {
                1 => Hub::new(options()),
                _ => Hub::of_group(&group.join(reactor)?, options()),
            };
            reactor.http("0.0.0.0:80", |router| hub.mount(router, access))?;
            let backend = backend.clone();
            reactor.http("0.0.0.0:81", |router| {
                router.post("/hook", move |request| {
                    let status = backend.take(request);
                    request.reply((status, ""));
                });
            })
        });
        sim.seed(seed);
        sim
    };
    World {
        sims: (1..=reactor_count as u64).map(sim).collect(),
        backend: backend.clone(),
    }
}

impl World {
    /// Runs all reactors until none has anything to do.
    fn settle(&mut self) {
        for _ in 0..6 {
            self.sims.iter_mut().for_each(Sim::settle);
        }
    }

    /// A client that opens a WebSocket at a target.
    fn open(&mut self, target: &str) -> SimSocket {
        let client = self.sims[0].websocket(target);
        self.settle();
        client
    }

    fn connect(&mut self) -> Client {
        self.connect_to(0)
    }

    /// A client of a reactor.
    fn connect_to(&mut self, reactor: usize) -> Client {
        let target = format!("/app/{KEY}?protocol=7&client=js&version=8.6.0&flash=false");
        let socket = self.sims[reactor].websocket(&target);
        self.settle();
        let greeting = socket.received().concat();
        let (_, rest) = greeting.split_once(r#"\"socket_id\":\""#).unwrap();
        let (socket_id, rest) = rest.split_once(r#"\""#).unwrap();
        assert_eq!(rest, r#",\"activity_timeout\":120}"}"#);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let (left, right) = socket_id.split_once('.').unwrap();
        assert!(is_number(left) && is_number(right), "{socket_id}");
        Client {
            socket_id: socket_id.to_owned(),
            socket,
        }
    }

    /// The messages that a client gets for one of its own.
    fn answers(&mut self, client: &Client, text: &str) -> Vec<String> {
        client.socket.send(text);
        self.settle();
        client.socket.received()
    }

    /// Subscribes to a channel with the signature that it needs, if any, and returns the messages that come.
    fn subscribe(&mut self, client: &Client, channel: &str) -> Vec<String> {
        let auth = match channel.starts_with("private-") {
            true => auth(&client.socket_id, channel),
            false => String::new(),
        };
        self.answers(client, &subscribe(channel, &auth))
    }

    /// Subscribes to a presence channel as a user, and returns the messages that come.
    fn join(&mut self, client: &Client, channel: &str, user: &str, info: &str) -> Vec<String> {
        self.send_join(client, channel, user, info);
        self.settle();
        client.socket.received()
    }

    /// Sends the subscription to a presence channel as a user.
    fn send_join(&self, client: &Client, channel: &str, user: &str, info: &str) {
        let data = format!(r#"{{"user_id":"{user}","user_info":{info}}}"#);
        client.socket.send(&*signed_join(client, channel, &data));
    }

    /// Subscribes to a presence channel with some data, and returns the messages that come.
    fn join_with(&mut self, client: &Client, channel: &str, data: &str) -> Vec<String> {
        self.answers(client, &signed_join(client, channel, data))
    }

    /// The status and the body of the answer to a request of the backend of the app. `path` is behind `/apps/3`, and may have a query.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(method, path, body, |_| ())
    }

    /// As `ask`, of a request that is changed after it was signed.
    fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        change: impl FnOnce(&mut String),
    ) -> (u16, String) {
        let now_unix = self.sims[0].reactor().unix_time();
        let (path, more) = path.split_once('?').unwrap_or((path, ""));
        let mut query: Vec<String> = more.split('&').map(str::to_owned).collect();
        query.retain(|pair| !pair.is_empty());
        query.push(format!("auth_key={KEY}"));
        query.push(format!("auth_timestamp={now_unix}"));
        query.push("auth_version=1.0".to_owned());
        if !body.is_empty() {
            query.push(format!("body_md5={}", body_md5(body.as_bytes())));
        }
        query.sort();
        let query = query.join("&");
        let text = format!("{method}\n/apps/3{path}\n{query}");
        let signature = sign(SECRET.as_bytes(), text.as_bytes());
        let mut request = format!(
            "{method} /apps/3{path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: h\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        change(&mut request);
        let client = self.sims[0].connect();
        client.write(request);
        self.settle();
        let answer = answer::answer(&client.read());
        (answer.status, answer.text().to_owned())
    }

    /// The status and the body of the answer to an event that the backend triggers.
    fn trigger(&mut self, body: &str) -> (u16, String) {
        self.ask("POST", "/events", body)
    }
}

fn subscribe(channel: &str, auth: &str) -> String {
    format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"{auth}","channel":"{channel}"}}}}"#)
}

fn join_message(channel: &str, auth: &str, data: &str) -> String {
    let data = data.replace('"', r#"\""#);
    format!(
        r#"{{"event":"pusher:subscribe","data":{{"auth":"{auth}","channel":"{channel}","channel_data":"{data}"}}}}"#
    )
}

fn signed_join(client: &Client, channel: &str, data: &str) -> String {
    let text = subscription_text(&client.socket_id, channel, Some(data));
    let signature = sign(SECRET.as_bytes(), text.as_bytes());
    join_message(channel, &format!("{KEY}:{signature}"), data)
}

fn auth(socket_id: &str, channel: &str) -> String {
    let text = subscription_text(socket_id, channel, None);
    format!("{KEY}:{}", sign(SECRET.as_bytes(), text.as_bytes()))
}

fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}
