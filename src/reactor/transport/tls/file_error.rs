//! Files of certificates and keys, in PEM, and what may be wrong with them.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a configuration of TLS cannot be made: a sentence that names the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigError {
    sentence: String,
}

impl TlsConfigError {
    pub(super) fn new(sentence: String) -> TlsConfigError {
        TlsConfigError { sentence }
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for TlsConfigError {}

impl From<TlsConfigError> for io::Error {
    fn from(error: TlsConfigError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The most bytes of a file. Of a wrong file, such as a log, no more than this is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The certificates of a file, at least one.
///
/// # Errors
///
/// When the file cannot be read, is not PEM, or holds none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let bytes = read(path, "certificate")?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(lacks(path, "certificate", &bytes)),
        Err(error) => Err(malformed(path, &error)),
    }
}

/// The first private key of a file.
///
/// # Errors
///
/// As [`certificates`]; also when it is encrypted.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let bytes = read(path, "private key")?;
    let has = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        let path = path.display();
        return Err(TlsConfigError::new(format!(
            "the private key in {path} is encrypted; `openssl pkey -in {path}` decrypts it"
        )));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => lacks(path, "private key", &bytes),
        error => malformed(path, &error),
    })
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, TlsConfigError> {
    let mut bytes = Vec::new();
    let outcome =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let path = path.display();
    match outcome {
        Ok(_) if FILE_BYTES_MAX < bytes.len() as u64 => {
            let why = format!("the {what} file {path} has more than 1 MiB");
            Err(TlsConfigError::new(why))
        }
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!("the {what} file {path} does not exist");
            Err(TlsConfigError::new(why))
        }
        Err(error) => {
            let why = format!("cannot read the {what} file {path}: {error}");
            Err(TlsConfigError::new(why))
        }
    }
}

fn lacks(path: &Path, what: &str, bytes: &[u8]) -> TlsConfigError {
    let path = path.display();
    if let [0x30, 0x80..=0xff, ..] = bytes {
        // A sequence of DER.
        let command = if what == "certificate" {
            "x509"
        } else {
            "pkey"
        };
        return TlsConfigError::new(format!(
            "{path} is not PEM but DER; `openssl {command} -inform der -in {path}` prints it in PEM"
        ));
    }
    let other = match what {
        "certificate" if PrivateKeyDer::from_pem_slice(bytes).is_ok() => ", but a private key",
        "private key" if CertificateDer::from_pem_slice(bytes).is_ok() => ", but a certificate",
        _ => "",
    };
    TlsConfigError::new(format!("{path} holds no {what} in PEM{other}"))
}

/// Without the text of the file: where line breaks are missing, rustls takes a key for the name of a section.
fn malformed(path: &Path, error: &pem::Error) -> TlsConfigError {
    let path = path.display();
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "the line that ends a section is missing",
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is malformed",
        pem::Error::Base64Decode(_) => "there is something in it that is not base64",
        _ => "expected sections from -----BEGIN to -----END, each on lines of its own",
    };
    TlsConfigError::new(format!("{path} is not PEM: {why}"))
}
