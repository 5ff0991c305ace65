//! `bench fan-out` and `bench sse`: messages of a few publishers must reach all subscribers, once and
//! in order.
//!
//! Closed loop: each publisher has `--in-flight` messages under way, and publishes the next when
//! the oldest has reached every subscriber. Open loop: message `i` of the run is due at `i / rate` and
//! is published by publisher `i % publishers`; latencies count from when it was due.
//!
//! A client cannot see when its subscription holds, so probes are published first; see `probing.rs`.

use std::io;
use std::time::Duration;

use waterwheel::protocol::http::Url;
use waterwheel::protocol::resp::Reply;
use waterwheel::{
    Close, ConnId, ConnMap, Cx, Message, Reactor, Redis, RedisError, StreamCallbacks, TimerId,
    WebSocketClient, WebSocketClientId,
};

use super::action_cable::{self, ActionCable, Read};
use super::deliveries::Deliveries;
use super::events::{EventSource, StreamNext};
use super::fan_out_options::{Options, Publishing, Subscription};
use super::load::{self, Counted, Load, Run};
use super::payload::{HEADER_BYTES, Stamp, filling};
use super::phase::Phase;
use super::post::Poster;
use super::probing::{Probing, Step};
use super::problems::Kind;
use super::report::Report;
use super::schedule::{Schedule, Wait};

/// Messages of an open loop that are published before deliveries are looked at again.
const BURST: usize = 256;

/// A publisher whose messages brought no delivery for this long stops waiting for them.
const STUCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Places for messages under way in an open loop, where the rate decides when a message is sent.
const OPEN_LOOP: usize = 1;

const DELIVERIES: Counted = Counted {
    count: "deliveries",
    per_second: "deliveries_per_s",
    per_cpu_second: "deliveries_per_cpu_s",
    visible_from: 200_000,
};

#[derive(Clone, Copy)]
enum Role {
    Subscriber(usize),
    Publisher(usize),
}

struct Member {
    role: Role,
    is_open: bool,
    /// Whether another connection has replaced it.
    is_retired: bool,
}

struct Publisher {
    id: Option<ConnId>,
    poster: Option<Poster>,
    last_delivery: Duration,
}

/// The callbacks of WebSockets.
#[derive(Clone, Copy)]
struct Clients {
    subscriber: WebSocketClientId,
    publisher: WebSocketClientId,
}

struct FanOut {
    run: Run,
    options: Options,
    clients: Option<Clients>,
    members: ConnMap<Member>,
    ids: Vec<ConnId>,
    publishers: Vec<Publisher>,
    /// The link on which all publishers publish, for [`Publishing::Redis`].
    redis: Option<Redis<FanOut>>,
    sources: Vec<EventSource>,
    action_cable: ActionCable,
    deliveries: Deliveries,
    schedule: Option<Schedule>,
    filling: String,
    /// The message that is being published, and its JSON envelope.
    text: String,
    envelope: String,
    probing: Probing,
    probe_timer: Option<TimerId>,
    /// Deliveries that the server reported in its answers.
    acknowledged: u64,
    /// Probes of each publisher whose answers have not come.
    probes_unanswered: Vec<u64>,
}

impl FanOut {
    fn new(run: Run, options: Options) -> FanOut {
        let in_flight = match options.rate {
            Some(_) => OPEN_LOOP,
            None => options.in_flight,
        };
        let poster = || {
            let target = format!("{}/publish?topic={}", base(&run.plan.url), options.topic);
            Poster::new(&run.plan.address, &target, options.token.as_deref())
        };
        let publishers = (0..options.publishers)
            .map(|_| Publisher {
                id: None,
                poster: (options.publishing == Publishing::Post).then(poster),
                last_delivery: Duration::ZERO,
            })
            .collect();
        let sources = match options.subscription {
            Subscription::EventStream => options.subscribers,
            Subscription::Connected
            | Subscription::WebSocket
            | Subscription::ActionCable
            | Subscription::AnyCable => 0,
        };
        FanOut {
            redis: None,
            action_cable: match options.subscription {
                Subscription::AnyCable => ActionCable::of_stream(&options.topic),
                _ => ActionCable::new(&options.topic),
            },
            clients: None,
            members: ConnMap::default(),
            ids: Vec::new(),
            publishers,
            sources: (0..sources).map(|_| EventSource::new()).collect(),
            deliveries: Deliveries::new(options.subscribers, options.publishers, in_flight),
            schedule: options.rate.map(Schedule::new),
            filling: filling(options.size - HEADER_BYTES),
            text: String::with_capacity(options.size),
            envelope: String::new(),
            probing: Probing::new(options.subscribers),
            probe_timer: None,
            acknowledged: 0,
            probes_unanswered: vec![0; options.publishers],
            run,
            options,
        }
    }

