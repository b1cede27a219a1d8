//! Which addresses are out of reach (IANA special-purpose registries, RFC 6890; RFC 6052, 3056, 4380).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::PrivateReach;

/// What an address is to an egress proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anywhere on the internet.
    Public,
    /// Private, loopback, link-local or shared: only where the service says so.
    Private,
    /// Cloud metadata, unspecified, multicast, reserved: never.
    Forbidden,
}

/// Metadata services, which give credentials to whoever can reach them.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254), // AWS, GCP, Azure, …
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure wire server
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS pod identity
];

/// What this address is.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// Whether a service with this reach may be dialled at `address`.
pub(super) fn allowed(address: IpAddr, reach: &PrivateReach) -> bool {
    match (classify(address), reach) {
        (Class::Public, _) | (Class::Private, PrivateReach::Anywhere) => true,
        (Class::Forbidden, _) | (Class::Private, PrivateReach::Nowhere) => false,
        (Class::Private, PrivateReach::Within(networks)) => {
            let plain = address.to_canonical();
            networks.iter().any(|network| network.contains(&plain))
        }
    }
}

fn classify_v4(v4: Ipv4Addr) -> Class {
    let [a, b, c, _] = v4.octets();
    if METADATA_V4.contains(&v4) || a == 0 || a >= 224 {
        return Class::Forbidden;
    }
    let private = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || (a == 100 && (64..128).contains(&b)) //          100.64.0.0/10 shared (RFC 6598)
        || (a == 192 && b == 0 && (c == 0 || c == 2)) //    protocol assignments, documentation
        || (a == 192 && b == 88 && c == 99) //              6to4 relay
        || (a == 198 && (b == 18 || b == 19)) //            benchmarking
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    if private { Class::Private } else { Class::Public }
}

fn classify_v6(v6: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&v6) || v6.is_unspecified() || v6.is_multicast() {
        return Class::Forbidden;
    }
    if v6.is_loopback() {
        return Class::Private;
    }
    if let Some(v4) = embedded_v4(v6) {
        return classify_v4(v4);
    }
    let [first, second, ..] = v6.segments();
    match first {
        0xfc00..=0xfdff | 0xfe80..=0xfeff => Class::Private, // unique local, link-local, site-local
        0x2001 if second < 0x200 || second == 0xdb8 => Class::Forbidden, // protocol assignments with Teredo, documentation
        0x3fff if second < 0x1000 => Class::Forbidden,                   //       documentation
        0x64 if second == 0xff9b => Class::Forbidden, //        local NAT64, whose prefix we cannot read
        0x2000..=0x3fff => Class::Public,
        _ => Class::Forbidden, //                               not global unicast
    }
}

/// The IPv4 address that packets to this IPv6 address end at: mapped, compatible, NAT64, 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = || {
        let [.., a, b, c, d] = v6.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, ..] //          mapped and compatible (RFC 4291 §2.5.5)
        | [0, 0, 0, 0, 0xffff, 0, ..] //            translated (RFC 2765)
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last()), // NAT64 (RFC 6052)
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Class {
        classify(text.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_out_of_reach_in_every_spelling() {
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.5",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.5",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2002:a00:5::1",
            "::ffff:0:10.0.0.1",
        ] {
            assert_eq!(class(private), Class::Private, "{private}");
        }
        for forbidden in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "2001:0:1::1",
            "2001:db8::1",
            "64:ff9b:1::1",
            "4000::1",
            "::ffff:0.0.0.0",
        ] {
            assert_eq!(class(forbidden), Class::Forbidden, "{forbidden}");
        }
        for public in
            ["1.1.1.1", "140.82.121.6", "2606:4700::1111", "2002:8c52:7906::1", "64:ff9b::8c52:7906"]
        {
            assert_eq!(class(public), Class::Public, "{public}");
        }
    }

    #[test]
    fn a_service_reaches_only_its_own_networks() {
        let within = PrivateReach::Within(vec!["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        for (address, reached) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("fd12::5", true),
            ("1.1.1.1", true),
            ("169.254.169.254", false),
        ] {
            assert_eq!(allowed(address.parse().unwrap(), &within), reached, "{address}");
        }
        assert!(!allowed("169.254.169.254".parse().unwrap(), &PrivateReach::Anywhere));
        assert!(allowed("127.0.0.1".parse().unwrap(), &PrivateReach::Anywhere));
    }
}
