//! The connections of a client by their servers, and the requests that wait for one.
//!
//! Pure: it decides which request goes where, and `link.rs` carries it out.
//!
//! A request waits in the line of its server. Among several lines the oldest request goes first, so a server that is
//! slow holds up the others only where the limit over all servers is reached. There an idle connection to another
//! server is closed to make room. A connection that discards the rest of a redirect gives way too: the server may send
//! that rest slowly or never, and the request that follows the redirect must not wait for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::protocol::http::ResponseDecoder;
use crate::reactor::id::ConnId;

use super::id::HttpRequestId;
use super::options::HttpClientOptions;
use super::origin::Origin;

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The request goes over this idle connection.
    Reuse(HttpRequestId, ConnId),
    /// A connection is made for the request.
    Connect(HttpRequestId, Rc<Origin>),
    /// This idle connection is closed. It was removed.
    Close(ConnId),
    /// This connection, which discards the rest of a redirect, is aborted. It was removed.
    Abort(ConnId),
}

/// The present use of a connection.
pub(super) enum Use {
    /// The connection was idle, and gets this request when the poll has been asked about it once more.
    Reserved(HttpRequestId),
    /// The answer to this request is awaited.
    Request(HttpRequestId),
    /// The rest of an answer that was a redirect is thrown away.
    Discard {
        decoder: Box<ResponseDecoder>,
        /// How long the server says that it keeps the connection.
        kept_for: Option<Duration>,
    },
    Idle,
}

pub(super) struct Pooled {
    origin: Rc<Origin>,
    pub(super) usage: Use,
    /// It has carried an answer already, so the server may be closing it in this moment.
    pub(super) was_used: bool,
}

struct Waiting {
    request: HttpRequestId,
    bytes: usize,
    /// It must not go over a connection that was used before.
    needs_new: bool,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Idle connections, the one that was used last at the end.
    idle: Vec<ConnId>,
    /// Connections that discard the rest of a redirect.
    discarding: Vec<ConnId>,
    /// All connections.
    count: usize,
}

impl Line {
    /// The connection that makes room for a request.
    fn closable(&self) -> Option<Order> {
        let idle = self.idle.first().map(|id| Order::Close(*id));
        idle.or_else(|| self.discarding.first().map(|id| Order::Abort(*id)))
    }
}

/// The connections of a client, and its waiting requests.
pub(super) struct Pool {
    /// Sorted, so that a simulation runs the same each time.
    lines: BTreeMap<Rc<Origin>, Line>,
    connections: HashMap<ConnId, Pooled>,
    waiting_count: usize,
    waiting_bytes: usize,
    per_host_max: usize,
    connections_max: usize,
    waiting_requests_max: usize,
    waiting_bytes_max: usize,
}

impl Pool {
    pub(super) fn new(options: &HttpClientOptions) -> Pool {
        Pool {
            lines: BTreeMap::new(),
            connections: HashMap::new(),
            waiting_count: 0,
            waiting_bytes: 0,
            per_host_max: options.connections_per_host_max,
            connections_max: options.connections_max,
            waiting_requests_max: options.waiting_requests_max,
            waiting_bytes_max: options.waiting_bytes_max,
        }
    }

    // ── requests ─────────────────────────────────────────────────────────────────────────────

    /// Puts a request at the end of its line. Returns `false`, and does nothing, where too many wait.
    pub(super) fn wait(
        &mut self,
        origin: &Rc<Origin>,
        request: HttpRequestId,
        bytes: usize,
    ) -> bool {
        let has_room = self.waiting_count < self.waiting_requests_max
            && self.waiting_bytes.saturating_add(bytes) <= self.waiting_bytes_max;
        if has_room {
            let waiting = Waiting {
                request,
                bytes,
                needs_new: false,
            };
            self.line(origin).waiting.push_back(waiting);
            self.waiting_count += 1;
            self.waiting_bytes += bytes;
        }
        has_room
    }

    /// Puts a request that has waited before at the front of its line, whatever the limits.
    pub(super) fn wait_again(
        &mut self,
        origin: &Rc<Origin>,
        request: HttpRequestId,
        bytes: usize,
        needs_new: bool,
    ) {
        let waiting = Waiting {
            request,
            bytes,
            needs_new,
        };
        self.line(origin).waiting.push_front(waiting);
        self.waiting_count += 1;
        self.waiting_bytes += bytes;
    }

    /// Removes a request that waits.
    pub(super) fn forget(&mut self, origin: &Rc<Origin>, request: HttpRequestId) {
        let Some(line) = self.lines.get_mut(origin) else {
            return;
        };
        let index = line.waiting.iter().position(|it| it.request == request);
        if let Some(waiting) = index.and_then(|index| line.waiting.remove(index)) {
            self.waiting_count -= 1;
            self.waiting_bytes -= waiting.bytes;
        }
        self.drop_empty(origin);
    }

