//! Addresses that settings name and that errors, logs and answers repeat: so nothing that is secret may stand in them.

use std::net::IpAddr;

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is none.
    Malformed,
    /// It is not of http or https, or names no host.
    NoHost,
    /// It has a user, a password, a query or a fragment.
    NotPlain,
}

/// The address as it was understood, without a slash at its end: a blank in front of it would be part of every message and
/// comparison.
pub(super) fn plain(address: &str) -> Result<String, Unfit> {
    let Ok(parsed) = reqwest::Url::parse(address) else { return Err(Unfit::Malformed) };
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) {
        return Err(Unfit::NoHost);
    }
    let has_user = !parsed.username().is_empty() || parsed.password().is_some();
    if has_user || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(Unfit::NotPlain);
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

/// Whether what is sent there crosses a network as it is.
pub(super) fn is_exposed(address: &str) -> bool {
    let Ok(parsed) = reqwest::Url::parse(address) else { return true };
    let host = parsed.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = ip.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
    parsed.scheme() == "http" && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_this_machine_as_it_is_is_exposed() {
        for address in ["http://hub.example", "http://10.0.0.1:80"] {
            assert!(is_exposed(address), "{address}");
        }
        for address in ["https://hub.example", "http://127.0.0.1:9", "http://[::1]:9", "http://LOCALHOST"] {
            assert!(!is_exposed(address), "{address}");
        }
    }
}
