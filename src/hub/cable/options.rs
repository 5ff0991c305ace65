//! The options of ActionCable: keys under which streams, tokens and broadcasts are signed.

use std::fmt;

use super::hook::CableHook;

/// The options of a hub for ActionCable, at `/cable`.
///
/// Each list of keys may have several, so that a key can be replaced: what one of them has signed is accepted.
#[derive(Clone, Default)]
pub struct CableOptions {
    /// The `secret_key_base` of Rails. The keys of Turbo and CableReady are derived from it; names of streams for
    /// `$pubsub` and tokens are signed with itself, and so are broadcasts over HTTP.
    pub secrets: Vec<String>,
    /// Keys that sign the names of streams for Turbo, where the application has set its own.
    pub turbo_keys: Vec<String>,
    /// Keys that sign the names of streams for `$pubsub` and for CableReady.
    pub streams_keys: Vec<String>,
    /// Tokens with which a backend may broadcast by `POST /_broadcast`.
    pub broadcast_keys: Vec<String>,
    /// Whether clients may subscribe by plain names to streams that are not private. `false` by default. Streams
    /// that no rule names are then not private.
    pub is_open: bool,
    /// The application whose channels clients may subscribe to. `None` by default: then there are none.
    pub hook: Option<CableHook>,
}

/// Says how many keys there are, and not which.
impl fmt::Debug for CableOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CableOptions")
            .field("secrets", &self.secrets.len())
            .field("turbo_keys", &self.turbo_keys.len())
            .field("streams_keys", &self.streams_keys.len())
            .field("broadcast_keys", &self.broadcast_keys.len())
            .field("is_open", &self.is_open)
            .field("hook", &self.hook)
            .finish()
    }
}