    /// Counts a message that came to a subscriber.
    #[inline]
    fn deliver(&mut self, reactor: &mut Reactor<Self>, subscriber: usize, bytes: &[u8]) {
        let bytes = match (self.options.subscription, self.options.publishing) {
            (Subscription::ActionCable | Subscription::AnyCable, _) => {
                match self.action_cable.read(bytes) {
                    Ok(Read::Text(bytes)) => bytes,
                    Ok(Read::Nothing) => return,
                    Ok(Read::Welcome) => {
                        let command = self.action_cable.subscribe();
                        reactor.send(self.ids[subscriber], command);
                        return;
                    }
                    Err(why) => return self.refused(reactor, why),
                }
            }
            // A JSON string in which no character is escaped.
            (_, Publishing::Json) => bytes
                .strip_prefix(b"\"")
                .and_then(|bytes| bytes.strip_suffix(b"\""))
                .unwrap_or(bytes),
            (_, Publishing::Plain | Publishing::Post | Publishing::Redis) => bytes,
        };
        let Some(stamp) = Stamp::read(bytes, &self.filling) else {
            let problems = &mut self.run.problems;
            return self.deliveries.take_unreadable(subscriber, bytes, problems);
        };
        if stamp.is_probe {
            return self.probed(reactor, subscriber, stamp.number);
        }
        if !self
            .deliveries
            .take(subscriber, &stamp, &mut self.run.problems)
        {
            return;
        }
        let now = reactor.now();
        self.run.count(stamp.sent_at, now.as_nanos() as u64);
        let publisher = stamp.publisher as usize;
        self.publishers[publisher].last_delivery = now;
        if self.schedule.is_none() {
            self.publish_while_room(reactor, publisher);
        }
    }

    fn probed(&mut self, reactor: &mut Reactor<Self>, subscriber: usize, number: u64) {
        let has_news = self.probing.take(subscriber, number, reactor.now());
        if has_news && self.run.phase == Phase::Opening {
            Self::probe(&mut Cx::new(self, reactor));
        }
    }

    fn publish_while_room(&mut self, reactor: &mut Reactor<Self>, publisher: usize) {
        while self.run.is_sending() && self.deliveries.has_room(publisher) {
            let now = reactor.now().as_nanos() as u64;
            if !self.publish(reactor, publisher, now) {
                return;
            }
        }
    }

    /// Publishes the next message. Returns whether it was queued.
    fn publish(&mut self, reactor: &mut Reactor<Self>, publisher: usize, sent_at: u64) -> bool {
        let stamp = Stamp {
            is_probe: false,
            publisher: publisher as u32,
            number: self.deliveries.published(publisher),
            sent_at,
        };
        let is_sent = self.send(reactor, &stamp);
        if is_sent {
            self.deliveries.publish(publisher);
        }
        is_sent
    }

