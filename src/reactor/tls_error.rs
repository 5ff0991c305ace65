//! Why a connection over TLS failed, in words that `on_close` and counters use.

use std::error::Error;
use std::fmt;

/// Why the handshake or the encryption of a connection failed. The text with the details is
/// [`Close::reason`](crate::Close::reason).
///
/// A connection has it only with the feature `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate has expired.
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    CertificateNotYetValid,
    /// The certificate is for another host.
    CertificateHost,
    /// The certificate is self-signed, or signed by an authority that is not trusted here.
    UnknownIssuer,
    /// The certificate is not the one that was pinned.
    CertificatePin,
    /// The certificate cannot be used for another reason, such as its purpose or its signature.
    CertificateInvalid,
    /// The client has shown no certificate, and this server requires one.
    CertificateMissing,
    /// The sides have no version of TLS in common; 1.2 and 1.3 are spoken here.
    ProtocolVersion,
    /// The peer has refused the handshake or ended the connection, with an alert.
    Refused,
    /// A plain HTTP request came to a port that speaks TLS. It was answered with 400.
    PlainHttp,
    /// The bytes are not TLS, or break its rules.
    Protocol,
    /// The handshake is longer than it may be.
    HandshakeTooLong,
}

impl TlsError {
    /// A word for counters and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TlsError::CertificateExpired => "certificate_expired",
            TlsError::CertificateNotYetValid => "certificate_not_yet_valid",
            TlsError::CertificateHost => "certificate_host",
            TlsError::UnknownIssuer => "unknown_issuer",
            TlsError::CertificatePin => "certificate_pin",
            TlsError::CertificateInvalid => "certificate_invalid",
            TlsError::CertificateMissing => "certificate_missing",
            TlsError::ProtocolVersion => "protocol_version",
            TlsError::Refused => "refused",
            TlsError::PlainHttp => "plain_http",
            TlsError::Protocol => "protocol",
            TlsError::HandshakeTooLong => "handshake_too_long",
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsError::CertificateExpired => "the certificate has expired",
            TlsError::CertificateNotYetValid => "the certificate is not valid yet",
            TlsError::CertificateHost => "the certificate is for another host",
            TlsError::UnknownIssuer => {
                "the certificate is self-signed or of an authority that is not trusted"
            }
            TlsError::CertificatePin => "the certificate is not the pinned one",
            TlsError::CertificateInvalid => "the certificate is not valid",
            TlsError::CertificateMissing => "the client has shown no certificate",
            TlsError::ProtocolVersion => "no version of TLS in common",
            TlsError::Refused => "the peer refused",
            TlsError::PlainHttp => "a plain HTTP request on a port for TLS",
            TlsError::Protocol => "not TLS, or a breach of its rules",
            TlsError::HandshakeTooLong => "the handshake is too long",
        })
    }
}

/// A [`TlsError`] with its details, on its way through an [`io::Error`](std::io::Error).
#[derive(Debug)]
pub(crate) struct TlsFailure {
    error: TlsError,
    reason: String,
}

impl TlsFailure {
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only TLS fails so"))]
    pub(crate) fn new(error: TlsError, reason: String) -> TlsFailure {
        TlsFailure { error, reason }
    }

    pub(crate) fn error(&self) -> TlsError {
        self.error
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.reason)
    }
}

impl Error for TlsFailure {}
