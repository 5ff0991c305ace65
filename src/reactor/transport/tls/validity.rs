//! The time for which a certificate is valid, by the verifier of rustls: a parser of ours for X.509
//! would read what strangers write.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

/// Seconds from 1970 to a moment after the end of every certificate, which is at most in the year
/// 9999. Source: RFC 5280, section 4.1.2.5.
const AFTER_ALL_SECONDS: u64 = 1 << 40;

/// Why a certificate is not valid at a moment, or when that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    /// Until so many seconds since 1970; `None` when that cannot be found out.
    Until(Option<u64>),
    /// It has expired at so many seconds since 1970.
    Expired(u64),
    /// It begins at so many seconds since 1970.
    NotYet(u64),
}

/// Whether a certificate is valid at `now`. Its issuer and its names are not looked at.
///
/// # Errors
///
/// When the bytes are not a certificate.
pub(super) fn validity(
    provider: &Arc<CryptoProvider>,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<Validity, Error> {
    // The verifier needs an authority, and the validity is judged before the issuer is looked for.
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned())?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let Ok(verifier) = verifier else {
        return Ok(Validity::Until(None));
    };
    let name = ServerName::try_from("localhost").map_err(|_| Error::UnsupportedNameType)?;
    let error_at = |time| {
        verifier
            .verify_server_cert(certificate, &[], &name, &[], time)
            .err()
    };
    match error_at(now) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            return Ok(Validity::Expired(not_after.as_secs()));
        }
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        })) => return Ok(Validity::NotYet(not_before.as_secs())),
        _ => {}
    }
    let after_all = UnixTime::since_unix_epoch(Duration::from_secs(AFTER_ALL_SECONDS));
    Ok(Validity::Until(match error_at(after_all) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after.as_secs())
        }
        _ => None,
    }))
}