    fn send(&mut self, reactor: &mut Reactor<Self>, stamp: &Stamp) -> bool {
        stamp.write(&self.filling, &mut self.text);
        if let Some(redis) = &self.redis {
            let text = match self.options.subscription {
                Subscription::ActionCable | Subscription::AnyCable => {
                    self.envelope.clear();
                    self.envelope.extend(["\"", &self.text, "\""]);
                    &self.envelope
                }
                _ => &self.text,
            };
            let words = ["PUBLISH", &self.options.topic, text];
            redis.command(reactor, words, Self::answered_by_redis);
            return true;
        }
        let publisher = &mut self.publishers[stamp.publisher as usize];
        let Some(id) = publisher.id else {
            return false;
        };
        let sent = match (&mut publisher.poster, self.options.publishing) {
            (Some(poster), _) => reactor.send(id, poster.request(&self.text)),
            (None, Publishing::Json) => {
                self.envelope.clear();
                let parts = ["{\"publish\":\"", &self.options.topic, "\",\"data\":\""];
                self.envelope.extend(parts);
                self.envelope.push_str(&self.text);
                self.envelope.push_str("\"}");
                reactor.send(id, Message::Text(&self.envelope))
            }
            (None, _) => reactor.send(id, Message::Text(&self.text)),
        };
        sent.is_queued()
    }

    fn probe(cx: &mut Cx<'_, Self>) {
        let fan_out = &mut *cx.state;
        if let Some(timer) = fan_out.probe_timer.take() {
            cx.reactor.cancel(timer);
        }
        if fan_out.run.phase != Phase::Opening {
            return;
        }
        let pause = match fan_out.probing.step(cx.reactor.now()) {
            Step::Begin => return load::warm_up(cx),
            Step::Wait(pause) => pause,
            Step::Publish(number, pause) => {
                fan_out.publish_probe(cx.reactor, number);
                pause
            }
            Step::GiveUp(got) => {
                let all = fan_out.options.subscribers;
                fan_out.run.problems.add(Kind::Lost, || {
                    format!(
                        "{got} of {all} subscribers got a message, and no other one in ten seconds: \
                         does the server send each message to all?"
                    )
                });
                return load::give_up(&mut fan_out.run, cx.reactor);
            }
        };
        let timer = cx.reactor.after(pause, Self::probe);
        cx.state.probe_timer = Some(timer);
    }

    fn publish_probe(&mut self, reactor: &mut Reactor<Self>, number: u64) {
        // Each publisher in turn, so that the connection of each is tried.
        let publisher = (number % self.publishers.len() as u64) as usize;
        let stamp = Stamp {
            is_probe: true,
            publisher: publisher as u32,
            number,
            sent_at: 0,
        };
        self.probes_unanswered[publisher] += 1;
        self.send(reactor, &stamp);
    }

    /// Reads the answers to a publisher's requests.
    fn answered(&mut self, reactor: &mut Reactor<Self>, publisher: usize, mut bytes: &[u8]) {
        loop {
            let Some(poster) = &mut self.publishers[publisher].poster else {
                return;
            };
            match poster.next_answer(&mut bytes) {
                Ok(None) => return,
                Ok(Some(answer)) => {
                    match self.probes_unanswered[publisher].checked_sub(1) {
                        Some(rest) => self.probes_unanswered[publisher] = rest,
                        None => self.acknowledged += answer.delivered,
                    }
                    if !answer.keeps {
                        return self.replace(reactor, publisher);
                    }
                }
                Err(why) => return self.refused(reactor, why),
            }
        }
    }

