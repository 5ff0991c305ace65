//! Errors of rustls as errors of ours.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

use crate::reactor::tls_error::{TlsError, TlsFailure};

/// Marks the error of a certificate that is not the pinned one.
#[derive(Debug)]
pub(super) struct PinMismatch {
    /// The fingerprint of the certificate that was shown.
    shown: String,
}

impl std::fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its SHA-256 fingerprint is {}", self.shown)
    }
}

impl std::error::Error for PinMismatch {}

impl PinMismatch {
    pub(super) fn new(shown: &[u8]) -> PinMismatch {
        let shown = shown.iter().map(|byte| format!("{byte:02x}")).collect();
        PinMismatch { shown }
    }

    pub(super) fn into_error(self) -> Error {
        let other = OtherError(std::sync::Arc::new(self));
        Error::InvalidCertificate(CertificateError::Other(other))
    }
}

/// The error of a handshake or of a record, for the connection that had it.
pub(super) fn io_error(error: &Error) -> io::Error {
    failure(kind_of(error), reason(error))
}

/// The words of rustls, in which an error of ours would stand as Rust prints it.
fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.to_string(),
        _ => error.to_string(),
    }
}

pub(super) fn failure(error: TlsError, reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, TlsFailure::new(error, reason))
}

fn kind_of(error: &Error) -> TlsError {
    match error {
        Error::InvalidCertificate(error) => certificate_error(error),
        Error::NoCertificatesPresented => TlsError::CertificateMissing,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            // A client without this extension speaks at most TLS 1.1. Source: RFC 5246, section
            // 7.4.1.4.1.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsError::ProtocolVersion,
        Error::AlertReceived(_) => TlsError::Refused,
        _ => TlsError::Protocol,
    }
}

fn certificate_error(error: &CertificateError) -> TlsError {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsError::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsError::CertificateNotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::CertificateHost
        }
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer,
        CertificateError::Other(other) if other.0.is::<PinMismatch>() => TlsError::CertificatePin,
        _ => TlsError::CertificateInvalid,
    }
}
