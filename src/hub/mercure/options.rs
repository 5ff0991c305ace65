//! The options of a Mercure hub.

use crate::hub::secrets::TokenSecrets;

use super::listed::Listed;

/// The keys and the options of a Mercure hub. A clone shares the keys, and the list of subscriptions: the reactors of a group
/// have clones. By default there are no keys, so that no request is served.
#[derive(Clone, Debug, Default)]
pub struct MercureOptions {
    /// The keys by which tokens of publishers are signed, by HS256, HS384 or HS512.
    pub publisher_secrets: TokenSecrets,
    /// As [`publisher_secrets`](Self::publisher_secrets), for subscribers.
    pub subscriber_secrets: TokenSecrets,
    /// Subscribers without a token get what is not private.
    pub is_anonymous: bool,
    /// Subscriptions are listed, and there is a private update for each that begins or ends.
    pub has_subscriptions: bool,
    listed: Listed,
}

impl MercureOptions {
    pub(super) fn listed(&self) -> &Listed {
        &self.listed
    }
}
