//! Options for TLS: certificates, keys, and the authority of clients.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lexopt::Parser;
use waterwheel::tls::{ServerTls, ServerTlsBuilder};

use crate::listen_address::TLS;
use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 3] = ["tls-certificate", "tls-key", "tls-client-ca"];

/// The time before the end of a certificate's validity from which on the log warns, in days.
const WARNING_DAYS: u64 = 14;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    client_authorities: Option<PathBuf>,
}

impl TlsOptions {
    /// Whether an option, without its `--`, is one of these.
    pub fn has(option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    /// Adds the next argument as the value of an option, without its `--`.
    ///
    /// # Errors
    ///
    /// A sentence that names the option, when there is no value.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<(), String> {
        match option {
            "tls-certificate" => self
                .certificates
                .push(text(parser, "--tls-certificate")?.into()),
            "tls-key" => self.keys.push(text(parser, "--tls-key")?.into()),
            _ => self.client_authorities = Some(text(parser, "--tls-client-ca")?.into()),
        }
        Ok(())
    }

    /// Checks these options together and with the addresses of `--listen`.
    ///
    /// # Errors
    ///
    /// A sentence with the options that do not go together.
    pub fn check(&self, listen: &[String]) -> Result<(), String> {
        let address = listen.iter().find(|address| address.starts_with(TLS));
        let (certificates, keys) = (self.certificates.len(), self.keys.len());
        match (certificates, keys, address) {
            (0, 0, Some(address)) => Err(format!(
                "--listen {address}: TLS needs --tls-certificate FILE and --tls-key FILE"
            )),
            (0, 0, None) if self.client_authorities.is_some() => {
                Err("--tls-client-ca is for --listen tls:HOST:PORT, which is missing".to_owned())
            }
            (0, 0, None) => Ok(()),
            _ if certificates != keys => Err(format!(
                "--tls-certificate was given {certificates} times and --tls-key {keys} times: expected a key for \
                 each certificate, in the same order"
            )),
            (.., None) => {
                Err("--tls-certificate is for --listen tls:HOST:PORT, which is missing".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The files. `None` where no certificate was given.
    fn files(&self) -> Option<ServerTlsBuilder> {
        if self.certificates.is_empty() {
            return None;
        }
        let mut files = ServerTls::builder();
        for (certificate, key) in self.certificates.iter().zip(&self.keys) {
            files = files.pair(certificate, key);
        }
        Some(match &self.client_authorities {
            Some(path) => files.client_ca(path),
            None => files,
        })
    }

    /// Reads the files. `None` where no certificate was given.
    ///
    /// # Errors
    ///
    /// When a file cannot be used; see [`ServerTlsBuilder::build`].
    pub fn read(&self) -> io::Result<Option<ReadTls>> {
        let Some(files) = self.files() else {
            return Ok(None);
        };
        let tls = files.build()?;
        warn_of_expiry(&tls);
        Ok(Some(ReadTls { files, tls }))
    }
}

/// Files of TLS, and what was read from them.
#[derive(Clone)]
pub struct ReadTls {
    files: ServerTlsBuilder,
    pub tls: ServerTls,
}

impl ReadTls {
    /// Reads the files again. All stays as it was where one cannot be used.
    pub fn reload(&self) {
        match self.files.build() {
            Ok(read) => {
                self.tls.replace(read);
                let count = self.tls.certificates().len();
                let s = if count == 1 { "" } else { "s" };
                log::info!("HUP: read {count} certificate{s}; new connections get what was read");
                warn_of_expiry(&self.tls);
            }
            Err(error) => log::error!("HUP: {error}; the certificates stay as they were"),
        }
    }
}

/// Logs each certificate that ends soon.
pub fn warn_of_expiry(tls: &ServerTls) {
    let now = SystemTime::now();
    for certificate in tls.certificates().iter() {
        let path = certificate.file().display();
        match certificate.expires_at().duration_since(now) {
            Ok(rest) if WARNING_DAYS * DAY.as_secs() < rest.as_secs() => {}
            Ok(rest) => {
                let hours = rest.as_secs() / 3600;
                let (days, hours) = (hours / 24, hours % 24);
                log::warn!(
                    "{path}: the certificate ends in {days} days and {hours} hours; HUP reads a new one"
                );
            }
            Err(_) => log::error!(
                "{path}: the certificate has ended: clients refuse it; HUP reads a new one"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_tls_go_together() {
        let cases: [(&str, &str, Result<(), &str>); 8] = [
            ("", "127.0.0.1:1", Ok(())),
            (
                "",
                "tls:127.0.0.1:1",
                Err("TLS needs --tls-certificate FILE"),
            ),
            ("--tls-certificate=a --tls-key=b", "tls:127.0.0.1:1", Ok(())),
            (
                "--tls-certificate=a --tls-key=b",
                "127.0.0.1:1",
                Err("which is missing"),
            ),
            (
                "--tls-certificate=a",
                "tls:127.0.0.1:1",
                Err("given 1 times and --tls-key 0 times"),
            ),
            (
                "--tls-key=a",
                "127.0.0.1:1",
                Err("given 0 times and --tls-key 1 times"),
            ),
            (
                "--tls-client-ca=a",
                "127.0.0.1:1",
                Err("--tls-client-ca is for"),
            ),
            (
                "--tls-certificate=a --tls-certificate=b --tls-key=c --tls-key=d --tls-client-ca=e",
                "tls:127.0.0.1:1",
                Ok(()),
            ),
        ];
        for (words, listen, expected) in cases {
            let mut options = TlsOptions::default();
            let mut parser = Parser::from_args(words.split_whitespace());
            while let Some(lexopt::Arg::Long(option)) = parser.next().unwrap() {
                let option = option.to_owned();
                assert!(TlsOptions::has(&option));
                options.take(&option, &mut parser).unwrap();
            }
            match (options.check(&[listen.to_owned()]), expected) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(part)) => assert!(why.contains(part), "{words}: {why}"),
                (other, _) => panic!("{words}: {other:?}"),
            }
        }
    }
}
