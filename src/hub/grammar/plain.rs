//! The plain grammar: each text message is a topic or a pattern to subscribe to.
//!
//! It needs no library, so `wscat` and ten lines of any language can use it. It has no message for an error, so
//! an error closes the connection and is the reason in the close frame.

use crate::hub::client::Client;
use crate::hub::guesses::POLICY_VIOLATION;
use crate::hub::identities::EndReason;
use crate::hub::refusal::Refusal;
use crate::pubsub::pattern;
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

/// The close code for a client whose token has ended: 401 among the codes of applications.
const EXPIRED: u16 = 4401;

pub(super) fn on_text<S: 'static>(client: &mut Client<'_, '_, S>, name: &str) {
    match client.subscribe(name) {
        Ok(()) => {}
        Err(Refusal::NeedsToken) => {
            let what = match pattern::is_pattern(name) {
                true => "a pattern needs a token: /ws?token=TOKEN",
                false => "this topic needs a token: /ws?token=TOKEN",
            };
            client.close_with(POLICY_VIOLATION, what);
        }
        Err(refusal) => client.close_with(POLICY_VIOLATION, &refusal.to_string()),
    }
}

/// A subscription that ends in silence would look like a topic without messages, so the socket ends.
pub(super) fn on_end<S: 'static>(
    reactor: &mut Reactor<S>,
    id: ConnId,
    _: &[String],
    reason: EndReason,
) {
    match reason {
        EndReason::Expired => reactor.close_with(id, EXPIRED, "the token has expired"),
        EndReason::Forced => {
            reactor.close_with(id, POLICY_VIOLATION, "unsubscribed by the back end")
        }
    };
}
