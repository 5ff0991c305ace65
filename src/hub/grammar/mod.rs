//! The grammars that clients speak on a WebSocket, a file each.
//!
//! [`Grammar`] has a variant for each and asks its file. Every `match` here is exhaustive, so the
//! compiler names the places that a new grammar must fill in.

mod commands;
pub(super) mod envelope;
pub(super) mod notices;
mod plain;

use std::io;

use crate::pubsub::WireFormat;
use crate::reactor::reactor::Reactor;

use super::client::Client;
use super::identities::OnEnd;

/// The grammar of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Each text message is a name to subscribe to; the data of a publication arrives as one message.
    #[default]
    Plain,
    /// JSON objects both ways.
    Envelope,
}

impl Grammar {
    /// The grammar of a connection on a route that has `grammars`, given the subprotocol that was
    /// agreed on. `None` when the route needs a subprotocol and none was agreed on.
    pub(super) fn of(grammars: &[Grammar], subprotocol: Option<&str>) -> Option<Grammar> {
        let mut grammars = grammars.iter().copied();
        grammars.find(|grammar| grammar.subprotocol() == subprotocol)
    }

    /// The subprotocol by which a client asks for this grammar. `None`: it asks for none.
    pub(super) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Grammar::Plain => None,
            Grammar::Envelope => Some(envelope::SUBPROTOCOL),
        }
    }

    /// How publications are put on the wire for a member that speaks this grammar. `None`: as a
    /// WebSocket message with the data alone.
    ///
    /// # Errors
    ///
    /// When there is no room for another wire format.
    pub(super) fn wire_format<S: 'static>(
        self,
        reactor: &mut Reactor<S>,
    ) -> io::Result<Option<WireFormat>> {
        match self {
            Grammar::Plain => Ok(None),
            Grammar::Envelope => {
                let wire_format = reactor
                    .register_wire_format_with_values(envelope::SUBPROTOCOL, envelope::encode)?;
                reactor.set_notice_encoder_of(wire_format, notices::has, notices::encode);
                Ok(Some(wire_format))
            }
        }
    }

    /// Greets the client after the handshake, in a grammar in which the server speaks first.
    pub(super) fn on_open<S: 'static>(self, _client: &mut Client<'_, '_, S>) {
        match self {
            Grammar::Plain | Grammar::Envelope => {}
        }
    }

    /// How a client is told that its token has ended.
    pub(super) fn on_end<S: 'static>(self) -> OnEnd<S> {
        match self {
            Grammar::Plain => plain::on_end,
            Grammar::Envelope => envelope::on_end,
        }
    }

    /// Handles a text message.
    pub(super) fn on_text<S: 'static>(self, client: &mut Client<'_, '_, S>, text: &str) {
        match self {
            Grammar::Plain => plain::on_text(client, text),
            Grammar::Envelope => envelope::on_text(client, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agreed_subprotocol_decides_the_grammar() {
        let envelope = Some(envelope::SUBPROTOCOL);
        let both: &[Grammar] = &[Grammar::Envelope, Grammar::Plain];
        let cases: [(&[Grammar], Option<&str>, Option<Grammar>); 5] = [
            (both, envelope, Some(Grammar::Envelope)),
            (both, None, Some(Grammar::Plain)),
            (both, Some("chat"), None),
            (&[Grammar::Envelope], None, None),
            (&[Grammar::Plain], None, Some(Grammar::Plain)),
        ];
        for (grammars, agreed, expected) in cases {
            let grammar = Grammar::of(grammars, agreed);
            assert_eq!(grammar, expected, "{grammars:?} with {agreed:?}");
        }
    }
}
