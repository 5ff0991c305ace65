//! Values of options: each is checked by itself, and an error says what was expected.

use lexopt::{Parser, ValueExt};
use log::LevelFilter;
use waterwheel::websocket::Deflate;

use crate::log_line::LogFormat;
use crate::sockets::{INHERITED, TLS};

/// The value behind `option`.
///
/// # Errors
///
/// A sentence that names the option, when there is no value or it is not UTF-8.
pub fn text(parser: &mut Parser, option: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("{option} needs a value"))?;
    value
        .string()
        .map_err(|_| format!("{option}: expected text in UTF-8"))
}

/// The level of `--log`.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn level(value: &str) -> Result<LevelFilter, String> {
    value.parse().map_err(|_| {
        format!("--log: expected off, error, warn, info, debug or trace, got {value:?}")
    })
}

/// The format of `--log-format`.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!(
            "--log-format: expected text or json, got {value:?}"
        )),
    }
}

/// The value of `--deflate`.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn deflate(value: &str) -> Result<Deflate, String> {
    match value {
        "none" => Ok(Deflate::None),
        "shared" => Ok(Deflate::Shared),
        "dedicated" => Ok(Deflate::Dedicated),
        _ => Err(format!(
            "--deflate: expected none, shared or dedicated, got {value:?}"
        )),
    }
}

/// The address of `--listen`.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn address(value: &str) -> Result<String, String> {
    if let Some((scheme, rest)) = value.split_once("://") {
        let rest = rest.trim_end_matches('/');
        let rest = match scheme {
            "https" | "wss" | "tls" | "ssl" => format!("{TLS}{rest}"),
            _ => rest.to_owned(),
        };
        return Err(format!(
            "--listen: leave out \"{scheme}://\", the address alone is expected: --listen {rest}"
        ));
    }
    let is_unix = value
        .strip_prefix("unix:")
        .is_some_and(|path| !path.is_empty());
    let without_tls = value.strip_prefix(TLS).unwrap_or(value);
    if is_inet(without_tls) || is_inherited(without_tls) || is_unix {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "--listen: expected HOST:PORT, tls:HOST:PORT, unix:PATH, fd:NAME or tls:fd:NAME, got {value:?}"
        ))
    }
}

/// An address of the network, or a socket of systemd.
///
/// # Errors
///
/// A sentence with the option, the value and what was expected.
pub fn inet_address(option: &str, value: &str) -> Result<String, String> {
    match is_inherited(value) || is_inet(value) && !value.contains("://") {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "{option}: expected HOST:PORT or fd:NAME, got {value:?}"
        )),
    }
}

/// A port that clients can connect to.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!(
            "--redirect-port: expected a port from 1 to 65535, got {value:?}"
        )),
    }
}

/// Whether this names a socket that the process inherits.
fn is_inherited(value: &str) -> bool {
    value
        .strip_prefix(INHERITED)
        .is_some_and(|name| !name.is_empty())
}

fn is_inet(value: &str) -> bool {
    // The colons of an IPv6 address stand in brackets.
    let is_host = |host: &str| {
        !host.is_empty()
            && host != "tls"
            && host != "fd"
            && (host.starts_with('[') || !host.contains(':'))
    };
    let parts = value.rsplit_once(':');
    parts.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

pub fn token(option: &str, value: String) -> Result<String, String> {
    if value.is_empty()
        || value
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(format!("{option}: expected a word without spaces"));
    }
    Ok(value)
}

/// The permissions of `--unix-mode`, in octal digits.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn unix_mode(value: &str) -> Result<u32, String> {
    match u32::from_str_radix(value, 8) {
        Ok(mode @ 0..=0o777) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(mode),
        _ => Err(format!(
            "--unix-mode: expected octal digits from 000 to 777, such as 660, got {value:?}"
        )),
    }
}

/// The origin of `--allow-origin`, as browsers write it: they leave out the port that the scheme
/// has by default, so an origin with it would never match.
///
/// # Errors
///
/// A sentence with the value and what was expected.
pub fn origin(value: &str) -> Result<String, String> {
    if value == "null" {
        return Err(
            "--allow-origin null: every site can send this origin, from a sandboxed frame; \
             serve the page over HTTP and name its origin"
                .to_owned(),
        );
    }
    let trimmed = value.trim_end_matches('/');
    let expected = || {
        Err(format!(
            "--allow-origin: expected an origin such as https://example.org, got {value:?}"
        ))
    };
    let (authority, default_port) = match trimmed.split_once("://") {
        Some(("http", authority)) => (authority, 80),
        Some(("https", authority)) => (authority, 443),
        _ => return expected(),
    };
    if authority.is_empty() || authority.contains(['/', '?', '#', ' ', '*', '@']) {
        return expected();
    }
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Ok(trimmed.to_owned()),
    };
    match port.parse::<u16>() {
        Ok(number) if number == default_port => Err(format!(
            "--allow-origin {value}: leave out \":{port}\", browsers do"
        )),
        Ok(number) if number != 0 && number.to_string() == port && !host.is_empty() => {
            Ok(trimmed.to_owned())
        }
        _ => Err(format!(
            "--allow-origin: expected a port from 1 to 65535, got {value:?}"
        )),
    }
}

/// A number of bytes, alone or with a unit, from `least` on, which is a multiple of a KiB.
///
/// # Errors
///
/// A sentence with the option, the value and what was expected.
pub fn bytes(option: &str, value: &str, least: usize) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((value.strip_suffix(name)?, *unit)))
        .unwrap_or((value, 1));
    let count = number.trim_end().parse::<usize>().ok();
    match count.and_then(|count| count.checked_mul(unit)) {
        Some(bytes) if least <= bytes => Ok(bytes),
        _ => {
            let least = match least % (1 << 20) {
                0 => format!("{} MiB", least >> 20),
                _ => format!("{} KiB", least >> 10),
            };
            Err(format!(
                "{option}: expected bytes, at least {least}, such as 300000000 or 512MiB, got {value:?}"
            ))
        }
    }
}

/// The fewest characters of a token that is hard to guess. A random one of letters and digits has 95 bits then.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Whether a token is so short that it may be guessed.
pub fn is_short_token(token: &str) -> bool {
    token.chars().count() < TOKEN_CHARACTERS_MIN
}

/// The warning about a short token of this option.
pub fn short_token(option: &str) -> String {
    format!(
        "{option}: a token has fewer than {TOKEN_CHARACTERS_MIN} characters and may be guessed; \
         `openssl rand -hex 16` makes a better one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        for value in [
            "https://example.org",
            "http://example.org:443",
            "https://example.org:8443",
            "http://[::1]",
            "http://[::1]:3000",
            "http://localhost:3000/",
        ] {
            let expected = Ok(value.trim_end_matches('/').to_owned());
            assert_eq!(origin(value), expected, "{value}");
        }
        for value in [
            "",
            "null",
            "example.org",
            "ftp://example.org",
            "https://",
            "https://*.example.org",
            "https://a@example.org",
            "https://example.org/path",
            "https://example.org:443",
            "http://[::1]:80",
            "https://example.org:0",
            "https://example.org:65536",
            "https://example.org:08443",
            "https://example.org:+8",
        ] {
            assert!(origin(value).is_err(), "{value}");
        }
    }
}
