//! The files that the program reads again on HUP: the tokens, the secrets of tokens, and the certificates. Where there are none
//! it says so.
//!
//! Without a handler HUP would end the process, and no client would get a goodbye. It comes when a
//! terminal closes, and operators send it out of habit.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use waterwheel::hub::{TokenSecrets, Tokens};

use crate::mercure::MercureOptions;
use crate::secrets::{SecretOptions, secret};
use crate::tls::ReadTls;
use crate::values::{is_short_token, short_token, token};

/// The most bytes of a file. Of a wrong file, such as a log, no more than this is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The files, and what was read from them.
#[derive(Default)]
pub struct Files {
    tokens: Option<(PathBuf, Tokens)>,
    secrets: Secrets,
    /// The keys of publishers and of subscribers of Mercure.
    mercure: [Secrets; 2],
    tls: Option<ReadTls>,
}

/// The secrets of one purpose.
#[derive(Default)]
struct Secrets {
    /// The option of their files.
    option: &'static str,
    all: TokenSecrets,
    /// Those of the command line, which stay.
    given: Vec<String>,
    files: Vec<PathBuf>,
}

impl Secrets {
    /// Reads the files for the first time.
    fn new(option: &'static str, options: &SecretOptions) -> io::Result<Secrets> {
        let secrets = Secrets {
            option,
            all: TokenSecrets::default(),
            given: options.given.clone(),
            files: options.files.clone(),
        };
        secrets.read()?;
        Ok(secrets)
    }

    /// Reads all files, and returns how many secrets there are. Where one cannot be read, all stay as they were.
    fn read(&self) -> io::Result<usize> {
        let mut all = Vec::new();
        for path in &self.files {
            all.extend(read_lines(self.option, "secret", path, secret)?);
        }
        let count = all.len();
        all.extend_from_slice(&self.given);
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        self.all.replace(all).map_err(invalid)?;
        Ok(count)
    }

    /// Reads the files again, where there are some.
    fn reload(&self) {
        if self.files.is_empty() {
            return;
        }
        match self.read() {
            Ok(count) => {
                let s = if count == 1 { "" } else { "s" };
                log::info!("HUP: read {count} secret{s} of tokens ({})", self.option);
            }
            Err(error) => log::error!("HUP: {error}; the secrets stay as they were"),
        }
    }
}

impl Files {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or has no token or an invalid one.
    pub fn read(
        token_file: Option<&Path>,
        secrets: &SecretOptions,
        mercure: &MercureOptions,
    ) -> io::Result<Files> {
        let tokens = match token_file {
            None => None,
            Some(path) => Some((path.to_owned(), Tokens::new(read_tokens(path)?))),
        };
        Ok(Files {
            tokens,
            secrets: Secrets::new("--token-secret-file", secrets)?,
            mercure: [
                Secrets::new("--mercure-publisher-key-file", &mercure.publisher)?,
                Secrets::new("--mercure-subscriber-key-file", &mercure.subscriber)?,
            ],
            tls: None,
        })
    }

    /// Adds the certificates and keys.
    pub fn with_tls(mut self, tls: Option<ReadTls>) -> Files {
        self.tls = tls;
        self
    }

    /// The tokens of the file. Without a file there is no token.
    pub fn tokens(&self) -> Tokens {
        let tokens = self.tokens.as_ref();
        tokens.map_or_else(Tokens::default, |(_, tokens)| tokens.clone())
    }

    /// The secrets of the command line and of the files.
    pub fn secrets(&self) -> TokenSecrets {
        self.secrets.all.clone()
    }

    /// The keys of publishers and of subscribers of Mercure.
    pub fn mercure_keys(&self) -> [TokenSecrets; 2] {
        self.mercure.each_ref().map(|keys| keys.all.clone())
    }

    /// The secrets of all purposes.
    fn all_secrets(&self) -> impl Iterator<Item = &Secrets> {
        std::iter::once(&self.secrets).chain(&self.mercure)
    }

