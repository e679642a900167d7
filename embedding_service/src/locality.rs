//! Which addresses are this machine's own: what is sent there nobody else hears, and what listens there nobody else reaches.

use std::net::IpAddr;

/// Whether it is this machine, however it is written: `::ffff:127.0.0.1` is IPv4's loopback as IPv6 has it.
pub(crate) fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The same of the host of a URL: a name, or an address, one of IPv6 in brackets or without.
pub(crate) fn names_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    address.map_or(host.eq_ignore_ascii_case("localhost"), is_this_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_many_names() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "[::1]", "::1", "[::ffff:127.0.0.1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["", "gpu", "localhost.gpu", "10.0.0.1", "0.0.0.0", "[::]", "[::ffff:10.0.0.1]"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
