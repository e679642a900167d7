//! Addresses that settings name and that errors, logs and answers repeat: so nothing that is secret may stand in them.

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
