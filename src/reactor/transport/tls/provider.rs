//! The provider of cryptography that our own configurations use.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

use super::file_error::TlsConfigError;

/// The provider: graviola's.
///
/// # Errors
///
/// When the processor lacks instructions that it needs.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, TlsConfigError> {
    if !graviola::util::is_cpu_supported() {
        return Err(TlsConfigError::new(
            "TLS needs a processor with AES, AVX2, BMI1, ADX and PCLMULQDQ (x86-64 since about 2015), or with AES and SHA-2 (aarch64)".into(),
        ));
    }
    Ok(Arc::new(rustls_graviola::default_provider()))
}

/// The SHA-256 digest of a certificate.
pub(super) fn sha256(provider: &CryptoProvider, bytes: &[u8]) -> Option<Vec<u8>> {
    let is_sha256 = |suite: &&rustls::SupportedCipherSuite| {
        suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256
    };
    let suite = provider.cipher_suites.iter().find(is_sha256)?.tls13()?;
    let digest = suite.common.hash_provider.hash(bytes);
    Some(digest.as_ref().to_vec())
}