    fn answered_by_redis(cx: &mut Cx<'_, Self>, answer: Result<Reply<'_>, RedisError>) {
        let error = match &answer {
            Ok(reply) => reply.as_error().map(String::from),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = error {
            cx.state.refused(cx.reactor, format!("PUBLISH: {why}"));
        }
    }

    /// Ends the run because of an answer.
    fn refused(&mut self, reactor: &mut Reactor<Self>, why: String) {
        if !self.run.is_over() {
            self.run.problems.add(Kind::Refused, || why);
            load::give_up(&mut self.run, reactor);
        }
    }

    /// Opens another connection for a publisher whose connection the server ends after an answer, as
    /// HTTP allows.
    fn replace(&mut self, reactor: &mut Reactor<Self>, publisher: usize) {
        let old = self.publishers[publisher].id.take();
        if let Some(member) = old.and_then(|id| self.members.get_mut(id)) {
            member.is_retired = true;
        }
        if let Err(error) = Self::connect_publisher(self, reactor, publisher) {
            let why = || error.to_string();
            self.run.problems.add(Kind::NotOpened, why);
        }
    }

    /// Lets publishers go on whose messages under way are lost.
    fn unblock_stuck_publishers(cx: &mut Cx<'_, Self>) {
        let now = cx.reactor.now();
        for publisher in 0..cx.state.publishers.len() {
            if STUCK_TIMEOUT < now.saturating_sub(cx.state.publishers[publisher].last_delivery) {
                cx.state.publishers[publisher].last_delivery = now;
                cx.state.deliveries.give_up(publisher);
                cx.state.publish_while_room(cx.reactor, publisher);
            }
        }
    }

    /// Publishes the messages of an open loop that are due, and sets a timer for the next.
    fn publish_due(cx: &mut Cx<'_, Self>) {
        if !cx.state.run.is_sending() {
            return;
        }
        let now = cx.reactor.now().as_nanos() as u64;
        for _ in 0..BURST {
            let schedule = cx.state.schedule.as_mut();
            let Some((index, due)) = schedule.and_then(|schedule| schedule.take(now)) else {
                break;
            };
            let publisher = (index % cx.state.publishers.len() as u64) as usize;
            cx.state.publish(cx.reactor, publisher, due);
        }
        match cx
            .state
            .schedule
            .as_ref()
            .map(|schedule| schedule.wait(now))
        {
            None => {}
            Some(Wait::InLoop) => cx.reactor.next_tick(Self::publish_due),
            Some(Wait::Sleep(wait)) => {
                cx.reactor.after(wait, Self::publish_due);
            }
        }
    }

    fn add(&mut self, id: ConnId, role: Role) {
        let member = Member {
            role,
            is_open: false,
            is_retired: false,
        };
        self.members.insert(id, member);
        self.ids.push(id);
    }

    fn connect_subscriber(&mut self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()> {
        let plan = &self.run.plan;
        let id = match (self.options.subscription, self.clients) {
            (Subscription::EventStream, _) => {
                let target = format!("{}/events?topic={}", base(&plan.url), self.options.topic);
                let request = EventSource::request(&plan.address, &target);
                reactor.connect_stream(plan.connect_options(number), |stream| {
                    stream.on_open(move |stream| stream.send(&request));
                    stream.on_data(move |stream, bytes| {
                        Self::read_events(stream.state, stream.reactor, number, bytes);
                    });
                    stream.on_close(|stream, close| {
                        Self::closed(stream.state, stream.reactor, stream.id, close);
                    });
                })?
            }
            (
                Subscription::Connected | Subscription::ActionCable | Subscription::AnyCable,
                Some(clients),
            ) => {
                let transport = plan.transport(number);
                reactor.connect_websocket_with(clients.subscriber, &plan.url, transport)?
            }
            (Subscription::WebSocket, Some(clients)) => {
                let url = self.hub_url();
                reactor.connect_websocket_with(clients.subscriber, &url, plan.transport(number))?
            }
            (_, None) => return Ok(()),
        };
        self.add(id, Role::Subscriber(number));
        Ok(())
    }

    fn connect_publisher(
        &mut self,
        reactor: &mut Reactor<Self>,
        publisher: usize,
    ) -> io::Result<()> {
        let number = self.options.subscribers + publisher;
        let plan = &self.run.plan;
        let id = match (self.options.publishing, self.clients) {
            (Publishing::Post, _) => {
                let set_up = |stream: &mut StreamCallbacks<Self>| {
                    stream.on_open(|stream| {
                        Self::opened(stream.state, stream.reactor, stream.id);
                    });
                    stream.on_data(move |stream, bytes| {
                        stream.state.answered(stream.reactor, publisher, bytes);
                    });
                    stream.on_close(|stream, close| {
                        Self::closed(stream.state, stream.reactor, stream.id, close);
                    });
                };
                reactor.connect_stream(plan.connect_options(number), set_up)?
            }
            (Publishing::Json, Some(clients)) => {
                let mut url = self.hub_url();
                if let Some(token) = &self.options.token {
                    url.push_str("?token=");
                    url.push_str(token);
                }
                reactor.connect_websocket_with(clients.publisher, &url, plan.transport(number))?
            }
            (Publishing::Plain, Some(clients)) => {
                let transport = plan.transport(number);
                reactor.connect_websocket_with(clients.publisher, &plan.url, transport)?
            }
            // The link is made once, for all publishers.
            (Publishing::Redis, Some(_)) | (_, None) => return Ok(()),
        };
        self.add(id, Role::Publisher(publisher));
        self.publishers[publisher].id = Some(id);
        Ok(())
    }

    fn hub_url(&self) -> String {
        let plan = &self.run.plan;
        let scheme = if plan.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}{}/ws", plan.address, base(&plan.url))
    }

    fn read_events(&mut self, reactor: &mut Reactor<Self>, subscriber: usize, bytes: &[u8]) {
        let mut source = std::mem::replace(&mut self.sources[subscriber], EventSource::new());
        let id = self.ids[subscriber];
        let outcome = source.read(bytes, |next| match next {
            StreamNext::Opened => Self::opened(self, reactor, id),
            StreamNext::Event(event) => self.deliver(reactor, subscriber, event.data.as_bytes()),
        });
        self.sources[subscriber] = source;
        if let Err(why) = outcome
            && self.run.phase != Phase::Closing
        {
            self.run.problems.add(Kind::Refused, || why);
            if self.run.phase == Phase::Opening {
                load::give_up(&mut self.run, reactor);
            }
        }
    }

    fn opened(state: &mut Self, reactor: &mut Reactor<Self>, id: ConnId) {
        let Some(member) = state.members.get_mut(id) else {
            return;
        };
        member.is_open = true;
        if let Role::Publisher(publisher) = member.role
            && let Some(poster) = &mut state.publishers[publisher].poster
        {
            let unanswered = poster.restart();
            if !unanswered.is_empty() {
                reactor.send(id, unanswered);
            }
            // A connection that replaces another is not counted again.
            if state.run.phase != Phase::Opening || state.probing.has_begun() {
                return;
            }
        }
        load::opened(state, reactor);
    }

    fn closed(state: &mut Self, reactor: &mut Reactor<Self>, id: ConnId, close: &Close) {
        let Some(member) = state.members.get_mut(id) else {
            return;
        };
        if !member.is_retired {
            let was_open = std::mem::take(&mut member.is_open);
            load::closed(state, reactor, was_open, close);
        }
    }
}

/// The path of a URL to which the hub's paths are appended, without a slash at its end.
fn base(url: &str) -> &str {
    let rest = Url::of_websocket(url).map_or("", |parsed| parsed.rest);
    let path = rest.split('?').next().unwrap_or_default();
    let path = path.strip_suffix("/ws").unwrap_or(path);
    path.trim_end_matches('/')
}

impl Load for FanOut {
    fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    fn connect(state: &mut Self, reactor: &mut Reactor<Self>, number: usize) -> io::Result<()> {
        match number.checked_sub(state.options.subscribers) {
            None => state.connect_subscriber(reactor, number),
            Some(publisher) => state.connect_publisher(reactor, publisher),
        }
    }

