//! The counters of the loop.

use std::time::Duration;

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
    /// HTTP requests handled.
    pub requests: u64,
    /// Publications that got their id here.
    pub publications: u64,
    /// Publications accepted into the queues of members: one for each member.
    pub deliveries: u64,
    /// Messages that an [`Overflow`](crate::Overflow) policy dropped.
    pub dropped: u64,
    /// Connections closed as slow consumers.
    pub slow_consumers: u64,
    /// Connections that ended because all together held more than
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max).
    pub memory_ends: u64,
    /// How often reading paused because a peer had sent more messages than
    /// [`messages_per_second_max`](crate::ConnectionOptions::messages_per_second_max).
    pub rate_pauses: u64,
    /// How often accepting paused because memory was short. `accept_pauses` counts these too.
    pub memory_pauses: u64,
    /// Panics caught in callbacks, and in `Drop` of values that they captured.
    pub panics: u64,
    /// Errors that callbacks returned, without those that were the answer to a request.
    pub callback_errors: u64,
    /// Callbacks that took longer than `slow_callback`.
    pub slow_callbacks: u64,
    /// Connections and requests that were refused, over HTTP with 429, because their address has too many
    /// connections.
    pub address_refusals: u64,
    /// Wrong tokens that clients gave to a hub.
    pub wrong_tokens: u64,
    /// TLS handshakes that arrived on a port without TLS.
    pub tls_on_plain_port: u64,
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

/// The longest duration of a bucket.
fn bound(bucket: usize) -> Duration {
    Duration::from_nanos((1u64 << (10 + bucket)) - 1)
}

/// Counts durations in 32 buckets by powers of two, from 1 µs on. Constant size, no allocation.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; 32],
    max_nanos: u64,
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        let bucket = (u64::BITS - (nanos >> 10).leading_zeros()).min(31) as usize;
        self.counts[bucket] += 1;
        self.max_nanos = self.max_nanos.max(nanos);
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
