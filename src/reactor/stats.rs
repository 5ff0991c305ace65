//! The counters of the loop.

use std::collections::BTreeMap;
use std::time::Duration;

use super::close::CloseCause;
use super::close_counts::CloseCounts;
#[cfg(feature = "deflate")]
use crate::protocol::websocket::deflate;

/// Counters since the start of the reactor, and a histogram of the time that its turns were busy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that this reactor made to others.
    pub connected: u64,
    /// Connections that have ended: their `on_close` was called.
    pub closed: u64,
    /// Bytes that were read from sockets.
    pub received_bytes: u64,
    /// Bytes that the kernel took.
    pub sent_bytes: u64,
    /// WebSocket messages received.
    pub messages: u64,
    /// Messages that [`send`](crate::Reactor::send) and its like accepted into a queue: WebSocket messages, events
    /// of a stream, pieces of a body. Publications count in `deliveries`.
    pub sent_messages: u64,
    /// HTTP requests handled.
    pub requests: u64,
    /// Publications that got their id here.
    pub publications: u64,
    /// Publications accepted into the queues of members: one for each member.
    pub deliveries: u64,
    /// Messages that an [`Overflow`](crate::Overflow) policy dropped.
    pub dropped: u64,
    /// The part of `dropped` that the policy [`DropOldest`](crate::Overflow::DropOldest) dropped.
    pub dropped_oldest: u64,
    /// The part of `dropped` that the policy [`LatestPerKey`](crate::Overflow::LatestPerKey) dropped.
    pub dropped_latest: u64,
    /// Connections closed as slow consumers.
    pub slow_consumers: u64,
    /// Connections that ended because all together held more than
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max).
    pub memory_ends: u64,
    /// How often reading paused because a peer had sent more messages than
    /// [`messages_per_second_max`](crate::ConnectionOptions::messages_per_second_max).
    pub rate_pauses: u64,
    /// WebSocket messages and publications that were compressed here. A publication that many members share is one.
    pub deflated_messages: u64,
    /// The bytes that compressing those has saved.
    pub deflate_saved_bytes: u64,
    /// Compressed WebSocket messages received.
    pub inflated_messages: u64,
    /// How often accepting paused because memory was short. `accept_pauses` counts these too.
    pub memory_pauses: u64,
    /// Panics caught in callbacks, and in `Drop` of values that they captured.
    pub panics: u64,
    /// Errors that callbacks returned, without those that were the answer to a request.
    pub callback_errors: u64,
    /// Callbacks that took longer than `slow_callback`.
    pub slow_callbacks: u64,
    /// Operations that [`Reactor::defer`](crate::Reactor::defer) has taken.
    pub deferred: u64,
    /// Operations that it has refused, because [`deferred_max`](crate::Config::deferred_max) were under way.
    pub deferred_refusals: u64,
    /// Files that were not sent, because [`open_files_max`](crate::Config::open_files_max) were kept open, the operations
    /// of [`defer`](crate::Reactor::defer) had no place, or the system was out of descriptors: 503.
    pub file_refusals: u64,
    /// Connections that ended before the announced length of a file, because it became shorter or could not be read.
    pub files_cut: u64,
    /// Child processes that were started.
    pub processes: u64,
    /// UDP datagrams received, without those longer than
    /// [`datagram_bytes_max`](crate::UdpCallbacks::datagram_bytes_max).
    pub datagrams_received: u64,
    /// UDP datagrams that the kernel took.
    pub datagrams_sent: u64,
    /// UDP datagrams that were not sent, because the queue of their socket was full.
    pub datagrams_dropped: u64,
    /// Connections and requests that were refused, over HTTP with 429, because their address has too many
    /// connections.
    pub address_refusals: u64,
    /// How connections ended, by close code and cause.
    pub closes: CloseCounts,
    /// WebSocket handshakes that were answered with another status than 101.
    pub refused_handshakes: RefusedHandshakes,
    /// Clients of a hub that came back with a cursor and have missed no message: event streams, and commands to
    /// subscribe.
    pub resumes: u64,
    /// Clients of a hub that came back with a cursor and were told that they may have missed messages.
    pub resumes_with_gap: u64,
    /// Wrong tokens that clients gave to a hub.
    pub wrong_tokens: u64,
    /// TLS handshakes that arrived on a port without TLS.
    pub tls_on_plain_port: u64,
    /// TLS handshakes that were done, in either role, without the resumed ones.
    pub tls_handshakes: u64,
    /// TLS handshakes that have resumed an earlier session.
    pub tls_resumptions: u64,
    /// TLS handshakes that have failed, by reason.
    pub tls_failures: TlsFailures,
    /// Connections that began with a header of the PROXY protocol, on a listener that does not read it.
    pub proxy_headers: u64,
    /// Connections that did not begin with a header of the PROXY protocol, on a listener that requires it.
    pub proxy_header_errors: u64,
    /// How often accepting paused because all clients together made as many connections in a second as
    /// [`handshakes_per_second_total_max`](crate::Config::handshakes_per_second_total_max) allows.
    pub handshake_pauses: u64,
    /// How often accepting paused: at `connections_max` or another limit, for lack of file descriptors or
    /// memory, or because every attempt failed.
    pub accept_pauses: u64,
    /// How long each turn was busy before and after its poll, without the wait of the poll: the
    /// time that a new event had to wait at most.
    pub lag: Histogram,
    /// How long each call of callbacks took. All messages of one read are one call.
    pub callbacks: Histogram,
}