    fn opened(cx: &mut Cx<'_, Self>) {
        Self::probe(cx);
    }

    fn begin(cx: &mut Cx<'_, Self>) {
        let now = cx.reactor.now();
        if let Some(schedule) = &mut cx.state.schedule {
            schedule.begin(now.as_nanos() as u64);
            return Self::publish_due(cx);
        }
        for publisher in 0..cx.state.publishers.len() {
            cx.state.publishers[publisher].last_delivery = now;
            cx.state.publish_while_room(cx.reactor, publisher);
        }
        cx.reactor
            .every(STUCK_TIMEOUT / 2, Self::unblock_stuck_publishers);
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        self.schedule.as_mut()
    }

    fn is_complete(&self) -> bool {
        self.deliveries.is_complete()
    }

    fn count_missing(&mut self) {
        self.deliveries.count_missing(&mut self.run.problems);
    }

    fn connections(&self) -> Vec<ConnId> {
        self.ids.clone()
    }

    fn end(&mut self, reactor: &mut Reactor<Self>) {
        if let Some(redis) = &self.redis {
            redis.close(reactor);
        }
    }
}

fn set_up(client: &mut WebSocketClient<FanOut>, topic: Option<String>) {
    client.on_open(move |ws, _| {
        if let Some(topic) = &topic {
            ws.send(topic);
        }
        FanOut::opened(ws.state, ws.reactor, ws.id);
    });
    client.on_close(|ws, close| FanOut::closed(ws.state, ws.reactor, ws.id, close));
}

/// Runs the load and adds its results to the report.
///
/// # Errors
///
/// When the system cannot create the poll, or the URL of Redis is invalid.
pub fn run(run: Run, options: Options, report: &mut Report) -> io::Result<Run> {
    options.report(report);
    let config = load::config(&run, options.size);
    let redis_url = options.redis.clone();
    let fan_out = FanOut::new(run, options);
    let mut fan_out = Reactor::run_with(config, fan_out, |reactor| {
        let redis = redis_url.map(|url| Redis::connect(reactor, &url));
        let redis = redis.transpose()?;
        reactor.next_tick(|cx| {
            cx.state.redis = redis;
            let options = &cx.state.options;
            let topic = match options.subscription {
                Subscription::WebSocket => Some(options.topic.clone()),
                Subscription::Connected
                | Subscription::EventStream
                | Subscription::ActionCable
                | Subscription::AnyCable => None,
            };
            let speaks_action_cable = matches!(
                options.subscription,
                Subscription::ActionCable | Subscription::AnyCable
            );
            let speaks_json = options.publishing == Publishing::Json;
            let subscriber = cx.reactor.websocket_client(|ws| {
                set_up(ws, topic);
                if speaks_action_cable {
                    ws.subprotocols([action_cable::SUBPROTOCOL]);
                }
                ws.on_message(|ws, message| {
                    let member = ws.state.members.get(ws.id).map(|member| member.role);
                    if let Some(Role::Subscriber(subscriber)) = member {
                        ws.state.deliver(ws.reactor, subscriber, message.as_bytes());
                    }
                });
            });
            let publisher = cx.reactor.websocket_client(|ws| {
                set_up(ws, None);
                if speaks_json {
                    ws.subprotocols(["waterwheel.v1.json"]);
                    // A publisher subscribes to no topic, so a message to it is an error.
                    ws.on_message(|ws, message| {
                        let why = || format!("the server answered a publisher: {message}");
                        ws.state.run.problems.add(Kind::Refused, why);
                        load::give_up(&mut ws.state.run, ws.reactor);
                    });
                }
            });
            let default = "the options are the defaults";
            cx.state.clients = Some(Clients {
                subscriber: subscriber.expect(default),
                publisher: publisher.expect(default),
            });
            load::start(cx.state, cx.reactor);
        });
        io::Result::Ok(())
    })?;
    fan_out.run.report(Some(&DELIVERIES), report);
    let deliveries = &fan_out.deliveries;
    report.figure("published_total", deliveries.published_total());
    report.figure("delivered_total", deliveries.delivered);
    report.figure("expected_total", deliveries.expected);
    if fan_out.options.publishing == Publishing::Post {
        report.figure("acknowledged_total", fan_out.acknowledged);
    }
    if let Some(schedule) = &fan_out.schedule {
        fan_out.run.report_lateness(schedule, report);
    }
    for (key, kind) in [
        ("lost", Kind::Lost),
        ("duplicated", Kind::Duplicated),
        ("reordered", Kind::Reordered),
        ("altered", Kind::Altered),
    ] {
        report.figure(key, fan_out.run.problems.count_of(kind));
    }
    Ok(fan_out.run)
}
