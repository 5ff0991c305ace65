//! What the loop counts.

use std::time::Duration;

/// Counters since the start of the reactor, and the histogram of how long it was busy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by us.
    pub connected: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes the kernel took.
    pub sent_bytes: u64,
    /// WebSocket messages received.
    pub messages: u64,
    /// HTTP requests handled.
    pub requests: u64,
    /// Publications.
    pub publications: u64,
    /// Publications accepted into the queues of members.
    pub deliveries: u64,
    /// Messages dropped by a policy.
    pub dropped: u64,
    /// Connections closed because they did not read.
    pub slow_consumers: u64,
    /// Panics caught in callbacks.
    pub panics: u64,
    /// Callbacks that took longer than `slow_callback`.
    pub slow_callbacks: u64,
    /// TLS handshakes that arrived on a port without TLS.
    pub tls_on_plain_port: u64,
    /// Headers of the PROXY protocol, which no port here reads.
    pub proxy_headers: u64,
    /// Times accepting paused for lack of descriptors or room.
    pub accept_pauses: u64,
    /// How long each turn was busy between two polls.
    pub lag: Histogram,
}

/// The longest duration of a bucket.
fn bound(bucket: usize) -> Duration {
    Duration::from_nanos((1u64 << (10 + bucket)) - 1)
}

/// Durations by powers of two of 1024 ns; constant size, no allocation.
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

    /// The longest one.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// A bound that at least the share `quantile` (0.0 to 1.0) of all durations does not exceed;
    /// right within a factor of two. Zero when nothing was recorded.
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

    /// The buckets that hold something: upper bound and count.
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
