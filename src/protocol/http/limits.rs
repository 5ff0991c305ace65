//! The limits of heads and bodies, below the parsers that hold a peer to them.

/// How much of HTTP a peer may send before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, in bytes, with its request line and its empty line. The status above it is 431.
    /// 16 KiB by default.
    pub head_bytes_max: usize,
    /// Most header lines in a head, at most [`HEADER_LINES_MAX`](super::HEADER_LINES_MAX). The status
    /// above it is 431. 100 by default.
    pub header_lines_max: usize,
    /// Longest request target, in bytes. RFC 9110 recommends to support 8000. The status above it
    /// is 414. 8 KiB by default.
    pub target_bytes_max: usize,
    /// Longest body that is collected, in bytes. The status above it is 413. 1 MiB by default.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 16 * 1024,
            header_lines_max: 100,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 1024 * 1024,
        }
    }
}
