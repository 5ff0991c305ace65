//! The plain grammar: each text message is a topic or a pattern to subscribe to.
//!
//! It needs no library, so `wscat` and ten lines of any language can use it. It has no message for an error, so
//! an error closes the connection and is the reason in the close frame.

use crate::hub::client::{Client, Refusal};
use crate::hub::guesses::POLICY_VIOLATION;

pub(super) fn on_text<S: 'static>(client: &mut Client<'_, '_, S>, name: &str) {
    match client.subscribe(name) {
        Ok(()) => client.announce(name),
        Err(Refusal::NeedsToken) => {
            client.close_with(POLICY_VIOLATION, "a pattern needs a token: /ws?token=TOKEN")
        }
        Err(refusal) => client.close_with(POLICY_VIOLATION, &refusal.to_string()),
    }
}
