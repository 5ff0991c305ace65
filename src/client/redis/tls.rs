//! TLS to Redis servers: the part of a URL that says how their certificates are checked.
//!
//! ```text
//!   rediss://redis.example.org                       an authority of the system, and the name of the host
//!   rediss://redis.example.org#ca=/etc/redis/ca.pem  an authority of this file, and the name of the host
//!   rediss://redis.example.org#sha256=HEX            the certificate with this fingerprint, whatever its name
//!   ...#certificate=FILE&key=FILE                    besides, the client shows a certificate
//! ```

use std::io;

use crate::protocol::http::form;
use crate::reactor::transport::endpoint::ConnectOptions;
#[cfg(feature = "tls")]
use crate::reactor::transport::tls::client::ClientTls;

use super::url_error::RedisUrlError;

/// How connections to a server are secured. Without TLS by default.
#[derive(Clone, Default)]
pub(crate) struct Security {
    /// As the URL says; `None` without TLS.
    asked: Option<Asked>,
    /// Made of it.
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

/// The words of a URL about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    authority: Option<String>,
    fingerprint: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// Two that ask for the same are equal.
impl PartialEq for Security {
    fn eq(&self, other: &Security) -> bool {
        self.asked == other.asked
    }
}

impl Eq for Security {}

impl Security {
    /// TLS, by what is behind the `#` of a URL.
    ///
    /// # Errors
    ///
    /// [`RedisUrlError::Fragment`] for an unknown word, and for a certificate without a key.
    /// [`RedisUrlError::Tls`] without the feature `tls`.
    pub(super) fn parse(fragment: &str) -> Result<Security, RedisUrlError> {
        if cfg!(not(feature = "tls")) {
            return Err(RedisUrlError::Tls);
        }
        let mut asked = Asked::default();
        for pair in form::try_pairs(fragment) {
            let (name, value) = pair.ok_or(RedisUrlError::Text)?;
            let place = match &*name {
                "ca" => &mut asked.authority,
                "sha256" => &mut asked.fingerprint,
                "certificate" => &mut asked.certificate,
                "key" => &mut asked.key,
                _ => return Err(RedisUrlError::Fragment),
            };
            if value.is_empty() || place.is_some() {
                return Err(RedisUrlError::Fragment);
            }
            *place = Some(value.into_owned());
        }
        let is_twofold = asked.authority.is_some() && asked.fingerprint.is_some();
        if is_twofold || asked.certificate.is_some() != asked.key.is_some() {
            return Err(RedisUrlError::Fragment);
        }
        Ok(Security {
            asked: Some(asked),
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// Reads the files. Connections can be made afterwards.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, with the file or the fingerprint that is wrong.
    #[cfg(feature = "tls")]
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        let Some(asked) = &self.asked else {
            return Ok(());
        };
        let mut builder = ClientTls::builder();
        if let Some(path) = &asked.authority {
            builder = builder.ca(path);
        }
        if let Some(fingerprint) = &asked.fingerprint {
            builder = builder.pin_sha256(fingerprint);
        }
        if let (Some(certificate), Some(key)) = (&asked.certificate, &asked.key) {
            builder = builder.pair(certificate, key);
        }
        self.tls = Some(builder.build()?);
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Where to connect to, and how.
    pub(super) fn connect_to<'a>(&self, address: &'a str) -> ConnectOptions<'a> {
        let to = ConnectOptions::new(address);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return to.tls(tls.clone());
        }
        to
    }
}
