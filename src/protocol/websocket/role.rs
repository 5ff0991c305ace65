//! Which end of a connection this is: it decides who masks.
//!
//! Source: RFC 6455, section 5.1.

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames come in masked and go out unmasked.
    Server,
    /// Frames come in unmasked and go out masked.
    Client,
}