impl Stats {
    /// Adds the messages that were compressed and inflated on this thread since this was last called.
    #[cfg(feature = "deflate")]
    pub(crate) fn count_deflate(&mut self) {
        let counts = deflate::take_counts();
        self.deflated_messages += counts.deflated_messages;
        self.deflate_saved_bytes += counts.saved_bytes;
        self.inflated_messages += counts.inflated_messages;
    }

    /// Adds the counters of another reactor.
    pub fn add(&mut self, other: &Stats) {
        // Named one by one, so that the compiler asks for a counter that is added later.
        let Stats {
            accepted,
            connected,
            closed,
            received_bytes,
            sent_bytes,
            messages,
            sent_messages,
            requests,
            publications,
            deliveries,
            dropped,
            dropped_oldest,
            dropped_latest,
            slow_consumers,
            memory_ends,
            rate_pauses,
            deflated_messages,
            deflate_saved_bytes,
            inflated_messages,
            memory_pauses,
            panics,
            callback_errors,
            slow_callbacks,
            deferred,
            deferred_refusals,
            file_refusals,
            files_cut,
            processes,
            datagrams_received,
            datagrams_sent,
            datagrams_dropped,
            address_refusals,
            closes,
            refused_handshakes,
            resumes,
            resumes_with_gap,
            wrong_tokens,
            tls_on_plain_port,
            tls_handshakes,
            tls_resumptions,
            tls_failures,
            proxy_headers,
            proxy_header_errors,
            handshake_pauses,
            accept_pauses,
            lag,
            callbacks,
        } = other;
        self.accepted += accepted;
        self.connected += connected;
        self.closed += closed;
        self.received_bytes += received_bytes;
        self.sent_bytes += sent_bytes;
        self.messages += messages;
        self.sent_messages += sent_messages;
        self.requests += requests;
        self.publications += publications;
        self.deliveries += deliveries;
        self.dropped += dropped;
        self.dropped_oldest += dropped_oldest;
        self.dropped_latest += dropped_latest;
        self.slow_consumers += slow_consumers;
        self.memory_ends += memory_ends;
        self.rate_pauses += rate_pauses;
        self.deflated_messages += deflated_messages;
        self.deflate_saved_bytes += deflate_saved_bytes;
        self.inflated_messages += inflated_messages;
        self.memory_pauses += memory_pauses;
        self.panics += panics;
        self.callback_errors += callback_errors;
        self.slow_callbacks += slow_callbacks;
        self.deferred += deferred;
        self.deferred_refusals += deferred_refusals;
        self.file_refusals += file_refusals;
        self.files_cut += files_cut;
        self.processes += processes;
        self.datagrams_received += datagrams_received;
        self.datagrams_sent += datagrams_sent;
        self.datagrams_dropped += datagrams_dropped;
        self.address_refusals += address_refusals;
        self.closes.add(closes);
        self.refused_handshakes.add(*refused_handshakes);
        self.resumes += resumes;
        self.resumes_with_gap += resumes_with_gap;
        self.wrong_tokens += wrong_tokens;
        self.tls_on_plain_port += tls_on_plain_port;
        self.tls_handshakes += tls_handshakes;
        self.tls_resumptions += tls_resumptions;
        self.tls_failures.add(tls_failures);
        self.proxy_headers += proxy_headers;
        self.proxy_header_errors += proxy_header_errors;
        self.handshake_pauses += handshake_pauses;
        self.accept_pauses += accept_pauses;
        self.lag.add(lag);
        self.callbacks.add(callbacks);
    }
}

/// TLS handshakes that have failed, counted by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFailures(BTreeMap<&'static str, u64>);

impl TlsFailures {
    /// Counts a handshake that ended for this cause.
    pub(crate) fn record(&mut self, cause: CloseCause) {
        let reason = match cause {
            CloseCause::Tls(error) => error.name(),
            CloseCause::TimedOut(_) => "timeout",
            CloseCause::Io(_) => "connection_lost",
            _ => "other",
        };
        *self.0.entry(reason).or_default() += 1;
    }

