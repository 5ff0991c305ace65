//! The secrets of JSON Web Tokens, which may be replaced while the hub runs.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::jwt::{self, Claims, SECRET_BYTES_MIN, TokenError};

/// Secrets, each of which may have signed a JSON Web Token. A clone shares them, also with another
/// thread. Empty by default, so that no token is accepted.
///
/// To change a secret, accept the old one and the new one for as long as tokens of the old one are valid.
#[derive(Clone, Default)]
pub struct TokenSecrets(Arc<RwLock<Vec<Box<[u8]>>>>);

/// Says how many there are, and not which.
impl fmt::Debug for TokenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|secrets| write!(f, "TokenSecrets({})", secrets.len()))
    }
}

/// A secret of tokens has fewer than 32 bytes, so that it could be found by trying.
///
/// Source: RFC 7518, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShortSecret {
    /// Its length, in bytes.
    pub bytes: usize,
}

impl fmt::Display for ShortSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShortSecret { bytes } = self;
        write!(
            f,
            "a secret of tokens needs at least {SECRET_BYTES_MIN} bytes and has {bytes}"
        )
    }
}

impl Error for ShortSecret {}

impl TokenSecrets {
    /// Makes a set of these secrets. They are taken as they are, as most libraries for tokens do: a secret that
    /// is written in base64 is not decoded.
    ///
    /// # Errors
    ///
    /// When one of them has fewer than 32 bytes.
    pub fn new(secrets: Vec<String>) -> Result<TokenSecrets, ShortSecret> {
        let all = TokenSecrets::default();
        all.replace(secrets)?;
        Ok(all)
    }

    /// Replaces all secrets, for all clones. A connection whose token was signed with an old one keeps its
    /// rights until the token ends.
    ///
    /// # Errors
    ///
    /// When one of them has fewer than 32 bytes. Then the secrets stay as they were.
    pub fn replace(&self, secrets: Vec<String>) -> Result<(), ShortSecret> {
        let lengths = secrets.iter().map(String::len);
        if let Some(bytes) = lengths.min().filter(|bytes| *bytes < SECRET_BYTES_MIN) {
            return Err(ShortSecret { bytes });
        }
        let secrets = secrets.into_iter().map(|it| it.into_bytes().into());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets.collect();
        Ok(())
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.read(<[_]>::is_empty)
    }

    /// The claims of a token that one of the secrets has signed.
    ///
    /// # Errors
    ///
    /// As [`jwt::verify`].
    pub(super) fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, TokenError> {
        self.read(|secrets| jwt::verify(token, secrets, now_unix))
    }

    /// A token of another protocol that one of the secrets has signed.
    ///
    /// # Errors
    ///
    /// As [`jwt::verify`].
    #[cfg(any(feature = "cable", feature = "mercure"))]
    pub(super) fn verify_foreign(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<jwt::Foreign, TokenError> {
        self.read(|secrets| jwt::verify_foreign(token, secrets, now_unix))
    }

    fn read<R>(&self, look: impl FnOnce(&[Box<[u8]>]) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_secrets_hold_for_all_clones() {
        let good = include_str!("../../tests/hub/tokens/good.txt");
        let (_, token) = good.lines().next().unwrap().split_once('\t').unwrap();
        let right = || "the first secret of the tests, 40 bytes.".to_owned();
        let other = || "another secret, which has not signed it".to_owned();
        let secrets = TokenSecrets::new(vec![other(), right()]).unwrap();
        let clone = secrets.clone();
        assert!(clone.verify(token, 1_000_000_000).is_ok());
        assert_eq!(format!("{clone:?}"), "TokenSecrets(2)");
        let short = vec![right(), "31 bytes, one fewer than needed".into()];
        assert_eq!(secrets.replace(short), Err(ShortSecret { bytes: 31 }));
        assert!(clone.verify(token, 1_000_000_000).is_ok());
        secrets.replace(vec![other()]).unwrap();
        let refused = clone.verify(token, 1_000_000_000);
        assert_eq!(refused, Err(TokenError::Signature));
        assert!(!clone.is_empty() && TokenSecrets::default().is_empty());
        assert!(TokenSecrets::new(Vec::new()).is_ok_and(|none| none.is_empty()));
    }
}
