//! Tokens that may be replaced while the hub runs, for an operator who changes them without a restart.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Tokens, each of which is accepted. A clone shares them, also with another thread. Empty by
/// default.
#[derive(Clone, Default)]
pub struct Tokens(Arc<RwLock<Vec<String>>>);

/// Says how many there are, and not which.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|tokens| write!(f, "Tokens({})", tokens.len()))
    }
}

impl Tokens {
    /// Makes a set of these tokens.
    pub fn new(tokens: Vec<String>) -> Tokens {
        Tokens(Arc::new(RwLock::new(tokens)))
    }

    /// Replaces all tokens, for all clones. A connection that has shown an old one keeps its rights.
    pub fn replace(&self, tokens: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.read(<[String]>::is_empty)
    }

    /// Whether a token is one of them.
    pub(super) fn contain(&self, given: &str) -> bool {
        // All are compared, so that the time does not depend on which one it is.
        self.read(|tokens| {
            tokens.iter().fold(false, |is_found, expected| {
                is_found | equal_in_constant_time(expected, given)
            })
        })
    }

    fn read<R>(&self, look: impl FnOnce(&[String]) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

// The time this takes depends on the length of the expected token only, so that a token cannot be
// guessed byte by byte.
pub(super) fn equal_in_constant_time(expected: &str, given: &str) -> bool {
    let (expected, given) = (expected.as_bytes(), given.as_bytes());
    let mut difference = expected.len() ^ given.len();
    for (index, byte) in expected.iter().enumerate() {
        difference |= usize::from(byte ^ given.get(index).copied().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_tokens_hold_for_all_clones() {
        let tokens = Tokens::new(vec!["old".into(), "older".into()]);
        let clone = tokens.clone();
        assert!(clone.contain("old") && clone.contain("older") && !clone.contain("new"));
        tokens.replace(vec!["new".into()]);
        assert!(clone.contain("new") && !clone.contain("old") && !clone.contain(""));
        assert!(!clone.is_empty() && Tokens::default().is_empty());
        assert_eq!(format!("{clone:?}"), "Tokens(1)");
    }
}
