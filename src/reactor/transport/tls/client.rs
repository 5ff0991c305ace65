//! The TLS of a client: the authorities that it trusts, and the name that it expects.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::failure::PinMismatch;
use super::file_error::{TlsConfigError, certificates, private_key};
use super::provider::{provider, sha256};
use super::server::roots_of;
use super::validity::{Validity, validity};

/// The bytes of a SHA-256 fingerprint.
const PIN_BYTES: usize = 32;

/// The TLS of a client: the authorities that it trusts, and the name that it expects, for
/// [`ConnectOptions::tls`](crate::ConnectOptions::tls).
///
/// The server's certificate is always checked: its authority, its name and its time, or that it is
/// the pinned one. Revocation is not checked.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Returns the TLS of a configuration of rustls, of any provider.
    pub fn new(config: Arc<ClientConfig>) -> ClientTls {
        ClientTls {
            config,
            server_name: None,
        }
    }

    /// Returns a builder: for authorities of your own, a pinned certificate, or a certificate of
    /// the client.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder::default()
    }

    /// Returns the TLS that trusts the authorities of the system: those of the files that
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name, or of the usual places.
    ///
    /// The first call in a process that succeeds reads them, which takes some milliseconds; later ones
    /// return the same.
    ///
    /// # Errors
    ///
    /// When there is none, and when the processor lacks instructions that the cryptography needs.
    pub fn system() -> Result<ClientTls, TlsConfigError> {
        // A failure is not kept: the files may come later, as on a machine that starts.
        static SYSTEM: OnceLock<ClientTls> = OnceLock::new();
        if let Some(tls) = SYSTEM.get() {
            return Ok(tls.clone());
        }
        let tls = ClientTlsBuilder::default().build_anew()?;
        Ok(SYSTEM.get_or_init(|| tls).clone())
    }

    /// Sets the name that the server's certificate must be for, and by which the server chooses its
    /// certificate. By default it is the host of the address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> ClientTls {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name for a connection to this host.
    ///
    /// # Errors
    ///
    /// When it is neither a host name nor an address.
    pub(crate) fn name_for(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            let why = match name {
                "" => "TLS needs the name of the server: set it with `ClientTls::server_name`"
                    .to_owned(),
                _ => format!("{name:?} is not a name that a certificate can be for"),
            };
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })
    }
}

impl From<Arc<ClientConfig>> for ClientTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        ClientTls::new(config)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Makes a [`ClientTls`].
#[derive(Clone, Debug, Default)]
pub struct ClientTlsBuilder {
    ca: Option<PathBuf>,
    pin: Option<String>,
    pair: Option<(PathBuf, PathBuf)>,
    begins_anew: bool,
}

impl ClientTlsBuilder {
    /// Trusts the authorities of this file, in PEM, in place of those of the system.
    #[must_use]
    pub fn ca(mut self, path: impl AsRef<Path>) -> Self {
        self.ca = Some(path.as_ref().into());
        self
    }

    /// Trusts the certificate with this SHA-256 fingerprint and no other, whoever has signed it and
    /// whatever its names are; it must not have expired. The fingerprint is written in 64
    /// hexadecimal digits, and may have colons between the bytes, as
    /// `openssl x509 -fingerprint -sha256` prints it. It goes without [`ca`](Self::ca).
    #[must_use]
    pub fn pin_sha256(mut self, fingerprint: impl Into<String>) -> Self {
        self.pin = Some(fingerprint.into());
        self
    }

    /// Shows a certificate to servers that ask for one: files in PEM, as
    /// [`ServerTlsBuilder::pair`](super::server::ServerTlsBuilder::pair) takes them.
    #[must_use]
    pub fn pair(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.pair = Some((certificate.as_ref().into(), key.as_ref().into()));
        self
    }