    /// Takes the next step that can be done; `None` where all requests must wait.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let has_room = self.connections.len() < self.connections_max;
        let gives_way = |line: &Line| line.closable().is_some();
        let can_close = !has_room && self.lines.values().any(gives_way);
        let can_go = |line: &Line| {
            let waiting = line.waiting.front()?;
            let may_connect = line.count < self.per_host_max && (has_room || can_close);
            (may_connect || gives_way(line)).then_some(waiting.request)
        };
        let lines = self.lines.iter();
        let oldest = lines.filter_map(|(origin, line)| Some((can_go(line)?, origin)));
        let (request, origin) = oldest.min_by_key(|(request, _)| *request)?;
        let origin = Rc::clone(origin);
        let line = self.lines.get_mut(&origin)?;
        let needs_new = line.waiting.front()?.needs_new;
        if !needs_new && let Some(id) = line.idle.pop() {
            self.take_first(&origin);
            if let Some(pooled) = self.connections.get_mut(&id) {
                pooled.usage = Use::Reserved(request);
            }
            return Some(Order::Reuse(request, id));
        }
        // Its own server first: there it is at the limit for one server.
        if line.count < self.per_host_max && has_room {
            self.take_first(&origin);
            return Some(Order::Connect(request, origin));
        }
        let own = line.closable();
        let order = own.or_else(|| self.lines.values().find_map(Line::closable))?;
        if let Order::Close(id) | Order::Abort(id) = order {
            self.remove(id);
        }
        Some(order)
    }

    fn take_first(&mut self, origin: &Rc<Origin>) {
        let line = self.lines.get_mut(origin);
        if let Some(waiting) = line.and_then(|line| line.waiting.pop_front()) {
            self.waiting_count -= 1;
            self.waiting_bytes -= waiting.bytes;
        }
    }

    // ── connections ──────────────────────────────────────────────────────────────────────────

    /// Adds a connection that is made for a request.
    pub(super) fn add(&mut self, id: ConnId, origin: &Rc<Origin>, request: HttpRequestId) {
        self.line(origin).count += 1;
        let pooled = Pooled {
            origin: Rc::clone(origin),
            usage: Use::Request(request),
            was_used: false,
        };
        self.connections.insert(id, pooled);
    }

    pub(super) fn connection(&mut self, id: ConnId) -> Option<&mut Pooled> {
        self.connections.get_mut(&id)
    }

    /// Notes that a reserved connection gets its request now. Returns `false` for any other connection.
    pub(super) fn use_reserved(&mut self, id: ConnId, request: HttpRequestId) -> bool {
        match self.connections.get_mut(&id) {
            Some(pooled) if matches!(pooled.usage, Use::Reserved(given) if given == request) => {
                pooled.usage = Use::Request(request);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes that a connection has carried an answer and waits for a request.
    pub(super) fn set_idle(&mut self, id: ConnId) {
        let Some(pooled) = self.connections.get_mut(&id) else {
            return;
        };
        pooled.usage = Use::Idle;
        pooled.was_used = true;
        let origin = Rc::clone(&pooled.origin);
        let line = self.line(&origin);
        line.discarding.retain(|it| *it != id);
        line.idle.push(id);
    }

    /// Notes that a connection throws away the rest of an answer.
    pub(super) fn set_discarding(
        &mut self,
        id: ConnId,
        decoder: ResponseDecoder,
        kept_for: Option<Duration>,
    ) {
        let Some(pooled) = self.connections.get_mut(&id) else {
            return;
        };
        pooled.usage = Use::Discard {
            decoder: Box::new(decoder),
            kept_for,
        };
        let origin = Rc::clone(&pooled.origin);
        self.line(&origin).discarding.push(id);
    }

    /// Removes all idle connections.
    pub(super) fn take_idle(&mut self) -> Vec<ConnId> {
        let idle: Vec<_> = self
            .lines
            .values()
            .flat_map(|line| line.idle.clone())
            .collect();
        for id in &idle {
            self.remove(*id);
        }
        idle
    }

    /// Removes a connection that ends. Returns what it was used for, and whether it was used before.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Use, bool)> {
        let pooled = self.connections.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&pooled.origin) {
            line.count -= 1;
            line.idle.retain(|it| *it != id);
            line.discarding.retain(|it| *it != id);
        }
        self.drop_empty(&pooled.origin);
        Some((pooled.usage, pooled.was_used))
    }

    fn line(&mut self, origin: &Rc<Origin>) -> &mut Line {
        self.lines.entry(Rc::clone(origin)).or_default()
    }

    fn drop_empty(&mut self, origin: &Rc<Origin>) {
        let line = self.lines.get(origin);
        if line.is_some_and(|line| line.count == 0 && line.waiting.is_empty()) {
            self.lines.remove(origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(per_host_max: usize, connections_max: usize) -> Pool {
        Pool::new(&HttpClientOptions {
            connections_per_host_max: per_host_max,
            connections_max,
            waiting_requests_max: 4,
            waiting_bytes_max: 100,
            ..HttpClientOptions::default()
        })
    }

    fn origin(host: &str) -> Rc<Origin> {
        Rc::new(Origin {
            has_tls: false,
            host: host.to_owned(),
            port: 80,
        })
    }

    fn connection(number: u64) -> ConnId {
        ConnId::from_bits(number)
    }

    const REQUESTS: [HttpRequestId; 5] = [
        HttpRequestId(0),
        HttpRequestId(1),
        HttpRequestId(2),
        HttpRequestId(3),
        HttpRequestId(4),
    ];

    #[test]
    fn the_oldest_request_that_can_go_goes_first() {
        let (mut pool, a, b) = (pool(1, 2), origin("a"), origin("b"));
        for (request, origin) in REQUESTS.iter().zip([&b, &b, &a, &a]) {
            assert!(pool.wait(origin, *request, 1));
        }
        assert!(!pool.wait(&a, REQUESTS[4], 1), "four wait already");
        assert_eq!(
            pool.next_order(),
            Some(Order::Connect(REQUESTS[0], b.clone()))
        );
        pool.add(connection(1), &b, REQUESTS[0]);
        assert_eq!(
            pool.next_order(),
            Some(Order::Connect(REQUESTS[2], a.clone()))
        );
        pool.add(connection(2), &a, REQUESTS[2]);
        assert_eq!(pool.next_order(), None);
        pool.set_idle(connection(2));
        assert_eq!(
            pool.next_order(),
            Some(Order::Reuse(REQUESTS[3], connection(2)))
        );
        assert!(pool.remove(connection(1)).is_some());
        assert_eq!(pool.next_order(), Some(Order::Connect(REQUESTS[1], b)));
        assert_eq!((pool.waiting_count, pool.waiting_bytes), (0, 0));
    }

    #[test]
    fn an_idle_connection_gives_way_at_the_limit() {
        let (mut pool, a, b) = (pool(2, 1), origin("a"), origin("b"));
        pool.add(connection(1), &a, REQUESTS[0]);
        pool.set_idle(connection(1));
        assert!(pool.wait(&b, REQUESTS[1], 1));
        assert_eq!(pool.next_order(), Some(Order::Close(connection(1))));
        assert_eq!(
            pool.next_order(),
            Some(Order::Connect(REQUESTS[1], b.clone()))
        );
        pool.add(connection(2), &b, REQUESTS[1]);
        assert_eq!(
            pool.lines.len(),
            1,
            "a server without anything is forgotten"
        );
        // A request that needs a new connection does not get the one that was used.
        pool.set_idle(connection(2));
        pool.wait_again(&b, REQUESTS[2], 1, true);
        assert_eq!(pool.next_order(), Some(Order::Close(connection(2))));
        assert_eq!(pool.next_order(), Some(Order::Connect(REQUESTS[2], b)));
    }

    #[test]
    fn a_connection_that_discards_gives_way_at_each_limit() {
        for (per_host_max, connections_max) in [(1, 9), (9, 1)] {
            let (mut it, a) = (pool(per_host_max, connections_max), origin("a"));
            it.add(connection(1), &a, REQUESTS[0]);
            it.set_discarding(connection(1), ResponseDecoder::new(false, 9), None);
            it.wait_again(&a, REQUESTS[0], 1, false);
            assert_eq!(it.next_order(), Some(Order::Abort(connection(1))));
            assert_eq!(it.next_order(), Some(Order::Connect(REQUESTS[0], a)));
        }
        // When all of it has come, it is a connection as any other.
        let (mut it, a) = (pool(1, 1), origin("a"));
        it.add(connection(1), &a, REQUESTS[0]);
        it.set_discarding(connection(1), ResponseDecoder::new(false, 9), None);
        it.set_idle(connection(1));
        it.wait_again(&a, REQUESTS[0], 1, false);
        let reuse = Order::Reuse(REQUESTS[0], connection(1));
        assert_eq!(it.next_order(), Some(reuse));
        assert_eq!(it.next_order(), None);
        // With room, the discarding goes on.
        let (mut it, a) = (pool(2, 2), origin("a"));
        it.add(connection(1), &a, REQUESTS[0]);
        it.set_discarding(connection(1), ResponseDecoder::new(false, 9), None);
        it.wait_again(&a, REQUESTS[0], 1, false);
        assert_eq!(it.next_order(), Some(Order::Connect(REQUESTS[0], a)));
    }

    #[test]
    fn bytes_that_wait_are_limited_and_forgotten() {
        let (mut pool, a) = (pool(1, 1), origin("a"));
        assert!(!pool.wait(&a, REQUESTS[0], 101));
        assert!(pool.wait(&a, REQUESTS[0], 60));
        assert!(!pool.wait(&a, REQUESTS[1], 60));
        pool.forget(&a, REQUESTS[0]);
        pool.forget(&a, REQUESTS[0]);
        assert!(pool.lines.is_empty());
        assert!(pool.wait(&a, REQUESTS[1], 60));
        assert!(!pool.wait(&a, REQUESTS[2], usize::MAX));
    }
}
