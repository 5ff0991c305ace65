//! The ids of requests.

use crate::reactor::outcome::{Outcome, Sealed};

/// Names a request of one client, to cancel it, or to pause its answer. Stale when the request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpRequestId(pub(super) u64);

impl Sealed for HttpRequestId {}
impl Outcome for HttpRequestId {}