    /// Reads the files again. The tokens and secrets stay as they were where a file cannot be read.
    fn reload(&self) {
        let has_secrets = self.all_secrets().any(|it| !it.files.is_empty());
        if self.tokens.is_none() && !has_secrets && self.tls.is_none() {
            log::info!("HUP: there is no file to read again");
        }
        if let Some(tls) = &self.tls {
            tls.reload();
        }
        if let Some((path, tokens)) = &self.tokens {
            match read_tokens(path) {
                Ok(read) => {
                    let count = read.len();
                    tokens.replace(read);
                    let s = if count == 1 { "" } else { "s" };
                    log::info!("HUP: read {count} token{s} from {}", path.display());
                }
                Err(error) => log::error!("HUP: {error}; the tokens stay as they were"),
            }
        }
        self.all_secrets().for_each(Secrets::reload);
    }

    /// Reads the files again with every HUP from now on, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the signal cannot be handled, or the system refuses the thread.
    #[cfg(unix)]
    pub fn reload_on_hangup(self) -> io::Result<()> {
        use std::os::unix::net::UnixStream;

        let (mut receiver, sender) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, sender)?;
        let run = move || {
            let mut signals = [0; 16];
            while matches!(receiver.read(&mut signals), Ok(1..)) {
                self.reload();
            }
        };
        std::thread::Builder::new()
            .name("hangup".to_owned())
            .spawn(run)?;
        Ok(())
    }
}

/// The tokens of a file.
fn read_tokens(path: &Path) -> io::Result<Vec<String>> {
    let tokens = read_lines("--publish-token-file", "token", path, token)?;
    if tokens.iter().any(|token| is_short_token(token)) {
        log::warn!("{}", short_token("--publish-token-file"));
    }
    Ok(tokens)
}

/// The tokens or secrets of the file of an option: one a line, which `check` checks. Empty lines and those that
/// begin with `#` are left out.
pub fn read_lines(
    option: &str,
    what: &str,
    path: &Path,
    check: fn(&str, String) -> Result<String, String>,
) -> io::Result<Vec<String>> {
    let fault = |why: String| {
        let why = format!("{option} {}: {why}", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(error.to_string()))?;
    if FILE_BYTES_MAX < bytes.len() as u64 {
        return Err(fault("it has more than 1 MiB".to_owned()));
    }
    let text = str::from_utf8(&bytes).map_err(|_| fault("it is not UTF-8 text".to_owned()))?;
    // Some editors begin a file with a byte order mark, which is no part of its first token.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut read = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The text of the line stays out of the error: it is a secret.
        let place = format!("line {}", index + 1);
        read.push(check(&place, line.to_owned()).map_err(fault)?);
    }
    if read.is_empty() {
        return Err(fault(format!("there is no {what} in it")));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_tokens_of_a_file() {
        let mark = '\u{feff}';
        let name = format!("waterwheel-tokens-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_tokens(&path).map_err(|error| error.to_string())
        };
        let first = "a-token-of-24-characters";
        let text = format!("{mark}{first}\r\n\n# second\n  another-of-24-characters\n");
        let expected = [first, "another-of-24-characters"].map(str::to_owned);
        assert_eq!(read(text.as_bytes()), Ok(expected.to_vec()));
        let long = format!("{first}\n# {}", "a comment\n# ".repeat(100_000));
        let faults: [(&[u8], &str); 4] = [
            (b"# none\n", "there is no token in it"),
            (b"\xff\n", "it is not UTF-8 text"),
            (long.as_bytes(), "it has more than 1 MiB"),
            (b"two words\n", "line 1"),
        ];
        for (bytes, expected) in faults {
            let fault = read(bytes).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
        fs::write(&path, "# a comment\nthirty-two-bytes-are-long-enough\n").unwrap();
        let options = SecretOptions {
            given: vec!["a secret of the command line, which stays".into()],
            files: vec![path.clone()],
        };
        let files = Files::read(None, &options, &MercureOptions::default()).unwrap();
        assert_eq!(format!("{:?}", files.secrets()), "TokenSecrets(2)");
        fs::write(&path, "too short\n").unwrap();
        let fault = files.secrets.read().unwrap_err().to_string();
        assert!(fault.contains("line 1: expected at least 32"), "{fault}");
        assert!(!fault.contains("too short"), "{fault}");
        assert_eq!(format!("{:?}", files.secrets()), "TokenSecrets(2)");
        fs::remove_file(&path).unwrap();
        // A file without an end, of which no more than the limit is read.
        #[cfg(unix)]
        assert!(read_tokens(Path::new("/dev/zero")).is_err());
    }
}
