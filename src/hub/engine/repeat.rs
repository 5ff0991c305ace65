//! Publishing with a key, so that a repeat of the same request publishes nothing twice.

use crate::reactor::published::Published;

/// The key of a request, with the credential to which it belongs.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "only the engine of Redis reads it")
)]
pub struct RequestKey<'k> {
    pub credential: Option<&'k str>,
    pub key: &'k [u8],
}

/// The outcome of one publication of a request that has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedOnce {
    pub published: Published,
    /// It was published by an earlier request with this key, and not again.
    pub is_repeat: bool,
}

impl PublishedOnce {
    /// The outcome of a publication that is new.
    pub fn new(published: Published) -> PublishedOnce {
        PublishedOnce {
            published,
            is_repeat: false,
        }
    }
}
