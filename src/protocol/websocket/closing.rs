//! The rules of the closing handshake, for the callers of a [`Machine`](super::Machine).
//!
//! | the input ended with | reply | code for the application | clean | lingers |
//! |---|---|---|---|---|
//! | the peer's close, before ours was sent | its code, or none | its code, or 1005 | yes | a client |
//! | the peer's close, after ours was sent | none | its code, or 1005 | yes | a client |
//! | the end of the stream, without a close | none | 1006 | no | no |
//! | bytes that are not WebSocket | the error's code | the error's code | no | yes |
//!
//! To linger is to wait, for a bounded time, until the peer ends the stream. After a clean close
//! the server ends it first: the kernel of that end keeps the connection in TIME_WAIT, which costs
//! a server no port, but would keep a client from connecting again from the same port. After an
//! error more bytes of the peer may be on their way, and closing the socket over unread bytes would
//! reset the connection before the peer has read the close frame.
//!
//! Source: RFC 6455, sections 5.5.1, 7.1.1, 7.1.4 and 7.1.5.

use super::control::CloseCode;
use super::error::Error;
use super::role::Role;

/// How a WebSocket ended: the result for the application, and what is to be done with the stream.
///
/// An application that closed first knows the code it gave; the one here is the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The peer's code, 1005 where its close had none, 1006 where no close came, or the code that
    /// was sent to the peer after its error.
    pub code: u16,
    /// Whether the peer's close came.
    pub was_clean: bool,
    /// Whether to wait for the peer to end the stream. The caller bounds the time.
    pub lingers: bool,
}

impl Closing {
    /// The peer's close came, with `code` or none, to the end `role`.
    pub(super) fn by_peer(role: Role, code: Option<u16>) -> Closing {
        Closing {
            code: code.unwrap_or(CloseCode::Status.into()),
            was_clean: true,
            lingers: role == Role::Client,
        }
    }

    /// The stream ended without a close of the peer, or would if it ended now.
    pub fn without_close() -> Closing {
        Closing {
            code: CloseCode::Abnormal.into(),
            was_clean: false,
            lingers: false,
        }
    }

    /// The peer broke the protocol; a close with this code is the last frame to it.
    pub(super) fn after_error(error: &Error) -> Closing {
        Closing {
            code: error.close_code(),
            was_clean: false,
            lingers: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_cleanliness_and_lingering_of_each_end() {
        let invalid = Closing::after_error(&Error::InvalidUtf8);
        let cases = [
            (
                "server, code",
                Closing::by_peer(Role::Server, Some(4000)),
                (4000, true, false),
            ),
            (
                "server, none",
                Closing::by_peer(Role::Server, None),
                (1005, true, false),
            ),
            (
                "client",
                Closing::by_peer(Role::Client, Some(1000)),
                (1000, true, true),
            ),
            ("no close", Closing::without_close(), (1006, false, false)),
            ("error", invalid, (1007, false, true)),
        ];
        for (name, closing, expected) in cases {
            let Closing {
                code,
                was_clean,
                lingers,
            } = closing;
            assert_eq!((code, was_clean, lingers), expected, "{name}");
        }
    }
}
