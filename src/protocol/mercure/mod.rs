//! The Mercure protocol as names, selectors and documents: no socket and no clock.
//!
//! ```text
//!   update         the form of a publication
//!   selector       which topics a subscriber or a token selects
//!   topic          which texts can be topics, and which are the hub's own
//!   subscription   documents about active subscriptions
//! ```
//!
//! Source: draft-dunglas-mercure-07, and draft-dunglas-mercure-08 where it says so.

pub mod selector;
pub mod subscription;
pub mod topic;
pub mod update;

/// The path of a hub.
pub const PATH: &str = "/.well-known/mercure";

/// The id that stands for the begin of the history.
pub const EARLIEST: &str = "earliest";

/// The header `Link` by which subscribers find the hub. Source: draft-dunglas-mercure-07, section 3; RFC 8288.
pub const LINK: &str = "</.well-known/mercure>; rel=\"mercure\"";
