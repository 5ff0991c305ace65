//! Options for TLS: certificates, keys, and the authority of clients.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lexopt::Parser;
use waterwheel::tls::{ServerTls, ServerTlsBuilder};

use crate::sockets::TLS;
use crate::values::text;

/// The options without their `--`.
const OPTIONS: [&str; 3] = ["tls-certificate", "tls-key", "tls-client-ca"];

/// The time before the end of a certificate's validity from which on the log warns, in days.
const WARNING_DAYS: u64 = 14;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The time between two looks at the certificates.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(60 * 60);

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
                "--tls-certificate and --tls-key: expected a key for each certificate, in the same order, got \
                 {certificates} and {keys}"
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
        for certificate in tls.certificates().iter() {
            log::info!("{certificate}");
        }
        warn_of_expiry(&tls, None);
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
    /// Reads the files again. A pair that cannot be used stays as it was, and so do all where none can.
    pub fn reload(&self) {
        match self.files.rebuild(&self.tls) {
            Ok((read, errors)) => {
                self.tls.replace(read);
                for error in &errors {
                    log::error!("HUP: {error}; the certificate that was read before stays");
                }
                let certificates = self.tls.certificates();
                let count = certificates.len() - errors.len();
                let s = if count == 1 { "" } else { "s" };
                log::info!("HUP: read {count} certificate{s}; new connections get what was read");
                for certificate in certificates.iter() {
                    log::info!("{certificate}");
                }
                warn_of_expiry(&self.tls, None);
            }
            Err(error) => log::error!("HUP: {error}; the certificates stay as they were"),
        }
    }
}

/// Logs each certificate that ends soon: once for each day that is left, and when it ends. `last` is the time of the
/// last look; without it all are logged.
pub fn warn_of_expiry(tls: &ServerTls, last: Option<SystemTime>) {
    let now = SystemTime::now();
    for certificate in tls.certificates().iter() {
        let path = certificate.file().display();
        let end = certificate.expires_at();
        if last.is_some_and(|last| days_left(end, last) == days_left(end, now)) {
            continue;
        }
        match end.duration_since(now) {
            Ok(rest) if WARNING_DAYS * DAY_SECONDS < rest.as_secs() => {}
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

/// The days from `now` to `end`, begun ones included: zero and less after it.
fn days_left(end: SystemTime, now: SystemTime) -> i64 {
    match end.duration_since(now) {
        Ok(rest) => rest.as_secs().div_ceil(DAY_SECONDS) as i64,
        Err(past) => -((past.duration().as_secs() / DAY_SECONDS) as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_in_each_hour_finds_each_day_and_the_end() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * DAY_SECONDS);
        let hour = WARNING_INTERVAL;
        let mut changes = Vec::new();
        let mut last = end - 50 * hour;
        while last < end + 30 * hour {
            let now = last + hour;
            if days_left(end, last) != days_left(end, now) {
                changes.push(days_left(end, now));
            }
            last = now;
        }
        assert_eq!(changes, [2, 1, 0, -1]);
        assert_eq!(days_left(end, end - Duration::from_secs(1)), 1);
        assert_eq!(days_left(end, end), 0);
    }

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
            ("--tls-certificate=a", "tls:127.0.0.1:1", Err("got 1 and 0")),
            ("--tls-key=a", "127.0.0.1:1", Err("got 0 and 1")),
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
