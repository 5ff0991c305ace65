//! The parts that all roles of one hub use on a reactor.

use crate::pubsub::{PRESENCE_USERS_MAX, Rules};
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

use super::engine::Engine;
use super::guesses::SharedGuesses;
use super::identities::Identities;
use super::pending::Pending;

/// The rules of a hub and the limit of its history.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The rules of topics. By default each topic has [`Rule::default`](crate::hub::Rule).
    pub rules: Rules,
    /// Limit of the memory of the history of all topics together, in bytes, about. 64 MiB by default; in a
    /// group for all reactors together. At 0 nothing is kept, and a client that comes back is told of a gap.
    pub history_bytes_max: usize,
    /// How many users of a topic with presence are listed; with more they are counted. 1,000 by default.
    pub presence_users_max: usize,
    /// The apps of Pusher Channels; by default there are none.
    #[cfg(feature = "pusher")]
    pub pusher_apps: Vec<super::pusher::app::PusherApp>,
    /// ActionCable, at `/cable`. `None` by default: then the path is not served.
    #[cfg(feature = "cable")]
    pub cable: Option<super::cable::CableOptions>,
    /// The Mercure hub; by default there is none. Of several hubs on one reactor one may have it.
    #[cfg(feature = "mercure")]
    pub mercure: Option<super::mercure::options::MercureOptions>,
    /// The TLS of the listeners: `/metrics` shows when its certificates end. `None` by default.
    #[cfg(feature = "tls")]
    pub tls: Option<ServerTls>,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            rules: Rules::new(),
            history_bytes_max: 64 * 1024 * 1024,
            presence_users_max: PRESENCE_USERS_MAX,
            #[cfg(feature = "pusher")]
            pusher_apps: Vec::new(),
            #[cfg(feature = "cable")]
            cable: None,
            #[cfg(feature = "mercure")]
            mercure: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// The parts of a hub that its roles share.
pub(super) struct Parts<S: 'static> {
    pub(super) engine: Engine<S>,
    pub(super) options: HubOptions,
    pub(super) guesses: SharedGuesses,
    /// The clients that have shown a token.
    pub(super) identities: Identities<S>,
    /// Names that are subscribed to when their replay has ended.
    pub(super) pending: Pending,
    #[cfg(feature = "pusher")]
    pub(super) pusher: super::pusher::state::Pusher<S>,
    #[cfg(feature = "cable")]
    pub(super) cable: Option<std::rc::Rc<super::cable::state::Cable<S>>>,
    #[cfg(feature = "mercure")]
    pub(super) mercure: super::mercure::state::Mercure,
}
