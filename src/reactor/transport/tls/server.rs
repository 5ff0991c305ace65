//! The TLS of a server: certificates by name, and a handle by which they can be replaced.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::file_error::{TlsConfigError, certificates, private_key};
use super::provider::provider;
use super::validity::{Validity, validity};
use crate::protocol::http;

/// The TLS of a server: certificates, keys and rules, for
/// [`ListenOptions::tls`](crate::ListenOptions::tls).
///
/// A handle: clones are the same, also on other threads, and [`replace`](Self::replace) changes
/// what all of them use for new connections.
///
/// ```no_run
/// use waterwheel::tls::ServerTls;
/// use waterwheel::{ListenOptions, Reactor};
///
/// let tls = ServerTls::builder().pair("example.org.pem", "example.org.key").build()?;
/// Reactor::run((), |reactor| {
///     reactor.websocket(ListenOptions::new("0.0.0.0:443").tls(tls), |ws| {
///         ws.on_message(|ws, message| ws.send(message));
///     })
/// })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<Mutex<Current>>,
}

/// The configuration for new connections.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    certificates: Arc<[ServerCertificate]>,
    /// The keys of the certificates, in their order.
    keys: Arc<[Arc<CertifiedKey>]>,
}

/// A certificate of a server, from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    file: PathBuf,
    expires_at: SystemTime,
}

impl ServerCertificate {
    /// The file from which it was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The end of its validity: from then on clients refuse it.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// The file and the end of its validity.
impl fmt::Display for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.expires_at.duration_since(SystemTime::UNIX_EPOCH);
        let until = http_date(since_epoch.map_or(0, |it| it.as_secs()));
        write!(f, "{}, valid until {until}", self.file.display())
    }
}

impl ServerTls {
    /// Returns a builder for certificates in PEM files.
    pub fn builder() -> ServerTlsBuilder {
        ServerTlsBuilder::default()
    }

    /// Returns the TLS of a configuration of rustls, of any provider.
    ///
    /// Early data is switched off, because a recorder of the network can send it again. Source: RFC
    /// 8446, section 8.
    pub fn new(mut config: Arc<ServerConfig>) -> ServerTls {
        if config.max_early_data_size != 0 {
            Arc::make_mut(&mut config).max_early_data_size = 0;
        }
        ServerTls::of(Current {
            config,
            certificates: Arc::from([]),
            keys: Arc::from([]),
        })
    }

    fn of(current: Current) -> ServerTls {
        ServerTls {
            current: Arc::new(Mutex::new(current)),
        }
    }