    /// Sets whether a connection may resume the session of an earlier one to the same server, which saves most of
    /// the handshake. `true` by default.
    #[must_use]
    pub fn resumes(mut self, resumes: bool) -> Self {
        self.begins_anew = !resumes;
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A sentence that names the file or the value that is wrong.
    pub fn build(&self) -> Result<ClientTls, TlsConfigError> {
        match self {
            ClientTlsBuilder {
                ca: None,
                pin: None,
                pair: None,
                begins_anew: false,
            } => ClientTls::system(),
            _ => self.build_anew(),
        }
    }

    fn build_anew(&self) -> Result<ClientTls, TlsConfigError> {
        let provider = provider()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsConfigError::new(format!("TLS is not possible: {error}")))?;
        let builder = match (&self.pin, &self.ca) {
            (Some(_), Some(path)) => {
                return Err(TlsConfigError::new(format!(
                    "a certificate that is pinned is not checked by the authorities in {}: choose one of the two",
                    path.display()
                )));
            }
            (Some(pin), None) => {
                let pin = parse_pin(pin)?;
                let verifier = Arc::new(Pinned { pin, provider });
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
            (None, Some(path)) => builder.with_root_certificates(roots_of(path)?),
            (None, None) => builder.with_root_certificates(system_roots()?),
        };
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    TlsConfigError::new(format!(
                        "the certificate in {certificate} with the private key in {key} cannot be used: {error}"
                    ))
                })?,
        };
        if self.begins_anew {
            config.resumption = Resumption::disabled();
        }
        Ok(ClientTls::new(Arc::new(config)))
    }
}

fn system_roots() -> Result<RootCertStore, TlsConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = match found.errors.first() {
            Some(error) => format!("the system's certificate authorities cannot be read: {error}"),
            None => {
                "the system has no certificate authorities; SSL_CERT_FILE can name a file of them"
                    .into()
            }
        };
        return Err(TlsConfigError::new(why));
    }
    Ok(roots)
}

fn parse_pin(text: &str) -> Result<[u8; PIN_BYTES], TlsConfigError> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b':')
        .map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let mut pin = [0; PIN_BYTES];
    if digits.len() != 2 * PIN_BYTES {
        return Err(TlsConfigError::new(format!(
            "{text:?} is not a SHA-256 fingerprint: expected 64 hexadecimal digits"
        )));
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(pin)
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    pin: [u8; PIN_BYTES],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = sha256(&self.provider, certificate).unwrap_or_default();
        if shown != self.pin {
            return Err(PinMismatch::new(&shown).into_error());
        }
        match validity(&self.provider, certificate, now)? {
            Validity::Until(_) => Ok(ServerCertVerified::assertion()),
            Validity::Expired(_) => Err(CertificateError::Expired.into()),
            Validity::NotYet(_) => Err(CertificateError::NotValidYet.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_not_combined_with_authorities() {
        let builder = ClientTls::builder().pin_sha256("0f".repeat(32));
        builder.build().unwrap();
        let error = builder.ca("ca.pem").build().unwrap_err().to_string();
        assert!(error.contains("authorities in ca.pem"), "{error}");
    }

    #[test]
    fn a_missing_name_is_told_from_a_wrong_one() {
        let tls = ClientTls::builder().pin_sha256("0f".repeat(32)).build();
        let tls = tls.unwrap();
        for (host, expected) in [("", "set it with"), ("a b", "is not a name")] {
            let error = tls.name_for(host).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain_digits = "0f".repeat(32);
        let with_colons = vec!["0F"; 32].join(":");
        for text in [plain_digits, with_colons] {
            assert_eq!(parse_pin(&text).unwrap(), [0x0f; 32]);
        }
        for text in [
            "",
            "0f",
            &"0g".repeat(32),
            &"0f".repeat(33),
            &"é".repeat(32),
        ] {
            let error = parse_pin(text).unwrap_err().to_string();
            assert!(error.ends_with("expected 64 hexadecimal digits"), "{error}");
        }
    }
}