    fn add(&mut self, other: &TlsFailures) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// Returns the reason and the count of each that has occurred: `timeout`, `connection_lost`,
    /// `other`, or the name of a [`TlsError`](crate::TlsError) such as `unknown_issuer`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

/// WebSocket handshakes that were refused, by what the answer was about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedHandshakes {
    /// The page has another origin, which is not allowed: 403.
    pub origin: u64,
    /// Not a valid handshake, or for another version: 400 or 426.
    pub malformed: u64,
    /// A token is missing or wrong: 401.
    pub unauthorized: u64,
    /// Not allowed, such as a host that is not served: 403.
    pub forbidden: u64,
    /// No WebSocket has this path: 404 or 405.
    pub not_found: u64,
    /// There is no room, or the server drains: 429 or 503.
    pub unavailable: u64,
    /// Any other status.
    pub other: u64,
}

impl RefusedHandshakes {
    /// Counts a handshake that was answered with this status.
    pub(crate) fn record(&mut self, status: u16) {
        let count = match status {
            400 | 426 => &mut self.malformed,
            401 => &mut self.unauthorized,
            403 => &mut self.forbidden,
            404 | 405 => &mut self.not_found,
            429 | 503 => &mut self.unavailable,
            _ => &mut self.other,
        };
        *count += 1;
    }

    fn add(&mut self, other: RefusedHandshakes) {
        self.origin += other.origin;
        self.malformed += other.malformed;
        self.unauthorized += other.unauthorized;
        self.forbidden += other.forbidden;
        self.not_found += other.not_found;
        self.unavailable += other.unavailable;
        self.other += other.other;
    }
}

/// The connections of a reactor, by what they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Connections that speak HTTP, with a request or between two.
    pub http: usize,
    /// WebSockets, as server or client.
    pub websocket: usize,
    /// Event streams.
    pub event_stream: usize,
    /// Raw streams.
    pub stream: usize,
    /// Connections that are not open yet, such as clients that wait for the answer to their handshake.
    pub handshake: usize,
    /// Connections that have ended and wait for the peer's end.
    pub lingering: usize,
}

/// The things that a reactor holds at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gauges {
    /// Connections by their kind.
    pub connections: ConnectionCounts,
    /// The memory of everything that is queued for connections, in bytes. A publication that stands in many
    /// queues counts once, and 64 bytes for each message.
    pub queued_bytes: usize,
    /// Topics with members.
    pub topics: usize,
    /// Subscriptions of all connections, to topics and patterns.
    pub subscriptions: usize,
}

impl Gauges {
    /// Adds what another reactor holds. A topic with members on both counts twice.
    pub fn add(&mut self, other: &Gauges) {
        let connections = &mut self.connections;
        connections.http += other.connections.http;
        connections.websocket += other.connections.websocket;
        connections.event_stream += other.connections.event_stream;
        connections.stream += other.connections.stream;
        connections.handshake += other.connections.handshake;
        connections.lingering += other.connections.lingering;
        self.queued_bytes += other.queued_bytes;
        self.topics += other.topics;
        self.subscriptions += other.subscriptions;
    }
}

/// The longest duration of a bucket.
fn bound(bucket: usize) -> Duration {
    Duration::from_nanos((1u64 << (10 + bucket)) - 1)
}

/// Counts durations in 32 buckets by powers of two, from 1 µs on. Constant size, no allocation.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; 32],
    max_nanos: u64,
    sum_nanos: u64,
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        let bucket = (u64::BITS - (nanos >> 10).leading_zeros()).min(31) as usize;
        self.counts[bucket] += 1;
        self.max_nanos = self.max_nanos.max(nanos);
        // Wraps after 584 years of work.
        self.sum_nanos = self.sum_nanos.wrapping_add(nanos);
    }

    fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest duration.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// Returns a duration that the share `quantile` (0.0 to 1.0) of all durations does not exceed.
    /// It is at most twice too long. Zero when no duration was recorded.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if wanted <= seen && seen != 0 {
                return bound(bucket).min(self.max());
            }
        }
        self.max()
    }

    /// Returns the upper bound of each of the 32 buckets and how many durations it holds together with those
    /// before it. The last bucket holds the longer ones too.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counts = self.counts.iter().enumerate();
        counts.scan(0, |seen, (bucket, count)| {
            *seen += count;
            Some((bound(bucket), *seen))
        })
    }

    /// Returns the upper bound and the count of each bucket that is not empty, in ascending order.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(|(bucket, count)| (bound(bucket), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_factor_of_two() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for micros in 1..=1000 {
            histogram.record(micros * 1000);
        }
        let median = histogram.quantile(0.5).as_micros();
        assert!((500..=1000).contains(&median), "{median}");
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(1000));
        assert_eq!(
            (histogram.count(), histogram.max()),
            (1000, Duration::from_micros(1000))
        );
        histogram.record(100_000_000_000_000);
        assert_eq!(histogram.count(), 1001);
    }
}