    /// Uses what another handle uses now, for connections that are accepted from now on: new
    /// certificates, for instance. Connections that are open stay as they are.
    pub fn replace(&self, with: impl Into<ServerTls>) {
        let new = with.into().current();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// The certificates that were read from files. Empty for a configuration of rustls.
    pub fn certificates(&self) -> Arc<[ServerCertificate]> {
        self.current().certificates
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    fn current(&self) -> Current {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        ServerTls::new(config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// Makes a [`ServerTls`] from files: TLS 1.2 and 1.3, session tickets whose keys change every six
/// hours, no early data, no renegotiation.
#[derive(Clone, Debug)]
pub struct ServerTlsBuilder {
    pairs: Vec<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
    protocols: Vec<String>,
}

impl Default for ServerTlsBuilder {
    fn default() -> Self {
        ServerTlsBuilder {
            pairs: Vec::new(),
            client_ca: None,
            protocols: vec!["http/1.1".into(), "http/1.0".into()],
        }
    }
}

impl ServerTlsBuilder {
    /// Adds a certificate, with those between it and its authority behind it, and its key: files in
    /// PEM.
    ///
    /// Of several pairs a client gets the first that is for the name that it asks for and has a
    /// kind of key that it knows; where none is for that name, the first that it knows.
    #[must_use]
    pub fn pair(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let pair = (certificate.as_ref().into(), key.as_ref().into());
        self.pairs.push(pair);
        self
    }

    /// Requires a certificate of each client, signed by an authority of this file, in PEM. By
    /// default clients show none. Revocation is not checked.
    #[must_use]
    pub fn client_ca(mut self, path: impl AsRef<Path>) -> Self {
        self.client_ca = Some(path.as_ref().into());
        self
    }

    /// Sets the names of the application's protocols, of which a client that names some must name
    /// one (ALPN), in our order of preference. `http/1.1` and `http/1.0` by default; with none, clients may name what they like.
    ///
    /// Source: RFC 7301.
    #[must_use]
    pub fn application_protocols(mut self, names: &[&str]) -> Self {
        self.protocols = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, when one is missing, cannot be read or is not PEM, when a
    /// key does not belong to its certificate, or a certificate is not valid now; when there is no
    /// pair, and when the processor lacks instructions that the cryptography needs.
    pub fn build(&self) -> Result<ServerTls, TlsConfigError> {
        self.build_with(|_, error| Err(error))
    }

    /// Reads the files again, for a server that runs: a pair that cannot be used stays what it was in `previous`, so
    /// that one bad file does not keep the others from being renewed. Returns the errors of these, too.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), where no pair can be used, the file of [`client_ca`](Self::client_ca) cannot, or
    /// `previous` had no such pair.
    pub fn rebuild(
        &self,
        previous: &ServerTls,
    ) -> Result<(ServerTls, Vec<TlsConfigError>), TlsConfigError> {
        let previous = previous.current();
        let mut errors = Vec::new();
        let rebuilt = self.build_with(|file, error| {
            let mut certificates = previous.certificates.iter().zip(&*previous.keys);
            let found = certificates.find(|(it, _)| it.file == file);
            let (certificate, key) = match found {
                Some(pair) if errors.len() + 1 < self.pairs.len() => pair,
                _ => return Err(error),
            };
            errors.push(error);
            Ok((certificate.clone(), Arc::clone(key)))
        })?;
        Ok((rebuilt, errors))
    }

    /// Reads the files. `instead` returns a certificate for a file that cannot be used.
    fn build_with(
        &self,
        mut instead: impl FnMut(
            &Path,
            TlsConfigError,
        )
            -> Result<(ServerCertificate, Arc<CertifiedKey>), TlsConfigError>,
    ) -> Result<ServerTls, TlsConfigError> {
        let provider = provider()?;
        if self.pairs.is_empty() {
            let sentence = "TLS needs a certificate and its key".to_owned();
            return Err(TlsConfigError::new(sentence));
        }
        let mut read = Vec::new();
        let mut keys = Vec::new();
        for (certificate, key) in &self.pairs {
            let pair = read_pair(certificate, key, &provider);
            let (certificate, key) = pair.or_else(|error| instead(certificate, error))?;
            read.push(certificate);
            keys.push(key);
        }
        let keys: Arc<[_]> = keys.into();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsConfigError::new(format!("TLS is not possible: {error}")))?;
        let builder = match &self.client_ca {
            Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName {
            keys: Arc::clone(&keys),
        }));
        config.alpn_protocols = self
            .protocols
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        // Tickets keep the session at the client: no memory here, and any number of clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls_graviola::Ticketer::new().map_err(|error| {
            TlsConfigError::new(format!("no keys for session tickets: {error}"))
        })?;
        Ok(ServerTls::of(Current {
            config: Arc::new(config),
            certificates: read.into(),
            keys,
        }))
    }
}

/// Reads a certificate and its key.
fn read_pair(
    certificate_path: &Path,
    key_path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<(ServerCertificate, Arc<CertifiedKey>), TlsConfigError> {
    let file = certificate_path.to_owned();
    let chain = certificates(certificate_path)?;
    let key = private_key(key_path)?;
    let (certificate_path, key_path) = (certificate_path.display(), key_path.display());
    let refuse = |sentence: String| Err(TlsConfigError::new(sentence));
    let key = match provider.key_provider.load_private_key(key) {
        Ok(key) => key,
        Err(error) => {
            return refuse(format!(
                "the private key in {key_path} cannot be used: expected ECDSA with P-256 or P-384, Ed25519, or RSA \
                 with 2048 to 8192 bits ({error})"
            ));
        }
    };
    let expires_at = match validity(provider, &chain[0], UnixTime::now()) {
        Ok(Validity::Until(Some(end))) => end,
        Ok(Validity::Until(None)) => {
            return refuse(format!(
                "the end of the certificate in {certificate_path} cannot be read"
            ));
        }
        Ok(Validity::Expired(end)) => {
            return refuse(format!(
                "the certificate in {certificate_path} expired on {}",
                http_date(end)
            ));
        }
        Ok(Validity::NotYet(begin)) => {
            return refuse(format!(
                "the certificate in {certificate_path} is valid only from {} on",
                http_date(begin)
            ));
        }
        Err(error) => {
            return refuse(format!(
                "the certificate in {certificate_path} cannot be used: {error}"
            ));
        }
    };
    let is_own = |certificate: &CertificateDer<'static>| {
        let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key));
        let unknown = rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown);
        let outcome = pair.keys_match();
        outcome.is_ok() || outcome == Err(unknown)
    };
    match chain.iter().position(is_own) {
        Some(0) => {
            let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(expires_at);
            let certificate = ServerCertificate { file, expires_at };
            Ok((certificate, Arc::new(CertifiedKey::new(chain, key))))
        }
        Some(_) => refuse(format!(
            "the first certificate in {certificate_path} must be the server's own, to which the private key belongs"
        )),
        None => refuse(format!(
            "the private key in {key_path} does not belong to the certificate in {certificate_path}"
        )),
    }
}

fn http_date(seconds: u64) -> String {
    let mut date = [0; 29];
    http::format_date(seconds, &mut date);
    String::from_utf8_lossy(&date).into_owned()
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsConfigError> {
    let roots = roots_of(path)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| {
            let path = path.display();
            TlsConfigError::new(format!("the authorities in {path} cannot be used: {error}"))
        })
}

/// The authorities of a file.
///
/// # Errors
///
/// When the file cannot be read, is not PEM or holds none.
pub(super) fn roots_of(path: &Path) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            let path = path.display();
            TlsConfigError::new(format!("a certificate in {path} cannot be used: {error}"))
        })?;
    }
    Ok(roots)
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    keys: Arc<[Arc<CertifiedKey>]>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let is_known = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let name = hello
            .server_name()
            .and_then(|name| DnsName::try_from(name).ok())
            .map(ServerName::DnsName);
        let known = || self.keys.iter().filter(is_known);
        let named = name.and_then(|name| known().find(|key| is_for(key, &name)));
        named
            .or_else(|| known().next())
            .or(self.keys.first())
            .cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.cert.first();
    certificate
        .and_then(|certificate| ParsedCertificate::try_from(certificate).ok())
        .is_some_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}
