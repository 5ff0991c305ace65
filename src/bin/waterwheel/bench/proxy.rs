//! The proxy that the environment names, for `wss://`: `HTTPS_PROXY` and `NO_PROXY`, as `curl` reads them.
//!
//! Pure: the caller looks the variables up. Only the program reads them; a library that did would let an environment
//! send its connections elsewhere.

use std::net::IpAddr;

use waterwheel::HttpProxy;

/// The proxy for connections with TLS to a host, which is a name or an address, in brackets or without. `variable`
/// looks up a variable of the environment. Names in lower case come first. A host of the loopback network is no
/// exception unless `NO_PROXY` names it.
///
/// # Errors
///
/// A sentence when the value is not the URL of a proxy. The value is not part of it, because it may hold a password.
pub fn proxy_for(
    host: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<HttpProxy>, String> {
    let find = |names: [&'static str; 2]| {
        let mut found = names
            .into_iter()
            .filter_map(|name| Some((name, variable(name)?)));
        found.next()
    };
    let Some((name, url)) = find(["https_proxy", "HTTPS_PROXY"]) else {
        return Ok(None);
    };
    let exceptions = find(["no_proxy", "NO_PROXY"]).map_or(String::new(), |(_, value)| value);
    if url.is_empty() || is_exception(host, &exceptions) {
        return Ok(None);
    }
    let url = match url.contains("://") {
        true => url,
        false => format!("http://{url}"),
    };
    match HttpProxy::parse(&url) {
        Ok(proxy) => Ok(Some(proxy)),
        Err(_) => Err(format!(
            "the variable {name}: expected http://[USER:PASSWORD@]HOST[:PORT]"
        )),
    }
}

/// Whether a list such as `localhost,.example.org,10.0.0.0/8` names the host. `*` alone names all.
fn is_exception(host: &str, list: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
    let entries = list.split([',', ' ', '\t']);
    let mut entries = entries.filter(|entry| !entry.is_empty());
    match host.parse::<IpAddr>() {
        _ if list.trim() == "*" => true,
        Ok(address) => entries.any(|entry| has_address(entry, address)),
        Err(_) => entries.any(|entry| has_name(entry, host)),
    }
}

/// Whether an entry is this name, or a domain that it is in.
fn has_name(entry: &str, host: &str) -> bool {
    let domain = entry.trim_matches('.');
    let Some(at) = host.len().checked_sub(domain.len()) else {
        return false;
    };
    !domain.is_empty()
        && host.is_char_boundary(at)
        && host[at..].eq_ignore_ascii_case(domain)
        && (at == 0 || host[..at].ends_with('.'))
}

/// Whether an entry is this address, or a network that it is in.
fn has_address(entry: &str, address: IpAddr) -> bool {
    let (network, prefix_bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, Some(bits)),
        None => (entry, None),
    };
    let network = network.trim_start_matches('[').trim_end_matches(']');
    let Ok(network) = network.parse::<IpAddr>() else {
        return false;
    };
    // Both as the high bits of 128.
    let (own, other, bits_max) = match (address, network) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            let high = |bits: u32| u128::from(bits) << 96;
            (high(own.to_bits()), high(other.to_bits()), 32)
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    match prefix_bits.map_or(Ok(bits_max), str::parse::<u32>) {
        Ok(0) => true,
        Ok(bits) if bits <= bits_max => (own ^ other) >> (128 - bits) == 0,
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address of the proxy in an environment, `none` or the error.
    fn proxy_in(environment: &[(&str, &str)], host: &str) -> String {
        let variable = |wanted: &str| {
            let mut found = environment.iter().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| (*value).to_owned())
        };
        match proxy_for(host, variable) {
            Ok(Some(proxy)) => proxy.address().to_owned(),
            Ok(None) => "none".to_owned(),
            Err(why) => why,
        }
    }

    #[test]
    fn variables_that_name_a_proxy() {
        let wrong = "the variable HTTPS_PROXY: expected http://[USER:PASSWORD@]HOST[:PORT]";
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            (&[], "none"),
            (&[("HTTPS_PROXY", "http://p:3128")], "p:3128"),
            (&[("https_proxy", "http://p:3128")], "p:3128"),
            (&[("HTTPS_PROXY", "http://u:w@p:3128/")], "p:3128"),
            (&[("HTTPS_PROXY", "p:3128")], "p:3128"),
            (&[("HTTPS_PROXY", "")], "none"),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "http://p")], "none"),
            (
                &[("https_proxy", "http://q"), ("HTTPS_PROXY", "http://p")],
                "q:80",
            ),
            (&[("HTTPS_PROXY", "https://u:w@p")], wrong),
            (&[("HTTPS_PROXY", "socks5://p")], wrong),
            (
                &[("HTTP_PROXY", "http://p"), ("ALL_PROXY", "http://p")],
                "none",
            ),
            (&[("HTTPS_PROXY", "http://p"), ("NO_PROXY", "h")], "none"),
            (&[("HTTPS_PROXY", "http://p"), ("no_proxy", "h")], "none"),
            (
                &[
                    ("HTTPS_PROXY", "http://p"),
                    ("no_proxy", ""),
                    ("NO_PROXY", "h"),
                ],
                "p:80",
            ),
        ];
        for (environment, expected) in cases {
            assert_eq!(proxy_in(environment, "h"), *expected, "{environment:?}");
        }
    }

    #[test]
    fn hosts_that_need_no_proxy() {
        let cases = [
            ("example.org", "", false),
            ("example.org", "*", true),
            ("example.org", "a,*", false),
            ("example.org", "example.org", true),
            ("Example.org.", "a, EXAMPLE.ORG", true),
            ("a.example.org", "example.org", true),
            ("a.example.org", ".example.org", true),
            ("example.org", ".example.org", true),
            ("notexample.org", "example.org", false),
            ("example.org", "a.example.org", false),
            ("example.org", ",.,", false),
            ("localhost", "", false),
            ("127.0.0.1", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.0/8", true),
            ("127.0.0.1", "127.0.0.2/31", false),
            ("127.0.0.1", "10.0.0.0/0", true),
            ("127.0.0.1", "127.0.0.1/33", false),
            ("127.0.0.1", "::1", false),
            ("[::1]", "::1", true),
            ("[::1]", "[::1]", true),
            ("[fe80::1]", "fe80::/10", true),
            ("[fe80::1]", "fec0::/10", false),
        ];
        for (host, list, expected) in cases {
            assert_eq!(is_exception(host, list), expected, "{host} in {list:?}");
        }
        // As with curl, the loopback network is no exception by itself.
        let environment = [("HTTPS_PROXY", "http://p:3128")];
        assert_eq!(proxy_in(&environment, "127.0.0.1"), "p:3128");
    }
}
