//! Requests whose answer waits for publications, as a long poll does.
//!
//! The connection of such a request is a member of topics until the turn has the request answered: with the first
//! publications that come, when its time is over, or when the reactor drains. `connection/awaiting.rs` keeps the
//! publications until then. All that a turn delivers goes into one answer.

use std::time::Duration;

use super::close::Deadline;
use super::connection::awaiting::Awaited;
use super::id::ConnId;
use super::panics::drop_guarded;
use super::reactor::{Cx, OnAwaited, Reactor};
use crate::pubsub::{Frame, FramedFormat, WireFormat};

impl<S: 'static> Reactor<S> {
    /// Lets the request of a connection, which the application has taken for later, wait for publications. The
    /// connection may subscribe from here on.
    ///
    /// `call` is called once, at the end of the turn in which the first one comes, or after `wait`, and answers
    /// the request. The connection has left all topics then. When the client goes, `call` is dropped.
    #[allow(dead_code, reason = "the hub will ask")]
    pub(crate) fn await_publications(
        &mut self,
        id: ConnId,
        wire_format: WireFormat,
        wait: Duration,
        call: impl FnOnce(&mut Cx<'_, S>, &Awaited) + 'static,
    ) {
        let Some(exchange) = self.exchange(id) else {
            return;
        };
        exchange.set_awaits_publications(true);
        let format = FramedFormat::new(wire_format, Frame::Bare);
        self.table.begin_wait(id, format);
        self.on_awaited.insert(id, Box::new(call));
        self.set_deadline(id, Deadline::Reply, wait);
    }

    /// Has a request answered in this turn, with what has come. Returns whether one waits for publications.
    pub(crate) fn end_wait(&mut self, id: ConnId) -> bool {
        self.table.end_wait(id)
    }

    /// Takes the next request that is to be answered. Its connection leaves its topics.
    pub(super) fn take_awaited(&mut self) -> Option<(ConnId, Awaited, OnAwaited<S>)> {
        while let Some((id, awaited)) = self.table.take_awaited() {
            self.leave_topics_of_wait(id);
            if let Some(call) = self.on_awaited.remove(&id) {
                // As for any other request: the callback may still not answer.
                if let Some(timeout) = self.options_of(id).map(|options| options.reply_timeout) {
                    self.set_deadline(id, Deadline::Reply, timeout);
                }
                return Some((id, awaited, call));
            }
            self.table.give_back_awaited(awaited);
        }
        None
    }

    /// Ends the wait of a request that was answered in another way, or whose client has gone.
    #[inline]
    pub(super) fn forget_wait(&mut self, id: ConnId) {
        if !self.on_awaited.is_empty() {
            self.forget_wait_of(id);
        }
    }

    fn forget_wait_of(&mut self, id: ConnId) {
        let Some(call) = self.on_awaited.remove(&id) else {
            return;
        };
        self.table.forget_wait(id);
        self.leave_topics_of_wait(id);
        if let Err(panicked) = drop_guarded(&"an answer that was not given", call) {
            self.table.stats_mut().panics += 1;
            self.panics.note(panicked);
        }
    }

    fn leave_topics_of_wait(&mut self, id: ConnId) {
        let Some(connection) = self.table.connection_mut(id) else {
            return;
        };
        let mut subscriptions = std::mem::take(connection.subscriptions_mut());
        if let Some(exchange) = self.ended_exchange(id) {
            exchange.set_awaits_publications(false);
        }
        self.topics.leave_all(id.to_bits(), &mut subscriptions);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::pubsub::{Audience, Notice, WireFormat};
    use crate::reactor::close::CloseCause;
    use crate::reactor::config::{Config, ConnectionOptions};
    use crate::reactor::id::ConnId;
    use crate::reactor::reactor::{OnAwaited, Reactor};
    use crate::reactor::sim::{Sim, SimStream};

    /// The connections that have waited.
    type Waited = Vec<ConnId>;

    /// A server whose answers are the messages and the gaps. It does not answer with the message `silence`.
    fn server() -> Sim<Waited> {
        let config = Config {
            options: ConnectionOptions {
                reply_timeout: Duration::from_secs(7),
                ..ConnectionOptions::default()
            },
            ..Config::default()
        };
        Sim::with_config(config, Waited::new(), |reactor: &mut Reactor<Waited>| {
            reactor.http("0.0.0.0:80", |router| {
                router.get("/", |request| {
                    let (id, responder) = (request.id, request.reply_later());
                    request.state.push(id);
                    let (wire_format, wait) = (WireFormat::RAW, Duration::from_secs(30));
                    let reactor = &mut *request.reactor;
                    reactor.await_publications(id, wire_format, wait, move |cx, awaited| {
                        let messages = awaited.messages();
                        let mut words: Vec<_> = messages.map(String::from_utf8_lossy).collect();
                        assert!(!words.contains(&"panic".into()), "as a test wants");
                        words.extend(awaited.gaps().map(Into::into));
                        if words != ["silence"] {
                            cx.reactor.reply(responder, words.join(" "));
                        }
                    });
                    assert_eq!(reactor.subscribe(id, "news"), Ok(true));
                    assert_eq!(reactor.subscribe_pattern(id, "n*"), Ok(true));
                });
            })
        })
    }

    fn waiting(sim: &mut Sim<Waited>) -> SimStream {
        let client = sim.connect();
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        sim.settle();
        assert_eq!(client.read_text(), "");
        client
    }

    fn is_empty(sim: &mut Sim<Waited>) -> bool {
        let reactor = sim.reactor();
        reactor.on_awaited.is_empty()
            && reactor.subscription_count() == 0
            && reactor.table.queued_memory() == 0
            && reactor.table.is_quiet()
    }

    #[test]
    fn an_answer_has_what_a_turn_has_delivered() {
        let mut sim = server();
        let clients = [(); 2].map(|()| waiting(&mut sim));
        for text in ["one", "two"] {
            assert_eq!(sim.reactor().publish("news", text).delivered, 2);
        }
        assert_ne!(sim.reactor().table.queued_memory(), 0, "it is counted");
        sim.settle();
        for client in clients {
            assert!(client.read_text().ends_with("\r\n\r\none two"));
        }
        assert!(is_empty(&mut sim));
    }

    #[test]
    fn the_wait_of_a_connection_that_ends_leaves_nothing() {
        for way in 0..4 {
            let mut sim = server();
            let client = waiting(&mut sim);
            sim.reactor().publish("news", "one");
            let id = sim.state()[0];
            match way {
                0 => client.reset(),
                1 => client.finish(),
                2 => sim.reactor().table.abort(id, CloseCause::Local),
                _ => {
                    sim.reactor().close(id);
                }
            }
            sim.settle();
            assert!(is_empty(&mut sim), "{way}");
            assert_eq!(sim.reactor().publish("news", "two").delivered, 0, "{way}");
        }
    }

    #[test]
    fn a_request_that_is_answered_in_another_way_waits_no_longer() {
        let mut sim = server();
        let client = waiting(&mut sim);
        let id = sim.state()[0];
        sim.reactor().publish("news", "one");
        sim.reactor().send_reply(id, "other".into());
        assert_eq!(sim.reactor().publish("news", "two").delivered, 0);
        sim.settle();
        assert!(client.read_text().ends_with("\r\n\r\nother"));
        assert!(is_empty(&mut sim));
    }

    #[test]
    fn a_request_that_waits_is_told_of_gaps_and_of_no_other_news() {
        let mut sim = server();
        let client = waiting(&mut sim);
        let left = Notice::Left { user: "alice" };
        let gap = Notice::Gap { cursor: "1:1" };
        let reactor = sim.reactor();
        reactor.deliver_notice("news", &left, Audience::All, None);
        assert!(!reactor.table.has_awaited());
        reactor.deliver_notice("news", &gap, Audience::All, None);
        reactor.deliver_notice("n*", &gap, Audience::OfPattern, None);
        sim.settle();
        assert!(client.read_text().ends_with("\r\n\r\nnews n*"));
    }

    #[test]
    fn a_callback_that_does_not_answer_has_the_time_of_other_answers() {
        for text in ["silence", "panic"] {
            let mut sim = server();
            sim.catch_panics(true);
            let client = waiting(&mut sim);
            sim.reactor().publish("news", text);
            sim.advance(Duration::from_secs(6));
            assert_eq!(client.read_text(), "", "{text}");
            sim.advance(Duration::from_secs(2));
            assert!(client.read_text().starts_with("HTTP/1.1 503 "), "{text}");
            assert!(is_empty(&mut sim), "{text}");
        }
    }

    #[test]
    fn answers_for_which_a_turn_has_no_time_come_in_the_next() {
        let mut sim = server();
        let clients: Vec<_> = (0..10).map(|_| waiting(&mut sim)).collect();
        let clock = sim.clock();
        for id in sim.state().clone() {
            let clock = clock.clone();
            let quick = sim.reactor().on_awaited.remove(&id).unwrap();
            let call: OnAwaited<Waited> = Box::new(move |cx, awaited| {
                clock.advance(Duration::from_millis(15));
                quick(cx, awaited);
            });
            sim.reactor().on_awaited.insert(id, call);
        }
        sim.reactor().publish("news", "one");
        sim.turn();
        let count = |clients: &[SimStream]| {
            let answered = clients.iter().filter(|it| it.read_text().ends_with("one"));
            answered.count()
        };
        assert!((1..=4).contains(&count(&clients)));
        sim.settle();
        assert!(6 <= count(&clients));
        assert!(is_empty(&mut sim));
    }
}
